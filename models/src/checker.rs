//! Drives stateright and says honestly how far it came.
//!
//! By itself stateright reports a search that hit a limit as done, and its assertions pass on
//! it. Here **only a search that visited every state within the model's boundary is `Bounded`;
//! one that reached the state limit is `BudgetEnded`.** It is never `Exhausted`: every model
//! of ours has a boundary, and states are told apart by a 64-bit fingerprint.

use std::fmt::Debug;
use std::hash::Hash;

use selvedge_sim::{Failure, FailureKind, Verdict};
use stateright::{Checker, CheckerBuilder, HasDiscoveries, Model};

/// What a search came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Search<A> {
    /// The verdict; its executions are unique states.
    pub verdict: Verdict,
    /// Where a property does not hold: the actions that lead there.
    pub path: Vec<A>,
}

/// Searches breadth first, up to `most_states` unique states, and **leaves a counterexample only
/// when there is no shorter one**. `boundary` says in words what the model leaves out.
///
/// That takes more than one search: stateright looks at 1,500 states before it looks whether
/// anything was found, and keeps what it found last.
pub fn search<M>(model: M, boundary: &str, most_states: usize) -> Search<M::Action>
where
    M: Model<
            State: Clone + Debug + Hash + PartialEq + Send + Sync,
            Action: Clone + Debug + PartialEq + Send + Sync,
        > + Clone
        + Send
        + Sync
        + 'static,
{
    let checker = bounded(model.clone(), most_states).spawn_bfs().join();
    let mut found = come_to(&checker, boundary, most_states);
    while !found.path.is_empty() {
        // Of states at this depth or deeper it looks at none; the first is at depth 1.
        let depth = found.path.len() + 1;
        let checker = bounded(model.clone(), most_states)
            .target_max_depth(depth)
            .spawn_bfs();
        let shorter = come_to(&checker.join(), boundary, most_states);
        if shorter.verdict.failure().is_none() {
            break;
        }
        found = shorter;
    }
    found
}

/// As [`search`], but depth first: an eighth of the memory and twice as fast, and its
/// counterexamples are long. For searches that are expected to be complete.
pub fn search_lean<M>(model: M, boundary: &str, most_states: usize) -> Search<M::Action>
where
    M: Model<
            State: Clone + Debug + Hash + PartialEq + Send + Sync,
            Action: Clone + Debug + PartialEq + Send + Sync,
        > + Send
        + Sync
        + 'static,
{
    let checker = bounded(model, most_states).spawn_dfs().join();
    come_to(&checker, boundary, most_states)
}

/// The chance that two of so many states had the same 64-bit fingerprint, so that one of them was
/// never looked at.
///
/// ```
/// let chance = selvedge_models::checker::collision_chance(100_000_000);
/// assert!((0.0002..0.0004).contains(&chance));
/// ```
#[must_use]
pub fn collision_chance(states: u64) -> f64 {
    let states = states as f64;
    (states * (states - 1.0) / 2.0 / 2.0_f64.powi(64)).clamp(0.0, 1.0)
}

fn bounded<M>(model: M, most_states: usize) -> CheckerBuilder<M>
where
    M: Model<State: Hash + Send + Sync> + Send + Sync + 'static,
{
    (model.checker())
        .target_state_count(most_states)
        .finish_when(HasDiscoveries::Any)
}

fn come_to<M>(checker: &impl Checker<M>, boundary: &str, most_states: usize) -> Search<M::Action>
where
    M: Model<State: Clone + Debug + Hash + PartialEq, Action: Clone + Debug + PartialEq>,
{
    let states = checker.unique_state_count() as u64;
    let discoveries = checker.discoveries();
    if let Some((name, path)) = discoveries.into_iter().next() {
        let path: Vec<M::Action> = path.into_actions();
        let failure = Failure {
            kind: FailureKind::Property,
            signature: name.to_owned(),
            detail: format!("after {} actions: {path:?}", path.len()),
            location: String::new(),
        };
        return Search {
            verdict: Verdict::Violated {
                failure,
                executions: states,
            },
            path,
        };
    }
    // The limit counts generated states, unique or not, and stops at or after it.
    let verdict = match checker.state_count() >= most_states {
        true => Verdict::BudgetEnded { executions: states },
        false => Verdict::Bounded {
            bound: boundary.to_owned(),
            executions: states,
        },
    };
    Search {
        verdict,
        path: Vec::new(),
    }
}
