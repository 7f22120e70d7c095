//! Whose next turn is a request? A trace does not say, but its prompts do: a turn of a
//! conversation begins with all of the turn before.

use std::collections::BTreeMap;

use super::trace::Request;

/// Who has asked what so far.
///
/// ```
/// use selvedge_scenarios::serving::{Request, agents::Agents};
///
/// let of = |ids: &[u64]| Request {
///     timestamp: 0,
///     input_length: 512 * ids.len() as u32,
///     output_length: 1,
///     hash_ids: ids.to_vec(),
/// };
/// let mut agents = Agents::default();
/// // The first id is the system prompt that all share.
/// assert_eq!(agents.of(&of(&[0, 1, 2]), |_| true), 0);
/// agents.asked(0, &of(&[0, 1, 2]));
/// assert_eq!(agents.of(&of(&[0, 7, 8]), |_| true), 1);
/// agents.asked(1, &of(&[0, 7, 8]));
/// // It begins as agent 0's last, but for the id that was not full.
/// assert_eq!(agents.of(&of(&[0, 1, 3, 4]), |_| true), 0);
/// // Agent 1 is still busy, so this is somebody else.
/// assert_eq!(agents.of(&of(&[0, 7, 8, 9]), |agent| agent != 1), 2);
/// ```
#[derive(Clone, Debug, Default)]
pub struct Agents {
    /// Each agent's last prompt.
    last: Vec<Vec<u64>>,
    /// For each id, the agent who had it last.
    holder: BTreeMap<u64, usize>,
}

impl Agents {
    /// The agent whose next turn `request` is, by number; a new one if it is nobody's. Whoever
    /// is not `idle` has a turn in flight, and cannot have another.
    pub fn of(&self, request: &Request, idle: impl Fn(usize) -> bool) -> usize {
        let ids = &request.hash_ids;
        // Who shares the most is found by the last id that anybody had.
        let nearest = ids.iter().rev().find_map(|id| self.holder.get(id).copied());
        let continued = nearest.filter(|&agent| idle(agent) && self.continues(agent, ids));
        continued.unwrap_or(self.last.len())
    }

    /// Notes that an agent's request was accepted: the next turn begins with all of it.
    pub fn asked(&mut self, agent: usize, request: &Request) {
        let ids = &request.hash_ids;
        match self.last.get_mut(agent) {
            Some(last) => last.clone_from(ids),
            None => self.last.push(ids.clone()),
        }
        self.holder.extend(ids.iter().map(|&id| (id, agent)));
    }

    /// Whether a prompt begins with all of the agent's last one. Its last id may have stood for
    /// fewer tokens then than it takes now.
    fn continues(&self, agent: usize, ids: &[u64]) -> bool {
        let last = &self.last[agent];
        let shared = last.iter().zip(ids).take_while(|(a, b)| a == b).count();
        shared >= 1 && shared + 1 >= last.len()
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.last.len()
    }
}
