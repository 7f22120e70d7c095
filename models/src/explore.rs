//! stateright's Explorer: a model's states in the browser.

use std::fmt::Debug;
use std::hash::Hash;
use std::io;
use std::net::{TcpListener, ToSocketAddrs};
use std::panic::{self, AssertUnwindSafe};

use stateright::Model;

/// Serves a model at `address` until the process ends. Where it returns, it could not begin.
///
/// The Explorer's own server ends with a panic when a browser leaves in the middle of an answer;
/// it is started again then.
///
/// ```
/// use selvedge_models::{explore, ticket};
///
/// let model = ticket::TicketModel {
///     boundary: ticket::Boundary::Nothing,
///     batches: vec![1, 2],
///     epochs: 2,
/// };
/// let taken = std::net::TcpListener::bind("127.0.0.1:0")?;
/// let error = explore::serve(&model, &taken.local_addr()?.to_string());
/// assert_eq!(error.kind(), std::io::ErrorKind::AddrInUse);
/// # Ok::<(), std::io::Error>(())
/// ```
#[must_use = "it returns only what went wrong"]
pub fn serve<M>(model: &M, address: &str) -> io::Error
where
    M: Model<
            State: Clone + Debug + Hash + PartialEq + Send + Sync,
            Action: Clone + Debug + PartialEq + Send + Sync,
        > + Clone
        + Send
        + Sync
        + 'static,
{
    loop {
        // Told by us in words: of what it cannot bind to, the Explorer makes a panic.
        if let Err(error) = free(address) {
            return error;
        }
        let served = panic::catch_unwind(AssertUnwindSafe(|| {
            let _ = model.clone().checker().serve(address);
        }));
        if served.is_ok() {
            return io::Error::other("the Explorer has ended");
        }
    }
}

/// Whether the address can be bound to, and says nothing else now.
///
/// # Errors
/// Why it cannot.
pub fn free(address: &str) -> io::Result<()> {
    let addresses: Vec<_> = address.to_socket_addrs()?.collect();
    TcpListener::bind(&addresses[..]).map(drop)
}
