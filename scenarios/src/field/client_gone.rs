//! mistral.rs#1376 and TGI#283: a client hung up in the middle of its answer. The engine's loop
//! sent it the next token, took the error for impossible and panicked; the lock it held was
//! poisoned, and with the one client's request the whole batch was lost, and all that came later.
//!
//! Two clients; one leaves at any moment. The other gets all its tokens and its end, and every
//! block comes back.

use selvedge_core::platform::{JoinHandle, Platform};
use selvedge_sim::{Cx, Observation, bodies, reach, violation};

use super::front::{Front, Got, Setup, Shipped, all_of};
use super::naive_front::{Bug, Has, Naive};
use crate::registry::{BY_LUCK, Expect, Scenario, explorer, native, shuttle};

pub(super) const SCENARIO: Scenario = Scenario {
    id: "client-gone",
    ticket: "mistral.rs#1376, TGI#283",
    summary: "one client hangs up, and the whole batch is lost",
    source: concat!(
        include_str!("client_gone.rs"),
        include_str!("front.rs"),
        include_str!("naive_front.rs")
    ),
    twin: bodies!(one_leaves, Unwraps),
    shipped: bodies!(one_leaves, Shipped),
    signature: "batch-lost",
    must_reach: &["left-in-time", "other-served"],
    // Not loom: to it each pointer that the dropped stream gives up is a step that races with all
    // of the loop's. It had not finished the shipped body after 120,000 executions.
    engines: &[
        native(BY_LUCK),
        explorer(Expect::Finds),
        shuttle(Expect::Finds),
    ],
};

/// As reported.
type Unwraps<P> = Naive<P, UnwrapsSend>;
struct UnwrapsSend;
impl Has for UnwrapsSend {
    const BUG: Bug = Bug::UnwrapsSend;
}

const TOKENS: u32 = 2;

fn one_leaves<P: Platform, F: Front>(cx: &Cx) -> Observation {
    let mut told = String::new();
    for _ in 0..cx.rounds().min(25) {
        told = leave_once::<P, F>();
    }
    match cx.rounds() {
        1 => Observation::of(told),
        _ => Observation::none(),
    }
}

fn leave_once<P: Platform, F: Front>() -> String {
    let front = F::new(Setup {
        blocks: 2,
        room: TOKENS,
        last: 2,
        panics: false,
    });
    let [leaves, stays] = [0, 1].map(|who| front.submit(who, 1, TOKENS));
    let (Some(leaves), Some(mut stays)) = (leaves, stays) else {
        violation!("wrongly-refused", "nothing has gone wrong yet");
    };
    let leaving = P::spawn(move || drop(leaves));
    front.run();
    leaving.join();
    match all_of::<F>(&mut stays) {
        (TOKENS, Got::Completed) => reach("other-served"),
        got => violation!("batch-lost", "the client that stayed got {got:?}"),
    }
    let used = front.blocks_used();
    if used > 0 {
        violation!("block-leaked", "{used} of 2");
    }
    let cancelled = front.cancelled();
    if cancelled > 0 {
        reach("left-in-time");
    }
    format!("{cancelled} cancelled")
}
