//! An agent: it thinks, asks, reads what comes, confirms it, and asks again where nothing does.

use std::sync::Arc;
use std::time::Duration;

use super::mail::{Answer, Letter, Request, Says, Word};
use super::shape::MOST_TOKENS;
use crate::world::chain::What;
use crate::world::mutants::Mutant;
use crate::world::network::Place;
use crate::world::probes::Probe;
use crate::world::properties::Broken;
use crate::world::random::hash;
use crate::world::rare::Rare;
use crate::world::run::{Event, Simulation};

/// One agent.
#[derive(Debug, Default)]
pub(in crate::world) struct AgentNode {
    /// Turns that are over.
    turns: u32,
    /// Turns that it wants.
    wanted: u32,
    /// What was said so far.
    history: Vec<u32>,
    doing: Option<Turn>,
    /// The number of the timer that counts.
    timer: u64,
    /// How often in a row it has heard nothing.
    silence: u32,
    /// It reads nothing; what has come waits.
    blind: bool,
    unread: Vec<Answer>,
}

/// A turn under way.
#[derive(Debug)]
struct Turn {
    key: u64,
    prompt: Arc<[u32]>,
    max_tokens: u32,
    keep_cache: bool,
    within: Option<Duration>,
    /// The life of the server that `tokens` are of.
    life: u64,
    tokens: Vec<u32>,
    /// It has enough.
    cancels: bool,
}

/// A key: the turn, and which try it is.
const fn key_of(turn: u32, tries: u64) -> u64 {
    (turn as u64) << 16 | tries
}

/// The turn of a key.
pub(in crate::world) const fn turn_of(key: u64) -> u32 {
    (key >> 16) as u32
}

impl AgentNode {
    pub(in crate::world) fn wants(turns: u32) -> Self {
        AgentNode {
            wanted: turns,
            ..AgentNode::default()
        }
    }

    pub(in crate::world) fn is_done(&self) -> bool {
        self.turns >= self.wanted && self.doing.is_none()
    }

    /// In words.
    pub(in crate::world) fn waits(&self) -> String {
        let Some(turn) = &self.doing else {
            return format!("it thinks about turn {}", self.turns + 1);
        };
        let (number, tokens) = (turn_of(turn.key), turn.tokens.len());
        format!("it has {tokens} tokens of turn {number}")
    }
}

impl Simulation {
    fn agent(&mut self, agent: u32) -> &mut AgentNode {
        &mut self.serving.agents[agent as usize]
    }

    /// Plans what an agent does next, in place of what was planned before.
    fn agent_timer(&mut self, agent: u32, after: Duration) {
        let node = self.agent(agent);
        node.timer += 1;
        let timer = node.timer;
        self.queue
            .push(self.now + after, Event::Agent { agent, timer });
    }

    /// An agent thinks about its next turn.
    pub(in crate::world) fn think(&mut self, agent: u32) {
        let (least, most) = self.config.timing.serving.think;
        let after = self.serving.stream.between(least, most);
        self.agent_timer(agent, after);
    }

    pub(in crate::world) fn agent_wakes(&mut self, agent: u32, timer: u64) {
        if self.agent(agent).timer != timer {
            return;
        }
        match &self.agent(agent).doing {
            None => self.begin_turn(agent),
            Some(_) => {
                self.agent(agent).silence += 1;
                self.probes.reach(Probe::AskedAgain);
                if self.config.mutant == Mutant::RetriesUnderNewKey {
                    self.next_key(agent);
                }
                self.ask(agent);
            }
        }
    }

    /// What an agent says next, and how much it wants to hear: the same whenever it is asked.
    fn begin_turn(&mut self, agent: u32) {
        let seed = self.config.seed;
        let node = self.agent(agent);
        let turn = node.turns + 1;
        let drawn = hash(&[seed, u64::from(agent), u64::from(turn), 0x7475_726e]);
        let max_tokens = 1 + (drawn % 20) as u32;
        let says = 1 + (drawn >> 8) % 9;
        let told = (0..says).map(|at| hash(&[drawn, at]) as u32 % 997);
        let told: Vec<u32> = told.collect();
        // Another conversation, or the old one with its beginning gone: nothing to reuse.
        let room = (MOST_TOKENS - max_tokens) as usize;
        let forgets = (drawn >> 16).is_multiple_of(8);
        if forgets || node.history.len() + told.len() > room {
            node.history.clear();
        }
        node.history.extend(told);
        let prompt: Arc<[u32]> = node.history.as_slice().into();
        let hurried = (drawn >> 24).is_multiple_of(10);
        let within = Duration::from_millis(150 + (drawn >> 32) % 1_500);
        node.doing = Some(Turn {
            key: key_of(turn, 0),
            prompt,
            max_tokens,
            keep_cache: !(drawn >> 20).is_multiple_of(8),
            within: hurried.then_some(within),
            life: 0,
            tokens: Vec::new(),
            cancels: false,
        });
        node.silence = 0;
        self.note(Place::Agent(agent), What::Asks, [u64::from(turn), 0, 0]);
        self.ask(agent);
        if self.rare(Rare::AskTwice) {
            self.say_again(agent);
        }
        if self.rare(Rare::CancelAtOnce) {
            self.cancel_turn(agent);
        }
    }

    /// Says what an agent wants, and sees to it that it says so again.
    fn ask(&mut self, agent: u32) {
        self.say_again(agent);
        // The longer it hears nothing, the more seldom it asks.
        let patience = self.config.timing.serving.retry;
        let factor = 1 << self.agent(agent).silence.min(2);
        let after = self.serving.stream.between(patience, patience * 2) * factor;
        self.agent_timer(agent, after);
    }

    fn say_again(&mut self, agent: u32) {
        let Some(turn) = &self.agent(agent).doing else {
            return;
        };
        let key = turn.key;
        let request = match turn.cancels {
            true => Request::Cancel { key },
            false => Request::Ask {
                key,
                prompt: turn.prompt.clone(),
                max_tokens: turn.max_tokens,
                keep_cache: turn.keep_cache,
                within: turn.within,
                have: turn.tokens.len() as u32,
            },
        };
        self.tell_server(agent, request);
    }

    fn tell_server(&mut self, agent: u32, request: Request) {
        let letter = Letter::ToServer { agent, request };
        self.post(Place::Agent(agent), Place::Server, &letter);
    }

    /// An agent has enough of its turn.
    pub(in crate::world) fn cancel_turn(&mut self, agent: u32) {
        let Some(turn) = &mut self.agent(agent).doing else {
            return;
        };
        if !std::mem::replace(&mut turn.cancels, true) {
            self.note(Place::Agent(agent), What::Cancels, [0; 3]);
            self.ask(agent);
        }
    }

    pub(in crate::world) fn stop_reading(&mut self, agent: u32, lasts: Duration) {
        self.agent(agent).blind = true;
        self.note(Place::Agent(agent), What::Freezes, [0; 3]);
        self.queue.push(self.now + lasts, Event::Reads(agent));
    }

    pub(in crate::world) fn read_again(&mut self, agent: u32) {
        if !std::mem::replace(&mut self.agent(agent).blind, false) {
            return;
        }
        self.note(Place::Agent(agent), What::Thaws, [0; 3]);
        for answer in std::mem::take(&mut self.agent(agent).unread) {
            self.hear_answer(agent, answer);
        }
    }

    /// An answer comes.
    pub(in crate::world) fn hear_answer(&mut self, agent: u32, answer: Answer) {
        let keeps = self.config.mutant == Mutant::KeepsFormerTokens;
        let node = &mut self.serving.agents[agent as usize];
        if node.blind {
            node.unread.push(answer);
            return;
        }
        let asked = |turn: &&mut Turn| turn.key == answer.key && answer.life >= turn.life;
        let Some(turn) = node.doing.as_mut().filter(asked) else {
            return self.probes.reach(Probe::AnswerTooLate);
        };
        let former = std::mem::replace(&mut turn.life, answer.life);
        if former < answer.life && former > 0 {
            // What another life has said is worth nothing: it may have another model.
            self.probes.reach(Probe::AnotherServer);
            if !keeps {
                turn.tokens.clear();
            }
        }
        node.silence = 0;
        match answer.says {
            Says::Tokens { from, tokens } => self.hear_tokens(agent, from, &tokens),
            Says::End { end, tokens } => self.hear_end(agent, end, tokens),
            Says::Refused => {
                self.probes.reach(Probe::Refused);
                self.ask_later(agent);
            }
            Says::Unknown => match self.agent(agent).doing.as_ref() {
                Some(turn) if turn.cancels => self.end_turn(agent, false),
                _ => {}
            },
        }
    }

    fn hear_tokens(&mut self, agent: u32, from: u32, tokens: &[u32]) {
        let Some(turn) = &mut self.serving.agents[agent as usize].doing else {
            return;
        };
        let (key, from) = (turn.key, from as usize);
        let Some(known) = turn.tokens.get(from..) else {
            // Those before are on their way, or lost: they come again.
            return self.probes.reach(Probe::TokensOutOfOrder);
        };
        let id = (turn.life, agent, key);
        // What was said before is said again, or it would have been wrong.
        let both = known.len().min(tokens.len());
        let same = known[..both] == tokens[..both];
        turn.tokens.extend_from_slice(&tokens[both..]);
        let have = turn.tokens.len() as u32;
        let kept = self.checks.right_tokens.reads(id, &turn.tokens);
        self.hold(kept);
        if !same {
            let text = format!("agent {agent} is told tokens again, and they are others");
            self.hold(Err(Broken::new("right-tokens", text)));
        }
        self.tell_server(agent, Request::Ack { key, have });
    }

    fn hear_end(&mut self, agent: u32, end: Word, tokens: u32) {
        let Some(turn) = &self.agent(agent).doing else {
            return;
        };
        match end {
            // It has enough, whatever there is.
            _ if turn.cancels => self.end_turn(agent, false),
            Word::Completed if (turn.tokens.len() as u32) < tokens => {
                self.probes.reach(Probe::EndBeforeTokens);
                self.say_again(agent);
            }
            Word::Completed => {
                let (life, key) = (turn.life, turn.key);
                let said = &self.serving.agents[agent as usize].doing;
                let said = said.as_ref().map_or(&[][..], |turn| &turn.tokens);
                let kept = self.checks.right_tokens.has_all((life, agent, key), said);
                self.hold(kept);
                self.end_turn(agent, true);
            }
            Word::Cancelled | Word::Failed => {
                let present = self.serving.server.life;
                if let Some(turn) = &mut self.serving.agents[agent as usize].doing {
                    turn.within = None;
                    if turn.life < present {
                        let number = turn_of(turn.key);
                        self.checks.ends_once.ended_before(agent, number);
                    }
                }
                self.probes.reach(Probe::TriedAgain);
                self.next_key(agent);
                self.ask_later(agent);
            }
        }
    }

    /// The same turn, as another request.
    fn next_key(&mut self, agent: u32) {
        if let Some(turn) = &mut self.agent(agent).doing {
            turn.key += 1;
            turn.tokens.clear();
        }
    }

    fn ask_later(&mut self, agent: u32) {
        let patience = self.config.timing.serving.retry;
        let after = self.serving.stream.between(patience / 4, patience);
        self.agent_timer(agent, after);
    }

    /// A turn is over: what was said is part of the conversation.
    fn end_turn(&mut self, agent: u32, whole: bool) {
        let Some(turn) = self.agent(agent).doing.take() else {
            return;
        };
        let node = self.agent(agent);
        node.turns += 1;
        let tokens = turn.tokens.len() as u64;
        node.history.extend(turn.tokens);
        let number = u64::from(turn_of(turn.key));
        let what = if whole {
            What::Answered
        } else {
            What::Cancelled
        };
        self.note(Place::Agent(agent), what, [number, tokens, 0]);
        if self.agent(agent).is_done() {
            self.note(Place::Agent(agent), What::Done, [0; 3]);
            // Nothing that was planned counts any more.
            self.agent(agent).timer += 1;
            self.serving_ends();
        } else {
            self.think(agent);
        }
    }
}
