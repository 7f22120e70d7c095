//! What a search says when the full one does not fit.
#![cfg(not(loom_run))]
#![allow(clippy::unwrap_used, reason = "all of this file is tests")]

use std::time::Duration;

use selvedge_core::platform::{Atomic, AtomicInt, JoinHandle, Ordering, Platform, Shared};
use selvedge_sim::explorer::{Explorer, SearchEnd};
use selvedge_sim::{Class, Cx, ExplorerPlatform as P, Observation, violation};

type A = <P as Platform>::AtomicU32;

/// Each of the tasks adds one in two steps, so many times.
fn adders(tasks: usize, times: usize) -> u32 {
    let cell = <P as Platform>::Arc::new(A::new(0));
    let others: Vec<_> = (0..tasks)
        .map(|_| {
            let cell = cell.clone();
            P::spawn(move || {
                for _ in 0..times {
                    // ORDERING: SeqCst, all, as the explorer takes everything.
                    cell.store(cell.load(Ordering::SeqCst) + 1, Ordering::SeqCst);
                }
            })
        })
        .collect();
    others.into_iter().for_each(JoinHandle::join);
    cell.load(Ordering::SeqCst)
}

/// Far too much for a second, under a host: the verdict is that of the largest bound done.
fn too_large<Q: Platform>(_: &Cx) -> Observation {
    let cell = Q::Arc::new(Q::AtomicU32::new(0));
    let others: Vec<_> = (0..4)
        .map(|_| {
            let cell = cell.clone();
            Q::spawn(move || {
                for _ in 0..5 {
                    // ORDERING: SeqCst. See above.
                    cell.fetch_add(1, Ordering::SeqCst);
                }
            })
        })
        .collect();
    others.into_iter().for_each(JoinHandle::join);
    Observation::none()
}

selvedge_sim::model_tests! {
    mod a_body_that_does_not_fit_is_bounded = too_large;
    engines = [explorer];
    limit = Duration::from_secs(2);
    require = Class::Bounded;
}

#[test]
fn bounds_grow_until_they_are_none() {
    let body = || Observation::of(adders(2, 1).to_string());
    let (end, escalation) = Explorer::default().escalate(Duration::from_secs(60), body);
    assert_eq!(end, SearchEnd::Complete);
    let plain = Explorer {
        reduce: false,
        ..Explorer::default()
    };
    let all = plain.run(body);
    let bounds = &escalation.bounds;
    assert!(bounds.iter().all(|bound| bound.completed));
    assert_eq!(bounds.last().unwrap().executions, all.executions);
    let outcomes: Vec<usize> = bounds.iter().map(|bound| bound.new_outcomes).collect();
    // Without a preemption nothing is lost; one is enough to lose a step.
    assert_eq!(outcomes[..2], [1, 1]);
    assert_eq!(outcomes.iter().sum::<usize>(), all.observations.len());
    for bound in bounds {
        let alone = Explorer {
            preemptions: Some(bound.preemptions),
            ..Explorer::default()
        };
        assert_eq!(alone.run(body).executions, bound.executions);
    }
}

#[test]
fn what_does_not_fit_ends_at_the_largest_bound_done() {
    let body = || Observation::of(adders(4, 4).to_string());
    let (end, escalation) = Explorer::default().escalate(Duration::from_millis(700), body);
    assert_eq!(end, SearchEnd::BudgetEnded);
    let completed = escalation.completed().unwrap();
    assert_eq!(escalation.bounds.len() as u32, completed + 2);
    assert!(!escalation.bounds.last().unwrap().completed);
    assert_eq!(escalation.completed(), Some(completed));
}

#[test]
fn a_failure_is_found_at_the_first_bound_that_has_it() {
    let body = || {
        let sum = adders(2, 2);
        if sum == 2 {
            violation!("half-lost", "{sum} of 4");
        }
        Observation::of(sum.to_string())
    };
    let (end, escalation) = Explorer::default().escalate(Duration::from_secs(60), body);
    let SearchEnd::Violated { failure, schedule } = end else {
        panic!("{end:?}");
    };
    assert_eq!(failure.signature, "half-lost");
    let (last, before) = escalation.bounds.split_last().unwrap();
    assert!(!last.completed && before.iter().all(|bound| bound.completed));
    assert!(last.preemptions > 0);
    let again = Explorer::default().replay(&schedule, body);
    assert!(matches!(again, SearchEnd::Violated { failure: f, .. } if f.signature == "half-lost"));
}
