//! [`FaultPlan`]: what a backend is to do wrong and when, as a value: written by hand, drawn from
//! a seed or by proptest, printed, kept in a file.

use std::fmt;
use std::time::Duration;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// A call of an engine's to its backend.
///
/// ```
/// use selvedge_sim::faulty::Call;
///
/// assert_eq!(Call::Extract.to_string(), "extract");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Call {
    /// [`Generator::insert`](selvedge_core::engine::Generator::insert).
    Insert,
    /// [`Generator::extend`](selvedge_core::engine::Generator::extend).
    Extend,
    /// [`Generator::step`](selvedge_core::engine::Generator::step).
    Step,
    /// [`Generator::extract_cache`](selvedge_core::engine::Generator::extract_cache).
    Extract,
    /// [`Generator::remove`](selvedge_core::engine::Generator::remove).
    Remove,
    /// A change of model: [`Faulty::swap`](super::Faulty::swap).
    Swap,
}

impl Call {
    /// All calls.
    pub const ALL: [Call; 6] = [
        Call::Insert,
        Call::Extend,
        Call::Step,
        Call::Extract,
        Call::Remove,
        Call::Swap,
    ];
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Call::Insert => "insert",
            Call::Extend => "extend",
            Call::Step => "step",
            Call::Extract => "extract",
            Call::Remove => "remove",
            Call::Swap => "swap",
        })
    }
}

/// What a backend does wrong.
///
/// | fault | at | what happens |
/// |---|---|---|
/// | `Error`, `OutOfMemory` | insert, step, extract, swap | it fails, and has done nothing |
/// | `Panic` | every call | it panics with a text, and has done nothing |
/// | `Slow` | every call | it takes so long, in virtual time |
/// | `ErrorTakingPrefix` | insert | it fails, and has taken a block out of the prefix |
/// | `UnknownId` | step | it returns a token of a sequence that nobody inserted |
/// | `DuplicateToken` | step | it returns a sequence's token twice |
/// | `DuplicateFinish` | step | it returns a sequence's end twice |
/// | `UnplannedId` | step | it returns a token of a sequence that is in its prompt still |
/// | `Silence` | step | it leaves out a sequence that should decode |
/// | `Short` | extract | it hands over a payload too few |
///
/// ```
/// use selvedge_sim::faulty::{Call, Fault};
///
/// assert!(Fault::Panic.fits(Call::Remove) && !Fault::Error.fits(Call::Remove));
/// assert!(Fault::Error.ends_engine(Call::Step) && !Fault::Error.ends_engine(Call::Insert));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Fault {
    /// It fails and has done nothing.
    Error,
    /// It fails for want of memory, and has done nothing.
    OutOfMemory,
    /// It panics with a text. The panic hook is not run, which prints or ends the process.
    Panic,
    /// It takes so many milliseconds of virtual time.
    Slow {
        /// How long.
        millis: u64,
    },
    /// It fails after it has taken the last block out of the prefix.
    ErrorTakingPrefix,
    /// It returns a sequence that nobody inserted.
    UnknownId,
    /// It returns a sequence twice.
    DuplicateToken,
    /// It returns a sequence twice, each time as complete.
    DuplicateFinish,
    /// It returns a sequence that it was not to decode.
    UnplannedId,
    /// It does not decode a sequence that it was to decode.
    Silence,
    /// It hands over one payload too few.
    Short,
}

impl Fault {
    /// Whether `call` can go wrong so.
    #[must_use]
    pub fn fits(self, call: Call) -> bool {
        match self {
            Fault::Panic | Fault::Slow { .. } => true,
            Fault::Error | Fault::OutOfMemory => {
                matches!(call, Call::Insert | Call::Step | Call::Extract | Call::Swap)
            }
            Fault::ErrorTakingPrefix => call == Call::Insert,
            Fault::UnknownId
            | Fault::DuplicateToken
            | Fault::DuplicateFinish
            | Fault::UnplannedId
            | Fault::Silence => call == Call::Step,
            Fault::Short => call == Call::Extract,
        }
    }

    /// Whether an engine does not survive it at `call`.
    #[must_use]
    pub fn ends_engine(self, call: Call) -> bool {
        match self {
            Fault::Panic => true,
            Fault::Error | Fault::OutOfMemory => call == Call::Step,
            _ => false,
        }
    }

    /// All faults; the slow one takes `millis`.
    #[must_use]
    pub fn all(millis: u64) -> [Fault; 11] {
        [
            Fault::Error,
            Fault::OutOfMemory,
            Fault::Panic,
            Fault::Slow { millis },
            Fault::ErrorTakingPrefix,
            Fault::UnknownId,
            Fault::DuplicateToken,
            Fault::DuplicateFinish,
            Fault::UnplannedId,
            Fault::Silence,
            Fault::Short,
        ]
    }
}

/// One fault, and when.
///
/// ```
/// use selvedge_sim::faulty::{Call, Fault, FaultPlan, PlannedFault};
///
/// let third = PlannedFault { call: Call::Step, nth: 3, fault: Fault::Silence };
/// assert_eq!(FaultPlan::try_from(vec![third])?.faults(), [third]);
/// # Ok::<(), selvedge_sim::faulty::FaultPlanError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PlannedFault {
    /// In which call.
    pub call: Call,
    /// In the how many-th such call, counted from 1; or in the first after it that can go wrong
    /// so. (Nothing is silent in a step in which nobody decodes.)
    pub nth: u64,
    /// What goes wrong.
    pub fault: Fault,
}

/// What goes wrong, and when. One fault a call: of two that are due, the second waits.
///
/// ```
/// use selvedge_sim::faulty::{Call, Fault, FaultPlan};
///
/// let plan = FaultPlan::none()
///     .with(Call::Insert, 2, Fault::OutOfMemory)?
///     .with(Call::Step, 9, Fault::Slow { millis: 400 })?;
/// assert_eq!(plan.faults().len(), 2);
///
/// let wrong = FaultPlan::none().with(Call::Remove, 1, Fault::Short).unwrap_err();
/// assert_eq!(wrong.to_string(), "Short does not fit remove: see the table of `Fault`");
///
/// assert_eq!(FaultPlan::random(7, 5, 100), FaultPlan::random(7, 5, 100));
/// # Ok::<(), selvedge_sim::faulty::FaultPlanError>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "Vec<PlannedFault>", into = "Vec<PlannedFault>")]
pub struct FaultPlan {
    faults: Vec<PlannedFault>,
}

/// Why a plan was refused.
///
/// ```
/// use selvedge_sim::faulty::{Call, Fault, FaultPlan, FaultPlanError};
///
/// let never = FaultPlan::none().with(Call::Step, 0, Fault::Panic);
/// assert_eq!(never, Err(FaultPlanError::Zeroth));
/// ```
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum FaultPlanError {
    /// That call cannot go wrong so.
    #[error("{fault:?} does not fit {call}: see the table of `Fault`")]
    DoesNotFit {
        /// The call.
        call: Call,
        /// The fault.
        fault: Fault,
    },
    /// There is no 0th call.
    #[error("calls are counted from 1; there is no 0th")]
    Zeroth,
}

impl FaultPlan {
    /// Nothing goes wrong.
    #[must_use]
    pub fn none() -> Self {
        FaultPlan::default()
    }

    /// This plan and one more fault, in the `nth` such call, counted from 1.
    ///
    /// # Errors
    /// Each of [`FaultPlanError`].
    pub fn with(mut self, call: Call, nth: u64, fault: Fault) -> Result<Self, FaultPlanError> {
        let planned = PlannedFault { call, nth, fault };
        check(planned)?;
        self.faults.push(planned);
        Ok(self)
    }

    /// `faults` faults of any kind, each somewhere in the first `calls` calls of its kind. The
    /// same seed, the same plan.
    #[must_use]
    pub fn random(seed: u64, faults: u32, calls: u64) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut below = |n: u64| rng.next_u64() % n.max(1);
        let faults = (0..faults)
            .map(|_| {
                let call = Call::ALL[below(Call::ALL.len() as u64) as usize];
                let millis = 1 + below(1_000);
                let fitting = Fault::all(millis).into_iter().filter(|f| f.fits(call));
                let fitting: Vec<Fault> = fitting.collect();
                PlannedFault {
                    call,
                    nth: 1 + below(calls),
                    fault: fitting[below(fitting.len() as u64) as usize],
                }
            })
            .collect();
        FaultPlan { faults }
    }

    /// What is planned.
    #[must_use]
    pub fn faults(&self) -> &[PlannedFault] {
        &self.faults
    }

    /// Takes the fault that is due in the `number`-th `call`, if there is one that `can` happen.
    pub(super) fn take(
        &mut self,
        call: Call,
        number: u64,
        can: impl Fn(Fault) -> bool,
    ) -> Option<Fault> {
        let due = |of: &PlannedFault| of.call == call && of.nth <= number && can(of.fault);
        let place = self.faults.iter().position(due)?;
        Some(self.faults.remove(place).fault)
    }
}

impl TryFrom<Vec<PlannedFault>> for FaultPlan {
    type Error = FaultPlanError;

    fn try_from(faults: Vec<PlannedFault>) -> Result<Self, FaultPlanError> {
        faults.iter().try_for_each(|&planned| check(planned))?;
        Ok(FaultPlan { faults })
    }
}

impl From<FaultPlan> for Vec<PlannedFault> {
    fn from(plan: FaultPlan) -> Self {
        plan.faults
    }
}

fn check(planned: PlannedFault) -> Result<(), FaultPlanError> {
    let PlannedFault { call, nth, fault } = planned;
    if nth == 0 {
        return Err(FaultPlanError::Zeroth);
    }
    match fault.fits(call) {
        true => Ok(()),
        false => Err(FaultPlanError::DoesNotFit { call, fault }),
    }
}

/// How long a fault takes.
pub(super) fn duration(fault: Fault) -> Duration {
    match fault {
        Fault::Slow { millis } => Duration::from_millis(millis),
        _ => Duration::ZERO,
    }
}
