//! What must hold after every event, one file a property. Each keeps a ghost of its own, which no
//! machine sees: what was decided, what is in the parameters, who was evicted.

pub(super) mod agreement;
pub(super) mod blame;
pub(super) mod bounded_bypass;
pub(super) mod clock;
pub(super) mod collective_use;
pub(super) mod conservation;
pub(super) mod drain_ends;
pub(super) mod ends_once;
pub(super) mod gate_symmetry;
pub(super) mod guards;
pub(super) mod liveness;
pub(super) mod monotone;
pub(super) mod no_false_alarm;
pub(super) mod no_mix;
pub(super) mod no_stall;
pub(super) mod one_life;
pub(super) mod right_tokens;

use selvedge_core::ddp::{CommitRecord, Durable, Epoch};
use selvedge_core::pool::InvariantViolation;

use self::agreement::Agreement;
use self::blame::Blame;
use self::bounded_bypass::BoundedBypass;
use self::clock::ClockNeverBack;
use self::collective_use::CollectiveUse;
use self::drain_ends::DrainEnds;
use self::ends_once::EndsOnce;
use self::gate_symmetry::GateSymmetry;
use self::liveness::Liveness;
use self::monotone::Monotone;
use self::no_mix::NoMix;
use self::one_life::OneLife;
use self::right_tokens::RightTokens;

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
    pub(super) clock: ClockNeverBack,
    pub(super) right_tokens: RightTokens,
    pub(super) ends_once: EndsOnce,
    pub(super) drain_ends: DrainEnds,
    pub(super) bounded_bypass: BoundedBypass,
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
            clock: ClockNeverBack::default(),
            right_tokens: RightTokens::default(),
            ends_once: EndsOnce::default(),
            drain_ends: DrainEnds::default(),
            bounded_bypass: BoundedBypass::default(),
        }
    }

    /// Another life of the server remembers nothing.
    pub(super) fn server_begins(&mut self) {
        self.ends_once = EndsOnce::default();
        self.drain_ends = DrainEnds::default();
    }

    /// Another engine counts its requests anew.
    pub(super) fn engine_begins(&mut self, max_overtakes: u32) {
        self.right_tokens.begins();
        self.bounded_bypass.begins(max_overtakes);
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
