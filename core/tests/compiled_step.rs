//! The compiled-step cache in virtual time: how soon it recovers, what a failure costs that never
//! goes away, and what is told of it.
#![cfg(feature = "train")]
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "all of this file is one test"
)]

mod step;

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use selvedge_core::ddp::{CommitRecord, Epoch, RunId, Schedule};
use selvedge_core::time::{Clock, Instant};
use selvedge_core::train::EpochGuard;
use selvedge_core::train::compiled_step::{
    Attempt, Backoff, CompileConfig, CompileFailure, CompiledStep, ConfigError, FailureClass,
    FirstCompile, Phase, StepCompiler, StepHandle,
};
use tracing::field::{Field, Visit};
use tracing::span;

use step::{Doubling, Goes};

const SECOND: Duration = Duration::from_secs(1);

fn config() -> CompileConfig {
    CompileConfig::default()
}

/// One call, which must double.
#[track_caller]
fn doubles(handle: &mut StepHandle<Doubling>) {
    assert_eq!(handle.run(&&[3, 4][..]), Ok(vec![6, 8]));
}

/// As long as the trouble lasts the step is eager. Once it is over, the step is compiled again
/// within the delay that was under way, and one epoch.
#[test]
fn a_transient_failure_heals_within_the_stated_delay() {
    for trouble in 1..8_usize {
        let step = Doubling::going(vec![Goes::Transient; trouble]);
        let steps = step.cached(config());
        let mut handle = steps.handle("a");
        // An epoch a second, a call an epoch.
        let mut recovered = None;
        for second in 0..4_000 {
            steps.apply_epoch(Epoch(second), SECOND);
            doubles(&mut handle);
            if handle.is_compiled() {
                recovered = Some(second);
                break;
            }
            step.clock.forward(SECOND);
        }
        // Delays of 2, 4, 8, ... seconds, of which none is longer than 300.
        let waited: u64 = (1..=trouble as u32).map(|n| 2_u64.pow(n).min(300)).sum();
        assert_eq!(recovered, Some(waited), "{trouble} failures");
        handle.flush();
        let counters = steps.counters();
        let attempts = trouble as u64 + 1;
        assert_eq!((counters.attempts, step.compiles()), (attempts, attempts));
        assert_eq!(
            counters.failures_of(FailureClass::Transient),
            trouble as u64
        );
        assert_eq!((counters.passed, counters.recoveries), (1, 1));
        assert_eq!((counters.compiled, counters.eager), (1, waited));
        steps.audit().unwrap();
    }
}

/// Nobody compiles between the epochs, however long after the delay.
#[test]
fn a_retry_is_allowed_by_an_epoch_alone_and_lapses() {
    let step = Doubling::going([Goes::Transient, Goes::Transient]);
    let steps = step.cached(config());
    let mut handle = steps.handle("a");
    doubles(&mut handle);
    step.clock.forward(100 * SECOND);
    (0..100).for_each(|_| doubles(&mut handle));
    assert_eq!(step.compiles(), 1, "there was no epoch");

    let permits = steps.apply_epoch(Epoch(1), SECOND);
    assert_eq!((permits.news, permits.granted), (true, 1));
    step.clock.forward(2 * SECOND);
    doubles(&mut handle);
    assert_eq!(step.compiles(), 1, "what the epoch allowed has lapsed");

    steps.apply_epoch(Epoch(2), SECOND);
    (0..100).for_each(|_| doubles(&mut handle));
    assert_eq!(step.compiles(), 2, "one retry an epoch");
    let again = steps.apply_epoch(Epoch(2), SECOND);
    assert!(!again.news && steps.apply_epoch(Epoch(1), SECOND) == again);

    step.clock.forward(3 * SECOND);
    assert_eq!(
        steps.apply_epoch(Epoch(3), SECOND).granted,
        0,
        "4 s to wait"
    );
    step.clock.forward(SECOND);
    assert_eq!(steps.apply_epoch(Epoch(4), SECOND).granted, 1);
    doubles(&mut handle);
    assert!(handle.is_compiled());
}

/// log2(time / base) attempts until the delays are as long as the cap, and then one a cap.
#[test]
fn a_failure_that_never_goes_away_costs_few_attempts() {
    let day = 24 * 3_600;
    for (goes, backoff) in [
        (Goes::Transient, config().transient),
        (Goes::Deterministic, config().deterministic),
        (Goes::Panics, config().panicked),
        (Goes::Lazily, config().transient),
        (Goes::LazilyPanics, config().panicked),
    ] {
        let step = Doubling::going(vec![goes; 100_000]);
        let steps = step.cached(config());
        let mut handle = steps.handle("a");
        for epoch in 0..day {
            steps.apply_epoch(Epoch(epoch), SECOND);
            doubles(&mut handle);
            step.clock.forward(SECOND);
        }
        let (base, cap) = (backoff.base.as_secs_f64(), backoff.cap.as_secs_f64());
        let most = (day as f64 / base).log2() + day as f64 / cap;
        assert!(
            step.compiles() as f64 <= most,
            "{goes:?}: {}",
            step.compiles()
        );
        assert!(
            step.compiles() >= day / backoff.cap.as_secs(),
            "it was given up"
        );
        let Some(Phase::Cooling { not_before, .. }) = steps.phase(&"a") else {
            panic!("it has failed");
        };
        assert!(not_before <= step.clock.now() + backoff.cap);
        handle.flush();
        let counters = steps.counters();
        assert_eq!((counters.eager, counters.compiled), (day, 0));
        assert_eq!(counters.failures(), step.compiles());
    }
}

/// No failure of the compiler's escapes, and each is counted as what it is; the step's own do.
#[test]
fn what_fails_is_the_compilers_business_or_the_steps_own() {
    for (goes, class) in [
        (Goes::Transient, FailureClass::Transient),
        (Goes::Deterministic, FailureClass::Deterministic),
        (Goes::Panics, FailureClass::Panicked),
        (Goes::Lazily, FailureClass::Transient),
        (Goes::LazilyPanics, FailureClass::Panicked),
    ] {
        let steps = Doubling::going([goes]).cached(config());
        let mut handle = steps.handle("a");
        doubles(&mut handle);
        assert!(!handle.is_compiled(), "{goes:?}");
        handle.flush();
        let counters = steps.counters();
        assert_eq!((counters.attempts, counters.failures_of(class)), (1, 1));
        assert_eq!((counters.compiled, counters.eager), (0, 1), "{goes:?}");
    }

    let steps = Doubling::going([]).cached(config());
    let mut handle = steps.handle("a");
    for _ in 0..2 {
        assert_eq!(handle.run(&&[][..]), Err("nothing to double"));
    }
    assert!(handle.is_compiled());
    let panicked = catch_unwind(AssertUnwindSafe(|| handle.run(&&[13][..]))).unwrap_err();
    assert_eq!(
        panicked.downcast_ref::<&str>(),
        Some(&"the step itself panics")
    );
    assert_eq!(steps.counters().withdrawn, 1, "who panics is not trusted");
}

/// What carries no text is how threads are cancelled: it goes on. The key is not lost by it, and
/// nobody waits for who is gone.
#[test]
fn a_cancelled_attempt_has_failed() {
    let step = Doubling::going([Goes::Cancelled]);
    let steps = step.cached(config());
    let mut handle = steps.handle("a");
    let cancelled = catch_unwind(AssertUnwindSafe(|| handle.run(&&[1][..]))).unwrap_err();
    assert_eq!(cancelled.downcast_ref::<u8>(), Some(&7));
    let class = FailureClass::Panicked;
    assert!(matches!(steps.phase(&"a"), Some(Phase::Cooling { class: of, .. }) if of == class));
    doubles(&mut handle);

    step.clock.forward(config().panicked.base);
    assert!(steps.apply_epoch(Epoch(1), SECOND).overdue.is_empty());
    doubles(&mut handle);
    assert!(handle.is_compiled());
    assert_eq!(steps.counters().failures_of(class), 1);
    assert_eq!(steps.counters().recoveries, 1);
    steps.audit().unwrap();
}

/// What is back after its deadline, but before an epoch gave it up, is in time.
#[test]
fn a_slow_attempt_is_published() {
    let step = Doubling::going([Goes::Slowly(60 * SECOND)]);
    let steps = step.cached(config());
    let mut handle = steps.handle("a");
    doubles(&mut handle);
    assert!(handle.is_compiled());

    let slow = Doubling::going([Goes::SlowlyFails(60 * SECOND)]);
    let steps = slow.cached(config());
    doubles(&mut steps.handle("a"));
    let not_before = slow.clock.now() + config().transient.base;
    let class = FailureClass::Transient;
    assert_eq!(
        steps.phase(&"a"),
        Some(Phase::Cooling { class, not_before }),
        "it cools from its failure on, not from its beginning"
    );
}

#[test]
fn what_fails_in_use_is_withdrawn_from_everybody() {
    let step = Doubling::going([]);
    let steps = step.cached(config());
    let (mut one, mut other) = (steps.handle("a"), steps.handle("a"));
    doubles(&mut one);
    doubles(&mut other);
    assert!(one.is_compiled() && other.is_compiled());

    *step.broken.lock().unwrap() = Some(CompileFailure::transient("the device was reset"));
    doubles(&mut one);
    *step.broken.lock().unwrap() = None;
    doubles(&mut other);
    assert!(!one.is_compiled() && !other.is_compiled());
    assert_eq!(step.compiles(), 1);

    step.clock.forward(config().transient.base);
    steps.apply_epoch(Epoch(1), SECOND);
    doubles(&mut other);
    doubles(&mut one);
    assert!(one.is_compiled() && other.is_compiled());
    drop((one, other));
    let counters = steps.counters();
    assert_eq!((counters.withdrawn, counters.recoveries), (1, 1));
    assert_eq!((counters.compiled, counters.eager), (4, 2));
    assert_eq!(counters.failures(), 0, "no attempt has failed");
}

#[test]
fn there_are_no_more_keys_than_there_may_be() {
    let step = Doubling::going([]);
    let steps = step.cached(CompileConfig {
        max_keys: 2,
        ..config()
    });
    let mut handles = ["a", "b", "c"].map(|key| steps.handle(key));
    handles.iter_mut().for_each(doubles);
    handles.iter_mut().for_each(doubles);
    assert_eq!(
        handles.each_ref().map(StepHandle::is_compiled),
        [true, true, false]
    );
    assert_eq!((steps.keys(), steps.counters().refused_keys), (2, 1));

    assert!(steps.forget(&"a") && !steps.forget(&"a"));
    doubles(&mut handles[2]);
    assert!(handles[2].is_compiled(), "there is room");
    doubles(&mut handles[0]);
    assert!(!handles[0].is_compiled());
    assert_eq!(steps.keys(), 2);
    steps.audit().unwrap();
}

#[test]
fn the_first_compile_can_be_left_to_an_epoch() {
    let step = Doubling::going([]);
    let first = FirstCompile::AtEpoch;
    let steps = step.cached(CompileConfig { first, ..config() });
    let mut handle = steps.handle("a");
    doubles(&mut handle);
    assert_eq!(step.compiles(), 0);
    assert_eq!(steps.apply_epoch(Epoch(1), SECOND).granted, 1);
    doubles(&mut handle);
    assert!(handle.is_compiled());
}

/// A process trains twice: the epochs of the second run begin anew, and what the first left failed
/// is compiled again (ticket B8-PT-03: a failure was kept until the process ended).
#[test]
fn a_failure_does_not_outlive_its_run() {
    let step = Doubling::going([Goes::Transient, Goes::Transient]);
    let mut steps = step.cached(config());
    let mut handle = steps.handle("a");
    let at = |run, epoch| CommitRecord::genesis(RunId(run), Epoch(epoch), 0, Schedule::default());
    doubles(&mut handle);
    steps.at_epoch(&at(1, 200));
    doubles(&mut handle);
    assert_eq!(step.compiles(), 1, "it cools");
    step.clock.forward(Duration::from_secs(600));
    steps.at_epoch(&at(1, 200));
    doubles(&mut handle);
    assert_eq!(step.compiles(), 1, "the same record again");
    steps.at_epoch(&at(2, 0));
    doubles(&mut handle);
    assert_eq!(step.compiles(), 2, "it fails again");
    step.clock.forward(Duration::from_secs(600));
    steps.at_epoch(&at(2, 1));
    // An evaluation comes first: the permit is for the epoch, not for its first seconds.
    step.clock.forward(Duration::from_secs(600));
    doubles(&mut handle);
    assert!(handle.is_compiled());
    assert_eq!(steps.counters().lapsed, 0);
}

/// What an epoch has allowed for a while is not allowed for longer, and whoever comes too late is
/// counted.
#[test]
fn a_permit_that_comes_too_late_is_told() {
    let step = Doubling::going([Goes::Transient]);
    let steps = step.cached(config());
    let mut handle = steps.handle("a");
    doubles(&mut handle);
    step.clock.forward(Duration::from_secs(600));
    assert_eq!(steps.apply_epoch(Epoch(1), SECOND).granted, 1);
    step.clock.forward(2 * SECOND);
    doubles(&mut handle);
    doubles(&mut handle);
    assert_eq!((step.compiles(), steps.counters().lapsed), (1, 1));
    steps.apply_epoch(Epoch(2), SECOND);
    doubles(&mut handle);
    assert!(handle.is_compiled());
    assert_eq!(steps.counters().lapsed, 1);
}

/// `use_compile=false` of the origin: it never compiles and never looks.
#[test]
fn who_wants_it_eager_touches_nothing() {
    let step = Doubling::going([]);
    let steps = step.cached(config());
    let handle = steps.handle("a");
    assert_eq!(handle.run_eagerly(&&[1][..]), Ok(vec![2]));
    drop(handle);
    assert_eq!(steps.counters(), Default::default());
    assert_eq!((step.compiles(), steps.keys()), (0, 0));
}

#[test]
fn a_bad_configuration_is_named() {
    let hour = 3_600 * SECOND;
    let refused = |config: CompileConfig| config.check().unwrap_err();
    let zero = refused(CompileConfig {
        max_keys: 0,
        ..config()
    });
    assert_eq!(zero, ConfigError::Zero { field: "max_keys" });
    let zero = refused(CompileConfig {
        patience: Duration::ZERO,
        ..config()
    });
    assert_eq!(zero, ConfigError::Zero { field: "patience" });
    let transient = |base, cap| CompileConfig {
        transient: Backoff { base, cap },
        ..config()
    };
    let none = refused(transient(Duration::ZERO, hour));
    assert!(matches!(
        none,
        ConfigError::Base {
            field: "transient",
            ..
        }
    ));
    let swapped = refused(transient(hour, SECOND));
    assert_eq!(
        swapped.to_string(),
        "transient.cap is 1s, less than transient.base, which is 3600s"
    );
    let for_ever = refused(transient(hour, Duration::MAX));
    assert!(matches!(
        for_ever,
        ConfigError::Cap {
            field: "transient",
            ..
        }
    ));
    let (shortest, longest) = (Duration::from_micros(1), CompileConfig::MOST_CAP);
    assert_eq!(transient(shortest, longest).check(), Ok(()));
}

/// A step whose compile waits until it is let go.
struct Held {
    begun: Mutex<mpsc::Sender<()>>,
    go_on: Mutex<mpsc::Receiver<()>>,
}

impl StepCompiler for Held {
    type Key = u8;
    type Input<'a> = u64;
    type Output = u64;
    type Artefact = ();
    fn eager(&self, _: &u8, input: &u64) -> u64 {
        2 * input
    }
    fn compile(&self, _: &u8, _: &Attempt) -> Result<(), CompileFailure> {
        self.begun.lock().unwrap().send(()).unwrap();
        self.go_on.lock().unwrap().recv().unwrap();
        Ok(())
    }
    fn execute(&self, (): &(), key: &u8, input: &u64) -> Result<u64, CompileFailure> {
        Ok(self.eager(key, input))
    }
}

/// While one compiles the others run eagerly, and nobody waits. If the one comes back after it
/// was given up and another attempt has begun, the first that passes is the one that counts.
#[test]
fn nobody_waits_for_a_compile() {
    let (begun, has_begun) = mpsc::channel();
    let (let_go, go_on) = mpsc::channel();
    let held = Held {
        begun: Mutex::new(begun),
        go_on: Mutex::new(go_on),
    };
    let clock = step::Hands::default();
    let steps: CompiledStep<Held> =
        CompiledStep::new(held, config(), Box::new(clock.clone())).unwrap();
    let compile = || {
        let steps = steps.clone();
        let thread = std::thread::spawn(move || {
            let mut handle = steps.handle(0);
            (handle.run(&4), handle.run(&5))
        });
        has_begun.recv().unwrap();
        thread
    };
    let first = compile();
    let mut handle = steps.handle(0);
    for n in 0..100 {
        assert_eq!(handle.run(&n), 2 * n);
    }
    handle.flush();
    assert_eq!(steps.counters().eager, 100);

    clock.forward(2 * config().patience);
    assert_eq!(steps.apply_epoch(Epoch(1), SECOND).overdue.len(), 1);
    clock.forward(config().overdue.base);
    steps.apply_epoch(Epoch(2), SECOND);
    let second = compile();
    let_go.send(()).unwrap();
    let_go.send(()).unwrap();
    assert_eq!(first.join().unwrap(), (8, 10));
    assert_eq!(second.join().unwrap(), (8, 10));
    assert_eq!(handle.run(&6), 12);
    assert!(handle.is_compiled());
    drop(handle);
    let counters = steps.counters();
    assert_eq!((counters.attempts, counters.failures()), (2, 1));
    assert_eq!((counters.recoveries, counters.compiled), (1, 5));
    steps.audit().unwrap();
}

/// Counts events by the transition they tell of.
#[derive(Clone, Default)]
struct Counting(Arc<Mutex<BTreeMap<String, u64>>>);

impl tracing::Subscriber for Counting {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        metadata.target() == "selvedge::compiled_step"
    }
    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }
    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}
    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}
    fn event(&self, event: &tracing::Event<'_>) {
        struct Find(Option<String>);
        impl Visit for Find {
            fn record_str(&mut self, field: &Field, value: &str) {
                if field.name() == "transition" {
                    self.0 = Some(value.to_owned());
                }
            }
            fn record_debug(&mut self, _: &Field, _: &dyn std::fmt::Debug) {}
        }
        let mut find = Find(None);
        event.record(&mut find);
        *self.0.lock().unwrap().entry(find.0.unwrap()).or_default() += 1;
    }
    fn enter(&self, _: &span::Id) {}
    fn exit(&self, _: &span::Id) {}
}

/// A life with one of everything.
fn a_life(step: &Doubling, steps: &CompiledStep<Doubling>) {
    let mut handle = steps.handle("a");
    let mut epoch = 0;
    let mut next = |by: Duration| {
        epoch += 1;
        step.clock.forward(by);
        steps.apply_epoch(Epoch(epoch), SECOND);
    };
    doubles(&mut handle); // fails
    next(SECOND);
    doubles(&mut handle); // cools
    next(SECOND);
    doubles(&mut handle); // panics
    next(config().panicked.cap);
    doubles(&mut handle); // passes
    (0..10).for_each(|_| doubles(&mut handle));
    *step.broken.lock().unwrap() = Some(CompileFailure::deterministic("the driver has changed"));
    doubles(&mut handle); // is withdrawn
    *step.broken.lock().unwrap() = None;
    next(config().deterministic.base);
    doubles(&mut handle); // passes again
    assert!(handle.is_compiled());
}

#[test]
fn each_transition_is_told_once() {
    let told = Counting::default();
    let step = Doubling::going([Goes::Transient, Goes::Panics]);
    let steps = step.cached(config());
    tracing::subscriber::with_default(told.clone(), || a_life(&step, &steps));
    let told: Vec<(String, u64)> = told.0.lock().unwrap().clone().into_iter().collect();
    let one = |name: &str, times| (name.to_owned(), times);
    let expected = [
        one("began", 4),
        one("failed", 2),
        one("published", 2),
        one("withdrawn", 1),
    ];
    assert_eq!(told, expected);
}

#[cfg(feature = "metrics")]
mod facade {
    use super::*;
    use metrics::{
        Counter, CounterFn, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit,
    };

    #[derive(Default)]
    struct Book(Arc<Mutex<BTreeMap<String, u64>>>);

    struct Line(String, Arc<Mutex<BTreeMap<String, u64>>>);

    impl CounterFn for Line {
        fn increment(&self, by: u64) {
            *self.1.lock().unwrap().entry(self.0.clone()).or_default() += by;
        }
        fn absolute(&self, _: u64) {}
    }

    impl Recorder for Book {
        fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
        fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
        fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
        fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
            let labels = key.labels().map(|label| format!(" {}", label.value()));
            let name = key.name().to_owned() + &labels.collect::<String>();
            Counter::from_arc(Arc::new(Line(name, self.0.clone())))
        }
        fn register_gauge(&self, _: &Key, _: &Metadata<'_>) -> Gauge {
            Gauge::noop()
        }
        fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
            Histogram::noop()
        }
    }

    #[test]
    fn the_facade_has_what_the_counters_have() {
        let book = Book::default();
        let step = Doubling::going([Goes::Transient, Goes::Panics]);
        let steps = step.cached(config());
        metrics::with_local_recorder(&book, || a_life(&step, &steps));
        let counters = steps.counters();
        let book = book.0.lock().unwrap();
        let of = |name: &str| book.get(name).copied().unwrap_or(0);
        assert_eq!(of("selvedge_compiled_calls_total"), counters.compiled);
        assert_eq!(of("selvedge_eager_calls_total"), counters.eager);
        assert_eq!(of("selvedge_compile_attempts_total"), counters.attempts);
        assert_eq!(of("selvedge_compile_passed_total"), counters.passed);
        assert_eq!(of("selvedge_compile_recoveries_total"), counters.recoveries);
        assert_eq!(of("selvedge_compile_withdrawn_total"), counters.withdrawn);
        assert_eq!((counters.passed, counters.withdrawn), (2, 1));
        for class in FailureClass::ALL {
            let name = format!("selvedge_compile_failures_total {}", class.name());
            assert_eq!(of(&name), counters.failures_of(class), "{name}");
        }
        assert_eq!((counters.compiled, counters.eager), (12, 4));
        assert_eq!((counters.attempts, counters.recoveries), (4, 2));
    }
}

/// A clock that stands at the end of time: no delay is for ever even there.
#[test]
fn the_end_of_time_is_no_error() {
    let step = Doubling::going([Goes::Transient]);
    step.clock.forward(Duration::from_nanos(u64::MAX));
    let steps = step.cached(config());
    let mut handle = steps.handle("a");
    doubles(&mut handle);
    let Some(Phase::Cooling { not_before, .. }) = steps.phase(&"a") else {
        panic!("it has failed");
    };
    assert_eq!(not_before, Instant::from_nanos(u64::MAX));
    assert_eq!(steps.apply_epoch(Epoch(1), SECOND).granted, 1);
    doubles(&mut handle);
    assert!(handle.is_compiled());
}
