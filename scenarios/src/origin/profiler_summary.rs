//! With a summary wanted, the origin's `finally` asks the profiler for its averages. torch has
//! none until the schedule has begun to warm up, and says so by an assertion: a training that fails
//! in its first steps is told of as an AssertionError of the profiler.
//!
//! The training fails before the first active step, in the steps that wait and in the one that
//! warms up. The caller must be told why, and that there is no trace.
//!
//! What ships has its summary in what the session returns, in whatever step it ended.

use selvedge_core::platform::Platform;
use selvedge_sim::{Cx, Observation, bodies, reach, violation};

use super::profilers::{Disk, Fault, NAN, Raised, Records, Torch, schedule, session, told};
use crate::registry::{Expect, Scenario, explorer, loom, native};

pub(super) const SCENARIO: Scenario = Scenario {
    id: "E-PROFILER-SUMMARY",
    ticket: "esper, after B11-CR-05 (d)",
    summary: "the summary's assertion takes the place of a crash in the steps that wait",
    source: concat!(
        include_str!("profiler_summary.rs"),
        include_str!("profilers.rs")
    ),
    twin: bodies!(as_found),
    shipped: bodies!(shipped),
    signature: "training-error-masked",
    must_reach: &["while-waiting", "while-warming-up"],
    // One thread has one order: shuttle would run it thousands of times.
    engines: &[
        native(Expect::Finds),
        explorer(Expect::Finds),
        loom(Expect::Finds),
    ],
};

/// As found.
fn as_found<P: Platform>(_: &Cx) -> Observation {
    fails_early::<P>(|disk, steps| {
        let torch = Torch::enter(disk, schedule());
        // try:
        let trained = train(&torch, steps);
        // finally:
        torch.exit()?;
        torch.key_averages()?;
        trained
    })
}

/// The code that ships.
fn shipped<P: Platform>(_: &Cx) -> Observation {
    fails_early::<P>(|disk, steps| {
        let driven = session(disk, schedule()).drive(|profiler| train(profiler, steps));
        match driven.trace {
            Ok(closed)
                if closed
                    .warning()
                    .is_some_and(|text| text.starts_with("no trace")) => {}
            other => violation!("wrong-summary", "{other:?}"),
        }
        driven
            .body
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

fn train(records: &impl Records, steps: u32) -> Result<(), Raised> {
    for _ in 0..steps {
        records.note("forward");
        records.step()?;
    }
    Err(NAN)
}

fn fails_early<P: Platform>(train: fn(&Disk<P>, u32) -> Result<(), Raised>) -> Observation {
    for (steps, probe) in [(0, "while-waiting"), (1, "while-warming-up")] {
        let disk = Disk::<P>::new(Fault::Nothing);
        let ended = told(|| train(&disk, steps));
        if ended != Err(NAN) {
            violation!("training-error-masked", "{ended:?}");
        }
        if disk.traces() > 0 {
            violation!("trace-of-nothing", "no step was recorded");
        }
        reach(probe);
    }
    Observation::none()
}
