//! Token streams over the platform's locks: a bounded channel whose sender never waits and whose
//! receiver learns the end even if the channel is full.

use core::fmt;
use core::num::NonZeroU32;
use core::time::Duration;
use std::collections::VecDeque;

use super::clients::{Refused, StreamEnd, StreamItem, Token, TokenSink, orphaned};
use crate::platform::{Condvar, Mutex, Platform, Shared, Std};

/// A channel for one stream, with room for `capacity` tokens and, beside them, the end.
///
/// ```
/// use std::num::NonZeroU32;
///
/// use selvedge_core::engine::{Refused, StreamItem, Token, TokenReceiver, TokenSink, token_channel};
///
/// let (mut sink, mut stream) = token_channel::<selvedge_core::Std>(NonZeroU32::MIN);
/// assert_eq!(sink.try_send(Token { token: 7, index: 0 }), Ok(()));
/// assert_eq!(sink.try_send(Token { token: 8, index: 1 }), Err(Refused::Full));
/// assert_eq!(stream.recv(), StreamItem::Token(Token { token: 7, index: 0 }));
/// drop(stream);
/// assert_eq!(sink.try_send(Token { token: 8, index: 1 }), Err(Refused::Closed));
/// ```
#[must_use]
pub fn token_channel<P: Platform>(capacity: NonZeroU32) -> (ChannelSink<P>, TokenReceiver<P>) {
    let pipe = P::Arc::new(Pipe {
        flow: P::Mutex::new(Flow {
            tokens: VecDeque::new(),
            capacity: usize::try_from(capacity.get()).unwrap_or(usize::MAX),
            end: None,
            closed: false,
            waiting: false,
        }),
        changed: P::Condvar::new(),
    });
    (ChannelSink(pipe.clone()), TokenReceiver(pipe))
}

/// The engine's end of a stream.
pub struct ChannelSink<P: Platform = Std>(P::Arc<Pipe<P>>);

/// The client's end of a stream. Dropping it tells the sink that nobody listens.
pub struct TokenReceiver<P: Platform = Std>(P::Arc<Pipe<P>>);

struct Pipe<P: Platform> {
    flow: P::Mutex<Flow>,
    changed: P::Condvar,
}

struct Flow {
    tokens: VecDeque<Token>,
    capacity: usize,
    end: Option<StreamEnd>,
    /// The receiver is gone.
    closed: bool,
    /// The receiver waits.
    waiting: bool,
}

impl Flow {
    fn next(&mut self) -> Option<StreamItem> {
        let token = self.tokens.pop_front().map(StreamItem::Token);
        token.or_else(|| self.end.clone().map(StreamItem::End))
    }
}

impl<P: Platform> Pipe<P> {
    fn put<T>(&self, put: impl FnOnce(&mut Flow) -> T) -> T {
        let mut flow = self.flow.lock();
        let done = put(&mut flow);
        let waiting = flow.waiting;
        drop(flow);
        if waiting {
            self.changed.notify_one();
        }
        done
    }
}

impl<P: Platform> TokenSink for ChannelSink<P> {
    fn try_send(&mut self, token: Token) -> Result<(), Refused> {
        self.0.put(|flow| {
            if flow.closed {
                return Err(Refused::Closed);
            }
            if flow.tokens.len() >= flow.capacity {
                return Err(Refused::Full);
            }
            flow.tokens.push_back(token);
            Ok(())
        })
    }

    fn end(self, end: StreamEnd) {
        self.0.put(|flow| flow.end = Some(end));
    }
}

impl<P: Platform> Drop for ChannelSink<P> {
    fn drop(&mut self) {
        // Nobody hangs on a stream that nobody will end. (After `end` this changes nothing.)
        self.0.put(|flow| _ = flow.end.get_or_insert_with(orphaned));
    }
}

impl<P: Platform> TokenReceiver<P> {
    /// The next item; waits for it. After the end it is the end again.
    #[must_use]
    pub fn recv(&mut self) -> StreamItem {
        let mut flow = self.0.flow.lock();
        loop {
            if let Some(item) = flow.next() {
                return item;
            }
            flow.waiting = true;
            flow = self.0.changed.wait(flow);
            flow.waiting = false;
        }
    }

    /// The next item, if it comes within `at_most`.
    #[must_use]
    pub fn recv_timeout(&mut self, at_most: Duration) -> Option<StreamItem> {
        let mut flow = self.0.flow.lock();
        let mut timed_out = false;
        loop {
            let item = flow.next();
            if item.is_some() || timed_out {
                return item;
            }
            flow.waiting = true;
            (flow, timed_out) = self.0.changed.wait_timeout(flow, at_most);
            flow.waiting = false;
        }
    }

    /// The next item, if it is there already.
    #[must_use]
    pub fn try_recv(&mut self) -> Option<StreamItem> {
        self.0.flow.lock().next()
    }

    /// How many tokens are in the channel.
    #[must_use]
    pub fn buffered(&self) -> usize {
        self.0.flow.lock().tokens.len()
    }

    /// Closes the stream; whether its end had not come yet.
    pub(super) fn close(&self) -> bool {
        let mut flow = self.0.flow.lock();
        flow.closed = true;
        flow.end.is_none()
    }
}

impl<P: Platform> Drop for TokenReceiver<P> {
    fn drop(&mut self) {
        self.close();
    }
}

impl<P: Platform> fmt::Debug for ChannelSink<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChannelSink").finish_non_exhaustive()
    }
}

impl<P: Platform> fmt::Debug for TokenReceiver<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenReceiver").finish_non_exhaustive()
    }
}
