//! [`Clients`]: whose events go to which client. Plain state: it is handed the events of a step
//! and says whom to cancel; it takes no lock and waits for nobody.
//!
//! A client is never waited for. One that has no room for a token has lost it, so its stream is
//! cut there: it gets no further token, its request is cancelled, and its end says
//! [`CancelReason::SlowClient`], whatever else happens to the request meanwhile. The place of the
//! end is kept free from the beginning.

use std::collections::BTreeMap;

use super::action::{CancelReason, End, Ended, Event};
use super::error::{Closed, DeathCause, FailReason};
use crate::RequestId;

/// A token, as its client gets it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Token {
    /// The token.
    pub token: u32,
    /// Its place among those generated, counted from 0. In a stream there is no gap.
    pub index: u32,
}

/// How a stream ended: every stream of an accepted request ends by exactly one.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct StreamEnd {
    /// How the request ended.
    pub end: End,
    /// Tokens of its prompt.
    pub prompt: u32,
    /// Tokens it has generated.
    pub generated: u32,
    /// Tokens that went into the stream: the first so many. Fewer than were generated only if
    /// the client was too slow or is gone.
    pub delivered: u32,
    /// Tokens of its prompt that its agent's cache has spared it, when it started last.
    pub reused: u32,
    /// Tokens that its agent has cached now.
    pub cached: u32,
}

/// What comes out of a stream.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum StreamItem {
    /// The next token.
    Token(Token),
    /// The end: nothing comes after it.
    End(StreamEnd),
}

/// Why a sink did not take a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Refused {
    /// There is no room: the client is too slow.
    Full,
    /// Nobody listens any more.
    Closed,
}

/// Where a client's tokens go in.
///
/// **Neither call may block, panic, or call the engine.**
pub trait TokenSink: Send + 'static {
    /// Passes a token on.
    ///
    /// # Errors
    /// Each of [`Refused`]; the token is lost then.
    fn try_send(&mut self, token: Token) -> Result<(), Refused>;

    /// Ends the stream. There is always room for the end, however full the sink is.
    fn end(self, end: StreamEnd);
}

/// A client of a request that was accepted.
#[derive(Debug)]
pub struct NewClient<S> {
    /// Its request.
    pub request: RequestId,
    /// Tokens of the prompt, for the end of a request that the engine itself cannot tell of.
    pub prompt: u32,
    /// Where its tokens go.
    pub sink: S,
}

/// Whom to cancel, and why.
pub type Cancellations = Vec<(RequestId, CancelReason)>;

/// The clients of an engine, by request.
///
/// **Whoever steps the engine hands over, after each step, who came since, and the step's
/// events; then cancels whom it is told to.**
///
/// ```
/// use selvedge_core::RequestId;
/// use selvedge_core::engine::{
///     CancelReason, Clients, Event, NewClient, Refused, StreamEnd, Token, TokenSink,
/// };
///
/// /// A client that has no room at all.
/// struct Full;
/// impl TokenSink for Full {
///     fn try_send(&mut self, _: Token) -> Result<(), Refused> {
///         Err(Refused::Full)
///     }
///     fn end(self, _: StreamEnd) {}
/// }
///
/// let (request, mut clients) = (RequestId(1), Clients::new());
/// let came = vec![NewClient { request, prompt: 5, sink: Full }];
/// let token = Event::Token { request, token: 7, index: 0 };
/// let cancel = clients.deliver(came, vec![token], false);
/// assert_eq!(cancel, [(request, CancelReason::SlowClient)]);
/// ```
#[derive(Debug)]
pub struct Clients<S> {
    known: BTreeMap<RequestId, Client<S>>,
    /// Events of requests whose clients are still on their way here.
    early: BTreeMap<RequestId, Vec<Event>>,
}

impl<S: TokenSink> Clients<S> {
    /// Nobody yet.
    #[must_use]
    pub fn new() -> Self {
        Clients {
            known: BTreeMap::new(),
            early: BTreeMap::new(),
        }
    }

    /// Takes in who came, passes each event on to its client, and returns whom to cancel.
    ///
    /// A request is accepted a moment before its client is known here. So while any client is
    /// `expected`, the events of unknown requests are kept for it. Otherwise they are nobody's.
    #[must_use]
    pub fn deliver(
        &mut self,
        came: Vec<NewClient<S>>,
        events: Vec<Event>,
        expected: bool,
    ) -> Cancellations {
        let mut cancel = Vec::new();
        for client in came {
            let request = client.request;
            self.known.insert(request, Client::new(client));
            for event in self.early.remove(&request).unwrap_or_default() {
                self.pass_on(request, event, &mut cancel);
            }
        }
        for event in events {
            let Some(request) = concerns(&event) else {
                continue;
            };
            if self.known.contains_key(&request) {
                self.pass_on(request, event, &mut cancel);
            } else if expected {
                self.early.entry(request).or_default().push(event);
            }
        }
        if !expected {
            self.early.clear();
        }
        cancel
    }

    fn pass_on(&mut self, request: RequestId, event: Event, cancel: &mut Cancellations) {
        let Some(client) = self.known.get_mut(&request) else {
            return;
        };
        match event {
            Event::Started { reused, .. } => client.reused = reused,
            Event::Token { token, index, .. } => {
                let refused = client.pass_on(Token { token, index });
                cancel.extend(refused.map(|reason| (request, reason)));
            }
            Event::Ended(ended) => {
                if let Some(client) = self.known.remove(&request) {
                    client.end(ended);
                }
            }
            _ => {}
        }
    }

    /// The events that are kept for clients on their way here.
    #[must_use]
    pub fn take_early(&mut self) -> BTreeMap<RequestId, Vec<Event>> {
        core::mem::take(&mut self.early)
    }

    /// Ends every stream, because the engine tells of nothing any more.
    pub fn close(&mut self, closed: &Closed) {
        for client in core::mem::take(&mut self.known).into_values() {
            client.cut_off(closed);
        }
    }

    /// Gives one client that comes after the end what there was for it, and ends its stream.
    pub fn settle(client: NewClient<S>, early: Vec<Event>, closed: &Closed) {
        let request = client.request;
        let mut alone = Clients::new();
        alone.early.insert(request, early);
        // There is nothing left to cancel.
        let _ = alone.deliver(vec![client], Vec::new(), false);
        alone.close(closed);
    }

    /// How many streams are open.
    #[must_use]
    pub fn len(&self) -> usize {
        self.known.len()
    }

    /// Whether no stream is open.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.known.is_empty()
    }
}

impl<S: TokenSink> Default for Clients<S> {
    fn default() -> Self {
        Self::new()
    }
}

#[derive(Debug)]
struct Client<S> {
    sink: S,
    prompt: u32,
    reused: u32,
    generated: u32,
    delivered: u32,
    /// Why it gets no more tokens.
    cut: Option<CancelReason>,
}

impl<S: TokenSink> Client<S> {
    fn new(new: NewClient<S>) -> Self {
        Client {
            sink: new.sink,
            prompt: new.prompt,
            reused: 0,
            generated: 0,
            delivered: 0,
            cut: None,
        }
    }

    /// Returns why it was cut, if it is now.
    fn pass_on(&mut self, token: Token) -> Option<CancelReason> {
        self.generated += 1;
        if self.cut.is_some() {
            return None;
        }
        self.cut = match self.sink.try_send(token) {
            Ok(()) => {
                self.delivered += 1;
                None
            }
            Err(Refused::Full) => Some(CancelReason::SlowClient),
            Err(Refused::Closed) => Some(CancelReason::ClientGone),
        };
        self.cut
    }

    fn end(self, ended: Ended) {
        // A stream that lacks a token must not look complete, whatever became of the request.
        let end = self.cut.map_or(ended.end, End::Cancelled);
        self.sink.end(StreamEnd {
            end,
            prompt: ended.prompt,
            generated: ended.generated,
            delivered: self.delivered,
            reused: self.reused,
            cached: ended.cached,
        });
    }

    fn cut_off(self, closed: &Closed) {
        let end = self.cut.map_or_else(|| end_by(closed), End::Cancelled);
        self.sink.end(StreamEnd {
            end,
            prompt: self.prompt,
            generated: self.generated,
            delivered: self.delivered,
            reused: self.reused,
            cached: 0,
        });
    }
}

/// How a request ends whose engine is closed before it told the end.
pub(super) fn end_by(closed: &Closed) -> End {
    match closed {
        Closed::EngineDead(cause) => End::Failed(FailReason::EngineDead(cause.clone())),
        _ => End::Cancelled(CancelReason::ShutDown),
    }
}

/// How a stream ends whose other end vanished without a word: there is nobody to ask.
pub(super) fn orphaned() -> StreamEnd {
    let cause = DeathCause::DriverGone {
        message: "the stream's other end was dropped".to_owned(),
    };
    StreamEnd {
        end: end_by(&Closed::EngineDead(cause)),
        prompt: 0,
        generated: 0,
        delivered: 0,
        reused: 0,
        cached: 0,
    }
}

fn concerns(event: &Event) -> Option<RequestId> {
    match event {
        Event::Started { request, .. }
        | Event::Token { request, .. }
        | Event::Preempted { request } => Some(*request),
        Event::Ended(ended) => Some(ended.request),
        Event::Fault(_) | Event::Drained | Event::DrainTimedOut { .. } | Event::Died(_) => None,
    }
}
