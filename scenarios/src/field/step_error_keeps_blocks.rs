//! mistral.rs PR 2045: a step of the model failed, and its sequences went into the state
//! "error". What gives blocks back looked for sequences that were "done", and "error" was not
//! among them. Each failed step so kept its blocks, until the server was full for ever and
//! accepted requests that it could never run.
//!
//! Two requests run when a step fails. Both must be told so, and every block must come back.
//!
//! What ships has one way out for every end. A failed step is the end of the engine: all that is
//! pending fails with the cause, and whoever comes later is told it too.

use std::marker::PhantomData;

use selvedge_core::engine::{
    Closed, DeathCause, End, EngineConfig, FailReason, NewRequest, SubmitError,
};
use selvedge_core::platform::Platform;
use selvedge_core::time::Instant;
use selvedge_sim::{Cx, Observation, bodies, reach, violation};

use crate::bed::{Bed, Script, end_of};
use crate::registry::{Expect, Scenario, explorer, loom, native, shuttle};

pub(super) const SCENARIO: Scenario = Scenario {
    id: "step-error-keeps-blocks",
    ticket: "mistral.rs PR 2045",
    summary: "a sequence in error is not finished, so its blocks stay",
    source: concat!(
        include_str!("step_error_keeps_blocks.rs"),
        include_str!("../bed.rs")
    ),
    twin: bodies!(a_step_fails, ErrorIsNotDone),
    shipped: bodies!(a_step_fails, Shipped),
    signature: "blocks-kept",
    must_reach: &["all-told", "next-one-told"],
    engines: &[
        native(Expect::Finds),
        explorer(Expect::Finds),
        loom(Expect::Finds),
        shuttle(Expect::Finds),
    ],
};

const BLOCKS: u32 = 4;
const TURNS: u32 = 10;

trait Server<P: Platform> {
    /// With two requests, whose second step will fail.
    fn new() -> Self;
    /// How many requests were told that they failed.
    fn turn(&mut self) -> u32;
    fn blocks_used(&self) -> u32;
    /// Asks once more, and says whether the answer came by an error of its own type.
    fn ask_again(&mut self) -> bool;
}

fn a_step_fails<P: Platform, T: Server<P>>(_: &Cx) -> Observation {
    let mut server = T::new();
    let told: u32 = (0..TURNS).map(|_| server.turn()).sum();
    let used = server.blocks_used();
    if used > 0 {
        violation!(
            "blocks-kept",
            "{told} of 2 were told, {used} of {BLOCKS} are used"
        );
    }
    if told != 2 {
        violation!("not-told", "{told} of 2 requests were told");
    }
    reach("all-told");
    if server.ask_again() {
        reach("next-one-told");
    }
    Observation::none()
}

/// The code that ships.
struct Shipped<P: Platform> {
    bed: Bed<P>,
    requests: [selvedge_core::RequestId; 2],
}

impl<P: Platform> Server<P> for Shipped<P> {
    fn new() -> Self {
        let script = Script {
            fail_step: Some(1),
            ..Script::default()
        };
        let bed = Bed::new(1, BLOCKS, EngineConfig::default(), script);
        let requests = [bed.alice, bed.bob].map(|agent| bed.submit(agent, &[1], 5));
        Shipped { bed, requests }
    }

    fn turn(&mut self) -> u32 {
        let events = self.bed.step();
        let failed = |request: &&selvedge_core::RequestId| {
            let end = end_of(&events, **request).map(|ended| &ended.end);
            let dead = FailReason::EngineDead(DeathCause::StepFailed {
                message: "the device is gone".to_owned(),
            });
            end == Some(&End::Failed(dead))
        };
        u32::try_from(self.requests.iter().filter(failed).count()).unwrap_or(u32::MAX)
    }

    fn blocks_used(&self) -> u32 {
        if let Err(violated) = self.bed.engine.audit() {
            violation!(violated.property, "{violated}");
        }
        self.bed.pool.snapshot().used
    }

    fn ask_again(&mut self) -> bool {
        let request = NewRequest::new(self.bed.alice, vec![1], 1);
        matches!(
            self.bed.engine.submit(request, Instant::ZERO),
            Err(SubmitError::Closed(Closed::EngineDead(_)))
        )
    }
}

/// As reported.
struct ErrorIsNotDone<P: Platform> {
    sequences: Vec<(State, u32)>,
    steps: u32,
    platform: PhantomData<P>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Running { left: u32 },
    Done,
    Error,
}

impl<P: Platform> Server<P> for ErrorIsNotDone<P> {
    fn new() -> Self {
        ErrorIsNotDone {
            sequences: vec![(State::Running { left: 5 }, 2); 2],
            steps: 0,
            platform: PhantomData,
        }
    }

    fn turn(&mut self) -> u32 {
        let fails = self.steps == 1;
        self.steps += 1;
        let mut told = 0;
        for (state, _) in &mut self.sequences {
            *state = match *state {
                State::Running { .. } if fails => {
                    told += 1;
                    State::Error
                }
                State::Running { left: 1 } => State::Done,
                State::Running { left } => State::Running { left: left - 1 },
                over => over,
            };
        }
        // What is done gives its blocks back.
        self.sequences.retain(|of| of.0 != State::Done);
        told
    }

    fn blocks_used(&self) -> u32 {
        self.sequences.iter().map(|of| of.1).sum()
    }

    fn ask_again(&mut self) -> bool {
        false
    }
}
