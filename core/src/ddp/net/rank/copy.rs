//! Copying parameters from a rank that has them, or from the next that has.

use std::net::SocketAddr;

use tokio::sync::mpsc;
use tokio::time::sleep;

use super::drive::Heard;
use crate::ddp::ids::{Rank, View};
use crate::ddp::net::error::Refusal;
use crate::ddp::net::link::{self, Cut};
use crate::ddp::net::network::Network;
use crate::ddp::net::options::Timing;
use crate::ddp::net::wire::{self, Door, Who};

/// What to copy, and from whom.
pub(super) struct Wanted {
    pub(super) view: View,
    pub(super) applied: u64,
    pub(super) holders: Vec<(Rank, SocketAddr)>,
    pub(super) door: Door,
    pub(super) timing: Timing,
    pub(super) most: u64,
    pub(super) seed: u64,
}

/// Tries one holder after the other, again and again; the driver drops this when it has waited
/// long enough, or when the view is over.
pub(super) async fn fetch<N: Network>(network: N, wanted: Wanted, inbox: mpsc::Sender<Heard>) {
    for delay in link::delays(wanted.seed, wanted.timing.most_delay()) {
        for &(rank, address) in &wanted.holders {
            let door = Door {
                who: match wanted.door.who {
                    Who::Copy {
                        view,
                        from,
                        applied,
                        ..
                    } => Who::Copy {
                        view,
                        from,
                        to: rank,
                        applied,
                    },
                    other => other,
                },
                ..wanted.door.clone()
            };
            match copy(&network, address, &door, &wanted).await {
                Ok(bytes) => {
                    let copied = Heard::Copied {
                        view: wanted.view,
                        from: rank,
                        applied: wanted.applied,
                        bytes,
                    };
                    drop(inbox.send(copied).await);
                    return;
                }
                Err(Cut::Refused(refusal)) if !refusal.is_passing() => {
                    drop(inbox.send(Heard::Stranger(refusal)).await);
                }
                Err(_) => {}
            }
        }
        sleep(delay).await;
    }
}

async fn copy<N: Network>(
    network: &N,
    from: SocketAddr,
    door: &Door,
    wanted: &Wanted,
) -> Result<Vec<u8>, Cut> {
    // It may be in a call of its trainee, and another for the copy.
    let patience = wanted.timing.suspect_after * 2;
    let mut link = link::dial(network, from, door, wanted.timing.door).await?;
    link.frames.allow(wire::MOST_PIECE);
    // It answers between two calls of its trainee.
    let head = link.frames.next_while_moving(patience).await?;
    let total = wire::read_length(&head).map_err(Cut::Refused)?;
    if total > wanted.most {
        return Err(Cut::Refused(Refusal::Oversized));
    }
    // It grows with what has come, not with what was said.
    let mut bytes = Vec::new();
    while (bytes.len() as u64) < total {
        let frame = link.frames.next_while_moving(patience).await?;
        let piece = wire::read_piece(&frame).map_err(Cut::Refused)?;
        if piece.is_empty() || (bytes.len() + piece.len()) as u64 > total {
            return Err(Cut::Refused(Refusal::Malformed));
        }
        bytes.extend_from_slice(piece);
    }
    Ok(bytes)
}
