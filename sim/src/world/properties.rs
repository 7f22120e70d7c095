//! What must hold after every event, one file a property. Each keeps a ghost of its own, which no
//! machine sees: what was decided, what is in the parameters, who was evicted.

pub(super) mod agreement;
pub(super) mod blame;
pub(super) mod collective_use;
pub(super) mod gate_symmetry;
pub(super) mod liveness;
pub(super) mod monotone;
pub(super) mod no_false_alarm;
pub(super) mod no_mix;
pub(super) mod one_life;

use selvedge_core::ddp::{CommitRecord, Durable, Epoch};
use selvedge_core::pool::InvariantViolation;

use self::agreement::Agreement;
use self::blame::Blame;
use self::collective_use::CollectiveUse;
use self::gate_symmetry::GateSymmetry;
use self::liveness::Liveness;
use self::monotone::Monotone;
use self::no_mix::NoMix;
use self::one_life::OneLife;

/// What was found: a signature that is the same for the same fault, and words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Broken {
    pub(super) signature: &'static str,
    pub(super) message: String,
}

impl Broken {
    pub(super) fn new(signature: &'static str, message: impl Into<String>) -> Self {
        Broken {
            signature,
            message: message.into(),
        }
    }
}

/// What a check comes to.
pub(super) type Kept = Result<(), Broken>;

/// All properties of one run.
#[derive(Debug)]
pub(super) struct Checks {
    pub(super) agreement: Agreement,
    pub(super) no_mix: NoMix,
    pub(super) monotone: Monotone,
    pub(super) gate_symmetry: GateSymmetry,
    pub(super) one_life: OneLife,
    pub(super) collective_use: CollectiveUse,
    pub(super) liveness: Liveness,
    pub(super) blame: Blame,
}

impl Checks {
    pub(super) fn new(ranks: u32, min_world: u32, genesis: &CommitRecord) -> Self {
        Checks {
            agreement: Agreement::new(genesis),
            no_mix: NoMix,
            monotone: Monotone::new(ranks),
            gate_symmetry: GateSymmetry::default(),
            one_life: OneLife::default(),
            collective_use: CollectiveUse::new(ranks),
            liveness: Liveness::default(),
            blame: Blame::new(ranks, min_world),
        }
    }

    /// The coordinator has written something down.
    pub(super) fn written(&mut self, durable: &Durable) -> Kept {
        self.agreement.decides(&durable.record)?;
        self.monotone.coordinator(durable)?;
        self.one_life.members(&durable.members)
    }

    /// The last epoch that was decided.
    pub(super) fn decided(&self) -> Epoch {
        self.agreement.last()
    }
}

/// What a machine says of itself.
pub(super) fn valid(validated: Result<(), InvariantViolation>) -> Kept {
    validated.map_err(|violation| Broken::new("core-invariants", format!("{violation:?}")))
}
