//! [`Operation`]: what is done to an engine, as a value: drawn at random, made small when it
//! fails, and printed as Rust that can be pasted into `engine_regressions.rs`.

use std::time::Duration;

use proptest::collection::vec;
use proptest::prelude::*;
use selvedge_core::ModelCacheSpec;
use selvedge_core::engine::{Admission, EngineConfig};
use selvedge_core::spec::LayerKind;

use selvedge_sim::faulty::{Call, Fault, FaultPlan, PlannedFault};

/// An engine, and what is done to it.
#[derive(Clone, Debug)]
pub(crate) struct Sequence {
    pub(crate) shape: Shape,
    /// What the backend does wrong.
    pub(crate) faults: Vec<PlannedFault>,
    pub(crate) operations: Vec<Operation>,
}

impl Sequence {
    pub(crate) fn plan(&self) -> FaultPlan {
        FaultPlan::try_from(self.faults.clone()).expect("drawn from those that fit")
    }
}

/// The sizes and bounds of an engine and its pool. Blocks hold 4 tokens.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Shape {
    pub(crate) layers: u32,
    /// The last layer slides over so many tokens.
    pub(crate) window: Option<u32>,
    pub(crate) blocks: u32,
    pub(crate) max_running: u32,
    pub(crate) max_waiting: u32,
    pub(crate) max_overtakes: u32,
    pub(crate) watermark: Option<u32>,
    pub(crate) chunk: u32,
}

impl Shape {
    pub(crate) fn spec(&self) -> ModelCacheSpec {
        spec_of(self.layers, self.window)
    }

    pub(crate) fn config(&self) -> EngineConfig {
        EngineConfig {
            max_running: self.max_running,
            max_waiting: self.max_waiting,
            admission: match self.watermark {
                None => Admission::Full,
                Some(blocks) => Admission::Watermark { blocks },
            },
            max_overtakes: self.max_overtakes,
            prefill_chunk_max: self.chunk,
            prefill_chunk_min: self.chunk.div_ceil(2),
            max_silent_steps: 1,
            retry: Duration::from_millis(10),
        }
    }
}

/// A model of blocks of 4 tokens, whose last layer slides over `window` if there is one.
pub(crate) fn spec_of(layers: u32, window: Option<u32>) -> ModelCacheSpec {
    let mut kinds = vec![LayerKind::Global; layers as usize];
    if let (Some(_), Some(last)) = (window, kinds.last_mut()) {
        *last = LayerKind::SlidingWindow;
    }
    ModelCacheSpec::new(layers, 1, 8, 4)
        .and_then(|spec| spec.with_layers(kinds, window))
        .expect("a shape is a valid model")
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Operation {
    Submit(Ask),
    /// The `k`-th of all requests, counted round; one more is one that never was.
    Cancel(usize),
    Steps(u32),
    Pass(u64),
    Drain(u64),
    Resume,
    Shutdown,
    /// Another model, with weights of its own.
    Reconfigure {
        layers: u32,
        window: Option<u32>,
        blocks: u32,
        seed: u64,
    },
    TakeCache(usize),
    PutCache,
    /// Somebody else takes so many blocks of the pool, or gives back what it took first.
    OthersTake(u32),
    OthersGive,
    /// In the middle of the next such call.
    During(Call, Inner),
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Ask {
    pub(crate) agent: usize,
    pub(crate) prompt: Prompt,
    pub(crate) max_tokens: u32,
    pub(crate) keep: bool,
    pub(crate) deadline: Option<u64>,
}

/// What is asked, as against what the agent has said and heard so far.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Prompt {
    /// So many tokens, which depend on the salt.
    New(u32, u32),
    /// All of it, and so many tokens more.
    GoesOn(u32),
    /// Half of it, and so many tokens more.
    Parts(u32),
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Inner {
    Cancel(usize),
    Submit(Ask),
    Drain(u64),
    Shutdown,
}

pub(crate) fn sequences() -> impl Strategy<Value = Sequence> {
    (shapes(), vec(faults(), 0..5), vec(operations(), 1..60)).prop_map(
        |(shape, faults, operations)| Sequence {
            shape,
            faults: faults.into_iter().flatten().collect(),
            operations,
        },
    )
}

fn shapes() -> impl Strategy<Value = Shape> {
    let sizes = (1..=3u32, prop::option::weighted(0.4, 3..=9u32), 8..=28u32);
    let bounds = (
        1..=4u32,
        1..=4u32,
        0..=2u32,
        prop::option::weighted(0.5, 0..=6u32),
        2..=9u32,
    );
    (sizes, bounds).prop_map(|((layers, window, blocks), bounds)| Shape {
        layers,
        window,
        blocks,
        max_running: bounds.0,
        max_waiting: bounds.1,
        max_overtakes: bounds.2,
        watermark: bounds.3,
        chunk: bounds.4,
    })
}

fn operations() -> impl Strategy<Value = Operation> {
    use Operation::*;
    prop_oneof![
        30 => ask().prop_map(Submit),
        8 => (0..12usize).prop_map(Cancel),
        40 => (1..6u32).prop_map(Steps),
        6 => (1..30u64).prop_map(Pass),
        2 => (0..40u64).prop_map(Drain),
        3 => Just(Resume),
        1 => Just(Shutdown),
        4 => reconfigure(),
        3 => (0..4usize).prop_map(TakeCache),
        3 => Just(PutCache),
        4 => (1..8u32).prop_map(OthersTake),
        6 => Just(OthersGive),
        6 => (call(), inner()).prop_map(|(call, inner)| During(call, inner)),
    ]
}

fn ask() -> impl Strategy<Value = Ask> {
    let prompt = prop_oneof![
        4 => (0..14u32, 0..6u32).prop_map(|(n, salt)| Prompt::New(n, salt)),
        5 => (0..4u32).prop_map(Prompt::GoesOn),
        3 => (0..6u32).prop_map(Prompt::Parts),
    ];
    let max_tokens = prop_oneof![1 => Just(0u32), 30 => 1..10u32, 2 => 10..200u32];
    let keep = prop::bool::weighted(0.8);
    let deadline = prop::option::weighted(0.15, 0..60u64);
    (0..4usize, prompt, max_tokens, keep, deadline).prop_map(
        |(agent, prompt, max_tokens, keep, deadline)| Ask {
            agent,
            prompt,
            max_tokens,
            keep,
            deadline,
        },
    )
}

fn reconfigure() -> impl Strategy<Value = Operation> {
    let window = prop::option::weighted(0.4, 3..=9u32);
    (1..=3u32, window, 8..=24u32, 2..4u64).prop_map(|(layers, window, blocks, seed)| {
        Operation::Reconfigure {
            layers,
            window,
            blocks,
            seed,
        }
    })
}

/// Those that end the engine are rare, or little else would be tried.
fn faults() -> impl Strategy<Value = Vec<PlannedFault>> {
    let slow = (1..40u64).prop_map(|millis| Fault::Slow { millis });
    let fault = prop_oneof![
        6 => Just((Call::Insert, Fault::Error)),
        3 => Just((Call::Insert, Fault::OutOfMemory)),
        12 => Just((Call::Insert, Fault::ErrorTakingPrefix)),
        6 => Just((Call::Step, Fault::UnknownId)),
        6 => Just((Call::Step, Fault::DuplicateToken)),
        6 => Just((Call::Step, Fault::DuplicateFinish)),
        6 => Just((Call::Step, Fault::UnplannedId)),
        14 => Just((Call::Step, Fault::Silence)),
        6 => Just((Call::Extract, Fault::Error)),
        3 => Just((Call::Extract, Fault::OutOfMemory)),
        4 => Just((Call::Extract, Fault::Short)),
        4 => Just((Call::Swap, Fault::Error)),
        2 => Just((Call::Swap, Fault::OutOfMemory)),
        5 => prop::sample::select(&Call::ALL[..]).prop_map(|call| (call, Fault::Panic)),
        1 => Just((Call::Step, Fault::Error)),
        1 => Just((Call::Step, Fault::OutOfMemory)),
        9 => (prop::sample::select(&Call::ALL[..]), slow),
    ];
    // An engine steps more often than it does anything else.
    (fault, 1..12u64, 1..60u64, 1..3usize).prop_map(|((call, fault), few, many, times)| {
        let nth = match call {
            Call::Step => many,
            Call::Swap => 1,
            Call::Insert | Call::Remove => few,
            Call::Extract | Call::Extend => 1 + few / 4,
        };
        // A sequence that is left out once goes on.
        let times = if fault == Fault::Silence { times } else { 1 };
        vec![PlannedFault { call, nth, fault }; times]
    })
}

fn call() -> impl Strategy<Value = Call> {
    prop_oneof![
        2 => Just(Call::Insert),
        4 => Just(Call::Step),
        1 => Just(Call::Extract),
        1 => Just(Call::Extend),
        1 => Just(Call::Remove),
    ]
}

fn inner() -> impl Strategy<Value = Inner> {
    prop_oneof![
        10 => (0..12usize).prop_map(Inner::Cancel),
        4 => ask().prop_map(Inner::Submit),
        2 => (0..40u64).prop_map(Inner::Drain),
        1 => Just(Inner::Shutdown),
    ]
}
