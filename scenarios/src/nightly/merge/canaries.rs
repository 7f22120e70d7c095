//! What became of the planted bugs: every session that ran a piece must have found them all before.

use std::collections::BTreeSet;

use super::super::file::Contents;
use super::super::{Line, Plan, PlanUnit, Shard};
use super::{Canary, CanaryState};
use crate::registry;

/// The planted bugs of every session that ran anything.
pub(super) fn of(plan: &Plan, shard: Shard, file: &Contents) -> Vec<Canary> {
    let mut sessions = BTreeSet::new();
    for line in &file.lines {
        match line {
            Line::Piece { session, .. } | Line::Canary { session, .. } => {
                sessions.insert(*session);
            }
            _ => {}
        }
    }
    let ran = |wanted: u32| {
        (file.lines.iter())
            .any(|line| matches!(line, Line::Piece { session, .. } if *session == wanted))
    };
    let mut canaries = Vec::new();
    for session in sessions {
        for unit in &plan.canaries {
            let state = canary_state(plan, shard, file, session, unit);
            // It ended on the way through the planted bugs, before anything else was run.
            let is_silent = matches!(state, CanaryState::Missing | CanaryState::Stale);
            let is_unborn = is_silent && !ran(session);
            if !is_unborn {
                canaries.push(Canary {
                    shard: shard.number,
                    session,
                    scenario: unit.scenario.clone(),
                    engine: unit.engine.clone(),
                    state,
                });
            }
        }
    }
    canaries
}

fn canary_state(
    plan: &Plan,
    shard: Shard,
    file: &Contents,
    session: u32,
    unit: &PlanUnit,
) -> CanaryState {
    let records = (file.lines.iter()).filter_map(|line| match line {
        // In a drill it is the body without the bug.
        Line::Canary { session, ran }
            if (&ran.scenario, &ran.engine) == (&unit.scenario, &unit.engine) =>
        {
            Some((*session, ran))
        }
        _ => None,
    });
    let records: Vec<_> = records.collect();
    let Some((_, ran)) = records.iter().rfind(|(of, _)| *of == session) else {
        return match records.is_empty() {
            true => CanaryState::Missing,
            false => CanaryState::Stale,
        };
    };
    if ran.drawn_from != plan.canary_seed(unit, shard) {
        return CanaryState::Stale;
    }
    let wanted = registry::find(&unit.scenario).map(|scenario| scenario.signature);
    match &ran.failure {
        Some(failure) if Some(&*failure.signature) == wanted => CanaryState::Found {
            executions: ran.executions,
        },
        Some(failure) => CanaryState::NotFound {
            what: format!("found '{}' instead", failure.signature),
        },
        None => CanaryState::NotFound {
            what: format!("{}, {} after {}", ran.verdict, ran.scope, ran.executions),
        },
    }
}
