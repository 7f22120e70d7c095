//! The run in words: a column for the coordinator, which is the network too, and one a rank.

use std::sync::atomic::{AtomicBool, Ordering};

use selvedge_core::ddp::{
    CoordinatorSays, CoordinatorWait, Member, Rank, RankSays, RankWait, SeedStage, View,
};

use super::world::{Coordinator, World};
use super::{Action, EpochModel};
use crate::subject::Subject;

impl Subject for EpochModel {
    fn boundary(&self) -> String {
        EpochModel::boundary(self)
    }

    fn columns(&self) -> Vec<String> {
        let ranks = (0..self.ranks).map(|rank| format!("rank {rank}"));
        std::iter::once("coordinator".to_owned())
            .chain(ranks)
            .collect()
    }

    fn act(&self, before: &World, action: &Action) -> (usize, String) {
        let of = |rank: Rank| 1 + rank.0 as usize;
        match *action {
            Action::ToCoordinator(rank) => {
                let first = before.node(rank).to_coordinator.first();
                let what = first.map_or_else(String::new, |message| said(&message.body));
                (0, format!("gets {what} of {rank}"))
            }
            Action::ToRank(rank) => {
                let first = before.node(rank).to_rank.first();
                let what = first.map_or_else(String::new, |message| {
                    let meant = message.incarnation;
                    match meant == before.node(rank).state.incarnation() {
                        true => told(&message.body),
                        false => format!("{}, meant for its {meant},", told(&message.body)),
                    }
                });
                (of(rank), format!("gets {what}"))
            }
            Action::StepDone(rank) => (of(rank), "gets the step's result".to_owned()),
            Action::Healed(rank) => (of(rank), "has copied the parameters".to_owned()),
            Action::Detect => {
                let who = before.unnoticed.front().map_or_else(String::new, member);
                (0, format!("notices the end of {who}"))
            }
            Action::Deadline(rank) => (of(rank), "has waited too long".to_owned()),
            Action::Crash(rank) => (of(rank), "CRASHES".to_owned()),
            Action::Restart(rank) => (of(rank), "STARTS AGAIN".to_owned()),
            Action::Suspect(rank) => (0, format!("SUSPECTS {rank} falsely")),
            Action::StepFails(rank) => (of(rank), "its STEP FAILS".to_owned()),
            Action::CoordinatorCrash { kept } => {
                let kept: Vec<String> = (0..8_u32)
                    .filter(|rank| kept & (1 << rank) != 0)
                    .map(|rank| rank.to_string())
                    .collect();
                let what = match kept.is_empty() {
                    true => "nothing under way arrives".to_owned(),
                    false => format!("what is under way to {} arrives", kept.join(", ")),
                };
                (0, format!("CRASHES, {what}"))
            }
            Action::CoordinatorRestart => (0, "STARTS AGAIN".to_owned()),
        }
    }

    fn look(&self, world: &World, column: usize) -> String {
        match column.checked_sub(1).and_then(|rank| world.nodes.get(rank)) {
            None => coordinator(world),
            Some(node) if !node.alive => "dead".to_owned(),
            Some(node) if node.state.is_done() => "done".to_owned(),
            Some(node) => {
                let state = &node.state;
                let epoch = match state.epoch() {
                    Some(epoch) => format!(", e{}", epoch.0),
                    None => String::new(),
                };
                let waits = match state.wait() {
                    Some(RankWait::Admission) => "joining".to_owned(),
                    Some(RankWait::Step { seq, .. }) => format!("step {seq}"),
                    Some(RankWait::Votes { .. }) => "voting".to_owned(),
                    Some(RankWait::Commit { .. }) => "at the gate".to_owned(),
                    Some(RankWait::Resume { .. }) => "flushing".to_owned(),
                    Some(RankWait::Copy { .. }) => "copying".to_owned(),
                    None => "over".to_owned(),
                };
                let life = state.incarnation().0;
                format!("life {life}, v{}{epoch}, {waits}", state.view().0)
            }
        }
    }
}

fn coordinator(world: &World) -> String {
    let durable = world.durable();
    let members: Vec<String> = (durable.members.iter())
        .map(|member| format!("{}.{}", member.rank.0, member.incarnation.0))
        .collect();
    let known = format!(
        "v{}, e{} decided, members {}",
        durable.view.0,
        durable.record.epoch.0,
        members.join(" ")
    );
    match &world.coordinator {
        Coordinator::Down(_) => "down".to_owned(),
        Coordinator::Up(state) => {
            let missing = || {
                let missing = state.missing();
                let ranks: Vec<String> = missing.iter().map(|rank| rank.0.to_string()).collect();
                ranks.join(" ")
            };
            match state.wait() {
                _ if durable.aborted.is_some() => format!("{known}, given up"),
                _ if state.is_over() => format!("{known}, over"),
                Some(CoordinatorWait::Arrivals { .. }) => {
                    format!("{known}, waits for {} to arrive", missing())
                }
                Some(CoordinatorWait::Acks { .. }) => {
                    format!("{known}, waits for {} to flush", missing())
                }
                Some(CoordinatorWait::Formation) | None => known,
            }
        }
    }
}

fn member(member: &Member) -> String {
    format!("{}'s {}", member.rank, member.incarnation)
}

fn said(body: &RankSays) -> String {
    match body {
        RankSays::Join { .. } => "Join".to_owned(),
        RankSays::Hello => "Hello".to_owned(),
        RankSays::Heartbeat => "Heartbeat".to_owned(),
        RankSays::StepFailed { view, .. } => format!("StepFailed(v{})", view.0),
        RankSays::Arrive { view, epoch, .. } => format!("Arrive(v{}, e{})", view.0, epoch.0),
        RankSays::ViewAck { view, held } => match held {
            Some(held) => format!("ViewAck(v{}, holds {})", view.0, held.applied),
            None => format!("ViewAck(v{}, holds nothing)", view.0),
        },
    }
}

fn told(body: &CoordinatorSays) -> String {
    match body {
        CoordinatorSays::Commit { view, record, .. } => {
            format!("Commit(v{}, e{})", view.0, record.epoch.0)
        }
        CoordinatorSays::NewView { view, .. } => format!("NewView(v{})", view.0),
        CoordinatorSays::Resume { view, applied, .. } => {
            format!("Resume(v{}, from {applied})", view.0)
        }
        CoordinatorSays::Evict { reason } => format!("Evict({reason:?})"),
        CoordinatorSays::Abort { reason } => format!("Abort({reason:?})"),
    }
}

/// Notes a probe of the bed the first time that it is reached: a search comes by millions of
/// times.
macro_rules! probe {
    ($name:literal if $reached:expr) => {{
        static REACHED: AtomicBool = AtomicBool::new(false);
        // ORDERING: Relaxed. Whoever sees it late notes the probe once more.
        if !REACHED.load(Ordering::Relaxed) && $reached {
            REACHED.store(true, Ordering::Relaxed);
            selvedge_sim::reach($name);
        }
    }};
}

impl World {
    /// Whether a life that was a member, or was to be one again, is none any more.
    pub(super) fn has_evicted(&self) -> bool {
        let durable = self.durable();
        let mut lives = durable.lives.iter();
        // The first view is the one in which the run was formed.
        durable.view > View(1) && lives.any(|life| !durable.members.contains(life))
    }

    /// Notes where the search has been; the names are those of scenarios' `must_reach`.
    pub(super) fn note_probes(&self, action: Action) {
        let record = &self.durable().record;
        probe!("done" if self.all_ended() && self.nodes.iter().all(|node| node.alive));
        probe!("decided" if record.epoch.0 > 0);
        probe!("given-up" if self.durable().aborted.is_some());
        probe!("rejoined" if (self.nodes.iter())
            .any(|n| n.state.incarnation().0 > 1 && n.state.is_done()));
        probe!("copied" if matches!(action, Action::Healed(_)));
        probe!("evicted" if self.has_evicted());
        probe!("false-suspicion" if matches!(action, Action::Suspect(_)));
        probe!("failed-step" if matches!(action, Action::StepFails(_)));
        probe!("coordinator-back" if matches!(action, Action::CoordinatorRestart));
        probe!("asked" if !record.decisions.is_empty());
        probe!("asked-twice" if record.decisions.len() > 1);
        probe!("outvoted" if (record.decisions.iter())
            .any(|decision| decision.passes > 0 && decision.passes < decision.voters));
        probe!("passed" if record.decisions.iter().any(|decision| decision.passed));
        probe!("refused" if record.decisions.iter().any(|decision| !decision.passed));
        probe!("pruned" if (record.schedule.slots().iter())
            .any(|slot| slot.stage() == SeedStage::Pruned));
    }
}
