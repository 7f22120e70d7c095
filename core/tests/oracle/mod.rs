//! [`Oracle`]: what the pool should do, in the plainest words there are. It keeps maps and
//! counts them anew at every question; it does not know *which* blocks a pool will hand out
//! nor what their generations are, only that a handle must never have been given out before.
//!
//! Nothing here may be borrowed from `PoolState`: two copies of one mistake agree.

pub(crate) mod line;
pub(crate) mod lockstep;
pub(crate) mod operation;
pub(crate) mod shell;

use std::collections::{BTreeMap, BTreeSet};

use selvedge_core::pool::{AgentUse, PoolSnapshot};
use selvedge_core::{BlockRef, PoolId};

use self::line::Line;
use self::operation::{Need, Shape};

/// Which registration an agent's handle is from; 0 is a handle of another pool.
pub(crate) type Registration = usize;

/// `Err` names the variant of the error that must come.
pub(crate) type Verdict = Result<(), &'static str>;

struct Held {
    agent: Registration,
    layer: u32,
    generation: u64,
}

pub(crate) struct Oracle {
    pool: PoolId,
    shape: Shape,
    epoch: u64,
    registrations: Registration,
    registered: BTreeMap<Registration, String>,
    held: BTreeMap<u32, Held>,
    promised: BTreeMap<Registration, u32>,
    /// Every use of every block so far: block and generation.
    given: BTreeSet<(u32, u64)>,
    line: Line,
}

impl Oracle {
    pub(crate) fn new(pool: PoolId, shape: &Shape) -> Self {
        Oracle {
            pool,
            shape: shape.clone(),
            epoch: 0,
            registrations: 0,
            registered: BTreeMap::new(),
            held: BTreeMap::new(),
            promised: BTreeMap::new(),
            given: BTreeSet::new(),
            line: Line::default(),
        }
    }

    pub(crate) fn register(&mut self, name: &str) -> Result<Registration, &'static str> {
        if name.is_empty() {
            return Err("EmptyName");
        }
        if let Some((&known, _)) = self.registered.iter().find(|(_, of)| *of == name) {
            return Ok(known);
        }
        self.registrations += 1;
        self.registered.insert(self.registrations, name.to_owned());
        Ok(self.registrations)
    }

    pub(crate) fn retire(&mut self, agent: Registration) -> Verdict {
        ensure(self.registered.contains_key(&agent), "Unknown")?;
        let holds = self.blocks_of(agent) + self.promised_to(agent);
        ensure(holds == 0, "StillHolds")?;
        self.registered.remove(&agent);
        self.line.send_away(Some(agent), "AgentRetired");
        self.settle();
        Ok(())
    }

    /// Whether `needs` can be had; [`Oracle::hand_out`] then says what was had.
    pub(crate) fn may_allocate(
        &self,
        agent: Registration,
        needs: &[Need],
        promised: bool,
    ) -> Verdict {
        ensure(self.registered.contains_key(&agent), "UnknownAgent")?;
        ensure(!needs.is_empty(), "ZeroBlocks")?;
        let mut layers = BTreeSet::new();
        for need in needs {
            let sliding = self.shape.sliding.get(need.layer as usize);
            let sliding = sliding.ok_or("UnknownLayer")?;
            ensure(need.n > 0, "ZeroBlocks")?;
            ensure(layers.insert(need.layer), "DuplicateLayer")?;
            let of_layer = (self.held.values())
                .filter(|held| held.agent == agent && held.layer == need.layer)
                .count();
            let within = of_layer as u64 + u64::from(need.n) <= u64::from(self.shape.cap);
            ensure(!sliding || within, "WindowExceeded")?;
        }
        let wanted: u64 = needs.iter().map(|need| u64::from(need.n)).sum();
        self.may_have(wanted, promised.then(|| self.promised_to(agent)))
    }

    fn may_have(&self, wanted: u64, promise: Option<u32>) -> Verdict {
        ensure(wanted <= u64::from(self.shape.blocks), "ExceedsCapacity")?;
        let there = promise.unwrap_or(self.available());
        ensure(wanted <= u64::from(there), "Exhausted")
    }

    /// Notes down what the pool gave for `needs`. Says what is wrong with it, if anything is.
    pub(crate) fn hand_out(
        &mut self,
        agent: Registration,
        needs: &[Need],
        promised: bool,
        blocks: &[BlockRef],
    ) -> Result<(), String> {
        let wanted: Vec<u32> = (needs.iter())
            .flat_map(|need| (0..need.n).map(|_| need.layer))
            .collect();
        let layers: Vec<u32> = blocks.iter().map(|block| block.layer().0).collect();
        if wanted != layers {
            return Err(format!("asked for layers {wanted:?}, got {layers:?}"));
        }
        for &block in blocks {
            let id = block.id().0;
            let (layer, generation) = (block.layer().0, block.generation());
            let held = Held {
                agent,
                layer,
                generation,
            };
            if block.pool() != self.pool || id >= self.shape.blocks {
                return Err(format!("{block} is none of the pool's"));
            }
            if self.held.insert(id, held).is_some() {
                return Err(format!("{block} was held already"));
            }
            if !self.given.insert((id, generation)) {
                return Err(format!("{block} was given out before"));
            }
        }
        if promised {
            let rest = self.promised_to(agent) - wanted.len() as u32;
            self.promised.insert(agent, rest);
        }
        Ok(())
    }

    /// Whether all of `blocks` are `agent`'s to free, each once.
    pub(crate) fn may_free(&self, agent: Registration, blocks: &[BlockRef]) -> Verdict {
        ensure(self.registered.contains_key(&agent), "UnknownAgent")?;
        let mut seen = BTreeSet::new();
        for block in blocks {
            ensure(block.pool() == self.pool, "ForeignPool")?;
            let held = self.held.get(&block.id().0).ok_or("NotAllocated")?;
            ensure(held.generation == block.generation(), "StaleGeneration")?;
            ensure(held.agent == agent, "WrongOwner")?;
            ensure(held.layer == block.layer().0, "NotAllocated")?;
            ensure(seen.insert(block.id()), "DuplicateInBatch")?;
        }
        Ok(())
    }

    pub(crate) fn free(&mut self, agent: Registration, blocks: &[BlockRef]) -> Verdict {
        self.may_free(agent, blocks)?;
        self.held
            .retain(|&id, _| blocks.iter().all(|block| block.id().0 != id));
        self.settle();
        Ok(())
    }

    pub(crate) fn free_agent(&mut self, agent: Registration) -> u32 {
        let freed = self.blocks_of(agent);
        self.held.retain(|_, held| held.agent != agent);
        self.settle();
        freed
    }

    /// Gives up `old` if `needs` can be had afterwards, and nothing otherwise. The line has
    /// nothing of it until the new blocks are handed out.
    pub(crate) fn exchange(
        &mut self,
        agent: Registration,
        old: &[BlockRef],
        needs: &[Need],
    ) -> Result<(), String> {
        (self.may_free(agent, old)).map_err(|error| format!("Old.{error}"))?;
        let given_up: Vec<(u32, Held)> = (old.iter())
            .filter_map(|block| self.held.remove_entry(&block.id().0))
            .collect();
        self.may_allocate(agent, needs, false).map_err(|error| {
            self.held.extend(given_up);
            format!("New.{error}")
        })
    }

    /// As [`Self::exchange`]; `promised` of what is taken were promised to the agent before. It
    /// may also take nothing.
    pub(crate) fn exchange_part(
        &mut self,
        agent: Registration,
        old: &[BlockRef],
        needs: &[Need],
        promised: u32,
    ) -> Result<(), String> {
        ensure(self.registered.contains_key(&agent), "New.UnknownAgent")?;
        let left = self.promised_to(agent);
        ensure(promised <= left, "New.ExceedsReservation")?;
        if needs.is_empty() {
            return (self.free(agent, old)).map_err(|error| format!("Old.{error}"));
        }
        self.promised.insert(agent, left - promised);
        self.exchange(agent, old, needs).inspect_err(|_| {
            self.promised.insert(agent, left);
        })
    }

    pub(crate) fn reserve(&mut self, agent: Registration, n: u32) -> Verdict {
        ensure(self.registered.contains_key(&agent), "UnknownAgent")?;
        ensure(n > 0, "ZeroBlocks")?;
        self.may_have(n.into(), None)?;
        *self.promised.entry(agent).or_default() += n;
        Ok(())
    }

    pub(crate) fn unreserve(&mut self, agent: Registration, n: u32) {
        if let Some(promised) = self.promised.get_mut(&agent) {
            *promised = promised.saturating_sub(n);
        }
        self.settle();
    }

    pub(crate) fn reconfigure(&mut self, shape: &Shape) -> Verdict {
        let promised: u32 = self.promised.values().sum();
        ensure(self.held.is_empty() && promised == 0, "InUse")?;
        ensure(shape.blocks > 0, "Config")?;
        self.shape = shape.clone();
        self.line.send_away(None, "Reconfigured");
        self.epoch += 1;
        self.settle();
        Ok(())
    }

    pub(crate) fn snapshot(&self) -> PoolSnapshot {
        let mut agents: Vec<AgentUse> = (self.registered.iter())
            .map(|(&agent, name)| AgentUse {
                name: name.clone(),
                blocks: self.blocks_of(agent),
                reserved: self.promised_to(agent),
            })
            .collect();
        agents.sort_by(|a, b| a.name.cmp(&b.name));
        PoolSnapshot {
            total: self.shape.blocks,
            used: self.shape.blocks - self.available(),
            available: self.available(),
            reserved: self.promised.values().sum::<u32>()
                + self.line.served_blocks()
                + self.line.kept,
            waiting: self.line.len(),
            epoch: self.epoch,
            bytes_per_block: self.shape.spec().bytes_per_block(),
            agents,
        }
    }

    fn available(&self) -> u32 {
        self.unclaimed() - self.line.kept
    }

    /// Blocks that nobody holds and nobody was promised.
    fn unclaimed(&self) -> u32 {
        let promised: u32 = self.promised.values().sum();
        self.shape.blocks - self.held.len() as u32 - promised - self.line.served_blocks()
    }

    fn blocks_of(&self, agent: Registration) -> u32 {
        let theirs = self.held.values().filter(|held| held.agent == agent);
        theirs.count() as u32
    }

    fn promised_to(&self, agent: Registration) -> u32 {
        self.promised.get(&agent).copied().unwrap_or(0)
    }
}

fn ensure(holds: bool, otherwise: &'static str) -> Verdict {
    if holds { Ok(()) } else { Err(otherwise) }
}
