//! **Ends once:** each request that was accepted ends exactly once, each key is executed once in
//! a life of the server, and no turn is completed twice in one.

use std::collections::{BTreeMap, BTreeSet};

use selvedge_core::RequestId;

use super::{Broken, Kept};

const SIGNATURE: &str = "ends-once";

/// Who has not ended, and what was executed.
#[derive(Debug, Default)]
pub(in crate::world) struct EndsOnce {
    live: BTreeMap<RequestId, (u32, u64)>,
    /// Agents and their keys, in this life of the server.
    executed: BTreeSet<(u32, u64)>,
    /// Agents and their turns, with the key that completed each.
    completed: BTreeMap<(u32, u32), u64>,
    /// Agents and turns that a former life of the server has ended: they may be asked for anew,
    /// whatever this one has made of them.
    ended_before: BTreeSet<(u32, u32)>,
}

impl EndsOnce {
    pub(in crate::world) fn accepts(&mut self, request: RequestId, whose: (u32, u64)) -> Kept {
        let (agent, key) = whose;
        if self.live.insert(request, whose).is_some() {
            let text = format!("{request} was accepted twice");
            return Err(Broken::new(SIGNATURE, text));
        }
        match self.executed.insert(whose) {
            true => Ok(()),
            false => Err(Broken::new(
                SIGNATURE,
                format!("key {key} of agent {agent} is executed a second time"),
            )),
        }
    }

    /// The engine says that a request has ended.
    pub(in crate::world) fn ends(&mut self, request: RequestId) -> Kept {
        match self.live.remove(&request) {
            Some(_) => Ok(()),
            None => Err(Broken::new(
                SIGNATURE,
                format!("{request} ends, and was over or never accepted"),
            )),
        }
    }

    /// A stream was ended so many times.
    pub(in crate::world) fn stream(&self, agent: u32, key: u64, ends: u32) -> Kept {
        match ends {
            0 | 1 => Ok(()),
            _ => Err(Broken::new(
                SIGNATURE,
                format!("the stream of key {key} of agent {agent} is ended {ends} times"),
            )),
        }
    }

    /// An agent hears of a former life that its turn is over, and not complete.
    pub(in crate::world) fn ended_before(&mut self, agent: u32, turn: u32) {
        self.ended_before.insert((agent, turn));
    }

    /// An agent is told that its turn is complete.
    pub(in crate::world) fn completes(&mut self, agent: u32, turn: u32, key: u64) -> Kept {
        let first = *self.completed.entry((agent, turn)).or_insert(key);
        match first == key || self.ended_before.contains(&(agent, turn)) {
            true => Ok(()),
            false => Err(Broken::new(
                SIGNATURE,
                format!("turn {turn} of agent {agent} is complete by key {first}, and by {key}"),
            )),
        }
    }

    /// Nothing more comes of the engine.
    pub(in crate::world) fn all_ended(&mut self, why: &str) -> Kept {
        match std::mem::take(&mut self.live).pop_first() {
            None => Ok(()),
            Some((request, (agent, _))) => Err(Broken::new(
                SIGNATURE,
                format!("{why}, and {request} of agent {agent} was never ended"),
            )),
        }
    }
}
