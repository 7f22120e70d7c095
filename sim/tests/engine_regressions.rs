//! Sequences that once broke the engine, as values: a random search that finds them again
//! would be luck. Each with what it caught.

mod engine;

use selvedge_core::engine::Finish;
use selvedge_sim::faulty::{Call as At, Fault, PlannedFault};

use self::engine::operation::Operation::*;
use self::engine::operation::{Ask, Prompt, Sequence, Shape, spec_of};
use self::engine::world::{World, weights};

/// Found by `engine_oracle.rs` in its first hour. The youngest gives way, so a request that had
/// given way, and had been given all its blocks for that, was the youngest again and gave way
/// again: each time an older one grew, for ever. Who gave way once is passed over since.
#[test]
fn who_gave_way_does_not_give_way_again() {
    let ask = |agent, prompt, max_tokens| {
        Submit(Ask {
            agent,
            prompt,
            max_tokens,
            keep: false,
            deadline: None,
        })
    };
    // Prompts after which nothing stops early, or all of them fit.
    let mut salts = (0..).filter(|&salt| {
        let wanted = weights(1).expected(&spec_of(3, None), &[salt], 8);
        wanted.1 == Finish::Length
    });
    let mut goes_on = || Prompt::New(1, salts.next().expect("most do not stop"));
    let sequence = Sequence {
        shape: Shape {
            layers: 3,
            window: None,
            blocks: 15,
            max_running: 3,
            max_waiting: 3,
            max_overtakes: 0,
            watermark: Some(0),
            chunk: 5,
        },
        faults: Vec::new(),
        operations: vec![
            ask(1, goes_on(), 4),
            ask(0, goes_on(), 8),
            ask(2, goes_on(), 8),
        ],
    };
    let reached = World::run(&sequence).unwrap_or_else(|what| panic!("{what}"));
    assert!(reached.contains("preempted"), "it gives way once");
}

/// Found by the first case drawn once the oracle looked into the backend. Blocks past the end of
/// a sequence, and all of it where the backend could not hand it over, were given back while the
/// sequence was in the backend still: another user of the pool could be given them.
#[test]
fn no_block_is_given_back_before_the_backend_has_handed_over() {
    for fault in [None, Some(Fault::Error), Some(Fault::Short)] {
        let planned = |fault| PlannedFault {
            call: At::Extract,
            nth: 1,
            fault,
        };
        let sequence = Sequence {
            shape: Shape {
                layers: 1,
                window: None,
                blocks: 8,
                max_running: 1,
                max_waiting: 1,
                max_overtakes: 0,
                watermark: None,
                chunk: 2,
            },
            faults: fault.map(planned).into_iter().collect(),
            operations: vec![Submit(Ask {
                agent: 0,
                prompt: Prompt::Parts(3),
                max_tokens: 6,
                keep: true,
                deadline: None,
            })],
        };
        let reached = World::run(&sequence).unwrap_or_else(|what| panic!("{what}"));
        assert!(reached.iter().any(|what| what.starts_with("completed")));
        assert_eq!(reached.contains("fault: ExtractFailed"), fault.is_some());
    }
}

/// Found by 100,000 sequences of `engine_oracle.rs`. A request waits, and its agent's idle cache is
/// spared for it; a younger one that was admitted past it grows until only that cache is left,
/// and stands still, with the blocks that the older one waits for. So both waited for ever. The
/// younger gives way since.
#[test]
fn who_grows_gives_way_to_an_older_one_whose_cache_it_would_need() {
    let ask = |agent, prompt, max_tokens, keep| {
        Submit(Ask {
            agent,
            prompt,
            max_tokens,
            keep,
            deadline: None,
        })
    };
    let sequence = Sequence {
        shape: Shape {
            layers: 3,
            window: None,
            blocks: 9,
            max_running: 1,
            max_waiting: 3,
            max_overtakes: 1,
            watermark: Some(0),
            chunk: 2,
        },
        faults: Vec::new(),
        operations: vec![
            OthersTake(4),
            ask(2, Prompt::New(1, 2), 1, true),
            Steps(1),
            ask(2, Prompt::GoesOn(2), 1, false),
            Steps(1),
            OthersGive,
            ask(0, Prompt::New(2, 0), 7, false),
            Steps(1),
        ],
    };
    let reached = World::run(&sequence).unwrap_or_else(|what| panic!("{what}"));
    assert!(
        reached.contains("overtaken") && reached.contains("preempted"),
        "{reached:?}"
    );
}
