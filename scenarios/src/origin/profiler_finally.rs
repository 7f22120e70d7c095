//! The origin's `finally` leaves two profilers, that of the phases first. Where leaving it raises,
//! the line that leaves torch's profiler is never reached: its trace is lost, and with it what
//! `finally` was for.
//!
//! The training fails; then the inner profiler's exit fails or panics. The outer one's trace must
//! be there, and the caller must be told why the training failed.
//!
//! What ships closes each session by itself, whatever the other's closing came to.

use selvedge_core::platform::Platform;
use selvedge_core::train::profiler::Schedule;
use selvedge_sim::{Cx, Observation, bodies, reach, violation};

use super::profilers::{Disk, Fault, NAN, Raised, Records, Torch, session, told};
use crate::registry::{Expect, Scenario, explorer, loom, native};

pub(super) const SCENARIO: Scenario = Scenario {
    id: "E-PROFILER-FINALLY",
    ticket: "esper, after B11-CR-05 (b)",
    summary: "`finally` leaves two profilers: if the first exit raises, the other stays open",
    source: concat!(
        include_str!("profiler_finally.rs"),
        include_str!("profilers.rs")
    ),
    twin: bodies!(as_found),
    shipped: bodies!(shipped),
    signature: "trace-missing",
    must_reach: &["inner-fails", "inner-panics"],
    // One thread has one order: shuttle would run it thousands of times.
    engines: &[
        native(Expect::Finds),
        explorer(Expect::Finds),
        loom(Expect::Finds),
    ],
};

/// As found.
fn as_found<P: Platform>(_: &Cx) -> Observation {
    leaves_both::<P>(|outer, inner| {
        let torch = Torch::enter(outer, Schedule::always());
        let phases = Torch::enter(inner, Schedule::always());
        // try:
        torch.note("forward");
        let trained = Err(NAN);
        // finally:
        phases.exit()?;
        torch.exit()?;
        trained
    })
}

/// The code that ships.
fn shipped<P: Platform>(_: &Cx) -> Observation {
    leaves_both::<P>(|outer, inner| {
        let outer = session(outer, Schedule::always()).drive(|profiler| {
            let phases = session(inner, Schedule::always()).drive(|_| {
                profiler.note("forward");
                Err(NAN)
            });
            if phases.trace.is_ok() {
                violation!(
                    "hidden-error",
                    "the inner trace is not complete, and nobody says so"
                );
            }
            phases
                .body
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        });
        if let Err(error) = outer.trace {
            violation!("wrong-error", "{error}");
        }
        outer
            .body
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

fn leaves_both<P: Platform>(train: fn(&Disk<P>, &Disk<P>) -> Result<(), Raised>) -> Observation {
    for (fault, probe) in [
        (Fault::Fails, "inner-fails"),
        (Fault::Panics, "inner-panics"),
    ] {
        let (outer, inner) = (Disk::<P>::new(Fault::Nothing), Disk::new(fault));
        let ended = told(|| train(&outer, &inner));
        outer.judge(&["forward"]);
        if ended != Err(NAN) {
            violation!("training-error-masked", "{ended:?}");
        }
        reach(probe);
    }
    Observation::none()
}
