//! [`Shell`]: the same operations on a `BlockPool`, by way of leases, where the compiler decides
//! what is given back and when. What a `free` does here depends on the kind of its handles:
//!
//! | handle | means |
//! |---|---|
//! | `mine` | a lease is dropped |
//! | `given` | a lease is persisted and its handles freed |
//! | `foreign` | a lease is persisted and adopted again |
//! | `forged` | the handles of a lease are freed by whoever calls, under the lease |
#![allow(
    clippy::disallowed_types,
    reason = "the shell is tested on `Std`, whose shared pointer is std's"
)]

use std::collections::BTreeSet;
use std::mem;
use std::sync::Arc;
use std::thread;

use selvedge_core::pool::{WaitError, WaitTicket};
use selvedge_core::{AgentId, BlockLease, BlockPool, BlockRef, LayerId, Reservation};

use super::operation::{Need, Operation, Pick, Sequence};

pub(crate) struct Shell<'p> {
    pool: &'p Arc<BlockPool>,
    agents: Vec<AgentId>,
    leases: Vec<BlockLease<'p>>,
    reservations: Vec<Reservation<'p>>,
    tickets: Vec<WaitTicket<'p>>,
    /// What is allocated: every handle given out and not given back.
    live: BTreeSet<BlockRef>,
    /// What was done, in words.
    done: BTreeSet<String>,
}

impl Shell<'_> {
    /// Runs a whole sequence, drops everything, and returns what was done.
    ///
    /// # Errors
    /// The first operation after which the pool does not hold what the leases hold, or what is
    /// missing in the end.
    pub(crate) fn run(sequence: &Sequence) -> Result<BTreeSet<String>, String> {
        let shape = &sequence.shape;
        let pool = BlockPool::new(shape.spec(), shape.blocks).map_err(|e| e.to_string())?;
        let pool = Arc::new(pool);
        let mut shell = Shell {
            pool: &pool,
            agents: Vec::new(),
            leases: Vec::new(),
            reservations: Vec::new(),
            tickets: Vec::new(),
            live: BTreeSet::new(),
            done: BTreeSet::new(),
        };
        for operation in &sequence.operations {
            shell.apply(operation);
            (shell.compare()).map_err(|what| format!("after `{operation}`: {what}"))?;
        }
        let done = mem::take(&mut shell.done);
        drop(shell);
        let snapshot = pool.audit().map_err(|e| e.to_string())?;
        if snapshot.available != snapshot.total || snapshot.reserved != 0 {
            return Err(format!("not all came back: {snapshot:?}"));
        }
        Ok(done)
    }

    fn apply(&mut self, operation: &Operation) {
        match operation {
            Operation::Register { name } => self.agents.extend(self.pool.agent(name).ok()),
            Operation::Reconfigure { shape } => {
                let result = self.pool.reconfigure(shape.spec(), shape.blocks);
                self.did_if(result.is_ok(), "reconfigured");
            }
            Operation::Unreserve { agent, .. } => {
                let reservation = take(&mut self.reservations, *agent);
                self.did_if(reservation.is_some(), "dropped a reservation");
            }
            Operation::AllocateReserved { agent, needs } => self.lease_reserved(*agent, needs),
            Operation::Exchange { agent, needs, .. } => self.exchange(*agent, needs),
            Operation::ExchangePart {
                agent,
                promised,
                old,
                needs,
            } => self.exchange_part(*agent, *promised, old.len(), needs),
            Operation::Free { agent, blocks } => {
                for &pick in blocks {
                    self.give_back(*agent, pick);
                }
            }
            Operation::Retire { agent } => {
                let result = self.agent(*agent).map(|agent| self.pool.retire(agent));
                self.did_if(matches!(result, Some(Ok(()))), "retired an agent");
            }
            Operation::Allocate { agent, need } => {
                let lease = self.agent(*agent).and_then(|agent| {
                    let lease = self.pool.allocate(need.n, LayerId(need.layer), agent);
                    lease.ok()
                });
                self.did_if(lease.is_some(), "leased");
                self.live.extend(lease.iter().flat_map(BlockLease::blocks));
                self.leases.extend(lease);
            }
            Operation::AllocateLayers { agent, needs } => {
                let lease = self.agent(*agent).and_then(|agent| {
                    let lease = self.pool.allocate_layers(&pairs(needs), agent).ok()?;
                    lease.into_shared(self.pool).ok()
                });
                self.did_if(lease.is_some(), "shared a lease");
                self.live.extend(lease.iter().flat_map(BlockLease::blocks));
                self.leases.extend(lease);
            }
            Operation::Reserve { agent, n } => {
                let agent = self.agent(*agent);
                let reservation = agent.and_then(|agent| self.pool.reserve(*n, agent).ok());
                self.did_if(reservation.is_some(), "reserved");
                self.reservations.extend(reservation);
            }
            Operation::Enqueue { agent, needs } => {
                let agent = self.agent(*agent);
                let ticket = agent.and_then(|agent| self.pool.enqueue(&pairs(needs), agent).ok());
                self.did_if(ticket.is_some(), "got in line");
                self.tickets.extend(ticket);
            }
            Operation::Claim { ticket } => self.claim(*ticket),
            Operation::Withdraw { ticket } => {
                let ticket = take(&mut self.tickets, *ticket);
                self.did_if(ticket.is_some(), "left the line");
            }
            Operation::CloseQueue => self.pool.close_queue(),
            Operation::OpenQueue => self.pool.open_queue(),
            Operation::FreeAgent { agent } => {
                if let Some(agent) = self.agent(*agent) {
                    let live: Vec<BlockRef> = self.live.iter().copied().collect();
                    let theirs = self.current(agent, &live);
                    self.pool.free_agent(agent);
                    self.forget(&theirs);
                }
            }
        }
    }

    fn lease_reserved(&mut self, k: usize, needs: &[Need]) {
        let reservation = k.checked_rem(self.reservations.len());
        if let (Some(index), [need, ..]) = (reservation, needs) {
            let lease = self.reservations[index].allocate(need.n, LayerId(need.layer));
            self.did_if(lease.is_ok(), "leased what was reserved");
            self.live.extend(lease.iter().flat_map(BlockLease::blocks));
            self.leases.extend(lease);
        }
    }

    fn claim(&mut self, k: usize) {
        let Some(index) = k.checked_rem(self.tickets.len()) else {
            return;
        };
        match self.tickets[index].try_claim() {
            Ok(None) => self.did_if(true, "went on waiting"),
            Ok(Some(lease)) => {
                self.did_if(true, "leased after a wait");
                self.live.extend(lease.blocks());
                self.leases.push(lease);
            }
            Err(error) => {
                assert!(!matches!(error, WaitError::TimedOut), "nobody has waited");
                self.did_if(true, "was sent away");
            }
        }
    }

    fn exchange(&mut self, k: usize, needs: &[Need]) {
        let Some(index) = k.checked_rem(self.leases.len()) else {
            return;
        };
        let lease = &mut self.leases[index];
        let old = lease.blocks().to_vec();
        let result = lease.exchange(&pairs(needs));
        let new = lease.blocks().to_vec();
        if result.is_ok() {
            self.forget(&old);
            self.live.extend(new);
            self.did_if(true, "exchanged in place");
        } else {
            assert_eq!(
                old, new,
                "a lease that failed to exchange holds what it held"
            );
            self.did_if(true, "failed to exchange");
        }
    }

    /// Gives the first `n` blocks of a lease up for others, some of them promised.
    fn exchange_part(&mut self, k: usize, promised: u32, n: usize, needs: &[Need]) {
        let Some(index) = k.checked_rem(self.leases.len()) else {
            return;
        };
        let lease = &mut self.leases[index];
        let before = lease.blocks().to_vec();
        let (old, kept) = before.split_at(n.min(before.len()));
        let place = (promised as usize).checked_rem(self.reservations.len());
        let promise = place
            .filter(|_| promised > 0)
            .map(|i| &mut self.reservations[i]);
        let left = promise.as_ref().map_or(0, |promise| promise.left());
        let result = lease.exchange_part(|b| old.contains(&b), &pairs(needs), promise);
        let after = lease.blocks().to_vec();
        let used = place.is_some_and(|i| promised > 0 && self.reservations[i].left() < left);
        if result.is_ok() {
            assert_eq!(after[..kept.len()], *kept, "what is kept stays");
            self.forget(old);
            self.live.extend(&after[kept.len()..]);
            self.did_if(true, "exchanged a part");
            self.did_if(used, "exchanged a part for what was promised");
        } else {
            assert_eq!(
                before, after,
                "a lease that failed to exchange holds what it held"
            );
            assert!(!used, "a promise is kept where nothing comes of it");
            self.did_if(true, "failed to exchange a part");
        }
    }

    fn give_back(&mut self, caller: usize, pick: Pick) {
        let k = match pick {
            Pick::Mine(k) | Pick::Given(k) | Pick::Foreign(k) => k,
            Pick::Forged { block, .. } => block as usize,
        };
        let Some(lease) = take(&mut self.leases, k) else {
            return;
        };
        let owner = lease.agent();
        let current = self.current(owner, lease.blocks());
        match pick {
            Pick::Mine(_) => {
                self.did_if(true, "dropped a lease");
                let emptied = current.len() < lease.len();
                self.did_if(emptied, "dropped a lease that free_agent had emptied");
                drop(lease);
                self.forget(&current);
            }
            Pick::Given(_) => {
                let kept = lease.persist();
                let freed = self.pool.free(owner, &kept);
                self.did_if(freed.is_ok(), "freed a persisted lease");
                if freed.is_err() {
                    let rest = self.pool.free(owner, &current);
                    assert!(
                        rest.is_ok() || current.is_empty(),
                        "what is current can be freed"
                    );
                }
                self.forget(&current);
            }
            Pick::Foreign(_) => {
                drop(lease.persist());
                let adopted = self.pool.adopt(owner, current).ok();
                self.did_if(adopted.is_some(), "adopted a persisted lease");
                self.leases.extend(adopted);
            }
            Pick::Forged { .. } => {
                let caller = self.agent(caller).unwrap_or(owner);
                if self.pool.free(caller, lease.blocks()).is_ok() {
                    self.did_if(true, "freed under a lease by its handles");
                    self.forget(&current);
                } else {
                    let stolen = caller != owner && !current.is_empty();
                    self.did_if(stolen, "freed another agent's lease: refused");
                }
                self.leases.push(lease);
            }
        }
    }

    fn did_if(&mut self, really: bool, what: &str) {
        if really && !self.done.contains(what) {
            self.done.insert(what.to_owned());
        }
    }

    fn agent(&self, k: usize) -> Option<AgentId> {
        let index = k.checked_rem(self.agents.len())?;
        Some(self.agents[index])
    }

    fn forget(&mut self, blocks: &[BlockRef]) {
        self.live.retain(|block| !blocks.contains(block));
    }

    fn current(&self, agent: AgentId, blocks: &[BlockRef]) -> Vec<BlockRef> {
        let state = self.pool.state();
        let blocks = blocks.iter().copied();
        blocks
            .filter(|&block| state.check_batch(agent, &[block]).is_ok())
            .collect()
    }

    /// What the leases and reservations hold is what the pool says is used.
    fn compare(&self) -> Result<(), String> {
        let snapshot = self.pool.audit().map_err(|e| e.to_string())?;
        let promised: u32 = self.reservations.iter().map(Reservation::left).sum();
        let held = snapshot.used - snapshot.reserved;
        // What is kept for those in line is the pool's to say; `audit` has checked that.
        let kept = snapshot.reserved.checked_sub(promised);
        let wrong = kept.is_none_or(|kept| kept > 0 && self.tickets.is_empty());
        if held as usize != self.live.len() || wrong {
            let live = self.live.len();
            return Err(format!(
                "{live} live, {promised} promised, but {snapshot:?}"
            ));
        }
        Ok(())
    }
}

impl Drop for Shell<'_> {
    /// Once the pool has failed an assertion, each lease's drop would fail it again, and a
    /// second panic ends the process before the sequence is made small and printed.
    fn drop(&mut self) {
        if thread::panicking() {
            mem::forget(mem::take(&mut self.leases));
            mem::forget(mem::take(&mut self.reservations));
        }
    }
}

/// The `k`-th, counted round.
fn take<T>(of: &mut Vec<T>, k: usize) -> Option<T> {
    let index = k.checked_rem(of.len())?;
    Some(of.swap_remove(index))
}

fn pairs(needs: &[Need]) -> Vec<(LayerId, u32)> {
    (needs.iter())
        .map(|need| (LayerId(need.layer), need.n))
        .collect()
}
