//! A network of single messages: each is lost, doubled or late by itself, and no order is kept.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::world::faults::{Mail, Plan};
use crate::world::network::{Latency, Place};
use crate::world::random::Stream;

/// One message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::world) enum Letter {
    ToServer { agent: u32, request: Request },
    ToAgent { agent: u32, answer: Answer },
}

/// From an agent. The greater key is the later.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::world) enum Request {
    /// Generate, or, where it is known already, go on from what I have.
    Ask {
        key: u64,
        prompt: Arc<[u32]>,
        max_tokens: u32,
        keep_cache: bool,
        /// Not longer than so long.
        within: Option<Duration>,
        /// Tokens that have come.
        have: u32,
    },
    /// So many tokens have come.
    Ack { key: u64, have: u32 },
    /// I have enough.
    Cancel { key: u64 },
}

/// From a life of the server, about a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::world) struct Answer {
    pub(in crate::world) life: u64,
    pub(in crate::world) key: u64,
    pub(in crate::world) says: Says,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::world) enum Says {
    /// Tokens, of which the first stands at `from`.
    Tokens { from: u32, tokens: Vec<u32> },
    /// The end, after so many tokens.
    End { end: Word, tokens: u32 },
    /// Not now.
    Refused,
    /// There is no such request to be cancelled.
    Unknown,
}

/// How a request ended, in a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::world) enum Word {
    Completed,
    Cancelled,
    Failed,
}

/// What is under way, and where nothing gets through.
#[derive(Debug)]
pub(in crate::world) struct Mailbag {
    mail: Mail,
    latency: Latency,
    stream: Stream,
    cuts: BTreeMap<(Place, Place), u32>,
}

impl Mailbag {
    pub(in crate::world) fn new(plan: &Plan, stream: Stream) -> Self {
        Mailbag {
            mail: plan.mail,
            latency: plan.latency,
            stream,
            cuts: BTreeMap::new(),
        }
    }

    /// After how long a message comes, and comes again.
    pub(in crate::world) fn carry(&mut self, from: Place, to: Place) -> [Option<Duration>; 2] {
        if self.cuts.contains_key(&(from, to)) || self.happens(self.mail.loss) {
            return [None, None];
        }
        let first = Some(self.takes());
        let twice = self.happens(self.mail.duplicate);
        [first, twice.then(|| self.takes())]
    }

    /// A network without faults draws nothing for them.
    fn happens(&mut self, per_mille: u64) -> bool {
        per_mille > 0 && self.stream.chance(per_mille)
    }

    fn takes(&mut self) -> Duration {
        let Latency {
            least,
            most,
            spikes,
            spike,
            ..
        } = self.latency;
        let takes = match self.happens(spikes) {
            true => self.stream.between(most, spike),
            false => self.stream.between(least, most),
        };
        let late = match self.happens(self.mail.reorder) {
            true => self.stream.between(Duration::ZERO, self.mail.late),
            false => Duration::ZERO,
        };
        takes + late
    }

    pub(in crate::world) fn cut(&mut self, from: Place, to: Place) {
        *self.cuts.entry((from, to)).or_default() += 1;
    }

    pub(in crate::world) fn mend(&mut self, from: Place, to: Place) {
        if let Some(cuts) = self.cuts.get_mut(&(from, to)) {
            *cuts -= 1;
            if *cuts == 0 {
                self.cuts.remove(&(from, to));
            }
        }
    }

    /// From here on nothing is lost, and nothing comes twice or out of its order for long.
    pub(in crate::world) fn calm(&mut self) {
        self.cuts.clear();
        self.mail = Mail::default();
    }
}
