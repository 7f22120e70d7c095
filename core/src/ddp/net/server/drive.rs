//! The loop around the coordinator's machine: what it hears, in order, what it does about it, and
//! the time.

use core::time::Duration;
use std::collections::BTreeMap;
use std::net::SocketAddr;

use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::CoordinatorReport;
use crate::ddp::coordinator::{
    CoordinatorAction, CoordinatorEvent, CoordinatorState, CoordinatorWait, Member,
};
use crate::ddp::ids::{Incarnation, Rank};
use crate::ddp::message::{RankSays, ToCoordinator, ToRank};
use crate::ddp::net::clock::Awake;
use crate::ddp::net::error::{CoordinatorError, Refusal, RefusedCounts};
use crate::ddp::net::link::Writer;
use crate::ddp::net::observe::{NetEvent, Recorder, SlotAlpha};
use crate::ddp::net::options::CoordinatorOptions;
use crate::ddp::net::store::Store;
use crate::ddp::net::wire::{self, FromCoordinator};
use crate::ddp::slot::SlotCommand;
use crate::ddp::watch::{Due, Watch};
use crate::time::Instant;

/// So many lives of one rank may be connected at once.
const MOST_LIVES: usize = 4;
/// So much is heard before the time is looked at again.
const MOST_HEARD: usize = 256;

/// What the driver is told.
#[derive(Debug)]
pub(super) enum Heard {
    Admitted {
        link: u64,
        member: Member,
        address: SocketAddr,
        writer: Writer,
    },
    Says {
        link: u64,
        message: ToCoordinator,
    },
    Bye {
        link: u64,
        failed: bool,
    },
    Closed {
        link: u64,
        refusal: Option<Refusal>,
    },
    Refused(Refusal),
    Command(SlotCommand),
}

/// A life, as far as its connections tell.
struct Life {
    /// The connection it has.
    link: Option<(u64, Writer)>,
    heard: Instant,
    cut: Option<Instant>,
    /// It has said goodbye.
    gone: bool,
    /// The machine was told that it is lost.
    lost: bool,
}

pub(super) struct Drive {
    options: CoordinatorOptions,
    store: Store,
    state: CoordinatorState,
    recorder: Recorder,
    refused: RefusedCounts,
    clock: Awake,
    tick: Duration,
    watch: Watch<CoordinatorWait>,
    lives: BTreeMap<Member, Life>,
    links: BTreeMap<u64, Member>,
    book: BTreeMap<Rank, (Incarnation, SocketAddr)>,
    /// When the first rank has arrived at the present boundary.
    first_arrival: Option<Instant>,
    over_since: Option<Instant>,
}

impl Drive {
    pub(super) fn new(
        options: CoordinatorOptions,
        store: Store,
        state: CoordinatorState,
        recorder: Recorder,
    ) -> Self {
        let timing = options.timing;
        let tick = timing.heartbeat;
        let mut clock = Awake::new(tick);
        let now = clock.now();
        // They may not know yet that their connections are gone, or wait for their next try.
        let heard = now + timing.back_within().saturating_sub(timing.suspect_after);
        // Whoever was a member may still come back.
        let lives = state.durable().members.iter().map(|member| {
            let life = Life {
                link: None,
                heard,
                cut: None,
                gone: false,
                lost: false,
            };
            (*member, life)
        });
        Drive {
            lives: lives.collect(),
            options,
            store,
            state,
            recorder,
            refused: RefusedCounts::default(),
            clock,
            tick,
            watch: Watch::new(timing.deadlines),
            links: BTreeMap::new(),
            book: BTreeMap::new(),
            first_arrival: None,
            over_since: None,
        }
    }

    /// Hears what there is to hear, or waits for it for a while; then looks at the time.
    pub(super) async fn turn(
        &mut self,
        inbox: &mut mpsc::Receiver<Heard>,
        door: &mut JoinSet<()>,
    ) -> Result<(), CoordinatorError> {
        let until = self.watch.next().map(|at| self.clock.until(at));
        let patience = until.map_or(self.tick, |until| until.min(self.tick));
        let heard = timeout(patience, inbox.recv()).await;
        // A handle may hold the queue open after the door's task has ended.
        if matches!(heard, Ok(None)) || door.try_join_next().is_some() {
            let events = self.recorder.take();
            return Err(CoordinatorError::DoorShut { events });
        }
        if let Ok(Some(heard)) = heard {
            self.hear(heard)?;
            for _ in 0..MOST_HEARD {
                let Ok(heard) = inbox.try_recv() else { break };
                self.hear(heard)?;
            }
        }
        self.suspect()?;
        self.observe()
    }

    fn hear(&mut self, heard: Heard) -> Result<(), CoordinatorError> {
        let now = self.clock.now();
        match heard {
            Heard::Admitted {
                link,
                member,
                address,
                writer,
            } => self.admitted(link, member, address, writer, now),
            Heard::Says { link, message } => {
                let Some(&member) = self.links.get(&link) else {
                    // Of a connection that is lost, nothing is delivered.
                    return Ok(());
                };
                if message.incarnation != member.incarnation {
                    self.refuse(Refusal::Malformed, now);
                    self.cut(link, now);
                    return Ok(());
                }
                if let Some(life) = self.lives.get_mut(&member) {
                    life.heard = now;
                }
                if let RankSays::Arrive { view, epoch, .. } = message.body {
                    let durable = self.state.durable();
                    if (view, epoch) == (durable.view, durable.record.epoch.next()) {
                        self.first_arrival.get_or_insert(now);
                    }
                }
                let from = member.rank;
                return self.tell(CoordinatorEvent::Message { from, message });
            }
            Heard::Bye { link, failed } => {
                let member = self.links.get(&link).copied();
                self.cut(link, now);
                let Some(member) = member else { return Ok(()) };
                if let Some(life) = self.lives.get_mut(&member) {
                    life.gone = true;
                    life.lost |= failed;
                }
                if failed {
                    return self.tell(CoordinatorEvent::Lost(vec![member]));
                }
            }
            Heard::Closed { link, refusal } => {
                if let Some(refusal) = refusal {
                    self.refuse(refusal, now);
                }
                self.cut(link, now);
            }
            Heard::Refused(refusal) => self.refuse(refusal, now),
            Heard::Command(command) => return self.tell(CoordinatorEvent::Command(command)),
        }
        Ok(())
    }

    fn admitted(
        &mut self,
        link: u64,
        member: Member,
        address: SocketAddr,
        writer: Writer,
        now: Instant,
    ) {
        let mut connected = self
            .links
            .iter()
            .filter(|(_, other)| other.rank == member.rank);
        let oldest = connected.clone().min_by_key(|(_, other)| other.incarnation);
        let oldest = oldest.map(|(&link, _)| link);
        let former = connected.find(|(_, other)| **other == member);
        let former = former.map(|(&link, _)| link);
        let lives = self
            .links
            .values()
            .filter(|other| other.rank == member.rank);
        let full = lives.count() >= MOST_LIVES;
        if let Some(link) = former.or(oldest.filter(|_| full)) {
            self.cut(link, now);
        }
        let newer = self.book.get(&member.rank);
        if newer.is_none_or(|(life, _)| *life <= member.incarnation) {
            self.book.insert(member.rank, (member.incarnation, address));
        }
        self.links.insert(link, member);
        let known = self.lives.get(&member);
        let life = Life {
            link: Some((link, writer)),
            heard: now,
            cut: None,
            gone: false,
            lost: known.is_some_and(|life| life.lost),
        };
        self.lives.insert(member, life);
        self.note(NetEvent::Connected(member), now);
    }

    /// Ends a connection, from this side or because it has ended.
    fn cut(&mut self, link: u64, now: Instant) {
        let Some(member) = self.links.remove(&link) else {
            return;
        };
        if let Some(life) = self.lives.get_mut(&member)
            && life
                .link
                .as_ref()
                .is_some_and(|(number, _)| *number == link)
        {
            // Its queue is closed: what is in it is still written.
            life.link = None;
            life.cut = Some(now);
        }
        self.note(NetEvent::Disconnected(member), now);
    }

    /// Tells the machine who was silent, or gone, for too long.
    fn suspect(&mut self) -> Result<(), CoordinatorError> {
        let now = self.clock.now();
        let timing = self.options.timing;
        let silent = |life: &Life| {
            let cut = life
                .cut
                .is_some_and(|cut| now.saturating_since(cut) >= timing.reconnect_within);
            cut || now.saturating_since(life.heard) >= timing.suspect_after
        };
        let suspects = self.lives.iter().filter(|(_, life)| silent(life));
        let suspects: Vec<(Member, bool)> = suspects
            .map(|(member, life)| (*member, life.lost || life.gone))
            .collect();
        let mut lost = Vec::new();
        for (member, known) in suspects {
            if known {
                // It was told, and has had time to read it.
                let link = self.lives.get(&member).and_then(|life| life.link.as_ref());
                if let Some(link) = link.map(|(link, _)| *link) {
                    self.cut(link, now);
                }
                self.forget(member);
                continue;
            }
            if let Some(life) = self.lives.get_mut(&member) {
                life.lost = true;
                life.heard = now;
                life.cut = life.cut.map(|_| now);
            }
            self.note(NetEvent::Suspected(member), now);
            lost.push(member);
        }
        match lost.is_empty() {
            true => Ok(()),
            // Together they are one change of view.
            false => self.tell(CoordinatorEvent::Lost(lost)),
        }
    }

    fn forget(&mut self, member: Member) {
        self.lives.remove(&member);
        let listed = self.book.get(&member.rank);
        if listed.is_some_and(|(life, _)| *life == member.incarnation) {
            self.book.remove(&member.rank);
        }
    }

    /// Gives the machine an event, and does what it wants done.
    fn tell(&mut self, event: CoordinatorEvent) -> Result<(), CoordinatorError> {
        let mut actions = Vec::new();
        let before = self.state.durable();
        let (view, epoch) = (before.view, before.record.epoch);
        self.state.on(event, &mut actions);
        let now = self.clock.now();
        let durable = self.state.durable();
        let (members, record) = (&durable.members, &durable.record);
        let mut events = Vec::new();
        if record.epoch > epoch {
            let since = self.first_arrival.take().unwrap_or(now);
            events.push(NetEvent::Committed {
                epoch: record.epoch,
                applied: record.applied,
                digest: record.digest(),
                slots: SlotAlpha::of(record),
                latency: now.saturating_since(since),
            });
        }
        if durable.view != view {
            self.first_arrival = None;
            events.push(NetEvent::ViewChange {
                view: durable.view,
                members: members.iter().map(|member| member.rank).collect(),
            });
        }
        // It is written down before anybody is told, the observer too.
        self.act(actions)?;
        for event in events {
            self.note(event, now);
        }
        self.observe()
    }

    pub(super) fn act(&mut self, actions: Vec<CoordinatorAction>) -> Result<(), CoordinatorError> {
        for action in actions {
            match action {
                CoordinatorAction::Persist => self.store.persist(self.state.durable())?,
                CoordinatorAction::Send { to, message } => self.send(to, message)?,
            }
        }
        Ok(())
    }

    fn send(&mut self, rank: Rank, message: ToRank) -> Result<(), CoordinatorError> {
        let member = Member {
            rank,
            incarnation: message.incarnation,
        };
        let life = self.lives.get(&member);
        let Some((link, writer)) = life.and_then(|life| life.link.as_ref()) else {
            // It will say hello when it is connected again.
            return Ok(());
        };
        let book = self.book.iter();
        let book = book.map(|(rank, (_, address))| (*rank, *address)).collect();
        let frame = wire::control(&FromCoordinator::Says { message, book });
        let frame = frame.ok_or(CoordinatorError::Oversized {
            epoch: self.state.durable().record.epoch,
            most: wire::MOST_CONTROL,
        })?;
        if writer.try_send(frame).is_err() {
            // It does not read. A connection delivers all or ends.
            let link = *link;
            let now = self.clock.now();
            self.cut(link, now);
        }
        Ok(())
    }

    /// Looks whether a wait has become too long.
    fn observe(&mut self) -> Result<(), CoordinatorError> {
        let now = self.clock.now();
        match self.watch.observe(self.state.wait(), now) {
            None => Ok(()),
            Some(Due::Soft(wait)) => {
                let (wait, missing) = self.describe(wait);
                self.note(NetEvent::SoftDeadline { wait, missing }, now);
                Ok(())
            }
            Some(Due::Hard(wait)) => {
                let (name, missing) = self.describe(wait);
                let event = NetEvent::HardDeadline {
                    wait: name,
                    missing,
                };
                self.note(event, now);
                self.tell(CoordinatorEvent::HardDeadline(wait))
            }
        }
    }

    fn describe(&self, wait: CoordinatorWait) -> (String, Vec<Rank>) {
        let wait = match wait {
            CoordinatorWait::Formation => "the rest of the world to join".to_owned(),
            CoordinatorWait::Arrivals { view, epoch } => {
                format!("members of {view} to arrive at the end of {epoch}")
            }
            CoordinatorWait::Acks { view } => format!("members to enter {view}"),
        };
        (wait, self.state.missing())
    }

    fn refuse(&mut self, refusal: Refusal, now: Instant) {
        self.refused.count(refusal);
        self.note(NetEvent::Refused(refusal), now);
    }

    fn note(&mut self, event: NetEvent, now: Instant) {
        self.recorder.note(now, event);
    }

    /// Whether the run is over and all that can be told were told.
    pub(super) fn is_over(&mut self) -> bool {
        if !self.state.is_over() {
            return false;
        }
        let now = self.clock.now();
        let since = *self.over_since.get_or_insert(now);
        let mut lives = self.lives.values();
        let waiting = lives.any(|life| !life.gone && !life.lost);
        let patience = self.options.timing.deadlines.hard;
        !waiting && self.links.is_empty() || now.saturating_since(since) >= patience
    }

    pub(super) fn end(mut self) -> Result<CoordinatorReport, CoordinatorError> {
        let now = self.clock.now();
        let durable = self.state.durable().clone();
        if let Some(reason) = durable.aborted {
            self.note(NetEvent::Aborted(reason), now);
            let events = self.recorder.take();
            return Err(CoordinatorError::Aborted { reason, events });
        }
        self.note(NetEvent::Finished, now);
        Ok(CoordinatorReport {
            record: durable.record,
            view: durable.view,
            refused: self.refused,
        })
    }
}
