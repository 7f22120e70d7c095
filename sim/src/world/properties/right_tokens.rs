//! **Right tokens:** what the engine generates, and what an agent has at the end of a turn, is
//! what the model comes to from nothing; however its sequence was cached, cut, preempted, asked
//! for again, and by whichever life of the server.

use std::collections::BTreeMap;
use std::rc::Rc;

use selvedge_core::RequestId;
use selvedge_core::engine::{End, Ended, Finish};

use super::{Broken, Kept};

const SIGNATURE: &str = "right-tokens";

/// A life of the server, an agent, and its key.
type Id = (u64, u32, u64);

#[derive(Debug)]
struct Expected {
    tokens: Vec<u32>,
    finish: Finish,
}

/// What each request must come to.
#[derive(Debug, Default)]
pub(in crate::world) struct RightTokens {
    engine: BTreeMap<RequestId, Rc<Expected>>,
    agents: BTreeMap<Id, Rc<Expected>>,
}

impl RightTokens {
    /// Another engine counts its requests anew.
    pub(in crate::world) fn begins(&mut self) {
        self.engine.clear();
    }

    pub(in crate::world) fn expects(
        &mut self,
        request: RequestId,
        id: Id,
        (tokens, finish): (Vec<u32>, Finish),
    ) {
        let expected = Rc::new(Expected { tokens, finish });
        self.engine.insert(request, expected.clone());
        // Nobody asks for what it had asked for before.
        let (life, agent, key) = id;
        self.agents
            .retain(|other, _| other.1 != agent || other.0 + 1 >= life || other.2 + 2 >= key);
        self.agents.insert(id, expected);
    }

    /// The engine says a token.
    pub(in crate::world) fn says(&self, request: RequestId, index: u32, token: u32) -> Kept {
        let expected = self.engine.get(&request);
        let wanted = expected
            .and_then(|it| it.tokens.get(index as usize))
            .copied();
        match wanted == Some(token) {
            true => Ok(()),
            false => Err(Broken::new(
                SIGNATURE,
                format!("token {index} of {request} is {token}; it should be {wanted:?}"),
            )),
        }
    }

    /// The engine ends a request.
    pub(in crate::world) fn ends(&mut self, ended: &Ended) -> Kept {
        let Some(expected) = self.engine.remove(&ended.request) else {
            return Ok(());
        };
        let right = match ended.end {
            End::Completed(finish) => {
                finish == expected.finish && ended.generated as usize == expected.tokens.len()
            }
            _ => ended.generated as usize <= expected.tokens.len(),
        };
        match right {
            true => Ok(()),
            false => Err(Broken::new(
                SIGNATURE,
                format!(
                    "{} has {} tokens at its end, which is {:?}; they should be {}, and {:?}",
                    ended.request,
                    ended.generated,
                    ended.end,
                    expected.tokens.len(),
                    expected.finish,
                ),
            )),
        }
    }

    /// An agent has these tokens so far.
    pub(in crate::world) fn reads(&self, id: Id, tokens: &[u32]) -> Kept {
        let (_, agent, _) = id;
        let Some(expected) = self.agents.get(&id) else {
            let text = format!("agent {agent} is sent tokens of a request that there never was");
            return Err(Broken::new(SIGNATURE, text));
        };
        match expected.tokens.starts_with(tokens) {
            true => Ok(()),
            false => Err(Broken::new(
                SIGNATURE,
                format!(
                    "agent {agent} has {tokens:?}, which should begin {:?}",
                    expected.tokens
                ),
            )),
        }
    }

    /// An agent has all that it was to have.
    pub(in crate::world) fn has_all(&self, id: Id, tokens: &[u32]) -> Kept {
        self.reads(id, tokens)?;
        let (_, agent, _) = id;
        match self.agents.get(&id).map(|expected| expected.tokens.len()) {
            Some(all) if all != tokens.len() => Err(Broken::new(
                SIGNATURE,
                format!(
                    "agent {agent} is done with {} of {all} tokens",
                    tokens.len()
                ),
            )),
            _ => Ok(()),
        }
    }
}
