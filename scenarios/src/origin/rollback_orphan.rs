//! The origin's rollback puts the slot's lifecycle back to what it was when the snapshot was
//! taken. A seed that was put in since then stayed in the network: no stage, no alpha and no
//! policy knew of it, and it went on taking part.
//!
//! One thread puts a seed in; another takes a snapshot. After a rollback the network must have
//! exactly the seeds that the books have.
//!
//! What ships has one thing to go back to, a record. The rank begins another life from it, and
//! is told to apply it as it would be any other: which seeds there are follows from its schedule.

use selvedge_core::ddp::{BlueprintId, SeedId, SeedSlot, SeedStage, SlotCommand, SlotRules};
use selvedge_core::platform::{JoinHandle, Mutex, Platform, Shared};
use selvedge_sim::{Cx, Observation, bodies, reach, violation};

use super::lone_rank::LoneRank;
use crate::bed::in_rounds;
use crate::registry::{BY_LUCK, Expect, Scenario, explorer, loom, native, shuttle};
use crate::slots::ASKING;

pub(super) const SCENARIO: Scenario = Scenario {
    id: "E-ROLLBACK-ORPHAN",
    ticket: "esper rollback",
    summary: "stale lifecycle state restored, the seed put in since then left in the network",
    source: concat!(
        include_str!("rollback_orphan.rs"),
        include_str!("lone_rank.rs"),
        include_str!("../slots.rs")
    ),
    twin: bodies!(roll_back, BooksOnly),
    shipped: bodies!(roll_back, ByRecord),
    signature: "orphan-seed",
    must_reach: &["back-to-empty", "not-now", "back-to-seeded"],
    engines: &[
        native(BY_LUCK),
        explorer(Expect::Finds),
        loom(Expect::Finds),
        shuttle(Expect::Finds),
    ],
};

const SEED: SeedId = SeedId(7);

/// A slot and the network it is in.
trait Network: Send + Sync + 'static {
    fn new() -> Self;
    fn germinate(&self);
    fn snapshot(&self);
    /// Goes back to the snapshot: what the books say of the seed, and whether it is there.
    fn roll_back(&self) -> (SeedStage, bool);
}

fn roll_back<P: Platform, T: Network>(cx: &Cx) -> Observation {
    in_rounds(cx, || {
        let network = P::Arc::new(T::new());
        let grower = network.clone();
        let grower = P::spawn(move || grower.germinate());
        network.snapshot();
        grower.join();
        match network.roll_back() {
            (SeedStage::Dormant, false) => reach("back-to-empty"),
            (SeedStage::Germinated, true) => reach("back-to-seeded"),
            (SeedStage::Dormant, true) => {
                violation!("orphan-seed", "the slot is empty, the network is not")
            }
            other => violation!("lost-seed", "{other:?}"),
        }
        String::new()
    })
}

/// The code that ships.
struct ByRecord<P: Platform>(P::Mutex<LoneRank>);

impl<P: Platform> Network for ByRecord<P> {
    fn new() -> Self {
        let slot = SeedSlot::new(ASKING, SlotRules::default());
        ByRecord(P::Mutex::new(LoneRank::new(slot)))
    }

    fn germinate(&self) {
        let mut rank = self.0.lock();
        rank.command(SlotCommand::Germinate {
            slot: ASKING,
            seed: SEED,
            blueprint: BlueprintId(1),
        });
        rank.step();
        drop(rank);
        self.0.lock().vote();
    }

    fn snapshot(&self) {
        self.0.lock().snapshot();
    }

    fn roll_back(&self) -> (SeedStage, bool) {
        let mut rank = self.0.lock();
        rank.roll_back();
        (rank.stage(), rank.has(SEED))
    }
}

/// As reported.
struct BooksOnly<P: Platform> {
    stage: P::Mutex<SeedStage>,
    seeds: P::Mutex<Vec<SeedId>>,
    snapshot: P::Mutex<SeedStage>,
}

impl<P: Platform> Network for BooksOnly<P> {
    fn new() -> Self {
        BooksOnly {
            stage: P::Mutex::new(SeedStage::Dormant),
            seeds: P::Mutex::new(Vec::new()),
            snapshot: P::Mutex::new(SeedStage::Dormant),
        }
    }

    fn germinate(&self) {
        self.seeds.lock().push(SEED);
        *self.stage.lock() = SeedStage::Germinated;
    }

    fn snapshot(&self) {
        let stage = *self.stage.lock();
        *self.snapshot.lock() = stage;
    }

    fn roll_back(&self) -> (SeedStage, bool) {
        let stage = *self.snapshot.lock();
        *self.stage.lock() = stage;
        (stage, self.seeds.lock().contains(&SEED))
    }
}
