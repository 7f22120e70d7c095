//! The origin's repair of B11-CR-05 put the training into `try`, and the profiler's exit into
//! `finally`. But a second profiler, that of the phases, is entered after the first was and before
//! `try` begins. Where entering it raises, nobody leaves the first.
//!
//! Both are entered; the second cannot be. The first has recorded by then: its trace must be there,
//! and the caller must be told why there was no training.
//!
//! What ships has no enter: the inner profiler is made within the outer one's closure.

use selvedge_core::platform::Platform;
use selvedge_core::train::profiler::Schedule;
use selvedge_sim::{Cx, Observation, bodies, reach, violation};

use super::profilers::{Disk, Fault, Raised, Records, Torch, session, told};
use crate::registry::{Expect, Scenario, explorer, loom, native};

pub(super) const SCENARIO: Scenario = Scenario {
    id: "E-PROFILER-ENTER",
    ticket: "esper, after B11-CR-05 (a)",
    summary: "a second profiler is entered before `try`: if it raises, the first stays open",
    source: concat!(
        include_str!("profiler_enter.rs"),
        include_str!("profilers.rs")
    ),
    twin: bodies!(as_found),
    shipped: bodies!(shipped),
    signature: "trace-missing",
    must_reach: &["not-entered"],
    // One thread has one order: shuttle would run it thousands of times.
    engines: &[
        native(Expect::Finds),
        explorer(Expect::Finds),
        loom(Expect::Finds),
    ],
};

const NO_CLOCK: Raised = Raised("RuntimeError: there is no clock for this process");

/// As found.
fn as_found<P: Platform>(_: &Cx) -> Observation {
    enters::<P>(|disk| {
        let torch = Torch::enter(disk, Schedule::always());
        torch.note("setup");
        enter_phases()?;
        // try:
        let trained = Ok(());
        // finally:
        torch.exit()?;
        trained
    })
}

/// The code that ships.
fn shipped<P: Platform>(_: &Cx) -> Observation {
    enters::<P>(|disk| {
        let driven = session(disk, Schedule::always()).drive(|profiler| {
            profiler.note("setup");
            enter_phases()
        });
        if let Err(error) = driven.trace {
            violation!("wrong-error", "{error}");
        }
        driven
            .body
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

fn enters<P: Platform>(train: fn(&Disk<P>) -> Result<(), Raised>) -> Observation {
    let disk = Disk::<P>::new(Fault::Nothing);
    let ended = told(|| train(&disk));
    if ended != Err(NO_CLOCK) {
        violation!("wrong-end", "{ended:?}");
    }
    disk.judge(&["setup"]);
    reach("not-entered");
    Observation::none()
}

fn enter_phases() -> Result<(), Raised> {
    Err(NO_CLOCK)
}
