//! What goes over the wire, as values and as bytes. No socket is here.
//!
//! A frame is a length of four bytes, a body, and the CRC-32 of the body. The first frame each
//! way on a connection begins with [`MAGIC`] and [`VERSION`], so that whoever speaks something
//! else, or another version of this, can be told so by name.

use std::net::SocketAddr;

use bytes::{BufMut, Bytes, BytesMut};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio_util::codec::{Encoder, LengthDelimitedCodec};

use super::error::Refusal;
use crate::ddp::collective::Contribution;
use crate::ddp::coordinator::Member;
use crate::ddp::ids::{Epoch, Rank, RunId, View};
use crate::ddp::message::{CoordinatorSays, ToCoordinator, ToRank};

/// How the first frame each way begins.
pub(super) const MAGIC: [u8; 4] = *b"SLVG";
/// Which version of all this it is.
pub(super) const VERSION: u16 = 1;
/// A frame's checksum.
const CRC: usize = 4;
/// The most bytes of a first frame: all that a stranger can make us keep.
pub(super) const MOST_DOOR: usize = 512;
/// The most bytes of a frame between a rank and the coordinator.
pub(super) const MOST_CONTROL: usize = 4 << 20;
/// The most bytes of a frame with a piece of parameters.
pub(super) const MOST_PIECE: usize = 1 << 20;
/// What a contribution takes beside its bucket.
const MOST_HEADER: usize = 128;

/// The most bytes of a frame with a bucket of `len` values.
pub(super) fn most_contribution(len: usize) -> usize {
    len.saturating_mul(8).saturating_add(MOST_HEADER)
}

/// The most values of a bucket whose frame has a length that can be written.
pub(super) const MOST_BUCKET: usize = (u32::MAX as usize - MOST_HEADER) / 8;

/// The first thing that anybody says.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub(super) struct Door {
    pub(super) run: RunId,
    pub(super) token: Vec<u8>,
    pub(super) who: Who,
}

/// Who is at the door, and what for.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
pub(super) enum Who {
    /// A rank, to the coordinator.
    Rank {
        member: Member,
        world: u32,
        last_epoch: Epoch,
        /// Where the others find it; if there is no address, at this port of where it comes from.
        port: u16,
        advertise: Option<SocketAddr>,
    },
    /// A rank, to another that it will send its gradients to.
    Peer {
        view: View,
        from: Rank,
        to: Rank,
        bucket: u64,
    },
    /// A rank, to another that has what it must copy.
    Copy {
        view: View,
        from: Rank,
        to: Rank,
        applied: u64,
    },
}

/// From a rank to the coordinator.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub(super) enum FromRank {
    Says(ToCoordinator),
    /// It closes this connection for good.
    Bye {
        failed: bool,
    },
}

/// From the coordinator to a rank.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[allow(
    clippy::large_enum_variant,
    reason = "one is made a message, written and dropped"
)]
pub(super) enum FromCoordinator {
    Says {
        message: ToRank,
        /// Where ranks are found.
        book: Vec<(Rank, SocketAddr)>,
    },
    /// It is there.
    Ping,
}

/// From a rank to another.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum FromPeer {
    Ping,
    Gives(Contribution, Vec<f64>),
}

/// A frame of this body.
fn frame(mut body: BytesMut, most: usize) -> Option<Bytes> {
    let crc = crc32fast::hash(&body);
    body.put_u32_le(crc);
    if body.len() > most {
        return None;
    }
    let mut framed = BytesMut::with_capacity(body.len() + CRC);
    codec(most).encode(body.freeze(), &mut framed).ok()?;
    Some(framed.freeze())
}

/// What splits bytes into frames of at most `most` bytes.
pub(super) fn codec(most: usize) -> LengthDelimitedCodec {
    LengthDelimitedCodec::builder()
        .length_field_type::<u32>()
        .max_frame_length(most)
        .new_codec()
}

/// The body of what came in a frame, if nothing was damaged.
fn body(framed: &[u8]) -> Result<&[u8], Refusal> {
    let (body, crc) = framed.split_last_chunk().ok_or(Refusal::Malformed)?;
    match crc32fast::hash(body) == u32::from_le_bytes(*crc) {
        true => Ok(body),
        false => Err(Refusal::Malformed),
    }
}

fn write(value: &impl Serialize, into: BytesMut) -> BytesMut {
    let fallible = postcard::to_extend(value, into);
    fallible.expect("INVARIANT: these types have lengths, and memory grows")
}

fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, Refusal> {
    match postcard::take_from_bytes(body) {
        Ok((value, [])) => Ok(value),
        _ => Err(Refusal::Malformed),
    }
}

/// A first frame, or the answer to one.
pub(super) fn first(value: &impl Serialize) -> Option<Bytes> {
    let mut body = BytesMut::new();
    body.put_slice(&MAGIC);
    body.put_u16_le(VERSION);
    frame(write(value, body), MOST_DOOR)
}

/// What a first frame says.
pub(super) fn read_first<T: DeserializeOwned>(framed: &[u8]) -> Result<T, Refusal> {
    let (magic, rest) = framed.split_first_chunk().ok_or(Refusal::NotOurs)?;
    if *magic != MAGIC {
        return Err(Refusal::NotOurs);
    }
    // Before the checksum: another version may have another one.
    let (version, _) = rest.split_first_chunk().ok_or(Refusal::Malformed)?;
    if u16::from_le_bytes(*version) != VERSION {
        return Err(Refusal::Version);
    }
    let body = body(framed)?;
    read(body.get(MAGIC.len() + 2..).ok_or(Refusal::Malformed)?)
}

/// A frame between a rank and the coordinator; `None` if it would be too long.
pub(super) fn control(value: &impl Serialize) -> Option<Bytes> {
    frame(write(value, BytesMut::new()), MOST_CONTROL)
}

/// What a rank says.
pub(super) fn read_from_rank(framed: &[u8]) -> Result<FromRank, Refusal> {
    read(body(framed)?)
}

/// What the coordinator says.
pub(super) fn read_from_coordinator(framed: &[u8]) -> Result<FromCoordinator, Refusal> {
    let says: FromCoordinator = read(body(framed)?)?;
    let in_order = |ranks: &[Rank]| ranks.is_sorted_by(|a, b| a < b);
    let fits = match &says {
        FromCoordinator::Ping => true,
        FromCoordinator::Says { message, .. } => match &message.body {
            CoordinatorSays::Commit {
                members, holders, ..
            } => in_order(members) && in_order(holders),
            CoordinatorSays::NewView { members, .. } => in_order(members),
            CoordinatorSays::Resume { holders, .. } => in_order(holders),
            CoordinatorSays::Evict { .. } | CoordinatorSays::Abort { .. } => true,
        },
    };
    if fits {
        Ok(says)
    } else {
        Err(Refusal::Malformed)
    }
}

/// A sign of life between ranks.
pub(super) fn peer_ping() -> Option<Bytes> {
    let mut body = BytesMut::new();
    body.put_u8(0);
    frame(body, MOST_HEADER)
}

/// A contribution. Its bucket is written as it is: nothing in it needs a shape.
pub(super) fn contribution(given: &Contribution, bucket: &[f64]) -> Option<Bytes> {
    let most = most_contribution(bucket.len());
    let mut body = BytesMut::with_capacity(most);
    body.put_u8(1);
    let mut body = write(given, body);
    for value in bucket {
        body.put_f64_le(*value);
    }
    frame(body, most)
}

/// What a rank says to another that expects buckets of `len` values.
pub(super) fn read_from_peer(framed: &[u8], len: usize) -> Result<FromPeer, Refusal> {
    let body = body(framed)?;
    match body.split_first() {
        Some((0, [])) => Ok(FromPeer::Ping),
        Some((1, rest)) => {
            let (given, rest) = postcard::take_from_bytes(rest).map_err(|_| Refusal::Malformed)?;
            let (values, []) = rest.as_chunks() else {
                return Err(Refusal::Malformed);
            };
            if values.len() != len {
                return Err(Refusal::Malformed);
            }
            let bucket = values.iter().map(|value| f64::from_le_bytes(*value));
            Ok(FromPeer::Gives(given, bucket.collect()))
        }
        _ => Err(Refusal::Malformed),
    }
}

/// A piece of parameters.
pub(super) fn piece(bytes: &[u8]) -> Option<Bytes> {
    frame(BytesMut::from(bytes), MOST_PIECE)
}

/// The most bytes of parameters in one frame.
pub(super) const PIECE: usize = MOST_PIECE - CRC;

/// The bytes of a piece.
pub(super) fn read_piece(framed: &[u8]) -> Result<&[u8], Refusal> {
    body(framed)
}

/// How many bytes of parameters follow.
pub(super) fn read_length(framed: &[u8]) -> Result<u64, Refusal> {
    read(body(framed)?)
}

#[cfg(test)]
mod tests;
