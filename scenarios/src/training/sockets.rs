//! TCP sockets that can be cut: shut down at the system's level, under the feet of whoever uses
//! them. Both sides hear of it at once, as when a process dies or a firewall resets connections;
//! the silence of a broken cable is what a stopped process gives.

use std::collections::BTreeMap;
use std::io;
use std::net::{Shutdown, SocketAddr};
use std::os::fd::AsFd;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use selvedge_core::ddp::net::{Network, TcpSockets};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};

use super::chaos::Cut;

/// The sockets of a process, and a handle on those that are open.
///
/// ```
/// use selvedge_scenarios::training::chaos::Cut;
/// use selvedge_scenarios::training::sockets::CuttableSockets;
///
/// let sockets = CuttableSockets::new("127.0.0.1:29500".parse()?);
/// assert_eq!(sockets.cut(Cut::All), 0, "none is open yet");
/// # Ok::<(), std::net::AddrParseError>(())
/// ```
#[derive(Clone, Debug)]
pub struct CuttableSockets {
    coordinator: SocketAddr,
    open: Arc<Mutex<Open>>,
}

#[derive(Debug, Default)]
struct Open {
    next: u64,
    /// A second handle of each socket, and whether it leads to the coordinator.
    sockets: BTreeMap<u64, (std::net::TcpStream, bool)>,
}

impl CuttableSockets {
    /// Sockets of a rank whose coordinator is there.
    #[must_use]
    pub fn new(coordinator: SocketAddr) -> Self {
        CuttableSockets {
            coordinator,
            open: Arc::default(),
        }
    }

    /// Shuts sockets down, and says how many.
    pub fn cut(&self, which: Cut) -> usize {
        let open = lock(&self.open);
        let chosen = open
            .sockets
            .values()
            .filter(|(_, to_coordinator)| match which {
                Cut::Coordinator => *to_coordinator,
                Cut::Peers => !to_coordinator,
                Cut::All => true,
            });
        // One that the other side has shut down already is as good as cut.
        chosen
            .filter(|(socket, _)| socket.shutdown(Shutdown::Both).is_ok())
            .count()
    }

    fn keep(&self, stream: TcpStream, to_coordinator: bool) -> io::Result<CuttableStream> {
        let handle = stream.as_fd().try_clone_to_owned()?;
        let mut open = lock(&self.open);
        let id = open.next;
        open.next += 1;
        open.sockets.insert(id, (handle.into(), to_coordinator));
        Ok(CuttableStream {
            stream,
            id,
            open: Arc::clone(&self.open),
        })
    }
}

fn lock(open: &Mutex<Open>) -> MutexGuard<'_, Open> {
    open.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Network for CuttableSockets {
    type Stream = CuttableStream;
    type Listener = TcpListener;

    async fn connect(&self, to: SocketAddr) -> io::Result<CuttableStream> {
        let stream = TcpSockets.connect(to).await?;
        self.keep(stream, to == self.coordinator)
    }

    async fn bind(&self, to: SocketAddr) -> io::Result<TcpListener> {
        TcpSockets.bind(to).await
    }

    async fn accept(&self, at: &TcpListener) -> io::Result<(CuttableStream, SocketAddr)> {
        let (stream, from) = TcpSockets.accept(at).await?;
        Ok((self.keep(stream, false)?, from))
    }

    fn local_addr(&self, of: &TcpListener) -> io::Result<SocketAddr> {
        of.local_addr()
    }
}

/// A connection that can be cut.
#[derive(Debug)]
pub struct CuttableStream {
    stream: TcpStream,
    id: u64,
    open: Arc<Mutex<Open>>,
}

impl Drop for CuttableStream {
    fn drop(&mut self) {
        // The second handle would keep the socket open.
        lock(&self.open).sockets.remove(&self.id);
    }
}

impl AsyncRead for CuttableStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for CuttableStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    #[test]
    fn a_cut_socket_is_dead_on_both_sides_and_others_live() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        runtime.unwrap().block_on(async {
            let local = SocketAddr::from(([127, 0, 0, 1], 0));
            let (coordinator, peer) = (TcpSockets, TcpSockets);
            let coordinator_at = coordinator.bind(local).await.unwrap();
            let peer_at = peer.bind(local).await.unwrap();
            let sockets = CuttableSockets::new(coordinator_at.local_addr().unwrap());
            let mut up = sockets
                .connect(coordinator_at.local_addr().unwrap())
                .await
                .unwrap();
            let mut across = sockets
                .connect(peer_at.local_addr().unwrap())
                .await
                .unwrap();
            let (mut up_end, _) = coordinator.accept(&coordinator_at).await.unwrap();
            let (mut across_end, _) = peer.accept(&peer_at).await.unwrap();

            assert_eq!(sockets.cut(Cut::Peers), 1);
            assert!(across.write_all(b"x").await.is_err());
            assert_eq!(across_end.read(&mut [0]).await.unwrap(), 0);
            up.write_all(b"x").await.unwrap();
            assert_eq!(up_end.read(&mut [0]).await.unwrap(), 1);

            drop(across);
            assert_eq!(sockets.cut(Cut::All), 1, "who is gone is not counted");
            assert_eq!(up.read(&mut [0]).await.unwrap(), 0);
        });
    }
}
