//! Drives stateright and says honestly how far it came.
//!
//! By itself stateright reports a search that hit a limit as done, and its assertions pass on
//! it. Here **only a search that visited every state within the model's boundary is `Bounded`;
//! one that a limit ended is `BudgetEnded`.** It is never `Exhausted`: every model of ours has a
//! boundary, and states are told apart by a 64-bit fingerprint.
//!
//! Of stateright's own limits only those on states and on depth are set, by which it tells that
//! it came to them: it ignores its `timeout` on one thread, and `symmetry` where it searches
//! breadth first. Time and memory are looked at from outside.

use std::any::Any;
use std::fmt::Debug;
use std::hash::Hash;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use selvedge_sim::model::{Halt, ModelRun};
use selvedge_sim::{Failure, FailureKind, Verdict};
use stateright::{Checker, CheckerBuilder, HasDiscoveries, Model};

/// A model that can be searched, again if need be, and whose counterexamples can be told.
///
/// Every model of which that is true is one:
///
/// ```
/// use selvedge_models::checker::Searchable;
///
/// fn searches<M: Searchable>() {}
/// searches::<selvedge_models::epoch::EpochModel>();
/// ```
pub trait Searchable:
    Model<
        State: Clone + Debug + Hash + PartialEq + Send + Sync,
        Action: Clone + Debug + PartialEq + Send + Sync,
    > + Clone
    + Send
    + Sync
    + 'static
{
}

impl<M> Searchable for M where
    M: Model<
            State: Clone + Debug + Hash + PartialEq + Send + Sync,
            Action: Clone + Debug + PartialEq + Send + Sync,
        > + Clone
        + Send
        + Sync
        + 'static
{
}

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
pub fn search<M: Searchable>(model: M, boundary: &str, most_states: usize) -> Search<M::Action> {
    let (found, _) = shortest(&model, Some(most_states), &forever());
    found.told(boundary)
}

/// As [`search`], but depth first: an eighth of the memory and twice as fast, and its
/// counterexamples are long. For searches that are expected to be complete.
pub fn search_lean<M: Searchable>(
    model: M,
    boundary: &str,
    most_states: usize,
) -> Search<M::Action> {
    lean(model, Some(most_states), &forever()).told(boundary)
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

/// How one run of stateright ended.
#[derive(Clone, Debug)]
pub(crate) enum Found<A> {
    /// Every state was looked at.
    Complete { states: u64 },
    /// The limit on states ended it, or what the run may use.
    Stopped { states: u64, halt: Option<Halt> },
    /// The model's own code panicked, with this message.
    Panicked { states: u64, what: String },
    /// A property does not hold.
    Violated {
        property: &'static str,
        path: Vec<A>,
        states: u64,
    },
}

/// Depth first, on as many threads as the run has.
pub(crate) fn lean<M: Searchable>(
    model: M,
    most_states: Option<usize>,
    run: &ModelRun<'_>,
) -> Found<M::Action> {
    let checker = bounded(model, most_states).threads(run.threads).spawn_dfs();
    come_to(checker, most_states, run)
}

/// Breadth first, and whether the counterexample is one than which none is shorter.
pub(crate) fn shortest<M: Searchable>(
    model: &M,
    most_states: Option<usize>,
    run: &ModelRun<'_>,
) -> (Found<M::Action>, bool) {
    // On one thread: with more, what is found first need not be near.
    let search = |builder: CheckerBuilder<M>| come_to(builder.spawn_bfs(), most_states, run);
    let mut found = search(bounded(model.clone(), most_states));
    while let Found::Violated { path, .. } = &found {
        // Of states at this depth or deeper it looks at none; the first is at depth 1.
        let depth = path.len() + 1;
        if path.is_empty() {
            break;
        }
        match search(bounded(model.clone(), most_states).target_max_depth(depth)) {
            shorter @ Found::Violated { .. } => found = shorter,
            Found::Complete { .. } => break,
            Found::Stopped { .. } | Found::Panicked { .. } => return (found, false),
        }
    }
    (found, true)
}

/// The failure of a property, by a path of so many actions.
pub(crate) fn failure<A: Debug>(property: &str, path: &[A]) -> Failure {
    Failure {
        // Liveness, written as safety: nobody can go on.
        kind: match property {
            "progress" => FailureKind::Deadlock,
            _ => FailureKind::Property,
        },
        signature: property.to_owned(),
        detail: format!("after {} actions: {path:?}", path.len()),
        location: String::new(),
    }
}

impl<A: Debug> Found<A> {
    fn told(self, boundary: &str) -> Search<A> {
        let verdict = match &self {
            Found::Complete { states } => Verdict::Bounded {
                bound: boundary.to_owned(),
                executions: *states,
            },
            Found::Stopped { states, .. } => Verdict::BudgetEnded {
                executions: *states,
            },
            Found::Panicked { states, what } => Verdict::EngineError {
                what: format!("the model's code panicked: {what}"),
                executions: *states,
            },
            Found::Violated {
                property,
                path,
                states,
            } => Verdict::Violated {
                failure: failure(property, path),
                executions: *states,
            },
        };
        let path = match self {
            Found::Violated { path, .. } => path,
            Found::Complete { .. } | Found::Stopped { .. } | Found::Panicked { .. } => Vec::new(),
        };
        Search { verdict, path }
    }
}

fn forever() -> ModelRun<'static> {
    ModelRun::new(Duration::MAX, &|_| ())
}

fn bounded<M: Searchable>(model: M, most_states: Option<usize>) -> CheckerBuilder<M> {
    let builder = model.checker().finish_when(HasDiscoveries::Any);
    match most_states {
        Some(most) => builder.target_state_count(most),
        None => builder,
    }
}

/// Waits for the search, and looks at what became of it. One that is stopped goes on in its
/// threads until the process ends: stateright has no way to stop it.
fn come_to<M: Searchable>(
    mut checker: impl Checker<M>,
    most_states: Option<usize>,
    run: &ModelRun<'_>,
) -> Found<M::Action> {
    let mut pause = Duration::from_micros(100);
    while !checker.is_done() {
        let states = checker.unique_state_count() as u64;
        if let Err(halt) = run.check_in(states) {
            return Found::Stopped {
                states,
                halt: Some(halt),
            };
        }
        thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(50));
    }
    // A thread that panicked has closed the search for all: what they have seen is not all.
    let ends = checker.handles().into_iter().map(JoinHandle::join);
    let panicked = ends.filter_map(Result::err).last();
    let states = checker.unique_state_count() as u64;
    if let Some(payload) = panicked {
        let what = said(&*payload);
        return Found::Panicked { states, what };
    }
    // Of several, the nearest; of equally near ones, the property that stands first.
    let properties = checker.model().properties();
    let place = |name: &&str| {
        properties
            .iter()
            .position(|property| property.name == *name)
    };
    let discoveries = checker.discoveries().into_iter();
    let nearest = discoveries
        .map(|(name, path)| (name, path.into_actions()))
        .min_by_key(|(name, path)| (path.len(), place(name)));
    if let Some((property, path)) = nearest {
        return Found::Violated {
            property,
            path,
            states,
        };
    }
    // The limit counts generated states, unique or not, and stops at or after it.
    match most_states.is_some_and(|most| checker.state_count() >= most) {
        true => Found::Stopped { states, halt: None },
        false => Found::Complete { states },
    }
}

/// What a panic said.
pub(crate) fn said(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| payload.downcast_ref::<&str>().copied());
    text.unwrap_or("a panic without a message").to_owned()
}
