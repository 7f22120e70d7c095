//! Connections: what both ends of every connection do.

use core::time::Duration;
use std::io;
use std::net::SocketAddr;

use backon::{BackoffBuilder, ExponentialBuilder};
use bytes::{Bytes, BytesMut};
use serde::de::DeserializeOwned;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_util::codec::{Decoder, LengthDelimitedCodec};

use super::error::Refusal;
use super::network::Network;
use super::wire::{self, Door};

/// How many frames may wait to be written to one connection.
const QUEUE: usize = 64;

/// Why nothing more comes from a connection.
#[derive(Debug)]
pub(super) enum Cut {
    /// The network, or the other side has closed it.
    Gone,
    /// The other side said something that cannot be.
    Refused(Refusal),
}

/// Frames that come in. A future of [`next`](Self::next) that is dropped loses nothing.
pub(super) struct Frames<R> {
    read: R,
    codec: LengthDelimitedCodec,
    buffer: BytesMut,
}

impl<R: AsyncRead + Unpin> Frames<R> {
    pub(super) fn new(read: R, most: usize) -> Self {
        Frames {
            read,
            codec: wire::codec(most),
            buffer: BytesMut::new(),
        }
    }

    /// From here on frames may have `most` bytes.
    pub(super) fn allow(&mut self, most: usize) {
        self.codec.set_max_frame_length(most);
    }

    pub(super) async fn next(&mut self) -> Result<BytesMut, Cut> {
        loop {
            match self.codec.decode(&mut self.buffer) {
                Ok(Some(frame)) => return Ok(frame),
                Ok(None) => {}
                // The one thing it finds fault with is the length.
                Err(_) => return Err(Cut::Refused(Refusal::Oversized)),
            }
            match self.read.read_buf(&mut self.buffer).await {
                Ok(0) if self.buffer.is_empty() => return Err(Cut::Gone),
                Ok(0) => return Err(Cut::Refused(Refusal::Malformed)),
                Ok(_) => {}
                Err(_) => return Err(Cut::Gone),
            }
        }
    }

    /// The next frame, if it comes within `patience`.
    pub(super) async fn next_within(&mut self, patience: Duration) -> Result<BytesMut, Cut> {
        let next = timeout(patience, self.next()).await;
        next.unwrap_or(Err(Cut::Refused(Refusal::TimedOut)))
    }
}

/// A connection before and after its door.
pub(super) struct Link<S> {
    pub(super) frames: Frames<ReadHalf<S>>,
    pub(super) write: WriteHalf<S>,
}

impl<S: AsyncRead + AsyncWrite> Link<S> {
    pub(super) fn new(stream: S) -> Self {
        let (read, write) = tokio::io::split(stream);
        Link {
            frames: Frames::new(read, wire::MOST_DOOR),
            write,
        }
    }

    /// Reads the first frame of somebody who has connected.
    pub(super) async fn hear_door<T: DeserializeOwned>(
        &mut self,
        patience: Duration,
    ) -> Result<T, Refusal> {
        match self.frames.next_within(patience).await {
            Ok(frame) => wire::read_first(&frame),
            Err(Cut::Gone) => Err(Refusal::HungUp),
            Err(Cut::Refused(refusal)) => Err(refusal),
        }
    }

    /// Tells somebody at the door whether he may come in.
    pub(super) async fn answer(
        &mut self,
        answer: Result<(), Refusal>,
        patience: Duration,
    ) -> io::Result<()> {
        let frame = wire::first(&answer).ok_or(io::ErrorKind::InvalidData)?;
        let written = timeout(patience, async {
            self.write.write_all(&frame).await?;
            if answer.is_err() {
                self.write.shutdown().await?;
            }
            Ok(())
        });
        written
            .await
            .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
    }
}

/// Connects and is let in.
pub(super) async fn dial<N: Network>(
    network: &N,
    to: SocketAddr,
    door: &Door,
    patience: Duration,
) -> Result<Link<N::Stream>, Cut> {
    let dialled = timeout(patience, async {
        let stream = network.connect(to).await.map_err(|_| Cut::Gone)?;
        let mut link = Link::new(stream);
        let frame = wire::first(door).ok_or(Cut::Refused(Refusal::Oversized))?;
        link.write.write_all(&frame).await.map_err(|_| Cut::Gone)?;
        let answer = link.frames.next().await?;
        match wire::read_first(&answer) {
            Ok(Ok(())) => Ok(link),
            Ok(Err(refusal)) | Err(refusal) => Err(Cut::Refused(refusal)),
        }
    });
    dialled.await.unwrap_or(Err(Cut::Gone))
}

/// The way to write to a connection: full means that the other side does not read.
pub(super) type Writer = mpsc::Sender<Bytes>;

/// A queue of frames to be written.
pub(super) fn queue() -> (Writer, mpsc::Receiver<Bytes>) {
    mpsc::channel(QUEUE)
}

/// Writes what is queued, and a `ping` where nothing else was written for `every`. Ends when the
/// queue is closed, or when a write takes longer than `patience`.
pub(super) async fn write_all<W: AsyncWrite + Unpin>(
    mut write: W,
    mut queue: mpsc::Receiver<Bytes>,
    ping: Option<Bytes>,
    every: Duration,
    patience: Duration,
) {
    loop {
        let frame = match (timeout(every, queue.recv()).await, &ping) {
            (Ok(Some(frame)), _) => frame,
            (Ok(None), _) => break,
            (Err(_), Some(ping)) => ping.clone(),
            (Err(_), None) => continue,
        };
        match timeout(patience, write.write_all(&frame)).await {
            Ok(Ok(())) => {}
            // The reader of this connection finds out.
            Ok(Err(_)) | Err(_) => break,
        }
    }
    let closed = timeout(patience, write.shutdown()).await;
    // It is gone either way.
    drop(closed);
}

/// Delays between tries to connect. `seed` tells processes apart that begin at once.
pub(super) fn delays(seed: u64) -> impl Iterator<Item = Duration> + Send {
    ExponentialBuilder::new()
        .with_min_delay(Duration::from_millis(20))
        .with_max_delay(Duration::from_secs(1))
        .with_jitter_seed(seed)
        .with_jitter()
        .without_max_times()
        .build()
}
