//! The content-checking model by itself: each way in which a cache can be wrong is found, by
//! name and place, and comes out as a wrong token where findings are only noted.

use std::sync::Arc;

use selvedge_core::engine::{
    Admission, BatchEngine, BlockSlot, EngineConfig, Event, Finish, Generator, NewRequest,
    NewSequence, PrefillChunk, StepInput, Wake,
};
use selvedge_core::spec::LayerKind;
use selvedge_core::time::Instant;
use selvedge_core::{
    AgentBlocks, AgentId, BlockPool, BlockRef, KvBlock, LayerId, ModelCacheSpec, RequestId,
};
use selvedge_sim::content::{Attention, ContentBlock, ContentError, ContentModel, Weights};

const WEIGHTS: Weights = Weights {
    seed: 5,
    vocabulary: 1_000,
    stop_every: 9,
    attention: Attention::Blocks,
};

/// Three layers in blocks of 4 tokens, of which the second slides if there is a window.
fn spec(window: Option<u32>) -> ModelCacheSpec {
    let mut kinds = vec![LayerKind::Global; 3];
    if window.is_some() {
        kinds[1] = LayerKind::SlidingWindow;
    }
    ModelCacheSpec::new(3, 1, 8, 4)
        .and_then(|spec| spec.with_layers(kinds, window))
        .expect("a valid model")
}

struct Bench {
    engine: BatchEngine<ContentModel>,
    pool: Arc<BlockPool>,
}

impl Bench {
    fn new(spec: ModelCacheSpec, model: ContentModel, config: EngineConfig) -> Self {
        let pool: Arc<BlockPool> = Arc::new(BlockPool::new(spec, 200).expect("blocks"));
        let engine = BatchEngine::new(pool.clone(), model, config).expect("a valid config");
        Bench { engine, pool }
    }

    fn agent(&self) -> AgentId {
        self.pool.agent("alice").expect("it has a name")
    }

    /// The tokens generated, what of the prompt was reused, and what was told at the end.
    fn ask(&self, prompt: &[u32], max_tokens: u32) -> (Vec<u32>, u32, String) {
        let request = NewRequest::new(self.agent(), prompt.to_vec(), max_tokens);
        self.engine.submit(request, Instant::ZERO).expect("room");
        let (mut tokens, mut reused, mut end) = (Vec::new(), 0, String::new());
        while self.engine.wake() == Wake::Now {
            for event in self.engine.step(Instant::ZERO).expect("alive") {
                match event {
                    Event::Token { token, .. } => tokens.push(token),
                    Event::Started { reused: n, .. } => reused = n,
                    Event::Ended(ended) => end = format!("{:?}", ended.end),
                    _ => {}
                }
            }
        }
        (tokens, reused, end)
    }

    fn take(&self) -> AgentBlocks<'static, ContentBlock> {
        self.engine.take_cache(self.agent()).expect("a cache")
    }

    fn put(&self, cache: AgentBlocks<'static, ContentBlock>) {
        self.engine.put_cache(cache).expect("it fits");
    }
}

/// The same blocks and tokens, the payloads changed.
fn changed(
    cache: AgentBlocks<'static, ContentBlock>,
    spec: &ModelCacheSpec,
    change: impl FnOnce(&mut Vec<ContentBlock>),
) -> AgentBlocks<'static, ContentBlock> {
    let tokens = cache.tokens().to_vec();
    let (lease, blocks) = cache.into_parts();
    let at: Vec<(BlockRef, u32)> = blocks.iter().map(|b| (b.block(), b.tokens())).collect();
    let mut payloads: Vec<ContentBlock> = blocks.into_iter().map(KvBlock::into_data).collect();
    change(&mut payloads);
    let blocks = (at.into_iter().zip(payloads))
        .map(|((block, n), payload)| KvBlock::new(spec, block, n, payload).expect("no more"))
        .collect();
    AgentBlocks::new(spec, lease, blocks, tokens).expect("the same blocks")
}

#[test]
fn a_restored_cache_generates_what_nothing_does() {
    let (mut reused_any, mut stopped, mut slid) = (0, 0, 0);
    for window in [None, Some(3), Some(4), Some(6), Some(40)] {
        for chunk in [2, 7, 64] {
            let (spec, config) = (
                spec(window),
                EngineConfig {
                    prefill_chunk_max: chunk,
                    prefill_chunk_min: 2,
                    ..EngineConfig::default()
                },
            );
            let bench = Bench::new(
                spec.clone(),
                ContentModel::new(spec.clone(), 200, WEIGHTS),
                config,
            );
            let mut said: Vec<u32> = (0..6).collect();
            for turn in 0..14 {
                // Some go on, some part in the middle of a block, some are new but for a token.
                match turn % 4 {
                    3 => said.truncate(said.len() * 2 / 3),
                    2 => said.truncate(1),
                    _ => {}
                }
                said.extend([turn + 100, turn, chunk]);
                let (tokens, reused, end) = bench.ask(&said, 2 + turn);
                let (wanted, finish) = WEIGHTS.expected(&spec, &said, 2 + turn);
                assert_eq!(
                    (tokens, end),
                    (wanted.clone(), format!("Completed({finish:?})")),
                    "turn {turn}, window {window:?}, chunk {chunk}, {reused} reused"
                );
                said.extend(wanted);
                reused_any += u32::from(reused > 0);
                slid += u32::from(window.is_some_and(|window| reused > window));
                stopped += u32::from(finish == Finish::Stop);
            }
        }
    }
    assert!(
        reused_any > 20 && stopped > 5 && slid > 5,
        "{reused_any} reused, {stopped} stopped, {slid} had slid"
    );
}

/// What becomes of a cache that `change` has been at: what the strict model says of it, and
/// whether the other generates something else.
fn broken(window: Option<u32>, change: impl Fn(&mut Vec<ContentBlock>)) -> (String, bool) {
    let (spec, weights) = (
        spec(window),
        Weights {
            stop_every: 0,
            ..WEIGHTS
        },
    );
    let prompt: Vec<u32> = (0..11).collect();
    let turn = |model: ContentModel| {
        let bench = Bench::new(spec.clone(), model, EngineConfig::default());
        let (tokens, ..) = bench.ask(&prompt, 3);
        let longer = [&prompt[..], &tokens, &[77]].concat();
        bench.put(changed(bench.take(), &spec, &change));
        let (tokens, reused, end) = bench.ask(&longer, 6);
        assert!(reused == 14 || !end.starts_with("Completed"), "{end}");
        (tokens, weights.expected(&spec, &longer, 6).0, end)
    };
    let model = ContentModel::new(spec.clone(), 200, weights);
    let (_, _, end) = turn(model.clone());
    let (tokens, wanted, noted) = turn(model.recording());
    assert!(noted.starts_with("Completed"), "it goes on: {noted}");
    (end, tokens != wanted)
}

#[test]
fn what_is_wrong_with_a_cache_is_found_and_says_something_else() {
    let same = |_: &mut Vec<ContentBlock>| {};
    assert_eq!(broken(None, same), ("Completed(Length)".to_owned(), false));
    assert_eq!(
        broken(Some(6), same),
        ("Completed(Length)".to_owned(), false)
    );

    // Layer 1's blocks are the fifth to the eighth: 4 a layer, for 14 tokens.
    let (end, other) = broken(None, |blocks| blocks[5].stored_mut()[3] ^= 1);
    assert!(end.contains("position 7 of layer 1, in block"), "{end}");
    assert!(other, "the last of a block is seen by the next token");
    let (end, other) = broken(None, |blocks| blocks[3].stored_mut()[1] ^= 1);
    assert!(end.contains("position 13 of layer 0"), "{end}");
    assert!(other, "the last of all is");
    let (end, _) = broken(None, |blocks| blocks[0].stored_mut()[0] ^= 1);
    assert!(end.contains("position 0 of layer 0"), "{end}");

    let (end, other) = broken(None, |blocks| blocks.swap(4, 5));
    assert!(end.contains("what was in") && other, "{end}");
    let (end, other) = broken(None, |blocks| {
        blocks[9].stored_mut().pop();
    });
    assert!(
        end.contains("said to hold 4 tokens, and holds 3") && other,
        "{end}"
    );
    // 2 blocks of 6 tokens in the layer that slides, from position 8 on.
    let (end, _) = broken(Some(6), |blocks| blocks[4].stored_mut()[2] ^= 1);
    assert!(end.contains("position 10 of layer 1"), "{end}");
}

#[test]
fn other_weights_say_something_else_and_old_caches_are_refused() {
    let spec = spec(None);
    let other = Weights { seed: 6, ..WEIGHTS };
    let prompt = [1, 2, 3, 4, 5, 6];
    assert_ne!(
        WEIGHTS.expected(&spec, &prompt, 4),
        other.expected(&spec, &prompt, 4)
    );
    let bench = Bench::new(
        spec.clone(),
        ContentModel::new(spec.clone(), 200, WEIGHTS),
        EngineConfig::default(),
    );
    bench.ask(&prompt, 2);
    let cache = bench.take();
    let (tokens, lease) = (cache.tokens().to_vec(), cache.into_parts());
    // What another life of the pool would look like to the backend: same handles, old payloads.
    let mut swapped = ContentModel::new(spec.clone(), 200, WEIGHTS);
    assert_eq!(swapped.swap(spec, 200, other), Ok(()));
    let (lease, mut prefix) = lease;
    let found = swapped.insert(NewSequence {
        request: RequestId(1),
        agent: lease.agent(),
        tokens: &[&tokens[..], &[9]].concat(),
        reused: tokens.len() as u32,
        prefix: &mut prefix,
        blocks: lease.blocks(),
        max_tokens: 1,
    });
    let Err(ContentError::OtherWeights {
        filled: 5, now: 6, ..
    }) = found
    else {
        panic!("{found:?}");
    };
    assert!(!prefix.is_empty(), "refused, and left in place");
}

/// A model, and eight blocks of one layer to do wrong with.
fn by_hand() -> (ContentModel, AgentId, Vec<BlockRef>) {
    let spec = ModelCacheSpec::new(1, 1, 8, 4).expect("a valid model");
    let pool: BlockPool = BlockPool::new(spec.clone(), 8).expect("blocks");
    let agent = pool.agent("alice").expect("it has a name");
    let lease = pool.allocate(8, LayerId(0), agent).expect("blocks");
    let blocks = lease.blocks().to_vec();
    (ContentModel::new(spec, 8, WEIGHTS), agent, blocks)
}

fn insert(
    model: &mut ContentModel,
    (request, agent): (u64, AgentId),
    tokens: &[u32],
    blocks: &[BlockRef],
) -> Result<(), ContentError> {
    model.insert(NewSequence {
        request: RequestId(request),
        agent,
        tokens,
        reused: 0,
        prefix: &mut Vec::new(),
        blocks,
        max_tokens: 100,
    })
}

#[test]
fn a_block_of_two_sequences_is_found() {
    let (mut model, agent, blocks) = by_hand();
    insert(&mut model, (1, agent), &[1], &blocks[..2]).expect("its own blocks");
    let found = insert(&mut model, (2, agent), &[4], &blocks[1..3]);
    let (request, owner) = (RequestId(2), RequestId(1));
    let (block, held) = (blocks[1], blocks[1]);
    assert_eq!(
        found,
        Err(ContentError::DoubleOwned {
            request,
            block,
            owner,
            held
        })
    );
    // By a growing sequence, it is told in the next step.
    insert(&mut model, (2, agent), &[4], &blocks[2..3]).expect("its own blocks");
    model.extend(request, &blocks[..1]);
    let decode = &[owner, request];
    let found = model.step(&StepInput {
        decode,
        prefill: &[],
    });
    assert!(
        matches!(found, Err(ContentError::DoubleOwned { .. })),
        "{found:?}"
    );
    // And whoever had it before finds it another's.
    let found = model.step(&StepInput {
        decode,
        prefill: &[],
    });
    assert!(
        matches!(
            found,
            Err(ContentError::NotOwned {
                owner: Some(RequestId(2)),
                ..
            })
        ),
        "{found:?}"
    );
    assert_eq!(model.counts().findings, model.findings().len() as u64);
}

#[test]
fn a_cache_that_somebody_wrote_over_is_found() {
    let (mut model, agent, blocks) = by_hand();
    insert(&mut model, (1, agent), &[1, 2, 3], &blocks[..1]).expect("its own blocks");
    let tokens = [PrefillChunk {
        request: RequestId(1),
        start: 0,
        tokens: &[1, 2],
    }];
    model
        .step(&StepInput {
            decode: &[],
            prefill: &tokens,
        })
        .expect("a chunk");
    let slot = BlockSlot {
        block: blocks[0],
        tokens: 0..2,
    };
    let payloads = model
        .extract_cache(RequestId(1), &[slot])
        .expect("it is there");
    model.remove(RequestId(1));
    // The same block, a use later, while the cache is thought to lie in it.
    let b = blocks[0];
    let later = BlockRef::from_parts(b.pool(), b.id(), b.layer(), b.generation() + 1);
    insert(&mut model, (2, agent), &[7], &[later]).expect("nobody has it");
    model.remove(RequestId(2));
    let mut prefix: Vec<KvBlock<ContentBlock>> = (payloads.into_iter())
        .map(|payload| KvBlock::new(model.spec(), b, 2, payload).expect("two tokens"))
        .collect();
    let found = model.insert(NewSequence {
        request: RequestId(3),
        agent,
        tokens: &[1, 2, 3],
        reused: 2,
        prefix: &mut prefix,
        blocks: &blocks[..1],
        max_tokens: 1,
    });
    let request = RequestId(3);
    assert_eq!(
        found,
        Err(ContentError::Overwritten {
            request,
            block: b,
            by: later
        })
    );
}

#[test]
fn calls_out_of_order_are_found() {
    let (mut model, agent, blocks) = by_hand();
    insert(&mut model, (1, agent), &[1, 2, 3, 4], &blocks[..1]).expect("its own blocks");
    let twice = insert(&mut model, (1, agent), &[1], &blocks[1..2]);
    assert_eq!(
        twice,
        Err(ContentError::Twice {
            request: RequestId(1)
        })
    );
    let early = model.step(&StepInput {
        decode: &[RequestId(1)],
        prefill: &[],
    });
    assert!(
        matches!(early, Err(ContentError::TooEarly { computed: 0, .. })),
        "{early:?}"
    );
    let chunk = PrefillChunk {
        request: RequestId(1),
        start: 3,
        tokens: &[4],
    };
    let wrong = model.step(&StepInput {
        decode: &[],
        prefill: &[chunk],
    });
    assert!(
        matches!(wrong, Err(ContentError::WrongChunk { start: 3, .. })),
        "{wrong:?}"
    );
    let empty = model.step(&StepInput {
        decode: &[],
        prefill: &[],
    });
    assert_eq!(empty, Err(ContentError::EmptyStep));
    let in_use = model.swap(ModelCacheSpec::new(1, 1, 8, 4).expect("valid"), 8, WEIGHTS);
    assert_eq!(in_use, Err(ContentError::InUse { sequences: 1 }));
    model.remove(RequestId(1));
    model.remove(RequestId(1));
    assert_eq!(model.blocks().count(), 0);
}

#[test]
fn preemption_and_growth_change_nothing() {
    let spec = spec(Some(6));
    let weights = Weights {
        stop_every: 0,
        ..WEIGHTS
    };
    let config = EngineConfig {
        admission: Admission::Watermark { blocks: 0 },
        ..EngineConfig::default()
    };
    let pool: Arc<BlockPool> = Arc::new(BlockPool::new(spec.clone(), 22).expect("blocks"));
    let model = ContentModel::new(spec.clone(), 22, weights);
    let engine: BatchEngine<ContentModel> =
        BatchEngine::new(pool.clone(), model, config).expect("a valid config");
    let mut wanted = std::collections::BTreeMap::new();
    for (name, first) in [("a", 0), ("b", 10), ("c", 20)] {
        let prompt: Vec<u32> = (first..first + 6).collect();
        let agent = pool.agent(name).expect("it has a name");
        let id = (engine.submit(NewRequest::new(agent, prompt.clone(), 20), Instant::ZERO))
            .expect("room");
        wanted.insert(id, weights.expected(&spec, &prompt, 20).0);
    }
    let mut preempted = 0;
    while engine.wake() == Wake::Now {
        for event in engine.step(Instant::ZERO).expect("alive") {
            match event {
                Event::Token {
                    request,
                    token,
                    index,
                } => {
                    assert_eq!(wanted[&request][index as usize], token, "{request}");
                }
                Event::Preempted { .. } => preempted += 1,
                Event::Ended(ended) => {
                    assert_eq!(ended.generated as usize, wanted[&ended.request].len());
                }
                _ => {}
            }
        }
    }
    assert!(preempted > 0, "nobody gave way");
}
