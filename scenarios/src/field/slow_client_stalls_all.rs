//! higgs PR 32 and vllm PR 56094: tokens went to the clients through bounded channels, and the
//! step loop itself waited for room. One client that did not read stopped the model for
//! everybody.
//!
//! One client reads nothing before another has its whole answer. The other must get it; the slow
//! one must be told that it was too slow.

use selvedge_core::platform::{JoinHandle, Platform};
use selvedge_sim::{Cx, Observation, bodies, reach, violation};

use super::front::{Front, Got, Setup, Shipped, all_of};
use super::naive_front::{Bug, Has, Naive};
use crate::registry::{Expect, Scenario, explorer, loom, shuttle};

pub(super) const SCENARIO: Scenario = Scenario {
    id: "slow-client-stalls-all",
    ticket: "higgs PR 32, vllm PR 56094",
    summary: "the step loop waits for room in one client's channel",
    source: concat!(
        include_str!("slow_client_stalls_all.rs"),
        include_str!("front.rs"),
        include_str!("naive_front.rs")
    ),
    twin: bodies!(one_reads_late, Waits),
    shipped: bodies!(one_reads_late, Shipped),
    signature: "deadlock",
    must_reach: &["fast-served", "slow-cut"],
    // Not on real threads, which would hang.
    engines: &[
        explorer(Expect::Finds),
        loom(Expect::Finds),
        shuttle(Expect::Finds),
    ],
};

/// As reported.
type Waits<P> = Naive<P, WaitsForRoom>;
struct WaitsForRoom;
impl Has for WaitsForRoom {
    const BUG: Bug = Bug::WaitsForRoom;
}

const ROOM: u32 = 1;

fn one_reads_late<P: Platform, F: Front>(_: &Cx) -> Observation {
    let front = F::new(Setup {
        blocks: 2,
        room: ROOM,
        last: 1,
        panics: false,
    });
    // The longer prompt makes the other's first token come when the slow one's channel is full.
    let requests = (front.submit(0, 1, ROOM + 1), front.submit(1, 2, ROOM));
    let (Some(mut slow), Some(mut fast)) = requests else {
        violation!("wrongly-refused", "nothing has gone wrong yet");
    };
    let clients = P::spawn(move || (all_of::<F>(&mut fast), all_of::<F>(&mut slow)));
    front.run();
    let (fast, slow) = clients.join();
    match fast {
        (ROOM, Got::Completed) => reach("fast-served"),
        got => violation!("fast-not-served", "{got:?}"),
    }
    match slow {
        (ROOM, Got::TooSlow) => reach("slow-cut"),
        got => violation!("slow-not-told", "{got:?}"),
    }
    Observation::none()
}
