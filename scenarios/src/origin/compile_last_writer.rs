//! `functools.cache` looks, calls, and stores, with no lock around the three. Two threads find
//! nothing, and both compile. One fails slowly, the other passes and stores its step; then the
//! one stores its fallback over it, for good.
//!
//! Two threads run a step. The first compile that begins fails, every other passes; time passes,
//! and an epoch begins, while the first is still at it. Once a compile has passed, the step must
//! be compiled.
//!
//! What ships has one attempt at a time. One that is not back by its deadline is given up at the
//! next epoch, so that there may be two after all; a failure of the first then changes nothing.

use std::time::Duration;

use selvedge_core::platform::{Atomic, JoinHandle, Mutex, Ordering, Platform, Shared};
use selvedge_core::train::compiled_step::{CompileFailure, FirstCompile};
use selvedge_sim::{Cx, Observation, bodies, reach, violation};

use crate::bed::in_rounds;
use crate::compiling::{Answer, Compiled, Goes, LONGEST, Script, Shipped, Steps, answer, excepted};
use crate::registry::{BY_LUCK, Expect, Scenario, explorer, loom, native, shuttle};

pub(super) const SCENARIO: Scenario = Scenario {
    id: "E-COMPILE-LAST-WRITER",
    ticket: "esper-lite, functools.cache around a compile",
    summary: "a slow failure is stored over another thread's success",
    source: concat!(
        include_str!("compile_last_writer.rs"),
        include_str!("../bed.rs"),
        include_str!("../compiling.rs")
    ),
    twin: bodies!(one_fails_slowly, LastWriterWins),
    shipped: bodies!(one_fails_slowly, OneAtATime),
    signature: "success-overwritten",
    must_reach: &["failed-first", "failed-late"],
    engines: &[
        native(BY_LUCK),
        explorer(Expect::Finds),
        loom(Expect::Finds),
        shuttle(Expect::Finds),
    ],
};

/// Turns that real threads wait for each other at most.
const TURNS: u32 = 200;

fn one_fails_slowly<P: Platform, T: Steps<P>>(cx: &Cx) -> Observation {
    // A checker tries every order; real threads are given time for the rare one.
    let slow = if cx.rounds() > 1 {
        TURNS * cx.choose(2)
    } else {
        0
    };
    in_rounds(cx, || {
        let script = Script::<P>::told(vec![Goes::Fails], slow, |succeeded| {
            reach(if succeeded {
                "failed-late"
            } else {
                "failed-first"
            });
        });
        let steps = P::Arc::new(T::new(script.clone()));
        let (mut ours, mut theirs) = (T::thread(&steps), T::thread(&steps));
        steps.epoch(1, Duration::ZERO);
        let other = P::spawn(move || {
            let answered = answer::<P, T>(&mut theirs, 1);
            (answered, theirs)
        });
        for _ in 0..slow {
            if script.begun() > 0 {
                break;
            }
            P::yield_now();
        }
        // Whoever compiles by now takes too long, and what has failed has cooled off.
        steps.epoch(2, LONGEST);
        steps.epoch(3, LONGEST);
        let answered = answer::<P, T>(&mut ours, 2);
        if answered.compiled {
            // ORDERING: Relaxed. It says only what was first.
            script.succeeded.store(true, Ordering::Relaxed);
        }
        let (others, mut theirs) = other.join();
        // No time has passed, so nothing has changed but by these two.
        for thread in [&mut ours, &mut theirs] {
            let after = answer::<P, T>(thread, 3);
            if (answered.compiled || others.compiled) && !after.compiled {
                violation!("success-overwritten", "{answered:?}, {others:?}, {after:?}");
            }
        }
        format!("compiled {} and {}", answered.compiled, others.compiled)
    })
}

/// The code that ships; both threads have looked, and a first compile is left to an epoch.
struct OneAtATime<P: Platform>(Shipped<P>);

impl<P: Platform> Steps<P> for OneAtATime<P> {
    type Thread = <Shipped<P> as Steps<P>>::Thread;

    fn new(script: P::Arc<Script<P>>) -> Self {
        OneAtATime(Shipped::compiling(script, FirstCompile::AtEpoch))
    }

    fn thread(this: &P::Arc<Self>) -> Self::Thread {
        let mut thread = this.0.handle();
        answer::<P, Self>(&mut thread, 0);
        thread
    }

    fn run(thread: &mut Self::Thread, number: u32) -> Result<Answer, CompileFailure> {
        <Shipped<P> as Steps<P>>::run(thread, number)
    }

    fn epoch(&self, number: u64, after: Duration) {
        self.0.epoch(number, after);
    }
}

/// As reported. What it gives to the first who asks it gives to all others for ever.
struct LastWriterWins<P: Platform> {
    script: P::Arc<Script<P>>,
    cached: P::Mutex<Option<Option<Compiled>>>,
}

impl<P: Platform> Steps<P> for LastWriterWins<P> {
    type Thread = P::Arc<Self>;

    fn new(script: P::Arc<Script<P>>) -> Self {
        LastWriterWins {
            script,
            cached: P::Mutex::new(None),
        }
    }

    fn thread(this: &P::Arc<Self>) -> P::Arc<Self> {
        this.clone()
    }

    fn run(this: &mut P::Arc<Self>, number: u32) -> Result<Answer, CompileFailure> {
        let known = *this.cached.lock();
        let step = known.unwrap_or_else(|| {
            let step = excepted(|| this.script.compile_it()).ok();
            *this.cached.lock() = Some(step);
            step
        });
        match step {
            Some(compiled) => this.script.run_compiled(compiled, number),
            None => Ok(this.script.run_eagerly(number)),
        }
    }
}
