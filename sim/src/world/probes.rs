//! What a run, or many, must have been through for their silence to mean anything.

use std::fmt;

macro_rules! probes {
    ($($(#[doc = $doc:literal])+ $probe:ident = $words:literal,)+) => {
        /// Something that should happen in some run.
        ///
        /// ```
        /// use selvedge_sim::world::Probe;
        ///
        /// assert!(Probe::ALL.iter().all(|probe| !probe.words().is_empty()));
        /// ```
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Probe {
            $($(#[doc = $doc])+ $probe,)+
        }

        impl Probe {
            /// All of them.
            ///
            /// ```
            /// assert!(selvedge_sim::world::Probe::ALL.len() > 20);
            /// ```
            pub const ALL: &[Probe] = &[$(Probe::$probe),+];

            /// It in words.
            ///
            /// ```
            /// use selvedge_sim::world::Probe;
            ///
            /// assert_eq!(Probe::TooLate.words(), "joiner told that the run is over");
            /// ```
            #[must_use]
            pub const fn words(self) -> &'static str {
                match self {
                    $(Probe::$probe => $words,)+
                }
            }
        }
    };
}

probes! {
    /// All that began the run are done, in their first life.
    AllDone = "all ranks done in their first life",
    /// Every rank had a different number of batches in an epoch.
    UnevenLoaders = "an exhausted rank shadows with zeros",
    /// The view changes while a collective waits for somebody.
    ViewChangeInCollective = "view change during a collective",
    /// Some have the result of a collective, others never get it.
    Nonuniform = "nonuniform result of a collective",
    /// What some had applied, others got by the flush.
    HealAfterFlush = "a laggard heals from a holder after a flush",
    /// A later life is admitted at a boundary.
    RejoinAtBoundary = "rejoin at a boundary",
    /// A later life finishes the run.
    RejoinedDone = "a rejoined rank is done",
    /// A rank begins again from its checkpoint.
    FromCheckpoint = "restart from a checkpoint",
    /// A holder is gone before its parameters were copied.
    HolderGone = "a holder is gone before it was copied from",
    /// The coordinator dies in a flush, and another life of it goes on.
    RestartInFlush = "coordinator restart during a flush",
    /// A write is lost with its coordinator.
    WriteLost = "coordinator dies in a write, which is lost",
    /// A write is kept, though its coordinator died before it could tell anybody.
    WriteKept = "coordinator dies in a write, which is kept",
    /// A live rank is evicted.
    FalseSuspicion = "false suspicion",
    /// A rank that stopped beating is evicted.
    SilentEvicted = "a silent rank is suspected",
    /// A rank is connected again in the same life.
    Reconnected = "reconnection in the same life",
    /// A message of a former connection comes after the new one is there.
    LateMessage = "message of a former connection after the new one",
    /// A message for or of a life that is over arrives.
    FormerLife = "message of or for a former life",
    /// The run is given up.
    QuorumLost = "quorum lost, run given up",
    /// Nobody has the parameters any more.
    StateLost = "parameters lost, run given up",
    /// A rank fails for want of a coordinator.
    CoordinatorLost = "coordinator lost past the deadline",
    /// A rank's wait passes the soft deadline.
    SoftDeadline = "a wait passes its soft deadline",
    /// The coordinator leaves behind whom it has waited for too long.
    CoordinatorDeadline = "the coordinator's hard deadline",
    /// A rank tells that a collective came to nothing.
    StepFailed = "a collective that came to nothing is told of",
    /// The data path of a collective is cut, and mended in time.
    Unstuck = "a result that was stuck comes after a cut is mended",
    /// The view changes while ranks evaluate their gates.
    ViewChangeAtGate = "view change while ranks vote",
    /// Who would join is told that it is too late.
    TooLate = "joiner told that the run is over",
    /// A message between an agent and the server is lost.
    LetterLost = "a letter is lost",
    /// One comes twice.
    LetterTwice = "a letter comes twice",
    /// An agent asks again for what it has asked for.
    AskedAgain = "an agent asks again",
    /// The server knows what it is asked for.
    KnownKey = "a known key is recognised",
    /// What comes was given up by its agent long before.
    StaleRequest = "a request that was given up arrives",
    /// An agent asks for something else while a former request of it runs.
    Superseded = "a later request ends a former one",
    /// An answer is to what nobody asks any more.
    AnswerTooLate = "an answer comes too late",
    /// Another life of the server answers what was asked of a former one.
    AnotherServer = "a turn goes on with another life of the server",
    /// Tokens overtake others.
    TokensOutOfOrder = "tokens come before those before them",
    /// The end overtakes tokens.
    EndBeforeTokens = "the end comes before the last tokens",
    /// The server takes no request.
    Refused = "a request is refused, and asked again",
    /// As many wait as may.
    QueueFull = "refused: the queue is full",
    /// It is draining.
    AskedInDrain = "refused: draining",
    /// A request ended without being complete, and is made again.
    TriedAgain = "a turn is tried again as another request",
    /// A request is cancelled by its agent.
    Cancelled = "a request is cancelled",
    /// A client does not read, or is gone.
    ClientCut = "a client's stream is cut",
    /// A cached prefix is used.
    CacheReused = "a cached prefix is reused",
    /// A cache gives way.
    CacheEvicted = "an idle cache is evicted",
    /// A request gives up its blocks.
    Preempted = "a request is preempted",
    /// The backend does wrong.
    BackendFault = "the backend does wrong",
    /// The engine dies of it.
    EngineDied = "the engine dies",
    /// The server's process dies.
    ServerCrashed = "the server dies",
    /// It is stopped.
    ServerFrozen = "the server is stopped",
    /// A drain comes to its end.
    Drained = "drained by the deadline",
    /// It does not.
    DrainTimedOut = "a drain's deadline comes first",
    /// The model is another.
    Reconfigured = "reconfigured",
    /// It is not.
    ReconfigureRefused = "the backend refuses another model",
    /// A clock jumps.
    ClockStepped = "a clock jumps ahead",
    /// A worker leaves, with its entry.
    WorkerLeft = "a worker with an alpha leaves",
    /// A step is compiled, and used.
    Compiled = "a step is compiled",
    /// It runs eagerly.
    Eager = "a step runs eagerly",
    /// A compile fails.
    CompileFailed = "a compile fails",
    /// It fails as it is run.
    FailedAtFirstRun = "what was compiled fails at its first run",
    /// It does not come back in time.
    Overdue = "a compile is overdue",
    /// It comes back when it was given up.
    CompiledTooLate = "the end of a compile that was given up changes nothing",
    /// It fails in use.
    Withdrawn = "what was compiled is withdrawn",
    /// A life ends by itself, and closes its trace.
    ProfileClosed = "a trace is closed",
    /// A process dies in a write to its trace.
    ProfileTorn = "a trace is torn, and repaired",
    /// Events find no room.
    EventsDropped = "events are dropped and counted",
    /// A write finds no room on the disk.
    DiskFull = "a trace's disk is full",
    /// Rare, and done on purpose.
    AskTwice = "rare: an agent asks twice at once",
    /// Rare, and done on purpose.
    CancelAtOnce = "rare: a turn is cancelled as it begins",
    /// Rare, and done on purpose.
    SplitTokens = "rare: each token goes by itself",
    /// Rare, and done on purpose.
    SpuriousTurn = "rare: the engine is stepped with nothing to do",
    /// Rare, and done on purpose.
    ResumeDrain = "rare: a drain is taken back as it begins",
    /// Rare, and done on purpose.
    CacheOutAndIn = "rare: a cache is taken out and put back",
    /// Rare, and done on purpose.
    RecordTwice = "rare: guards are told of a record twice",
    /// Rare, and done on purpose.
    WorkerClears = "rare: a worker drops its alpha",
    /// Rare, and done on purpose.
    EarlyFlush = "rare: a trace is written to within a step",
    /// Rare, and done on purpose.
    StepForgotten = "rare: a compiled step is forgotten",
}

/// How often each was reached.
///
/// ```
/// use selvedge_sim::world::Probes;
///
/// let mut sum = Probes::default();
/// sum.add(&Probes::default());
/// assert!(sum.missed().len() > 20, "nothing was reached");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probes([u64; Probe::ALL.len()]);

impl Default for Probes {
    fn default() -> Self {
        Probes([0; Probe::ALL.len()])
    }
}

impl Probes {
    pub(super) fn reach(&mut self, probe: Probe) {
        self.0[probe as usize] += 1;
    }

    /// How often it was reached.
    #[must_use]
    pub const fn count(&self, probe: Probe) -> u64 {
        self.0[probe as usize]
    }

    /// Those of another run as well.
    pub fn add(&mut self, other: &Probes) {
        for (sum, more) in self.0.iter_mut().zip(other.0) {
            *sum += more;
        }
    }

    /// What the training job alone never reached, of what can be reached by it.
    ///
    /// ```
    /// use selvedge_sim::world::Probes;
    ///
    /// let nothing = Probes::default();
    /// assert!(nothing.missed_in_training().len() < nothing.missed().len());
    /// ```
    #[must_use]
    pub fn missed_in_training(&self) -> Vec<Probe> {
        let mut missed = self.missed();
        missed.retain(|&probe| probe <= Probe::TooLate);
        missed
    }

    /// What was never reached: a campaign of runs in which everybody takes part, and that misses
    /// any, has not tested what it says.
    ///
    /// ```
    /// use selvedge_sim::world::{Probe, Probes};
    ///
    /// assert_eq!(Probes::default().missed(), Probe::ALL);
    /// ```
    #[must_use]
    pub fn missed(&self) -> Vec<Probe> {
        let never = |probe: &Probe| self.count(*probe) == 0;
        Probe::ALL.iter().copied().filter(never).collect()
    }
}

impl fmt::Display for Probes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for &probe in Probe::ALL {
            let mark = if self.count(probe) == 0 { "MISSED" } else { "" };
            writeln!(f, "{:>9} {} {mark}", self.count(probe), probe.words())?;
        }
        Ok(())
    }
}
