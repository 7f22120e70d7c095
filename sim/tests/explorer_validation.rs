//! The explorer against the truth: on generated programs, its outcomes and deadlocks are those
//! of every interleaving, and it runs as many executions as there are different traces.
#![cfg(not(loom_run))]

mod programs;

use programs::{Program, generate, interpreter, run};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use selvedge_sim::explorer::{Explorer, SearchEnd};

/// Programs with more prefixes of traces than this are left out: the truth would take too long.
const MOST_PREFIXES: usize = 40_000;

fn program(number: u64) -> Program {
    let mut rng = ChaCha8Rng::seed_from_u64(number);
    generate(|bound| (rng.next_u64() % bound as u64) as usize)
}

#[derive(Default)]
struct Tally {
    programs: usize,
    skipped: usize,
    deadlocking: usize,
    traces: usize,
    complete: u64,
    abandoned: u64,
    /// Executions, abandoned ones included, per trace.
    redundancy: Vec<f64>,
}

fn validate(numbers: std::ops::Range<u64>) -> Tally {
    let mut tally = Tally::default();
    for number in numbers {
        let program = program(number);
        let Some(truth) = interpreter::explore(&program, MOST_PREFIXES) else {
            tally.skipped += 1;
            continue;
        };
        let explorer = Explorer {
            past_failures: true,
            max_executions: 200 + 20 * truth.traces.len() as u64,
            ..Explorer::default()
        };
        let body = program.clone();
        let search = explorer.run(move || run(&body));
        assert_eq!(search.end, SearchEnd::Complete, "{number}: {program:?}");
        assert_eq!(
            search.observations,
            truth.outcomes,
            "{number}: {program:?}: {} + {} executions, {} traces",
            search.executions,
            search.abandoned,
            truth.traces.len()
        );
        let traces = truth.traces.len();
        // Each trace once: no two complete executions are equivalent.
        assert_eq!(search.executions, traces as u64, "{number}: {program:?}");
        if search.abandoned > 0 && std::env::var_os("EXPLORER_VERBOSE").is_some() {
            println!("{number}: {traces} + {}: {program:?}", search.abandoned);
        }
        tally.programs += 1;
        tally.deadlocking += usize::from(truth.outcomes.contains("deadlock"));
        tally.traces += traces;
        tally.complete += search.executions;
        tally.abandoned += search.abandoned;
        let all = search.executions + search.abandoned;
        tally.redundancy.push(all as f64 / traces as f64);
    }
    tally.redundancy.sort_by(f64::total_cmp);
    let at = |share: f64| tally.redundancy[((tally.redundancy.len() - 1) as f64 * share) as usize];
    println!(
        "{} programs ({} left out, {} can deadlock), {} traces, {} complete + {} abandoned; \
         redundancy median {:.3}, p99 {:.3}, max {:.3}",
        tally.programs,
        tally.skipped,
        tally.deadlocking,
        tally.traces,
        tally.complete,
        tally.abandoned,
        at(0.5),
        at(0.99),
        at(1.0),
    );
    tally
}

/// Over all programs: an unbiased estimate is off as often to one side as to the other, and
/// hardly ever by more than four standard errors.
#[test]
fn estimates_are_as_near_as_they_say() {
    let (mut sum, mut squares, mut estimated, mut far) = (0.0, 0.0, 0.0, 0);
    for number in 0..700 {
        let program = program(number);
        let Some(truth) = interpreter::explore(&program, MOST_PREFIXES) else {
            continue;
        };
        // A small tree is known as a whole before a probe is drawn: some of those are enough.
        if truth.traces.len() < 130 && number >= 100 {
            continue;
        }
        let body = program.clone();
        let estimate = Explorer::default().estimate(2_000, number, move || run(&body));
        let traces = truth.traces.len() as f64;
        let off = estimate.executions - traces;
        if estimate.standard_error == 0.0 {
            assert_eq!(off, 0.0, "{number}: {estimate:?}: {program:?}");
            continue;
        }
        let errors = off / estimate.standard_error;
        far += u32::from(errors.abs() > 4.0);
        assert!(
            errors.abs() <= 8.0,
            "{number}: {estimate:?} for {traces}: {program:?}"
        );
        (sum, squares, estimated) = (sum + errors, squares + errors * errors, estimated + 1.0);
    }
    let (mean, spread) = (sum / estimated, (squares / estimated).sqrt());
    println!(
        "{estimated} estimates, off by {mean:.3} standard errors on average, spread {spread:.3}"
    );
    assert!(
        estimated >= 20.0 && spread < 1.5 && far <= 1,
        "{far} far off"
    );
    assert!(mean.abs() < 4.0 * spread / estimated.sqrt(), "{mean}");
}

#[test]
fn explorer_sees_what_every_interleaving_shows() {
    let tally = validate(0..300);
    assert!(tally.programs >= 250 && tally.deadlocking >= 20);
}

#[test]
#[ignore = "the long run: cargo test -p selvedge-sim --test explorer_validation -- --ignored"]
fn explorer_sees_what_every_interleaving_shows_in_many_programs() {
    let tally = validate(1_000..13_000);
    assert!(tally.programs >= 10_000);
}

/// More who wait and more who notify than the generated programs have: which of them is chosen
/// must not keep the others from being tried.
#[test]
fn whoever_is_notified_whatever_else_is_planned() {
    use programs::Stmt::{Bump, Load, NotifyAll, NotifyOne, Store, Wait};
    let programs: [Program; 5] = [
        vec![
            vec![],
            vec![Wait],
            vec![Wait],
            vec![NotifyOne],
            vec![NotifyOne],
            vec![NotifyOne],
        ],
        vec![
            vec![],
            vec![Wait],
            vec![Wait],
            vec![NotifyOne],
            vec![NotifyOne],
        ],
        vec![
            vec![NotifyOne],
            vec![Wait],
            vec![Wait],
            vec![NotifyOne],
            vec![NotifyOne],
        ],
        vec![
            vec![NotifyOne, Load(0)],
            vec![Wait],
            vec![Wait],
            vec![Store(0, 1), NotifyOne],
        ],
        vec![
            vec![NotifyAll],
            vec![Wait, Bump(0)],
            vec![Wait],
            vec![NotifyOne, Bump(0)],
        ],
    ];
    for program in programs {
        let truth = interpreter::explore(&program, 4_000_000).expect("a small program");
        let explorer = Explorer {
            past_failures: true,
            ..Explorer::default()
        };
        let body = program.clone();
        let search = explorer.run(move || run(&body));
        assert_eq!(search.end, SearchEnd::Complete, "{program:?}");
        assert_eq!(search.observations, truth.outcomes, "{program:?}");
        assert_eq!(search.executions, truth.traces.len() as u64, "{program:?}");
        assert_eq!(search.abandoned, 0, "{program:?}");
    }
}

/// A sleeping choice once passed for the other choice of the same task, and a trace was lost.
#[test]
fn another_choice_is_another_step() {
    use programs::Stmt::{LoadEither, Store};
    let program: Program = vec![
        vec![LoadEither],
        vec![Store(1, 0), LoadEither],
        vec![Store(1, 1), Store(0, 1)],
    ];
    let truth = interpreter::explore(&program, MOST_PREFIXES).expect("a small program");
    let search = Explorer::default().run(move || run(&program));
    assert_eq!(search.end, SearchEnd::Complete);
    assert_eq!(search.observations, truth.outcomes);
    assert_eq!(search.executions, truth.traces.len() as u64);
}
