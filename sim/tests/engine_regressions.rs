//! Sequences that once broke the engine, as values: a random search that finds them again
//! would be luck. Each with what it caught.

mod engine;

use self::engine::operation::Operation::*;
use self::engine::operation::{Ask, Prompt, Sequence, Shape};
use self::engine::world::World;

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
            ask(1, Prompt::New(1, 0), 4),
            ask(0, Prompt::GoesOn(1), 8),
            ask(2, Prompt::Parts(1), 8),
        ],
    };
    let reached = World::run(&sequence).unwrap_or_else(|what| panic!("{what}"));
    assert!(reached.contains("preempted"), "it gives way once");
}
