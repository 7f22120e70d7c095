//! [`Desk`]: what every front end shares, be it of threads or of tasks: how a client gets to the
//! step loop together with its request, what the loop does after each step, and how everything
//! ends. A front end adds how one waits.
//!
//! **The loop owns the [`Clients`]; a mailbox is all it shares with others.** So each stream is
//! filled with no lock held but its own, and whoever submits waits for no step.
//!
//! A request is accepted under the engine's lock and its client put into the mailbox a moment
//! later, so the loop may see its events first. Whoever submits says so in the mailbox *before*,
//! and the loop keeps what it cannot place as long as anybody is expected.

use core::mem;
use std::collections::BTreeMap;

use super::action::{CancelReason, Event, Wake};
use super::clients::{Cancellations, Clients, NewClient, TokenSink};
use super::error::{CancelError, Closed, DeathCause, DrainError, StepError, SubmitError};
use super::generator::Generator;
use super::shell::{BatchEngine, NewRequest};
use crate::RequestId;
use crate::platform::{Mutex, Platform};
use crate::time::{Clock, Instant};

/// How a drain ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DrainEnd {
    /// Every request had ended by the deadline. No more are accepted.
    Drained,
    /// The deadline came first. Requests are accepted again.
    TimedOut {
        /// Requests that had not ended.
        left: u32,
    },
}

/// A front end's channels.
pub(super) trait Channels: Send + Sync + 'static {
    /// Of tokens, to a client.
    type Sink: TokenSink;
    /// Of a drain's end, to who asked for it.
    type Reply: Reply;
    /// To the step loop, that there is something to do.
    type Bell: Bell;
}

/// Where one answer goes. Must not block.
pub(super) trait Reply: Send + 'static {
    fn send(self, answer: Result<DrainEnd, Closed>);
}

/// Wakes the step loop, or keeps it from falling asleep the next time.
pub(super) trait Bell: Send + Sync + 'static {
    fn ring(&self);
}

pub(super) struct Desk<G: Generator, P: Platform, C: Channels> {
    pub(super) engine: BatchEngine<G, P>,
    pub(super) bell: C::Bell,
    clock: Box<dyn Clock>,
    mailbox: P::Mutex<Mailbox<C>>,
}

struct Mailbox<C: Channels> {
    /// Calls of `submit` whose client may still come.
    expected: u32,
    came: Vec<NewClient<C::Sink>>,
    gate: Gate<C::Reply>,
    /// `None` while somebody runs the loop.
    clients: Option<Clients<C::Sink>>,
    /// Set once the loop is over.
    closed: Option<Closed>,
    /// What clients that come after that are still to get.
    early: BTreeMap<RequestId, Vec<Event>>,
}

/// Who may drain or resume: one at a time, so that a drain's end finds the one who asked.
enum Gate<R> {
    Free,
    Resuming,
    Draining { deadline: Instant, reply: R },
}

impl<R> Gate<R> {
    fn check(&self) -> Result<(), DrainError> {
        match self {
            Gate::Free => Ok(()),
            Gate::Resuming => Err(DrainError::Resuming),
            &Gate::Draining { deadline, .. } => Err(DrainError::Draining { deadline }),
        }
    }

    /// The reply, if one is due; the gate is free then.
    fn open(&mut self) -> Option<R> {
        match mem::replace(self, Gate::Free) {
            Gate::Draining { reply, .. } => Some(reply),
            other => {
                *self = other;
                None
            }
        }
    }
}

impl<G: Generator, P: Platform, C: Channels> Desk<G, P, C> {
    pub(super) fn new(engine: BatchEngine<G, P>, bell: C::Bell, clock: Box<dyn Clock>) -> Self {
        Desk {
            engine,
            bell,
            clock,
            mailbox: P::Mutex::new(Mailbox {
                expected: 0,
                came: Vec::new(),
                gate: Gate::Free,
                clients: Some(Clients::new()),
                closed: None,
                early: BTreeMap::new(),
            }),
        }
    }

    pub(super) fn now(&self) -> Instant {
        self.clock.now()
    }

    pub(super) fn submit(
        &self,
        request: NewRequest,
        sink: C::Sink,
    ) -> Result<RequestId, SubmitError> {
        let prompt = u32::try_from(request.prompt.len()).unwrap_or(u32::MAX);
        let now = self.now();
        self.mailbox.lock().expected += 1;
        let accepted = self.engine.submit(request, now);
        let mut mailbox = self.mailbox.lock();
        mailbox.expected -= 1;
        let request = match accepted {
            Ok(request) => request,
            Err(refused) => {
                drop(mailbox);
                return Err(refused);
            }
        };
        let client = NewClient {
            request,
            prompt,
            sink,
        };
        if let Some(closed) = mailbox.closed.clone() {
            let early = mailbox.early.remove(&request).unwrap_or_default();
            drop(mailbox);
            Clients::settle(client, early, &closed);
        } else {
            mailbox.came.push(client);
            drop(mailbox);
            self.bell.ring();
        }
        Ok(request)
    }

    pub(super) fn cancel(
        &self,
        request: RequestId,
        reason: CancelReason,
    ) -> Result<(), CancelError> {
        self.engine.cancel(request, reason, self.now())?;
        self.bell.ring();
        Ok(())
    }

    /// Begins a drain, whose end goes to `reply`.
    pub(super) fn drain(&self, deadline: Instant, reply: C::Reply) -> Result<(), DrainError> {
        let now = self.now();
        let mut mailbox = self.mailbox.lock();
        mailbox.gate.check()?;
        mailbox.gate = Gate::Draining { deadline, reply };
        drop(mailbox);
        if let Err(refused) = self.engine.drain(deadline, now) {
            // No event will come of it.
            drop(self.mailbox.lock().gate.open());
            return Err(refused);
        }
        self.bell.ring();
        Ok(())
    }

    /// Accepts requests again. Not while a drain is under way: its end would go astray.
    pub(super) fn resume(&self) -> Result<(), DrainError> {
        let mut mailbox = self.mailbox.lock();
        mailbox.gate.check()?;
        mailbox.gate = Gate::Resuming;
        drop(mailbox);
        let resumed = self.engine.resume();
        self.mailbox.lock().gate = Gate::Free;
        Ok(resumed?)
    }

    pub(super) fn shut_down(&self) {
        self.engine.begin_shutdown(self.now());
        self.bell.ring();
    }
}

/// What the loop does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    Step,
    /// Wait for the bell.
    Wait,
    /// Wait for the bell, at most until then.
    WaitUntil(Instant),
    Over,
}

/// A loop at work. However it ends, every stream is ended with it: if it is dropped before
/// [`Self::after`] has said [`Next::Over`], the engine dies of it.
pub(super) struct Run<G: Generator, P: Platform, C: Channels> {
    desk: P::Arc<Desk<G, P, C>>,
    clients: Clients<C::Sink>,
    closed: Option<Closed>,
}

impl<G: Generator, P: Platform, C: Channels> Run<G, P, C> {
    /// `None` if somebody runs the loop, or it is over.
    pub(super) fn begin(desk: &P::Arc<Desk<G, P, C>>) -> Option<Self> {
        let clients = desk.mailbox.lock().clients.take()?;
        Some(Run {
            desk: desk.clone(),
            clients,
            closed: None,
        })
    }

    /// Passes on what came of a step.
    pub(super) fn after(&mut self, stepped: Result<Vec<Event>, StepError>) -> Next {
        let events = match stepped {
            Ok(events) => events,
            Err(StepError::Busy) => return Next::Step,
            Err(StepError::EngineDead(cause)) => {
                self.closed = Some(Closed::EngineDead(cause));
                return Next::Over;
            }
        };
        let cancel = self.deliver(events);
        if !cancel.is_empty() {
            let now = self.desk.now();
            for (request, reason) in cancel {
                // One that has ended by now needs no cancelling.
                let _ = self.desk.engine.cancel(request, reason, now);
            }
        }
        // In this order: who is shut down stays so, and then nothing to do means that all is given
        // up. The other way round, a shutdown between the two would be taken for done.
        let closed = self.desk.engine.closed();
        match self.desk.engine.wake() {
            Wake::Now => Next::Step,
            Wake::At(at) => Next::WaitUntil(at),
            Wake::OnCall if closed == Some(Closed::ShutDown) => {
                self.closed = Some(Closed::ShutDown);
                Next::Over
            }
            Wake::OnCall => Next::Wait,
        }
    }

    fn deliver(&mut self, events: Vec<Event>) -> Cancellations {
        let mut mailbox = self.desk.mailbox.lock();
        let came = mem::take(&mut mailbox.came);
        let expected = mailbox.expected > 0;
        drop(mailbox);
        let drains: Vec<DrainEnd> = events.iter().filter_map(end_of_drain).collect();
        let cancel = self.clients.deliver(came, events, expected);
        // Who drains is told last: then every stream has its end.
        for end in drains {
            let mut mailbox = self.desk.mailbox.lock();
            let reply = mailbox.gate.open();
            drop(mailbox);
            if let Some(reply) = reply {
                reply.send(Ok(end));
            }
        }
        cancel
    }

    /// Ends every stream, those of clients on their way included. Returns what it all ended of.
    pub(super) fn close(mut self) -> Closed {
        self.end()
    }

    fn end(&mut self) -> Closed {
        if let Some(closed) = &self.desk.mailbox.lock().closed {
            return closed.clone();
        }
        let closed = self.closed.clone().unwrap_or_else(|| self.die());
        let mut early = self.clients.take_early();
        let mut mailbox = self.desk.mailbox.lock();
        let came: Vec<_> = (mem::take(&mut mailbox.came).into_iter())
            .map(|client| {
                let events = early.remove(&client.request).unwrap_or_default();
                (client, events)
            })
            .collect();
        // In the same locked section: who comes later finds either both or neither.
        mailbox.closed = Some(closed.clone());
        mailbox.early = early;
        let reply = mailbox.gate.open();
        drop(mailbox);
        for (client, events) in came {
            Clients::settle(client, events, &closed);
        }
        self.clients.close(&closed);
        if let Some(reply) = reply {
            reply.send(Err(closed.clone()));
        }
        closed
    }

    /// The loop was left half-way: by a panic, or because its task was dropped.
    fn die(&mut self) -> Closed {
        let cause = match self.desk.engine.closed() {
            Some(Closed::EngineDead(cause)) => cause,
            _ => DeathCause::DriverGone {
                message: "the step loop was left half-way".to_owned(),
            },
        };
        let events = self.desk.engine.abandon(cause.clone());
        let _ = self.deliver(events);
        Closed::EngineDead(cause)
    }
}

impl<G: Generator, P: Platform, C: Channels> Drop for Run<G, P, C> {
    fn drop(&mut self) {
        self.end();
    }
}

fn end_of_drain(event: &Event) -> Option<DrainEnd> {
    match *event {
        Event::Drained => Some(DrainEnd::Drained),
        Event::DrainTimedOut { left } => Some(DrainEnd::TimedOut { left }),
        _ => None,
    }
}
