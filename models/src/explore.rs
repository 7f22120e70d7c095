//! stateright's Explorer: a model's states in the browser.

use std::io;
use std::net::{TcpListener, ToSocketAddrs};
use std::panic::{self, AssertUnwindSafe};
use std::time::{Duration, Instant};

use crate::checker::{Searchable, said};

/// A server that ends sooner was ended by the model's own code. A browser that is loaded again and
/// again by somebody's finger is slower.
const AT_ONCE: Duration = Duration::from_millis(200);
/// It is given up after so many of them in a row.
const MOST_AT_ONCE: u32 = 20;

/// Serves a model at `address` until the process ends. Where it returns, it could not begin.
///
/// The Explorer's own server ends with a panic when a browser leaves in the middle of an answer;
/// it is started again then, but not for ever where the model's own code panics.
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
pub fn serve<M: Searchable>(model: &M, address: &str) -> io::Error {
    let mut at_once = 0;
    loop {
        // Told by us in words: of what it cannot bind to, the Explorer makes a panic.
        if let Err(error) = free(address) {
            return error;
        }
        let began = Instant::now();
        let served = panic::catch_unwind(AssertUnwindSafe(|| {
            let _ = model.clone().checker().serve(address);
        }));
        let Err(payload) = served else {
            return io::Error::other("the Explorer has ended");
        };
        match began.elapsed() < AT_ONCE {
            true => at_once += 1,
            false => at_once = 0,
        }
        if at_once == MOST_AT_ONCE {
            return io::Error::other(format!(
                "the Explorer panicked {at_once} times in a row as soon as it was started: {}",
                said(&*payload)
            ));
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

#[cfg(test)]
mod tests {
    use stateright::{Model, Property};

    use super::*;

    #[derive(Clone)]
    struct Panics;

    impl Model for Panics {
        type State = u8;
        type Action = u8;

        fn init_states(&self) -> Vec<u8> {
            panic!("there is no beginning");
        }

        fn actions(&self, _: &u8, _: &mut Vec<u8>) {}

        fn next_state(&self, _: &u8, _: u8) -> Option<u8> {
            None
        }

        fn properties(&self) -> Vec<Property<Self>> {
            Vec::new()
        }
    }

    #[test]
    fn a_model_that_panics_at_once_is_not_started_for_ever() {
        let error = serve(&Panics, "127.0.0.1:0").to_string();
        assert!(error.contains("20 times in a row"), "{error}");
        assert!(error.ends_with("there is no beginning"), "{error}");
    }
}
