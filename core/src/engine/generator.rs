//! [`Generator`]: what the engine asks of a backend, in the shape the field knows from mlx-lm's
//! `BatchGenerator`: insert, step, extract the cache, remove.

use core::fmt;
use core::ops::Range;

use crate::{AgentId, BlockRef, KvBlock, RequestId};

/// A model that generates for many sequences at once.
///
/// **The engine calls it from one thread at a time, with no lock held.** A call may take as long
/// as it likes and may panic: a panic, like an error of [`Generator::step`], ends the engine and
/// fails what is pending, because nobody knows what a half-done step has left behind. An error
/// of any other call concerns the one request.
///
/// What the engine promises: a sequence is inserted once under its id, ids are never used again,
/// and every inserted sequence is removed once, unless the engine dies, which drops the
/// generator.
pub trait Generator: Send + 'static {
    /// What one block of one layer holds: a slice of keys and values, or a page's handle.
    type Payload: Send + 'static;
    /// What can go wrong. Its text goes into the request's end or the engine's.
    type Error: fmt::Display;

    /// Takes a sequence in. Computes nothing yet.
    ///
    /// What `sequence.prefix` holds of an earlier turn is to be *taken out* of the vector
    /// (`drain(..)`), not copied, or both copies live at once. What is left in it afterwards is
    /// dropped.
    ///
    /// # Errors
    /// Why it cannot take it. It must have kept nothing then. If it has left the prefix in
    /// place too, the agent keeps it for its next request.
    fn insert(&mut self, sequence: NewSequence<'_, Self::Payload>) -> Result<(), Self::Error>;

    /// More blocks for a sequence that has outgrown its own (only with
    /// [`Admission::Watermark`](super::Admission::Watermark)). Backends whose sequences own
    /// their memory need not know.
    fn extend(&mut self, request: RequestId, blocks: &[BlockRef]) {
        let _ = (request, blocks);
    }

    /// One step of the model: computes each chunk of `input.prefill`, and for each sequence of
    /// `input.decode` the next token, which is returned.
    ///
    /// A sequence's first decode feeds it the last token of its prompt, which no chunk contains.
    /// Once a token is returned, the sequence's cache must cover it, as mlx-lm's does, which is
    /// always one token ahead.
    ///
    /// # Errors
    /// Why the step as a whole went wrong. It is the end of this engine.
    fn step(&mut self, input: &StepInput<'_>) -> Result<Vec<Produced>, Self::Error>;

    /// Hands a sequence's cache over: for each of `slots`, in their order, what its tokens come
    /// to. **Moved, not copied**, wherever that is possible. The slots may cover fewer tokens
    /// than were computed: by one token where a sequence ended while its step was under way, by
    /// two where that was its first. A backend that keeps a sliding window must still have
    /// what the window was then, or return an error. The sequence is removed next.
    ///
    /// # Errors
    /// Why it could not. The request ends as it would have, and nothing is cached of it.
    fn extract_cache(
        &mut self,
        request: RequestId,
        slots: &[BlockSlot],
    ) -> Result<Vec<Self::Payload>, Self::Error>;

    /// Forgets a sequence, whatever its state, and one that it does not know, too.
    fn remove(&mut self, request: RequestId);
}

/// A sequence to be taken in.
#[derive(Debug)]
pub struct NewSequence<'a, D> {
    /// Its id.
    pub request: RequestId,
    /// Whose it is.
    pub agent: AgentId,
    /// The prompt; after a preemption with what was generated before.
    pub tokens: &'a [u32],
    /// Tokens at the start of `tokens` that need not be computed, because `prefix` holds them.
    /// Always fewer than there are tokens.
    pub reused: u32,
    /// The agent's cached blocks that hold those, layer by layer and in order. The last of a
    /// layer may hold more tokens than are wanted: they are of an earlier turn, and invalid.
    pub prefix: &'a mut Vec<KvBlock<D>>,
    /// Every block of the sequence, in no particular order but, within a layer, the sequence's.
    /// Those of `prefix` are among them.
    pub blocks: &'a [BlockRef],
    /// Tokens it may still generate.
    pub max_tokens: u32,
}

/// What one step is to compute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StepInput<'a> {
    /// Sequences that are to produce one token each, by ascending id.
    pub decode: &'a [RequestId],
    /// Chunks of prompts to compute. They produce no token.
    pub prefill: &'a [PrefillChunk<'a>],
}

/// A part of a prompt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PrefillChunk<'a> {
    /// Whose prompt.
    pub request: RequestId,
    /// Where the chunk begins: tokens of the sequence that are computed already.
    pub start: u32,
    /// Its tokens.
    pub tokens: &'a [u32],
}

/// One sequence's outcome of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Produced {
    /// Which sequence.
    pub request: RequestId,
    /// The token.
    pub token: u32,
    /// Whether it was the last, and why.
    pub finish: Option<Finish>,
}

/// Why a sequence is complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Finish {
    /// The model stopped: the token that came with it is the stop token. It is no part of what
    /// was generated and not passed on.
    Stop,
    /// As many tokens as there may be: those of the request, or those the model can hold.
    Length,
}

/// A block to be filled with what the sequence's tokens come to in its layer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlockSlot {
    /// Which block; its layer is [`BlockRef::layer`].
    pub block: BlockRef,
    /// Which tokens, counted from the start of the sequence.
    pub tokens: Range<u32>,
}
