//! One rank of a run: a thread that does what its machine says.

use selvedge_core::ddp::{
    Collective, CommitRecord, Contribution, Epoch, Failure, InProcess, Rank, RankAction,
    RankConfig, RankEvent, RankState, RankWait, RoundError, StepTag, View,
};
use selvedge_core::platform::{Condvar, Mutex, Platform};
use selvedge_sim::{reach, violation};

use super::{Before, Bug, LIFE, Office, Plan, RUN};
use crate::slots;

/// How it went for a rank.
#[derive(Debug)]
pub(in crate::field) struct RankEnd {
    pub(in crate::field) rank: Rank,
    /// Why it failed; `None` if it has finished the run.
    pub(in crate::field) failure: Option<Failure>,
    /// What it applied, without the one it began from.
    pub(in crate::field) records: Vec<CommitRecord>,
    /// Its votes: in which view, in which epoch, what it said to the first question.
    pub(in crate::field) votes: Vec<(View, Epoch, Option<bool>)>,
    /// The blending slot's alpha, at the beginning of each epoch and in each step of it.
    pub(in crate::field) alphas: Vec<(Epoch, u64, f64)>,
    /// Whether it has ended the run before the last epoch, by its gate.
    pub(in crate::field) stopped: bool,
    /// The sum of all gradients applied.
    pub(super) params: f64,
}

/// A rank's life: it does what its machine says.
pub(super) struct Life<P: Platform> {
    collective: InProcess<f64, P>,
    state: RankState,
    actions: Vec<RankAction>,
    /// The sum of the last step.
    sum: f64,
    pub(super) end: RankEnd,
}

impl<P: Platform> Life<P> {
    /// One that has said that it wants to join.
    pub(super) fn new(office: &Office<P>, collective: InProcess<f64, P>, rank: Rank) -> Self {
        let config = RankConfig {
            run: RUN,
            rank,
            last_epoch: Epoch(office.plan.epochs),
        };
        let mut actions = Vec::new();
        let mut life = Life {
            collective,
            state: RankState::start(config, LIFE, None, &mut actions),
            actions,
            sum: 0.0,
            end: RankEnd {
                rank,
                failure: None,
                records: Vec::new(),
                votes: Vec::new(),
                alphas: Vec::new(),
                stopped: false,
                params: 0.0,
            },
        };
        life.act(office);
        life
    }

    /// Hears that it is a member, and goes as far as to its first step.
    pub(super) fn enter(&mut self, office: &Office<P>) {
        let rank = self.end.rank;
        if office.plan.beats == Some(rank) {
            self.state.on(RankEvent::Beat, &mut self.actions);
        }
        let event = office.next_event(rank);
        self.state.on(event, &mut self.actions);
        let is_step = |action: &RankAction| matches!(action, RankAction::Contribute { .. });
        if let Some(step) = self.actions.pop_if(|action| is_step(action)) {
            self.act(office);
            self.actions.push(step);
        }
    }

    pub(super) fn live(mut self, office: &Office<P>) -> Self {
        let (rank, plan) = (self.end.rank, office.plan);
        let mut reconnects = plan.reconnects == Some(rank);
        let is_over = |state: &RankState| state.is_done() || state.failure().is_some();
        loop {
            let event = self.act(office);
            if is_over(&self.state) || self.end.stopped {
                break;
            }
            let event = event.unwrap_or_else(|| {
                let at_gate = matches!(self.state.wait(), Some(RankWait::Commit { .. }));
                match at_gate && std::mem::take(&mut reconnects) {
                    true => RankEvent::Reconnected,
                    false => office.next_event(rank),
                }
            });
            self.state.on(event, &mut self.actions);
        }
        self.end.failure = self.state.failure();
        if plan.stuck.is_some_and(|(stuck, _)| stuck != rank) {
            office.desk.lock().over[rank.0 as usize] = true;
            office.ended.notify_all();
        }
        self
    }

    /// Does all that is to be done; what came of the last of it.
    fn act(&mut self, office: &Office<P>) -> Option<RankEvent> {
        let mut event = None;
        for action in std::mem::take(&mut self.actions) {
            if !self.end.stopped {
                event = self.act_on(office, action);
            }
        }
        event
    }

    fn act_on(&mut self, office: &Office<P>, action: RankAction) -> Option<RankEvent> {
        let (rank, plan) = (self.end.rank, office.plan);
        match action {
            RankAction::Send(message) => {
                let held = (self.state.applied(), self.end.params);
                office.tell(rank, message, held);
            }
            RankAction::EnterView { view, members } => {
                if let Err(refused) = self.collective.enter(view, &members) {
                    violation!("wrong-error", "{refused}");
                }
                // Who was told to leave it before it entered was not in it then. Without a deadline
                // no view is left but the first, which all entered before anything happened.
                if plan.deadlines && office.desk.lock().is_leaving(rank, view) {
                    self.collective.leave(view);
                }
            }
            // Whoever sent the new view has ended the old one on this rank's behalf.
            RankAction::LeaveView(_) => {}
            RankAction::Contribute { tag, step } => {
                if plan.stuck == Some((rank, Before::Step)) {
                    office.stay();
                }
                return Some(self.contribute(plan, tag, step));
            }
            RankAction::ApplyStep { .. } => self.end.params += self.sum,
            RankAction::Vote { view, epoch } => {
                if plan.stuck == Some((rank, Before::Vote)) {
                    office.stay();
                }
                let passed = (plan.passes)(rank, self.end.votes.len());
                let asked = self.state.record().map(|record| &record.schedule);
                let votes = asked.map_or(Vec::new(), |asked| slots::votes(asked, passed));
                let first = votes.first().map(|vote| vote.passed);
                self.end.votes.push((view, epoch, first));
                return Some(RankEvent::Voted { view, epoch, votes });
            }
            RankAction::Heal { view, applied, .. } => {
                match office.desk.lock().versions.get(&applied) {
                    Some(&params) => self.end.params = params,
                    None => violation!("no-such-version", "{applied}"),
                }
                return Some(RankEvent::Healed { view });
            }
            // The first one is what the run began from.
            RankAction::ApplyEpoch(record) if record.epoch > Epoch(0) => {
                let alpha = self.alpha(plan, 0);
                self.end.alphas.push((record.epoch.next(), 0, alpha));
                let own = self.end.votes.last().and_then(|vote| vote.2);
                let passed = match plan.bug == Some(Bug::OwnVote) {
                    true => own == Some(true),
                    false => record.decisions.iter().any(|decision| decision.passed),
                };
                let is_last = record.epoch.0 == plan.epochs;
                self.end.stopped = plan.stops && passed && !is_last;
                self.end.records.push(record);
            }
            RankAction::ApplyEpoch(_) | RankAction::Finish | RankAction::Fail(_) => {}
        }
        None
    }

    /// The blending slot's alpha in a step.
    fn alpha(&self, plan: Plan, step: u64) -> f64 {
        if plan.bug == Some(Bug::OwnAlpha) {
            let batches = plan.batches[self.end.rank.0 as usize];
            return step.min(batches) as f64 / batches as f64;
        }
        slots::alpha_of(&self.state)
    }

    fn contribute(&mut self, plan: Plan, tag: StepTag, step: u64) -> RankEvent {
        let batches = plan.batches[self.end.rank.0 as usize];
        let active = step < batches;
        if !active {
            reach("shadowed");
        }
        let gradient = f64::from(self.end.rank.0 + 1);
        let mut bucket = [if active { gradient } else { 0.0 }];
        let given = Contribution {
            tag,
            active,
            more: step + 1 < batches,
        };
        let (view, seq) = (tag.view, tag.seq);
        match self.collective.all_reduce(&given, &mut bucket) {
            Ok(mut reduced) => {
                self.sum = bucket[0];
                if plan.bug == Some(Bug::OwnLoader) {
                    reduced.more = given.more;
                }
                let alpha = self.alpha(plan, step);
                self.end.alphas.push((tag.epoch, step, alpha));
                RankEvent::StepDone { view, seq, reduced }
            }
            Err(RoundError::Left { .. } | RoundError::Gone { .. }) => {
                let lost = Vec::new();
                RankEvent::StepFailed { view, seq, lost }
            }
            Err(other) => violation!("wrong-error", "{other}"),
        }
    }
}
