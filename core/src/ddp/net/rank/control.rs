//! The connection to the coordinator: made, kept, made again.

use std::net::SocketAddr;

use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::drive::Heard;
use crate::ddp::net::error::Refusal;
use crate::ddp::net::link::{self, Cut, Link};
use crate::ddp::net::network::Network;
use crate::ddp::net::options::Timing;
use crate::ddp::net::wire::{self, Door, FromCoordinator};

/// Connects, hands on what the coordinator says, and connects again, until there is no point in it
/// or nobody listens.
pub(super) async fn keep<N: Network>(
    network: N,
    to: SocketAddr,
    door: Door,
    timing: Timing,
    seed: u64,
    inbox: mpsc::Sender<Heard>,
) {
    for number in 0_u64.. {
        let mut delays = link::delays(seed.wrapping_add(number), timing.most_delay());
        let link = loop {
            match link::dial(&network, to, &door, timing.door).await {
                Ok(link) => break link,
                Err(Cut::Refused(refusal)) if !refusal.is_passing() => {
                    // The driver ends, and this task with it.
                    drop(inbox.send(Heard::NotLetIn(refusal)).await);
                    return;
                }
                Err(_) => sleep(delays.next().unwrap_or(timing.heartbeat)).await,
            }
        };
        if attend(link, number, &timing, &inbox).await.is_none() {
            return;
        }
        // A coordinator that lets in and cuts at once is not asked without a pause.
        sleep(delays.next().unwrap_or(timing.heartbeat)).await;
    }
}

/// One connection, until it is gone; `None` if nobody listens.
async fn attend<S>(
    link: Link<S>,
    number: u64,
    timing: &Timing,
    inbox: &mpsc::Sender<Heard>,
) -> Option<()>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + 'static,
{
    let Link { mut frames, write } = link;
    frames.allow(wire::MOST_CONTROL);
    let (writer, queue) = link::queue();
    // Heartbeats come from the machine, so nothing is written here that it did not say.
    let mut writing = JoinSet::new();
    let patience = timing.suspect_after;
    writing.spawn(link::write_all(
        write,
        queue,
        None,
        timing.suspect_after,
        patience,
    ));
    let up = Heard::Up {
        link: number,
        writer,
    };
    inbox.send(up).await.ok()?;
    let refusal = loop {
        // The coordinator is never silent for so long, unless it, or the way from it, is gone.
        let next = link::next_while_written(&mut frames, &mut writing, patience, patience);
        let Some(next) = next.await else { break None };
        let frame = match next {
            Ok(frame) => frame,
            Err(Cut::Gone | Cut::Refused(Refusal::TimedOut)) => break None,
            Err(Cut::Refused(refusal)) => break Some(refusal),
        };
        match wire::read_from_coordinator(&frame) {
            Ok(FromCoordinator::Ping) => {}
            Ok(FromCoordinator::Says { message, book }) => {
                inbox.send(Heard::Says { message, book }).await.ok()?;
            }
            Err(refusal) => break Some(refusal),
        }
    };
    let down = Heard::Down {
        link: number,
        refusal,
    };
    inbox.send(down).await.ok()
}
