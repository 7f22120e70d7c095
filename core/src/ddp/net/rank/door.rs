//! A rank's own door: other ranks that will send their gradients, or that must copy parameters.

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;

use super::drive::Heard;
use crate::ddp::ids::{Rank, RunId, View};
use crate::ddp::net::error::Refusal;
use crate::ddp::net::link::{self, Cut, Link};
use crate::ddp::net::lobby;
use crate::ddp::net::network::Network;
use crate::ddp::net::options::{Timing, Token};
use crate::ddp::net::wire::{self, Door, FromPeer, Who};
use crate::platform::{Platform, Std};

type Arc<T> = <Std as Platform>::Arc<T>;

/// So many connections may be at the door at once.
const MOST_AT_DOOR: usize = 64;

/// Who is let in.
pub(super) struct Rules {
    pub(super) run: RunId,
    pub(super) rank: Rank,
    pub(super) token: Token,
    pub(super) bucket: usize,
    pub(super) timing: Timing,
}

/// Lets other ranks in until what is returned is dropped, which cuts all.
pub(super) fn open<N: Network>(
    network: N,
    listener: N::Listener,
    rules: Rules,
    inbox: mpsc::Sender<Heard>,
) -> JoinSet<()> {
    let rules = Arc::new(rules);
    lobby::open(
        network,
        listener,
        MOST_AT_DOOR,
        move |mut link, number, _, mut place| {
            let (rules, inbox) = (rules.clone(), inbox.clone());
            async move {
                let greeted = place.hold(greet(&mut link, &rules)).await;
                match greeted.unwrap_or(Err(Refusal::Crowded)) {
                    Ok(Who::Peer { view, from, .. }) => {
                        drop(place);
                        let whose = (number, view, from);
                        receive(link, whose, &rules, &inbox).await;
                    }
                    Ok(Who::Copy { view, applied, .. }) => {
                        drop(place);
                        give_copy(link, view, applied, &rules, &inbox).await;
                    }
                    Ok(Who::Rank { .. }) => {}
                    Err(refusal) => {
                        let told = inbox.send(Heard::Stranger(refusal)).await;
                        let answered = link.answer(Err(refusal), rules.timing.door).await;
                        drop((told, answered, place));
                    }
                }
            }
        },
    )
}

async fn greet<S: AsyncRead + AsyncWrite>(
    link: &mut Link<S>,
    rules: &Rules,
) -> Result<Who, Refusal> {
    let door: Door = link.hear_door(rules.timing.door).await?;
    if !rules.token.is(&door.token) {
        return Err(Refusal::Token);
    }
    if door.run != rules.run {
        return Err(Refusal::Run);
    }
    match door.who {
        Who::Peer { to, bucket, .. } => {
            if to != rules.rank {
                return Err(Refusal::WrongPlace);
            }
            if bucket != rules.bucket as u64 {
                return Err(Refusal::Config);
            }
        }
        Who::Copy { to, .. } if to == rules.rank => {}
        Who::Copy { .. } | Who::Rank { .. } => return Err(Refusal::WrongPlace),
    }
    let answered = link.answer(Ok(()), rules.timing.door).await;
    answered.map_err(|_| Refusal::HungUp)?;
    Ok(door.who)
}

/// Hands on another rank's contributions until its connection is gone.
async fn receive<S: AsyncRead + AsyncWrite>(
    link: Link<S>,
    (number, view, from): (u64, View, Rank),
    rules: &Rules,
    inbox: &mpsc::Sender<Heard>,
) {
    let there = Heard::PeerThere {
        view,
        rank: from,
        link: number,
    };
    if inbox.send(there).await.is_err() {
        return;
    }
    let Link { mut frames, write } = link;
    frames.allow(wire::most_contribution(rules.bucket));
    let refusal = loop {
        // It pings, so a long silence is a connection that only looks like one.
        let frame = match frames.next_while_moving(rules.timing.suspect_after).await {
            Ok(frame) => frame,
            Err(Cut::Gone | Cut::Refused(Refusal::TimedOut)) => break None,
            Err(Cut::Refused(refusal)) => break Some(refusal),
        };
        match wire::read_from_peer(&frame, rules.bucket) {
            Ok(FromPeer::Ping) => {}
            Ok(FromPeer::Gives(given, bucket)) if given.tag.view == view => {
                let heard = Heard::Gives {
                    from,
                    given,
                    bucket,
                };
                if inbox.send(heard).await.is_err() {
                    return;
                }
            }
            Ok(FromPeer::Gives(..)) => break Some(Refusal::Malformed),
            Err(refusal) => break Some(refusal),
        }
    };
    if let Some(refusal) = refusal {
        drop(inbox.send(Heard::Stranger(refusal)).await);
    }
    let lost = Heard::PeerLost {
        view,
        rank: from,
        link: Some(number),
    };
    drop(inbox.send(lost).await);
    drop(write);
}

/// Asks the driver for the parameters, and sends them.
async fn give_copy<S: AsyncRead + AsyncWrite>(
    mut link: Link<S>,
    view: View,
    applied: u64,
    rules: &Rules,
    inbox: &mpsc::Sender<Heard>,
) {
    let (reply, answer) = oneshot::channel();
    let asked = Heard::CopyAsked {
        view,
        applied,
        reply,
    };
    if inbox.send(asked).await.is_err() {
        return;
    }
    // Dropped without an answer: it has another version by now. Who asked tries elsewhere.
    let Ok(bytes) = answer.await else { return };
    let Some(head) = wire::control(&(bytes.len() as u64)) else {
        return;
    };
    let pieces = bytes.chunks(wire::PIECE).filter_map(wire::piece);
    for frame in core::iter::once(head).chain(pieces) {
        let patience = rules.timing.suspect_after;
        let written = link::write_moving(&mut link.write, &frame, patience).await;
        if written.is_err() {
            return;
        }
    }
    // Whoever closes first may cut off what is still on its way: wait until it was read.
    drop(
        link.frames
            .next_while_moving(rules.timing.suspect_after)
            .await,
    );
}
