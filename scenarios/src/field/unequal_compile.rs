//! pytorch#193043, unsloth-zoo#967: part of compiling was a collective, by which ranks agreed on
//! something. A rank whose cache had the artefact did not compile, and so did not come to it.
//! The others' vote then met its gradient. The job hung in the end, when the watchdog came; what
//! came first was a wrong value.
//!
//! Two ranks sum a gradient, one of whose compile fails at first, or is not needed. Each sum must
//! be that of both gradients.
//!
//! What ships asks nobody. A rank compiles by itself, where that fails it runs eagerly, which
//! gives the same to the bit; and whoever came to another collective than the others would be told
//! so by the tag in it. When to try again is the record's to say, which all have.

use selvedge_core::ddp::InProcess;
use selvedge_core::platform::{JoinHandle, Platform, Shared};
use selvedge_sim::{Cx, Observation, bodies, reach, violation};

use super::ranks::collective::{FOREVER, Unbounded, given, pair, reduce};
use crate::bed::in_rounds;
use crate::compiling::{Answer, Compiled, Goes, LONGEST, Script, Shipped, Steps, answer, excepted};
use crate::registry::{Expect, Scenario, explorer, loom, native, shuttle};

pub(super) const SCENARIO: Scenario = Scenario {
    id: "unequal-compile",
    ticket: "pytorch#193043, unsloth-zoo#967",
    summary: "one rank compiles, another need not: its gradient meets a vote",
    source: concat!(
        include_str!("unequal_compile.rs"),
        include_str!("ranks/collective.rs"),
        include_str!("../bed.rs"),
        include_str!("../compiling.rs")
    ),
    twin: bodies!(one_compiles, VotesWhileCompiling),
    shipped: bodies!(one_compiles, AsksNobody),
    signature: "wrong-sum",
    must_reach: &["compiled-beside-eager", "both-compiled"],
    engines: &[
        native(Expect::Finds),
        explorer(Expect::Finds),
        loom(Expect::Finds),
        shuttle(Expect::Finds),
    ],
};

/// One rank's side of a training step for two.
trait Rank<P: Platform>: Send + Sized + 'static {
    /// The compile of rank `unlucky` fails at first, or is needed at all, as the case may be.
    fn pair(unlucky: u32) -> [Self; 2];
    /// Gives twice `number`, and returns what all gave; whether by a compiled step.
    fn step(&mut self, nth: u64, number: u32) -> (f64, bool);
    /// An epoch begins.
    fn epoch(&mut self, number: u64);
}

const EPOCHS: u64 = 2;

fn one_compiles<P: Platform, T: Rank<P>>(cx: &Cx) -> Observation {
    let unlucky = cx.choose(2);
    in_rounds(cx, || {
        let [ours, theirs] = T::pair(unlucky);
        let train = |mut rank: T, number: u32| {
            let mut compiled = Vec::new();
            for epoch in 0..EPOCHS {
                rank.epoch(epoch);
                let (sum, by) = rank.step(epoch, number);
                if sum != 6.0 {
                    violation!("wrong-sum", "{sum} in epoch {epoch}, of 2 and 4");
                }
                compiled.push(by);
            }
            (compiled, rank)
        };
        let other = P::spawn(move || train(theirs, 2));
        let (ours, _ours) = train(ours, 1);
        let (theirs, _theirs) = other.join();
        if ours[0] != theirs[0] {
            reach("compiled-beside-eager");
        }
        if ours[1] && theirs[1] {
            reach("both-compiled");
        }
        format!("{ours:?} and {theirs:?}")
    })
}

/// The code that ships.
struct AsksNobody<P: Platform> {
    steps: P::Arc<Shipped<P>>,
    thread: <Shipped<P> as Steps<P>>::Thread,
    seat: InProcess<f64, P>,
}

impl<P: Platform> Rank<P> for AsksNobody<P> {
    fn pair(unlucky: u32) -> [Self; 2] {
        let mut rank = 0;
        pair(FOREVER).map(|seat| {
            let goes = match rank == unlucky {
                true => vec![Goes::Fails],
                false => Vec::new(),
            };
            rank += 1;
            let steps = P::Arc::new(<Shipped<P> as Steps<P>>::new(Script::<P>::new(goes)));
            AsksNobody {
                thread: Shipped::thread(&steps),
                steps,
                seat,
            }
        })
    }

    fn step(&mut self, nth: u64, number: u32) -> (f64, bool) {
        let Answer { doubled, compiled } = answer::<P, Shipped<P>>(&mut self.thread, number);
        match reduce(&mut self.seat, &given(nth), f64::from(doubled)) {
            Ok((reduced, sum)) if reduced.tags_equal => (sum, compiled),
            other => violation!("wrong-end", "{other:?}"),
        }
    }

    fn epoch(&mut self, number: u64) {
        self.steps.epoch(number, LONGEST);
    }
}

/// As reported: a collective is the next one, whatever it is about.
struct VotesWhileCompiling<P: Platform> {
    rank: u32,
    collective: P::Arc<Unbounded<P>>,
    script: P::Arc<Script<P>>,
    /// From an earlier run, on the one whose disk has it.
    cached: Option<Compiled>,
}

impl<P: Platform> VotesWhileCompiling<P> {
    fn all_reduce(&self, value: f64) -> f64 {
        self.collective.meet("", self.rank, value).iter().sum()
    }
}

impl<P: Platform> Rank<P> for VotesWhileCompiling<P> {
    fn pair(unlucky: u32) -> [Self; 2] {
        let collective = P::Arc::new(Unbounded::new(2));
        [0, 1].map(|rank| {
            let script = Script::<P>::new(Vec::new());
            let cached = (rank != unlucky)
                .then(|| excepted(|| script.compile_it()).ok())
                .flatten();
            VotesWhileCompiling {
                rank,
                collective: collective.clone(),
                script,
                cached,
            }
        })
    }

    fn step(&mut self, _: u64, number: u32) -> (f64, bool) {
        if self.cached.is_none() {
            let compiled = excepted(|| self.script.compile_it()).ok();
            // Whether all have succeeded: one vote each.
            let votes = self.all_reduce(f64::from(u8::from(compiled.is_some())));
            self.cached = compiled.filter(|_| votes == 2.0);
        }
        let ran = self
            .cached
            .map(|compiled| self.script.run_compiled(compiled, number));
        let answer = match ran {
            Some(Ok(answer)) => answer,
            _ => self.script.run_eagerly(number),
        };
        (self.all_reduce(f64::from(answer.doubled)), answer.compiled)
    }

    fn epoch(&mut self, _: u64) {}
}
