//! `PoolState` against an oracle that is too simple to be wrong (`oracle/mod.rs`): every
//! operation on both, everything visible compared after each. Then the shell, `BlockPool`, with
//! the same operations: whatever is done with leases, in the end all blocks are back.
//!
//! The cases are drawn from a fixed seed, so a run is the same everywhere. Whoever finds a
//! failing sequence pastes what the test prints into `pool_oracle.regressions`, where it is
//! replayed first from then on.

mod oracle;

use std::cell::RefCell;
use std::collections::BTreeSet;

use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestError, TestRng, TestRunner};

use self::oracle::lockstep::Lockstep;
use self::oracle::operation::{Sequence, parse_file, sequences};
use self::oracle::shell::Shell;

const REGRESSIONS: &str = include_str!("pool_oracle.regressions");

/// What 1,024 sequences must come across: everything that can be reached.
const MUST_REACH: &[(&str, &[&str])] = &[
    ("register", &["Ok", "EmptyName"]),
    ("retire", &["Ok", "Unknown", "StillHolds"]),
    ("allocate", ALLOCATE),
    ("allocate_layers", ALLOCATE_LAYERS),
    ("allocate_reserved", ALLOCATE_LAYERS),
    ("free", FREE),
    ("free_agent", &["Ok"]),
    ("exchange", EXCHANGE),
    ("exchange_part", EXCHANGE_PART),
    (
        "reserve",
        &[
            "Ok",
            "UnknownAgent",
            "ZeroBlocks",
            "ExceedsCapacity",
            "Exhausted",
        ],
    ),
    ("unreserve", &["Ok"]),
    ("reconfigure", &["Ok", "InUse", "Config"]),
    ("enqueue", ENQUEUE),
    (
        "claim",
        &[
            "Ok",
            "Waiting",
            "NoTicket",
            "AgentRetired",
            "Reconfigured",
            "Closed",
            "Refused.WindowExceeded",
        ],
    ),
    ("withdraw", &["Ok"]),
    ("close_queue", &["Ok"]),
    ("open_queue", &["Ok"]),
];
const ALLOCATE: &[&str] = &[
    "Ok",
    "UnknownAgent",
    "ZeroBlocks",
    "UnknownLayer",
    "WindowExceeded",
    "ExceedsCapacity",
    "Exhausted",
];
const ALLOCATE_LAYERS: &[&str] = &[
    "Ok",
    "UnknownAgent",
    "ZeroBlocks",
    "UnknownLayer",
    "DuplicateLayer",
    "WindowExceeded",
    "ExceedsCapacity",
    "Exhausted",
];
const ENQUEUE: &[&str] = &[
    "Ok",
    "Closed",
    "Refused.UnknownAgent",
    "Refused.ZeroBlocks",
    "Refused.UnknownLayer",
    "Refused.DuplicateLayer",
    "Refused.WindowExceeded",
    "Refused.ExceedsCapacity",
];
const FREE: &[&str] = &[
    "Ok",
    "UnknownAgent",
    "ForeignPool",
    "NotAllocated",
    "StaleGeneration",
    "WrongOwner",
    "DuplicateInBatch",
];
const EXCHANGE: &[&str] = &[
    "Ok",
    "Old.UnknownAgent",
    "Old.ForeignPool",
    "Old.NotAllocated",
    "Old.StaleGeneration",
    "Old.WrongOwner",
    "Old.DuplicateInBatch",
    "New.ZeroBlocks",
    "New.UnknownLayer",
    "New.DuplicateLayer",
    "New.WindowExceeded",
    "New.ExceedsCapacity",
    "New.Exhausted",
];

/// It may take nothing, so no number of blocks is none; and who is not known is not asked for
/// what it gives up.
const EXCHANGE_PART: &[&str] = &[
    "Ok",
    "Old.ForeignPool",
    "Old.NotAllocated",
    "Old.StaleGeneration",
    "Old.WrongOwner",
    "Old.DuplicateInBatch",
    "New.UnknownAgent",
    "New.ExceedsReservation",
    "New.ZeroBlocks",
    "New.UnknownLayer",
    "New.DuplicateLayer",
    "New.WindowExceeded",
    "New.ExceedsCapacity",
    "New.Exhausted",
];

/// What 512 sequences must do with leases and reservations.
const MUST_DO: &[&str] = &[
    "adopted a persisted lease",
    "dropped a lease",
    "dropped a lease that free_agent had emptied",
    "dropped a reservation",
    "exchanged a part",
    "exchanged a part for what was promised",
    "exchanged in place",
    "failed to exchange",
    "failed to exchange a part",
    "freed a persisted lease",
    "freed another agent's lease: refused",
    "freed under a lease by its handles",
    "got in line",
    "leased",
    "leased after a wait",
    "leased what was reserved",
    "left the line",
    "reconfigured",
    "reserved",
    "retired an agent",
    "shared a lease",
    "was sent away",
    "went on waiting",
];

#[test]
fn regressions_stay_fixed() {
    let sequences = parse_file(REGRESSIONS).unwrap_or_else(|what| panic!("regressions: {what}"));
    assert!(sequences.len() >= 3, "the file holds the known bugs");
    for (name, sequence) in &sequences {
        if let Err(what) = Lockstep::run(sequence) {
            panic!("sequence {name} fails again: {what}");
        }
        if let Err(what) = Shell::run(sequence) {
            panic!("sequence {name} fails again in the shell: {what}");
        }
    }
}

#[test]
fn the_state_does_what_the_oracle_does() {
    let wanted = (MUST_REACH.iter())
        .flat_map(|(call, outcomes)| outcomes.iter().map(move |o| format!("{call}: {o}")))
        .collect();
    must_reach(wanted, 1_024, Lockstep::run);
}

#[test]
fn whatever_is_done_with_leases_all_blocks_come_back() {
    let wanted = MUST_DO.iter().map(ToString::to_string).collect();
    must_reach(wanted, 512, Shell::run);
}

/// Runs `cases` sequences, which must between them come across `wanted` and nothing else.
#[track_caller]
fn must_reach(
    wanted: BTreeSet<String>,
    cases: u32,
    run: fn(&Sequence) -> Result<BTreeSet<String>, String>,
) {
    // Some take luck; the regressions are there for them.
    let known = parse_file(REGRESSIONS).unwrap_or_else(|what| panic!("regressions: {what}"));
    let known = known.iter().filter_map(|(_, sequence)| run(sequence).ok());
    let reached = RefCell::new(known.flatten().collect::<BTreeSet<String>>());
    check_sequences(cases, |sequence| {
        reached.borrow_mut().extend(run(sequence)?);
        Ok(())
    });
    let reached = reached.into_inner();
    let missed: Vec<_> = wanted.difference(&reached).collect();
    assert!(
        missed.is_empty(),
        "never reached, so never tested: {missed:?}"
    );
    let unforeseen: Vec<_> = reached.difference(&wanted).collect();
    assert!(unforeseen.is_empty(), "not listed: {unforeseen:?}");
}

#[test]
fn a_sequence_is_read_back_as_it_was_written() {
    check_sequences(64, |sequence| {
        let text = format!("sequence it\n{sequence}");
        let read = parse_file(&text)?;
        match read.as_slice() {
            [(_, again)] if again.operations == sequence.operations => Ok(()),
            _ => Err(format!("{read:?}")),
        }
    });
}

#[test]
fn a_mistake_in_the_file_is_found_by_its_line() {
    for (text, wanted) in [
        ("register a", "line 1: no sequence was begun"),
        (
            "sequence s\n\nretire @1",
            "line 3: a sequence begins with its pool",
        ),
        (
            "sequence s\npool 1 cap=1 g\nfree @1 mine",
            "line 3: \"mine\" is no handle",
        ),
        (
            "sequence s\npool 1 cap=1 x",
            "line 2: layer 'x' is neither g nor s",
        ),
        (
            "sequence s\npool 1 cap=1 g\nfly @1",
            "line 3: \"fly @1\" is no operation",
        ),
        (
            "sequence s\npool 1 cap=1 g\nallocate 0x1",
            "line 3: \"allocate\" is not followed by an agent, @..",
        ),
        ("sequence s", "end of file: sequence s has no pool"),
    ] {
        assert_eq!(parse_file(text).unwrap_err(), wanted);
    }
}

/// Draws sequences from a fixed seed; panics with the smallest that fails, ready to paste.
#[track_caller]
fn check_sequences(cases: u32, check: impl Fn(&Sequence) -> Result<(), String>) {
    let config = Config {
        cases,
        failure_persistence: None,
        ..Config::default()
    };
    let rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let result = TestRunner::new_with_rng(config, rng).run(&sequences(), |sequence| {
        check(&sequence).map_err(TestCaseError::fail)
    });
    match result {
        Ok(()) => {}
        Err(TestError::Fail(what, sequence)) => panic!(
            "{what}\n\nThe smallest such sequence, to be pasted into pool_oracle.regressions:\n\n\
             # (what it caught)\nsequence (a name)\n{sequence}"
        ),
        Err(TestError::Abort(why)) => panic!("no cases: {why}"),
    }
}
