//! The origin takes a snapshot of the model now and then, to roll back to after a panic of the
//! training. A seed that became part of the host between two of them was in the books, which
//! were not in the snapshot, and not in the model that came back: parameters of one moment with
//! the stages of another.
//!
//! One thread makes a step and then fossilises the seed; another takes a snapshot. Whatever it
//! got, to go back to it must give stages and parameters of one moment.
//!
//! What ships has a checkpoint that holds the record, and is there only where the parameters
//! are of that record's version: between the step and the record after it there is none, and
//! the snapshot before stays.

use selvedge_core::ddp::SeedStage;
use selvedge_core::platform::{JoinHandle, Mutex, Platform, Shared};
use selvedge_sim::{Cx, Observation, bodies, reach, violation};

use super::lone_rank::LoneRank;
use crate::bed::in_rounds;
use crate::registry::{BY_LUCK, Expect, Scenario, explorer, loom, native, shuttle};
use crate::slots::{ASKING, advanced};

pub(super) const SCENARIO: Scenario = Scenario {
    id: "E-SNAPSHOT",
    ticket: "esper 2110e29c",
    summary: "a rollback to parameters of one moment with stages of another",
    source: concat!(
        include_str!("snapshot.rs"),
        include_str!("lone_rank.rs"),
        include_str!("../slots.rs")
    ),
    twin: bodies!(roll_back, Apart),
    shipped: bodies!(roll_back, Together),
    signature: "incoherent-rollback",
    must_reach: &["before", "not-now", "after"],
    engines: &[
        native(BY_LUCK),
        explorer(Expect::Finds),
        loom(Expect::Finds),
        shuttle(Expect::Finds),
    ],
};

/// One rank's training.
trait Training: Send + Sync + 'static {
    fn new() -> Self;
    fn step(&self);
    fn fossilise(&self);
    fn snapshot(&self);
    /// Goes back to the snapshot: the stage of the seed, and the version of the parameters.
    fn roll_back(&self) -> (SeedStage, u64);
}

fn roll_back<P: Platform, T: Training>(cx: &Cx) -> Observation {
    in_rounds(cx, || {
        let training = P::Arc::new(T::new());
        let trainer = training.clone();
        let trainer = P::spawn(move || {
            trainer.step();
            trainer.fossilise();
        });
        training.snapshot();
        trainer.join();
        let (stage, version) = training.roll_back();
        // The seed is part of the host from the first step's parameters on.
        match (stage, version) {
            (SeedStage::Holding, 0) => reach("before"),
            (SeedStage::Fossilized, 1) => reach("after"),
            _ => violation!("incoherent-rollback", "{stage}, with parameters {version}"),
        }
        format!("{stage}, with parameters {version}")
    })
}

/// The code that ships.
struct Together<P: Platform>(P::Mutex<LoneRank>);

impl<P: Platform> Training for Together<P> {
    fn new() -> Self {
        // It holds, and asks to become part of the host.
        let mut slot = advanced(ASKING, 3);
        if let Err(refused) = slot.advance_stage(Some(SeedStage::Fossilized)) {
            violation!("bad-configuration", "{refused}");
        }
        Together(P::Mutex::new(LoneRank::new(slot)))
    }

    fn step(&self) {
        self.0.lock().step();
    }

    fn fossilise(&self) {
        self.0.lock().vote();
    }

    fn snapshot(&self) {
        self.0.lock().snapshot();
    }

    fn roll_back(&self) -> (SeedStage, u64) {
        let mut rank = self.0.lock();
        rank.roll_back();
        (rank.stage(), rank.steps())
    }
}

/// As reported.
struct Apart<P: Platform> {
    params: P::Mutex<u64>,
    stage: P::Mutex<SeedStage>,
    snapshot: P::Mutex<u64>,
}

impl<P: Platform> Training for Apart<P> {
    fn new() -> Self {
        Apart {
            params: P::Mutex::new(0),
            stage: P::Mutex::new(SeedStage::Holding),
            snapshot: P::Mutex::new(0),
        }
    }

    fn step(&self) {
        *self.params.lock() = 1;
    }

    fn fossilise(&self) {
        *self.stage.lock() = SeedStage::Fossilized;
    }

    fn snapshot(&self) {
        let params = *self.params.lock();
        *self.snapshot.lock() = params;
    }

    fn roll_back(&self) -> (SeedStage, u64) {
        (*self.stage.lock(), *self.snapshot.lock())
    }
}
