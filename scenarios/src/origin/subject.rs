//! What the rows about the batch engine ask of an engine, so that one body judges two: the
//! origin's, resurrected in [`engine`](super::engine), and the one that ships, below.

use selvedge_core::engine::{
    End, EngineConfig, Event, Fault, NewRequest, ReconfigureError, Snapshot, SubmitError,
};
use selvedge_core::platform::Platform;
use selvedge_core::time::Instant;
use selvedge_core::{AgentId, RequestId};
use selvedge_sim::{reach, violation};

use crate::bed::{Bed, Script, agent_of};

/// How an engine is set up for a scenario.
#[derive(Clone, Debug, Default)]
pub(crate) struct Setup {
    pub(crate) layers: u32,
    pub(crate) blocks: u32,
    /// What the backend does wrong.
    pub(crate) script: Script,
    /// How many attempts to make the backend fail. What ships is given its backend made; there
    /// it is the first insert that loads the model.
    pub(crate) factory_fails: u32,
    /// One request in the backend at a time.
    pub(crate) one_at_a_time: bool,
    /// Which of the origin's revisions; nothing to what ships.
    pub(crate) origin: Origin,
}

/// In what the origin's engine changed.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Origin {
    /// Of the ticket's day: a finished sequence stays in the backend until it is extracted.
    /// Later the backend hands its cache out with the last token.
    pub(crate) backend_keeps_finished: bool,
    /// Of the ticket's day: the new cache is extracted while the old one is held.
    pub(crate) extracts_before_freeing: bool,
    /// Of the ticket's day, as the ticket supposes it: every layer is reserved at submission,
    /// and where the insert fails, those of layer 0 are freed.
    pub(crate) frees_layer_0_only: bool,
    /// Of the scheduler before February: an error of the decode was logged and no more.
    pub(crate) swallows_decode_errors: bool,
}

impl Origin {
    /// As the ticket found it.
    pub(crate) const TICKET: Origin = Origin {
        backend_keeps_finished: true,
        extracts_before_freeing: true,
        frees_layer_0_only: true,
        swallows_decode_errors: true,
    };
}

/// Agents by number: each engine has its own names for them.
pub(crate) const ALICE: usize = 0;
pub(crate) const BOB: usize = 1;
pub(crate) const CAROL: usize = 2;
pub(crate) const NAMES: [&str; 3] = ["alice", "bob", "carol"];

/// A request that was accepted.
pub(crate) type Id = u64;

/// Why one was not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// The engine takes none.
    Closed,
    /// The agent has one in flight.
    AgentBusy,
    /// There are no blocks for it.
    Exhausted,
    /// The backend did not take it in.
    InsertFailed,
    /// Whatever else came up.
    Other(String),
}

/// How one that was accepted has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    Completed { generated: u32 },
    Cancelled,
    Failed,
}

/// A batch engine as far as the bodies need one.
pub(crate) trait Engine: Send + Sync + 'static {
    fn new(setup: Setup) -> Self;
    /// Hands a request in. If the agent has a cache, the request starts from it.
    fn submit(&self, who: usize, prompt: &[u32], max_tokens: u32) -> Result<Id, Refused>;
    /// One turn, with at most one step of the model: what has ended.
    fn step(&self) -> Vec<(Id, Fate)>;
    /// Turns until this request has ended; the caller wants nothing else.
    fn run_for(&self, id: Id);
    /// Closes the engine and makes turns until nothing is in flight, but no more than `turns`.
    /// Whether that was enough.
    fn drain(&self, turns: u32) -> bool;
    fn shutdown(&self);
    /// Requests that were accepted and have not ended.
    fn live(&self) -> u32;
    /// Tokens of the agent's cache that its next request can start from. Where they cannot be
    /// told because the cache is broken, why.
    fn cached(&self, who: usize) -> Result<u32, String>;
    /// Gives up every cache that is kept for a later request.
    fn forget_caches(&self);
    /// Blocks of the pool that nobody holds.
    fn available(&self) -> u32;
    /// Sequences that the backend holds, at the end. Caches may be gone after it.
    fn held_by_backend(&self) -> u32;
}

/// Turns until nothing is in flight, but no more than `turns`.
pub(crate) fn run<E: Engine>(engine: &E, turns: u32) -> Vec<(Id, Fate)> {
    let mut ended = Vec::new();
    for _ in 0..turns {
        if engine.live() == 0 {
            break;
        }
        ended.extend(engine.step());
    }
    ended
}

/// Ends the scenario by `signature` if a request is in flight.
pub(crate) fn check_none_live<E: Engine>(engine: &E, signature: &str) {
    match engine.live() {
        0 => {}
        live => violation!(signature, "{live} requests have not ended"),
    }
}

/// Ends the scenario by `signature` unless, with no cache kept any more, every block is back.
pub(crate) fn check_blocks<E: Engine>(engine: &E, total: u32, signature: &str) {
    engine.forget_caches();
    match engine.available() {
        all if all == total => {}
        some => violation!(signature, "{some} of {total} blocks are available"),
    }
}

/// The engine that ships.
pub(crate) struct Shipped<P: Platform> {
    pub(crate) bed: Bed<P>,
    agents: [AgentId; NAMES.len()],
    setup: Setup,
}

impl<P: Platform> Shipped<P> {
    pub(crate) fn snapshot(&self) -> Snapshot {
        match self.bed.engine.audit() {
            Ok(snapshot) => snapshot,
            Err(violated) => violation!(violated.property, "{violated}"),
        }
    }
}

impl<P: Platform> Engine for Shipped<P> {
    fn new(setup: Setup) -> Self {
        let mut config = EngineConfig::default();
        if setup.one_at_a_time {
            config.max_running = 1;
        }
        let mut script = setup.script.clone();
        if setup.factory_fails > 0 {
            script.fail_insert = Some(0);
        }
        let bed: Bed<P> = Bed::new(setup.layers, setup.blocks, config, script);
        Shipped {
            agents: NAMES.map(|name| agent_of(&bed.pool, name)),
            bed,
            setup,
        }
    }

    fn submit(&self, who: usize, prompt: &[u32], max_tokens: u32) -> Result<Id, Refused> {
        let request = NewRequest::new(self.agents[who], prompt.to_vec(), max_tokens);
        match self.bed.engine.submit(request, Instant::ZERO) {
            Ok(id) => Ok(id.0),
            Err(SubmitError::AgentBusy { .. }) => Err(Refused::AgentBusy),
            Err(SubmitError::Closed(_)) => Err(Refused::Closed),
            Err(other) => Err(Refused::Other(other.to_string())),
        }
    }

    fn step(&self) -> Vec<(Id, Fate)> {
        let told = self.bed.step();
        let unknown = |event: &Event| matches!(event, Event::Fault(Fault::UnknownSequence { .. }));
        if told.iter().any(unknown) {
            reach("unknown-sequence-reported");
        }
        fates_of(&told)
    }

    fn run_for(&self, id: Id) {
        // What else has ended is in the same list, and this caller drops it.
        while self.live() > 0 && !self.step().iter().any(|ended| ended.0 == id) {}
    }

    fn drain(&self, turns: u32) -> bool {
        let at = |turn: u32| Instant::from_nanos(u64::from(turn));
        if let Err(refused) = self.bed.engine.drain(at(turns), Instant::ZERO) {
            violation!("drain-refused", "{refused}");
        }
        for turn in 0..=turns {
            for event in self.bed.engine.step(at(turn)).unwrap_or_default() {
                match event {
                    Event::Drained => return true,
                    Event::DrainTimedOut { .. } => return false,
                    _ => {}
                }
            }
        }
        violation!("drain-overran", "its deadline was turn {turns}");
    }

    fn shutdown(&self) {
        self.bed.engine.shutdown(Instant::ZERO);
    }

    fn live(&self) -> u32 {
        self.snapshot().requests.total()
    }

    fn cached(&self, who: usize) -> Result<u32, String> {
        let Some(cache) = self.bed.engine.take_cache(self.agents[who]) else {
            return Ok(0);
        };
        let whole: usize = (cache.iter())
            .map(|block| block.data().len())
            .sum::<usize>();
        let total = cache.total_tokens();
        (self.bed.engine.put_cache(cache)).map_err(|(refused, _)| refused.to_string())?;
        match whole == total * self.setup.layers as usize {
            true => u32::try_from(total).map_err(|error| error.to_string()),
            false => Err(format!("its blocks hold {whole} tokens of {total} a layer")),
        }
    }

    fn forget_caches(&self) {
        for agent in self.agents {
            drop(self.bed.engine.take_cache(agent));
        }
    }

    fn available(&self) -> u32 {
        match self.bed.pool.audit() {
            Ok(snapshot) => snapshot.available,
            Err(violated) => violation!(violated.property, "{violated}"),
        }
    }

    fn held_by_backend(&self) -> u32 {
        // The only way to the backend, and to the same model again.
        let (spec, total) = (self.bed.pool.spec(), self.bed.pool.snapshot().total);
        let mut held = 0;
        let seen = self.bed.engine.reconfigure(spec, total, |script| {
            held = script.held();
            Ok(())
        });
        match seen {
            Ok(()) => held,
            // The backend has what is in flight.
            Err(ReconfigureError::InUse { live }) => live,
            Err(refused) => violation!("backend-out-of-reach", "{refused}"),
        }
    }
}

/// What has ended, of what users were told.
pub(crate) fn fates_of(events: &[Event]) -> Vec<(Id, Fate)> {
    let fate = |event: &Event| match event {
        Event::Ended(ended) => {
            let RequestId(id) = ended.request;
            let generated = ended.generated;
            Some((
                id,
                match ended.end {
                    End::Completed(_) => Fate::Completed { generated },
                    End::Cancelled(_) => Fate::Cancelled,
                    End::Failed(_) => Fate::Failed,
                },
            ))
        }
        _ => None,
    };
    events.iter().filter_map(fate).collect()
}
