//! The coordinator's door: who is let in, and what becomes of whoever is not. Strangers never
//! reach the driver; it is told how many there were.

use core::time::Duration;
use std::net::SocketAddr;

use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::Heard;
use crate::ddp::coordinator::Member;
use crate::ddp::coordinator::RunConfig;
use crate::ddp::net::error::Refusal;
use crate::ddp::net::link::{self, Cut, Link};
use crate::ddp::net::lobby;
use crate::ddp::net::network::Network;
use crate::ddp::net::options::{CoordinatorOptions, Timing, Token};
use crate::ddp::net::wire::{self, Door, FromCoordinator, FromRank, Who};
use crate::platform::{Platform, Std};

type Arc<T> = <Std as Platform>::Arc<T>;

struct Rules {
    config: RunConfig,
    token: Token,
    timing: Timing,
}

/// Lets people in until what is returned is dropped, which cuts all.
pub(super) fn open<N: Network>(
    network: N,
    listener: N::Listener,
    options: &CoordinatorOptions,
    inbox: mpsc::Sender<Heard>,
) -> JoinSet<()> {
    let rules = Arc::new(Rules {
        config: options.config,
        token: options.token.clone(),
        timing: options.timing,
    });
    let most = options.most_at_door;
    lobby::open(
        network,
        listener,
        most,
        move |mut link, number, from, mut place| {
            let (rules, inbox) = (rules.clone(), inbox.clone());
            async move {
                let greeted = place.hold(greet(&mut link, &rules, from)).await;
                match greeted.unwrap_or(Err(Refusal::Crowded)) {
                    Ok((member, address)) => {
                        drop(place);
                        serve(link, number, member, address, &rules, &inbox).await;
                    }
                    Err(refusal) => {
                        // Counted first: how long it takes to tell him is his affair.
                        let told = inbox.send(Heard::Refused(refusal)).await;
                        let answered = link.answer(Err(refusal), rules.timing.door).await;
                        drop((told, answered, place));
                    }
                }
            }
        },
    )
}

/// Who is at the door, and where other ranks find him.
async fn greet<S>(
    link: &mut Link<S>,
    rules: &Rules,
    from: SocketAddr,
) -> Result<(Member, SocketAddr), Refusal>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite,
{
    let door: Door = link.hear_door(rules.timing.door).await?;
    // The token first: who does not have it learns nothing else.
    if !rules.token.is(&door.token) {
        return Err(Refusal::Token);
    }
    if door.run != rules.config.run {
        return Err(Refusal::Run);
    }
    let Who::Rank {
        member,
        world,
        last_epoch,
        port,
        advertise,
    } = door.who
    else {
        return Err(Refusal::WrongPlace);
    };
    if (world, last_epoch) != (rules.config.world, rules.config.last_epoch) {
        return Err(Refusal::Config);
    }
    if member.rank.0 >= world {
        return Err(Refusal::UnknownRank);
    }
    let answered = link.answer(Ok(()), rules.timing.door).await;
    answered.map_err(|_| Refusal::HungUp)?;
    Ok((
        member,
        advertise.unwrap_or(SocketAddr::new(from.ip(), port)),
    ))
}

/// Hands on what a rank says, until its connection is gone.
async fn serve<S>(
    link: Link<S>,
    number: u64,
    member: Member,
    address: SocketAddr,
    rules: &Rules,
    inbox: &mpsc::Sender<Heard>,
) where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + 'static,
{
    let Link { mut frames, write } = link;
    frames.allow(wire::MOST_CONTROL);
    let (writer, queue) = link::queue();
    let timing = rules.timing;
    let mut writing = JoinSet::new();
    let ping = wire::control(&FromCoordinator::Ping);
    let write = link::write_all(write, queue, ping, timing.heartbeat, timing.suspect_after);
    writing.spawn(write);
    let admitted = Heard::Admitted {
        link: number,
        member,
        address,
        writer,
    };
    if inbox.send(admitted).await.is_err() {
        return;
    }
    let refusal = loop {
        // Who is silent for too long is for the driver to say, on a clock that has not slept.
        let forever = Duration::MAX;
        let patience = timing.suspect_after;
        let next = link::next_while_written(&mut frames, &mut writing, forever, patience);
        let Some(next) = next.await else { break None };
        let heard = match next {
            Ok(frame) => match wire::read_from_rank(&frame) {
                Ok(FromRank::Says(message)) => Heard::Says {
                    link: number,
                    message,
                },
                Ok(FromRank::Bye { failed }) => Heard::Bye {
                    link: number,
                    failed,
                },
                Err(refusal) => break Some(refusal),
            },
            Err(Cut::Gone) => break None,
            Err(Cut::Refused(refusal)) => break Some(refusal),
        };
        if inbox.send(heard).await.is_err() {
            return;
        }
    };
    let closed = Heard::Closed {
        link: number,
        refusal,
    };
    // If nobody listens any more, nobody needs to know; the writer ends with its queue.
    drop(inbox.send(closed).await);
    while writing.join_next().await.is_some() {}
}
