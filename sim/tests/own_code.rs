//! Tests as somebody writes them for code of their own: the queue of the example, under every
//! engine.
#![cfg(not(loom_run))]

#[allow(dead_code, reason = "what the example prints is not wanted here")]
#[path = "../examples/own_code.rs"]
mod example;

use std::time::Duration;

use example::{broken, mended};
use selvedge_sim::Class;

selvedge_sim::model_tests! {
    /// Real threads hang for seconds before anybody can tell, so they are not asked.
    mod broken_queue = broken;
    engines = [explorer, loom, shuttle];
    must_fail = "deadlock";
}

selvedge_sim::model_tests! {
    mod broken_queue_within_bounds = broken;
    engines = [explorer:1, shuttle:random];
    must_fail = "deadlock";
    require = Class::Sampled;
    limit = Duration::from_secs(30);
}

selvedge_sim::model_tests!(mod mended_queue = mended);

selvedge_sim::model_tests! {
    mod mended_queue_is_found_empty = mended;
    engines = [explorer];
    must_reach = &["found-it-empty"];
}

#[test]
fn the_example_finds_the_one_bug_and_no_other() {
    let story = example::story().expect("the bug is found, and the mended queue survives");
    for part in [
        "preemptions 3 -> 1,",
        "with fewer preemptions it does not fail",
        "It needs one switch",
        "CRITICAL SWITCH",
        "task 0.1 waits for a notification",
        "what came out: [1, 2] or [2, 1].",
    ] {
        assert!(story.contains(part), "{part}:\n{story}");
    }
}
