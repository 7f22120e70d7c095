//! [`Network`]: where sockets come from. The one thing in which a real network and a simulated
//! one differ, as far as the drivers see.

use core::future::Future;
use std::io;
use std::net::SocketAddr;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};

/// A kind of stream sockets, such as TCP's.
pub trait Network: Clone + Send + Sync + 'static {
    /// A connection.
    type Stream: AsyncRead + AsyncWrite + Send + Unpin + 'static;
    /// A place where connections are accepted.
    type Listener: Send + Sync + 'static;

    /// Opens a connection.
    fn connect(&self, to: SocketAddr) -> impl Future<Output = io::Result<Self::Stream>> + Send;

    /// Opens a place to accept connections; port 0 is any that is free.
    fn bind(&self, to: SocketAddr) -> impl Future<Output = io::Result<Self::Listener>> + Send;

    /// Waits for a connection. Dropping the future loses none.
    fn accept(
        &self,
        at: &Self::Listener,
    ) -> impl Future<Output = io::Result<(Self::Stream, SocketAddr)>> + Send;

    /// Where a listener accepts.
    ///
    /// # Errors
    /// The system's.
    fn local_addr(&self, of: &Self::Listener) -> io::Result<SocketAddr>;
}

/// The sockets of the machine.
#[derive(Clone, Copy, Debug, Default)]
pub struct TcpSockets;

impl Network for TcpSockets {
    type Stream = TcpStream;
    type Listener = TcpListener;

    async fn connect(&self, to: SocketAddr) -> io::Result<TcpStream> {
        let stream = TcpStream::connect(to).await?;
        // A frame is answered before the next is sent: waiting to fill a packet only delays it.
        stream.set_nodelay(true)?;
        Ok(stream)
    }

    async fn bind(&self, to: SocketAddr) -> io::Result<TcpListener> {
        TcpListener::bind(to).await
    }

    async fn accept(&self, at: &TcpListener) -> io::Result<(TcpStream, SocketAddr)> {
        let (stream, from) = at.accept().await?;
        stream.set_nodelay(true)?;
        Ok((stream, from))
    }

    fn local_addr(&self, of: &TcpListener) -> io::Result<SocketAddr> {
        of.local_addr()
    }
}
