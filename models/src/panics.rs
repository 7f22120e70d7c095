//! A model whose own code panics, and the way there.
//!
//! stateright's threads die of a panic and take with them how they came to it. So the way is
//! searched for again, breadth first and by ourselves, with each call into the model caught.

use std::collections::{HashSet, VecDeque};
use std::hash::{BuildHasher, RandomState};
use std::panic::{self, AssertUnwindSafe};

use selvedge_sim::model::ModelRun;

use crate::checker::{Searchable, said};

/// How often it is asked whether there is time left, in states.
const ASK_EVERY: usize = 1_024;

/// Where a model's code panics.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Panicked<A> {
    /// What is done in the initial state, and after; no way is shorter. The last is what panics,
    /// unless it is looking at the state it leads to that does.
    pub(crate) path: Vec<A>,
    /// What the panic says.
    pub(crate) what: String,
}

/// The nearest panic of the model's code; `None` if there is none, or it was not found with what
/// the run may use.
pub(crate) fn nearest<M: Searchable>(model: &M, run: &ModelRun<'_>) -> Option<Panicked<M::Action>> {
    let hashes = RandomState::new();
    let mut seen = HashSet::new();
    // How each state was first come to: from which, by what.
    let mut ways: Vec<Option<(usize, M::Action)>> = Vec::new();
    let mut pending = VecDeque::new();
    let way = |ways: &[Option<(usize, M::Action)>], mut at: usize| {
        let mut path = Vec::new();
        while let Some((from, action)) = &ways[at] {
            path.push(action.clone());
            at = *from;
        }
        path.reverse();
        path
    };
    for state in caught(|| model.init_states()).ok()? {
        if seen.insert(hashes.hash_one(&state)) {
            pending.push_back((ways.len(), state));
            ways.push(None);
        }
    }
    while let Some((at, state)) = pending.pop_front() {
        if at.is_multiple_of(ASK_EVERY) {
            run.check_in(ways.len() as u64).ok()?;
        }
        let actions = match caught(|| look(model, &state)) {
            Ok(actions) => actions,
            Err(what) => {
                let path = way(&ways, at);
                return Some(Panicked { path, what });
            }
        };
        for action in actions {
            match caught(|| model.next_state(&state, action.clone())) {
                Ok(Some(next)) if seen.insert(hashes.hash_one(&next)) => {
                    pending.push_back((ways.len(), next));
                    ways.push(Some((at, action)));
                }
                Ok(_) => {}
                Err(what) => {
                    let mut path = way(&ways, at);
                    path.push(action);
                    return Some(Panicked { path, what });
                }
            }
        }
    }
    None
}

/// What can be done in a state, after looking at it as a checker does.
fn look<M: Searchable>(model: &M, state: &M::State) -> Vec<M::Action> {
    let mut actions = Vec::new();
    if model.within_boundary(state) {
        for property in model.properties() {
            // What holds is not asked here.
            let _ = (property.condition)(model, state);
        }
        model.actions(state, &mut actions);
    }
    actions
}

/// What a call comes to, or what its panic says.
fn caught<R>(call: impl FnOnce() -> R) -> Result<R, String> {
    panic::catch_unwind(AssertUnwindSafe(call)).map_err(|payload| said(&*payload))
}
