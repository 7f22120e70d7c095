//! [`Mesh`]: the collective of a view, over a connection from each member to each other.
//!
//! It keeps the contract of [`Collective`](crate::ddp::Collective) and does not implement it: that
//! trait's `all_reduce` blocks its thread until there is a sum, and here whoever waits for one must
//! still hear the coordinator and beat. So the same three operations are split where they would
//! wait: `contribute`, then `take` and `lose` as things come, each of which may give the outcome.
//! Contributions meet by view and number; a sum is made only when each member's is there, **in
//! order of rank**, so all get the same bits; a view that was left gives nothing any more.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::drive::Heard;
use crate::ddp::collective::{Contribution, Reduced};
use crate::ddp::ids::{Rank, View};
use crate::ddp::net::link::{self, Cut, Link, Writer};
use crate::ddp::net::network::Network;
use crate::ddp::net::options::Timing;
use crate::ddp::net::wire::{self, Door, Who};

/// A member contributes to the next collective only when it has the result of this one: so much
/// of it is here at most.
const MOST_AHEAD: usize = 2;
/// So often a member that cannot be reached is tried before the collective fails.
const TRIES: usize = 6;

/// A contribution with its gradient.
type Gift = (Contribution, Vec<f64>);

/// What a collective has come to.
#[derive(Debug)]
pub(super) enum Outcome {
    Done {
        view: View,
        seq: u64,
        reduced: Reduced,
        sum: Vec<f64>,
    },
    /// Connections that it needs are gone: those from or to these members.
    Failed {
        view: View,
        seq: u64,
        lost: Vec<Rank>,
    },
}

pub(super) struct Mesh<N> {
    network: N,
    me: Rank,
    door: Door,
    bucket: usize,
    timing: Timing,
    inbox: mpsc::Sender<Heard>,
    /// The greatest view that was left.
    left: View,
    open: Option<Open>,
    /// What other members gave, also to views that this one is still to enter.
    given: BTreeMap<(View, Rank), VecDeque<Gift>>,
    /// Who cannot be sent to, or gave what cannot be.
    lost: BTreeSet<(View, Rank)>,
    /// The newest connection from each, and whether it is gone. An older one carried nothing:
    /// whoever opened it did not hear that it was let in, and tried again.
    from: BTreeMap<(View, Rank), (u64, bool)>,
}

/// The view that is open.
struct Open {
    view: View,
    members: Vec<Rank>,
    writers: Vec<(Rank, Writer)>,
    /// What this rank gave and has no result of.
    own: Option<Gift>,
    /// Dropped with the view, and its connections with them.
    _tasks: JoinSet<()>,
}

impl<N: Network> Mesh<N> {
    pub(super) fn new(
        network: N,
        me: Rank,
        door: Door,
        bucket: usize,
        timing: Timing,
        inbox: mpsc::Sender<Heard>,
    ) -> Self {
        Mesh {
            network,
            me,
            door,
            bucket,
            timing,
            inbox,
            left: View(0),
            open: None,
            given: BTreeMap::new(),
            lost: BTreeSet::new(),
            from: BTreeMap::new(),
        }
    }

    /// Opens the collectives of a view.
    pub(super) fn enter(
        &mut self,
        view: View,
        members: Vec<Rank>,
        find: impl Fn(Rank) -> Option<SocketAddr>,
    ) {
        let mut tasks = JoinSet::new();
        let mut writers = Vec::new();
        for &rank in members.iter().filter(|&&rank| rank != self.me) {
            let (writer, queue) = link::queue();
            writers.push((rank, writer));
            let Some(address) = find(rank) else {
                self.lost.insert((view, rank));
                continue;
            };
            let door = Door {
                who: Who::Peer {
                    view,
                    from: self.me,
                    to: rank,
                    bucket: self.bucket as u64,
                },
                ..self.door.clone()
            };
            let (network, inbox, timing) = (self.network.clone(), self.inbox.clone(), self.timing);
            let seed = view.0.wrapping_mul(31) ^ u64::from(self.me.0);
            tasks.spawn(async move {
                if let Ok(link) = reach(&network, address, &door, &timing, seed).await {
                    send(link, queue, timing).await;
                }
                let link = None;
                drop(inbox.send(Heard::PeerLost { view, rank, link }).await);
            });
        }
        self.open = Some(Open {
            view,
            members,
            writers,
            own: None,
            _tasks: tasks,
        });
        self.drop_before(view);
    }

    /// Ends the collectives of a view, and of all before.
    pub(super) fn leave(&mut self, view: View) {
        if self.open.as_ref().is_some_and(|open| open.view <= view) {
            self.open = None;
        }
        self.left = self.left.max(view);
        self.drop_before(view.next());
    }

    fn drop_before(&mut self, view: View) {
        self.given.retain(|(other, _), _| *other >= view);
        self.lost.retain(|(other, _)| *other >= view);
        self.from.retain(|(other, _), _| *other >= view);
    }

    /// Gives to a collective, and sends it to all others.
    pub(super) fn contribute(&mut self, given: Contribution, bucket: Vec<f64>) -> Option<Outcome> {
        let open = self.open.as_mut()?;
        if open.view != given.tag.view {
            return None;
        }
        let frame = wire::contribution(&given, &bucket);
        for (rank, writer) in &open.writers {
            let sent = (frame.as_ref()).is_some_and(|frame| writer.try_send(frame.clone()).is_ok());
            if !sent {
                self.lost.insert((open.view, *rank));
            }
        }
        open.own = Some((given, bucket));
        self.outcome()
    }

    /// Another member gave to a collective; `Err` if it may not have.
    pub(super) fn take(
        &mut self,
        from: Rank,
        given: Contribution,
        bucket: Vec<f64>,
    ) -> Result<Option<Outcome>, ()> {
        let view = given.tag.view;
        if view <= self.left {
            return Ok(None);
        }
        let ahead = self.given.entry((view, from)).or_default();
        let follows = ahead
            .back()
            .is_none_or(|(last, _)| last.tag.seq < given.tag.seq);
        if ahead.len() >= MOST_AHEAD || !follows {
            return Err(());
        }
        ahead.push_back((given, bucket));
        Ok(self.outcome())
    }

    /// Another member has opened a connection to send on; numbers grow.
    pub(super) fn heard_from(&mut self, view: View, rank: Rank, link: u64) {
        if view > self.left {
            let newest = self.from.entry((view, rank)).or_insert((link, false));
            if newest.0 < link {
                *newest = (link, false);
            }
        }
    }

    /// The connection to another member is gone, or connection `link` from it.
    pub(super) fn lose(&mut self, view: View, rank: Rank, link: Option<u64>) -> Option<Outcome> {
        if view <= self.left {
            return None;
        }
        match (link, self.from.get_mut(&(view, rank))) {
            (Some(link), Some(newest)) if newest.0 == link => newest.1 = true,
            // An older one, which nothing comes by.
            (Some(_), _) => return None,
            (None, _) => drop(self.lost.insert((view, rank))),
        }
        self.outcome()
    }

    fn is_lost(&self, view: View, rank: Rank) -> bool {
        let gone = |&(_, gone): &(u64, bool)| gone;
        self.lost.contains(&(view, rank)) || self.from.get(&(view, rank)).is_some_and(gone)
    }

    /// Whose contribution is missing to the present collective.
    pub(super) fn missing(&self) -> Vec<Rank> {
        let Some(open) = &self.open else {
            return Vec::new();
        };
        let Some((own, _)) = &open.own else {
            return Vec::new();
        };
        let others = open.members.iter().filter(|&&rank| rank != self.me);
        let there = |rank: Rank| {
            let given = self.given.get(&(open.view, rank));
            given.is_some_and(|given| given.iter().any(|(g, _)| g.tag.seq == own.tag.seq))
        };
        others.copied().filter(|&rank| !there(rank)).collect()
    }

    /// What the present collective has come to, if it has.
    fn outcome(&mut self) -> Option<Outcome> {
        let missing = self.missing();
        let open = self.open.as_ref()?;
        let (own, _) = open.own.as_ref()?;
        let (view, seq) = (open.view, own.tag.seq);
        // Who can no longer send, or be sent to: it will not come to anything for all.
        let others = open.members.iter().copied();
        let lost: Vec<Rank> = others.filter(|&rank| self.is_lost(view, rank)).collect();
        let open = self.open.as_mut()?;
        if !missing.is_empty() {
            return (!lost.is_empty()).then(|| {
                open.own = None;
                Outcome::Failed { view, seq, lost }
            });
        }
        let mut own = open.own.take();
        let mut all = Vec::new();
        for &rank in &open.members {
            if rank == self.me {
                all.extend(own.take());
                continue;
            }
            let given = self.given.get_mut(&(view, rank))?;
            given.retain(|(given, _)| given.tag.seq >= seq);
            all.extend(given.pop_front());
        }
        let reduced = Reduced::of(all.iter().map(|(given, _)| given))?;
        let mut buckets = all.into_iter().map(|(_, bucket)| bucket);
        let mut sum = buckets.next()?;
        for bucket in buckets {
            for (sum, value) in sum.iter_mut().zip(bucket) {
                *sum += value;
            }
        }
        Some(Outcome::Done {
            view,
            seq,
            reduced,
            sum,
        })
    }
}

/// A connection to another member, which may still be about to open its door.
async fn reach<N: Network>(
    network: &N,
    to: SocketAddr,
    door: &Door,
    timing: &Timing,
    seed: u64,
) -> Result<Link<N::Stream>, Cut> {
    let mut delays = link::delays(seed, timing.most_delay()).take(TRIES);
    loop {
        match link::dial(network, to, door, timing.door).await {
            Ok(link) => return Ok(link),
            Err(cut) => match delays.next() {
                Some(delay) => sleep(delay).await,
                None => return Err(cut),
            },
        }
    }
}

/// Sends what is queued until either side ends the connection.
async fn send<S>(link: Link<S>, queue: mpsc::Receiver<bytes::Bytes>, timing: Timing)
where
    S: AsyncRead + AsyncWrite + Send + 'static,
{
    let Link { mut frames, write } = link;
    let (every, patience) = (timing.heartbeat, timing.suspect_after);
    let mut both = JoinSet::new();
    both.spawn(link::write_all(
        write,
        queue,
        wire::peer_ping(),
        every,
        patience,
    ));
    both.spawn(async move {
        // Nothing is ever said this way: whatever comes is the end.
        drop(frames.next().await);
    });
    // The first to end ends the other.
    drop(both.join_next().await);
}

#[cfg(test)]
mod tests;
