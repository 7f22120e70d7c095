//! Everything that happens in a run, folded into one number: two runs with the same number were
//! the same run.

use std::fmt;

use selvedge_core::time::Instant;

use super::network::Place;
use super::random::mix;

macro_rules! happenings {
    ($($(#[doc = $doc:literal])+ $what:ident = $words:literal,)+) => {
        /// What has happened. The numbers beside it are named in its words.
        ///
        /// ```
        /// use selvedge_sim::world::What;
        ///
        /// assert!(!What::Calm.words().is_empty());
        /// ```
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum What {
            $($(#[doc = $doc])+ $what,)+
        }

        impl What {
            /// In words; `{0}`, `{1}` and `{2}` stand for the numbers.
            ///
            /// ```
            /// use selvedge_sim::world::What;
            ///
            /// assert_eq!(What::Calm.words(), "no more faults");
            /// ```
            #[must_use]
            pub const fn words(self) -> &'static str {
                match self {
                    $(What::$what => $words,)+
                }
            }
        }
    };
}

happenings! {
    /// A process begins.
    Starts = "starts: life {0}, version {1}",
    /// A process dies.
    Dies = "dies",
    /// It is stopped.
    Freezes = "freezes",
    /// It goes on.
    Thaws = "goes on",
    /// A connection is there.
    Connected = "connected: {0}",
    /// None is.
    NotConnected = "not connected",
    /// It is lost.
    ConnectionLost = "connection lost: {0}",
    /// A sign of life falls due.
    Beats = "beats",
    /// A timer ends.
    Timer = "looks at the time",
    /// It gives to a collective.
    Contributes = "contributes to view {0} seq {1}, version {2}",
    /// It has applied a step.
    Steps = "step done in view {0}: version {1}",
    /// Its collective came to nothing.
    StepFails = "step failed: view {0} seq {1}",
    /// It has evaluated its gates.
    Votes = "votes in view {0} on epoch {1}",
    /// It has copied parameters.
    Heals = "copied version {1} in view {0}",
    /// It finds nobody to copy from.
    NoHolder = "nobody to copy version {1} from in view {0}",
    /// It hears of a record.
    HearsCommit = "hears commit of epoch {0}, view {1}",
    /// It hears of a new view.
    HearsNewView = "hears new view {0}",
    /// It hears what to go on from.
    HearsResume = "hears resume of view {0} from version {1}",
    /// It hears that it is no member.
    HearsEvict = "hears that it is evicted",
    /// It hears that the run is given up.
    HearsAbort = "hears that the run is given up",
    /// A rank asks to be let in.
    GetsJoin = "gets join of rank {0}, life {1}",
    /// A rank is connected again.
    GetsHello = "gets hello of rank {0}, life {1}",
    /// A rank beats.
    GetsBeat = "gets beat of rank {0}, life {1}",
    /// A rank tells of a collective that came to nothing.
    GetsStepFailed = "gets step failed of rank {0} in view {2}",
    /// A rank arrives at the end of an epoch.
    GetsArrive = "gets arrival of rank {0} at epoch {1}, view {2}",
    /// A rank has left its view.
    GetsAck = "gets ack of rank {0} for view {2}",
    /// A rank is lost.
    GetsLost = "takes rank {0}, life {1} for lost",
    /// A hard deadline passes.
    Deadline = "hard deadline",
    /// A soft deadline passes.
    SoftDeadline = "soft deadline",
    /// It begins to write.
    Writes = "writes: epoch {0}, view {1}",
    /// What it wrote is there.
    Written = "written: epoch {0}, view {1}",
    /// A record is applied.
    Applies = "applies epoch {0}, version {1}",
    /// It is done.
    Done = "done",
    /// It has failed.
    Fails = "FAILED",
    /// A fault of the plan.
    Fault = "FAULT number {0}",
    /// A path is mended.
    Mends = "path mended",
    /// Nothing goes wrong from here on.
    Calm = "no more faults",
    /// An agent begins a turn.
    Asks = "begins turn {0}",
    /// It has enough.
    Cancels = "has enough of its turn",
    /// A turn is complete.
    Answered = "has its answer to turn {0}: {1} tokens",
    /// A turn is over before it was complete.
    Cancelled = "leaves turn {0} after {1} tokens",
    /// The server accepts a request.
    Accepts = "accepts key {1} of agent {0} as request {2}",
    /// Its engine makes a turn.
    Turns = "turn: computes {0} tokens of prompts and {1} new ones, tells {2} things",
    /// Its engine dies.
    EngineDies = "its engine dies",
    /// It has another engine.
    Rebuilt = "has another engine",
    /// It is drained.
    Drains = "drains",
    /// It was.
    Drained = "drain over; empty: {0}",
    /// It has another model.
    Changes = "changes to model {0}, {1} blocks",
    /// A process's clock jumps ahead.
    ClockSteps = "clock jumps ahead by {0} ns",
    /// A rank begins to compile its step.
    Compiles = "compiles its step: attempt {0}",
    /// It has compiled it, or not.
    Compiled = "compile over: attempt {0}",
}

/// One thing that happened.
///
/// ```
/// use selvedge_sim::world::{World, WorldConfig, first_difference};
///
/// let config = WorldConfig { epochs: 3, record: true, ..WorldConfig::default() };
/// let [one, other] = [World::new(config.clone())?.run(), World::new(config)?.run()];
/// assert!(!one.happened.is_empty());
/// assert_eq!(first_difference(&one.happened, &other.happened), None);
/// # Ok::<(), selvedge_sim::world::WorldError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Happened {
    /// When.
    pub at: Instant,
    /// To whom; `None` where it is the world itself.
    pub place: Option<Place>,
    /// What.
    pub what: What,
    /// Its numbers.
    pub numbers: [u64; 3],
}

impl fmt::Display for Happened {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut words = self.what.words().to_owned();
        for (at, number) in self.numbers.iter().enumerate() {
            words = words.replace(&format!("{{{at}}}"), &number.to_string());
        }
        f.write_str(&words)
    }
}

/// The digest so far, and, where wanted, all that went into it.
#[derive(Clone, Debug)]
pub(super) struct Chain {
    digest: u64,
    record: bool,
    happened: Vec<Happened>,
}

impl Chain {
    pub(super) fn new(record: bool) -> Self {
        Chain {
            digest: 0x6a09_e667_f3bc_c908,
            record,
            happened: Vec::new(),
        }
    }

    pub(super) fn add(&mut self, happened: Happened) {
        let place = happened
            .place
            .map_or(u64::MAX, |place| place.index() as u64);
        let head = place << 32 | happened.what as u64;
        self.digest = mix(mix(self.digest, happened.at.as_nanos()), head);
        for number in happened.numbers {
            self.digest = mix(self.digest, number);
        }
        if self.record {
            self.happened.push(happened);
        }
    }

    pub(super) fn fold(&mut self, word: u64) {
        self.digest = mix(self.digest, word);
    }

    pub(super) fn finish(self) -> (u64, Vec<Happened>) {
        (self.digest, self.happened)
    }
}

/// The first place where two runs differ: where the difference began, if they were to be the
/// same. `None` if they were.
///
/// ```
/// use selvedge_sim::world::{World, WorldConfig, first_difference};
///
/// let config = WorldConfig { epochs: 3, record: true, ..WorldConfig::default() };
/// let [one, other] = [World::new(config.clone())?.run(), World::new(config)?.run()];
/// assert!(!one.happened.is_empty());
/// assert_eq!(first_difference(&one.happened, &other.happened), None);
/// # Ok::<(), selvedge_sim::world::WorldError>(())
/// ```
#[must_use]
pub fn first_difference(one: &[Happened], other: &[Happened]) -> Option<usize> {
    let differs = one.iter().zip(other).position(|(one, other)| one != other);
    let shorter = one.len().min(other.len());
    differs.or((one.len() != other.len()).then_some(shorter))
}
