//! Ticket B8-PT-03: the function that compiles the step, or gives the eager one where that fails,
//! was kept by `functools.cache`. Whatever its first call came to, every later one came to as
//! well: a failure for want of memory, long over, and the process trained two to five times
//! slower until its end.
//!
//! A step fails to compile once or twice, in any way. Then time passes, and epochs begin: in the
//! end it must be compiled.
//!
//! What ships remembers a failure for a time, which is finite whatever failed.

use selvedge_core::platform::{Mutex, Platform, Shared};
use selvedge_core::train::compiled_step::CompileFailure;
use selvedge_sim::{Cx, Observation, bodies, reach, violation};

use crate::compiling::{Answer, Compiled, Goes, LONGEST, Script, Shipped, Steps, answer, excepted};
use crate::registry::{Expect, Scenario, explorer, loom, native};

pub(super) const SCENARIO: Scenario = Scenario {
    id: "compile-fallback-forever",
    ticket: "B8-PT-03",
    summary: "a failed compile is cached, and the step is eager for ever",
    source: concat!(
        include_str!("compile_fallback_forever.rs"),
        include_str!("../compiling.rs")
    ),
    twin: bodies!(fails_and_recovers, CachesAnything),
    shipped: bodies!(fails_and_recovers, Shipped),
    signature: "still-eager",
    must_reach: &["fell-back", "recovered"],
    // One thread has one order: shuttle would run it thousands of times.
    engines: &[
        native(Expect::Finds),
        explorer(Expect::Finds),
        loom(Expect::Finds),
    ],
};

fn fails_and_recovers<P: Platform, T: Steps<P>>(cx: &Cx) -> Observation {
    let ways = [Goes::Fails, Goes::FailsForGood, Goes::Panics];
    let goes = ways[cx.choose(3) as usize];
    let failures = 1 + cx.choose(2);
    let script = Script::<P>::new(vec![goes; failures as usize]);
    let steps = P::Arc::new(T::new(script.clone()));
    let mut thread = T::thread(&steps);
    let first = answer::<P, T>(&mut thread, 3);
    if !first.compiled {
        reach("fell-back");
    }
    for number in 1..=failures {
        // What has cooled off may be tried again.
        steps.epoch(u64::from(number), LONGEST);
        answer::<P, T>(&mut thread, number);
    }
    let last = answer::<P, T>(&mut thread, 4);
    if !last.compiled {
        violation!(
            "still-eager",
            "{goes:?} {failures} times, {} compiles, and days later it is eager",
            script.begun()
        );
    }
    reach("recovered");
    Observation::of(format!("{goes:?} {failures} times"))
}

/// As reported: `functools.cache` around a function that tries.
struct CachesAnything<P: Platform> {
    script: P::Arc<Script<P>>,
    /// What the first call gave: a compiled step, or none.
    cached: P::Mutex<Option<Option<Compiled>>>,
}

impl<P: Platform> Steps<P> for CachesAnything<P> {
    type Thread = P::Arc<Self>;

    fn new(script: P::Arc<Script<P>>) -> Self {
        CachesAnything {
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
