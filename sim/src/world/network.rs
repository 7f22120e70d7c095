//! A network of ordered connections, as `selvedge_core::ddp` asks for: each keeps the order of
//! its messages, and an end that is told its connection is lost reads nothing from it after it
//! has drained what had come before. All else may happen.
//!
//! * A cut path delays: messages wait, in order, as TCP sends them again until it gives up.
//! * Who gives up knows that the connection is lost; the other end may not, for as long as it
//!   says nothing (a half-open connection).
//! * Who writes and who reads notice a loss by themselves. So a new connection can be there
//!   while the former one is still read from: its messages come late, between those of the new.
//! * What was under way when a connection broke arrives up to some message, and not after it.
//!
//! The network plans [`Wire`] events and is told when they are due; it holds no clock.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::time::Duration;

use selvedge_core::ddp::Rank;
use selvedge_core::time::Instant;
use serde::{Deserialize, Serialize};

use super::mirrors::RankMirror;
use super::random::Stream;

/// Where a process runs.
///
/// ```
/// use selvedge_core::ddp::Rank;
/// use selvedge_sim::world::Place;
///
/// assert!(Place::Coordinator < Place::Rank(Rank(0)));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Place {
    /// The coordinator's.
    Coordinator,
    /// A rank's.
    Rank(#[serde(with = "RankMirror")] Rank),
    /// That of the server: the batch engine and its front end.
    Server,
    /// An agent's, by its number.
    Agent(u32),
}

impl Place {
    /// A number for it: the coordinator's is 0 and the ranks follow without gaps. After the last
    /// rank that there may be (see [`WorldError::Ranks`](super::WorldError::Ranks)) come the
    /// server and the agents.
    pub(super) const fn index(self) -> usize {
        match self {
            Place::Coordinator => 0,
            Place::Rank(rank) => rank.0 as usize + 1,
            Place::Server => MOST_RANKS + 1,
            Place::Agent(agent) => MOST_RANKS + 2 + agent as usize,
        }
    }
}

/// Ranks that there may be.
pub(super) const MOST_RANKS: usize = 256;

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Coordinator => f.write_str("coordinator"),
            Place::Rank(rank) => rank.fmt(f),
            Place::Server => f.write_str("server"),
            Place::Agent(agent) => write!(f, "agent {agent}"),
        }
    }
}

/// A process at a place: there may be another after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Endpoint {
    pub(super) place: Place,
    pub(super) life: u64,
}

/// One connection, never used again after it is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct ConnectionId(pub(super) u64);

/// An end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    /// Who asked for it.
    Dialer = 0,
    /// Who was asked.
    Listener = 1,
}

impl Side {
    pub(super) const fn other(self) -> Side {
        match self {
            Side::Dialer => Side::Listener,
            Side::Listener => Side::Dialer,
        }
    }
}

/// Something that is due in the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wire {
    /// Someone asks for a connection.
    Syn { from: Endpoint, to: Place },
    /// The answer arrives.
    SynAck { id: ConnectionId },
    /// There will be no answer.
    Refused { from: Endpoint },
    /// The oldest message to an end, or its last word.
    Arrival { id: ConnectionId, to: Side },
    /// An end gives up, if what it said still waits.
    GiveUp { id: ConnectionId, from: Side },
    /// An end notices that the connection is lost.
    Loss { id: ConnectionId, at: Side },
    /// An end has read all that it will.
    Drained { id: ConnectionId, at: Side },
}

/// What a process is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Told<M> {
    /// A connection is there.
    Opened { id: ConnectionId, with: Endpoint },
    /// Nobody answered.
    Refused,
    /// A message.
    Message { id: ConnectionId, message: M },
    /// A connection is lost. Some of its messages may still come.
    Lost { id: ConnectionId },
}

/// How long things take.
///
/// ```
/// use selvedge_sim::world::{World, WorldConfig};
///
/// let config = WorldConfig { epochs: 3, ..WorldConfig::default() };
/// let report = World::new(config)?.run();
/// assert!(report.plan.latency.least <= report.plan.latency.most);
/// # Ok::<(), selvedge_sim::world::WorldError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Latency {
    /// The least time a message takes.
    pub least: Duration,
    /// The most, as a rule.
    pub most: Duration,
    /// How many in a thousand take longer.
    pub spikes: u64,
    /// How long those take, at most.
    pub spike: Duration,
    /// How long an unanswered end waits before it takes the connection for lost.
    pub give_up: Duration,
    /// How long at most one end may take longer than the other to notice a loss.
    pub notice: Duration,
    /// How long at most an end may read on from a connection that it knows to be lost.
    pub linger: Duration,
}

#[derive(Clone, Debug)]
enum Item<M> {
    Message(M),
    /// The other end has closed.
    Fin,
}

/// One end, and what is under way to it.
#[derive(Clone, Debug)]
struct End<M> {
    endpoint: Endpoint,
    /// Its process is there and has not closed it.
    open: bool,
    /// Its whole machine is gone: it does not even say that nobody is there.
    silent: bool,
    /// It knows that the connection is lost.
    lost: bool,
    inbound: VecDeque<Item<M>>,
    last_due: Instant,
    /// Arrivals that were due while the path was cut.
    stalled: u32,
    gives_up: bool,
    /// Nothing arrives before: the path is congested.
    slow_until: Instant,
}

#[derive(Clone, Debug)]
struct Connection<M> {
    ends: [End<M>; 2],
    /// Nothing said now is heard.
    broken: bool,
}

/// All connections and cuts.
#[derive(Debug)]
pub(super) struct Network<M> {
    connections: BTreeMap<ConnectionId, Connection<M>>,
    next: u64,
    /// How many cuts there are from a place to another, by `from * places + to`.
    cuts: Vec<u32>,
    places: usize,
    cut_paths: usize,
    latency: Latency,
    stream: Stream,
    /// What it has planned; whoever calls takes it.
    pub(super) planned: Vec<(Instant, Wire)>,
}

impl<M> Network<M> {
    pub(super) fn new(ranks: u32, latency: Latency, stream: Stream) -> Self {
        let places = ranks as usize + 1;
        Network {
            connections: BTreeMap::new(),
            next: 0,
            cuts: vec![0; places * places],
            places,
            cut_paths: 0,
            latency,
            stream,
            planned: Vec::new(),
        }
    }

    /// How long one message takes now.
    pub(super) fn delay(&mut self) -> Duration {
        let Latency {
            least,
            most,
            spikes,
            spike,
            ..
        } = self.latency;
        match spikes > 0 && self.stream.chance(spikes) {
            true => self.stream.between(most, spike),
            false => self.stream.between(least, most),
        }
    }

    /// Whether nothing gets from one place to another.
    pub(super) fn is_cut(&self, from: Place, to: Place) -> bool {
        self.cut_paths > 0 && self.cuts[from.index() * self.places + to.index()] > 0
    }

    pub(super) fn has_cuts(&self) -> bool {
        self.cut_paths > 0
    }

    pub(super) fn cut(&mut self, from: Place, to: Place) {
        let cuts = &mut self.cuts[from.index() * self.places + to.index()];
        *cuts += 1;
        self.cut_paths += usize::from(*cuts == 1);
    }

    /// Takes one cut away. If it was the last of its path, what waited goes on its way.
    pub(super) fn mend(&mut self, from: Place, to: Place, now: Instant) {
        let cuts = &mut self.cuts[from.index() * self.places + to.index()];
        if *cuts == 0 {
            return;
        }
        *cuts -= 1;
        if *cuts > 0 {
            return;
        }
        self.cut_paths -= 1;
        let waiting: Vec<(ConnectionId, Side)> = (self.connections.iter())
            .flat_map(|(&id, connection)| {
                [Side::Dialer, Side::Listener]
                    .into_iter()
                    .filter(move |&to_side| {
                        let end = &connection.ends[to_side as usize];
                        let sender = &connection.ends[to_side.other() as usize];
                        end.stalled > 0 && (sender.endpoint.place, end.endpoint.place) == (from, to)
                    })
                    .map(move |side| (id, side))
            })
            .collect();
        for (id, to) in waiting {
            let delay = self.delay();
            if let Some(connection) = self.connections.get_mut(&id) {
                let stalled = std::mem::take(&mut connection.ends[to as usize].stalled);
                let arrivals = (0..stalled).map(|_| (now + delay, Wire::Arrival { id, to }));
                self.planned.extend(arrivals);
            }
        }
    }

    /// Asks for a connection.
    pub(super) fn dial(&mut self, from: Endpoint, to: Place, now: Instant) {
        let at = now + self.delay();
        self.planned.push((at, Wire::Syn { from, to }));
    }

    /// A connection is asked for of a process that is there, or of none.
    pub(super) fn syn(
        &mut self,
        from: Endpoint,
        listener: Option<Endpoint>,
        to: Place,
        now: Instant,
    ) -> Option<ConnectionId> {
        let listener = match listener {
            Some(listener) if !self.is_cut(from.place, to) => listener,
            Some(_) => {
                let at = now + self.latency.give_up;
                self.planned.push((at, Wire::Refused { from }));
                return None;
            }
            None => {
                let at = now + self.delay();
                self.planned.push((at, Wire::Refused { from }));
                return None;
            }
        };
        self.next += 1;
        let id = ConnectionId(self.next);
        let answered = now + self.delay();
        let end = |endpoint, last_due| End {
            endpoint,
            open: true,
            silent: false,
            lost: false,
            inbound: VecDeque::new(),
            last_due,
            stalled: 0,
            gives_up: false,
            slow_until: now,
        };
        let connection = Connection {
            ends: [end(from, answered), end(listener, now)],
            broken: false,
        };
        self.connections.insert(id, connection);
        self.planned.push((answered, Wire::SynAck { id }));
        Some(id)
    }

    /// The answer to whoever dialled; `None` if it does not get through.
    pub(super) fn syn_ack(
        &mut self,
        id: ConnectionId,
        now: Instant,
    ) -> Option<(Endpoint, Told<M>)> {
        let connection = self.connections.get(&id)?;
        let [dialer, listener] = &connection.ends;
        let (from, to) = (dialer.endpoint, listener.endpoint);
        if self.is_cut(to.place, from.place) {
            self.close(id, Side::Dialer, false, now);
            let at = now + self.latency.give_up;
            self.planned.push((at, Wire::Refused { from }));
            return None;
        }
        Some((from, Told::Opened { id, with: to }))
    }

    /// Says something to the other end, if there is still anybody.
    pub(super) fn send(&mut self, id: ConnectionId, from: Side, message: M, now: Instant) {
        self.put(id, from, Item::Message(message), now);
    }

    fn put(&mut self, id: ConnectionId, from: Side, item: Item<M>, now: Instant) {
        let at = now + self.delay();
        let Some(connection) = self.connections.get_mut(&id) else {
            return;
        };
        if connection.broken || connection.ends[from as usize].lost {
            return;
        }
        let to = from.other();
        let end = &mut connection.ends[to as usize];
        // Later than what was said before: a connection keeps the order.
        end.last_due = at.max(end.last_due + Duration::from_nanos(1));
        end.inbound.push_back(item);
        self.planned.push((end.last_due, Wire::Arrival { id, to }));
    }

    /// The oldest message to an end is due.
    pub(super) fn arrive(
        &mut self,
        id: ConnectionId,
        to: Side,
        now: Instant,
    ) -> Option<(Endpoint, Told<M>)> {
        let connection = self.connections.get(&id)?;
        let sender = connection.ends[to.other() as usize].endpoint.place;
        let reader = connection.ends[to as usize].endpoint.place;
        let cut = self.is_cut(sender, reader);
        let give_up = now + self.latency.give_up;
        let connection = self.connections.get_mut(&id)?;
        let end = &mut connection.ends[to as usize];
        if cut {
            end.stalled += 1;
            let first = !std::mem::replace(&mut end.gives_up, true);
            if first {
                let from = to.other();
                self.planned.push((give_up, Wire::GiveUp { id, from }));
            }
            return None;
        }
        if now < end.slow_until {
            let until = end.slow_until;
            self.planned.push((until, Wire::Arrival { id, to }));
            return None;
        }
        let item = end.inbound.pop_front()?;
        let endpoint = end.endpoint;
        match item {
            Item::Message(message) if end.open => Some((endpoint, Told::Message { id, message })),
            // There is nobody: whoever speaks is told so, or finds out.
            Item::Message(_) => {
                let unheard = end.silent || self.is_cut(reader, sender);
                let after = match unheard {
                    true => self.latency.give_up,
                    false => self.delay(),
                };
                let at = to.other();
                self.planned.push((now + after, Wire::Loss { id, at }));
                None
            }
            Item::Fin => self.lose(id, to, now),
        }
    }

    /// An end has waited long for what it said to be heard.
    pub(super) fn give_up(
        &mut self,
        id: ConnectionId,
        from: Side,
        now: Instant,
    ) -> Option<(Endpoint, Told<M>)> {
        let connection = self.connections.get_mut(&id)?;
        let far = &mut connection.ends[from.other() as usize];
        far.gives_up = false;
        if far.stalled == 0 {
            return None;
        }
        far.stalled = 0;
        far.inbound.clear();
        self.lose(id, from, now)
    }

    /// An end is told that its connection is lost. It may read on for a while.
    pub(super) fn lose(
        &mut self,
        id: ConnectionId,
        at: Side,
        now: Instant,
    ) -> Option<(Endpoint, Told<M>)> {
        let linger = match self.latency.linger.is_zero() || !self.stream.chance(300) {
            true => Duration::ZERO,
            false => self.stream.between(Duration::ZERO, self.latency.linger),
        };
        let connection = self.connections.get_mut(&id)?;
        let end = &mut connection.ends[at as usize];
        if !end.open || std::mem::replace(&mut end.lost, true) {
            return None;
        }
        let endpoint = end.endpoint;
        match linger.is_zero() || end.inbound.is_empty() {
            true => self.drained(id, at),
            false => self.planned.push((now + linger, Wire::Drained { id, at })),
        }
        Some((endpoint, Told::Lost { id }))
    }

    /// An end reads no more.
    pub(super) fn drained(&mut self, id: ConnectionId, at: Side) {
        let Some(connection) = self.connections.get_mut(&id) else {
            return;
        };
        connection.ends[at as usize].open = false;
        let idle = |end: &End<M>| !end.open && end.inbound.is_empty();
        if connection.ends.iter().all(|end| !end.open) || connection.ends.iter().all(idle) {
            self.connections.remove(&id);
        }
    }

    /// A process closes an end, or dies. What it has said is still on its way; with a `fin` the
    /// other end is told after that.
    pub(super) fn close(&mut self, id: ConnectionId, at: Side, fin: bool, now: Instant) {
        match fin {
            true => self.put(id, at, Item::Fin, now),
            false => {
                if let Some(connection) = self.connections.get_mut(&id) {
                    connection.ends[at as usize].silent = true;
                }
            }
        }
        self.drained(id, at);
    }

    /// Every connection of a process that is gone. Without a `fin` its machine is gone too.
    pub(super) fn bury(&mut self, gone: Endpoint, fin: bool, now: Instant) {
        for (id, side) in self.of(gone) {
            self.close(id, side, fin, now);
        }
    }

    /// The connections of a process.
    pub(super) fn of(&self, process: Endpoint) -> Vec<(ConnectionId, Side)> {
        let sides = [Side::Dialer, Side::Listener];
        let mine = self.connections.iter().flat_map(|(&id, connection)| {
            let own = move |side: &Side| {
                let end = &connection.ends[*side as usize];
                end.endpoint == process && end.open
            };
            sides.into_iter().filter(own).map(move |side| (id, side))
        });
        mine.collect()
    }

    /// Breaks a connection: some of what is under way is lost, and each end notices in its own
    /// time.
    pub(super) fn cut_connection(&mut self, id: ConnectionId, now: Instant) {
        let notice = self.latency.notice;
        let Some(connection) = self.connections.get_mut(&id) else {
            return;
        };
        connection.broken = true;
        for at in [Side::Dialer, Side::Listener] {
            let inbound = &mut connection.ends[at as usize].inbound;
            let kept = self.stream.below(inbound.len() as u64 + 1);
            inbound.truncate(kept as usize);
            let late = self.stream.chance(300);
            let noticed = match late {
                true => self.stream.between(Duration::ZERO, notice),
                false => self.stream.between(Duration::ZERO, self.latency.most),
            };
            // What is under way to an end that notices late may come as late.
            if late && self.stream.chance(500) {
                let slow = self.stream.between(Duration::ZERO, noticed);
                connection.ends[at as usize].slow_until = now + slow;
            }
            self.planned.push((now + noticed, Wire::Loss { id, at }));
        }
    }
}

impl<M> Network<M> {
    /// Who is at the other end.
    pub(super) fn peer(&self, id: ConnectionId, at: Side) -> Option<Endpoint> {
        let connection = self.connections.get(&id)?;
        Some(connection.ends[at.other() as usize].endpoint)
    }
}

impl<M> Network<M> {
    /// Every path that is cut.
    pub(super) fn all_cut(&self) -> Vec<(Place, Place)> {
        let place = |index: usize| match index {
            0 => Place::Coordinator,
            n => Place::Rank(Rank(n as u32 - 1)),
        };
        let cut = (self.cuts.iter().enumerate()).filter(|(_, cuts)| **cuts > 0);
        cut.map(|(path, _)| (place(path / self.places), place(path % self.places)))
            .collect()
    }

    /// Whoever dials hears nothing at all.
    pub(super) fn unanswered(&mut self, from: Endpoint, now: Instant) {
        let at = now + self.latency.give_up;
        self.planned.push((at, Wire::Refused { from }));
    }
}
