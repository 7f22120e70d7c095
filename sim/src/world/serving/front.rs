//! The server's front end: it knows each request by its key, hands it to the engine once, and
//! keeps what comes of it until its agent has it.

use std::sync::Arc;
use std::time::Duration;

use selvedge_core::engine::{
    CancelReason, Closed, End, Event as Told, FailReason, Fault, NewClient, NewRequest,
    PutCacheError, Snapshot, StreamEnd, SubmitError,
};
use selvedge_core::time::Instant;

use super::agent::turn_of;
use super::engine::{Outbox, Stream};
use super::mail::{Answer, Letter, Request, Says, Word};
use super::server::{After, Known, Server};
use crate::world::chain::What;
use crate::world::faults::Moment;
use crate::world::mutants::Mutant;
use crate::world::network::Place;
use crate::world::probes::Probe;
use crate::world::properties::{Broken, conservation, valid};
use crate::world::rare::Rare;
use crate::world::run::Simulation;

/// What an agent asks for.
struct Wish {
    key: u64,
    prompt: Arc<[u32]>,
    max_tokens: u32,
    keep_cache: bool,
    within: Option<Duration>,
}

/// What is known of the key that an agent asks for.
enum Standing {
    /// It is the one that was asked for last.
    Same,
    /// Another was asked for after it.
    Old,
    /// It is a later one; the last is over, or was never there.
    New,
    /// It is a later one, and the last is not over.
    Supersedes,
}

impl Simulation {
    /// A request comes.
    pub(super) fn asked(&mut self, agent: u32, request: Request) {
        match request {
            Request::Ask {
                key,
                prompt,
                max_tokens,
                keep_cache,
                within,
                have,
            } => {
                let wish = Wish {
                    key,
                    prompt,
                    max_tokens,
                    keep_cache,
                    within,
                };
                self.asks(agent, wish, have);
            }
            Request::Ack { key, have } => {
                if let Some(known) = self.known(agent, key) {
                    known
                        .stream
                        .with(|stream| stream.confirmed = stream.confirmed.max(have));
                }
            }
            Request::Cancel { key } => self.cancels(agent, key),
        }
    }

    fn known(&mut self, agent: u32, key: u64) -> Option<&mut Known> {
        let server = self.serving.server.process.as_mut()?;
        server
            .known
            .get_mut(&agent)
            .filter(|known| known.key == key)
    }

    fn standing(&self, agent: u32, key: u64) -> Standing {
        let server = self.serving.server.process.as_ref();
        let known = server.and_then(|server| server.known.get(&agent));
        match known {
            None => Standing::New,
            Some(known) => {
                let over = known.stream.with(|stream| stream.end.is_some());
                match known.key.cmp(&key) {
                    std::cmp::Ordering::Greater => Standing::Old,
                    std::cmp::Ordering::Equal
                        if over && self.config.mutant == Mutant::ForgetsKeys =>
                    {
                        Standing::New
                    }
                    std::cmp::Ordering::Equal => Standing::Same,
                    std::cmp::Ordering::Less if over => Standing::New,
                    std::cmp::Ordering::Less => Standing::Supersedes,
                }
            }
        }
    }

    fn asks(&mut self, agent: u32, wish: Wish, have: u32) {
        match self.standing(agent, wish.key) {
            // Whoever asked has asked for something else since.
            Standing::Old => self.probes.reach(Probe::StaleRequest),
            Standing::Same => {
                self.probes.reach(Probe::KnownKey);
                if let Some(known) = self.known(agent, wish.key) {
                    known
                        .stream
                        .with(|stream| stream.confirmed = stream.confirmed.max(have));
                    known.sent = have;
                    known.end_sent = false;
                }
                self.answer(agent);
            }
            Standing::Supersedes => {
                self.probes.reach(Probe::Superseded);
                self.give_up(agent);
                self.reply(agent, wish.key, Says::Refused);
            }
            Standing::New => self.submit(agent, wish),
        }
    }

    /// What an agent has asked for last is nobody's any more.
    fn give_up(&mut self, agent: u32) {
        let now = self.server_now();
        let Some(server) = &mut self.serving.server.process else {
            return;
        };
        let Some(known) = server.known.get(&agent) else {
            return;
        };
        let over = known.stream.with(|stream| {
            stream.gone = true;
            stream.end.is_some()
        });
        // What is over may have been another engine's, which counted for itself.
        if let Some(engine) = server.engine.as_ref().filter(|_| !over) {
            // Its end may be decided already.
            let _ = engine
                .shipped
                .cancel(known.request, CancelReason::ClientGone, now);
        }
    }

    fn submit(&mut self, agent: u32, wish: Wish) {
        let now = self.server_now();
        let leaks = self.config.mutant == Mutant::LosesTokens;
        let room = self.config.timing.serving.room;
        let Some(server) = &mut self.serving.server.process else {
            return;
        };
        let Wish {
            key,
            prompt,
            max_tokens,
            keep_cache,
            within,
        } = wish;
        let Some(engine) = &server.engine else {
            return self.reply(agent, key, Says::Refused);
        };
        let request = NewRequest {
            agent: server.names[agent as usize],
            prompt: prompt.to_vec(),
            max_tokens,
            keep_cache,
            deadline: within.map(|within| now + within),
        };
        let accepted = engine.shipped.submit(request, now);
        let request = match accepted {
            Ok(request) => request,
            Err(error) => return self.refused(agent, key, &error),
        };
        let stream = Outbox::new(Stream {
            room,
            leaks,
            ..Stream::default()
        });
        server.came.push(NewClient {
            request,
            prompt: prompt.len() as u32,
            sink: stream.clone(),
        });
        let shape = &server.shape;
        let expected = shape.weights.expected(&shape.spec, &prompt, max_tokens);
        server.known.insert(
            agent,
            Known {
                key,
                request,
                stream,
                sent: 0,
                end_sent: false,
            },
        );
        let life = self.serving.server.life;
        let id = (life, agent, key);
        self.note(Place::Server, What::Accepts, [agent.into(), key, request.0]);
        self.checks.right_tokens.expects(request, id, expected);
        self.checks.bounded_bypass.accepts(request);
        let kept = self.checks.ends_once.accepts(request, (agent, key));
        self.hold(kept);
        self.moment(Moment::Accepts);
    }

    fn refused(&mut self, agent: u32, key: u64, error: &SubmitError) {
        match error {
            SubmitError::QueueFull { .. } => self.probes.reach(Probe::QueueFull),
            SubmitError::Closed(Closed::Draining) => self.probes.reach(Probe::AskedInDrain),
            // The one before ends with the next turn.
            SubmitError::AgentBusy { .. } | SubmitError::Closed(_) => {}
            _ => {
                let text = format!("agent {agent} is refused for good: {error}");
                self.hold(Err(Broken::new("refused", text)));
            }
        }
        self.reply(agent, key, Says::Refused);
    }

    fn cancels(&mut self, agent: u32, key: u64) {
        let now = self.server_now();
        let forgets = self.config.mutant == Mutant::ForgetsCancels;
        match self.standing(agent, key) {
            Standing::Old => self.probes.reach(Probe::StaleRequest),
            Standing::New if self.known(agent, key).is_none() => {
                self.reply(agent, key, Says::Unknown);
            }
            Standing::Supersedes => {
                self.give_up(agent);
                self.reply(agent, key, Says::Unknown);
            }
            Standing::Same | Standing::New => {
                let Some(server) = &mut self.serving.server.process else {
                    return;
                };
                let Some(known) = server.known.get_mut(&agent) else {
                    return;
                };
                known.end_sent = false;
                let over = known.stream.with(|stream| stream.end.is_some());
                if forgets {
                    // Its agent is told, and the engine is not.
                    known.stream.with(|stream| {
                        stream.ends += u32::from(stream.end.is_none());
                        stream.end.get_or_insert(StreamEnd {
                            end: End::Cancelled(CancelReason::Requested),
                            prompt: 0,
                            generated: 0,
                            delivered: stream.tokens.len() as u32,
                            reused: 0,
                            cached: 0,
                        });
                    });
                } else if let Some(engine) = server.engine.as_ref().filter(|_| !over) {
                    let request = known.request;
                    if (engine.shipped.cancel(request, CancelReason::Requested, now)).is_ok() {
                        self.probes.reach(Probe::Cancelled);
                    }
                }
                self.answer(agent);
            }
        }
    }

    /// Sends every agent what it has not been sent.
    pub(super) fn answer_all(&mut self) {
        for agent in 0..self.serving.agents.len() as u32 {
            self.answer(agent);
        }
    }

    fn answer(&mut self, agent: u32) {
        let splits = self.rare(Rare::SplitTokens);
        let Some(server) = &mut self.serving.server.process else {
            return;
        };
        let Some(known) = server.known.get_mut(&agent) else {
            return;
        };
        let (key, sent) = (known.key, known.sent);
        let (tokens, all, ends, end) = known.stream.with(|stream| {
            let unsent = stream.tokens.get(sent as usize..).unwrap_or_default();
            let end = stream.end.as_ref().map(|end| end.end.clone());
            (
                unsent.to_vec(),
                stream.tokens.len() as u32,
                stream.ends,
                end,
            )
        });
        known.sent = all;
        let word = end.filter(|_| !std::mem::replace(&mut known.end_sent, true));
        let size = if splits { 1 } else { tokens.len().max(1) };
        for (at, part) in tokens.chunks(size).enumerate() {
            let from = sent + (at * size) as u32;
            let tokens = part.to_vec();
            self.reply(agent, key, Says::Tokens { from, tokens });
        }
        let kept = self.checks.ends_once.stream(agent, key, ends);
        self.hold(kept);
        if let Some(end) = word {
            if let End::Completed(_) = end {
                let kept = self.checks.ends_once.completes(agent, turn_of(key), key);
                self.hold(kept);
            }
            let end = match end {
                End::Completed(_) => Word::Completed,
                End::Cancelled(_) => Word::Cancelled,
                End::Failed(_) => Word::Failed,
            };
            self.reply(agent, key, Says::End { end, tokens: all });
        }
    }

    fn reply(&mut self, agent: u32, key: u64, says: Says) {
        let life = self.serving.server.life;
        let answer = Answer { life, key, says };
        let letter = Letter::ToAgent { agent, answer };
        self.post(Place::Server, Place::Agent(agent), &letter);
    }

    /// The engine says something: it is compared with what it must say.
    pub(super) fn engine_says(&mut self, event: &Told) {
        let checks = &mut self.checks;
        let kept = match event {
            Told::Started { request, reused } => {
                if *reused > 0 {
                    self.probes.reach(Probe::CacheReused);
                }
                checks.bounded_bypass.starts(*request)
            }
            Told::Token {
                request,
                token,
                index,
            } => checks.right_tokens.says(*request, *index, *token),
            Told::Ended(ended) => {
                checks.bounded_bypass.ends(ended.request);
                let right = checks.right_tokens.ends(ended);
                let once = checks.ends_once.ends(ended.request);
                right.and(once).and(content(&ended.end))
            }
            Told::Died(cause) => content(&End::Failed(FailReason::EngineDead(cause.clone()))),
            Told::Fault(Fault::ExtractFailed { message, .. }) => by_plan(message),
            Told::Preempted { .. }
            | Told::Fault(_)
            | Told::Drained
            | Told::DrainTimedOut { .. } => Ok(()),
        };
        self.hold(kept);
    }

    /// What engine and pool say of themselves and of each other; the engine's books.
    pub(super) fn check_engine(&mut self, server: &Server) -> Option<Snapshot> {
        let engine = server.engine.as_ref()?;
        let (holds, pool) = match (engine.shipped.audit(), server.pool.audit()) {
            (Ok(holds), Ok(pool)) => (holds, pool),
            (Err(violation), _) | (_, Err(violation)) => {
                self.hold(valid(Err(violation)));
                return None;
            }
        };
        let kept = conservation::balances(&holds, &pool);
        self.hold(kept);
        Some(holds)
    }

    /// What a turn says of a drain.
    pub(super) fn check_drain(&mut self, server: &Server, told: &[Told], now: Instant) {
        let ended = |event: &Told| matches!(event, Told::Drained | Told::DrainTimedOut { .. });
        let counts = server.draining.is_some_and(|after| after != After::Nothing);
        let empty = counts && told.contains(&Told::Drained);
        let over = told.iter().any(ended);
        let left = server.engine.as_ref().map_or(0, |engine| {
            if empty {
                engine.shipped.snapshot().requests.total()
            } else {
                0
            }
        });
        let kept = self.checks.drain_ends.is_empty(left);
        self.hold(kept);
        let kept = self.checks.drain_ends.turns(now, over);
        self.hold(kept);
    }

    /// An agent's idle cache is taken out, as to be written to a disk, and put back.
    pub(super) fn cache_out_and_in(&mut self, server: &Server) {
        if server.engine.is_none() || !self.rare(Rare::CacheOutAndIn) {
            return;
        }
        let Some(engine) = &server.engine else {
            return;
        };
        let mut names = server.names.iter();
        let cache = names.find_map(|&name| engine.shipped.take_cache(name));
        if let Some(cache) = cache
            && let Err((error, _)) = engine.shipped.put_cache(cache)
            && engine.shipped.closed().is_none()
            // Who has asked for something since does without.
            && error != PutCacheError::AgentBusy
        {
            let text = format!("a cache that was taken out is not taken back: {error}");
            self.hold(Err(Broken::new("refused", text)));
        }
    }

    /// What a front end that does wrong does after a turn.
    pub(super) fn mutant_after_turn(&mut self, server: &mut Server, told: &[Told]) {
        let mutant = self.config.mutant;
        let Some(engine) = &server.engine else {
            return;
        };
        for event in told {
            let Told::Ended(ended) = event else {
                continue;
            };
            let refused = matches!(ended.end, End::Failed(FailReason::InsertFailed { .. }));
            match mutant {
                // What it took for another try it never gives back.
                Mutant::LeaksAtInsertError if refused => {
                    if let Ok(mut lease) = server.pool.reserve(1, ended.agent) {
                        let blocks = lease.allocate(1, selvedge_core::LayerId(0));
                        std::mem::forget(blocks);
                    }
                }
                // The engine has given up what was to be given up, and it does so again.
                Mutant::ReleasesTwice => {
                    server.pool.free_agent(ended.agent);
                }
                Mutant::HoardsCaches => {
                    if let Some(cache) = engine.shipped.take_cache(ended.agent) {
                        server.hoard.push(Box::new(cache));
                    }
                }
                _ => {}
            }
        }
    }
}

/// Whether a failure is one that the plan wanted.
fn content(end: &End) -> Result<(), Broken> {
    use selvedge_core::engine::DeathCause;
    match end {
        End::Failed(FailReason::InsertFailed { message })
        | End::Failed(FailReason::EngineDead(
            DeathCause::StepFailed { message } | DeathCause::Panicked { message, .. },
        )) => by_plan(message),
        End::Failed(FailReason::EngineDead(DeathCause::SwapNotUndone { message })) => {
            Err(Broken::new("conservation", message.clone()))
        }
        End::Failed(FailReason::PoolRefused(error)) => Err(Broken::new(
            "conservation",
            format!("the pool refused blocks: {error}"),
        )),
        _ => Ok(()),
    }
}

/// Whatever else a backend says, it has found in a block.
fn by_plan(message: &str) -> Result<(), Broken> {
    let short = message.contains(" payloads for ");
    match short || message.ends_with("by plan") {
        true => Ok(()),
        false => Err(Broken::new("right-content", message)),
    }
}
