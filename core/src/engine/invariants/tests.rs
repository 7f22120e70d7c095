//! Each property goes red on a state broken in just its way: a check that cannot fail proves
//! nothing.

use crate::engine::action::{Action, CacheSize, End, LeaseOrder, Outcome, StepPlan};
use crate::engine::config::EngineConfig;
use crate::engine::error::DeathCause;
use crate::engine::generator::Finish;
use crate::engine::request::{Phase, RequestShape};
use crate::engine::state::{CacheRecord, EngineState, Mode};
use crate::time::Instant;
use crate::{AgentId, ModelCacheSpec, PoolId, PoolState, RequestId};

const RUNS: RequestId = RequestId(1);
const WAITS: RequestId = RequestId(2);

/// `a` runs, `b` waits and has a deadline, `c` has an idle cache.
fn state() -> (EngineState, [AgentId; 3]) {
    let (id, now) = (PoolId(1), Instant::ZERO);
    let spec = ModelCacheSpec::new(1, 1, 8, 4).unwrap();
    let mut pool = PoolState::new(id, spec.clone(), 8).unwrap();
    let agents = ["a", "b", "c"].map(|name| pool.register(name).unwrap());
    let config = EngineConfig {
        max_running: 1,
        ..EngineConfig::default()
    };
    let mut state = EngineState::new(config, id, spec, 8).unwrap();
    for (agent, deadline) in [(agents[0], None), (agents[1], Some(Instant::from_nanos(9)))] {
        let shape = RequestShape {
            agent,
            prompt: 3,
            max_tokens: 5,
            keep_cache: true,
            deadline,
        };
        state.submit(shape, now).unwrap();
    }
    let size = CacheSize {
        tokens: 3,
        blocks: 1,
    };
    state.put_cache(agents[2], size).unwrap();
    state.tick(now);
    for outcome in [
        Outcome::Leased {
            blocks: 2,
            reused: 0,
        },
        Outcome::Inserted,
    ] {
        assert!(state.poll().is_some());
        state.done(outcome, now).unwrap();
    }
    (state, agents)
}

#[track_caller]
fn breaks(property: &str, break_it: impl FnOnce(&mut EngineState, [AgentId; 3])) {
    let (mut state, agents) = state();
    assert_eq!(state.validate(), Ok(()));
    break_it(&mut state, agents);
    let found: Vec<&str> = (super::CHECKS.iter())
        .filter_map(|check| check(&state).err())
        .map(|violation| violation.property)
        .collect();
    assert!(found.contains(&property), "{property} not among {found:?}");
}

fn request(state: &mut EngineState, id: RequestId) -> &mut crate::engine::request::Request {
    state.requests.get_mut(&id).unwrap()
}

#[test]
fn accounted_sees_one_lost_and_one_told_twice() {
    breaks("accounted", |s, _| {
        s.requests.remove(&WAITS);
    });
    breaks("accounted", |s, _| s.counters.completed += 1);
    breaks("accounted", |s, _| s.last_id += 1);
}

#[test]
fn one_phase_sees_a_request_in_two_sets_in_none_and_in_the_wrong_one() {
    breaks("one_phase", |s, _| {
        s.live.insert(WAITS);
    });
    breaks("one_phase", |s, _| {
        s.waiting.remove(&WAITS);
    });
    breaks("one_phase", |s, _| request(s, WAITS).phase = Phase::Leased);
}

#[test]
fn one_per_agent_sees_a_free_agent_with_a_request() {
    breaks("one_per_agent", |s, agents| {
        s.busy.remove(&agents[0]);
    });
    breaks("one_per_agent", |s, agents| {
        s.busy.insert(agents[0], WAITS);
    });
}

#[test]
fn blocks_by_phase_sees_who_holds_what_it_must_not() {
    breaks("blocks_by_phase", |s, _| request(s, WAITS).blocks = 1);
    breaks("blocks_by_phase", |s, _| request(s, RUNS).blocks = 0);
    breaks("blocks_by_phase", |s, _| request(s, RUNS).capacity = 2);
    breaks("blocks_by_phase", |s, _| {
        request(s, RUNS).in_backend = false;
    });
    breaks("blocks_by_phase", |s, _| {
        request(s, RUNS).phase = Phase::Ending;
    });
}

#[test]
fn within_bounds_sees_too_much_of_anything() {
    breaks("within_bounds", |s, _| request(s, RUNS).generated = 5);
    breaks("within_bounds", |s, _| request(s, RUNS).computed = 4);
    breaks("within_bounds", |s, _| request(s, RUNS).silent = 17);
    breaks("within_bounds", |s, _| {
        s.leased.insert(WAITS);
    });
}

#[test]
fn bounded_bypass_sees_one_overtaken_too_often() {
    breaks("bounded_bypass", |s, _| request(s, WAITS).overtaken = 9);
    breaks("bounded_bypass", |s, _| {
        s.admission.passed_over.insert(RUNS);
    });
    breaks("bounded_bypass", |s, _| {
        s.admission.starved.insert(WAITS);
    });
}

#[test]
fn cache_exclusive_sees_a_cache_with_two_users() {
    let record = |s: &EngineState, agents: [AgentId; 3]| s.caches[&agents[2]];
    breaks("cache_exclusive", |s, agents| {
        let cache = record(s, agents);
        s.caches.insert(agents[0], cache);
    });
    breaks("cache_exclusive", |s, agents| {
        s.cache_in_use = Some(record(s, agents));
    });
    breaks("cache_exclusive", |s, agents| {
        let size = CacheSize {
            tokens: 1,
            blocks: 0,
        };
        s.caches.insert(agents[2], CacheRecord { size, used: 1 });
    });
}

#[test]
fn action_fits_sees_an_action_out_of_place() {
    let under_way = |action: Action| {
        breaks("action_fits", |s, _| s.under_way = Some(action));
    };
    under_way(Action::Insert {
        request: WAITS,
        max_tokens: 1,
    });
    under_way(Action::Release { request: RUNS });
    under_way(Action::Extract {
        request: RUNS,
        tokens: 1,
    });
    under_way(Action::Abandon);
    let plan = |decode| StepPlan {
        decode,
        prefill: Vec::new(),
    };
    under_way(Action::Step(plan(vec![WAITS])));
    under_way(Action::Step(plan(vec![RUNS, RUNS])));
    breaks("action_fits", |s, agents| {
        s.under_way = Some(Action::Lease(LeaseOrder {
            request: RUNS,
            agent: agents[0],
            cached: false,
            len: 3,
            capacity: 8,
            keep_free: 0,
        }));
    });
}

#[test]
fn closed_is_empty_sees_what_is_left() {
    let message = String::new();
    let dead = DeathCause::StepFailed { message };
    for mode in [
        Mode::Drained,
        Mode::Reconfiguring { drained: false },
        Mode::ShutDown,
        Mode::Dead(dead),
    ] {
        breaks("closed_is_empty", |s, _| s.mode = mode);
    }
}

#[test]
fn deadlines_known_sees_one_forgotten_and_one_of_nobody() {
    breaks("deadlines_known", |s, _| s.deadlines.clear());
    breaks("deadlines_known", |s, _| {
        s.deadlines.insert((Instant::ZERO, RUNS));
    });
}

/// Only the action's own outcome is taken, and a wrong one changes nothing.
#[test]
fn an_outcome_must_answer_the_action_under_way() {
    let (mut state, _) = state();
    let before = state.clone();
    let refused = state.done(Outcome::Inserted, Instant::ZERO).unwrap_err();
    assert_eq!(
        (refused.outcome, refused.under_way),
        ("inserted", "nothing")
    );
    assert_eq!(state, before);
    assert!(matches!(state.poll(), Some(Action::Step(_))));
    assert_eq!(state.poll(), None, "one at a time");
    let before = state.clone();
    let refused = state.done(Outcome::Removed, Instant::ZERO).unwrap_err();
    assert_eq!((refused.outcome, refused.under_way), ("removed", "step"));
    assert_eq!(state, before);
}

/// What is decided first stands: a request that is complete is not cancelled or failed.
#[test]
fn an_end_is_decided_once() {
    let (mut state, _) = state();
    state.end(RUNS, End::Completed(Finish::Length));
    state.end(RUNS, End::Completed(Finish::Stop));
    assert_eq!(
        request(&mut state, RUNS).end,
        Some(End::Completed(Finish::Length))
    );
}
