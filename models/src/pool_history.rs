//! Whether what threads really saw of the block pool can be explained at all: their calls are
//! recorded with the instants of invocation and return, and stateright's
//! [`LinearizabilityTester`] looks for one order of the calls that respects those instants and
//! that a pool without any threads, [`PoolSpec`], could have answered in the same way.
//!
//! [`pool`](crate::pool) explores the state without its lock; this takes the lock as it ships
//! with real threads around it. It shows the presence of errors in the histories recorded, not
//! their absence in others: every order of the calls is for the explorers.
//!
//! **Instants are drawn before the call begins and after it has ended**, from one counter. So
//! an interval may be longer than the call, never shorter: a history that cannot be explained
//! is an error of the pool, whatever the machine did.

use std::collections::BTreeMap;
use std::fmt;
use std::panic::resume_unwind;
use std::sync::Barrier;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use selvedge_core::pool::AllocateError;
use selvedge_core::{AgentId, BlockId, BlockPool, BlockRef, LayerId, ModelCacheSpec, PoolId};
use stateright::semantics::{ConsistencyTester, LinearizabilityTester, SequentialSpec};

/// What a thread does next. Which handles that means is known only when it does it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Step {
    /// Allocate so many blocks.
    Allocate(u32),
    /// Free the oldest batch it holds; without any, look.
    Free,
    /// Free once more what it freed last; if it has freed nothing, look.
    FreeAgain,
    /// Free everything of its agent.
    FreeAgent,
    /// Look how many blocks are available.
    Look,
}

/// A call of an agent: each thread has its own.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Op {
    /// Whose, counted from 0.
    pub agent: usize,
    /// What was called.
    pub call: Call,
}

/// A call of the pool.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Call {
    /// Allocate so many blocks.
    Allocate(u32),
    /// Free these.
    Free(Vec<BlockRef>),
    /// Free everything of the agent.
    FreeAgent,
    /// How many blocks are available.
    Available,
}

/// What the pool answered.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Answer {
    /// These were allocated.
    Blocks(Vec<BlockRef>),
    /// Not enough were available, but so many.
    Exhausted(u32),
    /// The pool has not so many in all.
    Never,
    /// They were freed.
    Freed,
    /// None was freed: one is not the agent's, or not any more.
    Refused,
    /// So many blocks.
    Count(u32),
}

/// The pool as its callers must see it: no lock, no free list, no order of blocks.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PoolSpec {
    blocks: u32,
    /// Who holds what.
    held: BTreeMap<BlockRef, usize>,
    /// The newest generation of every block that was ever handed out.
    newest: BTreeMap<BlockId, u64>,
}

impl PoolSpec {
    /// A pool of `blocks` blocks that nobody holds any of.
    #[must_use]
    pub fn new(blocks: u32) -> Self {
        PoolSpec {
            blocks,
            held: BTreeMap::new(),
            newest: BTreeMap::new(),
        }
    }

    fn available(&self) -> u32 {
        // Only blocks below `blocks` are ever held, each once.
        self.blocks - self.held.len() as u32
    }

    /// Hands these very blocks out; which ones is the pool's choice.
    fn take(&mut self, agent: usize, blocks: &[BlockRef]) -> bool {
        blocks.iter().all(|&block| {
            let is_free = self.held.keys().all(|held| held.id() != block.id());
            let is_new =
                (self.newest.get(&block.id())).is_none_or(|&last| block.generation() > last);
            let fits = block.id().0 < self.blocks && is_free && is_new;
            if fits {
                self.held.insert(block, agent);
                self.newest.insert(block.id(), block.generation());
            }
            fits
        })
    }

    fn free(&mut self, agent: usize, blocks: &[BlockRef]) -> Answer {
        let mut rest = self.held.clone();
        let mut batch = blocks.iter();
        if !batch.all(|block| rest.remove(block) == Some(agent)) {
            return Answer::Refused;
        }
        self.held = rest;
        Answer::Freed
    }

    /// The blocks that a pool would choose which hands out the lowest first.
    fn choose(&self, n: u32) -> Vec<BlockRef> {
        let is_free = |id: &BlockId| self.held.keys().all(|held| held.id() != *id);
        let free = (0..self.blocks).map(BlockId).filter(is_free);
        let chosen = free.take(n as usize).map(|id| {
            let generation = self.newest.get(&id).map_or(0, |last| last + 1);
            BlockRef::from_parts(PoolId(0), id, LayerId(0), generation)
        });
        chosen.collect()
    }
}

impl SequentialSpec for PoolSpec {
    type Op = Op;
    type Ret = Answer;

    fn invoke(&mut self, op: &Op) -> Answer {
        match &op.call {
            Call::Allocate(n) if *n > self.blocks => Answer::Never,
            Call::Allocate(n) if *n > self.available() => Answer::Exhausted(self.available()),
            Call::Allocate(n) => {
                let chosen = self.choose(*n);
                self.take(op.agent, &chosen);
                Answer::Blocks(chosen)
            }
            Call::Free(blocks) => self.free(op.agent, blocks),
            Call::FreeAgent => {
                let before = self.held.len();
                self.held.retain(|_, agent| *agent != op.agent);
                Answer::Count((before - self.held.len()) as u32)
            }
            Call::Available => Answer::Count(self.available()),
        }
    }

    /// Any free blocks in any new generation are a right answer, not only those that
    /// [`invoke`](Self::invoke) chooses.
    fn is_valid_step(&mut self, op: &Op, ret: &Answer) -> bool {
        match (&op.call, ret) {
            (Call::Allocate(n), Answer::Blocks(blocks)) => {
                blocks.len() == *n as usize && self.take(op.agent, blocks)
            }
            _ => self.invoke(op) == *ret,
        }
    }
}

/// Whatever claims to be a pool that threads may share.
pub trait Subject: Sync {
    /// Calls it.
    fn call(&self, op: &Op) -> Answer;
}

/// The pool that ships, with an agent for each thread.
#[derive(Debug)]
pub struct SharedPool {
    pool: BlockPool,
    agents: Vec<AgentId>,
}

impl SharedPool {
    /// A pool of `blocks` blocks and `agents` agents.
    ///
    /// # Panics
    /// If there are no blocks.
    #[must_use]
    pub fn new(blocks: u32, agents: usize) -> Self {
        let spec = ModelCacheSpec::new(1, 1, 8, 16).expect("INVARIANT: no size is zero");
        let pool = BlockPool::new(spec, blocks).expect("INVARIANT: the caller asks for blocks");
        let agent = |i| {
            let agent = pool.agent(&format!("agent {i}"));
            agent.expect("INVARIANT: it has a name, and they are few")
        };
        let agents = (0..agents).map(agent).collect();
        SharedPool { pool, agents }
    }
}

impl Subject for SharedPool {
    fn call(&self, op: &Op) -> Answer {
        let agent = self.agents[op.agent];
        match &op.call {
            Call::Allocate(n) => match self.pool.allocate(*n, LayerId(0), agent) {
                Ok(lease) => Answer::Blocks(lease.persist()),
                Err(AllocateError::Exhausted { available, .. }) => Answer::Exhausted(available),
                Err(AllocateError::ExceedsCapacity { .. }) => Answer::Never,
                // No step asks for what these are about; the spec never answers so.
                Err(_) => Answer::Refused,
            },
            Call::Free(blocks) => match self.pool.free(agent, blocks) {
                Ok(()) => Answer::Freed,
                Err(_) => Answer::Refused,
            },
            Call::FreeAgent => Answer::Count(self.pool.free_agent(agent)),
            Call::Available => Answer::Count(self.pool.snapshot().available),
        }
    }
}

/// One call as a thread saw it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Observed {
    /// The call.
    pub op: Op,
    /// Its answer.
    pub answer: Answer,
    /// An instant before it began.
    pub invoked: u64,
    /// An instant after it had ended.
    pub returned: u64,
}

/// What some threads saw of one pool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct History {
    blocks: u32,
    /// By instant of invocation.
    pub calls: Vec<Observed>,
}

impl History {
    /// Lets one thread a script call `subject`, a pool of `blocks` blocks that nobody holds any
    /// of, and writes down what they saw. `pause` says before and after which calls a thread
    /// gives way, so that calls overlap on a machine of few processors too; it is given the
    /// thread and the number of the pause.
    pub fn record(
        subject: &impl Subject,
        blocks: u32,
        scripts: &[Vec<Step>],
        pause: impl Fn(usize, usize) -> bool + Sync,
    ) -> Self {
        let clock = AtomicU64::new(0);
        let start = Barrier::new(scripts.len());
        let (clock, start, pause) = (&clock, &start, &pause);
        let mut calls: Vec<Observed> = thread::scope(|scope| {
            let threads: Vec<_> = (scripts.iter().enumerate())
                .map(|(agent, script)| {
                    scope.spawn(move || {
                        start.wait();
                        run(subject, clock, agent, script, |n| pause(agent, n))
                    })
                })
                .collect();
            let joined = threads.into_iter().map(thread::ScopedJoinHandle::join);
            joined
                .flat_map(|calls| calls.unwrap_or_else(|panic| resume_unwind(panic)))
                .collect()
        });
        calls.sort_by_key(|call| call.invoked);
        History { blocks, calls }
    }

    /// One order of the calls that explains all answers.
    ///
    /// # Errors
    /// The history itself, if there is no such order.
    pub fn explain(&self) -> Result<Vec<(Op, Answer)>, Unexplained> {
        let mut tester = LinearizabilityTester::new(PoolSpec::new(self.blocks));
        let begins = self.calls.iter().map(|call| (call.invoked, call, true));
        let ends = self.calls.iter().map(|call| (call.returned, call, false));
        let mut events: Vec<_> = begins.chain(ends).collect();
        events.sort_by_key(|&(instant, ..)| instant);
        for (_, call, begins) in events {
            let thread = call.op.agent;
            let taken = match begins {
                true => tester.on_invoke(thread, call.op.clone()),
                false => tester.on_return(thread, call.answer.clone()),
            };
            taken.expect("INVARIANT: a thread makes one call after the other");
        }
        let order = tester.serialized_history();
        order.ok_or_else(|| Unexplained(self.clone()))
    }

    /// How many pairs of calls overlapped: without any, there is nothing to explain.
    #[must_use]
    pub fn overlaps(&self) -> usize {
        let calls = self.calls.iter().enumerate();
        let after = |(i, call): (usize, &Observed)| {
            let later = self.calls[i + 1..].iter();
            later.filter(|other| other.invoked < call.returned).count()
        };
        calls.map(after).sum()
    }
}

/// A history that no order of its calls explains.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unexplained(pub History);

impl fmt::Display for Unexplained {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let blocks = self.0.blocks;
        writeln!(
            f,
            "no order of these calls of a pool of {blocks} explains the answers:"
        )?;
        for call in &self.0.calls {
            let Observed { op, answer, .. } = call;
            let (from, to) = (call.invoked, call.returned);
            writeln!(
                f,
                "  {from:>3}..{to:<3} agent {}: {:?} -> {answer:?}",
                op.agent, op.call
            )?;
        }
        Ok(())
    }
}

impl std::error::Error for Unexplained {}

fn run(
    subject: &impl Subject,
    clock: &AtomicU64,
    agent: usize,
    script: &[Step],
    pause: impl Fn(usize) -> bool,
) -> Vec<Observed> {
    // Whatever happened before one draw is ordered before whatever happens after a later one.
    let now = || clock.fetch_add(1, Ordering::SeqCst);
    let give_way = |n| {
        if pause(n) {
            thread::yield_now();
        }
    };
    let mut held: Vec<Vec<BlockRef>> = Vec::new();
    let mut freed: Option<Vec<BlockRef>> = None;
    let mut calls = Vec::new();
    for (n, step) in script.iter().enumerate() {
        let call = match step {
            Step::Allocate(blocks) => Call::Allocate(*blocks),
            Step::Free if !held.is_empty() => {
                let batch = held.remove(0);
                freed = Some(batch.clone());
                Call::Free(batch)
            }
            Step::FreeAgain => freed.clone().map_or(Call::Available, Call::Free),
            Step::FreeAgent => {
                freed = held.drain(..).next().or(freed);
                Call::FreeAgent
            }
            Step::Free | Step::Look => Call::Available,
        };
        let op = Op { agent, call };
        let invoked = now();
        give_way(2 * n);
        let answer = subject.call(&op);
        give_way(2 * n + 1);
        let returned = now();
        if let Answer::Blocks(blocks) = &answer {
            held.push(blocks.clone());
        }
        calls.push(Observed {
            op,
            answer,
            invoked,
            returned,
        });
    }
    calls
}

#[cfg(test)]
mod tests;
