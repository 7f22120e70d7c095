//! What a scenario body is, and what it may say: what it observed, what it reached, and that
//! a property does not hold.

use std::collections::BTreeSet;
use std::panic::Location;
use std::sync::{Arc, Mutex};

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use crate::Engine;
use crate::campaign::WorldBody;
use crate::engines::odometer::Odometer;
use crate::explorer::runtime;
use crate::lock;
use crate::model::ModelBody;
use crate::platforms::loom_number;
use crate::trace::{self, Operation};

/// One test body on one platform: run once an execution, from scratch.
///
/// ```
/// use selvedge_sim::{BodyFn, Cx, Observation, Std, platform::Platform};
///
/// fn idle<P: Platform>(_: &Cx) -> Observation {
///     Observation::none()
/// }
/// let on_real_threads: BodyFn = idle::<Std>;
/// assert_eq!(on_real_threads(&Cx::new(1, 1, 1)), Observation::none());
/// ```
pub type BodyFn = fn(&Cx) -> Observation;

/// What the engines run: a body on threads, made with [`bodies!`](crate::bodies), a model, a
/// world, or several of them.
///
/// ```
/// use selvedge_sim::{Bodies, Cx, Engine, Observation, bodies, platform::Platform};
///
/// fn idle<P: Platform>(_: &Cx) -> Observation {
///     Observation::none()
/// }
/// const IDLE: Bodies = bodies!(idle);
/// assert!(IDLE.runs_under(Engine::Native) && !IDLE.runs_under(Engine::Stateright));
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Bodies {
    /// For the engines that run threads.
    pub threads: Option<Threads>,
    /// For the engine that searches models.
    pub model: Option<ModelBody>,
    /// For the engine that simulates worlds.
    pub world: Option<WorldBody>,
}

impl Bodies {
    /// A body on threads alone.
    #[must_use]
    pub const fn of_threads(threads: Threads) -> Self {
        Bodies {
            threads: Some(threads),
            model: None,
            world: None,
        }
    }

    /// A model alone.
    #[must_use]
    pub const fn of_model(model: ModelBody) -> Self {
        Bodies {
            threads: None,
            model: Some(model),
            world: None,
        }
    }

    /// A world alone.
    #[must_use]
    pub const fn of_world(world: WorldBody) -> Self {
        Bodies {
            threads: None,
            model: None,
            world: Some(world),
        }
    }

    /// The same, and a model beside it.
    #[must_use]
    pub const fn with_model(self, model: ModelBody) -> Self {
        Bodies {
            threads: self.threads,
            model: Some(model),
            world: self.world,
        }
    }

    /// Whether there is a body for this engine.
    #[must_use]
    pub fn runs_under(&self, engine: Engine) -> bool {
        match engine {
            Engine::Stateright => self.model.is_some(),
            Engine::World => self.world.is_some(),
            _ => self.threads.is_some(),
        }
    }
}

/// A body on every platform that the engines with threads need.
///
/// ```
/// use selvedge_sim::{Bodies, Cx, Observation, bodies, platform::Platform};
///
/// fn name<P: Platform>(_: &Cx) -> Observation {
///     Observation::of(P::NAME)
/// }
/// const NAME: Bodies = bodies!(name);
/// let threads = NAME.threads.expect("it runs on threads");
/// assert_eq!((threads.explorer)(&Cx::new(1, 1, 1)).as_str(), "explorer");
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Threads {
    /// On real threads.
    pub native: BodyFn,
    /// Under loom.
    pub loom: BodyFn,
    /// Under shuttle.
    pub shuttle: BodyFn,
    /// Under the explorer.
    pub explorer: BodyFn,
}

/// Turns a body generic over its platform into [`Bodies`].
///
/// ```
/// use selvedge_core::platform::{JoinHandle, Platform};
/// use selvedge_sim::{Bodies, Cx, Observation, bodies};
///
/// fn hello<P: Platform>(_: &Cx) -> Observation {
///     P::spawn(|| Observation::of("hello")).join()
/// }
/// let hello: Bodies = bodies!(hello);
/// let threads = hello.threads.expect("it runs on threads");
/// assert_eq!((threads.native)(&Cx::new(0, 0, 1)), Observation::of("hello"));
/// ```
///
/// Further type arguments may follow the platform: `bodies!(race, MyPool)` is `race::<P,
/// MyPool<P>>` for each platform `P`.
#[macro_export]
macro_rules! bodies {
    ($($body:ident)::+) => {
        $crate::Bodies::of_threads($crate::Threads {
            native: $($body)::+::<$crate::Std>,
            loom: $($body)::+::<$crate::LoomPlatform>,
            shuttle: $($body)::+::<$crate::ShuttlePlatform>,
            explorer: $($body)::+::<$crate::ExplorerPlatform>,
        })
    };
    ($($body:ident)::+, $subject:ident) => {
        $crate::Bodies::of_threads($crate::Threads {
            native: $($body)::+::<$crate::Std, $subject<$crate::Std>>,
            loom: $($body)::+::<$crate::LoomPlatform, $subject<$crate::LoomPlatform>>,
            shuttle: $($body)::+::<$crate::ShuttlePlatform, $subject<$crate::ShuttlePlatform>>,
            explorer: $($body)::+::<$crate::ExplorerPlatform, $subject<$crate::ExplorerPlatform>>,
        })
    };
}

/// What an execution is told: its number, its chance, and how much of the work to do.
///
/// ```
/// use selvedge_sim::Cx;
/// use rand_chacha::rand_core::Rng;
///
/// let cx = Cx::new(7, 1, 200);
/// assert_eq!(cx.rounds(), 200);
/// // The same concern draws the same, another draws something else.
/// assert_eq!(cx.rng(0).next_u64(), cx.rng(0).next_u64());
/// assert_ne!(cx.rng(0).next_u64(), cx.rng(1).next_u64());
/// ```
#[derive(Clone, Debug)]
pub struct Cx {
    seed: u64,
    execution: u64,
    rounds: u32,
    choices: Choices,
}

/// Who makes the choices of a body, where that is not the explorer.
#[derive(Clone, Debug)]
pub(crate) enum Choices {
    /// They are drawn.
    Drawn(Arc<Mutex<ChaCha8Rng>>),
    /// Shuttle's scheduler draws them.
    Shuttle,
    /// Under loom, all combinations are gone through.
    Counted(Arc<Mutex<Odometer>>),
}

/// The stream that choices are drawn from; concerns have the small numbers.
const CHOICES: u64 = u64::MAX - 1;

impl Cx {
    /// The context of execution number `execution` of a run with this `seed`.
    #[must_use]
    pub fn new(seed: u64, execution: u64, rounds: u32) -> Self {
        Cx {
            seed,
            execution,
            rounds,
            choices: Choices::Drawn(Arc::new(Mutex::new(rng_of(seed, execution, CHOICES)))),
        }
    }

    /// The same, where somebody else makes the choices.
    pub(crate) fn choosing(self, choices: Choices) -> Self {
        Cx { choices, ..self }
    }

    /// How often to repeat an operation that races: 1 under a checker, which tries every
    /// order anyway, and many times on real threads, where a rare one needs many chances.
    #[must_use]
    pub fn rounds(&self) -> u32 {
        self.rounds
    }

    /// Chance for one concern of the workload. Each concern has a stream of its own, so that
    /// a new draw in one shifts no other. Under loom it is the same in every execution, as an
    /// exhaustive search needs.
    #[must_use]
    pub fn rng(&self, concern: u64) -> ChaCha8Rng {
        rng_of(self.seed, self.execution, concern)
    }

    /// One of the numbers below `n`, by a choice that belongs to the test: which operation comes
    /// next, whether a call fails. Where `n` is 0 or 1 there is none, and it is 0.
    ///
    /// The explorer and loom go through all of them, in every combination with the others and
    /// with the schedules; so keep `n` small there. Shuttle and real threads draw one. A seed
    /// holds what was chosen, but for real threads, whose threads may draw in another order.
    ///
    /// ```
    /// use selvedge_sim::explorer::Explorer;
    /// use selvedge_sim::{Cx, Observation};
    ///
    /// let search = Explorer::default().run(|| {
    ///     let cx = Cx::new(0, 0, 1);
    ///     Observation::of(format!("{}{}", cx.choose(2), cx.choose(3)))
    /// });
    /// assert_eq!(search.executions, 6);
    /// assert_eq!(search.observations.into_iter().collect::<Vec<_>>().join(" "), "00 01 02 10 11 12");
    /// ```
    #[track_caller]
    #[must_use]
    pub fn choose(&self, n: u32) -> u32 {
        if n < 2 {
            return 0;
        }
        let taken = runtime::choose(n).unwrap_or_else(|| match &self.choices {
            Choices::Drawn(rng) => below(lock(rng).next_u64(), n),
            Choices::Shuttle => below(
                shuttle::rand::RngCore::next_u64(&mut shuttle::rand::thread_rng()),
                n,
            ),
            Choices::Counted(odometer) => lock(odometer).take(loom_number(), n),
        });
        trace::chose(taken, Location::caller().into());
        taken
    }
}

fn rng_of(seed: u64, execution: u64, stream: u64) -> ChaCha8Rng {
    let mut rng = ChaCha8Rng::seed_from_u64(seed ^ execution.rotate_left(32));
    rng.set_stream(stream);
    rng
}

/// The number of 64 bits, brought below `n`.
fn below(drawn: u64, n: u32) -> u32 {
    u32::try_from(drawn % u64::from(n)).unwrap_or(0)
}

/// What one execution came to, as far as it may differ between schedules: the set of all of
/// them is what two engines are compared by.
///
/// ```
/// use selvedge_sim::Observation;
///
/// assert_eq!(Observation::of("a b").as_str(), "a b");
/// assert_eq!(Observation::none(), Observation::of(""));
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Observation(String);

impl Observation {
    /// Nothing that could differ.
    #[must_use]
    pub fn none() -> Self {
        Observation::default()
    }

    /// This outcome, in words that are equal for equal outcomes.
    #[must_use]
    pub fn of(outcome: impl Into<String>) -> Self {
        Observation(outcome.into())
    }

    /// The outcome's words; empty for [`Observation::none`].
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The panic payload by which a body says that a property does not hold.
///
/// ```
/// use selvedge_sim::{Violation, violation};
///
/// let caught = std::panic::catch_unwind(|| violation!("lost", "{} of {}", 1, 2)).unwrap_err();
/// let violation: &Violation = caught.downcast_ref().expect("it is the payload");
/// assert_eq!((&*violation.signature, &*violation.detail), ("lost", "1 of 2"));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Short and stable: equal for equal bugs, whatever the schedule.
    pub signature: String,
    /// What was found this time.
    pub detail: String,
}

/// Ends the execution: a property does not hold. Use [`violation!`](crate::violation).
///
/// ```
/// let caught = std::panic::catch_unwind(|| selvedge_sim::violate("lost", String::new()));
/// assert!(caught.is_err());
/// ```
#[track_caller]
pub fn violate(signature: &str, detail: String) -> ! {
    std::panic::panic_any(Violation {
        signature: signature.to_owned(),
        detail,
    })
}

/// Says that a property does not hold: `violation!("signature", "what was found: {x}")`.
///
/// The signature names the bug and is the same whatever the schedule; the detail is free.
///
/// ```
/// use selvedge_sim::{Observation, explorer::{Explorer, SearchEnd}, violation};
///
/// let search = Explorer::default().run(|| -> Observation { violation!("odd", "{} is odd", 3) });
/// let SearchEnd::Violated { failure, .. } = search.end else { panic!() };
/// assert_eq!((&*failure.signature, &*failure.detail), ("odd", "3 is odd"));
/// ```
#[macro_export]
macro_rules! violation {
    ($signature:expr, $($detail:tt)+) => {
        $crate::violate($signature, format!($($detail)+))
    };
}

static REACHED: Mutex<BTreeSet<&'static str>> = Mutex::new(BTreeSet::new());

/// Notes that the run came by here. A scenario names the probes it must reach; a run that
/// never did proves nothing, and fails.
///
/// ```
/// # let queue: Vec<u32> = Vec::new();
/// if queue.is_empty() {
///     selvedge_sim::reach("found-it-empty");
/// }
/// ```
#[track_caller]
pub fn reach(probe: &'static str) {
    trace::note(Operation::Note, probe, Location::caller().into());
    let mut reached = lock(&REACHED);
    reached.insert(probe);
}

/// Puts a remark of the running task into the drawing of an execution; elsewhere it is lost.
///
/// ```
/// selvedge_sim::note("took the slow path");
/// ```
#[track_caller]
pub fn note(text: &str) {
    trace::note(Operation::Note, text, Location::caller().into());
}

/// Every probe that this process has reached.
pub(crate) fn reached() -> Vec<String> {
    let reached = lock(&REACHED);
    reached.iter().map(|probe| (*probe).to_owned()).collect()
}
