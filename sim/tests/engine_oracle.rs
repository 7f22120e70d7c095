//! `BatchEngine` against an oracle that is too simple to be wrong (`engine/oracle.rs`): random
//! operations, faults of the backend, other users of the pool, and calls in the middle of
//! calls. After each, the books of engine, pool and backend must agree; in the end every
//! request has ended once, with the tokens it must have, and every block is back.
//!
//! The cases are drawn from a fixed seed, so a run is the same everywhere. `SELVEDGE_CASES`
//! draws more. Whoever finds a failing sequence pastes what the test prints into
//! `engine_regressions.rs`, where it is replayed from then on.

mod engine;

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::env;

use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestError, TestRng, TestRunner};

use self::engine::operation::{Sequence, sequences};
use self::engine::world::World;

/// What the cases must come across between them.
const MUST_REACH: &[&str] = &[
    "cache put",
    "cache taken",
    "cancel: Ended",
    "cancel: Ok",
    "cancel: Unknown",
    "cancelled: Deadline",
    "cancelled: Requested",
    "cancelled: ShutDown",
    "completed: Length",
    "completed: Stop",
    "died",
    "drain: Closed",
    "drain: Draining",
    "drain: Ok",
    "drained",
    "draintimedout",
    "evicted",
    "extend: Panic",
    "extend: Slow",
    "extract: Error",
    "extract: OutOfMemory",
    "extract: Panic",
    "extract: Short",
    "extract: Slow",
    "failed: EngineDead",
    "failed: InsertFailed",
    "failed: PoolRefused",
    "failed: Protocol",
    "failed: Silent",
    "fault: Duplicate",
    "fault: ExtractFailed",
    "fault: UnknownSequence",
    "insert: Error",
    "insert: ErrorTakingPrefix",
    "insert: OutOfMemory",
    "insert: Panic",
    "insert: Slow",
    "no cache to take",
    "nothing reused",
    "other weights",
    "overtaken",
    "preempted",
    "put: AgentBusy",
    "put: Closed",
    "reconfigure: Backend",
    "reconfigure: Closed",
    "reconfigure: InUse",
    "reconfigure: Ok",
    "reconfigure: Pool",
    "remove: Panic",
    "remove: Slow",
    "resume: Closed",
    "resume: Ok",
    "reused",
    "reused a part of a cache",
    "reused all of a cache",
    "reused in several layers",
    "reused what has slid",
    "started",
    "step: DuplicateFinish",
    "step: DuplicateToken",
    "step: Error",
    "step: OutOfMemory",
    "step: Panic",
    "step: Silence",
    "step: Slow",
    "step: UnknownId",
    "step: UnplannedId",
    "submit: AgentBusy",
    "submit: Closed",
    "submit: DeadlinePassed",
    "submit: EmptyPrompt",
    "submit: NeverFits",
    "submit: Ok",
    "submit: QueueFull",
    "submit: ZeroTokens",
    "swap: Error",
    "swap: OutOfMemory",
    "swap: Panic",
    "swap: Slow",
    "the same weights",
    "token",
];

#[test]
fn the_engine_keeps_what_callers_rely_on() {
    let cases = env::var("SELVEDGE_CASES").ok().and_then(|n| n.parse().ok());
    let reached = RefCell::new(BTreeSet::new());
    check_sequences(cases.unwrap_or(1_000), |sequence| {
        reached.borrow_mut().extend(World::run(sequence)?);
        Ok(())
    });
    let reached = reached.into_inner();
    let wanted: BTreeSet<String> = MUST_REACH.iter().map(ToString::to_string).collect();
    let missed: Vec<_> = wanted.difference(&reached).collect();
    assert!(
        missed.is_empty(),
        "never reached, so never tested: {missed:?}"
    );
    let unforeseen: Vec<_> = reached.difference(&wanted).collect();
    assert!(unforeseen.is_empty(), "not listed: {unforeseen:?}");
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
        Err(TestError::Fail(what, sequence)) => {
            let Sequence {
                shape,
                faults,
                operations,
            } = sequence;
            let line = |of: &dyn std::fmt::Debug| format!("        {of:?},\n");
            let faults: String = faults.iter().map(|fault| line(fault)).collect();
            let lines: String = operations.iter().map(|operation| line(operation)).collect();
            panic!(
                "{what}\n\nThe smallest such sequence, for engine_regressions.rs:\n\n\
                 Sequence {{\n    shape: {shape:?},\n    faults: vec![\n{faults}    ],\n    operations: vec![\n{lines}    ],\n}}"
            )
        }
        Err(TestError::Abort(why)) => panic!("no cases: {why}"),
    }
}
