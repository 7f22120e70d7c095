//! A model as a body of the bed: searched within what a unit may use, and walked along a path.
//!
//! ```
//! use selvedge_models::subject::{Order, run, walk};
//! use selvedge_models::ticket::{Boundary, TicketModel};
//! use selvedge_sim::model::{ModelEnd, ModelRun, WalkEnd};
//!
//! let model = TicketModel { boundary: Boundary::Nothing, batches: vec![1, 2], epochs: 2 };
//! let budget = ModelRun::new(std::time::Duration::from_secs(60), &|_| ());
//! let ModelEnd::Violated { path, shortest, .. } = run(&model, Order::Shortest, &budget) else {
//!     panic!("with uneven loaders two alphas are mixed")
//! };
//! assert!(shortest);
//! let WalkEnd::Violated(failure) = walk(&model, &path).end else { panic!() };
//! assert_eq!(failure.signature, "no-mix");
//! ```

use selvedge_sim::model::{Halt, ModelEnd, ModelRun, Row, Walk, WalkEnd};
use stateright::Expectation;

use crate::checker::{Found, Searchable, failure, lean, shortest};
use crate::panics;

/// A model that can be searched and drawn. It has one initial state.
pub trait Subject: Searchable {
    /// What the search leaves out, in words.
    fn boundary(&self) -> String;

    /// Who acts: a column each.
    fn columns(&self) -> Vec<String>;

    /// Whose action it is, by place among the columns, and what is done, in words.
    fn act(&self, before: &Self::State, action: &Self::Action) -> (usize, String);

    /// What there is to see in a column, in few words. An action is drawn with what it changes.
    fn look(&self, state: &Self::State, column: usize) -> String;
}

/// In which order states are looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Breadth first, for what is expected to be found: no counterexample is shorter.
    Shortest,
    /// Depth first, for what is expected to be complete: far less memory. What is found is made
    /// shorter by a search in the other order.
    Lean,
}

/// Makes a [`ModelBody`](selvedge_sim::model::ModelBody) of an expression that is a [`Subject`],
/// searched in an [`Order`].
///
/// ```
/// use selvedge_models::epoch::EpochModel;
/// use selvedge_sim::Bodies;
///
/// const TWO_RANKS: Bodies = Bodies::of_model(selvedge_models::body!(EpochModel::of(2), Lean));
/// assert!(TWO_RANKS.model.is_some());
/// ```
#[macro_export]
macro_rules! body {
    ($model:expr, $order:ident) => {
        ::selvedge_sim::model::ModelBody {
            search: |run| $crate::subject::run(&$model, $crate::subject::Order::$order, run),
            walk: |path| $crate::subject::walk(&$model, path),
        }
    };
}

/// Searches the model within what the run may use.
pub fn run<M: Subject>(model: &M, order: Order, run: &ModelRun<'_>) -> ModelEnd {
    let (found, is_shortest) = match order {
        Order::Shortest => shortest(model, None, run),
        Order::Lean => match lean(model.clone(), None, run) {
            far @ Found::Violated { .. } => match shortest(model, None, run) {
                (near @ Found::Violated { .. }, is_shortest) => (near, is_shortest),
                // Time or memory ran out: what was found first is as good, and long.
                _ => (far, false),
            },
            found => (found, false),
        },
    };
    told(model, run, found, is_shortest)
}

/// That the model's own code panics, and by what path.
fn panicked<M: Subject>(model: &M, run: &ModelRun<'_>, what: &str) -> String {
    let first_line = |what: &str| what.lines().next().unwrap_or_default().to_owned();
    match panics::nearest(model, run) {
        Some(nearest) => format!(
            "the model's code panics after {} actions: {}: {:?}",
            nearest.path.len(),
            first_line(&nearest.what),
            nearest.path
        ),
        None => format!(
            "the model's code panicked, and there was no time to find where: {}",
            first_line(what)
        ),
    }
}

fn told<M: Subject>(
    model: &M,
    run: &ModelRun<'_>,
    found: Found<M::Action>,
    is_shortest: bool,
) -> ModelEnd {
    match found {
        Found::Panicked { states, what } => ModelEnd::Failed {
            states,
            what: panicked(model, run, &what),
        },
        Found::Complete { states } => ModelEnd::Complete {
            boundary: model.boundary(),
            states,
        },
        Found::Stopped { states, halt } => match halt {
            Some(Halt::Memory { bytes }) => ModelEnd::OutOfMemory { states, bytes },
            Some(Halt::Time) | None => ModelEnd::Cut { states },
        },
        Found::Violated {
            property,
            path,
            states,
        } => {
            let mut path = places(model, &path);
            let walked = walk(model, &path);
            let what = match walked.end {
                // What is told is what its path leads to, and that may be nearer than where the
                // search saw it.
                WalkEnd::Violated(failure) => {
                    path.truncate(1 + walked.rows.len());
                    return ModelEnd::Violated {
                        failure,
                        path,
                        shortest: is_shortest,
                        states,
                    };
                }
                WalkEnd::Well => "leads to a state in which all properties hold".to_owned(),
                WalkEnd::Stale(why) => format!("cannot be walked: {why}"),
            };
            let what = format!("the search found '{property}', and its own path {what}");
            ModelEnd::Failed { states, what }
        }
    }
}

/// Goes along a path, up to the first state in which a property does not hold.
pub fn walk<M: Subject>(model: &M, path: &[u32]) -> Walk {
    let columns = model.columns();
    let mut rows = Vec::new();
    let end = follow(model, path, &columns, &mut rows);
    Walk { columns, rows, end }
}

fn follow<M: Subject>(model: &M, path: &[u32], columns: &[String], rows: &mut Vec<Row>) -> WalkEnd {
    let Some((&first, rest)) = path.split_first() else {
        return WalkEnd::Stale("the path is empty".to_owned());
    };
    let mut initial = model.init_states().into_iter();
    let Some(mut state) = initial.nth(first as usize) else {
        return WalkEnd::Stale(format!("there is no initial state {first}"));
    };
    let mut done = Vec::new();
    for (number, &place) in (1..).zip(rest) {
        if let Some(property) = violated(model, &state) {
            return WalkEnd::Violated(failure(property, &done));
        }
        let mut actions = Vec::new();
        model.actions(&state, &mut actions);
        let there = actions.len();
        let next = (actions.into_iter().nth(place as usize)).and_then(|action| {
            let next = model.next_state(&state, action.clone())?;
            model.within_boundary(&next).then_some((action, next))
        });
        let Some((action, next)) = next else {
            return WalkEnd::Stale(format!(
                "its action {number} is number {place} of a state that has {there}, or leads \
                 nowhere: the model has changed since"
            ));
        };
        rows.push(row(model, columns, &state, &action, &next));
        done.push(action);
        state = next;
    }
    match violated(model, &state) {
        Some(property) => WalkEnd::Violated(failure(property, &done)),
        None => WalkEnd::Well,
    }
}

/// The first property that does not hold in a state.
fn violated<M: Subject>(model: &M, state: &M::State) -> Option<&'static str> {
    let always = |expectation: &Expectation| matches!(expectation, Expectation::Always);
    let properties = model.properties().into_iter();
    properties
        .filter(|property| always(&property.expectation))
        .find(|property| !(property.condition)(model, state))
        .map(|property| property.name)
}

fn row<M: Subject>(
    model: &M,
    columns: &[String],
    before: &M::State,
    action: &M::Action,
    after: &M::State,
) -> Row {
    let (column, mut text) = model.act(before, action);
    let mut changes = Vec::new();
    for (place, name) in columns.iter().enumerate() {
        let now = model.look(after, place);
        if now == model.look(before, place) {
            continue;
        }
        match place == column {
            true => changes.insert(0, now),
            false => changes.push(format!("{name}: {now}")),
        }
    }
    if !changes.is_empty() {
        text = format!("{text} => {}", changes.join("; "));
    }
    Row {
        column: u32::try_from(column).unwrap_or(u32::MAX),
        text,
        state: digest(&format!("{after:?}")),
    }
}

/// FNV-1a: the same on any machine, which a hasher's output need not be.
fn digest(text: &str) -> u64 {
    let step = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    text.bytes().fold(0xcbf2_9ce4_8422_2325, step)
}

/// The path's actions by their places among those of their states.
fn places<M: Subject>(model: &M, path: &[M::Action]) -> Vec<u32> {
    let mut places = vec![0];
    let Some(mut state) = model.init_states().into_iter().next() else {
        return places;
    };
    for action in path {
        let mut actions = Vec::new();
        model.actions(&state, &mut actions);
        let place = actions.iter().position(|other| other == action);
        let place = place.expect("INVARIANT: the search took this action in this state");
        places.push(u32::try_from(place).unwrap_or(u32::MAX));
        state = (model.next_state(&state, action.clone()))
            .expect("INVARIANT: the search took this action in this state");
    }
    places
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::thread;
    use std::time::Duration;

    use stateright::{Model, Property};

    use super::*;
    use crate::checker;
    use crate::epoch::{EpochModel, Faults, Mutant};
    use crate::ticket::{Boundary, TicketModel};

    const SMALL: EpochModel = EpochModel::of(2).with(Faults::RANKS);
    const LARGER: EpochModel = EpochModel::of(2).with(Faults::COORDINATOR);

    fn minute(progress: &dyn Fn(u64)) -> ModelRun<'_> {
        ModelRun::new(Duration::from_secs(600), progress)
    }

    #[test]
    fn any_number_of_threads_sees_the_same_states() {
        for threads in [1, 2, 4] {
            let mut budget = minute(&|_| ());
            budget.threads = threads;
            let end = run(&SMALL, Order::Lean, &budget);
            let boundary = SMALL.boundary();
            let states = 11_966;
            assert_eq!(end, ModelEnd::Complete { boundary, states });
        }
    }

    #[test]
    fn what_runs_out_is_told_and_is_never_complete() {
        let most = Cell::new(0);
        let progress = |states| most.set(states);
        for order in [Order::Lean, Order::Shortest] {
            let no_time = ModelRun::new(Duration::ZERO, &progress);
            let end = run(&LARGER, order, &no_time);
            assert!(matches!(end, ModelEnd::Cut { .. }), "{end:?}");
            let mut no_memory = minute(&progress);
            no_memory.most_bytes = 1;
            let end = run(&LARGER, order, &no_memory);
            let ModelEnd::OutOfMemory { states, bytes } = end else {
                panic!("{end:?}");
            };
            assert!(bytes > 1 && states >= 1 && most.get() >= 1);
        }
    }

    #[test]
    fn what_is_found_depth_first_is_made_shorter() {
        let model = EpochModel::of(2)
            .with(Faults {
                crashes: 1,
                restarts: 1,
                ..Faults::NONE
            })
            .but(Mutant::AnyLifeTakesIt);
        let budget = minute(&|_| ());
        let found = [Order::Lean, Order::Shortest].map(|order| run(&model, order, &budget));
        assert_eq!(found[0], found[1]);
        let ModelEnd::Violated { path, shortest, .. } = &found[0] else {
            panic!("{found:?}");
        };
        assert!(shortest);
        let walked = walk(&model, path);
        assert_eq!((walked.columns.len(), walked.rows.len()), (3, 9));
        let WalkEnd::Violated(failure) = walked.end else {
            panic!("{:?}", walked.end);
        };
        assert_eq!(failure.signature, "identity");
    }

    /// A model whose second search takes for ever.
    #[derive(Clone)]
    struct SlowAgain(TicketModel, Arc<AtomicUsize>);

    impl Model for SlowAgain {
        type State = <TicketModel as Model>::State;
        type Action = <TicketModel as Model>::Action;

        fn init_states(&self) -> Vec<Self::State> {
            self.1.fetch_add(1, Ordering::SeqCst);
            self.0.init_states()
        }

        fn actions(&self, state: &Self::State, actions: &mut Vec<Self::Action>) {
            self.0.actions(state, actions);
        }

        fn next_state(&self, last: &Self::State, action: Self::Action) -> Option<Self::State> {
            if self.1.load(Ordering::SeqCst) == 2 {
                thread::sleep(Duration::from_secs(2));
            }
            self.0.next_state(last, action)
        }

        fn properties(&self) -> Vec<Property<Self>> {
            vec![Property::always("no-mix", |model: &Self, state| {
                violated(&model.0, state).is_none()
            })]
        }
    }

    impl Subject for SlowAgain {
        fn boundary(&self) -> String {
            Subject::boundary(&self.0)
        }

        fn columns(&self) -> Vec<String> {
            self.0.columns()
        }

        fn act(&self, before: &Self::State, action: &Self::Action) -> (usize, String) {
            Subject::act(&self.0, before, action)
        }

        fn look(&self, state: &Self::State, column: usize) -> String {
            self.0.look(state, column)
        }
    }

    fn mixes() -> TicketModel {
        TicketModel {
            boundary: Boundary::Nothing,
            batches: vec![1, 2],
            epochs: 2,
        }
    }

    #[test]
    fn what_cannot_be_made_shorter_is_told_by_its_own_path() {
        let model = SlowAgain(mixes(), Arc::default());
        let budget = ModelRun::new(Duration::from_secs(3), &|_| ());
        let end = run(&model, Order::Lean, &budget);
        let ModelEnd::Violated {
            failure,
            path,
            shortest,
            ..
        } = end
        else {
            panic!("{end:?}");
        };
        assert!(!shortest, "there was time for a second search");
        assert_eq!(walk(&mixes(), &path).end, WalkEnd::Violated(failure));
    }

    #[test]
    fn a_failure_is_what_its_path_leads_to_or_the_engines_own() {
        let model = mixes();
        let (found, _) = checker::shortest(&model, None, &minute(&|_| ()));
        let Found::Violated { path, .. } = found else {
            panic!("{found:?}");
        };
        let end = |property, path: &[_]| {
            let (path, states) = (path.to_vec(), 7);
            let found = Found::Violated {
                property,
                path,
                states,
            };
            told(&model, &minute(&|_| ()), found, false)
        };
        // One that goes on behind the violation, and saw another property there.
        let mut state = model.init_states().remove(0);
        for action in &path {
            state = model.next_state(&state, *action).unwrap();
        }
        let mut further = Vec::new();
        model.actions(&state, &mut further);
        let longer = [&path[..], &further[..1]].concat();
        assert_eq!(end("progress", &longer), end("no-mix", &path));
        assert!(matches!(end("no-mix", &path), ModelEnd::Violated { .. }));
        let well = end("no-mix", &path[..2]);
        assert!(
            matches!(&well, ModelEnd::Failed { what, .. } if what.contains("all properties hold")),
            "{well:?}"
        );
    }

    /// Counts to 40, or panics at some number: when it is left, or when it is looked at.
    #[derive(Clone, Debug)]
    struct Counter {
        leaves: Option<u8>,
        looks: Option<u8>,
    }

    impl Model for Counter {
        type State = u8;
        type Action = u8;

        fn init_states(&self) -> Vec<u8> {
            vec![0]
        }

        fn actions(&self, state: &u8, actions: &mut Vec<u8>) {
            actions.extend((1..=2).filter(|by| state + by <= 40));
        }

        fn next_state(&self, last: &u8, by: u8) -> Option<u8> {
            assert!(Some(last + by) != self.leaves, "{last} is left");
            Some(last + by)
        }

        fn properties(&self) -> Vec<Property<Self>> {
            vec![Property::always("small", |model: &Self, state| {
                assert!(Some(*state) != model.looks, "{state} is looked at");
                *state <= 40
            })]
        }
    }

    impl Subject for Counter {
        fn boundary(&self) -> String {
            "counts to 40".to_owned()
        }

        fn columns(&self) -> Vec<String> {
            vec!["counter".to_owned()]
        }

        fn act(&self, _: &u8, by: &u8) -> (usize, String) {
            (0, format!("adds {by}"))
        }

        fn look(&self, state: &u8, _: usize) -> String {
            state.to_string()
        }
    }

    #[test]
    fn a_panic_of_the_models_code_is_no_finding_and_is_told_by_the_shortest_path() {
        let well = Counter {
            leaves: None,
            looks: None,
        };
        let states = 41;
        let boundary = well.boundary();
        let complete = ModelEnd::Complete { boundary, states };
        let cases = [
            (Some(9), None, "after 5 actions: 7 is left: [1, 2, 2, 2, 2]"),
            (
                None,
                Some(9),
                "after 5 actions: 9 is looked at: [1, 2, 2, 2, 2]",
            ),
        ];
        for order in [Order::Lean, Order::Shortest] {
            for threads in [1, 3] {
                let mut budget = minute(&|_| ());
                budget.threads = threads;
                assert_eq!(run(&well, order, &budget), complete);
                for (leaves, looks, told) in cases {
                    let end = run(&Counter { leaves, looks }, order, &budget);
                    let ModelEnd::Failed { what, .. } = &end else {
                        panic!("{end:?}");
                    };
                    assert_eq!(*what, format!("the model's code panics {told}"));
                }
            }
        }
    }

    #[test]
    fn a_path_ends_at_the_first_violation_and_nowhere_else() {
        let model = TicketModel {
            boundary: Boundary::Nothing,
            batches: vec![1, 2],
            epochs: 2,
        };
        let ModelEnd::Violated { path, .. } = run(&model, Order::Shortest, &minute(&|_| ())) else {
            panic!("two alphas are mixed")
        };
        let longer = [&path[..], &[0, 0]].concat();
        assert_eq!(walk(&model, &longer), walk(&model, &path));
        assert_eq!(walk(&model, &path[..3]).end, WalkEnd::Well);
        let beside = [0, 7];
        let end = walk(&model, &beside).end;
        assert!(
            matches!(&end, WalkEnd::Stale(why) if why.contains("number 7")),
            "{end:?}"
        );
    }
}
