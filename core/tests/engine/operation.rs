//! [`Operation`]: what is done to an engine, as a value: drawn at random, made small when it
//! fails, and printed as Rust that can be pasted into `engine_regressions.rs`.
#![allow(clippy::disallowed_types, reason = "proptest's macros name std's Arc")]

use std::time::Duration;

use proptest::collection::vec;
use proptest::prelude::*;
use selvedge_core::ModelCacheSpec;
use selvedge_core::engine::{Admission, EngineConfig};
use selvedge_core::spec::LayerKind;

use super::backend::{Call, Wrong};

/// An engine, and what is done to it.
#[derive(Clone, Debug)]
pub(crate) struct Sequence {
    pub(crate) shape: Shape,
    pub(crate) operations: Vec<Operation>,
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
    Reconfigure {
        layers: u32,
        blocks: u32,
    },
    TakeCache(usize),
    PutCache,
    /// Somebody else takes so many blocks of the pool, or gives back what it took first.
    OthersTake(u32),
    OthersGive,
    Wrong(Wrong),
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
    (shapes(), vec(operations(), 1..60))
        .prop_map(|(shape, operations)| Sequence { shape, operations })
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
        2 => (1..=2u32, 8..=20u32).prop_map(|(layers, blocks)| Reconfigure { layers, blocks }),
        3 => (0..4usize).prop_map(TakeCache),
        3 => Just(PutCache),
        4 => (1..8u32).prop_map(OthersTake),
        6 => Just(OthersGive),
        8 => wrong().prop_map(Wrong),
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

/// Those that end the engine are rare, or little else would be tried.
fn wrong() -> impl Strategy<Value = Wrong> {
    prop_oneof![
        6 => Just(Wrong::InsertError),
        4 => Just(Wrong::InsertErrorTaking),
        6 => Just(Wrong::Unknown),
        6 => Just(Wrong::Twice),
        6 => Just(Wrong::Unplanned),
        12 => Just(Wrong::Silent),
        6 => Just(Wrong::ExtractError),
        4 => Just(Wrong::ExtractShort),
        1 => Just(Wrong::InsertPanic),
        1 => Just(Wrong::StepError),
        1 => Just(Wrong::StepPanic),
        1 => Just(Wrong::ExtractPanic),
        1 => Just(Wrong::RemovePanic),
    ]
}

fn call() -> impl Strategy<Value = Call> {
    prop_oneof![
        2 => Just(Call::Insert),
        4 => Just(Call::Step),
        1 => Just(Call::Extract),
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
