//! `native`: the body on real threads, again and again. Nothing is controlled but the
//! workload's seed, so what it finds is real and what it does not find means little.

use crate::host::Host;
use crate::unit::{End, Task, UnitSpec};
use crate::{BodyFn, Cx, DecisionLog};

/// How often a replay runs the same workload before it gives up on the machine's scheduler.
const REPLAYS: u64 = 2_000;

pub(crate) fn execute(host: &Host, spec: &UnitSpec, body: BodyFn) -> End {
    let rounds = spec.rounds;
    match &spec.task {
        Task::Search { seed, executions } => {
            let seed = *seed;
            for _ in 0..*executions {
                let execution = host.begin();
                host.tell_log_by(move || Some(DecisionLog::Workload { seed, execution }));
                host.observe(&body(&Cx::new(seed, execution, rounds)));
            }
            End::Complete {
                drawn: String::new(),
            }
        }
        Task::Replay {
            log: DecisionLog::Workload { seed, execution },
        } => {
            for _ in 0..REPLAYS {
                host.begin();
                body(&Cx::new(*seed, *execution, rounds));
            }
            End::NotReproduced {
                stale: false,
                why: format!("{REPLAYS} runs of the same workload on real threads were all well"),
            }
        }
        Task::Replay { .. }
        | Task::Campaign(_)
        | Task::Shrink { .. }
        | Task::Follow { .. }
        | Task::Capture { .. }
        | Task::Estimate { .. } => End::Failed {
            what: "real threads replay a workload, nothing else".to_owned(),
        },
    }
}
