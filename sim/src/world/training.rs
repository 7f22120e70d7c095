//! What a rank's driver does beside its machine: steps, collectives, gates, copies, checkpoints.

use std::time::Duration;

use selvedge_core::ddp::{
    CommitRecord, Contribution, Epoch, GateMetrics, Rank, RankEvent, RankWait, StepTag, View,
};

use super::chain::What;
use super::faults::Moment;
use super::mutants::Mutant;
use super::network::Place;
use super::probes::Probe;
use super::random::{hash, mix};
use super::ranks::{RankInput, Saved};
use super::run::{Event, Simulation};

impl Simulation {
    pub(super) fn leave(&mut self, rank: Rank, view: View) {
        let waits = self.collectives.waits_since(rank, view);
        if let Some((receiver, _)) = waits
            && self.collectives.is_half_told(view, receiver.seq)
        {
            self.probes.reach(Probe::Nonuniform);
        }
        self.collectives.leave(rank, view);
    }

    pub(super) fn next_job(&mut self, rank: Rank) -> u64 {
        self.process(rank).map_or(0, |process| {
            process.job += 1;
            process.job
        })
    }

    /// How long some work of a rank takes.
    pub(super) fn work(&mut self, rank: Rank, least: Duration, most: Duration) -> Duration {
        self.workload.between(least, most) * self.node(rank).slow
    }

    /// How many batches a rank's loader has in an epoch: the same whenever it is asked.
    pub(super) fn batches(&self, rank: Rank, epoch: Epoch) -> u64 {
        let drawn = hash(&[self.config.seed, u64::from(rank.0), epoch.0]);
        1 + drawn % self.config.timing.batches.max(1)
    }

    pub(super) fn compute(&mut self, rank: Rank, tag: StepTag, step: u64) {
        let batches = self.batches(rank, tag.epoch);
        let (active, more) = (step < batches, step + 1 < batches);
        let (least, most) = self.config.timing.compute;
        let takes = match active {
            true => self.work(rank, least, most),
            false => {
                self.probes.reach(Probe::UnevenLoaders);
                least / 10
            }
        };
        let takes = self.guarded_compute(rank, takes);
        let contribution = Contribution { tag, active, more };
        let job = self.next_job(rank);
        self.plan_rank(rank, takes, RankInput::Computed { job, contribution });
    }

    /// Whether a rank's own loader has more batches after the step it waits for.
    pub(super) fn own_more(&mut self, rank: Rank) -> bool {
        let Some(process) = self.process(rank) else {
            return false;
        };
        let applied = process.state.applied();
        let (Some(epoch), Some(record)) = (process.state.epoch(), process.state.record()) else {
            return false;
        };
        let step = applied.saturating_sub(record.applied);
        step + 1 < self.batches(rank, epoch)
    }

    pub(super) fn contribute(&mut self, rank: Rank, contribution: Contribution) {
        let node = &self.ranks[rank.0 as usize];
        let life = node.life;
        let Some(process) = &node.process else {
            return;
        };
        let (parameters, members) = (process.parameters, process.members.clone());
        let tag = contribution.tag;
        let numbers = [tag.view.0, tag.seq, tag.applied];
        self.note(Place::Rank(rank), What::Contributes, numbers);
        let kept = self.checks.collective_use.gives(rank, life, &tag);
        self.hold(kept);
        let receivers =
            (self.collectives).contribute(rank, life, contribution, parameters, &members, self.now);
        self.moment(Moment::Contributes);
        self.watch_collective(rank);
        if receivers.is_empty() {
            return;
        }
        let given = self.collectives.contributions(tag.view, tag.seq);
        let kept = self.checks.no_mix.completes(&members, given);
        self.hold(kept);
        for receiver in receivers {
            let at = self.now + self.network.delay();
            self.queue.push(at, Event::Result(receiver));
        }
        self.moment(Moment::Completes);
    }

    /// Sees to it that a rank looks after its collective, once at a time.
    pub(super) fn watch_collective(&mut self, rank: Rank) {
        let after = self.config.timing.collective;
        if let Some(process) = self.process(rank)
            && !std::mem::replace(&mut process.times_out, true)
        {
            self.plan_rank(rank, after, RankInput::TimeOut);
        }
    }

    /// Whether a collective that a rank waits for will never come to anything: not where
    /// somebody is only slow.
    pub(super) fn time_out(&mut self, rank: Rank) {
        let limit = self.config.timing.collective;
        let Some(process) = self.process(rank) else {
            return;
        };
        process.times_out = false;
        let (view, members) = (process.state.view(), process.members.clone());
        let Some((waits, since)) = self.collectives.waits_since(rank, view) else {
            return;
        };
        let place = Place::Rank(rank);
        let apart = |&member: &Rank| {
            let other = Place::Rank(member);
            let gone = self.ranks[member.0 as usize].process.is_none();
            gone || self.network.is_cut(other, place) || self.network.is_cut(place, other)
        };
        let overdue = self.now.saturating_since(since) >= limit;
        let lost: Vec<Rank> = members.iter().copied().filter(apart).collect();
        if overdue && !lost.is_empty() {
            let (view, seq) = (waits.view, waits.seq);
            self.collectives.abandon(rank, view, seq);
            return self.handle(rank, RankInput::StepFailed { view, seq, lost });
        }
        if let Some(process) = self.process(rank) {
            process.times_out = true;
        }
        let next = match overdue {
            true => limit,
            false => (since + limit).saturating_since(self.now),
        };
        self.plan_rank(rank, next, RankInput::TimeOut);
    }

    pub(super) fn apply_step(&mut self, rank: Rank, applied: u64, active: u32) {
        let Some(process) = self.process(rank) else {
            return;
        };
        let (view, last) = (process.state.view(), process.last.take());
        if active > 0
            && let Some(outcome) = last
        {
            process.parameters = mix(process.parameters, outcome.digest);
        }
        let numbers = [view.0, applied, process.parameters];
        self.note(Place::Rank(rank), What::Steps, numbers);
        self.guards_step(rank);
    }

    /// A rank's votes, on what it has measured: they differ from rank to rank and from one time
    /// it is asked to the next.
    pub(super) fn vote(&mut self, rank: Rank, view: View, epoch: Epoch) {
        let seed = self.config.seed;
        let Some(process) = self.process(rank) else {
            return;
        };
        let Some(record) = process.state.record() else {
            return;
        };
        let schedule = record.schedule.clone();
        let kept = self.checks.gate_symmetry.asks(rank, epoch, &schedule);
        self.hold(kept);
        let votes = schedule.vote(|slot| {
            let drawn = hash(&[seed, u64::from(rank.0), epoch.0, view.0, u64::from(slot.0)]);
            let share = |shift: u32| (drawn >> shift & 0xff) as f64 / 255.0;
            GateMetrics {
                improvement: Some(share(0)),
                gradient_ratio: Some(share(8)),
                gradient_health: Some(share(16)),
                contribution: Some(2.0 * share(24)),
            }
        });
        self.note(Place::Rank(rank), What::Votes, [view.0, epoch.0, 0]);
        self.tell(rank, RankEvent::Voted { view, epoch, votes });
        self.moment(Moment::Arrives);
    }

    pub(super) fn copy(&mut self, rank: Rank) {
        let (least, most) = self.config.timing.copy;
        let takes = match self.config.mutant == Mutant::CopiesNothing {
            true => Duration::ZERO,
            false => self.work(rank, least, most),
        };
        let job = self.next_job(rank);
        self.plan_rank(rank, takes, RankInput::Copied { job });
    }

    /// Takes the parameters of a holder that is there and has them; tries again if none is.
    pub(super) fn copied(&mut self, rank: Rank) {
        let Some(copying) = self.process(rank).and_then(|p| p.copying.clone()) else {
            return;
        };
        let place = Place::Rank(rank);
        let has = |holder: &Rank| {
            let node = &self.ranks[holder.0 as usize];
            let there = Place::Rank(*holder);
            let process = node.running().filter(|process| process.stopped.is_none())?;
            let busy = matches!(process.state.wait(), Some(RankWait::Copy { .. }));
            let cut = self.network.is_cut(there, place) || self.network.is_cut(place, there);
            let has = process.state.applied() == copying.applied;
            (has && !busy && !cut).then_some(process.parameters)
        };
        let found: Vec<u64> = copying.holders.iter().filter_map(has).collect();
        let numbers = [copying.view.0, copying.applied, 0];
        let Some(&parameters) = self.schedule.pick(&found) else {
            self.note(place, What::NoHolder, numbers);
            self.probes.reach(Probe::HolderGone);
            return self.copy(rank);
        };
        self.note(place, What::Heals, numbers);
        let nothing = self.config.mutant == Mutant::CopiesNothing;
        if let Some(process) = self.process(rank)
            && !nothing
        {
            process.parameters = parameters;
        }
        let view = copying.view;
        let first_life = self.node(rank).life == 1;
        if first_life {
            self.probes.reach(Probe::HealAfterFlush);
        }
        self.tell(rank, RankEvent::Healed { view });
    }

    pub(super) fn apply_epoch(&mut self, rank: Rank, record: &CommitRecord) {
        let numbers = [record.epoch.0, record.applied, 0];
        self.note(Place::Rank(rank), What::Applies, numbers);
        let kept = self.checks.agreement.applies(rank, record);
        self.hold(kept);
        // After the record was applied, as a rank's driver does.
        self.guards_epoch(rank, record);
        if self.node(rank).life > 1 && record.epoch > Epoch(0) {
            self.probes.reach(Probe::RejoinAtBoundary);
        }
    }

    /// Writes a checkpoint down where there is one to be had.
    pub(super) fn save(&mut self, rank: Rank) {
        let every = self.config.timing.checkpoint_every.max(1);
        let node = &mut self.ranks[rank.0 as usize];
        let Some(process) = &node.process else {
            return;
        };
        let due = |record: &CommitRecord| {
            let saved = node.disk.as_ref();
            let known = saved.is_some_and(|s| s.checkpoint.record.epoch >= record.epoch);
            record.epoch.0.is_multiple_of(every)
                && !known
                && record.applied == process.state.applied()
        };
        if process.state.record().is_some_and(due)
            && let Some(checkpoint) = process.state.checkpoint()
        {
            let parameters = process.parameters;
            node.disk = Some(Saved {
                checkpoint,
                parameters,
            });
        }
    }
}
