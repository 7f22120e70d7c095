//! The origin's trace handler writes the trace while the profiler is left, which is in `finally`.
//! Where the disk is full it raises there, and what it raises takes the place of what ended the
//! training: the caller hears of the disk, and nobody of the NaN.
//!
//! The training fails, and then the trace cannot be completed. The caller must be told of both.
//!
//! What ships hands both back side by side.

use selvedge_core::platform::Platform;
use selvedge_core::train::profiler::Schedule;
use selvedge_sim::{Cx, Observation, bodies, reach, violation};

use super::profilers::{Disk, Fault, NAN, OOM, Raised, Records, Torch, panics, session, told};
use crate::registry::{Expect, Scenario, explorer, loom, native};

pub(super) const SCENARIO: Scenario = Scenario {
    id: "E-PROFILER-HANDLER",
    ticket: "esper, after B11-CR-05 (c)",
    summary: "the trace handler's I/O error takes the place of what ended the training",
    source: concat!(
        include_str!("profiler_handler.rs"),
        include_str!("profilers.rs")
    ),
    twin: bodies!(as_found),
    shipped: bodies!(shipped),
    signature: "training-error-masked",
    must_reach: &["error-kept", "panic-kept", "disk-told"],
    // One thread has one order: shuttle would run it thousands of times.
    engines: &[
        native(Expect::Finds),
        explorer(Expect::Finds),
        loom(Expect::Finds),
    ],
};

/// As found.
fn as_found<P: Platform>(_: &Cx) -> Observation {
    fails_twice::<P>(|disk, fails| {
        let torch = Torch::enter(disk, Schedule::always());
        // try:
        torch.note("forward");
        let trained = told(fails);
        // finally:
        torch.exit()?;
        trained
    })
}

/// The code that ships.
fn shipped<P: Platform>(_: &Cx) -> Observation {
    fails_twice::<P>(|disk, fails| {
        let driven = session(disk, Schedule::always()).drive(|profiler| {
            profiler.note("forward");
            fails()
        });
        match driven.trace {
            Err(error) if error.failures == 1 => reach("disk-told"),
            other => violation!("hidden-error", "{other:?}"),
        }
        driven
            .body
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

type Fails = fn() -> Result<(), Raised>;

fn fails_twice<P: Platform>(train: fn(&Disk<P>, Fails) -> Result<(), Raised>) -> Observation {
    let ways: [(Fails, Raised, _); 2] = [
        (|| Err(NAN), NAN, "error-kept"),
        (|| panics(OOM), OOM, "panic-kept"),
    ];
    for (fails, first, probe) in ways {
        let disk = Disk::<P>::new(Fault::Fails);
        let ended = told(|| train(&disk, fails));
        if ended != Err(first) {
            violation!("training-error-masked", "{ended:?} instead of {first:?}");
        }
        reach(probe);
    }
    Observation::none()
}
