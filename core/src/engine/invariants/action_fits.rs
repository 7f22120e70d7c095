//! E8: the action under way is one that its request can be in: a step never plans who is not
//! live when it begins, and nothing is done to a request that is over.

use crate::RequestId;
use crate::engine::action::Action;
use crate::engine::request::Phase;
use crate::engine::state::{EngineState, Mode};
use crate::pool::InvariantViolation;

pub(super) fn check(state: &EngineState) -> Result<(), InvariantViolation> {
    let phase = |id: &RequestId| state.requests.get(id).map(|request| request.phase);
    let fits = match &state.under_way {
        None | Some(Action::Evict { .. } | Action::Remove { .. } | Action::Emit(_)) => true,
        Some(Action::Abandon) => matches!(state.mode, Mode::Dying(_)),
        Some(Action::Lease(order)) => phase(&order.request) == Some(Phase::Waiting),
        Some(Action::Insert { request, .. }) => phase(request) == Some(Phase::Leased),
        // Its end may be decided while blocks are fetched for it, or a step is made.
        Some(Action::Grow { request, .. }) => is_running(phase(request)),
        Some(Action::Preempt { request, .. }) => phase(request) == Some(Phase::Live),
        Some(Action::Step(plan)) => {
            let sorted = plan.decode.is_sorted_by(|a, b| a < b);
            let mut all = plan
                .decode
                .iter()
                .chain(plan.prefill.iter().map(|c| &c.request));
            sorted && all.all(|id| is_running(phase(id)))
        }
        Some(Action::Extract { request, .. } | Action::Release { request }) => {
            phase(request) == Some(Phase::Ending)
        }
    };
    if fits {
        return Ok(());
    }
    Err(InvariantViolation::new(
        "action_fits",
        format!("{:?} is under way", state.under_way),
    ))
}

fn is_running(phase: Option<Phase>) -> bool {
    matches!(phase, Some(Phase::Live | Phase::Ending))
}
