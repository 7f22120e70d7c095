//! The origin takes a snapshot of the model now and then, to roll back to after a panic of the
//! training. A seed that became part of the host between two of them was in the books, which
//! were not in the snapshot, and not in the model that came back: parameters of one moment with
//! the stages of another.
//!
//! One thread makes a step and then fossilises the seed; another takes a snapshot. Whatever it
//! got, to go back to it must give stages and parameters of one moment.
//!
//! What ships has a checkpoint that holds the record, and is there only where the parameters
//! are of that record's version.

use selvedge_core::ddp::{
    Ballot, CommitRecord, CoordinatorSays, Epoch, Incarnation, Rank, RankConfig, RankEvent,
    RankSays, RankState, Reduced, RunId, SeedStage, ToRank, View,
};
use selvedge_core::platform::{JoinHandle, Mutex, Platform, Shared};
use selvedge_sim::{Cx, Observation, bodies, reach, violation};

use crate::bed::in_rounds;
use crate::registry::{Expect, Scenario, explorer, loom, native, shuttle};
use crate::slots::{ASKING, advanced, schedule_of, votes};

pub(super) const SCENARIO: Scenario = Scenario {
    id: "E-SNAPSHOT",
    ticket: "esper 2110e29c",
    summary: "a rollback to parameters of one moment with stages of another",
    source: concat!(include_str!("snapshot.rs"), include_str!("../slots.rs")),
    twin: bodies!(roll_back, Apart),
    shipped: bodies!(roll_back, Together),
    signature: "incoherent-rollback",
    must_reach: &["rolled-back"],
    engines: &[
        native(Expect::May("the machine's schedule decides")),
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
        if (stage == SeedStage::Fossilized) != (version == 1) {
            violation!("incoherent-rollback", "{stage}, with parameters {version}");
        }
        reach("rolled-back");
        format!("{stage}, with parameters {version}")
    })
}

/// The code that ships.
struct Together<P: Platform>(P::Mutex<Live>);

struct Live {
    state: RankState,
    params: u64,
    /// Record and parameters, stored together.
    stored: (CommitRecord, u64),
}

impl Live {
    fn on(&mut self, event: RankEvent) {
        self.state.on(event, &mut Vec::new());
    }

    fn hear(&mut self, record: CommitRecord) {
        self.on(RankEvent::Message(ToRank {
            incarnation: Incarnation(1),
            body: CoordinatorSays::Commit {
                view: View(1),
                members: vec![Rank(0)],
                record,
                holders: vec![Rank(0)],
            },
        }));
    }

    fn store(&mut self) {
        if let Some(checkpoint) = self.state.checkpoint() {
            self.stored = (checkpoint.record, self.params);
        }
    }
}

impl<P: Platform> Training for Together<P> {
    fn new() -> Self {
        // It holds, and asks to become part of the host.
        let mut slot = advanced(ASKING, 3);
        if let Err(refused) = slot.advance_stage(Some(SeedStage::Fossilized)) {
            violation!("bad-configuration", "{refused}");
        }
        let genesis = CommitRecord::genesis(RunId(1), Epoch(0), 0, schedule_of([slot]));
        let config = RankConfig {
            run: RunId(1),
            rank: Rank(0),
            last_epoch: Epoch(2),
        };
        let state = RankState::start(config, Incarnation(1), None, &mut Vec::new());
        let mut live = Live {
            state,
            params: 0,
            stored: (genesis.clone(), 0),
        };
        live.hear(genesis);
        live.store();
        Together(P::Mutex::new(live))
    }

    fn step(&self) {
        let mut live = self.0.lock();
        let reduced = Reduced {
            tags_equal: true,
            active: 1,
            more: false,
        };
        live.on(RankEvent::StepDone {
            view: View(1),
            seq: 0,
            reduced,
        });
        live.params += 1;
    }

    fn fossilise(&self) {
        let mut live = self.0.lock();
        let Some(record) = live.state.record().cloned() else {
            violation!("no-record", "it was admitted");
        };
        let votes = votes(&record.schedule, true);
        let mut said = Vec::new();
        live.state.on(
            RankEvent::Voted {
                view: View(1),
                epoch: Epoch(1),
                votes: votes.clone(),
            },
            &mut said,
        );
        let arrived = said.iter().any(|action| {
            use selvedge_core::ddp::RankAction::Send;
            matches!(action, Send(message) if matches!(message.body, RankSays::Arrive { .. }))
        });
        let ballot = Ballot {
            voter: Rank(0),
            votes,
        };
        match record.next(View(1), vec![ballot], &[], live.params) {
            Ok(next) if arrived => live.hear(next),
            other => violation!("no-vote", "{other:?}"),
        }
    }

    fn snapshot(&self) {
        self.0.lock().store();
    }

    fn roll_back(&self) -> (SeedStage, u64) {
        let (record, params) = self.0.lock().stored.clone();
        if record.applied != params {
            violation!("incoherent-rollback", "{params} with {record:?}");
        }
        (record.schedule.slots()[0].stage(), params)
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
