//! embassy PR 6964, tokio PR 2325: those who wait for a resource stand in line, and a release
//! wakes the first. If the first gives up just then, the wake-up is gone with it: what was
//! released lies there, and the next in line sleeps for ever.
//!
//! Two wait for the only block. The first gives up while the block comes back.
//!
//! What ships keeps for the first in line whatever is free, as state. Whoever leaves, leaves
//! that to the next in the same step, and only then is anybody woken.

use std::collections::VecDeque;
use std::time::Duration;

use selvedge_core::platform::{Condvar, JoinHandle, Mutex, Platform, Shared};
use selvedge_core::pool::{WaitError, WaitTicket};
use selvedge_core::{AgentId, BlockPool, BlockRef, LayerId};
use selvedge_sim::{Cx, Observation, bodies, reach, violation};

use crate::bed::{agent_of, check_all_back, pool_of};
use crate::registry::{Expect, Scenario, explorer, loom, shuttle};

pub(super) const SCENARIO: Scenario = Scenario {
    id: "waiter-cancelled-at-head",
    ticket: "embassy PR 6964, tokio PR 2325",
    summary: "the first in line gives up and takes the wake-up along",
    source: include_str!("waiter_cancelled_at_head.rs"),
    twin: bodies!(first_gives_up, WakesTheFirst),
    shipped: bodies!(first_gives_up, Shipped),
    signature: "deadlock",
    must_reach: &["gave-up-before", "gave-up-after"],
    // Not on real threads, which would hang.
    engines: &[
        explorer(Expect::Finds),
        loom(Expect::Finds),
        shuttle(Expect::Finds),
    ],
};

/// A line for the only block, which somebody holds.
trait Line: Send + Sync + 'static {
    type Place: Send + 'static;
    fn new() -> Self;
    /// A place in line.
    fn join(&self) -> Self::Place;
    /// Leaves the line; whether the block was kept for this place already.
    fn give_up(&self, place: Self::Place) -> bool;
    /// Waits, for as long as it takes, and gives the block back at once.
    fn wait(&self, place: Self::Place);
    /// The holder gives the block back.
    fn release(&self);
    fn close(&self);
}

fn first_gives_up<P: Platform, T: Line>(_: &Cx) -> Observation {
    let line = P::Arc::new(T::new());
    let (first, second) = (line.join(), line.join());
    let leaver = line.clone();
    let leaver = P::spawn(move || leaver.give_up(first));
    // Loom does not come to the end of three threads in 120,000 executions. There the holder is
    // who waits next, so that all that happens while it sleeps is the leaving.
    let apart = P::NAME != "loom";
    let holder = line.clone();
    let holder = match apart {
        true => Some(P::spawn(move || holder.release())),
        false => {
            holder.release();
            None
        }
    };
    line.wait(second);
    if let Some(holder) = holder {
        holder.join();
    }
    let kept = leaver.join();
    reach(if kept {
        "gave-up-after"
    } else {
        "gave-up-before"
    });
    line.close();
    Observation::of(format!("kept for the first: {kept}"))
}

/// The code that ships. The second waits with a time-out, which the explorer and shuttle let
/// pass at any moment: it then gets in line again.
struct Shipped<P: Platform> {
    pool: P::Arc<BlockPool<P>>,
    alice: AgentId,
    bob: AgentId,
    held: P::Mutex<Vec<BlockRef>>,
}

impl<P: Platform> Line for Shipped<P> {
    type Place = WaitTicket<'static, P>;

    fn new() -> Self {
        let pool: P::Arc<BlockPool<P>> = P::Arc::new(pool_of(1, 1));
        let [alice, bob] = ["alice", "bob"].map(|name| agent_of(&pool, name));
        let held = match pool.allocate(1, LayerId(0), alice) {
            Ok(lease) => lease.persist(),
            Err(refused) => violation!("refused", "{refused}"),
        };
        Shipped {
            pool,
            alice,
            bob,
            held: P::Mutex::new(held),
        }
    }

    fn join(&self) -> WaitTicket<'static, P> {
        let ticket = self.pool.enqueue(&[(LayerId(0), 1)], self.bob).ok();
        match ticket.and_then(|ticket| ticket.into_shared(&self.pool).ok()) {
            Some(ticket) => ticket,
            None => violation!("refused", "it fits the pool"),
        }
    }

    fn give_up(&self, mut place: WaitTicket<'static, P>) -> bool {
        // What it gets at the last moment it gives back like anybody.
        match place.try_claim() {
            Ok(lease) => lease.is_some(),
            Err(other) => violation!("wrong-error", "{other}"),
        }
    }

    fn wait(&self, place: WaitTicket<'static, P>) {
        match place.wait(Some(Duration::from_secs(1))) {
            Ok(lease) => drop(lease),
            Err(WaitError::TimedOut) => match self.join().wait(None) {
                Ok(lease) => drop(lease),
                Err(other) => violation!("wrong-error", "{other}"),
            },
            Err(other) => violation!("wrong-error", "{other}"),
        }
    }

    fn release(&self) {
        let held = std::mem::take(&mut *self.held.lock());
        if let Err(refused) = self.pool.free(self.alice, &held) {
            violation!("free-refused", "{refused}");
        }
    }

    fn close(&self) {
        check_all_back(&self.pool, "block-leaked");
    }
}

/// As reported.
struct WakesTheFirst<P: Platform> {
    state: P::Mutex<Waiting>,
    woken: P::Condvar,
}

struct Waiting {
    free: bool,
    line: VecDeque<u32>,
    /// Whom a release has woken.
    notified: Vec<u32>,
    places: u32,
}

impl<P: Platform> WakesTheFirst<P> {
    fn notify_one(&self, state: &mut Waiting) {
        if let Some(first) = state.line.pop_front() {
            state.notified.push(first);
            self.woken.notify_all();
        }
    }
}

impl<P: Platform> Line for WakesTheFirst<P> {
    type Place = u32;

    fn new() -> Self {
        WakesTheFirst {
            state: P::Mutex::new(Waiting {
                free: false,
                line: VecDeque::new(),
                notified: Vec::new(),
                places: 0,
            }),
            woken: P::Condvar::new(),
        }
    }

    fn join(&self) -> u32 {
        let mut state = self.state.lock();
        state.places += 1;
        let place = state.places;
        state.line.push_back(place);
        place
    }

    fn give_up(&self, place: u32) -> bool {
        let mut state = self.state.lock();
        let notified = state.notified.contains(&place);
        state.line.retain(|&of| of != place);
        state.notified.retain(|&of| of != place);
        notified
    }

    fn wait(&self, place: u32) {
        let mut state = self.state.lock();
        while !(state.free && state.notified.contains(&place)) {
            state = self.woken.wait(state);
        }
        state.notified.retain(|&of| of != place);
    }

    fn release(&self) {
        let mut state = self.state.lock();
        state.free = true;
        self.notify_one(&mut state);
    }

    fn close(&self) {}
}
