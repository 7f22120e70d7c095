//! Somebody's bounded queue, with a lost wake-up: found, made smaller, explained and drawn, all
//! in this process. Beside it the mended queue, of which every order of steps is tried.
//!
//! ```text
//! cargo run --release -p selvedge-sim --example own_code
//! ```
//!
//! The same bodies are tests under every engine in `sim/tests/own_code.rs`.

use std::collections::VecDeque;
use std::process::ExitCode;
use std::time::Duration;

use selvedge_sim::explorer::{Explorer, SearchEnd};
use selvedge_sim::platform::{Condvar, JoinHandle, Mutex, Platform, Shared};
use selvedge_sim::timeline::{self, TextOptions};
use selvedge_sim::{Cx, ExplorerPlatform, Observation, explain, reach, violation};

/// A queue with room for a number of items: whoever finds it full or empty waits.
struct Queue<P: Platform, const MENDED: bool> {
    items: P::Mutex<VecDeque<u32>>,
    room: usize,
    not_full: P::Condvar,
    not_empty: P::Condvar,
}

impl<P: Platform, const MENDED: bool> Queue<P, MENDED> {
    fn new(room: usize) -> Self {
        Queue {
            items: P::Mutex::new(VecDeque::new()),
            room,
            not_full: P::Condvar::new(),
            not_empty: P::Condvar::new(),
        }
    }

    fn push(&self, item: u32) {
        let mut items = self.items.lock();
        while items.len() == self.room {
            items = self.not_full.wait(items);
        }
        items.push_back(item);
        // The bug: "only who finds it empty waits, so only the first item needs to wake anybody".
        // Two may have found it empty before the first item came.
        if MENDED || items.len() == 1 {
            self.not_empty.notify_one();
        }
    }

    fn pop(&self) -> u32 {
        let mut items = self.items.lock();
        loop {
            if let Some(item) = items.pop_front() {
                self.not_full.notify_one();
                return item;
            }
            reach("found-it-empty");
            items = self.not_empty.wait(items);
        }
    }
}

/// Two take an item each, one puts both in.
fn two_take<P: Platform, const MENDED: bool>() -> Observation {
    let queue = P::Arc::new(Queue::<P, MENDED>::new(2));
    let takers = [(); 2].map(|()| {
        let queue = queue.clone();
        P::spawn(move || queue.pop())
    });
    queue.push(1);
    queue.push(2);
    let taken = takers.map(|taker| taker.join());
    if taken.iter().sum::<u32>() != 3 {
        violation!("item-lost", "1 and 2 went in, {taken:?} came out");
    }
    Observation::of(format!("{taken:?}"))
}

/// The queue as it was.
pub(crate) fn broken<P: Platform>(_: &Cx) -> Observation {
    two_take::<P, false>()
}

/// The queue that wakes somebody for each item.
pub(crate) fn mended<P: Platform>(_: &Cx) -> Observation {
    two_take::<P, true>()
}

fn main() -> ExitCode {
    match story() {
        Ok(story) => {
            println!("{story}");
            ExitCode::SUCCESS
        }
        Err(problem) => {
            eprintln!("own_code: {problem}");
            ExitCode::FAILURE
        }
    }
}

/// What there is to tell of both queues; `Err` where the bug is not found or the mended queue
/// does not survive.
pub(crate) fn story() -> Result<String, String> {
    let explorer = Explorer::default();
    let broken = || broken::<ExplorerPlatform>(&Cx::new(0, 0, 1));
    let mended = || mended::<ExplorerPlatform>(&Cx::new(0, 0, 1));
    let mut parts = Vec::new();

    let search = explorer.run(broken);
    let SearchEnd::Violated { failure, schedule } = search.end else {
        return Err(format!("nothing was found: {:?}", search.end));
    };
    parts.push(format!(
        "The broken queue fails in execution {}: {}",
        search.executions, failure.detail
    ));

    let limit = Duration::from_secs(10);
    let shrunk = (explorer.shrink(&schedule, &failure.signature, limit, broken))
        .ok_or("the failure did not show again")?;
    parts.push(format!(
        "Made smaller in {} executions: preemptions {} -> {}, switches {} -> {}{}.",
        shrunk.replays,
        shrunk.before.preemptions,
        shrunk.after.preemptions,
        shrunk.before.switches,
        shrunk.after.switches,
        match shrunk.least {
            true => "; with fewer preemptions it does not fail",
            false => "",
        },
    ));

    let (_, mut trace) = explorer.trace(&shrunk.schedule, broken);
    shrunk.mark(&mut trace);
    parts.push(explain::cause(&trace));
    let table = timeline::text(&trace, "the broken queue", TextOptions::default());
    parts.push(table.trim_end().to_owned());

    let search = explorer.run(mended);
    if search.end != SearchEnd::Complete {
        return Err(format!("the mended queue is not: {:?}", search.end));
    }
    parts.push(format!(
        "The mended queue is well in every order of steps, {} executions; what came out: {}.",
        search.executions,
        Vec::from_iter(search.observations).join(" or ")
    ));
    Ok(parts.join("\n\n"))
}
