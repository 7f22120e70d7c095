//! The engines, and how each one is named and driven.
//!
//! | engine | explores | cannot see |
//! |---|---|---|
//! | `native` | real threads, stress | rare schedules |
//! | `explorer` | every order of steps anybody could tell apart, SC, until done | weak memory |
//! | `explorer:N` | every schedule with at most N preemptions | everything past N |
//! | `loom` | C11-like weak memory, leaked `Arc`s, until done | time-outs; some outcomes it loses |
//! | `loom:N` | the same, with at most N preemptions | everything past N |
//! | `shuttle` | random, PCT and URW schedules, a third each | weak memory; completeness |
//! | `shuttle:S` | one strategy: `random`, `pct` or `urw` | the same |
//! | `stateright` | every state of a model of the code's own state types | what the model leaves out |
//! | `world` | the whole system in virtual time under faults, a run a seed | completeness |

pub(crate) mod explorer;
pub(crate) mod loom;
pub(crate) mod native;
pub(crate) mod odometer;
pub(crate) mod shuttle;
pub(crate) mod stateright;
pub(crate) mod world;

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use thiserror::Error;

use crate::host::Host;
use crate::unit::{End, UnitSpec};
use crate::{Bodies, Verdict};

/// Does what the spec says, on the calling thread.
pub(crate) fn execute(host: &Arc<Host>, spec: &UnitSpec, bodies: &Bodies) -> End {
    if let (Engine::World, Some(body)) = (spec.engine, bodies.world) {
        return world::execute(host, spec, body);
    }
    match (spec.engine, bodies.threads, bodies.model) {
        (Engine::Native, Some(body), _) => native::execute(host, spec, body.native),
        (Engine::Explorer { preemptions }, Some(body), _) => {
            explorer::execute(host, spec, preemptions, body.explorer)
        }
        (Engine::Loom { preemptions }, Some(body), _) => {
            loom::execute(host, spec, preemptions, body.loom)
        }
        (Engine::Shuttle { strategy }, Some(body), _) => {
            shuttle::execute(host, spec, strategy, body.shuttle)
        }
        (Engine::Stateright, _, Some(body)) => stateright::execute(host, spec, body),
        (engine, _, _) => End::Failed {
            what: format!("{} has no body for {engine}", spec.scenario),
        },
    }
}

/// One engine with its parameters. Its text form is the one of the command line.
///
/// ```
/// use selvedge_sim::{Class, Engine};
///
/// let engine: Engine = "explorer:2".parse()?;
/// assert_eq!((engine.name(), engine.to_string()), ("explorer", "explorer:2".to_owned()));
/// assert_eq!(engine.verdict_when_complete(40, "").class(), Class::Bounded);
/// # Ok::<(), selvedge_sim::UnknownEngine>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Engine {
    /// Real threads.
    Native,
    /// Our own, with at most so many preemptions if a bound is given.
    Explorer {
        /// The bound.
        preemptions: Option<u8>,
    },
    /// Loom, with at most so many preemptions if a bound is given.
    Loom {
        /// The bound.
        preemptions: Option<u8>,
    },
    /// Shuttle.
    Shuttle {
        /// How schedules are drawn.
        strategy: Strategy,
    },
    /// Stateright, on a scenario's model.
    Stateright,
    /// The simulated world, on a scenario's configurations.
    World,
}

/// How shuttle draws schedules.
///
/// ```
/// use selvedge_sim::{Engine, Strategy};
///
/// let mixed = Engine::Shuttle { strategy: Strategy::default() };
/// assert_eq!(mixed.to_string(), "shuttle");
/// let pct = Engine::Shuttle { strategy: Strategy::Pct };
/// assert_eq!("shuttle:pct".parse(), Ok(pct));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Strategy {
    /// A third of the executions by each of the others.
    #[default]
    Portfolio,
    /// Any runnable task at each step.
    Random,
    /// Probabilistic concurrency testing: few preemptions, well placed.
    Pct,
    /// Uniform random walk over interleavings.
    Urw,
}

impl Strategy {
    /// Its name in verdicts.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Strategy::Portfolio => "mixed",
            Strategy::Random => "random",
            Strategy::Pct => "PCT",
            Strategy::Urw => "URW",
        }
    }
}

impl Engine {
    /// The engine's name without parameters: `native`, `explorer`, `loom`, `shuttle`,
    /// `stateright`, `world`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Engine::Native => "native",
            Engine::Explorer { .. } => "explorer",
            Engine::Loom { .. } => "loom",
            Engine::Shuttle { .. } => "shuttle",
            Engine::Stateright => "stateright",
            Engine::World => "world",
        }
    }

    /// What the engine counts: executions, the states of a model, or the seeds of a world.
    ///
    /// ```
    /// assert_eq!(selvedge_sim::Engine::Stateright.counts(), "states");
    /// ```
    #[must_use]
    pub fn counts(self) -> &'static str {
        match self {
            Engine::Stateright => "states",
            Engine::World => "seeds",
            _ => "executions",
        }
    }

    /// The verdict where a search of this engine ended by itself without finding anything;
    /// `drawn` says what it drew, if it draws; of a model, what it leaves out.
    #[must_use]
    pub fn verdict_when_complete(self, executions: u64, drawn: &str) -> Verdict {
        match self {
            Engine::Native => Verdict::Sampled {
                executions,
                strategy: "real threads".to_owned(),
            },
            Engine::Explorer { preemptions: None } => Verdict::Exhausted {
                executions,
                memory_model: "SC",
            },
            Engine::Explorer {
                preemptions: Some(bound),
            } => Verdict::Bounded {
                bound: format!("at most {bound} preemptions, SC"),
                executions,
            },
            Engine::Loom { preemptions: None } => Verdict::Exhausted {
                executions,
                memory_model: "C11 as loom models it",
            },
            Engine::Loom {
                preemptions: Some(bound),
            } => Verdict::Bounded {
                bound: format!("at most {bound} preemptions, C11 as loom models it"),
                executions,
            },
            Engine::Shuttle { .. } | Engine::World => Verdict::Sampled {
                executions,
                strategy: drawn.to_owned(),
            },
            // Never more: every model has a boundary.
            Engine::Stateright => Verdict::Bounded {
                bound: drawn.to_owned(),
                executions,
            },
        }
    }
}

impl fmt::Display for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())?;
        match self {
            Engine::Loom {
                preemptions: Some(bound),
            }
            | Engine::Explorer {
                preemptions: Some(bound),
            } => write!(f, ":{bound}"),
            Engine::Shuttle { strategy } => match strategy {
                Strategy::Portfolio => Ok(()),
                Strategy::Random => f.write_str(":random"),
                Strategy::Pct => f.write_str(":pct"),
                Strategy::Urw => f.write_str(":urw"),
            },
            _ => Ok(()),
        }
    }
}

/// Why a text names no engine.
///
/// ```
/// use selvedge_sim::{Engine, UnknownEngine};
///
/// let error = "lom".parse::<Engine>().unwrap_err();
/// assert_eq!(error, UnknownEngine("lom".to_owned()));
/// assert!(error.to_string().starts_with("there is no engine 'lom'; engines are native,"));
/// ```
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error(
    "there is no engine '{0}'; engines are native, explorer, explorer:N, loom, loom:N (at most N preemptions), shuttle, shuttle:random, shuttle:pct, shuttle:urw, stateright, world"
)]
pub struct UnknownEngine(pub String);

impl FromStr for Engine {
    type Err = UnknownEngine;

    fn from_str(text: &str) -> Result<Self, UnknownEngine> {
        let unknown = || UnknownEngine(text.to_owned());
        let (name, parameter) = match text.split_once(':') {
            Some((name, parameter)) => (name, Some(parameter)),
            None => (text, None),
        };
        match (name, parameter) {
            ("native", None) => Ok(Engine::Native),
            ("stateright", None) => Ok(Engine::Stateright),
            ("world", None) => Ok(Engine::World),
            ("explorer", None) => Ok(Engine::Explorer { preemptions: None }),
            ("explorer", Some(bound)) => Ok(Engine::Explorer {
                preemptions: Some(bound.parse().map_err(|_| unknown())?),
            }),
            ("loom", None) => Ok(Engine::Loom { preemptions: None }),
            ("loom", Some(bound)) => Ok(Engine::Loom {
                preemptions: Some(bound.parse().map_err(|_| unknown())?),
            }),
            ("shuttle", parameter) => Ok(Engine::Shuttle {
                strategy: match parameter {
                    None => Strategy::Portfolio,
                    Some("random") => Strategy::Random,
                    Some("pct") => Strategy::Pct,
                    Some("urw") => Strategy::Urw,
                    Some(_) => return Err(unknown()),
                },
            }),
            _ => Err(unknown()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_engine_has_one_text_form() {
        let texts = [
            "native",
            "explorer",
            "explorer:2",
            "loom",
            "loom:3",
            "shuttle",
            "shuttle:random",
            "shuttle:pct",
            "shuttle:urw",
            "stateright",
            "world",
        ];
        for text in texts {
            assert_eq!(text.parse::<Engine>().unwrap().to_string(), text);
        }
        for text in [
            "",
            "lom",
            "loom:",
            "loom:x",
            "loom:300",
            "native:1",
            "explorer:-1",
            "shuttle:dfs",
            "stateright:2",
            "world:2",
        ] {
            assert!(text.parse::<Engine>().is_err(), "{text}");
        }
    }
}
