//! A run of ranks on threads, by the machines that ship: a thread a rank with its machine and its
//! end of the collective ([`life`]), the coordinator's machine behind a lock, and a queue a rank
//! of what it says. The coordinator's deadlines are timed waits of the platform; the collective's
//! never pass here, since that is a scenario of its own.
//!
//! What a scenario may bend is a value, [`Plan`]: it is compiled once for each platform.

use std::collections::{BTreeMap, VecDeque};

use selvedge_core::ddp::{
    CommitRecord, CoordinatorAction, CoordinatorEvent, CoordinatorSays, CoordinatorState, Epoch,
    Failure, InProcess, InProcessExit, Incarnation, Member, Rank, RankEvent, RankSays, RunConfig,
    RunId, ToCoordinator, ToRank, View,
};
use selvedge_core::platform::{Condvar, JoinHandle, Mutex, Platform, Shared};
use selvedge_sim::{reach, violation};

pub(super) mod collective;
mod life;

use crate::slots;
use collective::{FOREVER, PATIENCE, group};
use life::{Life, RankEnd};

const RUN: RunId = RunId(1);
/// Every rank's only one.
const LIFE: Incarnation = Incarnation(1);
/// How often [`Office::watch`] looks before it takes a rank for well.
const LOOKS: u32 = 2;

/// What a run is, and what happens to it.
#[derive(Clone, Copy)]
pub(super) struct Plan {
    pub(super) epochs: u64,
    /// How many batches each rank's loader has in an epoch: a rank for each.
    pub(super) batches: &'static [u64],
    /// What a rank's gates say, which are asked for the `nth` time, from 0.
    pub(super) passes: fn(Rank, nth: usize) -> bool,
    /// Whether the coordinator's deadlines may pass; else ranks wait for as long as it takes.
    pub(super) deadlines: bool,
    /// The rank that gives signs of life: when its machine turns, and at no other time.
    pub(super) beats: Option<Rank>,
    /// Whether a rank ends its run before the last epoch, once a gate has let a seed pass.
    pub(super) stops: bool,
    /// The rank whose connection is cut for a moment when it first waits for a record.
    pub(super) reconnects: Option<Rank>,
    /// The rank that gets stuck, and before what, until it is released.
    pub(super) stuck: Option<(Rank, Before)>,
    /// What a twin's drivers do otherwise than the machines say.
    pub(super) bug: Option<Bug>,
}

/// What a driver may do wrong. The machines, and what judges the run, are the same.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Bug {
    /// A rank is at the end of its epoch when its own loader is: whether anybody has more it does
    /// not ask.
    OwnLoader,
    /// A rank takes alpha from the progress of its own loader, and not from the record.
    OwnAlpha,
    /// A rank stops by what it said itself, and not by the record.
    OwnVote,
    /// The coordinator's driver keeps votes by rank, and hands them over as votes of whatever
    /// view and epoch it is in then.
    VotesByRank,
    /// Signs of life come from a thread of their own.
    BeatsAside,
}

/// Where a rank gets stuck.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Before {
    /// Before it contributes to a step.
    Step,
    /// While it evaluates its gates.
    Vote,
}

impl Plan {
    /// An epoch of one batch for each of two ranks, in which all is well.
    pub(super) const EVEN: Plan = Plan {
        epochs: 1,
        batches: &[1, 1],
        passes: |_, _| true,
        deadlines: false,
        beats: None,
        stops: false,
        reconnects: None,
        stuck: None,
        bug: None,
    };
}

/// Runs it, and checks what must hold whatever happened. This thread does what is to be done
/// `meanwhile`; where that is nothing it is rank 0's.
pub(super) fn run<P: Platform>(plan: Plan, meanwhile: Option<fn(&Office<P>)>) -> Vec<RankEnd> {
    let group = group::<P>(FOREVER);
    let ranks = (0..).map(Rank).take(plan.batches.len());
    let seats: Vec<_> = ranks.map(|rank| collective::join(&group, rank)).collect();
    let exits = seats.iter().map(InProcess::exit).collect();
    let office = P::Arc::new(Office::<P>::new(plan, exits));
    // All join before the first thread begins: who joins when is not what this is about.
    let lives = seats.into_iter().zip((0..).map(Rank));
    let mut lives: Vec<Life<P>> = lives
        .map(|(collective, rank)| Life::new(&office, collective, rank))
        .collect();
    for life in &mut lives {
        life.enter(&office);
    }
    let mut lives = lives.into_iter();
    let first = match meanwhile {
        None => lives.next(),
        Some(_) => None,
    };
    let threads: Vec<_> = lives
        .map(|life| {
            let office = office.clone();
            P::spawn(move || life.live(&office))
        })
        .collect();
    let first = first.map(|life| life.live(&office));
    let heart = (plan.beats.filter(|_| plan.bug == Some(Bug::BeatsAside))).map(|rank| {
        let office = office.clone();
        P::spawn(move || (0..LOOKS).for_each(|_| office.beat(rank)))
    });
    if let Some(meanwhile) = meanwhile {
        meanwhile(&office);
    }
    if let Some(heart) = heart {
        heart.join();
    }
    // What they had comes back with them: to drop an end of the collective is a step, and wakes
    // whoever is left.
    let others = threads.into_iter().map(JoinHandle::join);
    let lives: Vec<Life<P>> = first.into_iter().chain(others).collect();
    let ends: Vec<RankEnd> = lives.into_iter().map(|life| life.end).collect();
    office.check(&ends);
    ends
}

/// Where the coordinator sits.
pub(super) struct Office<P: Platform> {
    plan: Plan,
    desk: P::Mutex<Desk>,
    /// By rank. Each wakes those it is for and nobody else: whoever is woken for nothing is one
    /// more step in every order.
    mail: Vec<P::Condvar>,
    beaten: P::Condvar,
    ended: P::Condvar,
    released: P::Condvar,
    exits: Vec<InProcessExit<f64, P>>,
}

struct Desk {
    coordinator: CoordinatorState,
    inboxes: Vec<VecDeque<ToRank>>,
    /// Every record that was ever sent.
    log: BTreeMap<Epoch, CommitRecord>,
    /// The parameters of each version, for who must copy them.
    versions: BTreeMap<u64, f64>,
    /// Signs of life, by rank.
    beats: Vec<u32>,
    /// By rank, what [`Bug::VotesByRank`] keeps.
    votes: BTreeMap<Rank, ToCoordinator>,
    bug: Option<Bug>,
    /// Whose thread is at its end.
    over: Vec<bool>,
    released: bool,
}

/// What others must know of.
#[derive(Default)]
struct News {
    to: Vec<Rank>,
    is_beat: bool,
    /// Ranks whose collectives end with a view before this one.
    leaving: Vec<(Rank, View)>,
}

impl Desk {
    fn on(&mut self, event: CoordinatorEvent) -> News {
        let mut news = News::default();
        if let CoordinatorEvent::Message { from, message } = &event
            && message.body == RankSays::Heartbeat
        {
            self.beats[from.0 as usize] += 1;
            news.is_beat = true;
        }
        for action in self.actions(event) {
            // What is in this process is as durable as it is.
            let CoordinatorAction::Send { to, message } = action else {
                continue;
            };
            match &message.body {
                CoordinatorSays::Commit { record, .. } => {
                    let known = self.log.entry(record.epoch).or_insert(record.clone());
                    if known != record {
                        violation!("two-records", "of {}", record.epoch);
                    }
                }
                CoordinatorSays::NewView { view, .. } => news.leaving.push((to, *view)),
                CoordinatorSays::Evict { .. } | CoordinatorSays::Abort { .. } => {
                    let over = self.coordinator.durable().view.next();
                    news.leaving.push((to, over));
                }
                CoordinatorSays::Resume { .. } => {}
            }
            self.inboxes[to.0 as usize].push_back(message);
            news.to.push(to);
        }
        news
    }

    /// What the coordinator wants done.
    fn actions(&mut self, event: CoordinatorEvent) -> Vec<CoordinatorAction> {
        if let CoordinatorEvent::Message { from, message } = &event
            && matches!(message.body, RankSays::Arrive { .. })
            && self.bug == Some(Bug::VotesByRank)
        {
            self.votes.insert(*from, message.clone());
        }
        let mut actions = Vec::new();
        self.coordinator.on(event, &mut actions);
        let is_on_again = |action: &CoordinatorAction| {
            let CoordinatorAction::Send { message, .. } = action else {
                return false;
            };
            matches!(message.body, CoordinatorSays::Resume { .. })
        };
        if actions.iter().any(is_on_again) {
            let now = self.coordinator.durable();
            let (now, next) = (now.view, now.record.epoch.next());
            for (from, mut message) in std::mem::take(&mut self.votes) {
                if let RankSays::Arrive { view, epoch, .. } = &mut message.body {
                    (*view, *epoch) = (now, next);
                }
                let vote = CoordinatorEvent::Message { from, message };
                self.coordinator.on(vote, &mut actions);
            }
        }
        actions
    }

    /// Whether the rank will be told to leave the view.
    fn is_leaving(&self, rank: Rank, view: View) -> bool {
        let mut messages = self.inboxes[rank.0 as usize].iter();
        messages.any(|message| match message.body {
            CoordinatorSays::NewView { view: newer, .. } => newer > view,
            CoordinatorSays::Evict { .. } | CoordinatorSays::Abort { .. } => true,
            _ => false,
        })
    }
}

impl<P: Platform> Office<P> {
    fn new(plan: Plan, exits: Vec<InProcessExit<f64, P>>) -> Self {
        let ranks = exits.len();
        let genesis = CommitRecord::genesis(RUN, Epoch(0), 0, slots::schedule());
        let config = RunConfig {
            run: RUN,
            world: u32::try_from(ranks).unwrap_or(u32::MAX),
            min_world: 1,
            last_epoch: Epoch(plan.epochs),
        };
        let coordinator = CoordinatorState::new(config, genesis)
            .unwrap_or_else(|refused| violation!("bad-configuration", "{refused}"));
        Office {
            plan,
            desk: P::Mutex::new(Desk {
                coordinator,
                inboxes: vec![VecDeque::new(); ranks],
                log: BTreeMap::new(),
                versions: BTreeMap::from([(0, 0.0)]),
                beats: vec![0; ranks],
                votes: BTreeMap::new(),
                bug: plan.bug,
                over: vec![false; ranks],
                released: false,
            }),
            mail: exits.iter().map(|_| P::Condvar::new()).collect(),
            beaten: P::Condvar::new(),
            ended: P::Condvar::new(),
            released: P::Condvar::new(),
            exits,
        }
    }

    /// A rank, with parameters of this version, has something for the coordinator.
    fn tell(&self, from: Rank, message: ToCoordinator, (version, params): (u64, f64)) {
        let mut desk = self.desk.lock();
        desk.versions.insert(version, params);
        let news = desk.on(CoordinatorEvent::Message { from, message });
        drop(desk);
        self.spread(&news);
    }

    /// Wakes everybody, also who waits in a collective that will not be complete.
    fn spread(&self, news: &News) {
        for to in &news.to {
            self.mail[to.0 as usize].notify_all();
        }
        if news.is_beat {
            self.beaten.notify_all();
        }
        for &(rank, view) in &news.leaving {
            let older = View(view.0.saturating_sub(1));
            self.exits[rank.0 as usize].leave(older);
        }
    }

    /// What happens next to a rank that has nothing to do.
    fn next_event(&self, rank: Rank) -> RankEvent {
        let mut desk = self.desk.lock();
        loop {
            if let Some(message) = desk.inboxes[rank.0 as usize].pop_front() {
                return RankEvent::Message(message);
            }
            if !self.plan.deadlines {
                desk = self.mail[rank.0 as usize].wait(desk);
                continue;
            }
            let timed_out;
            (desk, timed_out) = self.mail[rank.0 as usize].wait_timeout(desk, PATIENCE);
            // Whoever finds that time has passed looks at the coordinator's watch, which is the
            // first to run out.
            if timed_out
                && desk.inboxes[rank.0 as usize].is_empty()
                && let Some(wait) = desk.coordinator.wait()
            {
                let news = desk.on(CoordinatorEvent::HardDeadline(wait));
                drop(desk);
                self.spread(&news);
                desk = self.desk.lock();
            }
        }
    }

    /// Where a rank is stuck.
    fn stay(&self) {
        let mut desk = self.desk.lock();
        while !desk.released {
            desk = self.released.wait(desk);
        }
    }

    /// Lets who is stuck go on.
    pub(super) fn release(&self) {
        self.desk.lock().released = true;
        self.released.notify_all();
    }

    /// Waits for the end of a rank.
    pub(super) fn wait_for_end(&self, rank: Rank) {
        let mut desk = self.desk.lock();
        while !desk.over[rank.0 as usize] {
            desk = self.ended.wait(desk);
        }
    }

    /// A sign of life from outside of the rank's machine.
    fn beat(&self, from: Rank) {
        let message = ToCoordinator {
            incarnation: LIFE,
            body: RankSays::Heartbeat,
        };
        let mut desk = self.desk.lock();
        let news = desk.on(CoordinatorEvent::Message { from, message });
        drop(desk);
        self.spread(&news);
    }

    /// Waits for signs of life of a rank. If there is none for too long it takes the rank for
    /// dead; after so many it takes the rank for well.
    pub(super) fn watch(&self, rank: Rank) {
        let place = rank.0 as usize;
        let mut desk = self.desk.lock();
        let mut heard = 0;
        loop {
            let beats = desk.beats[place];
            if beats > heard {
                reach("heard");
                heard = beats;
            }
            if heard > LOOKS {
                return;
            }
            let timed_out;
            (desk, timed_out) = self.beaten.wait_timeout(desk, PATIENCE);
            if timed_out && desk.beats[place] == heard {
                break;
            }
        }
        reach("silent");
        let member = Member {
            rank,
            incarnation: LIFE,
        };
        let news = desk.on(CoordinatorEvent::Lost(vec![member]));
        drop(desk);
        self.spread(&news);
    }

    fn may_be_lost(&self, rank: Rank) -> bool {
        let stuck = self.plan.stuck;
        self.plan.deadlines || stuck.is_some_and(|(stuck, _)| stuck == rank)
    }

    fn check(&self, ends: &[RankEnd]) {
        let desk = self.desk.lock();
        let mut params = None;
        for end in ends {
            for record in &end.records {
                if desk.log.get(&record.epoch) != Some(record) {
                    violation!(
                        "ranks-disagree",
                        "{} applied a record of {} that was never made",
                        end.rank,
                        record.epoch
                    );
                }
            }
            match end.failure {
                None if *params.get_or_insert(end.params) != end.params => {
                    violation!("parameters-differ", "{ends:?}");
                }
                None if !end.stopped && end.records.len() as u64 != self.plan.epochs => {
                    violation!("records-missing", "of {}: {end:?}", self.plan.epochs);
                }
                None => {}
                // Only whom time or a watch may find silent.
                Some(Failure::Evicted(_)) if self.may_be_lost(end.rank) => {}
                Some(other) => violation!("wrong-end", "{}: {other}", end.rank),
            }
        }
    }
}
