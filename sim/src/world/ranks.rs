//! The driver of a rank in virtual time: what a real one does, around the
//! [`RankState`] that ships.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use selvedge_core::ddp::{
    Contribution, CoordinatorSays, Due, Epoch, EvictReason, Failure, Incarnation, Rank, RankAction,
    RankCheckpoint, RankConfig, RankEvent, RankState, RankWait, ToRank, View, Watch,
};
use selvedge_core::time::Instant;
use selvedge_core::train::compiled_step::Attempt;

use super::chain::What;
use super::collective::Outcome;
use super::faults::Moment;
use super::guards::Fate;
use super::mutants::Mutant;
use super::network::{ConnectionId, Endpoint, Place, Side, Told};
use super::probes::Probe;

use super::run::{Event, Packet, Simulation};

/// How often a rank that failed is started again at most.
const MOST_REVIVALS: u64 = 6;

/// One rank of the run, through all of its lives.
#[derive(Debug)]
pub(super) struct RankNode {
    /// The number of its last life.
    pub(super) life: u64,
    pub(super) process: Option<RankProcess>,
    pub(super) disk: Option<Saved>,
    /// How its last life ended, if by itself.
    pub(super) end: Option<End>,
    /// How many times as long its work takes.
    pub(super) slow: u32,
    /// Lives that are to begin.
    pub(super) starts: u32,
    /// How far its clock is ahead.
    pub(super) ahead: Duration,
}

/// How a rank's run ended.
///
/// ```
/// use selvedge_sim::world::{End, World, WorldConfig};
///
/// let config = WorldConfig { epochs: 3, ..WorldConfig::default() };
/// let report = World::new(config)?.run();
/// assert!(report.ends.iter().all(|end| *end == Some(End::Done)));
/// # Ok::<(), selvedge_sim::world::WorldError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// It has finished.
    Done,
    /// It has failed, and says why.
    Failed(Failure),
    /// It was killed.
    Killed,
    /// Its loop is stuck.
    Stuck,
}

/// A checkpoint, with the parameters that no machine sees.
#[derive(Clone, Debug)]
pub(super) struct Saved {
    pub(super) checkpoint: RankCheckpoint,
    pub(super) parameters: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stop {
    /// It goes on when it is told.
    Frozen,
    /// Never.
    Stuck,
}

#[derive(Debug)]
pub(super) struct RankProcess {
    pub(super) state: RankState,
    pub(super) watch: Watch<RankWait>,
    /// When it looks at the time next.
    pub(super) armed: Option<Instant>,
    /// Ghost: a digest of every step in its parameters.
    pub(super) parameters: u64,
    pub(super) connection: Option<ConnectionId>,
    /// Whether it had one before.
    pub(super) connected_before: bool,
    pub(super) stopped: Option<Stop>,
    pub(super) inbox: VecDeque<RankInput>,
    /// The work that counts; what was begun before is out of date.
    pub(super) job: u64,
    pub(super) members: Arc<[Rank]>,
    pub(super) entered: Option<View>,
    pub(super) last: Option<Outcome>,
    pub(super) copying: Option<Copying>,
    pub(super) times_out: bool,
    /// It has failed, and its process is there all the same: a mutant's.
    pub(super) undead: bool,
}

#[derive(Clone, Debug)]
pub(super) struct Copying {
    pub(super) view: View,
    pub(super) applied: u64,
    pub(super) holders: Vec<Rank>,
}

/// What may happen to a rank's process.
#[derive(Clone, Debug)]
pub(super) enum RankInput {
    /// From the network.
    Told(Told<Packet>),
    /// Time for a sign of life.
    Beat,
    /// Time to look at the deadlines.
    Look,
    /// Time to ask for a connection again.
    Redial,
    /// A gradient is there.
    Computed {
        job: u64,
        contribution: Contribution,
    },
    /// A collective has come to something.
    Reduced {
        view: View,
        seq: u64,
        outcome: Outcome,
    },
    /// A collective has come to nothing.
    StepFailed {
        view: View,
        seq: u64,
        lost: Vec<Rank>,
    },
    /// Time to look whether a collective ever comes to anything.
    TimeOut,
    /// The gates are evaluated.
    Voted { job: u64, view: View, epoch: Epoch },
    /// A copy is made, or its holder is gone.
    Copied { job: u64 },
    /// A compile of its step is over.
    Compiled { attempt: Attempt, fate: Fate },
}

impl RankNode {
    pub(super) fn new() -> Self {
        RankNode {
            life: 0,
            process: None,
            disk: None,
            end: None,
            slow: 1,
            starts: 0,
            ahead: Duration::ZERO,
        }
    }

    /// Its process, if it runs and the run is not over for it.
    pub(super) fn running(&self) -> Option<&RankProcess> {
        self.process.as_ref().filter(|process| !process.undead)
    }

    /// Whether it may still get on by itself.
    pub(super) fn is_live(&self) -> bool {
        let stuck = |process: &RankProcess| process.stopped == Some(Stop::Stuck);
        self.running().is_some_and(|process| !stuck(process))
    }

    pub(super) fn forget_disk(&mut self) {
        self.disk = None;
    }
}

impl Simulation {
    pub(super) fn node(&mut self, rank: Rank) -> &mut RankNode {
        &mut self.ranks[rank.0 as usize]
    }

    pub(super) fn process(&mut self, rank: Rank) -> Option<&mut RankProcess> {
        self.ranks[rank.0 as usize].process.as_mut()
    }

    /// What a rank's clock says.
    pub(super) fn rank_now(&mut self, rank: Rank) -> Instant {
        let node = &self.ranks[rank.0 as usize];
        let (life, now) = (node.life, self.now + node.ahead);
        let kept = self.checks.clock.reads(Place::Rank(rank), life, now);
        self.hold(kept);
        now
    }

    /// Another life of a rank begins.
    pub(super) fn start_rank(&mut self, rank: Rank) {
        let reuse = self.config.mutant == Mutant::SameLifeAgain;
        let late = self.checks.decided() > Epoch(0);
        let node = &mut self.ranks[rank.0 as usize];
        node.starts = node.starts.saturating_sub(1);
        if node.process.is_some() {
            return;
        }
        if !(reuse && node.life > 0) {
            node.life += 1;
        }
        let saved = node.disk.clone();
        let parameters = saved.as_ref().map_or(0, |saved| saved.parameters);
        let from_checkpoint = saved.is_some();
        let checkpoint = saved.map(|saved| saved.checkpoint);
        let config = RankConfig {
            run: self.genesis.run,
            rank,
            last_epoch: Epoch(self.config.epochs),
        };
        let mut out = Vec::new();
        // The first message is for a connection that is not there yet: `Reconnected` says it.
        let state = RankState::start(config, Incarnation(node.life), checkpoint, &mut out);
        let life = node.life;
        let version = state.applied();
        node.end = None;
        node.process = Some(RankProcess {
            state,
            watch: Watch::new(self.config.timing.rank),
            armed: None,
            parameters,
            connection: None,
            connected_before: false,
            stopped: None,
            inbox: VecDeque::new(),
            job: 0,
            members: Arc::from([]),
            entered: None,
            last: None,
            copying: None,
            times_out: false,
            undead: false,
        });
        self.note(Place::Rank(rank), What::Starts, [life, version, 0]);
        if from_checkpoint {
            self.probes.reach(Probe::FromCheckpoint);
        }
        self.begin_guards(rank);
        if late {
            self.moment(Moment::Rejoins);
        }
        let endpoint = Endpoint {
            place: Place::Rank(rank),
            life,
        };
        self.network.dial(endpoint, Place::Coordinator, self.now);
        self.plan_rank(rank, self.config.timing.beat, RankInput::Beat);
        self.look(rank);
    }

    /// Plans something for the life that a rank has now.
    pub(super) fn plan_rank(&mut self, rank: Rank, after: Duration, input: RankInput) {
        let life = self.ranks[rank.0 as usize].life;
        let event = Event::Rank { rank, life, input };
        self.queue.push(self.now + after, event);
    }

    /// Something happens to a rank's process, if that life of it is still there.
    pub(super) fn rank_input(&mut self, rank: Rank, life: u64, input: RankInput) {
        let node = &mut self.ranks[rank.0 as usize];
        if node.life != life {
            return;
        }
        let Some(process) = &mut node.process else {
            return;
        };
        if process.undead {
            if matches!(input, RankInput::Beat) {
                self.beat_all_the_same(rank);
            }
            return;
        }
        if process.stopped.is_some() {
            if matches!(input, RankInput::Beat) && self.config.mutant == Mutant::BeatsWhileStuck {
                return self.beat_all_the_same(rank);
            }
            process.inbox.push_back(input);
            return;
        }
        self.handle(rank, input);
        self.look(rank);
    }

    /// A stopped process goes on, with all that has come meanwhile.
    pub(super) fn thaw_rank(&mut self, rank: Rank, life: u64) {
        let node = &mut self.ranks[rank.0 as usize];
        let Some(process) = node.process.as_mut().filter(|_| node.life == life) else {
            return;
        };
        if process.stopped != Some(Stop::Frozen) {
            return;
        }
        process.stopped = None;
        let inbox = std::mem::take(&mut process.inbox);
        self.note(Place::Rank(rank), What::Thaws, [0; 3]);
        for input in inbox {
            self.rank_input(rank, life, input);
        }
    }

    /// A heartbeat that the machine knows nothing of: a mutant's.
    fn beat_all_the_same(&mut self, rank: Rank) {
        let now = self.now;
        let Some(process) = self.process(rank) else {
            return;
        };
        let incarnation = process.state.incarnation();
        if let Some(id) = process.connection {
            let packet = Packet::beat(incarnation);
            self.network.send(id, Side::Dialer, packet, now);
        }
        self.plan_rank(rank, self.config.timing.beat, RankInput::Beat);
    }

    pub(super) fn handle(&mut self, rank: Rank, input: RankInput) {
        let place = Place::Rank(rank);
        match input {
            RankInput::Told(told) => self.told(rank, told),
            RankInput::Beat => {
                self.note(place, What::Beats, [0; 3]);
                self.tell(rank, RankEvent::Beat);
                self.plan_rank(rank, self.config.timing.beat, RankInput::Beat);
            }
            RankInput::Look => {
                if let Some(process) = self.process(rank) {
                    process.armed = None;
                }
                self.note(place, What::Timer, [0; 3]);
            }
            RankInput::Redial => self.dial(rank),
            RankInput::Computed { job, contribution } => {
                if self.process(rank).is_some_and(|process| process.job == job) {
                    self.contribute(rank, contribution);
                }
            }
            RankInput::Reduced { view, seq, outcome } => {
                let reduced = outcome.reduced;
                if let Some(process) = self.process(rank) {
                    process.last = Some(outcome);
                }
                let more = self.own_more(rank);
                let reduced = self.config.mutant.reduced(reduced, more);
                self.tell(rank, RankEvent::StepDone { view, seq, reduced });
            }
            RankInput::StepFailed { view, seq, lost } => {
                self.note(place, What::StepFails, [view.0, seq, 0]);
                self.probes.reach(Probe::StepFailed);
                if self.config.mutant != Mutant::FailureKeptQuiet {
                    self.tell(rank, RankEvent::StepFailed { view, seq, lost });
                }
            }
            RankInput::TimeOut => self.time_out(rank),
            RankInput::Voted { job, view, epoch } => {
                if self.process(rank).is_some_and(|process| process.job == job) {
                    self.vote(rank, view, epoch);
                }
            }
            RankInput::Compiled { attempt, fate } => self.compiled(rank, attempt, fate),
            RankInput::Copied { job } => {
                if self.process(rank).is_some_and(|process| process.job == job) {
                    self.copied(rank);
                }
            }
        }
    }

    fn told(&mut self, rank: Rank, told: Told<Packet>) {
        let place = Place::Rank(rank);
        match told {
            Told::Opened { id, .. } => {
                self.note(place, What::Connected, [id.0, 0, 0]);
                let Some(process) = self.process(rank) else {
                    return;
                };
                process.connection = Some(id);
                let again = std::mem::replace(&mut process.connected_before, true);
                if again {
                    self.probes.reach(Probe::Reconnected);
                }
                if !(again && self.config.mutant == Mutant::SilentReconnection) {
                    self.tell(rank, RankEvent::Reconnected);
                }
            }
            Told::Refused => {
                self.note(place, What::NotConnected, [0; 3]);
                self.redial(rank);
            }
            Told::Lost { id } => {
                self.note(place, What::ConnectionLost, [id.0, 0, 0]);
                if let Some(process) = self.process(rank)
                    && process.connection == Some(id)
                {
                    process.connection = None;
                    self.redial(rank);
                }
            }
            Told::Message { message, .. } => {
                if let Packet::ToRank(message) = message {
                    self.hear(rank, message);
                }
            }
        }
    }

    fn hear(&mut self, rank: Rank, mut message: ToRank) {
        let (what, numbers) = match &message.body {
            CoordinatorSays::Commit { view, record, .. } => {
                (What::HearsCommit, [record.epoch.0, view.0, 0])
            }
            CoordinatorSays::NewView { view, .. } => (What::HearsNewView, [view.0, 0, 0]),
            CoordinatorSays::Resume { view, applied, .. } => {
                (What::HearsResume, [view.0, *applied, 0])
            }
            CoordinatorSays::Evict { .. } => (What::HearsEvict, [0; 3]),
            CoordinatorSays::Abort { .. } => (What::HearsAbort, [0; 3]),
        };
        self.note(Place::Rank(rank), what, numbers);
        let Some(process) = self.ranks[rank.0 as usize].process.as_mut() else {
            return;
        };
        let another = message.incarnation != process.state.incarnation();
        let before = another.then(|| process.state.clone());
        let flushes = matches!(message.body, CoordinatorSays::NewView { .. }) && !another;
        if flushes {
            match process.state.wait() {
                Some(RankWait::Step { .. }) => self.probes.reach(Probe::ViewChangeInCollective),
                Some(RankWait::Votes { .. }) => self.probes.reach(Probe::ViewChangeAtGate),
                _ => {}
            }
        }
        self.mutant_to_rank(rank, &mut message);
        self.tell(rank, RankEvent::Message(message));
        if flushes {
            self.moment(Moment::Flushes);
        }
        if let Some(before) = before {
            self.probes.reach(Probe::FormerLife);
            // If it has ended by this, it has taken it.
            let now = self.ranks[rank.0 as usize].running();
            let taken = now.is_none_or(|process| process.state != before);
            let kept = self.checks.one_life.hears(rank, taken);
            self.hold(kept);
        }
    }

    /// Gives the machine an event and does what it wants done.
    pub(super) fn tell(&mut self, rank: Rank, event: RankEvent) {
        let mut actions = std::mem::take(&mut self.rank_actions);
        if let Some(process) = self.process(rank) {
            process.state.on(event, &mut actions);
            self.check_rank(rank);
        }
        for action in actions.drain(..) {
            self.act(rank, action);
        }
        self.rank_actions = actions;
        self.save(rank);
    }

    fn check_rank(&mut self, rank: Rank) {
        let node = &self.ranks[rank.0 as usize];
        let Some(process) = &node.process else {
            return;
        };
        let kept = self.checks.monotone.rank(rank, node.life, &process.state);
        let valid = super::properties::valid(process.state.validate());
        self.hold(kept);
        self.hold(valid);
    }

    fn act(&mut self, rank: Rank, action: RankAction) {
        let now = self.now;
        match action {
            RankAction::Send(message) => {
                self.mutant_said(rank, &message);
                if let Some(process) = self.process(rank)
                    && let Some(id) = process.connection
                {
                    let packet = Packet::ToCoordinator(message);
                    self.network.send(id, Side::Dialer, packet, now);
                }
            }
            RankAction::EnterView { view, members } => {
                if let Some(process) = self.process(rank) {
                    process.members = Arc::from(members);
                    process.entered = Some(view);
                }
                let life = self.node(rank).life;
                let kept = self.checks.collective_use.enters(rank, life, view);
                self.hold(kept);
            }
            RankAction::LeaveView(view) => {
                if let Some(process) = self.process(rank) {
                    process.job += 1;
                    process.copying = None;
                }
                self.leave(rank, view);
                self.guards_interrupted(rank);
            }
            RankAction::Contribute { tag, step } => self.compute(rank, tag, step),
            RankAction::ApplyStep { applied, active } => self.apply_step(rank, applied, active),
            RankAction::Vote { view, epoch } => {
                self.moment(Moment::Votes);
                let (least, most) = self.config.timing.vote;
                let after = self.work(rank, least, most);
                let job = self.next_job(rank);
                self.plan_rank(rank, after, RankInput::Voted { job, view, epoch });
            }
            RankAction::Heal {
                view,
                applied,
                holders,
            } => {
                self.moment(Moment::Heals);
                if let Some(process) = self.process(rank) {
                    process.copying = Some(Copying {
                        view,
                        applied,
                        holders,
                    });
                }
                self.copy(rank);
            }
            RankAction::ApplyEpoch(record) => self.apply_epoch(rank, &record),
            RankAction::Finish => self.end_rank(rank, End::Done),
            RankAction::Fail(failure) => self.end_rank(rank, End::Failed(failure)),
        }
    }

    /// Looks at the deadlines of what a rank waits for.
    fn look(&mut self, rank: Rank) {
        let now = self.rank_now(rank);
        let Some(process) = self.process(rank).filter(|p| p.stopped.is_none()) else {
            return;
        };
        let wait = process.state.wait();
        match process.watch.observe(wait, now) {
            Some(Due::Soft(_)) => {
                self.note(Place::Rank(rank), What::SoftDeadline, [0; 3]);
                self.probes.reach(Probe::SoftDeadline);
            }
            Some(Due::Hard(wait)) => {
                self.note(Place::Rank(rank), What::Deadline, [0; 3]);
                self.tell(rank, RankEvent::HardDeadline(wait));
                let still = self.process(rank).and_then(|process| process.state.wait());
                let kept = self.checks.liveness.waits_on(rank, still == Some(wait));
                self.hold(kept);
            }
            None => {}
        }
        let Some(process) = self.process(rank) else {
            return;
        };
        if let Some(next) = process.watch.next()
            && process.armed.is_none_or(|armed| next < armed)
        {
            process.armed = Some(next);
            self.plan_rank(rank, next.saturating_since(now), RankInput::Look);
        }
    }

    fn redial(&mut self, rank: Rank) {
        let most = self.config.timing.redial;
        let after = self.schedule.between(most / 10, most);
        self.plan_rank(rank, after, RankInput::Redial);
    }

    fn dial(&mut self, rank: Rank) {
        let place = Place::Rank(rank);
        let life = self.node(rank).life;
        if (self.process(rank)).is_some_and(|process| process.connection.is_none()) {
            self.network
                .dial(Endpoint { place, life }, Place::Coordinator, self.now);
        }
    }

    /// The run is over for a rank: it says why, and closes its connections.
    fn end_rank(&mut self, rank: Rank, end: End) {
        let place = Place::Rank(rank);
        let first = self.node(rank).life == 1;
        let what = match end {
            End::Failed(_) => What::Fails,
            _ => What::Done,
        };
        self.note(place, what, [0; 3]);
        let kept = self.judge_end(rank, end);
        self.hold(kept);
        match end {
            End::Done if !first => self.probes.reach(Probe::RejoinedDone),
            End::Failed(Failure::QuorumLost) => self.probes.reach(Probe::QuorumLost),
            End::Failed(Failure::StateLost) => self.probes.reach(Probe::StateLost),
            End::Failed(Failure::CoordinatorLost(_)) => self.probes.reach(Probe::CoordinatorLost),
            End::Failed(Failure::Evicted(EvictReason::Suspected)) => {
                self.probes.reach(Probe::FalseSuspicion);
            }
            End::Failed(Failure::Evicted(EvictReason::TooLate)) => {
                self.probes.reach(Probe::TooLate);
            }
            _ => {}
        }
        if let End::Failed(_) = end
            && self.config.mutant == Mutant::FailedStaysMember
        {
            self.node(rank).end = Some(end);
            if let Some(process) = self.process(rank) {
                process.undead = true;
            }
            return;
        }
        self.bury_rank(rank, end, true);
        let again = match end {
            End::Failed(Failure::Evicted(EvictReason::TooLate | EvictReason::UnknownRank)) => false,
            End::Failed(
                Failure::Evicted(_) | Failure::Stalled(_) | Failure::CoordinatorLost(_),
            ) => true,
            _ => false,
        };
        if again && self.node(rank).life < MOST_REVIVALS {
            let after = self.config.timing.revive;
            self.restart_rank(rank, after);
        }
    }

    pub(super) fn restart_rank(&mut self, rank: Rank, after: Duration) {
        self.node(rank).starts += 1;
        self.queue.push(self.now + after, Event::Start(rank));
    }

    /// A rank's process is gone, with all it knew.
    pub(super) fn bury_rank(&mut self, rank: Rank, end: End, fin: bool) {
        let place = Place::Rank(rank);
        let node = &mut self.ranks[rank.0 as usize];
        let life = node.life;
        if node.process.take().is_none() {
            return;
        }
        node.end = Some(end);
        self.end_guards(rank, matches!(end, End::Done | End::Failed(_)));
        self.network.bury(Endpoint { place, life }, fin, self.now);
        // Who was in a collective with it may get the result, or be told that it failed, or
        // find out by itself.
        for (receiver, complete) in self.collectives.bury(rank, life) {
            let kept = complete && self.schedule.chance(500);
            if kept || !self.schedule.chance(700) {
                continue;
            }
            if complete {
                self.probes.reach(Probe::Nonuniform);
            }
            let (view, seq) = (receiver.view, receiver.seq);
            self.collectives.abandon(receiver.rank, view, seq);
            let after = self.network.delay();
            let lost = vec![rank];
            let input = RankInput::StepFailed { view, seq, lost };
            let event = Event::Rank {
                rank: receiver.rank,
                life: receiver.life,
                input,
            };
            self.queue.push(self.now + after, event);
        }
    }
}
