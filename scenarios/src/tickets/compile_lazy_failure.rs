//! Ticket B8-PT-03, its other half: `torch.compile` returns at once, and compiles at the first
//! *call* of what it returned. The `try` stood around the former. A failure for want of memory
//! came out of the step itself, past everything that was there to catch it; and what was cached
//! by then failed at every later call as well.
//!
//! A step compiles, and fails at its first execution, by an error or by a panic. The call must
//! be answered all the same, and in the end the step must be compiled.
//!
//! What ships publishes a step after its first execution, and catches both.

use selvedge_core::platform::{Mutex, Platform, Shared};
use selvedge_core::train::compiled_step::CompileFailure;
use selvedge_sim::{Cx, Observation, bodies, reach, violation};

use crate::compiling::{Answer, Compiled, Goes, LONGEST, Script, Shipped, Steps, answer, excepted};
use crate::registry::{Expect, Scenario, explorer, loom, native};

pub(super) const SCENARIO: Scenario = Scenario {
    id: "compile-lazy-failure",
    ticket: "B8-PT-03",
    summary: "a lazy compile fails at the first call, outside the try",
    source: concat!(
        include_str!("compile_lazy_failure.rs"),
        include_str!("../compiling.rs")
    ),
    twin: bodies!(fails_at_its_first_call, TriesToWrap),
    shipped: bodies!(fails_at_its_first_call, Shipped),
    signature: "error-escaped",
    must_reach: &["fell-back", "recovered"],
    // One thread has one order: shuttle would run it thousands of times.
    engines: &[
        native(Expect::Finds),
        explorer(Expect::Finds),
        loom(Expect::Finds),
    ],
};

fn fails_at_its_first_call<P: Platform, T: Steps<P>>(cx: &Cx) -> Observation {
    let goes = [Goes::FailsInUse, Goes::PanicsInUse][cx.choose(2) as usize];
    let script = Script::<P>::new(vec![goes]);
    let steps = P::Arc::new(T::new(script));
    let mut thread = T::thread(&steps);
    if !answer::<P, T>(&mut thread, 3).compiled {
        reach("fell-back");
    }
    answer::<P, T>(&mut thread, 4);
    steps.epoch(1, LONGEST);
    answer::<P, T>(&mut thread, 5);
    if !answer::<P, T>(&mut thread, 6).compiled {
        violation!("poisoned", "it compiles well by now");
    }
    reach("recovered");
    Observation::of(format!("{goes:?}"))
}

/// As reported: what is tried is the wrapping, which cannot fail.
struct TriesToWrap<P: Platform> {
    script: P::Arc<Script<P>>,
    cached: P::Mutex<Option<Compiled>>,
}

impl<P: Platform> Steps<P> for TriesToWrap<P> {
    type Thread = P::Arc<Self>;

    fn new(script: P::Arc<Script<P>>) -> Self {
        TriesToWrap {
            script,
            cached: P::Mutex::new(None),
        }
    }

    fn thread(this: &P::Arc<Self>) -> P::Arc<Self> {
        this.clone()
    }

    fn run(this: &mut P::Arc<Self>, number: u32) -> Result<Answer, CompileFailure> {
        let known = *this.cached.lock();
        let compiled = match known {
            Some(compiled) => compiled,
            None => match excepted(|| this.script.compile_it()) {
                Ok(compiled) => *this.cached.lock().insert(compiled),
                Err(_) => return Ok(this.script.run_eagerly(number)),
            },
        };
        // What the trainer sees of it, whichever it is.
        excepted(|| this.script.run_compiled(compiled, number))
    }
}
