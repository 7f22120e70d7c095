//! A seed is to be removed when it has blended out. Nobody is asked then: there is no gate, and no
//! collective. With one tick more on rank 0 (see D7) the seed is gone there and still trains on
//! rank 1; nothing hangs, and nothing is said.
//!
//! What ships: that it is gone is a consequence of the record, as everything is.

use selvedge_models::body;
use selvedge_models::epoch::{Begin, EpochModel, Faults};
use selvedge_models::gate_sync::{GateSyncModel, SlotAt, stage};
use selvedge_sim::Bodies;

use crate::registry::{Expect, Scenario, stateright};

pub(super) const SCENARIO: Scenario = Scenario {
    id: "E-GATE-D9",
    ticket: "gate sync D9",
    summary: "a scheduled prune is nobody else's business",
    source: include_str!("gate_d9.rs"),
    twin: Bodies::of_model(body!(twin(), Shortest)),
    shipped: Bodies::of_model(body!(SHIPPED, Lean)),
    signature: "agreement",
    must_reach: &["decided", "failed-step", "pruned"],
    engines: &[stateright(Expect::Finds).states(3_057)],
};

/// A slot that blends out, and steps that come to nothing and are made again.
const SHIPPED: EpochModel = EpochModel::of(2).from(Begin::Pruning).with(Faults {
    failed_steps: 1,
    crashes: 1,
    ..Faults::NONE
});

fn twin() -> GateSyncModel {
    let goes = SlotAt {
        ticks: 3,
        out: true,
        ..SlotAt::new(0, stage::BLENDING)
    };
    GateSyncModel {
        again: 1,
        ..GateSyncModel::of(&[&[goes], &[goes]])
    }
}
