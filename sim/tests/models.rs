//! Models in children of their own, as `check` runs them: what goes wrong in a search is the
//! engine's failure and never a finding.

use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::thread;
use std::time::Duration;

use selvedge_sim::child::{self, Children, Launcher, Outcome, Request, UNIT_VARIABLE};
use selvedge_sim::model::{ModelBody, ModelEnd, ModelRun, Walk, WalkEnd};
use selvedge_sim::unit::Task;
use selvedge_sim::{Bodies, Class, DecisionLog, Engine, Seed, Variant, host};

fn walk(path: &[u32]) -> Walk {
    assert!(path.len() < 3, "the walk panics");
    Walk {
        columns: Vec::new(),
        rows: Vec::new(),
        end: WalkEnd::Well,
    }
}

/// Runs this in a child, which is the test of that name once more.
fn outcome(test: &str, search: fn(&ModelRun<'_>) -> ModelEnd, task: Task) -> Outcome {
    if let Some(file) = std::env::var_os(UNIT_VARIABLE) {
        let spec = child::serve(Path::new(&file)).expect("the parent wrote it");
        child::end_with_parent();
        let body = ModelBody { search, walk };
        host::run(&spec, &Bodies::of_model(body)).expect("its records can be written");
        std::process::exit(0);
    }
    let program = std::env::current_exe().expect("it runs");
    let children = Children::by(Launcher::test(&program, test));
    let children = children.expect("there is room for a folder");
    let request = Request {
        scenario: "counter".to_owned(),
        variant: Variant::Shipped,
        engine: Engine::Stateright,
        task,
        rounds: 1,
        workers: 2,
        most_bytes: 1 << 30,
        limit: Duration::from_secs(60),
    };
    children
        .run(&request, &AtomicBool::new(false), |_| ())
        .expect("this program can be started")
}

const SEARCH: Task = Task::Search {
    seed: 1,
    executions: 0,
};

#[track_caller]
fn fails(outcome: &Outcome, parts: &[&str]) {
    let verdict = outcome.verdict(Engine::Stateright);
    assert_eq!(verdict.class(), Class::EngineError, "{verdict:?}");
    let said = verdict.scope();
    for part in parts {
        assert!(said.contains(part), "{said}");
    }
}

#[test]
fn a_panic_of_a_checkers_thread_is_for_the_search_to_tell() {
    let search = |_: &ModelRun<'_>| {
        // As a checker's thread dies of it, and whoever waits for the thread learns so.
        let thread = thread::spawn(|| panic!("in a thread of the checker's"));
        assert!(thread.join().is_err());
        ModelEnd::Failed {
            states: 7,
            what: "the model's code panics after 2 actions: [0, 1]".to_owned(),
        }
    };
    let test = "a_panic_of_a_checkers_thread_is_for_the_search_to_tell";
    let outcome = outcome(test, search, SEARCH);
    fails(&outcome, &["after 2 actions: [0, 1]"]);
    assert_eq!(outcome.executions, 7);
}

#[test]
fn where_a_model_panics_is_told_with_the_path() {
    let search = |_: &ModelRun<'_>| {
        let met = std::panic::catch_unwind(|| panic!("on the way"));
        assert!(met.is_err());
        ModelEnd::Failed {
            states: 7,
            what: "the model's code panics".to_owned(),
        }
    };
    let outcome = outcome("where_a_model_panics_is_told_with_the_path", search, SEARCH);
    fails(
        &outcome,
        &["the model's code panics; at ", "tests/models.rs:"],
    );
}

#[test]
fn a_search_or_a_walk_that_panics_itself_has_failed() {
    let test = "a_search_or_a_walk_that_panics_itself_has_failed";
    let search = |_: &ModelRun<'_>| panic!("there is no search");
    let searched = outcome(test, search, SEARCH);
    fails(&searched, &["there is no search at ", "tests/models.rs:"]);
    let log = DecisionLog::Path {
        actions: vec![0, 1, 2],
        shortest: true,
    };
    let walked = outcome(test, search, Task::Replay { log });
    fails(&walked, &["the walk panics at "]);
}

#[test]
fn a_search_is_told_what_it_may_use() {
    let search = |run: &ModelRun<'_>| {
        // Nine tenths of what it was given, beside what the process had.
        let share = (1 << 30) / 10 * 9;
        let fits = (share..share + (64 << 20)).contains(&run.most_bytes);
        let boundary = format!("{} threads, {fits}", run.threads);
        ModelEnd::Complete {
            boundary,
            states: 5,
        }
    };
    let outcome = outcome("a_search_is_told_what_it_may_use", search, SEARCH);
    let verdict = outcome.verdict(Engine::Stateright);
    assert_eq!(verdict.scope(), "2 threads, true");
    let figures = outcome.figures.expect("it was a search");
    assert_eq!((figures.states, figures.bytes_per_state()), (5, None));
}

/// As it is refused by everything that takes a seed: `replay`, `shrink`, `explain`.
#[test]
fn a_path_of_another_engine_is_no_seed() {
    let seed = Seed {
        scenario: "counter".to_owned(),
        variant: Variant::Shipped,
        engine: Engine::Native,
        revision: "00000000".to_owned(),
        signature: "small".to_owned(),
        trace: None,
        log: DecisionLog::Path {
            actions: vec![0],
            shortest: true,
        },
    };
    let error = seed.to_string().parse::<Seed>().unwrap_err().to_string();
    assert!(error.contains("damaged"), "{error}");
}
