//! How ends of processes are told apart, on processes that are shell scripts.

use std::fs;
use std::ops::ControlFlow;
use std::os::unix::fs::PermissionsExt;

use super::*;

/// Runs one rank that is this script, under a coordinator that only listens.
fn run_script(rank: &str) -> Outcome {
    let dir = tempfile::tempdir().unwrap();
    let program = dir.path().join("program");
    let listening = r#"{"event":"listening","address":"127.0.0.1:9"}"#;
    let script = format!(
        "#!/bin/sh\ncase \"$*\" in\n*only*) echo '{listening}'; read -r line;;\n*) {rank};;\nesac\n"
    );
    fs::write(&program, script).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o700)).unwrap();
    let config = FleetConfig {
        program,
        dir: dir.path().into(),
        run: "r".into(),
        token: "t".into(),
        world: 1,
        min_world: 1,
        epochs: 1,
        seed: 1,
        batch_time: Duration::ZERO,
        patience: Duration::from_millis(100),
        // So that the rank's silence is found before that of all of them.
        deadline: Duration::from_secs(2),
        grace: Duration::ZERO,
        profile: None,
        plan: Vec::new(),
    };
    run(&config, &mut |_| ControlFlow::Continue(())).unwrap()
}

fn end_of(rank: &str) -> End {
    let outcome = run_script(rank);
    assert_eq!(outcome.ranks[0].ends.len(), 1, "{:?}", outcome.ranks[0]);
    outcome.ranks[0].ends[0].clone()
}

#[test]
fn a_crash_passes_for_nothing_else() {
    let failed = r#"echo '{"event":"failed","reason":"evicted","detail":"d","before":[]}'"#;
    let said = |exit: &str| end_of(&format!("{failed}; {exit}"));
    assert!(matches!(said("exit 15"), End::Failed { .. }));
    for crash in ["exit 101", "exit 0", "kill -ABRT $$"] {
        match said(crash) {
            End::Died { how } => assert!(how.contains("after it said"), "{how}"),
            end => panic!("{crash}: {end:?}"),
        }
    }
    for crash in ["exit 101", "exit 0", "exit 15", "kill -KILL $$"] {
        let end = end_of(crash);
        assert!(matches!(end, End::Died { .. }), "{crash}: {end:?}");
    }
    let done = r#"echo '{"event":"done"}'; exit"#;
    assert!(matches!(end_of(&format!("{done} 3")), End::Died { .. }));
}

#[test]
fn a_rank_that_says_nothing_more_hangs() {
    let outcome = run_script(r#"echo '{"event":"started","batches":1}'; exec sleep 600"#);
    assert_eq!(
        outcome.ranks[0].ends,
        [End::Hung {
            last: "started, 1 batches an epoch".into()
        }]
    );
    assert!(!outcome.stuck, "it was found by itself");
}
