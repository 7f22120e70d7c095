//! mlx-lm#1672: the thread that generates died of an exception. The server knew nothing of it: it
//! went on accepting requests with status 200, and every one of them waited for ever.
//!
//! The model panics in its first step; one request was accepted before, one comes at any moment.
//! Each must be refused, or end by being told.

use selvedge_core::platform::{JoinHandle, Platform, Shared};
use selvedge_sim::{Cx, Observation, bodies, reach, violation};

use super::front::{Front, Got, Setup, Shipped, all_of};
use super::naive_front::{Bug, Has, Naive};
use crate::registry::{Expect, Scenario, explorer, loom, shuttle};

pub(super) const SCENARIO: Scenario = Scenario {
    id: "dead-thread-200",
    ticket: "mlx-lm#1672",
    summary: "the generating thread is dead; requests are accepted and hang",
    source: concat!(
        include_str!("dead_thread_200.rs"),
        include_str!("front.rs"),
        include_str!("naive_front.rs")
    ),
    twin: bodies!(the_model_panics, Silent),
    shipped: bodies!(the_model_panics, Shipped),
    signature: "deadlock",
    must_reach: &["told", "refused-as-dead", "accepted-then-told"],
    // Not on real threads, which would hang.
    engines: &[
        explorer(Expect::Finds),
        loom(Expect::Finds),
        shuttle(Expect::Finds),
    ],
};

/// As reported.
type Silent<P> = Naive<P, DiesSilently>;
struct DiesSilently;
impl Has for DiesSilently {
    const BUG: Bug = Bug::DiesSilently;
}

fn the_model_panics<P: Platform, F: Front>(_: &Cx) -> Observation {
    let front = P::Arc::new(F::new(Setup {
        blocks: 2,
        room: 1,
        last: 0,
        panics: true,
    }));
    let Some(mut early) = front.submit(0, 1, 1) else {
        violation!("wrongly-refused", "nothing has gone wrong yet");
    };
    let theirs = front.clone();
    let asking = P::spawn(move || {
        let late = theirs.submit(1, 1, 1);
        // The pointer goes back too: else loom would have its drop to order as well.
        (late, theirs)
    });
    front.run();
    let (late, _theirs) = asking.join();
    check_told::<F>(&mut early);
    reach("told");
    let outcome = match late {
        None => {
            reach("refused-as-dead");
            "refused"
        }
        Some(mut late) => {
            check_told::<F>(&mut late);
            reach("accepted-then-told");
            "told"
        }
    };
    if front.submit(2, 1, 1).is_some() {
        violation!("accepted-by-the-dead", "a request after the end");
    }
    let used = front.blocks_used();
    if used > 0 {
        violation!("block-leaked", "{used} of 2");
    }
    Observation::of(outcome)
}

fn check_told<F: Front>(stream: &mut F::Stream) {
    match all_of::<F>(stream) {
        (0, Got::Dead) => {}
        got => violation!("not-told", "{got:?}"),
    }
}
