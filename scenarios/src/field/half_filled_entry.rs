//! mlx#3624: an entry of the compile cache was marked as filled before it was traced. Where the
//! trace threw, the entry stayed: filled, it said, with nothing in it. The next call found it,
//! traced nothing, replayed nothing, and returned no outputs as a success.
//!
//! Two threads run a step whose first compile passes, or fails, at once or at its first execution.
//! Each runs it twice. A call may be refused; one that is answered must be answered right. And
//! however the two meet, one of them compiles, once.
//!
//! What ships publishes a step when it has run, and not before.

use selvedge_core::platform::{JoinHandle, Mutex, Platform, Shared};
use selvedge_core::train::compiled_step::CompileFailure;
use selvedge_sim::{Cx, Observation, bodies, reach, violation};

use crate::bed::in_rounds;
use crate::compiling::{Answer, Compiled, Goes, LONGEST, Script, Shipped, Steps};
use crate::registry::{Expect, Scenario, explorer, loom, native, shuttle};

pub(super) const SCENARIO: Scenario = Scenario {
    id: "half-filled-entry",
    ticket: "mlx#3624",
    summary: "a cache entry marked as filled before it is: an empty success",
    source: concat!(
        include_str!("half_filled_entry.rs"),
        include_str!("../bed.rs"),
        include_str!("../compiling.rs")
    ),
    twin: bodies!(first_trace_fails, MarkedBefore),
    shipped: bodies!(first_trace_fails, Shipped),
    signature: "empty-success",
    must_reach: &["beside-a-compile", "compiled-after-all"],
    engines: &[
        native(Expect::Finds),
        explorer(Expect::Finds),
        loom(Expect::Finds),
        shuttle(Expect::Finds),
    ],
};

fn first_trace_fails<P: Platform, T: Steps<P>>(cx: &Cx) -> Observation {
    let ways = [Goes::Well, Goes::Fails, Goes::FailsInUse];
    let goes = ways[cx.choose(3) as usize];
    in_rounds(cx, || {
        let script = Script::<P>::new(vec![goes]);
        let steps = P::Arc::new(T::new(script.clone()));
        let (mut ours, mut theirs) = (T::thread(&steps), T::thread(&steps));
        let other = P::spawn(move || {
            checked::<P, T>(&mut theirs, 1);
            theirs
        });
        let first = checked::<P, T>(&mut ours, 2);
        let mut theirs = other.join();
        if script.begun() != 1 {
            violation!("compiled-twice", "{} compiles of two calls", script.begun());
        }
        if first.is_some_and(|answer| !answer.compiled) {
            reach("beside-a-compile");
        }
        steps.epoch(1, LONGEST);
        let second = checked::<P, T>(&mut theirs, 3);
        let third = checked::<P, T>(&mut ours, 4);
        if [second, third]
            .iter()
            .flatten()
            .all(|answer| answer.compiled)
        {
            reach("compiled-after-all");
        }
        let by = |answer: Option<Answer>| answer.map(|answer| answer.compiled);
        format!("{goes:?}: {:?} {:?}", by(first), script.begun())
    })
}

/// Runs; an answer must be right.
fn checked<P: Platform, T: Steps<P>>(thread: &mut T::Thread, number: u32) -> Option<Answer> {
    let answer = T::run(thread, number).ok()?;
    if answer.doubled != 2 * number {
        violation!("empty-success", "{answer:?} to {number}");
    }
    Some(answer)
}

/// As reported.
struct MarkedBefore<P: Platform> {
    script: P::Arc<Script<P>>,
    entry: P::Mutex<Entry>,
}

#[derive(Clone, Copy, Default)]
struct Entry {
    filled: bool,
    /// The tape.
    tape: Option<Compiled>,
}

impl<P: Platform> Steps<P> for MarkedBefore<P> {
    type Thread = P::Arc<Self>;

    fn new(script: P::Arc<Script<P>>) -> Self {
        MarkedBefore {
            script,
            entry: P::Mutex::new(Entry::default()),
        }
    }

    fn thread(this: &P::Arc<Self>) -> P::Arc<Self> {
        this.clone()
    }

    fn run(this: &mut P::Arc<Self>, number: u32) -> Result<Answer, CompileFailure> {
        let found = {
            let mut entry = this.entry.lock();
            let found = *entry;
            entry.filled = true;
            found
        };
        if !found.filled {
            let compiled = this.script.compile_it()?;
            // The trace is the first execution.
            let answer = this.script.run_compiled(compiled, number)?;
            this.entry.lock().tape = Some(compiled);
            return Ok(answer);
        }
        match found.tape {
            Some(compiled) => this.script.run_compiled(compiled, number),
            // Replaying an empty tape does nothing, and does it well.
            None => Ok(Answer {
                doubled: 0,
                compiled: true,
            }),
        }
    }
}
