//! A seed of a bug, followed on code in which it is fixed, on the same code, and on code with
//! another bug: what comes of it, and how far it was kept to.

use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use selvedge_core::platform::{Atomic, AtomicInt, JoinHandle, Ordering, Platform, Shared};
use selvedge_sim::child::{self, Children, Launcher, Request, UNIT_VARIABLE};
use selvedge_sim::follow::Followed;
use selvedge_sim::model::{ModelBody, ModelEnd, Row, Walk, WalkEnd};
use selvedge_sim::unit::Task;
use selvedge_sim::{
    Bodies, Cx, DecisionLog, Engine, Failure, FailureKind, Observation, Seed, Variant, bodies,
    host, violation,
};

/// Two threads add one to a counter, each as it is told.
fn count<P: Platform>(add_one: fn(&P::AtomicU32)) -> u32 {
    let n = P::Arc::new(P::AtomicU32::new(0));
    let theirs = n.clone();
    let other = P::spawn(move || add_one(&theirs));
    add_one(&n);
    other.join();
    n.load(Ordering::SeqCst)
}

/// Reads, then writes: what the other adds in between is lost.
fn lossy<P: Platform>(_: &Cx) -> Observation {
    let n = count::<P>(|n| n.store(n.load(Ordering::SeqCst) + 1, Ordering::SeqCst));
    if n != 2 {
        violation!("lost-update", "it is {n}");
    }
    Observation::none()
}

fn fixed<P: Platform>(_: &Cx) -> Observation {
    let n = count::<P>(|n| {
        n.fetch_add(1, Ordering::SeqCst);
    });
    if n != 2 {
        violation!("lost-update", "it is {n}");
    }
    Observation::none()
}

/// Nothing is lost, but something else is wrong.
fn wrong<P: Platform>(_: &Cx) -> Observation {
    let n = count::<P>(|n| {
        n.fetch_add(2, Ordering::SeqCst);
    });
    violation!("too-many", "it is {n}")
}

/// No thread is started: no switch of the seed is possible.
fn alone<P: Platform>(_: &Cx) -> Observation {
    P::AtomicU32::new(0).store(1, Ordering::SeqCst);
    Observation::none()
}

/// Steps along a path of at most two actions, and then there is no more.
fn walk(path: &[u32]) -> Walk {
    let row = |at| Row {
        column: 0,
        text: "adds one".to_owned(),
        state: at,
    };
    let end = match path.get(1) {
        Some(7) => WalkEnd::Violated(Failure {
            kind: FailureKind::Property,
            signature: "seven".to_owned(),
            detail: "seven".to_owned(),
            location: String::new(),
        }),
        _ if path.len() > 3 => WalkEnd::Stale("there is no third action".to_owned()),
        _ => WalkEnd::Well,
    };
    Walk {
        columns: vec!["counter".to_owned()],
        rows: (1..path.len().min(3) as u64).map(row).collect(),
        end,
    }
}

const MODEL: Bodies = Bodies::of_model(ModelBody {
    search: |_| ModelEnd::Cut { states: 0 },
    walk,
});

/// Children of this test, which are this test once more.
fn children(test: &str) -> Children {
    if let Some(file) = std::env::var_os(UNIT_VARIABLE) {
        let spec = child::serve(Path::new(&file)).expect("the parent wrote it");
        child::end_with_parent();
        let bodies = match &*spec.scenario {
            "lossy" => bodies!(lossy),
            "fixed" => bodies!(fixed),
            "wrong" => bodies!(wrong),
            "alone" => bodies!(alone),
            _ => MODEL,
        };
        host::run(&spec, &bodies).expect("its records can be written");
        std::process::exit(0);
    }
    let program = std::env::current_exe().expect("it runs");
    Children::by(Launcher::test(&program, test)).expect("there is room for a folder")
}

const LIMIT: Duration = Duration::from_secs(60);
static GO_ON: AtomicBool = AtomicBool::new(false);

/// The seed of the lost update, under this engine.
fn seed(children: &Children, engine: &str) -> Seed {
    let request = Request {
        scenario: "lossy".to_owned(),
        variant: Variant::Shipped,
        engine: engine.parse().expect("an engine"),
        task: Task::Search {
            seed: 1,
            executions: 1_000,
        },
        rounds: 1,
        workers: 1,
        most_bytes: u64::MAX,
        limit: LIMIT,
    };
    let outcome = (children.run(&request, &GO_ON, |_| ())).expect("it starts");
    let seed = children.seed_of(&request, &outcome, "0", &GO_ON);
    seed.expect("it starts").expect("the update is lost")
}

fn followed(children: &Children, seed: &Seed, scenario: &str) -> Followed {
    let seed = Seed {
        scenario: scenario.to_owned(),
        ..seed.clone()
    };
    children.follow(&seed, LIMIT, &GO_ON).expect("it starts")
}

#[track_caller]
fn violates(followed: Followed, signature: &str) {
    let Followed::Violated(failure) = followed else {
        panic!("{followed:?}")
    };
    assert_eq!(failure.signature, signature);
    assert!(failure.detail.starts_with("it is "), "{failure:?}");
}

#[test]
fn a_schedule_is_kept_to_as_far_as_the_code_allows() {
    let children = children("a_schedule_is_kept_to_as_far_as_the_code_allows");
    for engine in ["explorer", "shuttle"] {
        let seed = seed(&children, engine);
        let DecisionLog::Schedule(schedule) = &seed.log else {
            panic!("{seed:?}")
        };
        violates(followed(&children, &seed, "lossy"), "lost-update");
        violates(followed(&children, &seed, "wrong"), "too-many");
        let Followed::Well { kept, of } = followed(&children, &seed, "fixed") else {
            panic!("{engine}: the update is lost again")
        };
        // Up to the load it is the same code; there the switch takes place, and its thread ends
        // earlier than it did.
        let first = u64::from(schedule.steps[0].1);
        assert_eq!(of, schedule.len());
        assert!(
            first < kept && kept < of,
            "{engine}: {first} < {kept} < {of}"
        );
        let Followed::Well { kept, of } = followed(&children, &seed, "alone") else {
            panic!("{engine}: nothing is wrong with it")
        };
        assert!(kept <= first && first < of, "{engine}: {kept} of {of}");
    }
}

#[test]
fn loom_searches_with_as_many_preemptions_instead() {
    let children = children("loom_searches_with_as_many_preemptions_instead");
    let seed = seed(&children, "loom");
    violates(followed(&children, &seed, "lossy"), "lost-update");
    violates(followed(&children, &seed, "wrong"), "too-many");
    let Followed::Searched {
        preemptions,
        executions,
    } = followed(&children, &seed, "fixed")
    else {
        panic!("the update is lost again")
    };
    // A stale read loses the update, and takes no preemption.
    assert_eq!((preemptions, executions), (0, 1));
    let unreadable = Seed {
        log: DecisionLog::Checkpoint {
            path: "{}".to_owned(),
            choices: Vec::new(),
        },
        ..seed
    };
    let none = followed(&children, &unreadable, "fixed");
    assert!(matches!(none, Followed::Impossible(_)), "{none:?}");
}

#[test]
fn a_path_is_walked_as_far_as_there_are_such_actions() {
    let children = children("a_path_is_walked_as_far_as_there_are_such_actions");
    let of = |actions: &[u32]| {
        let seed = Seed {
            scenario: "model".to_owned(),
            variant: Variant::Shipped,
            engine: Engine::Stateright,
            revision: "0".to_owned(),
            signature: "seven".to_owned(),
            trace: None,
            log: DecisionLog::Path {
                actions: actions.to_vec(),
                shortest: true,
            },
        };
        followed(&children, &seed, "model")
    };
    assert_eq!(of(&[0, 1, 1]), Followed::Well { kept: 2, of: 2 });
    assert_eq!(of(&[0, 1, 1, 1]), Followed::Well { kept: 2, of: 3 });
    let violated = of(&[0, 7]);
    assert!(matches!(violated, Followed::Violated(f) if f.signature == "seven"));
}
