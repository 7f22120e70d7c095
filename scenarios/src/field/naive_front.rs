//! The servers that the front end's bugs were reported of, reduced to what makes the bug: a step
//! loop that sends each token straight into its client's channel. They differ in one place each,
//! which the [`Bug`] names.

use core::marker::PhantomData;
use std::collections::VecDeque;
use std::mem;

use selvedge_core::platform::{Condvar, Mutex, Platform, Shared};

use super::front::{Front, Got, Setup};

/// What a server does wrong.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Bug {
    /// A token for a client that is gone is a panic of the loop.
    UnwrapsSend,
    /// A token for a client whose channel is full is waited with, in the loop.
    WaitsForRoom,
    /// When the loop's thread panics, nobody is told.
    DiesSilently,
    /// A request's block goes into a channel, to be put back by the next turn.
    ReturnsByChannel,
}

/// A server's bug, as a type.
pub(super) trait Has: Send + Sync + 'static {
    const BUG: Bug;
}

/// A server with one bug.
pub(super) struct Naive<P: Platform, B> {
    batch: P::Mutex<Batch<P>>,
    setup: Setup,
    bug: PhantomData<B>,
}

struct Batch<P: Platform> {
    live: Vec<Request<P>>,
    used: u32,
    /// Blocks on their way back.
    returned: u32,
}

struct Request<P: Platform> {
    client: Sender<P>,
    /// Steps until its first token.
    prompt: u32,
    left: u32,
}

impl<P: Platform, B: Has> Front for Naive<P, B> {
    type Stream = Receiver<P>;

    fn new(setup: Setup) -> Self {
        Naive {
            batch: P::Mutex::new(Batch {
                live: Vec::new(),
                used: 0,
                returned: 0,
            }),
            setup,
            bug: PhantomData,
        }
    }

    fn submit(&self, _who: usize, prompt: u32, tokens: u32) -> Option<Receiver<P>> {
        let (client, stream) = channel(self.setup.room);
        let mut batch = self.batch.lock();
        batch.used += 1;
        batch.live.push(Request {
            client,
            prompt: prompt - 1,
            left: tokens,
        });
        drop(batch);
        Some(stream)
    }

    fn run(&self) {
        loop {
            let mut batch = self.batch.lock();
            if batch.live.is_empty() {
                return;
            }
            batch.used -= mem::take(&mut batch.returned);
            if self.setup.panics {
                if B::BUG != Bug::DiesSilently {
                    for request in mem::take(&mut batch.live) {
                        let _ = request.client.send(Got::Dead, false);
                    }
                }
                return;
            }
            let live = mem::take(&mut batch.live);
            drop(batch);
            let Ok(live) = self.step(live) else {
                return;
            };
            self.batch.lock().live.splice(0..0, live);
        }
    }

    fn next(stream: &mut Receiver<P>) -> Got {
        stream.next()
    }

    fn blocks_used(&self) -> u32 {
        self.batch.lock().used
    }

    fn cancelled(&self) -> u64 {
        0
    }
}

/// Nobody catches it, so it ends the loop's thread.
struct Panicked;

impl<P: Platform, B: Has> Naive<P, B> {
    /// Returns who is not done.
    fn step(&self, live: Vec<Request<P>>) -> Result<Vec<Request<P>>, Panicked> {
        let mut left = Vec::new();
        for mut request in live {
            if request.prompt > 0 {
                request.prompt -= 1;
                left.push(request);
                continue;
            }
            let sent = request.client.send(Got::Token, B::BUG == Bug::WaitsForRoom);
            request.left -= 1;
            if sent.is_err() && B::BUG == Bug::UnwrapsSend {
                return Err(Panicked);
            }
            if request.left > 0 && sent.is_ok() {
                left.push(request);
                continue;
            }
            let mut batch = self.batch.lock();
            match B::BUG {
                Bug::ReturnsByChannel => batch.returned += 1,
                _ => batch.used -= 1,
            }
            drop(batch);
            // Who is gone need not be told.
            let _ = request.client.send(Got::Completed, false);
        }
        Ok(left)
    }
}

struct Pipe<P: Platform> {
    flow: P::Mutex<Flow>,
    changed: P::Condvar,
}

struct Flow {
    items: VecDeque<Got>,
    room: usize,
    receiver_gone: bool,
    sender_gone: bool,
}

struct Sender<P: Platform>(P::Arc<Pipe<P>>);

/// A client's end of its channel.
pub(super) struct Receiver<P: Platform>(P::Arc<Pipe<P>>);

fn channel<P: Platform>(room: u32) -> (Sender<P>, Receiver<P>) {
    let pipe = P::Arc::new(Pipe {
        flow: P::Mutex::new(Flow {
            items: VecDeque::new(),
            room: room as usize,
            receiver_gone: false,
            sender_gone: false,
        }),
        changed: P::Condvar::new(),
    });
    (Sender(pipe.clone()), Receiver(pipe))
}

impl<P: Platform> Sender<P> {
    fn send(&self, item: Got, wait: bool) -> Result<(), ()> {
        let mut flow = self.0.flow.lock();
        while wait && flow.items.len() >= flow.room && !flow.receiver_gone {
            flow = self.0.changed.wait(flow);
        }
        if flow.receiver_gone {
            return Err(());
        }
        flow.items.push_back(item);
        drop(flow);
        self.0.changed.notify_one();
        Ok(())
    }
}

impl<P: Platform> Drop for Sender<P> {
    fn drop(&mut self) {
        self.0.flow.lock().sender_gone = true;
        self.0.changed.notify_one();
    }
}

impl<P: Platform> Receiver<P> {
    fn next(&mut self) -> Got {
        let mut flow = self.0.flow.lock();
        loop {
            if let Some(item) = flow.items.pop_front() {
                drop(flow);
                self.0.changed.notify_one();
                return item;
            }
            if flow.sender_gone {
                return Got::BrokenOff;
            }
            flow = self.0.changed.wait(flow);
        }
    }
}

impl<P: Platform> Drop for Receiver<P> {
    fn drop(&mut self) {
        self.0.flow.lock().receiver_gone = true;
        self.0.changed.notify_one();
    }
}
