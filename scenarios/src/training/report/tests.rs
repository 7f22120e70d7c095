//! What is a violation and what is none, on runs that were doctored in one place.

use std::ops::RangeInclusive;
use std::path::PathBuf;

use super::*;
use crate::training::chaos::{Cut, Fault};
use crate::training::fleet::Standing;
use crate::training::job::genesis;
use crate::training::trajectory::Journal;
use crate::training::worker::EpochLoss;
use selvedge_core::ddp::{CommitRecord, Epoch, RunId};

const EPOCHS: u64 = 3;

const CUT: Fault = Fault::CutOff {
    rank: 1,
    cut: Cut::All,
};

fn planned(fault: Fault) -> Planned {
    Planned { epoch: 2, fault }
}

fn failed(reason: &str) -> End {
    End::Failed {
        reason: reason.into(),
        detail: String::new(),
        before: Vec::new(),
    }
}

/// A run of two ranks with a life each, as it would be written down.
fn ran(dir: PathBuf, chaos: bool, change: impl Fn(u32, &mut Line)) -> (FleetConfig, Outcome) {
    let config = FleetConfig {
        program: PathBuf::new(),
        dir,
        run: "r".into(),
        token: "t".into(),
        world: 2,
        min_world: 1,
        epochs: EPOCHS,
        seed: 1,
        batch_time: Duration::ZERO,
        patience: Duration::ZERO,
        deadline: Duration::ZERO,
        grace: Duration::ZERO,
        profile: None,
        plan: match chaos {
            true => vec![planned(CUT)],
            false => Vec::new(),
        },
    };
    let status = |rank| {
        let mut to = Journal::create(&config.dir.join(journal(rank, 1))).unwrap();
        for epoch in 0..=EPOCHS {
            let record = record(epoch);
            let loss = 1.0 / (1.0 + epoch as f64);
            let mut line = Line::of(
                &record,
                Some(epoch),
                Some(EpochLoss {
                    loss,
                    accuracy: 1.0,
                }),
            );
            change(rank, &mut line);
            to.write(&line).unwrap();
        }
        RankStatus {
            standing: Standing::Done,
            life: 1,
            line: None,
            view: 1,
            ends: vec![End::Done],
            commits: Vec::new(),
            last: String::new(),
        }
    };
    let outcome = Outcome {
        ranks: (0..2).map(status).collect(),
        coordinator_lives: 1,
        coordinator_ends: vec![End::Done],
        faults: (config.plan.iter())
            .map(|planned| (*planned, Some(2)))
            .collect(),
        over: true,
        stuck: false,
        interrupted: false,
        commits: BTreeMap::new(),
        steps: BTreeMap::new(),
    };
    (config, outcome)
}

fn record(epoch: u64) -> CommitRecord {
    let mut record = genesis(RunId(1));
    record.epoch = Epoch(epoch);
    record
}

/// What it comes to where the coordinator has logged these epochs.
fn judged(config: &FleetConfig, outcome: &Outcome, logged: RangeInclusive<u64>) -> DdpReport {
    let mut written = written(config, outcome).unwrap();
    let log = logged.map(|epoch| Line::of(&record(epoch), None, None));
    written.push((Author::Log, log.collect()));
    weigh(config, outcome, Duration::ZERO, &written)
}

fn told(config: &FleetConfig, outcome: &Outcome) -> Vec<String> {
    let report = judged(config, outcome, 0..=EPOCHS);
    report.violations.iter().map(ToString::to_string).collect()
}

/// Leaves of rank 1's journal what `keep` says.
fn doctor(config: &FleetConfig, keep: impl Fn(u64) -> bool) {
    let path = config.dir.join(journal(1, 1));
    let lines = read(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    let mut journal = Journal::create(&path).unwrap();
    for line in lines.iter().filter(|line| keep(line.epoch)) {
        journal.write(line).unwrap();
    }
}

#[test]
fn one_bit_of_one_alpha_of_one_rank_is_a_violation() {
    let dir = tempfile::tempdir().unwrap();
    let (config, outcome) = ran(dir.path().into(), false, |_, _| {});
    let report = judged(&config, &outcome, 0..=EPOCHS);
    assert_eq!(report.violations, []);
    // Four of each rank and of the log, which knows no parameters.
    let counted = (report.records_compared, report.parameters_compared);
    assert_eq!((counted, report.losses.len()), ((12, 8), 3));

    let dir = tempfile::tempdir().unwrap();
    let (config, outcome) = ran(dir.path().into(), false, |rank, line| {
        if (rank, line.epoch) == (1, 2) {
            line.slots[0].bits = "0000000000000001".into();
        }
    });
    let told = told(&config, &outcome);
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(
        told[0].starts_with("epoch 2: alpha of the coordinator's log is 0:0000"),
        "{told:?}"
    );
}

#[test]
fn each_way_of_ending_is_judged() {
    let hung = End::Hung {
        last: String::new(),
    };
    let died = End::Died { how: String::new() };
    for (end, calm, chaos) in [
        (failed("evicted"), false, true),
        (failed("tag-mismatch"), false, false),
        (End::Killed, false, true),
        (hung, false, false),
        (died, false, false),
    ] {
        for (wild, right) in [(false, calm), (true, chaos)] {
            let dir = tempfile::tempdir().unwrap();
            let (config, mut outcome) = ran(dir.path().into(), wild, |_, _| {});
            outcome.ranks[1].ends = vec![end.clone()];
            assert_eq!(told(&config, &outcome).is_empty(), right, "{end:?}, {wild}");
        }
    }
}

#[test]
fn a_run_that_stops_early_hangs_or_learns_nothing_is_no_success() {
    let dir = tempfile::tempdir().unwrap();
    let (mut config, mut outcome) = ran(dir.path().into(), true, |_, _| {});
    config.epochs = 4;
    let early = |told: &String| told.starts_with("the run ended after epoch 3");
    assert!(told(&config, &outcome).iter().any(early));
    for status in &mut outcome.ranks {
        status.ends = vec![End::Hung {
            last: String::new(),
        }];
    }
    outcome.over = false;
    outcome.stuck = true;
    let report = judged(&config, &outcome, 0..=EPOCHS);
    assert!(
        report.violations.iter().all(Violation::is_hang),
        "{:?}",
        report.violations
    );
    let dir = tempfile::tempdir().unwrap();
    let (config, outcome) = ran(dir.path().into(), true, |_, line| {
        line.loss = line.loss.map(|loss| EpochLoss { loss: 0.7, ..loss });
    });
    assert!(told(&config, &outcome)[0].contains("learned nothing"));
}

#[test]
fn who_was_there_to_the_end_must_have_written_it_down() {
    type Keep = fn(u64) -> bool;
    let holds = |has| format!("rank 1's life 1 should hold epochs {has}");
    let nothing: Keep = |_| false;
    let to_the_last_but_one: Keep = |epoch| epoch < EPOCHS;
    let from_the_second: Keep = |epoch| epoch > 1;
    for (wild, keep, expected) in [
        (false, nothing, "0 to 3, and holds none"),
        (true, nothing, "0 to 3, and holds none"),
        (false, to_the_last_but_one, "0 to 3, and holds 0 to 2"),
        (true, to_the_last_but_one, "0 to 3, and holds 0 to 2"),
        (false, from_the_second, "0 to 3, and holds 2 to 3"),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let (config, outcome) = ran(dir.path().into(), wild, |_, _| {});
        doctor(&config, keep);
        assert_eq!(told(&config, &outcome), [holds(expected)]);
    }
    let dir = tempfile::tempdir().unwrap();
    let (config, outcome) = ran(dir.path().into(), true, |_, _| {});
    doctor(&config, from_the_second);
    assert!(told(&config, &outcome).is_empty(), "it came again");
    std::fs::remove_file(config.dir.join(journal(1, 1))).unwrap();
    assert_eq!(
        told(&config, &outcome),
        [holds("0 to 3, and holds none")],
        "no file is no excuse"
    );
}

/// The log is compared with what the ranks have applied, and stands for nobody.
#[test]
fn a_log_that_is_gone_or_not_whole_is_a_violation_and_is_no_rank() {
    let dir = tempfile::tempdir().unwrap();
    let (mut config, outcome) = ran(dir.path().into(), false, |_, _| {});
    let of = |report: DdpReport| -> Vec<String> {
        report.violations.iter().map(ToString::to_string).collect()
    };
    let gone = judge(&config, &outcome, Duration::ZERO).unwrap();
    let should = "the coordinator's log should hold epochs 0 to 3, and holds ";
    assert_eq!(of(gone), [format!("{should}none")]);
    let short = judged(&config, &outcome, 0..=2);
    assert_eq!(of(short), [format!("{should}0 to 2")]);

    config.epochs = 4;
    let alone = of(judged(&config, &outcome, 0..=4));
    let early = |told: &String| told.starts_with("the run ended after epoch 3");
    assert!(alone.iter().any(early), "{alone:?}");
}

#[test]
fn a_loss_that_nobody_knows_or_that_is_no_number_has_not_fallen() {
    for (epoch, loss) in [(1, None), (EPOCHS, None), (EPOCHS, Some(f64::NAN))] {
        let dir = tempfile::tempdir().unwrap();
        let (config, outcome) = ran(dir.path().into(), false, |_, line| {
            // JSON has nothing that is no number: that is put in below.
            if line.epoch == epoch && loss.is_none() {
                line.loss = None;
            }
        });
        let mut written = written(&config, &outcome).unwrap();
        let log = (0..=EPOCHS).map(|epoch| Line::of(&record(epoch), None, None));
        written.push((Author::Log, log.collect()));
        for line in written.iter_mut().flat_map(|(_, lines)| lines) {
            if let (true, Some(loss), Some(known)) = (line.epoch == epoch, loss, &mut line.loss) {
                known.loss = loss;
            }
        }
        let report = weigh(&config, &outcome, Duration::ZERO, &written);
        let told = report.violations.iter().map(ToString::to_string);
        let told: Vec<String> = told.collect();
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(told[0].starts_with("the model has learned nothing"));
    }
}

#[test]
fn a_rank_whose_parameters_nobody_knows_is_a_violation() {
    let dir = tempfile::tempdir().unwrap();
    let (config, outcome) = ran(dir.path().into(), false, |rank, line| {
        if (rank, line.epoch) == (1, 2) {
            line.model = None;
        }
    });
    let told = told(&config, &outcome);
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].contains("what its parameters were then is not known"));
}

/// A failure is excused only where something was done that explains it.
#[test]
fn failures_are_held_against_whom_the_plan_hit() {
    let kill = Fault::KillCoordinator { ms: 1 };
    let restart = Fault::Restart { rank: 1 };
    let none = None::<Fault>;
    for (rank, reason, fault, right) in [
        (1, "quorum-lost", Some(CUT), false),
        (1, "coordinator-lost", Some(CUT), true),
        (0, "coordinator-lost", Some(CUT), false),
        (1, "coordinator-lost", Some(restart), false),
        (0, "coordinator-lost", Some(kill), true),
        (0, "coordinator-lost", none, false),
        (1, "state-lost", Some(restart), true),
        (0, "state-lost", Some(restart), false),
        (0, "stalled", Some(restart), false),
        (1, "bad-record", Some(restart), false),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let (config, mut outcome) = ran(dir.path().into(), true, |_, _| {});
        let done = fault.map(|fault| (planned(fault), Some(2)));
        outcome.faults = done.into_iter().collect();
        if fault == Some(kill) {
            outcome.coordinator_lives = 2;
            outcome.coordinator_ends = vec![End::Killed, End::Done];
        }
        outcome.ranks[rank].ends = vec![failed(reason)];
        let told = told(&config, &outcome);
        assert_eq!(
            told.is_empty(),
            right,
            "{rank} {reason} {fault:?}: {told:?}"
        );
    }
}

#[test]
fn an_eviction_that_nothing_was_done_for_is_said_and_is_no_violation() {
    let dir = tempfile::tempdir().unwrap();
    let (config, mut outcome) = ran(dir.path().into(), true, |_, _| {});
    for (rank, falsely) in [(1, false), (0, true)] {
        for status in &mut outcome.ranks {
            status.ends = vec![End::Done];
        }
        outcome.ranks[rank].ends = vec![failed("evicted")];
        let report = judged(&config, &outcome, 0..=EPOCHS);
        assert_eq!(report.violations, []);
        let expected = FalseSuspicion { rank: 0, life: 1 };
        let expected: Vec<_> = falsely.then_some(expected).into_iter().collect();
        assert_eq!(report.false_suspicions, expected);
    }
}

#[test]
fn what_was_not_done_and_whom_nobody_killed_is_found() {
    let dir = tempfile::tempdir().unwrap();
    let (config, whole) = ran(dir.path().into(), true, |_, _| {});
    let kill = planned(Fault::KillCoordinator { ms: 1 });
    let died = End::Died { how: String::new() };

    let mut outcome = whole.clone();
    outcome.faults[0].1 = None;
    let report = judged(&config, &outcome, 0..=EPOCHS);
    let cut = planned(CUT);
    assert_eq!(report.violations, [Violation::NotDone { planned: cut }]);
    outcome.interrupted = true;
    assert!(told(&config, &outcome).is_empty());

    // The coordinator's kills, its lives' ends, and whether that fits.
    for (kills, ends, right) in [
        (0, vec![End::Done], true),
        (1, vec![End::Killed, End::Done], true),
        (0, vec![End::Killed, End::Done], false),
        (2, vec![End::Killed, End::Done], false),
        (1, vec![died, End::Done], false),
        (1, vec![End::Done, End::Done], false),
        (1, vec![End::Killed, End::Killed], false),
        (0, vec![failed("aborted")], false),
    ] {
        let mut outcome = whole.clone();
        outcome.coordinator_lives = ends.len() as u32;
        outcome.coordinator_ends = ends.clone();
        outcome.faults = vec![(kill, Some(2)); kills];
        let told = told(&config, &outcome);
        assert_eq!(told.is_empty(), right, "{kills} {ends:?}: {told:?}");
    }
    let mut outcome = whole;
    outcome.coordinator_ends.clear();
    assert_eq!(
        told(&config, &outcome),
        ["the coordinator's life 1 has not ended"]
    );
}

#[test]
fn a_panic_is_found_however_the_process_ended() {
    let dir = tempfile::tempdir().unwrap();
    let complaint = dir.path().join("rank-0.life-1.err");
    std::fs::write(&complaint, "a warning\n").unwrap();
    assert_eq!(account::panics(dir.path()).unwrap(), []);
    std::fs::write(&complaint, "a\nthread 'x' panicked at src/y.rs:1:2:\nz\n").unwrap();
    let found = account::panics(dir.path()).unwrap();
    assert_eq!(found.len(), 1);
    assert_eq!(
        found[0].to_string(),
        "rank-0.life-1.err: thread 'x' panicked at src/y.rs:1:2:"
    );
}
