//! Choices of a body, under every engine: all of them or some of them, and the same ones again
//! from a seed. Some tests here run this test binary once more.
#![cfg(not(loom_run))]

use std::fs;
use std::process::Command;
use std::time::Duration;

use selvedge_sim::explorer::{Explorer, SearchEnd};
use selvedge_sim::platform::{Atomic, AtomicInt, JoinHandle, Ordering, Platform, Shared};
use selvedge_sim::testing::{REPLAY_VARIABLE, TIMELINE_VARIABLE};
use selvedge_sim::{Cx, ExplorerPlatform, Observation, reach, violation};

// ORDERING: SeqCst, all. What is looked at here is not the memory model.
const ORDER: Ordering = Ordering::SeqCst;

/// One writes to the cell of its choice, the other looks into the cell of its choice: only
/// where both chose the same do they race, and only then is the order of the two seen.
fn meets<P: Platform>(cx: &Cx) -> Observation {
    let cells = P::Arc::new([P::AtomicU32::new(0), P::AtomicU32::new(0)]);
    let (theirs, their_cx) = (cells.clone(), cx.clone());
    let other = P::spawn(move || {
        let chosen = their_cx.choose(2);
        theirs[chosen as usize].store(1, ORDER);
        chosen
    });
    let chosen = cx.choose(2);
    let seen = cells[chosen as usize].load(ORDER);
    let theirs = other.join();
    reach(match (theirs, chosen, seen) {
        (0, 0, 0) => "both 0, too early",
        (0, 0, _) => "both 0, seen",
        (0, 1, 0) => "0 and 1",
        (1, 0, 0) => "1 and 0",
        (1, 1, 0) => "both 1, too early",
        (1, 1, _) => "both 1, seen",
        _ => violation!("seen-elsewhere", "{theirs} {chosen} {seen}"),
    });
    Observation::of(format!("{theirs}{chosen}{seen}"))
}

const ALL_MEETINGS: &[&str] = &[
    "both 0, too early",
    "both 0, seen",
    "0 and 1",
    "1 and 0",
    "both 1, too early",
    "both 1, seen",
];

selvedge_sim::model_tests! {
    mod every_meeting_is_reached = meets;
    engines = [explorer, loom, shuttle];
    must_reach = ALL_MEETINGS;
}

/// How many there are depends on the one before.
#[allow(
    clippy::extra_unused_type_parameters,
    reason = "a body has a platform, though this one needs none"
)]
fn dependent<P: Platform>(cx: &Cx) -> Observation {
    let first = cx.choose(3);
    let second = cx.choose(first);
    match (first, second) {
        (0, 0) => reach("0"),
        (1, 0) => reach("1"),
        (2, 0) => reach("2 and 0"),
        (2, 1) => reach("2 and 1"),
        _ => violation!("no-such-choice", "{first} {second}"),
    }
    Observation::of(format!("{first}{second}"))
}

selvedge_sim::model_tests! {
    mod a_choice_may_depend_on_another = dependent;
    must_reach = &["0", "1", "2 and 0", "2 and 1"];
}

/// Fails in few schedules of few choices.
fn fails<P: Platform>(cx: &Cx) -> Observation {
    let sum = P::Arc::new(P::AtomicU32::new(0));
    let others: Vec<_> = (0..2)
        .map(|_| {
            let (sum, cx) = (sum.clone(), cx.clone());
            P::spawn(move || {
                let by = cx.choose(3);
                match cx.choose(2) {
                    0 => drop(sum.fetch_add(by, ORDER)),
                    // Not in one step.
                    _ => sum.store(sum.load(ORDER) + by, ORDER),
                }
                by
            })
        })
        .collect();
    let expected: u32 = others.into_iter().map(JoinHandle::join).sum();
    let found = sum.load(ORDER);
    if found != expected && expected == 3 {
        violation!("lost", "{found} of {expected}");
    }
    Observation::of(found.to_string())
}

selvedge_sim::model_tests! {
    mod a_failure_of_some_choices_is_found = fails;
    engines = [explorer, loom, shuttle];
    must_fail = "lost";
}

selvedge_sim::model_tests! {
    mod shown = fails;
    engines = [#[ignore = "fails"] explorer, #[ignore = "fails"] loom, #[ignore = "fails"] shuttle];
}

/// What the one test says that fails.
fn failing(filter: &str, seed: Option<&str>) -> String {
    let program = std::env::current_exe().expect("a test knows its binary");
    let mut command = Command::new(program);
    command
        .args([filter, "--exact", "--include-ignored"])
        .env_remove(REPLAY_VARIABLE)
        .env_remove(TIMELINE_VARIABLE)
        .env_remove("RUST_BACKTRACE");
    if let Some(seed) = seed {
        command.env(REPLAY_VARIABLE, seed);
    }
    let output = command.output().expect("the test binary starts");
    let text = String::from_utf8(output.stdout).expect("output is UTF-8");
    assert_eq!(output.status.code(), Some(101), "{text}");
    text
}

#[test]
fn a_seed_has_the_choices_in_it() {
    for engine in ["explorer", "loom", "shuttle"] {
        let name = format!("shown::{engine}");
        let text = failing(&name, None);
        let marker = format!("\n{REPLAY_VARIABLE}=");
        let at = text.find(&marker).expect("a seed") + marker.len();
        let seed = text[at..].split(' ').next().expect("a word");
        let seed = fs::read_to_string(seed).unwrap_or_else(|_| seed.to_owned());
        let detail = |text: &str| {
            let found = text
                .lines()
                .find(|line| line.trim_start().ends_with(" of 3"));
            found.expect("what was lost").trim().to_owned()
        };
        let again = failing(&name, Some(&seed));
        assert!(again.contains("violated: lost"), "{again}");
        // The very same choices: others lose another number.
        assert_eq!(detail(&again), detail(&text), "{engine}");
    }
}

#[test]
fn the_explorer_counts_and_replays_choices() {
    let body = || meets::<ExplorerPlatform>(&Cx::new(0, 0, 1));
    let search = Explorer::default().run(body);
    assert_eq!(search.end, SearchEnd::Complete);
    // Two ways where both chose the same, one where they did not.
    assert_eq!(search.executions, 6);
    let together = Explorer {
        workers: 2,
        parallel_after: 0,
        ..Explorer::default()
    };
    assert_eq!(together.run(body).executions, 6);
    assert_eq!(Explorer::default().estimate(50, 1, body).exact, Some(6));

    let body = || fails::<ExplorerPlatform>(&Cx::new(0, 0, 1));
    let SearchEnd::Violated { failure, schedule } = Explorer::default().run(body).end else {
        panic!("not found");
    };
    assert_eq!(schedule.draws.len(), 4, "every choice is in it");
    let again = Explorer::default().replay(&schedule, body);
    assert_eq!(
        again,
        SearchEnd::Violated {
            failure,
            schedule: schedule.clone()
        }
    );
    let limit = Duration::from_secs(5);
    let shrunk = Explorer::default().shrink(&schedule, "lost", limit, body);
    assert_eq!(shrunk.expect("it fails again").after.preemptions, 1);
    let mut wrong = schedule;
    wrong.draws[0] = 7;
    let end = Explorer::default().replay(&wrong, body);
    assert!(matches!(end, SearchEnd::NotDeterministic(_)), "{end:?}");
}

#[test]
fn a_context_goes_wherever_threads_go() {
    fn goes<T: Send + Sync + Clone>(_: T) {}
    let cx = Cx::new(1, 2, 3);
    // Drawn where no engine chooses, the same each time.
    let drawn = |cx: &Cx| (0..20).map(|_| cx.choose(5)).collect::<Vec<_>>();
    let first = drawn(&cx);
    assert_eq!(first, drawn(&Cx::new(1, 2, 3)));
    assert_ne!(first, drawn(&Cx::new(1, 3, 3)));
    assert!((0..5).all(|way| first.contains(&way)));
    assert_eq!((cx.choose(0), cx.choose(1)), (0, 0));
    goes(cx);
}
