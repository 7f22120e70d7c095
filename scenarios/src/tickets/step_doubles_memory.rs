//! Ticket SPRINT-2.5, issues 6 and 7: when a sequence ends, `step` extracts its cache into new
//! blocks while the old ones still hold that of the agent's last turn, and frees those
//! afterwards. For a moment both are there: 3 GB and 3 GB, on a machine with room for one.
//!
//! One agent has several turns, each of which goes on from the last. Payloads count their bytes
//! up and down. In no turn may there be more than 1.1 of the cache that it ends with.
//!
//! What ships moves what is cached into the backend, and at the end out of it into the same
//! blocks and new ones: no token's payload is ever there twice.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;

use selvedge_core::engine::{
    BatchEngine, BlockSlot, EngineConfig, Generator, NewRequest, NewSequence, Produced, StepInput,
};
use selvedge_core::platform::{Platform, Shared as _};
use selvedge_core::time::Instant;
use selvedge_core::{AgentId, KvBlock, RequestId};
use selvedge_sim::{Cx, Observation, bodies, reach, violation};

use crate::bed::{agent_of, pool_of};
use crate::origin::engine::{Meter, OriginEngine, Slice, TOKEN_BYTES};
use crate::origin::subject::{ALICE, Engine, Fate, Origin, Setup, fates_of, run};
use crate::registry::{Expect, Scenario, explorer, loom, native};

pub(super) const SCENARIO: Scenario = Scenario {
    id: "step-doubles-memory",
    ticket: "SPRINT-2.5 #6, #7",
    summary: "new cache extracted before the old one is freed: both at once",
    source: concat!(
        include_str!("step_doubles_memory.rs"),
        include_str!("../origin/engine.rs"),
        include_str!("../origin/subject.rs"),
        include_str!("../bed.rs")
    ),
    twin: bodies!(as_reported),
    shipped: bodies!(shipped),
    signature: "peak-above-one-cache",
    must_reach: &["went-on-from-the-cache", "nothing-left"],
    // One thread has one order: shuttle would run it thousands of times.
    engines: &[
        native(Expect::Finds),
        explorer(Expect::Finds),
        loom(Expect::Finds),
    ],
};

const LAYERS: u32 = 3;
const BLOCKS: u32 = 120;
const TURNS: u32 = 5;
/// What every turn generates, and the user's part of it.
const GENERATED: u32 = 6;
const ASKED: usize = 5;
/// The token that what ships generates; the prompt of a turn begins with the turns before it.
const TOKEN: u32 = 7;

/// An engine whose payloads are counted.
trait Measured: Send + Sync + 'static {
    fn new() -> Self;
    /// One turn of the agent, to its end; its peak is that of the steps.
    fn turn(&self, prompt: &[u32]);
    fn meter(&self) -> &Meter;
    fn forget_cache(&self);
}

/// As reported.
fn as_reported<P: Platform>(_: &Cx) -> Observation {
    turns_of_one_agent::<OriginEngine<P>>()
}

/// The code that ships.
fn shipped<P: Platform>(_: &Cx) -> Observation {
    turns_of_one_agent::<Shipped<P>>()
}

fn turns_of_one_agent<M: Measured>() -> Observation {
    let engine = M::new();
    let mut conversation = Vec::new();
    for turn in 0..TURNS {
        conversation.extend([1; ASKED]);
        engine.turn(&conversation);
        conversation.extend([TOKEN; GENERATED as usize]);

        let one_cache = conversation.len() as u64 * u64::from(LAYERS) * TOKEN_BYTES;
        let (live, peak) = (engine.meter().live(), engine.meter().peak());
        if live != one_cache {
            violation!(
                "not-one-cache",
                "{live} bytes live after a turn; a cache has {one_cache}"
            );
        }
        if peak * 10 > one_cache * 11 {
            violation!(
                "peak-above-one-cache",
                "{peak} bytes at most, of a cache of {one_cache}"
            );
        }
        if turn > 0 {
            reach("went-on-from-the-cache");
        }
    }
    engine.forget_cache();
    match engine.meter().live() {
        0 => reach("nothing-left"),
        left => violation!("payload-leaked", "{left} bytes"),
    }
    Observation::none()
}

impl<P: Platform> Measured for OriginEngine<P> {
    fn new() -> Self {
        Engine::new(Setup {
            layers: LAYERS,
            blocks: BLOCKS,
            origin: Origin::TICKET,
            ..Setup::default()
        })
    }

    fn turn(&self, prompt: &[u32]) {
        let submitted = self.submit(ALICE, prompt, GENERATED);
        // What the origin copies there is another matter, and stayed after the ticket: with the
        // old cache given up by now, what follows would have one.
        self.meter().forget_peak();
        let ended = run(self, 2 * GENERATED);
        check_completed(submitted.ok(), &ended);
    }

    fn meter(&self) -> &Meter {
        self.meter()
    }

    fn forget_cache(&self) {
        self.forget_caches();
    }
}

fn check_completed(id: Option<u64>, ended: &[(u64, Fate)]) {
    let done = Fate::Completed {
        generated: GENERATED,
    };
    if !id.is_some_and(|id| ended == [(id, done)]) {
        violation!("wrong-end", "of request {id:?}: {ended:?}");
    }
}

/// The code that ships.
struct Shipped<P: Platform> {
    engine: BatchEngine<Backend, P>,
    alice: AgentId,
    meter: Arc<Meter>,
}

impl<P: Platform> Measured for Shipped<P> {
    fn new() -> Self {
        let pool = pool_of(LAYERS, BLOCKS);
        let alice = agent_of(&pool, "alice");
        let meter = Arc::new(Meter::default());
        let backend = Backend {
            meter: meter.clone(),
            sequences: BTreeMap::new(),
        };
        match BatchEngine::new(P::Arc::new(pool), backend, EngineConfig::default()) {
            Ok(engine) => Shipped {
                engine,
                alice,
                meter,
            },
            Err(refused) => violation!("bad-configuration", "{refused}"),
        }
    }

    fn turn(&self, prompt: &[u32]) {
        let request = NewRequest::new(self.alice, prompt.to_vec(), GENERATED);
        self.meter.forget_peak();
        let submitted = self.engine.submit(request, Instant::ZERO);
        let mut told = Vec::new();
        // The prompt takes a step, too.
        for _ in 0..2 * GENERATED {
            told.extend(self.engine.step(Instant::ZERO).unwrap_or_default());
        }
        check_completed(submitted.ok().map(|id| id.0), &fates_of(&told));
    }

    fn meter(&self) -> &Meter {
        &self.meter
    }

    fn forget_cache(&self) {
        drop(self.engine.take_cache(self.alice));
    }
}

/// A backend that owns what it computes, and moves it.
struct Backend {
    meter: Arc<Meter>,
    sequences: BTreeMap<RequestId, Sequence>,
}

struct Sequence {
    /// Tokens of it, of which the last may not be computed.
    len: usize,
    layers: Vec<Slice>,
}

impl Sequence {
    fn compute(&mut self, len: usize) {
        for layer in &mut self.layers {
            for _ in layer.len()..len {
                layer.push(TOKEN);
            }
        }
    }
}

impl Generator for Backend {
    type Payload = Slice;
    type Error = Infallible;

    fn insert(&mut self, new: NewSequence<'_, Slice>) -> Result<(), Infallible> {
        let mut layers: Vec<Slice> = (0..LAYERS).map(|_| Slice::new(&self.meter)).collect();
        for block in new.prefix.drain(..) {
            let layer = block.block().layer().0 as usize;
            layers[layer].append(KvBlock::into_data(block));
        }
        for layer in &mut layers {
            layer.truncate(new.reused as usize);
        }
        let len = new.tokens.len();
        self.sequences.insert(new.request, Sequence { len, layers });
        Ok(())
    }

    fn step(&mut self, input: &StepInput<'_>) -> Result<Vec<Produced>, Infallible> {
        for chunk in input.prefill {
            if let Some(sequence) = self.sequences.get_mut(&chunk.request) {
                sequence.compute(chunk.start as usize + chunk.tokens.len());
            }
        }
        let mut produced = Vec::new();
        for &request in input.decode {
            if let Some(sequence) = self.sequences.get_mut(&request) {
                sequence.len += 1;
                sequence.compute(sequence.len);
                produced.push(Produced {
                    request,
                    token: TOKEN,
                    finish: None,
                });
            }
        }
        Ok(produced)
    }

    fn extract_cache(
        &mut self,
        request: RequestId,
        slots: &[BlockSlot],
    ) -> Result<Vec<Slice>, Infallible> {
        let Some(sequence) = self.sequences.get_mut(&request) else {
            return Ok(Vec::new());
        };
        // Slots come in the order of the sequence, so each is what its layer begins with.
        let of = |slot: &BlockSlot| {
            let layer = &mut sequence.layers[slot.block.layer().0 as usize];
            let rest = layer.split_off((slot.tokens.end - slot.tokens.start) as usize);
            std::mem::replace(layer, rest)
        };
        Ok(slots.iter().map(of).collect())
    }

    fn remove(&mut self, request: RequestId) {
        self.sequences.remove(&request);
    }
}
