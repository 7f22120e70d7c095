//! [`Operation`]: one call of the pool as a *value*, the same whatever the pool does: how it is
//! written down, read back and drawn at random.
//!
//! ```text
//! sequence stale-handle
//! pool 2 cap=1 gs            two blocks; layer 0 global, layer 1 sliding, at most 1 block
//! register alice             handle 1 (handle 0 is always another pool's)
//! allocate @1 0x1            by handle 1: of layer 0, one block
//! free @1 mine:0 given:0     the agent's first block; the handle given out last
//! free @1 foreign:0 forged:1:0:7   the last one in another pool's name; block, layer, generation
//! exchange @1 mine:0 -> 0x1 1x1
//! exchange_part @1 2 mine:0 -> 0x3   two of the three are blocks that were promised
//! enqueue @1 0x2             waits in line; tickets are counted from 0
//! claim 0                    or withdraw 0
//! ```
#![allow(clippy::disallowed_types, reason = "proptest's macros name std's Arc")]

use std::fmt::{self, Display};
use std::str::FromStr;

use proptest::collection::vec;
use proptest::prelude::*;
use selvedge_core::ModelCacheSpec;
use selvedge_core::spec::LayerKind;

/// A pool, and what is done with it.
#[derive(Clone, Debug)]
pub(crate) struct Sequence {
    pub(crate) shape: Shape,
    pub(crate) operations: Vec<Operation>,
}

/// The size of a pool and its model's layers.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Shape {
    pub(crate) blocks: u32,
    /// The window of the layers that slide, in blocks.
    pub(crate) cap: u32,
    /// By layer.
    pub(crate) sliding: Vec<bool>,
}

impl Shape {
    pub(crate) fn spec(&self) -> ModelCacheSpec {
        const BLOCK_TOKENS: u32 = 16;
        let kinds = (self.sliding.iter())
            .map(|&sliding| match sliding {
                true => LayerKind::SlidingWindow,
                false => LayerKind::Global,
            })
            .collect();
        ModelCacheSpec::new(self.sliding.len() as u32, 1, 8, BLOCK_TOKENS)
            .and_then(|spec| spec.with_layers(kinds, Some(self.cap * BLOCK_TOKENS)))
            .expect("a shape is a valid model")
    }
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Operation {
    Register {
        name: String,
    },
    Retire {
        agent: usize,
    },
    Allocate {
        agent: usize,
        need: Need,
    },
    AllocateLayers {
        agent: usize,
        needs: Vec<Need>,
    },
    AllocateReserved {
        agent: usize,
        needs: Vec<Need>,
    },
    Free {
        agent: usize,
        blocks: Vec<Pick>,
    },
    FreeAgent {
        agent: usize,
    },
    Exchange {
        agent: usize,
        old: Vec<Pick>,
        needs: Vec<Need>,
    },
    ExchangePart {
        agent: usize,
        promised: u32,
        old: Vec<Pick>,
        needs: Vec<Need>,
    },
    Reserve {
        agent: usize,
        n: u32,
    },
    Unreserve {
        agent: usize,
        n: u32,
    },
    Reconfigure {
        shape: Shape,
    },
    Enqueue {
        agent: usize,
        needs: Vec<Need>,
    },
    /// Tickets are counted from the first, round where there are fewer.
    Claim {
        ticket: usize,
    },
    Withdraw {
        ticket: usize,
    },
    CloseQueue,
    OpenQueue,
}

/// So many blocks of a layer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Need {
    pub(crate) layer: u32,
    pub(crate) n: u32,
}

/// Which handle is passed. Numbers count round where there are fewer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Pick {
    /// One that the agent holds.
    Mine(usize),
    /// One that was ever given out, to whomever; 0 is the last.
    Given(usize),
    /// The same, said to be of another pool.
    Foreign(usize),
    /// One made up.
    Forged {
        block: u32,
        layer: u32,
        generation: u64,
    },
}

pub(crate) fn sequences() -> impl Strategy<Value = Sequence> {
    let shape = shapes(1..=8);
    let operations = vec(operations(), 1..60);
    (shape, operations).prop_map(|(shape, operations)| Sequence { shape, operations })
}

fn shapes(blocks: std::ops::RangeInclusive<u32>) -> impl Strategy<Value = Shape> {
    (blocks, 1..=3u32, vec(any::<bool>(), 1..=3)).prop_map(|(blocks, cap, sliding)| Shape {
        blocks,
        cap,
        sliding,
    })
}

fn operations() -> impl Strategy<Value = Operation> {
    use Operation::*;
    let name = prop_oneof![1 => Just(""), 8 => Just("alice"), 6 => Just("bob"), 4 => Just("carol")];
    let agent = || prop_oneof![1 => Just(0usize), 20 => 1..5usize];
    let needs = || vec(need(), 0..4);
    let picks = || vec(pick(), 0..5);
    prop_oneof![
        6 => name.prop_map(|name| Register { name: name.to_owned() }),
        2 => agent().prop_map(|agent| Retire { agent }),
        6 => (agent(), need()).prop_map(|(agent, need)| Allocate { agent, need }),
        4 => (agent(), needs()).prop_map(|(agent, needs)| AllocateLayers { agent, needs }),
        3 => (agent(), needs()).prop_map(|(agent, needs)| AllocateReserved { agent, needs }),
        6 => (agent(), picks()).prop_map(|(agent, blocks)| Free { agent, blocks }),
        2 => agent().prop_map(|agent| FreeAgent { agent }),
        6 => (agent(), picks(), needs())
            .prop_map(|(agent, old, needs)| Exchange { agent, old, needs }),
        6 => (agent(), 0..4u32, picks(), needs()).prop_map(|(agent, promised, old, needs)| {
            ExchangePart {
                agent,
                promised,
                old,
                needs,
            }
        }),
        3 => (agent(), 0..10u32).prop_map(|(agent, n)| Reserve { agent, n }),
        2 => (agent(), 0..4u32).prop_map(|(agent, n)| Unreserve { agent, n }),
        2 => shapes(0..=8).prop_map(|shape| Reconfigure { shape }),
        6 => (agent(), needs()).prop_map(|(agent, needs)| Enqueue { agent, needs }),
        6 => (0..8usize).prop_map(|ticket| Claim { ticket }),
        3 => (0..8usize).prop_map(|ticket| Withdraw { ticket }),
        1 => Just(CloseQueue),
        2 => Just(OpenQueue),
    ]
}

fn need() -> impl Strategy<Value = Need> {
    let layer = prop_oneof![12 => 0..3u32, 1 => Just(u32::MAX)];
    let n = prop_oneof![1 => Just(0u32), 20 => 1..4u32, 2 => 4..10u32, 1 => Just(u32::MAX)];
    (layer, n).prop_map(|(layer, n)| Need { layer, n })
}

fn pick() -> impl Strategy<Value = Pick> {
    prop_oneof![
        16 => (0..8usize).prop_map(Pick::Mine),
        4 => (0..12usize).prop_map(Pick::Given),
        1 => (0..12usize).prop_map(Pick::Foreign),
        1 => (0..10u32, 0..4u32, 0..6u64)
            .prop_map(|(block, layer, generation)| Pick::Forged { block, layer, generation }),
    ]
}

impl Display for Sequence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "pool {}", self.shape)?;
        (self.operations.iter()).try_for_each(|operation| writeln!(f, "{operation}"))
    }
}

impl Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} cap={} ", self.blocks, self.cap)?;
        (self.sliding.iter())
            .try_for_each(|&sliding| write!(f, "{}", if sliding { 's' } else { 'g' }))
    }
}

impl Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            // An empty word would not be read back.
            Operation::Register { name } if name.is_empty() => write!(f, "register -"),
            Operation::Register { name } => write!(f, "register {name}"),
            Operation::Retire { agent } => write!(f, "retire @{agent}"),
            Operation::Allocate { agent, need } => write!(f, "allocate @{agent} {need}"),
            Operation::AllocateLayers { agent, needs } => {
                write!(f, "allocate_layers @{agent}{}", words(needs))
            }
            Operation::AllocateReserved { agent, needs } => {
                write!(f, "allocate_reserved @{agent}{}", words(needs))
            }
            Operation::Free { agent, blocks } => write!(f, "free @{agent}{}", words(blocks)),
            Operation::FreeAgent { agent } => write!(f, "free_agent @{agent}"),
            Operation::Exchange { agent, old, needs } => {
                write!(f, "exchange @{agent}{} ->{}", words(old), words(needs))
            }
            Operation::ExchangePart {
                agent,
                promised,
                old,
                needs,
            } => {
                let (old, needs) = (words(old), words(needs));
                write!(f, "exchange_part @{agent} {promised}{old} ->{needs}")
            }
            Operation::Reserve { agent, n } => write!(f, "reserve @{agent} {n}"),
            Operation::Unreserve { agent, n } => write!(f, "unreserve @{agent} {n}"),
            Operation::Reconfigure { shape } => write!(f, "reconfigure {shape}"),
            Operation::Enqueue { agent, needs } => write!(f, "enqueue @{agent}{}", words(needs)),
            Operation::Claim { ticket } => write!(f, "claim {ticket}"),
            Operation::Withdraw { ticket } => write!(f, "withdraw {ticket}"),
            Operation::CloseQueue => write!(f, "close_queue"),
            Operation::OpenQueue => write!(f, "open_queue"),
        }
    }
}

fn words<T: Display>(items: &[T]) -> String {
    items.iter().map(|item| format!(" {item}")).collect()
}

impl Display for Need {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}x{}", self.layer, self.n)
    }
}

impl Display for Pick {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Pick::Mine(k) => write!(f, "mine:{k}"),
            Pick::Given(k) => write!(f, "given:{k}"),
            Pick::Foreign(k) => write!(f, "foreign:{k}"),
            Pick::Forged {
                block,
                layer,
                generation,
            } => {
                write!(f, "forged:{block}:{layer}:{generation}")
            }
        }
    }
}

/// Reads a file of named sequences.
///
/// # Errors
/// What is wrong, and in which line.
pub(crate) fn parse_file(text: &str) -> Result<Vec<(String, Sequence)>, String> {
    let mut sequences: Vec<(String, Option<Sequence>)> = Vec::new();
    for (line, number) in text.lines().zip(1..) {
        let line = line.split('#').next().unwrap_or_default().trim();
        if !line.is_empty() {
            parse_line(&mut sequences, line).map_err(|what| format!("line {number}: {what}"))?;
        }
    }
    (sequences.into_iter())
        .map(|(name, sequence)| match sequence {
            Some(sequence) => Ok((name, sequence)),
            None => Err(format!("end of file: sequence {name} has no pool")),
        })
        .collect()
}

fn parse_line(sequences: &mut Vec<(String, Option<Sequence>)>, line: &str) -> Result<(), String> {
    if let Some(name) = line.strip_prefix("sequence ") {
        if let Some((before, None)) = sequences.last() {
            return Err(format!("sequence {before} has no pool"));
        }
        sequences.push((name.to_owned(), None));
        return Ok(());
    }
    let (_, sequence) = sequences.last_mut().ok_or("no sequence was begun")?;
    match (sequence, line.strip_prefix("pool ")) {
        (Some(sequence), None) => sequence.operations.push(line.parse()?),
        (sequence @ None, Some(shape)) => {
            *sequence = Some(Sequence {
                shape: shape.parse()?,
                operations: Vec::new(),
            });
        }
        (None, None) => return Err("a sequence begins with its pool".to_owned()),
        (Some(_), Some(_)) => return Err("a second pool in one sequence".to_owned()),
    }
    Ok(())
}

impl FromStr for Shape {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let words: Vec<&str> = text.split_whitespace().collect();
        let &[blocks, cap, layers] = words.as_slice() else {
            return Err(format!("{text:?} is not like `4 cap=1 gs`"));
        };
        let sliding = (layers.chars())
            .map(|kind| match kind {
                's' => Ok(true),
                'g' => Ok(false),
                _ => Err(format!("layer {kind:?} is neither g nor s")),
            })
            .collect::<Result<Vec<bool>, String>>()?;
        let cap = cap
            .strip_prefix("cap=")
            .ok_or("the second word is not cap=..")?;
        Ok(Shape {
            blocks: number(blocks)?,
            cap: number(cap)?,
            sliding,
        })
    }
}

impl FromStr for Operation {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (call, rest) = text.split_once(' ').unwrap_or((text, ""));
        match call {
            "register" if rest == "-" => {
                return Ok(Operation::Register {
                    name: String::new(),
                });
            }
            "register" if !rest.is_empty() => {
                return Ok(Operation::Register {
                    name: rest.to_owned(),
                });
            }
            "claim" => {
                let ticket = number(rest)?;
                return Ok(Operation::Claim { ticket });
            }
            "withdraw" => {
                let ticket = number(rest)?;
                return Ok(Operation::Withdraw { ticket });
            }
            "close_queue" => return Ok(Operation::CloseQueue),
            "open_queue" => return Ok(Operation::OpenQueue),
            "reconfigure" => {
                return Ok(Operation::Reconfigure {
                    shape: rest.parse()?,
                });
            }
            _ => {}
        }
        let mut words = rest.split_whitespace();
        let agent = words.next().and_then(|word| word.strip_prefix('@'));
        let agent =
            number(agent.ok_or_else(|| format!("{call:?} is not followed by an agent, @.."))?)?;
        let words: Vec<&str> = words.collect();
        Ok(match (call, words.as_slice()) {
            ("retire", []) => Operation::Retire { agent },
            ("free_agent", []) => Operation::FreeAgent { agent },
            ("allocate", [need]) => Operation::Allocate {
                agent,
                need: need.parse()?,
            },
            ("allocate_layers", needs) => Operation::AllocateLayers {
                agent,
                needs: each(needs)?,
            },
            ("allocate_reserved", needs) => Operation::AllocateReserved {
                agent,
                needs: each(needs)?,
            },
            ("enqueue", needs) => Operation::Enqueue {
                agent,
                needs: each(needs)?,
            },
            ("free", blocks) => Operation::Free {
                agent,
                blocks: each(blocks)?,
            },
            ("reserve", [n]) => Operation::Reserve {
                agent,
                n: number(n)?,
            },
            ("unreserve", [n]) => Operation::Unreserve {
                agent,
                n: number(n)?,
            },
            ("exchange", both) => {
                let (old, needs) = sides(both)?;
                Operation::Exchange { agent, old, needs }
            }
            ("exchange_part", [promised, both @ ..]) => {
                let (old, needs) = sides(both)?;
                Operation::ExchangePart {
                    agent,
                    promised: number(promised)?,
                    old,
                    needs,
                }
            }
            _ => return Err(format!("{text:?} is no operation")),
        })
    }
}

impl FromStr for Need {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (layer, n) =
            (text.split_once('x')).ok_or_else(|| format!("{text:?} is not like 0x2"))?;
        Ok(Need {
            layer: number(layer)?,
            n: number(n)?,
        })
    }
}

impl FromStr for Pick {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts: Vec<&str> = text.split(':').collect();
        Ok(match parts.as_slice() {
            ["mine", k] => Pick::Mine(number(k)?),
            ["given", k] => Pick::Given(number(k)?),
            ["foreign", k] => Pick::Foreign(number(k)?),
            ["forged", block, layer, generation] => Pick::Forged {
                block: number(block)?,
                layer: number(layer)?,
                generation: number(generation)?,
            },
            _ => return Err(format!("{text:?} is no handle")),
        })
    }
}

/// What is given up, and what is taken for it.
fn sides(both: &[&str]) -> Result<(Vec<Pick>, Vec<Need>), String> {
    let mut sides = both.split(|word| *word == "->");
    match (sides.next(), sides.next(), sides.next()) {
        (Some(old), Some(needs), None) => Ok((each(old)?, each(needs)?)),
        _ => Err("an exchange has one `->`".to_owned()),
    }
}

fn number<N: FromStr>(text: &str) -> Result<N, String> {
    text.parse().map_err(|_| format!("{text:?} is no number"))
}

fn each<T: FromStr<Err = String>>(words: &[&str]) -> Result<Vec<T>, String> {
    words.iter().map(|word| word.parse()).collect()
}
