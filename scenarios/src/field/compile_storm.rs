//! openj9#20618: with the code cache full, every request to compile failed at once, and was made
//! again at the method's next call: just under a million failures in a little more than a minute,
//! and a program slower than without any compiler. The origin's repair of ticket B8-PT-03 does
//! the same: a failure is not cached, so every call compiles.
//!
//! A step that cannot be compiled is called a hundred times in ten seconds, an epoch a second.
//!
//! What ships waits between two attempts, twice as long each time.

use std::time::Duration;

use selvedge_core::platform::{Mutex, Platform, Shared};
use selvedge_core::train::compiled_step::CompileFailure;
use selvedge_sim::{Cx, Observation, bodies, reach, violation};

use crate::compiling::{Answer, Compiled, Goes, Script, Shipped, Steps, answer, excepted};
use crate::registry::{Expect, Scenario, explorer, loom, native};

pub(super) const SCENARIO: Scenario = Scenario {
    id: "compile-storm",
    ticket: "openj9#20618",
    summary: "what cannot be compiled is compiled again at every call",
    source: concat!(
        include_str!("compile_storm.rs"),
        include_str!("../compiling.rs")
    ),
    twin: bodies!(never_compiles, RetriesEveryCall),
    shipped: bodies!(never_compiles, Shipped),
    signature: "compile-storm",
    must_reach: &["tried-again", "left-alone"],
    // One thread has one order: shuttle would run it thousands of times.
    engines: &[
        native(Expect::Finds),
        explorer(Expect::Finds),
        loom(Expect::Finds),
    ],
};

const SECONDS: u32 = 10;
const CALLS_A_SECOND: u32 = 10;
/// The delays that ship begin with 2 s: attempts after 0, 2 and 6 of them, and log2 of the time
/// they have is no less.
const MOST: u32 = 4;

fn never_compiles<P: Platform, T: Steps<P>>(cx: &Cx) -> Observation {
    let goes = [Goes::Fails, Goes::FailsInUse][cx.choose(2) as usize];
    let script = Script::<P>::new(vec![goes; 1_000]);
    let steps = P::Arc::new(T::new(script.clone()));
    let mut thread = T::thread(&steps);
    for second in 0..SECONDS {
        let before = script.begun();
        for call in 0..CALLS_A_SECOND {
            answer::<P, T>(&mut thread, call);
        }
        match script.begun() - before {
            0 => reach("left-alone"),
            1 if second > 0 => reach("tried-again"),
            _ => {}
        }
        steps.epoch(u64::from(second), Duration::from_secs(1));
    }
    if script.begun() > MOST {
        violation!(
            "compile-storm",
            "{} compiles in {SECONDS} s, of {} calls",
            script.begun(),
            SECONDS * CALLS_A_SECOND
        );
    }
    Observation::of(format!("{goes:?}: {} compiles", script.begun()))
}

/// As reported.
struct RetriesEveryCall<P: Platform> {
    script: P::Arc<Script<P>>,
    cached: P::Mutex<Option<Compiled>>,
}

impl<P: Platform> Steps<P> for RetriesEveryCall<P> {
    type Thread = P::Arc<Self>;

    fn new(script: P::Arc<Script<P>>) -> Self {
        RetriesEveryCall {
            script,
            cached: P::Mutex::new(None),
        }
    }

    fn thread(this: &P::Arc<Self>) -> P::Arc<Self> {
        this.clone()
    }

    fn run(this: &mut P::Arc<Self>, number: u32) -> Result<Answer, CompileFailure> {
        let known = *this.cached.lock();
        let step = known.map_or_else(|| excepted(|| this.script.compile_it()), Ok);
        let answer = step.and_then(|compiled| {
            let answer = excepted(|| this.script.run_compiled(compiled, number))?;
            *this.cached.lock() = Some(compiled);
            Ok(answer)
        });
        Ok(answer.unwrap_or_else(|_| this.script.run_eagerly(number)))
    }
}
