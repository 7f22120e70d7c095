//! [`Lobby`]: connections that have not said yet who they are. There is room for so many, and
//! **whoever comes gets in**: where the room is full, the address that takes the most of it loses
//! its oldest. A rank says who it is at once, so strangers who keep silent, and come back when
//! they are put out, put out each other.

use core::convert::Infallible;
use core::future::Future;
use core::time::Duration;
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::link::{self, Link};
use super::network::Network;
use crate::platform::{Mutex, Platform, Std};

/// After an error of `accept`, such as too many open files, this long nobody is let in.
const BREATH: Duration = Duration::from_millis(20);

/// Gives each connection to `receive`, with its number and a place in a lobby for `most`, until
/// what is returned is dropped, which cuts all of them.
pub(super) fn open<N: Network, W>(
    network: N,
    listener: N::Listener,
    most: usize,
    receive: impl Fn(Link<N::Stream>, u64, SocketAddr, Place) -> W + Send + 'static,
) -> JoinSet<()>
where
    W: Future<Output = ()> + Send + 'static,
{
    let lobby = Lobby::new(most);
    let mut guard = JoinSet::new();
    guard.spawn(async move {
        // Dropped with this task, and then all of them are cut.
        let mut inside = JoinSet::new();
        for number in 0_u64.. {
            while inside.try_join_next().is_some() {}
            let Ok((stream, from)) = network.accept(&listener).await else {
                sleep(BREATH).await;
                continue;
            };
            let place = lobby.enter(number, from.ip());
            inside.spawn(receive(Link::new(stream), number, from, place));
        }
    });
    guard
}

/// By the number of the connection: where it is from, and what is dropped to put it out.
type Waiting = BTreeMap<u64, (IpAddr, oneshot::Sender<Infallible>)>;
type Shared = <Std as Platform>::Arc<<Std as Platform>::Mutex<Waiting>>;

struct Lobby {
    most: usize,
    waiting: Shared,
}

/// A connection's place, which is free again when this is dropped.
pub(super) struct Place {
    number: u64,
    put_out: oneshot::Receiver<Infallible>,
    waiting: Shared,
}

impl Lobby {
    /// Room for `most` connections, at least one.
    fn new(most: usize) -> Self {
        Lobby {
            most,
            waiting: Shared::new(<Std as Platform>::Mutex::new(Waiting::new())),
        }
    }

    /// The place of connection `number`, which no other has.
    fn enter(&self, number: u64, from: IpAddr) -> Place {
        let (keep, put_out) = oneshot::channel();
        let mut waiting = Mutex::lock(&*self.waiting);
        if waiting.len() >= self.most {
            let mut takes: BTreeMap<IpAddr, (usize, u64)> = BTreeMap::new();
            for (&number, (from, _)) in &*waiting {
                // In order of numbers: the first is its oldest.
                takes.entry(*from).or_insert((0, number)).0 += 1;
            }
            let worst = takes.into_values();
            let worst = worst.max_by_key(|&(takes, oldest)| (takes, u64::MAX - oldest));
            if let Some((_, oldest)) = worst {
                waiting.remove(&oldest);
            }
        }
        waiting.insert(number, (from, keep));
        Place {
            number,
            put_out,
            waiting: self.waiting.clone(),
        }
    }
}

impl Place {
    /// What `work` gives; `None` if its place was needed before.
    pub(super) async fn hold<T>(&mut self, work: impl Future<Output = T>) -> Option<T> {
        link::unless(&mut self.put_out, work).await
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        Mutex::lock(&*self.waiting).remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_lobby_puts_out_the_oldest_of_whoever_takes_the_most() {
        let from = |last| IpAddr::from([10, 0, 0, last]);
        let lobby = Lobby::new(3);
        let there = || -> Vec<u64> { Mutex::lock(&*lobby.waiting).keys().copied().collect() };
        let _rank = lobby.enter(0, from(1));
        let strangers = [lobby.enter(1, from(2)), lobby.enter(2, from(2))];
        assert_eq!(there(), [0, 1, 2]);
        let third = lobby.enter(3, from(2));
        assert_eq!(there(), [0, 2, 3], "not the rank, which is older");
        drop(strangers);
        assert_eq!(there(), [0, 3], "whoever was put out has no place to free");
        let _fourth = lobby.enter(4, from(3));
        let _fifth = lobby.enter(5, from(4));
        assert_eq!(there(), [3, 4, 5], "of one each, the oldest");
        drop(third);
        assert_eq!(there(), [4, 5]);
    }
}
