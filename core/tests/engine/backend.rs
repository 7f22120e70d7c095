//! [`Backend`]: a small model whose every token depends on all before it, and which keeps, for
//! each block, the tokens that the block holds. So a cache that is lost, mixed up, stale or cut
//! at the wrong place is noticed when it is loaded, and the wrong token comes out if it is not.
//!
//! What a test wants of it goes through its [`Handle`]: faults, calls back into the engine in
//! the middle of a call, and a look at what it holds.
#![allow(
    clippy::disallowed_types,
    reason = "the handle is shared with a backend on the shipped platform"
)]

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use selvedge_core::engine::{
    BlockSlot, Finish, Generator, NewSequence, PrefillChunk, Produced, StepInput,
};
use selvedge_core::spec::LayerKind;
use selvedge_core::{BlockRef, LayerId, ModelCacheSpec, RequestId};

/// What a block holds: which block, and the tokens of the sequence it covers.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Payload {
    block: BlockRef,
    start: u32,
    tokens: Vec<u32>,
}

/// The token that follows `tokens`, and whether it is a stop.
pub(crate) fn next_token(tokens: &[u32]) -> (u32, bool) {
    let mix = |hash: u32, &token: &u32| (hash ^ token).wrapping_mul(0x0100_0193).rotate_left(5);
    let hash = tokens.iter().fold(0x811c_9dc5, mix);
    (hash % 50, hash % 11 == 0)
}

/// What a request must generate, if nothing happens to it.
pub(crate) fn expected(prompt: &[u32], max_tokens: u32) -> (Vec<u32>, Finish) {
    let mut tokens = prompt.to_vec();
    while tokens.len() < prompt.len() + max_tokens as usize {
        let (token, stop) = next_token(&tokens);
        if stop {
            return (tokens.split_off(prompt.len()), Finish::Stop);
        }
        tokens.push(token);
    }
    (tokens.split_off(prompt.len()), Finish::Length)
}

/// What the backend does wrong at the next occasion.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Wrong {
    InsertError,
    /// After it has taken the prefix.
    InsertErrorTaking,
    InsertPanic,
    StepError,
    StepPanic,
    /// Returns a sequence that nobody inserted.
    Unknown,
    /// Returns one that it has returned in the same step.
    Twice,
    /// Returns one that it was not asked to decode.
    Unplanned,
    /// Returns nothing for one.
    Silent,
    ExtractError,
    /// Hands over one payload too few.
    ExtractShort,
    ExtractPanic,
    RemovePanic,
}

/// A call of the engine's to the backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Call {
    Insert,
    Step,
    Extract,
    Remove,
}

type Callback = Box<dyn FnOnce() + Send>;

#[derive(Default)]
pub(crate) struct Inside {
    pub(crate) wrongs: VecDeque<Wrong>,
    /// What was done wrong, in the order it was, and to whom.
    pub(crate) done: Vec<(Wrong, Option<RequestId>)>,
    pub(crate) callbacks: Vec<(Call, Callback)>,
    /// Tokens computed of each sequence.
    pub(crate) computed: BTreeMap<RequestId, Vec<u32>>,
    pub(crate) inserted: Vec<RequestId>,
    pub(crate) removed: Vec<RequestId>,
    /// Of each step, how many decoded and how many prompt tokens were computed.
    pub(crate) steps: Vec<(usize, usize)>,
    /// Swaps of the model that succeeded.
    pub(crate) swaps: u32,
}

#[derive(Clone, Default)]
pub(crate) struct Handle(Arc<Mutex<Inside>>);

impl Handle {
    /// Looks inside. Not to be kept across a call of the engine.
    pub(crate) fn with<T>(&self, f: impl FnOnce(&mut Inside) -> T) -> T {
        f(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn do_wrong(&self, wrong: Wrong) {
        self.with(|inside| inside.wrongs.push_back(wrong));
    }

    /// Runs `f` in the middle of the next `call`.
    pub(crate) fn during(&self, call: Call, f: impl FnOnce() + Send + 'static) {
        self.with(|inside| inside.callbacks.push((call, Box::new(f))));
    }

    /// The first wrong that is due, if it is one of `of`; done to `whom`.
    fn wrong(&self, of: &[Wrong], whom: Option<RequestId>) -> Option<Wrong> {
        self.with(|inside| {
            let wrong = *inside.wrongs.front().filter(|wrong| of.contains(wrong))?;
            inside.wrongs.pop_front();
            inside.done.push((wrong, whom));
            Some(wrong)
        })
    }

    fn call_back(&self, call: Call) {
        let due = self.with(|inside| {
            let place = inside.callbacks.iter().position(|of| of.0 == call)?;
            Some(inside.callbacks.remove(place).1)
        });
        if let Some(callback) = due {
            callback();
        }
    }
}

#[derive(Debug)]
pub(crate) struct Oops(&'static str);

impl fmt::Display for Oops {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

struct Sequence {
    prompt: Vec<u32>,
    /// Everything so far: what the last decode returned included.
    tokens: Vec<u32>,
    computed: usize,
    prompt_left: usize,
    max_tokens: u32,
    generated: u32,
}

pub(crate) struct Backend {
    pub(crate) spec: ModelCacheSpec,
    handle: Handle,
    sequences: BTreeMap<RequestId, Sequence>,
}

impl Backend {
    pub(crate) fn new(spec: ModelCacheSpec, handle: Handle) -> Self {
        Backend {
            spec,
            handle,
            sequences: BTreeMap::new(),
        }
    }

    /// Another model, with other weights.
    pub(crate) fn swap(&mut self, spec: ModelCacheSpec) -> Result<(), Oops> {
        if self.handle.wrong(&[Wrong::InsertError], None).is_some() {
            return Err(Oops("no such weights"));
        }
        assert!(self.sequences.is_empty(), "swapped under a sequence");
        self.spec = spec;
        self.handle.with(|inside| inside.swaps += 1);
        Ok(())
    }

    fn report(&self) {
        let computed = |s: &Sequence| s.tokens[..s.computed].to_vec();
        let all = self.sequences.iter().map(|(&id, s)| (id, computed(s)));
        self.handle.with(|inside| inside.computed = all.collect());
    }

    fn held(&self, layer: LayerId, tokens: u32) -> u32 {
        match self.spec.layer_kind(layer) {
            Some(LayerKind::SlidingWindow) => {
                tokens.min(self.spec.sliding_window_tokens().unwrap_or(tokens))
            }
            _ => tokens,
        }
    }

    /// Each layer must hold the first `reused` tokens, or what of them its window lets it see.
    fn check_prefix(&self, sequence: &NewSequence<'_, Payload>) {
        let reused = sequence.reused;
        assert!(
            (reused as usize) < sequence.tokens.len(),
            "nothing is left to compute"
        );
        let layers = self.spec.n_layers();
        for layer in (0..layers).map(LayerId) {
            let blocks = sequence
                .prefix
                .iter()
                .filter(|b| b.block().layer() == layer);
            let mut known = vec![None; reused as usize];
            for block in blocks {
                let payload = block.data();
                assert_eq!(payload.block, block.block(), "a payload has left its block");
                assert_eq!(payload.tokens.len() as u32, block.tokens());
                assert!(
                    sequence.blocks.contains(&block.block()),
                    "a block it does not own"
                );
                for (at, &token) in (payload.start..).zip(&payload.tokens) {
                    if let Some(place) = known.get_mut(at as usize) {
                        *place = Some(token);
                    }
                }
            }
            let window = self.held(layer, reused);
            let seen = (reused - window) as usize..reused as usize;
            let wanted = sequence.tokens[seen.clone()].iter().copied().map(Some);
            assert!(
                known[seen].iter().copied().eq(wanted),
                "{layer} holds {known:?}"
            );
        }
    }

    fn compute(&mut self, chunk: &PrefillChunk<'_>) {
        let sequence = self
            .sequences
            .get_mut(&chunk.request)
            .expect("a known sequence");
        assert_eq!(
            sequence.computed, chunk.start as usize,
            "a chunk out of order"
        );
        let end = sequence.computed + chunk.tokens.len();
        assert_eq!(&sequence.tokens[sequence.computed..end], chunk.tokens);
        assert!(
            end < sequence.prompt.len(),
            "the last token is for the first decode"
        );
        sequence.computed = end;
    }

    fn decode(&mut self, request: RequestId) -> Produced {
        let sequence = self.sequences.get_mut(&request).expect("a known sequence");
        assert!(
            sequence.computed + 1 >= sequence.tokens.len(),
            "decoded before its prompt"
        );
        let (token, stop) = next_token(&sequence.tokens);
        sequence.tokens.push(token);
        sequence.computed = sequence.tokens.len();
        sequence.generated += 1;
        let finish = match stop {
            true => Some(Finish::Stop),
            false => (sequence.generated >= sequence.max_tokens).then_some(Finish::Length),
        };
        Produced {
            request,
            token,
            finish,
        }
    }
}

impl Generator for Backend {
    type Payload = Payload;
    type Error = Oops;

    fn insert(&mut self, sequence: NewSequence<'_, Payload>) -> Result<(), Oops> {
        let id = sequence.request;
        self.handle.call_back(Call::Insert);
        let wrongs = [
            Wrong::InsertError,
            Wrong::InsertErrorTaking,
            Wrong::InsertPanic,
        ];
        match self.handle.wrong(&wrongs, Some(id)) {
            Some(Wrong::InsertPanic) => panic!("insert panics"),
            Some(Wrong::InsertError) => return Err(Oops("no room")),
            Some(_) => {
                sequence.prefix.pop();
                return Err(Oops("no room, half-way"));
            }
            None => {}
        }
        self.check_prefix(&sequence);
        sequence.prefix.clear();
        let new = Sequence {
            prompt: sequence.tokens.to_vec(),
            tokens: sequence.tokens.to_vec(),
            computed: sequence.reused as usize,
            prompt_left: sequence.tokens.len(),
            max_tokens: sequence.max_tokens,
            generated: 0,
        };
        assert!(
            self.sequences.insert(id, new).is_none(),
            "{id} was inserted twice"
        );
        self.handle.with(|inside| inside.inserted.push(id));
        self.report();
        Ok(())
    }

    fn step(&mut self, input: &StepInput<'_>) -> Result<Vec<Produced>, Oops> {
        self.handle.call_back(Call::Step);
        assert!(
            !(input.decode.is_empty() && input.prefill.is_empty()),
            "an empty step"
        );
        let first = input.decode.first().copied();
        let prefilling = input.prefill.first().map(|chunk| chunk.request);
        let wrong = self
            .handle
            .wrong(&[Wrong::StepError, Wrong::StepPanic, Wrong::Unknown], None);
        let wrong = wrong.or_else(|| {
            self.handle
                .wrong(&[Wrong::Twice, Wrong::Silent], Some(first?))
        });
        let wrong = wrong.or_else(|| self.handle.wrong(&[Wrong::Unplanned], Some(prefilling?)));
        match wrong {
            Some(Wrong::StepPanic) => panic!("step panics"),
            Some(Wrong::StepError) => return Err(Oops("the device is gone")),
            _ => {}
        }
        for chunk in input.prefill {
            self.compute(chunk);
        }
        let silent = first.filter(|_| wrong == Some(Wrong::Silent));
        let decode = input.decode.iter().filter(|&&id| Some(id) != silent);
        let mut produced: Vec<Produced> = decode.map(|&id| self.decode(id)).collect();
        let stray = |request| Produced {
            request,
            token: 7,
            finish: None,
        };
        match wrong {
            Some(Wrong::Unknown) => produced.insert(0, stray(RequestId(1 << 40))),
            Some(Wrong::Twice) => produced.extend(produced.first().copied()),
            Some(Wrong::Unplanned) => produced.extend(prefilling.map(stray)),
            _ => {}
        }
        let tokens = input.prefill.iter().map(|chunk| chunk.tokens.len()).sum();
        self.handle
            .with(|inside| inside.steps.push((input.decode.len(), tokens)));
        self.report();
        Ok(produced)
    }

    fn extract_cache(&mut self, id: RequestId, slots: &[BlockSlot]) -> Result<Vec<Payload>, Oops> {
        self.handle.call_back(Call::Extract);
        let wrongs = [
            Wrong::ExtractError,
            Wrong::ExtractShort,
            Wrong::ExtractPanic,
        ];
        let wrong = self.handle.wrong(&wrongs, Some(id));
        match wrong {
            Some(Wrong::ExtractPanic) => panic!("extract panics"),
            Some(Wrong::ExtractError) => return Err(Oops("cannot read back")),
            _ => {}
        }
        let sequence = self.sequences.get(&id).expect("a known sequence");
        let mut payloads: Vec<Payload> = (slots.iter())
            .map(|slot| Payload {
                block: slot.block,
                start: slot.tokens.start,
                tokens: sequence.tokens[..sequence.computed]
                    [slot.tokens.start as usize..slot.tokens.end as usize]
                    .to_vec(),
            })
            .collect();
        if wrong.is_some() {
            payloads.pop();
        }
        Ok(payloads)
    }

    fn remove(&mut self, id: RequestId) {
        self.handle.call_back(Call::Remove);
        assert!(
            self.handle.wrong(&[Wrong::RemovePanic], Some(id)).is_none(),
            "remove panics"
        );
        self.sequences.remove(&id);
        self.handle.with(|inside| inside.removed.push(id));
        self.report();
    }
}
