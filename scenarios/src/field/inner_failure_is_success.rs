//! ompi#11794: the hierarchical collectives are made of smaller ones, within a node and between
//! nodes. They did not look at what those returned and returned success always. A step that had
//! failed counted as one that was made, and fault-tolerant callers had nothing to tolerate.
//!
//! Two ranks reduce a gradient; one of them dies before its contribution, or does not. Whoever
//! is told success must have the sum of both.
//!
//! What ships has one error for all who wait, and the step that got it is not applied.

use selvedge_core::ddp::{InProcess, Rank, RoundError};
use selvedge_core::platform::{JoinHandle, Platform};
use selvedge_sim::{Cx, Observation, bodies, reach, violation};

use super::ranks::collective::{FOREVER, given, reduce, seats};
use crate::bed::in_rounds;
use crate::registry::{Expect, Scenario, explorer, loom, native, shuttle};

pub(super) const SCENARIO: Scenario = Scenario {
    id: "inner-failure-is-success",
    ticket: "ompi#11794",
    summary: "a collective made of others returns success whatever they returned",
    source: concat!(
        include_str!("inner_failure_is_success.rs"),
        include_str!("ranks/collective.rs")
    ),
    twin: bodies!(always_success),
    shipped: bodies!(passes_on),
    signature: "partial-sum",
    must_reach: &["complete", "passed-on"],
    engines: &[
        native(Expect::Finds),
        explorer(Expect::Finds),
        loom(Expect::Finds),
        shuttle(Expect::Finds),
    ],
};

type Hierarchical<P> = fn(&mut InProcess<f64, P>, gradient: f64) -> Result<f64, RoundError>;

/// As reported.
fn always_success<P: Platform>(cx: &Cx) -> Observation {
    one_may_die::<P>(cx, |inner, gradient| {
        let reduced = reduce(inner, &given(0), gradient);
        Ok(reduced.map_or(gradient, |(_, sum)| sum))
    })
}

/// The code that ships.
fn passes_on<P: Platform>(cx: &Cx) -> Observation {
    one_may_die::<P>(cx, |inner, gradient| {
        let (_, sum) = reduce(inner, &given(0), gradient)?;
        Ok(sum)
    })
}

const GRADIENTS: [f64; 2] = [1.0, 2.0];

fn one_may_die<P: Platform>(cx: &Cx, all_reduce: Hierarchical<P>) -> Observation {
    in_rounds(cx, || {
        let dies = cx.choose(2) == 1;
        let mut seats = seats::<P>(2, FOREVER).into_iter();
        let threads: Vec<_> = seats
            .by_ref()
            .zip(GRADIENTS)
            .enumerate()
            .map(|(rank, (mut seat, gradient))| {
                P::spawn(move || match rank == 1 && dies {
                    true => None,
                    false => Some(all_reduce(&mut seat, gradient)),
                })
            })
            .collect();
        let ends: Vec<_> = threads.into_iter().map(JoinHandle::join).collect();
        for end in ends.iter().flatten() {
            match (dies, end) {
                (false, Ok(sum)) if *sum == GRADIENTS.iter().sum::<f64>() => reach("complete"),
                (_, Ok(sum)) => violation!("partial-sum", "{sum} is told as the sum of all"),
                (true, Err(RoundError::Gone { rank, .. })) if *rank == Rank(1) => {
                    reach("passed-on");
                }
                (_, Err(other)) => violation!("wrong-error", "{other}; dies: {dies}"),
            }
        }
        format!("{ends:?}")
    })
}
