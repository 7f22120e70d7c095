//! [`Lockstep`]: runs one [`Operation`] on a `PoolState` and on the [`Oracle`] and compares
//! everything that can be seen of either.

use std::collections::BTreeSet;
use std::fmt::Debug;

use selvedge_core::pool::TicketId;
use selvedge_core::pool::invariants::failed_is_unchanged;
use selvedge_core::{AgentId, BlockId, BlockRef, LayerId, ModelCacheSpec, PoolId, PoolState};

use super::operation::{Need, Operation, Pick, Sequence};
use super::{Oracle, Registration};

const POOL: PoolId = PoolId(1);
const OTHER_POOL: PoolId = PoolId(2);

pub(crate) struct Lockstep {
    real: PoolState,
    oracle: Oracle,
    /// Every handle of an agent so far; the first is another pool's.
    agents: Vec<(AgentId, Registration)>,
    /// Every handle of a block so far.
    given: Vec<BlockRef>,
    /// Every ticket so far.
    tickets: Vec<TicketId>,
    /// Which outcomes were seen, as `call: outcome`.
    pub(crate) reached: BTreeSet<String>,
}

impl Lockstep {
    /// Runs a whole sequence and returns which outcomes it reached.
    ///
    /// # Errors
    /// The first difference, and the operation that showed it.
    pub(crate) fn run(sequence: &Sequence) -> Result<BTreeSet<String>, String> {
        let mut lockstep = Lockstep::new(sequence)?;
        for (operation, number) in sequence.operations.iter().zip(1..) {
            (lockstep.step(operation))
                .map_err(|what| format!("operation {number}, `{operation}`: {what}"))?;
        }
        Ok(lockstep.reached)
    }

    fn new(sequence: &Sequence) -> Result<Self, String> {
        let shape = &sequence.shape;
        let real = PoolState::new(POOL, shape.spec(), shape.blocks).map_err(|e| e.to_string())?;
        Ok(Lockstep {
            real,
            oracle: Oracle::new(POOL, shape),
            agents: vec![(stranger()?, 0)],
            given: Vec::new(),
            tickets: Vec::new(),
            reached: BTreeSet::new(),
        })
    }

    fn step(&mut self, operation: &Operation) -> Result<(), String> {
        let before = self.real.clone();
        let (call, outcome) = self.apply(operation)?;
        // A claim that is refused spends the ticket.
        let spent = call == "claim" && !matches!(&*outcome, "Waiting" | "NoTicket");
        if outcome != "Ok" && !spent {
            failed_is_unchanged::check(&before, &self.real).map_err(|e| e.to_string())?;
        }
        self.reached.insert(format!("{call}: {outcome}"));
        let mut called: Vec<u64> = (self.real.take_called().iter()).map(|t| t.0 - 1).collect();
        called.sort_unstable();
        let wanted: Vec<u64> = self.oracle.called().iter().map(|&t| t as u64).collect();
        if called != wanted {
            return Err(format!("called tickets {called:?}, should call {wanted:?}"));
        }
        self.real.validate().map_err(|e| e.to_string())?;
        self.compare()
    }

    /// Runs the operation on both, and returns the call's name and its outcome.
    fn apply(&mut self, operation: &Operation) -> Result<(&'static str, String), String> {
        Ok(match operation {
            Operation::Register { name } => ("register", self.register(name)?),
            Operation::Retire { agent } => {
                let (id, who) = self.agent(*agent);
                let (real, wanted) = (self.real.retire(id), self.oracle.retire(who));
                ("retire", same(&real, wanted)?)
            }
            Operation::Allocate { agent, need } => {
                let (id, who) = self.agent(*agent);
                let wanted = self.oracle.may_allocate(who, &[*need], false);
                let real = self.real.allocate(need.n, LayerId(need.layer), id);
                let outcome = same(&real, wanted)?;
                self.note(who, &[*need], false, real.unwrap_or_default())?;
                ("allocate", outcome)
            }
            Operation::AllocateLayers { agent, needs } => {
                let (id, who) = self.agent(*agent);
                let wanted = self.oracle.may_allocate(who, needs, false);
                let real = self.real.allocate_layers(&pairs(needs), id);
                let outcome = same(&real, wanted)?;
                self.note(who, needs, false, real.unwrap_or_default())?;
                ("allocate_layers", outcome)
            }
            Operation::AllocateReserved { agent, needs } => {
                let (id, who) = self.agent(*agent);
                let wanted = self.oracle.may_allocate(who, needs, true);
                let real = self.real.allocate_reserved(&pairs(needs), id);
                let outcome = same(&real, wanted)?;
                self.note(who, needs, true, real.unwrap_or_default())?;
                ("allocate_reserved", outcome)
            }
            Operation::Free { agent, blocks } => {
                let (id, who) = self.agent(*agent);
                let blocks = self.handles(who, blocks);
                let foretold = self.real.check_batch(id, &blocks);
                let real = self.real.free(id, &blocks);
                if foretold != real {
                    return Err(format!("check_batch says {foretold:?}, free says {real:?}"));
                }
                ("free", same(&real, self.oracle.free(who, &blocks))?)
            }
            Operation::FreeAgent { agent } => {
                let (id, who) = self.agent(*agent);
                let (real, wanted) = (self.real.free_agent(id), self.oracle.free_agent(who));
                if real != wanted {
                    return Err(format!("freed {real} blocks, should free {wanted}"));
                }
                ("free_agent", "Ok".to_owned())
            }
            Operation::Exchange { agent, old, needs } => {
                let (id, who) = self.agent(*agent);
                let old = self.handles(who, old);
                let wanted = self.oracle.exchange(who, &old, needs);
                let real = self.real.exchange(id, &old, &pairs(needs));
                let outcome = same(&real, wanted)?;
                self.note(who, needs, false, real.unwrap_or_default())?;
                self.oracle.settle();
                ("exchange", outcome)
            }
            Operation::ExchangePart {
                agent,
                promised,
                old,
                needs,
            } => {
                let (id, who) = self.agent(*agent);
                let old = self.handles(who, old);
                let wanted = self.oracle.exchange_part(who, &old, needs, *promised);
                let mut new = Vec::new();
                let (needed, out) = (pairs(needs), &mut new);
                let real = self.real.exchange_part(id, &old, &needed, *promised, out);
                let outcome = same(&real, wanted)?;
                if real.is_err() && !new.is_empty() {
                    return Err(format!("failed, and handed out {new:?}"));
                }
                self.note(who, needs, false, new)?;
                ("exchange_part", outcome)
            }
            Operation::Reserve { agent, n } => {
                let (id, who) = self.agent(*agent);
                let (real, wanted) = (self.real.reserve(*n, id), self.oracle.reserve(who, *n));
                ("reserve", same(&real, wanted)?)
            }
            Operation::Unreserve { agent, n } => {
                let (id, who) = self.agent(*agent);
                self.real.unreserve(*n, id);
                self.oracle.unreserve(who, *n);
                ("unreserve", "Ok".to_owned())
            }
            Operation::Reconfigure { shape } => {
                let real = self.real.reconfigure(shape.spec(), shape.blocks);
                ("reconfigure", same(&real, self.oracle.reconfigure(shape))?)
            }
            Operation::Enqueue { agent, needs } => {
                let (id, who) = self.agent(*agent);
                let real = self.real.enqueue(&pairs(needs), id);
                let wanted = self.oracle.enqueue(who, needs);
                let outcome = same(&real, wanted)?;
                self.tickets.extend(real);
                ("enqueue", outcome)
            }
            Operation::Claim { ticket } => ("claim", self.claim(*ticket)?),
            Operation::Withdraw { ticket } => {
                if let Some((index, ticket)) = self.ticket(*ticket) {
                    self.real.withdraw(ticket);
                    self.oracle.withdraw(index);
                }
                ("withdraw", "Ok".to_owned())
            }
            Operation::CloseQueue => {
                self.real.close_queue();
                self.oracle.close_queue();
                ("close_queue", "Ok".to_owned())
            }
            Operation::OpenQueue => {
                self.real.open_queue();
                self.oracle.open_queue();
                ("open_queue", "Ok".to_owned())
            }
        })
    }

    fn claim(&mut self, k: usize) -> Result<String, String> {
        let Some((index, ticket)) = self.ticket(k) else {
            return Ok("NoTicket".to_owned());
        };
        let (real, wanted) = (self.real.claim(ticket), self.oracle.claim(index));
        if let (Ok(None), Ok(None)) = (&real, &wanted) {
            return Ok("Waiting".to_owned());
        }
        let outcome = same(&real, wanted.as_ref())?;
        match (real, wanted) {
            (Ok(Some(blocks)), Ok(Some((who, needs)))) => self.note(who, &needs, false, blocks)?,
            (Ok(real), Ok(wanted)) => return Err(format!("gave {real:?}, should give {wanted:?}")),
            _ => {}
        }
        Ok(outcome)
    }

    fn ticket(&self, k: usize) -> Option<(usize, TicketId)> {
        let index = k.checked_rem(self.tickets.len())?;
        Some((index, self.tickets[index]))
    }

    /// One registration must have one handle, and no handle two registrations.
    fn register(&mut self, name: &str) -> Result<String, String> {
        let (real, wanted) = (self.real.register(name), self.oracle.register(name));
        let outcome = same(&real, wanted)?;
        if let (Ok(id), Ok(who)) = (real, wanted) {
            match self.agents[1..]
                .iter()
                .find(|known| known.0 == id || known.1 == who)
            {
                Some(&known) if known == (id, who) => {}
                Some(known) => return Err(format!("{id:?} is of {who}, but {known:?} was before")),
                None => self.agents.push((id, who)),
            }
        }
        Ok(outcome)
    }

    /// Tells the oracle what was handed out, if anything was.
    fn note(
        &mut self,
        who: Registration,
        needs: &[Need],
        promised: bool,
        blocks: Vec<BlockRef>,
    ) -> Result<(), String> {
        if !blocks.is_empty() {
            self.oracle.hand_out(who, needs, promised, &blocks)?;
            self.given.extend(blocks);
        }
        Ok(())
    }

    fn agent(&self, index: usize) -> (AgentId, Registration) {
        self.agents[index % self.agents.len()]
    }

    fn handles(&self, who: Registration, picks: &[Pick]) -> Vec<BlockRef> {
        let mine: Vec<BlockRef> = (self.given.iter().copied())
            .filter(|&block| self.oracle.may_free(who, &[block]).is_ok())
            .collect();
        let nth = |of: &[BlockRef], k: usize| of.get(k.checked_rem(of.len())?).copied();
        let newest: Vec<BlockRef> = self.given.iter().rev().copied().collect();
        let handle = |&pick: &Pick| match pick {
            Pick::Mine(k) => nth(&mine, k),
            Pick::Given(k) => nth(&newest, k),
            Pick::Foreign(k) => nth(&newest, k)
                .map(|b| BlockRef::from_parts(OTHER_POOL, b.id(), b.layer(), b.generation())),
            Pick::Forged {
                block,
                layer,
                generation,
            } => {
                let (block, layer) = (BlockId(block), LayerId(layer));
                Some(BlockRef::from_parts(POOL, block, layer, generation))
            }
        };
        picks.iter().filter_map(handle).collect()
    }

    /// The snapshot, and of every handle ever given out whose it is now.
    fn compare(&self) -> Result<(), String> {
        let (real, wanted) = (self.real.snapshot(), self.oracle.snapshot());
        if real != wanted || self.real.available() != wanted.available {
            return Err(format!("the snapshot is {real:?}, should be {wanted:?}"));
        }
        for &(id, who) in &self.agents {
            for &block in &self.given {
                let real = self.real.check_batch(id, &[block]);
                let wanted = self.oracle.may_free(who, &[block]);
                same(&real, wanted).map_err(|what| format!("{id:?} and {block:?}: {what}"))?;
            }
        }
        Ok(())
    }
}

/// Another pool's handle, of the same place and registration as the first that ours gives.
fn stranger() -> Result<AgentId, String> {
    let spec = ModelCacheSpec::new(1, 1, 8, 16).map_err(|e| e.to_string())?;
    let mut other = PoolState::new(OTHER_POOL, spec, 1).map_err(|e| e.to_string())?;
    other.register("stranger").map_err(|e| e.to_string())
}

fn pairs(needs: &[Need]) -> Vec<(LayerId, u32)> {
    (needs.iter())
        .map(|need| (LayerId(need.layer), need.n))
        .collect()
}

/// The class of the outcome, if it is the same in both.
fn same<T: Debug, E: Debug, U, W: ToString>(
    real: &Result<T, E>,
    wanted: Result<U, W>,
) -> Result<String, String> {
    let outcome = match real {
        Ok(_) => "Ok".to_owned(),
        Err(error) => class(error),
    };
    let wanted = match wanted {
        Ok(_) => "Ok".to_owned(),
        Err(error) => error.to_string(),
    };
    if outcome == wanted {
        return Ok(outcome);
    }
    Err(format!("came to {real:?}, should be {wanted}"))
}

/// The name of an error's variant, and of the one inside it: `Exhausted`, `Old.WrongOwner`.
fn class(error: &impl Debug) -> String {
    let text = format!("{error:?}");
    let fields = text.find([' ', '{']).unwrap_or(text.len());
    let path = text[..fields].trim_end_matches(')').replace('(', ".");
    // There is but one thing that can be wrong with a configuration.
    path.replace("Config.NoBlocks", "Config")
}
