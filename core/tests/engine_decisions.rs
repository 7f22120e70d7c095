//! The decisions of the batch engine, one test each: admission, fairness, prompts in chunks,
//! caches between turns. How an engine ends is in `engine_lifecycle.rs`, what goes wrong in a
//! backend in `engine_faults.rs`.
#![allow(clippy::unwrap_used, reason = "all of this file is tests")]

mod engine;

use std::time::Duration;

use selvedge_core::engine::{
    Admission, CancelError, CancelReason, End, EngineConfig, Event, Finish, NewRequest,
    SubmitError, Wake,
};
use selvedge_core::spec::LayerKind;
use selvedge_core::{LayerId, ModelCacheSpec, RequestId};

use self::engine::backend::expected;
use self::engine::bench::{Bench, prompt, spec};

const LENGTH: End = End::Completed(Finish::Length);

fn config() -> EngineConfig {
    EngineConfig::default()
}

#[test]
fn the_origins_reference_trace() {
    let spec = ModelCacheSpec::new(12, 4, 64, 256).unwrap();
    let mut bench = Bench::new(spec, 64, config());
    let hello = prompt(5, 3);
    let id = bench.submit("alice", &hello, 3).unwrap();
    assert_eq!(bench.engine.snapshot().requests.waiting, 1);
    bench.run();
    assert_eq!(bench.tokens_of(id), expected(&hello, 3).0);
    let ended = bench.ends_of(id);
    assert_eq!((ended.len(), &ended[0].end), (1, &LENGTH));
    assert_eq!((ended[0].generated, ended[0].cached), (3, 8));
    // One block in each of the twelve layers, and they are the agent's cache.
    assert_eq!(bench.pool.snapshot().used, 12);
    let cache = bench.engine.take_cache(bench.agent("alice")).unwrap();
    assert_eq!(
        (cache.total_tokens(), cache.num_blocks(), cache.num_layers()),
        (8, 12, 12)
    );
}

/// Ticket SPRINT-2.5: "multi-threaded (3 agents): > 2x throughput vs serial", in model steps.
#[test]
fn three_agents_batched_take_less_than_half_the_steps() {
    let ask = prompt(9, 12);
    let steps = |together: bool| {
        let mut bench = Bench::plain(64);
        for name in ["a", "b", "c"] {
            bench.submit(name, &ask, 12).unwrap();
            if !together {
                bench.run();
            }
        }
        bench.run();
        assert_eq!(bench.engine.snapshot().counters.completed, 3);
        bench.engine.snapshot().counters.steps
    };
    let (batched, serial) = (steps(true), steps(false));
    assert_eq!((batched, serial), (13, 39));
    assert!(batched * 2 < serial);
}

#[test]
fn bad_requests_are_refused_by_name() {
    let bench = Bench::plain(8);
    let stranger = Bench::plain(8).agent("alice");
    let submit = |request: NewRequest| bench.engine.submit(request, bench.now).unwrap_err();
    let alice = bench.agent("alice");
    let ok = || NewRequest::new(alice, vec![1], 1);
    assert_eq!(
        submit(NewRequest {
            prompt: vec![],
            ..ok()
        }),
        SubmitError::EmptyPrompt
    );
    assert_eq!(
        submit(NewRequest {
            max_tokens: 0,
            ..ok()
        }),
        SubmitError::ZeroTokens
    );
    assert_eq!(
        submit(NewRequest {
            max_tokens: u32::MAX,
            ..ok()
        }),
        SubmitError::TooLong {
            prompt: 1,
            max_tokens: u32::MAX
        }
    );
    // Two layers of four blocks hold 16 tokens.
    assert_eq!(
        submit(NewRequest {
            max_tokens: 16,
            ..ok()
        }),
        SubmitError::NeverFits {
            needed: 10,
            total: 8
        }
    );
    assert_eq!(
        submit(NewRequest {
            deadline: Some(bench.now),
            ..ok()
        }),
        SubmitError::DeadlinePassed
    );
    assert_eq!(
        submit(NewRequest {
            agent: stranger,
            ..ok()
        }),
        SubmitError::ForeignAgent
    );
    assert_eq!(bench.engine.snapshot().counters.accepted, 0);
}

#[test]
fn an_agent_has_one_request_in_flight() {
    let mut bench = Bench::plain(16);
    let request = bench.submit("alice", &prompt(3, 3), 3).unwrap();
    let busy = SubmitError::AgentBusy { request };
    assert_eq!(bench.submit("alice", &[1], 1).unwrap_err(), busy);
    bench.step();
    assert_eq!(bench.submit("alice", &[1], 1).unwrap_err(), busy);
    bench.run();
    let next = bench.submit("alice", &[1], 1).unwrap();
    assert!(next > request, "ids are never used again");
}

#[test]
fn the_queue_is_bounded_and_first_come_first_served() {
    let bounds = EngineConfig {
        max_running: 1,
        max_waiting: 2,
        ..config()
    };
    let mut bench = Bench::new(spec(2), 64, bounds);
    let ask = prompt(3, 2);
    let first = bench.submit("a", &ask, 2).unwrap();
    bench.step();
    let second = bench.submit("b", &ask, 2).unwrap();
    let third = bench.submit("c", &ask, 2).unwrap();
    let full = SubmitError::QueueFull { waiting: 2 };
    assert_eq!(bench.submit("d", &ask, 2).unwrap_err(), full);
    // A cancelled head makes place, and does not hold up the next.
    (bench
        .engine
        .cancel(second, CancelReason::ClientGone, bench.now))
    .unwrap();
    let fourth = bench.submit("d", &ask, 2).unwrap();
    bench.run();
    assert_eq!(bench.started(), [first, third, fourth]);
    assert_eq!(
        bench.end_of(second),
        End::Cancelled(CancelReason::ClientGone)
    );
}

/// Twelve blocks; the head needs ten while the first holds four, and others of two come by.
#[test]
fn a_head_that_does_not_fit_is_overtaken_a_bounded_number_of_times() {
    for most in [0, 1, 3] {
        let bounds = EngineConfig {
            max_overtakes: most,
            max_running: 3,
            ..config()
        };
        let mut bench = Bench::new(spec(2), 12, bounds);
        let holder = bench.submit("holder", &prompt(1, 6), 6).unwrap();
        bench.step();
        let head = bench.submit("head", &prompt(10, 8), 8).unwrap();
        let small: Vec<RequestId> = (0..6)
            .map(|i| {
                bench
                    .submit(&format!("small-{i}"), &prompt(1, 2), 2)
                    .unwrap()
            })
            .collect();
        bench.run();
        let order = bench.started();
        let place = |id| order.iter().position(|&of| of == id).unwrap();
        let before = small.iter().filter(|&&id| place(id) < place(head)).count();
        assert_eq!(before as u32, most, "{order:?}");
        assert_eq!(place(holder), 0);
        assert_eq!(bench.engine.snapshot().counters.completed, 8);
    }
}

#[test]
fn who_runs_out_of_blocks_waits_for_them_and_not_for_a_signal() {
    let mut bench = Bench::plain(4);
    let first = bench.submit("a", &prompt(4, 4), 4).unwrap();
    let second = bench.submit("b", &prompt(4, 4), 4).unwrap();
    bench.step();
    assert_eq!(bench.started(), [first]);
    bench.run();
    // a's cache has made way for b.
    assert_eq!(bench.started(), [first, second]);
    assert_eq!(bench.end_of(second), LENGTH);
    assert_eq!(bench.engine.snapshot().counters.evictions, 1);
}

/// Also blocks that nobody's cache keeps: no time passes until they are handed on.
#[test]
fn what_is_given_back_goes_to_who_waits_in_the_same_turn() {
    let mut bench = Bench::plain(4);
    let request = |name| NewRequest {
        keep_cache: false,
        ..NewRequest::new(bench.agent(name), prompt(4, 4), 4)
    };
    let requests = [request("a"), request("b")];
    let ids = requests.map(|request| bench.engine.submit(request, bench.now).unwrap());
    bench.run();
    assert_eq!(
        (bench.end_of(ids[0]), bench.end_of(ids[1])),
        (LENGTH, LENGTH)
    );
    assert_eq!(bench.engine.snapshot().counters.evictions, 0);
}

/// It would be recomputed for nothing: what it has is what it starts from.
#[test]
fn nobody_makes_room_by_dropping_its_own_cache() {
    let mut bench = Bench::plain(12);
    let ask = prompt(8, 4);
    let id = bench.submit("alice", &ask, 4).unwrap();
    bench.run();
    let history = [ask, bench.tokens_of(id), vec![1, 2]].concat();
    let (pool, other) = (bench.pool.clone(), bench.agent("other"));
    let held = pool.allocate(4, LayerId(0), other).unwrap();
    // Ten blocks: six are there already, two available.
    let id = bench.submit("alice", &history, 6).unwrap();
    bench.run();
    assert!(bench.started().len() == 1 && bench.engine.snapshot().caches == 1);
    drop(held);
    bench.pass(50);
    bench.run();
    assert_eq!(bench.reused(id), Some(12));
}

#[test]
fn blocks_that_others_have_are_asked_for_again_after_a_while() {
    let mut bench = Bench::plain(8);
    let other = bench.agent("other");
    let pool = bench.pool.clone();
    let held = pool.allocate(6, LayerId(0), other).unwrap();
    let id = bench.submit("a", &prompt(4, 4), 4).unwrap();
    bench.run();
    assert!(bench.started().is_empty());
    let retry = bench.now + Duration::from_millis(50);
    assert_eq!(bench.engine.wake(), Wake::At(retry));
    drop(held);
    bench.pass(50);
    bench.run();
    assert_eq!(bench.end_of(id), LENGTH);
}

#[test]
fn long_prompts_are_computed_in_turns_and_hold_nobody_up() {
    let bounds = EngineConfig {
        prefill_chunk_max: 8,
        prefill_chunk_min: 4,
        ..config()
    };
    let mut bench = Bench::new(spec(2), 256, bounds);
    bench.submit("decodes", &prompt(1, 20), 20).unwrap();
    bench.step();
    let long = bench.submit("long", &prompt(30, 1), 1).unwrap();
    let longer = bench.submit("longer", &prompt(30, 1), 1).unwrap();
    for _ in 0..2 {
        bench.step();
    }
    let computed = |id| bench.backend.with(|inside| inside.computed[&id].len());
    assert_eq!((computed(long), computed(longer)), (8, 8), "in turns");
    for _ in 2..9 {
        bench.step();
    }
    // Of 29 tokens each, 8 in a step, one after the other's turn; somebody decodes in each.
    let steps = bench.backend.with(|inside| inside.steps.clone());
    assert_eq!(steps[0], (1, 0));
    assert!(
        steps
            .iter()
            .all(|&(decoding, tokens)| decoding >= 1 && tokens <= 8)
    );
    assert_eq!(steps[1..].iter().map(|step| step.1).sum::<usize>(), 58);
    assert_eq!(steps[1..].iter().filter(|step| step.1 == 8).count(), 7);
    bench.run();
    assert_eq!(bench.engine.snapshot().counters.completed, 3);
}

#[test]
fn a_prompt_of_one_and_an_answer_of_one() {
    let mut bench = Bench::plain(4);
    let ask = prompt(1, 1);
    let id = bench.submit("a", &ask, 1).unwrap();
    bench.step();
    assert_eq!(bench.tokens_of(id), expected(&ask, 1).0);
    assert_eq!(bench.end_of(id), LENGTH);
}

#[test]
fn a_stop_token_ends_it_and_is_not_told() {
    let ask: Vec<u32> = (0..)
        .map(|salt| vec![salt, 1, 2])
        .find(|ask| matches!(expected(ask, 20), (tokens, Finish::Stop) if tokens.len() == 3))
        .unwrap();
    let mut bench = Bench::plain(32);
    let id = bench.submit("a", &ask, 20).unwrap();
    bench.run();
    assert_eq!(bench.end_of(id), End::Completed(Finish::Stop));
    assert_eq!(bench.tokens_of(id), expected(&ask, 20).0);
    // Six tokens: what was leased for more came back.
    assert_eq!(bench.pool.snapshot().used, 4);
    assert_eq!(bench.ends_of(id)[0].cached, 6);
}

#[test]
fn the_next_turn_starts_from_the_last() {
    let mut bench = Bench::plain(64);
    let ask = prompt(6, 5);
    let first = bench.submit("alice", &ask, 5).unwrap();
    bench.run();
    let mut history = ask;
    history.extend(bench.tokens_of(first));

    // It goes on: all eleven tokens are there already.
    let mut longer = history.clone();
    longer.extend([1, 2, 3]);
    let second = bench.submit("alice", &longer, 4).unwrap();
    bench.run();
    assert_eq!(bench.reused(second), Some(11));
    assert_eq!(bench.tokens_of(second), expected(&longer, 4).0);

    // It parts after seven: those are, in a block of which one more token is not.
    let mut other = history[..7].to_vec();
    other.extend([90, 91, 92, 93]);
    let third = bench.submit("alice", &other, 4).unwrap();
    bench.run();
    assert_eq!(bench.reused(third), Some(7));
    assert_eq!(bench.tokens_of(third), expected(&other, 4).0);

    // The same again: all but the last token, which the first decode is made from.
    let fourth = bench.submit("alice", &other, 4).unwrap();
    bench.run();
    assert_eq!(bench.reused(fourth), Some(10));
    assert_eq!(bench.tokens_of(fourth), expected(&other, 4).0);
    // Another agent has nothing of it.
    let fifth = bench.submit("bob", &other, 4).unwrap();
    bench.run();
    assert_eq!(bench.reused(fifth), Some(0));
    assert_eq!(bench.engine.snapshot().counters.reused, 28);
}

#[test]
fn a_sliding_layer_is_reused_as_far_as_it_reaches() {
    let spec = spec(2)
        .with_layers(vec![LayerKind::Global, LayerKind::SlidingWindow], Some(6))
        .unwrap();
    let mut bench = Bench::new(spec, 64, config());
    let ask = prompt(9, 4);
    let first = bench.submit("alice", &ask, 4).unwrap();
    bench.run();
    // 13 tokens: four blocks, and two for the window.
    assert_eq!(bench.pool.snapshot().used, 6);
    let mut longer = ask;
    longer.extend(bench.tokens_of(first));
    longer.extend([5, 6]);
    let second = bench.submit("alice", &longer, 6).unwrap();
    bench.run();
    assert_eq!(bench.reused(second), Some(13));
    assert_eq!(bench.tokens_of(second), expected(&longer, 6).0);
    // What has slid out of the window is not there to part from.
    longer.truncate(12);
    let third = bench.submit("alice", &longer, 6).unwrap();
    bench.run();
    assert_eq!(bench.reused(third), Some(0));
    assert_eq!(bench.tokens_of(third), expected(&longer, 6).0);
}

#[test]
fn a_request_may_leave_no_cache() {
    let mut bench = Bench::plain(64);
    let request = NewRequest {
        keep_cache: false,
        ..NewRequest::new(bench.agent("alice"), prompt(6, 3), 3)
    };
    let id = bench.engine.submit(request, bench.now).unwrap();
    bench.run();
    assert_eq!((bench.end_of(id), bench.ends_of(id)[0].cached), (LENGTH, 0));
    assert_eq!(bench.pool.snapshot().used, 0);
}

/// A turn that is broken off is worth keeping: its history took long to compute.
#[test]
fn a_cancelled_request_keeps_what_was_computed() {
    let mut bench = Bench::plain(64);
    let ask = prompt(6, 20);
    let id = bench.submit("alice", &ask, 20).unwrap();
    for _ in 0..4 {
        bench.step();
    }
    let said = bench.tokens_of(id);
    assert_eq!(said.len(), 3);
    bench
        .engine
        .cancel(id, CancelReason::Requested, bench.now)
        .unwrap();
    let again = bench.engine.cancel(id, CancelReason::Requested, bench.now);
    assert_eq!(again, Err(CancelError::Ended { request: id }));
    bench.run();
    assert_eq!(bench.end_of(id), End::Cancelled(CancelReason::Requested));
    assert_eq!(bench.ends_of(id)[0].cached, 9);
    let next = [ask, said].concat();
    let id = bench
        .submit("alice", &[next.as_slice(), &[3]].concat(), 2)
        .unwrap();
    bench.run();
    assert_eq!(bench.reused(id), Some(9));
    let unknown = CancelError::Unknown {
        request: RequestId(99),
    };
    let refused = bench
        .engine
        .cancel(RequestId(99), CancelReason::Requested, bench.now);
    assert_eq!(refused, Err(unknown));
}

#[test]
fn the_least_recently_used_caches_make_way_and_no_more_than_must() {
    let mut bench = Bench::plain(24);
    // Three caches of eight blocks (16 tokens in two layers).
    for name in ["a", "b", "c", "a"] {
        let ask = if name == "a" {
            prompt(12, 4)
        } else {
            prompt(13, 3)
        };
        bench.submit(name, &ask, 16 - ask.len() as u32).unwrap();
        bench.run();
    }
    assert_eq!(bench.engine.snapshot().caches, 3);
    // Two blocks: b's cache is the oldest, a's was used again.
    bench.submit("d", &prompt(2, 2), 2).unwrap();
    bench.run();
    assert!(bench.engine.take_cache(bench.agent("b")).is_none());
    assert_eq!(bench.engine.snapshot().caches, 3);

    // One that would not fit even so drops nobody's.
    let other = bench.agent("other");
    let pool = bench.pool.clone();
    let _held = pool.allocate(6, LayerId(0), other).unwrap();
    bench.submit("e", &prompt(30, 10), 10).unwrap();
    bench.run();
    assert_eq!(bench.engine.snapshot().caches, 3);
    assert!(matches!(bench.engine.wake(), Wake::At(_)));
}

#[test]
fn under_a_watermark_the_youngest_gives_way_once() {
    let bounds = EngineConfig {
        admission: Admission::Watermark { blocks: 0 },
        ..config()
    };
    let mut bench = Bench::new(spec(2), 16, bounds);
    let asks: Vec<Vec<u32>> = (0..4).map(|i| prompt(3 + i, 20)).collect();
    let ids: Vec<RequestId> = (asks.iter().zip(["a", "b", "c", "d"]))
        .map(|(ask, name)| bench.submit(name, ask, 20).unwrap())
        .collect();
    bench.run();
    let counters = bench.engine.snapshot().counters;
    assert_eq!((counters.completed, counters.failed), (4, 0));
    assert!(
        counters.preemptions >= 2,
        "four of 24 tokens do not fit into 32 at once"
    );
    for (id, ask) in ids.iter().zip(&asks) {
        assert_eq!(bench.tokens_of(*id), expected(ask, 20).0, "told once each");
        let given_way = bench
            .told
            .iter()
            .filter(|e| **e == Event::Preempted { request: *id });
        assert!(given_way.count() <= 1);
    }
    // The oldest never did.
    assert!(!bench.told.contains(&Event::Preempted { request: ids[0] }));
}

#[test]
fn a_watermark_keeps_room_for_those_who_run() {
    let bounds = EngineConfig {
        admission: Admission::Watermark { blocks: 4 },
        ..config()
    };
    let mut bench = Bench::new(spec(2), 8, bounds);
    // Two blocks each; the second would leave four, the third only two.
    for name in ["a", "b", "c"] {
        bench.submit(name, &prompt(3, 1), 1).unwrap();
    }
    bench.step();
    assert_eq!(bench.started().len(), 2);
    bench.run();
    assert_eq!(bench.engine.snapshot().counters.completed, 3);
    // More than there is with the watermark kept: it is admitted once it is alone.
    let large = bench.submit("d", &prompt(14, 2), 2).unwrap();
    bench.run();
    assert_eq!(bench.end_of(large), LENGTH);
}
