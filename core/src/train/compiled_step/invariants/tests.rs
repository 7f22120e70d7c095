//! Each property is seen to fail where it is broken in just that way.

use core::time::Duration;

use super::check;
use crate::ddp::Epoch;
use crate::time::Instant;
use crate::train::compiled_step::state::{KeyId, Phase};
use crate::train::compiled_step::{CompileConfig, CompileState, Decision, FailureClass};

/// Two keys: one is ready, the other cools.
fn sound() -> (CompileState, [KeyId; 2]) {
    let mut state = CompileState::new(CompileConfig::default()).unwrap();
    let keys = [state.admit().unwrap(), state.admit().unwrap()];
    let attempts = keys.map(|key| match state.ask(key, Instant::ZERO) {
        Some(Decision::Compile(attempt)) => attempt,
        other => panic!("{other:?}"),
    });
    state.passed(attempts[0]).unwrap();
    let failed = state.failed(attempts[1], FailureClass::Transient, Instant::ZERO);
    assert!(failed.is_some());
    assert_eq!(check(&state), Ok(()));
    (state, keys)
}

#[track_caller]
fn breaks(property: &str, break_it: impl FnOnce(&mut CompileState, [KeyId; 2])) {
    let (mut state, keys) = sound();
    break_it(&mut state, keys);
    let broken = check(&state).expect_err("it was broken");
    assert_eq!(broken.property, property, "{broken}");
}

#[test]
fn each_property_fails_where_it_is_broken() {
    breaks("within_bounds", |state, _| state.config.max_keys = 1);
    breaks("within_bounds", |state, _| state.keys_given = 1);
    breaks("one_attempt", |state, [ready, cools]| {
        let phase = state.entries[&ready].phase;
        state.entries.get_mut(&cools).unwrap().phase = phase;
        state.entries.get_mut(&cools).unwrap().failures = 0;
    });
    breaks("one_attempt", |state, [ready, _]| {
        state.entries.get_mut(&ready).unwrap().phase = Phase::Ready { number: 7 };
    });
    breaks("never_for_ever", |state, [_, cools]| {
        state.entries.get_mut(&cools).unwrap().failures = 0;
    });
    breaks("never_for_ever", |state, [ready, _]| {
        state.entries.get_mut(&ready).unwrap().permit = Some(Instant::ZERO);
    });
    breaks("never_for_ever", |state, _| {
        let day_and_more = CompileConfig::MOST_CAP + Duration::from_nanos(1);
        state.config.transient.cap = day_and_more;
        state.config.transient.base = day_and_more;
        state.delays = super::super::config::Delays::of(&state.config);
    });
    breaks("attempts_balance", |state, _| state.counters.passed += 1);
    breaks("attempts_balance", |state, _| state.counters.late += 1);
}

#[test]
fn what_is_told_of_a_forgotten_key_changes_nothing() {
    let (mut state, [ready, _]) = sound();
    let Some(Decision::Use { number }) = state.ask(ready, Instant::ZERO) else {
        panic!("it is ready");
    };
    assert!(state.forget(ready));
    let forgotten = state.clone();
    let class = FailureClass::Transient;
    assert_eq!(state.withdrawn(ready, number, class, Instant::ZERO), None);
    assert_eq!(state.ask(ready, Instant::ZERO), None);
    assert!(!state.forget(ready));
    assert_eq!(state, forgotten);
    assert_eq!(
        state
            .apply_epoch(Epoch(1), Instant::ZERO, Duration::ZERO)
            .granted,
        0
    );
}
