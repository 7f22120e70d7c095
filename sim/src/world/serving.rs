//! Agents that ask and a server that answers, in the same virtual time as the training job: the
//! batch engine and the pool that ship, behind a front end, behind a network that keeps no
//! promise.
//!
//! What the front end promises: a request has a key, its agent's, and is executed once in a life
//! of the server however often it is asked for; what an agent asks for under a later key ends what
//! it asked for before. What it does not promise: that the server remembers anything after its
//! death. Then the agents ask again.

pub(super) mod agent;
pub(super) mod engine;
pub(super) mod front;
pub(super) mod mail;
pub(super) mod server;
pub(super) mod shape;

use std::time::Duration;

use selvedge_core::time::Instant;

use self::agent::AgentNode;
use self::mail::{Letter, Mailbag};
use self::server::ServerNode;
use super::chain::What;
use super::faults::Plan;
use super::network::Place;
use super::probes::Probe;
use super::random::{Concern, Stream};
use super::run::{Event, Simulation};
use super::{Parts, WorldConfig};

/// All of it.
#[derive(Debug)]
pub(super) struct Serving {
    pub(super) server: ServerNode,
    pub(super) agents: Vec<AgentNode>,
    pub(super) mail: Mailbag,
    pub(super) stream: Stream,
    /// All agents are done, and the server was drained and had nothing left.
    pub(super) over: bool,
    /// When something was to be done that nobody has begun.
    pub(super) ready_since: Option<Instant>,
}

impl Serving {
    pub(super) fn new(config: &WorldConfig, plan: &Plan) -> Self {
        let Parts { serving, .. } = config.parts;
        let agents = if serving { config.agents } else { 0 };
        Serving {
            server: ServerNode::default(),
            agents: (0..agents)
                .map(|_| AgentNode::wants(config.turns))
                .collect(),
            mail: Mailbag::new(plan, Stream::new(config.seed, Concern::Mail)),
            stream: Stream::new(config.seed, Concern::Agents),
            over: !serving,
            ready_since: None,
        }
    }
}

impl Simulation {
    pub(super) fn begin_serving(&mut self) {
        if self.serving.over {
            return;
        }
        self.restart_server(Duration::ZERO);
        for agent in 0..self.serving.agents.len() as u32 {
            self.think(agent);
        }
    }

    /// Sends something: it comes, comes twice, late, or not at all.
    pub(super) fn post(&mut self, from: Place, to: Place, letter: &Letter) {
        let carried = self.serving.mail.carry(from, to);
        match carried {
            [None, None] => self.probes.reach(Probe::LetterLost),
            [Some(_), Some(_)] => self.probes.reach(Probe::LetterTwice),
            _ => {}
        }
        for after in carried.into_iter().flatten() {
            let letter = letter.clone();
            self.queue.push(self.now + after, Event::Letter(letter));
        }
    }

    pub(super) fn letter(&mut self, letter: Letter) {
        match letter {
            Letter::ToServer { agent, request } => self.server_letter(agent, request),
            Letter::ToAgent { agent, answer } => self.hear_answer(agent, answer),
        }
    }

    /// The server is drained for good once nobody has anything to ask any more.
    pub(super) fn serving_ends(&mut self) {
        let done = self.serving.agents.iter().all(|agent| agent.is_done());
        if done && !self.serving.over {
            self.close_server();
        }
    }

    /// What keeps the serving half from its end.
    pub(super) fn serving_waits(&self) -> Option<String> {
        if self.serving.over {
            return None;
        }
        let mut agents = self.serving.agents.iter().enumerate();
        let waits = agents.find(|(_, agent)| !agent.is_done());
        Some(match waits {
            Some((number, agent)) => format!("agent {number} is not done: {}", agent.waits()),
            None => "the server is not empty".to_owned(),
        })
    }

    pub(super) fn serving_calm(&mut self) {
        for agent in 0..self.serving.agents.len() as u32 {
            self.read_again(agent);
        }
        self.serving.mail.calm();
        let life = self.serving.server.life;
        self.thaw_server(life);
    }

    pub(super) fn mend_mail(&mut self, from: Place, to: Place) {
        self.note_world(What::Mends, [from.index() as u64, to.index() as u64, 0]);
        self.serving.mail.mend(from, to);
    }
}
