//! dynamo PR 2963: dropping a block sent it into a channel, to be put back by a task. While
//! nobody drained the channel (the task was behind, or gone with its runtime) the blocks were in
//! use for nobody, and requests were refused for want of them.
//!
//! A request on a pool of one block. At the moment its client is told of the end, the block must
//! be back, for the client's next request.

use selvedge_core::platform::{JoinHandle, Platform, Shared};
use selvedge_sim::{Cx, Observation, bodies, reach, violation};

use super::front::{Front, Got, Setup, Shipped, all_of};
use super::naive_front::{Bug, Has, Naive};
use crate::registry::{Expect, Scenario, explorer, loom, native, shuttle};

pub(super) const SCENARIO: Scenario = Scenario {
    id: "drop-by-channel",
    ticket: "dynamo PR 2963",
    summary: "blocks go back through a channel that nobody drains",
    source: concat!(
        include_str!("drop_by_channel.rs"),
        include_str!("front.rs"),
        include_str!("naive_front.rs")
    ),
    twin: bodies!(one_ends, ByChannel),
    shipped: bodies!(one_ends, Shipped),
    signature: "ended-but-holds",
    must_reach: &["block-back"],
    engines: &[
        native(Expect::Finds),
        explorer(Expect::Finds),
        loom(Expect::Finds),
        shuttle(Expect::Finds),
    ],
};

/// As reported.
type ByChannel<P> = Naive<P, ReturnsByChannel>;
struct ReturnsByChannel;
impl Has for ReturnsByChannel {
    const BUG: Bug = Bug::ReturnsByChannel;
}

fn one_ends<P: Platform, F: Front>(cx: &Cx) -> Observation {
    // It needs no luck; a few more rounds move the threads about.
    for _ in 0..cx.rounds().min(10) {
        end_once::<P, F>();
    }
    Observation::none()
}

fn end_once<P: Platform, F: Front>() {
    let front = P::Arc::new(F::new(Setup {
        blocks: 1,
        room: 1,
        last: 1,
        panics: false,
    }));
    let Some(mut stream) = front.submit(0, 1, 1) else {
        violation!("wrongly-refused", "nothing has gone wrong");
    };
    let theirs = front.clone();
    let client = P::spawn(move || {
        let got = all_of::<F>(&mut stream);
        (got, theirs.blocks_used(), stream, theirs)
    });
    front.run();
    let (got, used, _stream, _theirs) = client.join();
    if got != (1, Got::Completed) {
        violation!("not-served", "{got:?}");
    }
    if used > 0 {
        violation!("ended-but-holds", "{used} block in use for nobody");
    }
    reach("block-back");
}
