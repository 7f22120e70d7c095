//! The driver of the machines: which steps can be made, and what a machine's actions do. It is
//! what a real driver is, with a network that is part of the state.

use selvedge_core::ddp::{
    CommitRecord, Contribution, CoordinatorAction, CoordinatorEvent, CoordinatorState, Decision,
    Durable, Failure, Incarnation, Member, Question, Rank, RankAction, RankConfig, RankEvent,
    RankState, RankWait, Reduced, Reduction, StepTag, Vote,
};

use super::world::{Broken, Coordinator, Given, Heal, Queue, StepResult, World};
use super::{Action, EpochModel, Mutant};
use crate::shared::Shared;

impl EpochModel {
    pub(super) fn rank_config(&self, rank: Rank) -> RankConfig {
        let run = self.run_config();
        RankConfig {
            run: run.run,
            rank,
            last_epoch: run.last_epoch,
        }
    }

    fn batches(&self, rank: Rank) -> u64 {
        Self::BATCHES[rank.0 as usize % Self::BATCHES.len()]
    }
}

impl World {
    /// What goes on by itself.
    pub(super) fn progress(&self, mut tell: impl FnMut(Action)) {
        let up = matches!(self.coordinator, Coordinator::Up(_));
        for rank in self.ranks() {
            let node = self.node(rank);
            if up && !node.to_coordinator.is_empty() {
                tell(Action::ToCoordinator(rank));
            }
            if node.alive && !node.to_rank.is_empty() {
                tell(Action::ToRank(rank));
            }
            if !node.is_running() {
                continue;
            }
            if node.result.is_some() {
                tell(Action::StepDone(rank));
            }
            if node
                .heal
                .as_ref()
                .is_some_and(|heal| self.holder(heal).is_some())
            {
                tell(Action::Healed(rank));
            }
            if !up && !self.gets_result(rank) {
                tell(Action::Deadline(rank));
            }
        }
        if up && !self.unnoticed.is_empty() {
            tell(Action::Detect);
        }
    }

    /// What may go wrong.
    pub(super) fn faults(&self, actions: &mut Vec<Action>) {
        let up = matches!(self.coordinator, Coordinator::Up(_));
        for rank in self.ranks() {
            let node = self.node(rank);
            if self.left.crashes > 0 && node.is_running() {
                actions.push(Action::Crash(rank));
            }
            if self.left.restarts > 0 && !node.alive {
                actions.push(Action::Restart(rank));
            }
            let member = self.durable().members.contains(&node.member());
            if self.left.suspicions > 0 && up && node.is_running() && member {
                actions.push(Action::Suspect(rank));
            }
        }
        for rank in self.ranks().filter(|_| self.left.failed_steps > 0) {
            let node = self.node(rank);
            if node.is_running() && matches!(node.state.wait(), Some(RankWait::Step { .. })) {
                actions.push(Action::StepFails(rank));
            }
        }
        if self.left.coordinator_crashes > 0 && up {
            let under_way = self
                .ranks()
                .filter(|&rank| !self.node(rank).to_rank.is_empty());
            let under_way = under_way.fold(0, |bits, rank| bits | bit(rank));
            let subsets = (0..=under_way).filter(|kept| kept & !under_way == 0);
            actions.extend(subsets.map(|kept| Action::CoordinatorCrash { kept }));
        }
        if self.left.coordinator_restarts > 0 && !up {
            actions.push(Action::CoordinatorRestart);
        }
    }

    /// A step of the search.
    pub(super) fn act(&mut self, model: &EpochModel, action: Action) {
        self.step(model, action);
        self.note_probes(action);
    }

    /// The same, where it proves nothing that it was there: while the run is formed.
    pub(super) fn step(&mut self, model: &EpochModel, action: Action) {
        match action {
            Action::ToCoordinator(rank) => {
                if let Some(message) = oldest(&mut self.node_mut(rank).to_coordinator) {
                    model.mutant.to_coordinator(model, self, rank, message);
                }
            }
            Action::ToRank(rank) => {
                let node = self.node_mut(rank);
                if let Some(mut message) = oldest(&mut node.to_rank) {
                    let another = message.incarnation != node.state.incarnation();
                    let before = another.then(|| node.state.clone());
                    model.mutant.to_rank(node, &mut message);
                    self.tell_rank(model, rank, RankEvent::Message(message));
                    let taken = before.is_some_and(|before| before != self.node(rank).state);
                    self.break_if(taken, Broken::Identity);
                }
            }
            Action::StepDone(rank) => self.step_done(model, rank),
            Action::Healed(rank) => self.healed(model, rank),
            Action::Detect => {
                if let Some(member) = self.unnoticed.pop_front() {
                    self.tell_coordinator(CoordinatorEvent::Lost(vec![member]));
                }
            }
            Action::Deadline(rank) => {
                if let Some(wait) = self.node(rank).state.wait() {
                    self.tell_rank(model, rank, RankEvent::HardDeadline(wait));
                }
            }
            Action::Crash(rank) => {
                self.left.crashes -= 1;
                self.crash(model, rank);
            }
            Action::Restart(rank) => {
                self.left.restarts -= 1;
                self.restart(model, rank);
            }
            Action::Suspect(rank) => {
                self.left.suspicions -= 1;
                let member = self.node(rank).member();
                self.tell_coordinator(CoordinatorEvent::Lost(vec![member]));
            }
            Action::StepFails(rank) => {
                self.left.failed_steps -= 1;
                self.step_fails(model, rank);
            }
            Action::CoordinatorCrash { kept } => {
                self.left.coordinator_crashes -= 1;
                self.crash_coordinator(model, kept);
            }
            Action::CoordinatorRestart => {
                self.left.coordinator_restarts -= 1;
                self.restart_coordinator(model);
            }
        }
        self.forget_what_nobody_needs(model);
    }

    pub(super) fn tell_rank(&mut self, model: &EpochModel, rank: Rank, event: RankEvent) {
        let node = self.node_mut(rank);
        let epoch = |state: &RankState| state.record().map(|record| record.epoch);
        let before = (node.state.view(), epoch(&node.state));
        let mut out = Vec::new();
        node.state.make_mut().on(event, &mut out);
        let (view, now) = (node.state.view(), epoch(&node.state));
        self.break_if(view < before.0 || now < before.1, Broken::Monotone);
        self.do_rank(model, rank, out);
    }

    pub(super) fn do_rank(&mut self, model: &EpochModel, rank: Rank, out: Vec<RankAction>) {
        for action in out {
            match action {
                RankAction::Send(message) => {
                    let up = matches!(self.coordinator, Coordinator::Up(_));
                    let node = self.node_mut(rank);
                    model.mutant.said(node, &message);
                    // To one that is down there is no connection.
                    if up {
                        node.to_coordinator.push(Shared::new(message));
                    }
                }
                // Who is in the view, each contribution says.
                RankAction::EnterView { .. } => {}
                RankAction::LeaveView(_) => {
                    let node = self.node_mut(rank);
                    node.heal = None;
                    node.result = None;
                    node.is_served();
                }
                RankAction::Contribute { tag, step } => self.contribute(model, rank, tag, step),
                RankAction::ApplyStep { .. } => {}
                RankAction::Vote { view, epoch } => {
                    let votes = self.vote(rank);
                    let event = RankEvent::Voted { view, epoch, votes };
                    self.tell_rank(model, rank, event);
                }
                RankAction::Heal {
                    view,
                    applied,
                    holders,
                } => {
                    self.node_mut(rank).heal = Some(Shared::new(Heal {
                        view,
                        applied,
                        holders,
                    }));
                }
                RankAction::ApplyEpoch(record) => self.applied(&record),
                RankAction::Finish => self.node_mut(rank).end(),
                RankAction::Fail(failure) => self.failed(model, rank, failure),
            }
        }
    }

    /// A rank's votes. They differ from rank to rank, so that it matters who voted.
    fn vote(&mut self, rank: Rank) -> Vec<Vote> {
        let Some(record) = self.node(rank).state.record().cloned() else {
            return Vec::new();
        };
        let epoch = record.epoch;
        let others = self.nodes.iter().filter(|node| node.is_running());
        let mut records = others.filter_map(|node| node.state.record());
        let differs =
            |other: &CommitRecord| other.epoch == epoch && other.schedule != record.schedule;
        let asymmetric = records.any(differs);
        self.break_if(asymmetric, Broken::GateSymmetry);
        votes(rank, &record.schedule.questions())
    }

    /// A rank has applied a record: is it the one that was decided?
    fn applied(&mut self, record: &CommitRecord) {
        let decided = self.log.get(record.epoch.0 as usize);
        let agrees = decided == Some(&record.digest());
        self.break_if(!agrees, Broken::Agreement);
    }

    fn failed(&mut self, model: &EpochModel, rank: Rank, failure: Failure) {
        let alarm = matches!(
            failure,
            Failure::TagMismatch | Failure::BadRecord | Failure::Diverged
        );
        self.break_if(alarm, Broken::FalseAlarm);
        let member = self.node(rank).member();
        self.bury(model, rank);
        // Its connections close with it. Under the mutant they do not.
        if model.mutant != Mutant::FailedStaysMember {
            self.unnoticed.push_back(member);
        }
    }

    fn contribute(&mut self, model: &EpochModel, rank: Rank, tag: StepTag, step: u64) {
        let batches = model.batches(rank);
        let node = self.node_mut(rank);
        node.given = Some(Shared::new(Given {
            view: tag.view,
            seq: tag.seq,
            contribution: Contribution {
                tag,
                active: step < batches,
                more: step + 1 < batches,
            },
            members: node.state.members().to_vec(),
            parameters: node.parameters,
            served: false,
        }));
        self.complete_collectives();
    }

    /// Gives a result to every rank whose members have all contributed.
    fn complete_collectives(&mut self) {
        let mut results = Vec::new();
        for rank in self.ranks() {
            let Some(own) = self.node(rank).given.as_ref().filter(|given| !given.served) else {
                continue;
            };
            let theirs: Option<Vec<&Given>> = (own.members.iter())
                .map(|&member| {
                    let given: &Given = self.node(member).given.as_ref()?;
                    ((given.view, given.seq) == (own.view, own.seq)).then_some(given)
                })
                .collect();
            let Some(theirs) = theirs else {
                continue;
            };
            let Some(reduced) = Reduced::of(theirs.iter().map(|given| &given.contribution)) else {
                continue;
            };
            let alike =
                |given: &&Given| given.members == own.members && given.parameters == own.parameters;
            let mixed = !reduced.tags_equal || !theirs.iter().all(alike);
            let result = StepResult {
                view: own.view,
                seq: own.seq,
                reduced,
                members: own.members.clone(),
            };
            results.push((rank, result, mixed));
        }
        for (rank, result, mixed) in results {
            self.break_if(mixed, Broken::NoMix);
            let node = self.node_mut(rank);
            // A contribution of a life that is over is never answered.
            if node.is_running() {
                node.result = Some(Shared::new(result));
            }
            node.is_served();
        }
    }

    fn step_done(&mut self, model: &EpochModel, rank: Rank) {
        let node = self.node_mut(rank);
        let Some(result) = node.result.take() else {
            return;
        };
        if result.reduced.active > 0 {
            // The same steps by the same members give the same parameters.
            let step = (result.view.0, result.seq, result.members.len() as u64);
            node.parameters = mix(node.parameters, step);
        }
        let StepResult {
            view, seq, reduced, ..
        } = *result;
        self.tell_rank(model, rank, RankEvent::StepDone { view, seq, reduced });
    }

    /// What the rank has given, others may still get.
    fn step_fails(&mut self, model: &EpochModel, rank: Rank) {
        let node = self.node_mut(rank);
        node.end();
        if let Some(RankWait::Step { view, seq }) = node.state.wait() {
            let lost = Vec::new();
            self.tell_rank(model, rank, RankEvent::StepFailed { view, seq, lost });
        }
    }

    /// A live rank that has what is to be copied.
    fn holder(&self, heal: &Heal) -> Option<Rank> {
        let has = |&&rank: &&Rank| {
            let node = self.node(rank);
            let copying = matches!(node.state.wait(), Some(RankWait::Copy { .. }));
            node.alive && node.state.applied() == heal.applied && !copying
        };
        heal.holders.iter().find(has).copied()
    }

    fn healed(&mut self, model: &EpochModel, rank: Rank) {
        let Some(heal) = self.node_mut(rank).heal.take() else {
            return;
        };
        if let Some(holder) = self.holder(&heal) {
            // Whole at once: before this it has what it had.
            self.node_mut(rank).parameters = self.node(holder).parameters;
            self.tell_rank(model, rank, RankEvent::Healed { view: heal.view });
        }
    }

    fn crash(&mut self, model: &EpochModel, rank: Rank) {
        let member = self.node(rank).member();
        self.bury(model, rank);
        self.unnoticed.push_back(member);
    }

    /// The end of a life. What it knew is gone with it; only its number counts.
    fn bury(&mut self, model: &EpochModel, rank: Rank) {
        let config = model.rank_config(rank);
        let node = self.node_mut(rank);
        let life = node.state.incarnation();
        node.end();
        node.state = Shared::new(RankState::start(config, life, None, &mut Vec::new()));
        (node.alive, node.parameters) = (false, 0);
    }

    fn restart(&mut self, model: &EpochModel, rank: Rank) {
        let node = self.node_mut(rank);
        let incarnation = Incarnation(node.state.incarnation().0 + 1);
        let mut out = Vec::new();
        let config = model.rank_config(rank);
        node.state = Shared::new(RankState::start(config, incarnation, None, &mut out));
        (node.alive, node.parameters) = (true, 0);
        self.do_rank(model, rank, out);
    }

    pub(super) fn tell_coordinator(&mut self, event: CoordinatorEvent) {
        let Coordinator::Up(state) = &mut self.coordinator else {
            return;
        };
        let before = state.clone();
        let mut out = Vec::new();
        state.make_mut().on(event, &mut out);
        let record = &state.durable().record;
        let lost = record.epoch != before.durable().record.epoch
            && !every_vote_counts(before.durable(), record);
        self.break_if(lost, Broken::VoteLost);
        self.do_coordinator(out);
    }

    pub(super) fn do_coordinator(&mut self, out: Vec<CoordinatorAction>) {
        for action in out {
            match action {
                CoordinatorAction::Persist => {
                    let record = &self.durable().record;
                    let (epoch, digest) = (record.epoch.0 as usize, record.digest());
                    match self.log.get(epoch).copied() {
                        None if self.log.len() == epoch => self.log.push(digest),
                        decided => self.break_if(decided != Some(digest), Broken::Agreement),
                    }
                }
                CoordinatorAction::Send { to, message } => {
                    // Whoever is dead may live again before it arrives.
                    self.node_mut(to).to_rank.push(Shared::new(message));
                }
            }
        }
    }

    fn crash_coordinator(&mut self, model: &EpochModel, kept: u8) {
        let mut durable = self.durable().clone();
        model.mutant.forget(&mut durable);
        self.coordinator = Coordinator::Down(Shared::new(durable));
        for rank in self.ranks() {
            let node = self.node_mut(rank);
            node.to_coordinator.clear();
            if kept & bit(rank) == 0 {
                node.to_rank.clear();
            }
        }
    }

    fn restart_coordinator(&mut self, model: &EpochModel) {
        let mut out = Vec::new();
        let restored =
            CoordinatorState::restore(model.run_config(), self.durable().clone(), &mut out)
                .expect("INVARIANT: it was written down by a coordinator of this run");
        self.coordinator = Coordinator::Up(Shared::new(restored));
        self.do_coordinator(out);
        self.reconnect(model, |_| true);
    }

    /// Every live rank for which it `does` has a connection again, and says so.
    pub(super) fn reconnect(&mut self, model: &EpochModel, does: impl Fn(&RankState) -> bool) {
        for rank in self.ranks() {
            if self.node(rank).is_running() && does(&self.node(rank).state) {
                self.tell_rank(model, rank, RankEvent::Reconnected);
            }
        }
    }

    /// Drops what can no longer make a difference, so that states that are the same look the
    /// same.
    fn forget_what_nobody_needs(&mut self, model: &EpochModel) {
        for rank in self.ranks() {
            let node = self.node(rank);
            let Some(given) = &node.given else {
                continue;
            };
            let waiting = |&member: &Rank| {
                let other = self.node(member);
                let theirs = other.given.as_ref();
                let same = theirs.is_some_and(|g| (g.view, g.seq) == (given.view, given.seq));
                // It has not contributed, and may.
                let may = other.is_running() && other.state.view() <= given.view;
                may && !(same && theirs.is_some_and(|g| g.served))
            };
            if given.served && !given.members.iter().any(waiting) {
                self.node_mut(rank).given = None;
            }
        }
        // Of whom the coordinator knows it, or a later life, it need not be told again.
        let news = |life: &Member| {
            let durable = self.durable();
            let mut past = durable.lives.iter();
            let known = past.any(|p| p.rank == life.rank && p.incarnation >= life.incarnation);
            !known || durable.members.contains(life)
        };
        // A coordinator that is a mutant's forgets what it knew.
        if model.mutant == Mutant::None && !self.unnoticed.iter().all(news) {
            self.unnoticed = self
                .unnoticed
                .iter()
                .filter(|life| news(life))
                .copied()
                .collect();
        }
        // Nobody reads what was sent to a life that is over and will not come again.
        if self.left.restarts == 0 {
            for rank in self.ranks() {
                if !self.node(rank).is_running() && !self.node(rank).to_rank.is_empty() {
                    self.node_mut(rank).to_rank.clear();
                }
            }
        }
    }
}

impl super::world::Node {
    /// Its run is over: it waits for nothing. What it has given stays given.
    fn end(&mut self) {
        self.result = None;
        self.heal = None;
        self.is_served();
    }

    /// What it has given is answered, or never will be.
    fn is_served(&mut self) {
        if let Some(given) = &mut self.given
            && !given.served
        {
            given.make_mut().served = true;
        }
    }
}

/// Takes the message that has been under way for longest.
fn oldest<T: Clone>(queue: &mut Queue<T>) -> Option<T> {
    (!queue.is_empty()).then(|| queue.remove(0).into_inner())
}

/// What a rank's gate says. It differs from rank to rank and from slot to slot.
pub(super) fn passes(rank: Rank, question: Question) -> bool {
    (rank.0 + question.slot.0).is_multiple_of(2)
}

/// What a rank answers to these questions.
pub(super) fn votes(rank: Rank, questions: &[Question]) -> Vec<Vote> {
    let vote = |&question: &Question| Vote {
        question,
        passed: passes(rank, question),
        score: rank.0,
    };
    questions.iter().map(vote).collect()
}

/// Whether the record after `before` holds the votes of exactly its members, each as its rank's
/// gate gave it, and answers every question of the slots before it by what the slot's declared
/// reduction makes of these votes. Counted here once more, and not asked of core.
pub(super) fn every_vote_counts(before: &Durable, record: &CommitRecord) -> bool {
    let schedule = &before.record.schedule;
    let questions = schedule.questions();
    let voters: Vec<Rank> = before.members.iter().map(|member| member.rank).collect();
    let as_given = record.ballots.len() == voters.len()
        && (record.ballots.iter().zip(&voters)).all(|(ballot, &voter)| {
            ballot.voter == voter && ballot.votes == votes(voter, &questions)
        });
    let answered = record.decisions.len() == questions.len();
    let as_meant = |(decision, &question): (&Decision, &Question)| {
        let all = u32::try_from(voters.len()).unwrap_or(u32::MAX);
        let yes = voters
            .iter()
            .filter(|&&voter| passes(voter, question))
            .count();
        let yes = u32::try_from(yes).unwrap_or(u32::MAX);
        let scores = voters.iter().map(|voter| u64::from(voter.0)).sum::<u64>();
        let rules = schedule.slot(question.slot).map(|slot| *slot.rules());
        let passed = match rules.map(|rules| rules.reduction) {
            Some(Reduction::All) => yes == all,
            Some(Reduction::Any) => yes > 0,
            Some(Reduction::AtLeast(least)) => yes >= least,
            Some(Reduction::Majority) => 2 * yes > all,
            Some(Reduction::SumAtLeast(least)) => scores >= least,
            // About a slot that is not there nothing can be decided.
            None => return false,
        };
        decision.question == question && decision.passed == passed
    };
    as_given && answered && record.decisions.iter().zip(&questions).all(as_meant)
}

/// A rank among at most eight.
fn bit(rank: Rank) -> u8 {
    1_u8.checked_shl(rank.0).unwrap_or(0)
}

/// A digest of a step after others.
fn mix(parameters: u64, step: (u64, u64, u64)) -> u64 {
    [step.0, step.1, step.2]
        .iter()
        .fold(parameters, |sum, part| {
            (sum ^ (part + 1))
                .wrapping_mul(0x9e37_79b9_7f4a_7c15)
                .rotate_left(23)
        })
}
