//! Ticket B11-CR-05: the profiler is entered by hand, and left by hand after the last line of the
//! training. Whatever ends the training before that line leaves it open: its trace is in memory,
//! and never on the disk. It was switched on to find out about just that crash.
//!
//! A training of six steps, of which the third to the fifth are recorded. In the third a loader
//! runs on a thread of its own, and the training returns, errs, panics or is interrupted. There
//! must be one trace; it must be valid, and hold what that step has recorded; and the caller must be
//! told what ended the training.

use selvedge_core::platform::{JoinHandle, Platform};
use selvedge_sim::{Cx, Observation, bodies, reach, violation};

use crate::bed::in_rounds;
use crate::origin::profilers::{
    Disk, Fault, INTERRUPTED, NAN, OOM, Raised, Records, Torch, panics, schedule, session, told,
};
use crate::registry::{Expect, Scenario, explorer, loom, native, shuttle};

pub(super) const SCENARIO: Scenario = Scenario {
    id: "profiler-left-open",
    ticket: "B11-CR-05",
    summary: "the profiler is left on the normal path only: a crash takes its trace along",
    source: concat!(
        include_str!("profiler_left_open.rs"),
        include_str!("../origin/profilers.rs"),
        include_str!("../bed.rs")
    ),
    twin: bodies!(as_reported),
    shipped: bodies!(shipped),
    signature: "trace-missing",
    must_reach: &["returned", "error", "panic", "interrupt"],
    engines: &[
        native(Expect::Finds),
        explorer(Expect::Finds),
        loom(Expect::Finds),
        shuttle(Expect::Finds),
    ],
};

/// How the training ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum How {
    Returns,
    Errs,
    Panics,
    IsInterrupted,
}

/// As reported.
fn as_reported<P: Platform>(cx: &Cx) -> Observation {
    crashes::<P>(cx, |disk, how| {
        let torch = Torch::enter(disk, schedule());
        train::<P, _>(&torch, how)?;
        torch.exit()
    })
}

/// The code that ships.
fn shipped<P: Platform>(cx: &Cx) -> Observation {
    crashes::<P>(cx, |disk, how| {
        let driven = session(disk, schedule()).drive(|profiler| train::<P, _>(profiler, how));
        if let Err(error) = driven.trace {
            violation!("wrong-error", "{error}");
        }
        match driven.body {
            Ok(ended) => ended,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}

fn crashes<P: Platform>(cx: &Cx, train: fn(&Disk<P>, How) -> Result<(), Raised>) -> Observation {
    in_rounds(cx, || {
        let hows = [How::Returns, How::Errs, How::Panics, How::IsInterrupted];
        let how = hows[cx.choose(4) as usize];
        let disk = Disk::<P>::new(Fault::Nothing);
        let ended = told(|| train(&disk, how));
        let (expected, probe) = match how {
            How::Returns => (Ok(()), "returned"),
            How::Errs => (Err(NAN), "error"),
            How::Panics => (Err(OOM), "panic"),
            How::IsInterrupted => (Err(INTERRUPTED), "interrupt"),
        };
        if ended != expected {
            violation!("wrong-end", "{ended:?} where it was {expected:?}");
        }
        disk.judge(&["forward", "loaded"]);
        reach(probe);
        format!("{ended:?}")
    })
}

fn train<P: Platform, R: Records>(records: &R, how: How) -> Result<(), Raised> {
    for step in 0..6 {
        if step == 2 {
            let loader = records.clone();
            let loader = P::spawn(move || {
                loader.note("loaded");
                if how == How::IsInterrupted {
                    loader.interrupt();
                }
            });
            records.note("forward");
            loader.join();
            match how {
                How::Errs => return Err(NAN),
                How::Panics => panics(OOM),
                How::Returns | How::IsInterrupted => {}
            }
        }
        records.step()?;
    }
    Ok(())
}
