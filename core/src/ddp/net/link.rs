//! Connections: what both ends of every connection do.

use core::future::{Future, poll_fn};
use core::pin::pin;
use core::task::Poll;
use core::time::Duration;
use std::io;
use std::net::SocketAddr;

use backon::{BackoffBuilder, ExponentialBuilder};
use bytes::{Bytes, BytesMut};
use serde::de::DeserializeOwned;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
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
        self.next_while_moving(Duration::MAX).await
    }

    /// The next frame, if no silence before it or within it is longer than `patience`: however
    /// large it is, and however slow the way.
    pub(super) async fn next_while_moving(&mut self, patience: Duration) -> Result<BytesMut, Cut> {
        loop {
            match self.codec.decode(&mut self.buffer) {
                Ok(Some(frame)) => return Ok(frame),
                Ok(None) => {}
                // The one thing it finds fault with is the length.
                Err(_) => return Err(Cut::Refused(Refusal::Oversized)),
            }
            let read = timeout(patience, self.read.read_buf(&mut self.buffer)).await;
            let Ok(read) = read else {
                return Err(Cut::Refused(Refusal::TimedOut));
            };
            match read {
                Ok(0) if self.buffer.is_empty() => return Err(Cut::Gone),
                Ok(0) => return Err(Cut::Refused(Refusal::Malformed)),
                Ok(_) => {}
                Err(_) => return Err(Cut::Gone),
            }
        }
    }

    /// The next frame, if all of it comes within `patience`.
    pub(super) async fn next_within(&mut self, patience: Duration) -> Result<BytesMut, Cut> {
        let next = timeout(patience, self.next()).await;
        next.unwrap_or(Err(Cut::Refused(Refusal::TimedOut)))
    }
}

impl<R: AsyncRead + Unpin> Frames<R> {
    /// Lets go of what comes until the other side closes, or for `patience`. Whoever closes with
    /// something unread may cut off what is still on its way to the other.
    async fn drain(&mut self, patience: Duration) {
        let closed = timeout(patience, async {
            loop {
                self.buffer.clear();
                let read = self.read.read_buf(&mut self.buffer).await;
                if !matches!(read, Ok(1..)) {
                    return;
                }
            }
        });
        // It is gone either way.
        drop(closed.await);
    }
}

/// What `work` gives, unless `end` comes before.
pub(super) async fn unless<T>(end: impl Future, work: impl Future<Output = T>) -> Option<T> {
    let (mut end, mut work) = (pin!(end), pin!(work));
    poll_fn(|cx| {
        if let Poll::Ready(done) = work.as_mut().poll(cx) {
            return Poll::Ready(Some(done));
        }
        end.as_mut().poll(cx).map(|_| None)
    })
    .await
}

/// The next frame of a connection that is written to as well, or `None` when `writing` has ended:
/// because this side wants no more of the connection, or because the other does not read. Then it
/// waits until the other side closes, `patience` at most.
pub(super) async fn next_while_written<R: AsyncRead + Unpin>(
    frames: &mut Frames<R>,
    writing: &mut JoinSet<()>,
    silence: Duration,
    patience: Duration,
) -> Option<Result<BytesMut, Cut>> {
    let next = unless(writing.join_next(), frames.next_while_moving(silence)).await;
    if next.is_none() {
        frames.drain(patience).await;
    }
    next
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
/// queue is closed, or when the other side takes nothing for `patience`.
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
        if write_moving(&mut write, &frame, patience).await.is_err() {
            break;
        }
    }
    let closed = timeout(patience, write.shutdown()).await;
    // It is gone either way.
    drop(closed);
}

/// Writes a frame, as long as some of it is taken within each `patience`.
pub(super) async fn write_moving<W: AsyncWrite + Unpin>(
    write: &mut W,
    frame: &[u8],
    patience: Duration,
) -> io::Result<()> {
    let mut rest = frame;
    while !rest.is_empty() {
        let written = timeout(patience, write.write(rest)).await;
        match written.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))? {
            0 => return Err(io::ErrorKind::WriteZero.into()),
            written => rest = &rest[written..],
        }
    }
    write.flush().await
}

/// Delays between tries to connect, none above `most`. `seed` tells processes apart that begin at
/// once.
pub(super) fn delays(seed: u64, most: Duration) -> impl Iterator<Item = Duration> + Send {
    // Jitter adds as much again at most.
    let most = most / 2;
    ExponentialBuilder::new()
        .with_min_delay(most.min(Duration::from_millis(20)))
        .with_max_delay(most)
        .with_jitter_seed(seed)
        .with_jitter()
        .without_max_times()
        .build()
}

#[cfg(test)]
mod tests {
    use tokio::io::{DuplexStream, duplex};
    use tokio::runtime::Builder;
    use tokio::time::{Instant, sleep};

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn block_on<R>(test: impl Future<Output = R>) -> R {
        let mut builder = Builder::new_current_thread();
        let runtime = builder.enable_time().start_paused(true).build();
        runtime.unwrap().block_on(test)
    }

    /// A frame of 600 bytes, ten at a time, with a pause before each.
    async fn trickle(mut to: DuplexStream, pause: Duration) {
        let frame = [&600_u32.to_be_bytes()[..], &[7; 600]].concat();
        for piece in frame.chunks(10) {
            sleep(pause).await;
            if to.write_all(piece).await.is_err() {
                return;
            }
        }
        sleep(SECOND * 9).await;
    }

    #[test]
    fn a_frame_may_take_long_as_long_as_it_comes() {
        block_on(async {
            let slowly = |pause| {
                let (near, far) = duplex(64);
                let mut tasks = JoinSet::new();
                tasks.spawn(trickle(far, pause));
                (Frames::new(near, 1000), tasks)
            };
            let (mut frames, _tasks) = slowly(SECOND / 2);
            let frame = frames.next_while_moving(SECOND).await;
            assert_eq!(frame.unwrap().len(), 600);
            let (mut frames, _tasks) = slowly(SECOND / 2);
            let all_of_it = frames.next_within(SECOND).await;
            let timed_out = |cut| matches!(cut, Err(Cut::Refused(Refusal::TimedOut)));
            assert!(timed_out(all_of_it), "as at the door");
            let (mut frames, _tasks) = slowly(SECOND * 2);
            assert!(timed_out(frames.next_while_moving(SECOND).await));
        });
    }

    #[test]
    fn a_write_may_take_long_as_long_as_some_is_taken() {
        block_on(async {
            let (mut near, mut far) = duplex(8);
            let mut reading = JoinSet::new();
            reading.spawn(async move {
                for _ in 0..20 {
                    sleep(SECOND / 2).await;
                    far.read_exact(&mut [0; 8]).await.unwrap();
                }
                sleep(SECOND * 9).await;
            });
            let start = Instant::now();
            write_moving(&mut near, &[1; 160], SECOND).await.unwrap();
            assert!(start.elapsed() > SECOND * 8, "{:?}", start.elapsed());
            let stuck = write_moving(&mut near, &[1; 160], SECOND).await;
            assert_eq!(stuck.unwrap_err().kind(), io::ErrorKind::TimedOut);
        });
    }

    #[test]
    fn a_connection_that_is_no_longer_written_is_read_for_a_while_only() {
        block_on(async {
            let (near, far) = duplex(64);
            let (read, write) = tokio::io::split(near);
            let (writer, frames_out) = queue();
            let mut writing = JoinSet::new();
            writing.spawn(write_all(write, frames_out, None, SECOND, SECOND));
            let mut others = JoinSet::new();
            // It goes on for ever, and reads nothing of what it is told.
            others.spawn(async move {
                let mut far = far;
                let frame = [0, 0, 0, 1, 9];
                while far.write_all(&frame).await.is_ok() {
                    sleep(SECOND / 10).await;
                }
            });
            let mut frames = Frames::new(read, 64);
            let heard = next_while_written(&mut frames, &mut writing, SECOND, SECOND).await;
            assert!(matches!(heard, Some(Ok(_))));
            drop(writer);
            let start = Instant::now();
            while next_while_written(&mut frames, &mut writing, SECOND, SECOND)
                .await
                .is_some()
            {}
            assert!(start.elapsed() <= SECOND * 2, "{:?}", start.elapsed());
        });
    }

    #[test]
    fn no_pause_between_tries_is_longer_than_asked() {
        let most = Duration::from_millis(250);
        for seed in 0..50 {
            let delays: Vec<_> = delays(seed, most).take(20).collect();
            assert!(delays.iter().all(|delay| *delay <= most), "{delays:?}");
            assert!(delays[19] >= most / 2 && delays[0] < most / 4, "{delays:?}");
        }
    }
}
