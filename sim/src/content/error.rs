//! [`ContentError`]: what a [`ContentModel`](super::ContentModel) finds wrong, and where.

use selvedge_core::{BlockRef, LayerId, RequestId};
use thiserror::Error;

/// A finding: what does not stand in a block as it should, or a call that breaks the contract
/// of [`Generator`](selvedge_core::engine::Generator).
///
/// ```
/// use selvedge_core::engine::{Generator, StepInput};
/// use selvedge_core::{ModelCacheSpec, RequestId};
/// use selvedge_sim::content::{ContentError, ContentModel, Weights};
///
/// let mut model = ContentModel::new(ModelCacheSpec::new(1, 1, 8, 4)?, 8, Weights::of(1));
/// let input = StepInput { decode: &[RequestId(3)], prefill: &[] };
/// let found = model.step(&input);
/// assert_eq!(found, Err(ContentError::Unknown { call: "step", request: RequestId(3) }));
/// # Ok::<(), selvedge_core::spec::SpecError>(())
/// ```
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum ContentError {
    /// What is stored of a token is not what its sequence comes to.
    #[error(
        "{request}, {call}: position {position} of {layer}, in {block}, holds {stored:#x}, \
         should hold {wanted:#x}"
    )]
    WrongContent {
        /// In which call.
        call: &'static str,
        /// Whose sequence.
        request: RequestId,
        /// The layer.
        layer: LayerId,
        /// The token's place in the sequence.
        position: u32,
        /// The block that should hold it.
        block: BlockRef,
        /// What is there.
        stored: u64,
        /// What should be.
        wanted: u64,
    },
    /// Nothing is stored of a token that should be there.
    #[error("{request}, {call}: position {position} of {layer} is not stored")]
    Missing {
        /// In which call.
        call: &'static str,
        /// Whose sequence.
        request: RequestId,
        /// The layer.
        layer: LayerId,
        /// The token's place in the sequence.
        position: u32,
    },
    /// There is no block for a token.
    #[error("{request}: there is no block for position {position} of {layer}, it has {blocks}")]
    NoRoom {
        /// Whose sequence.
        request: RequestId,
        /// The layer.
        layer: LayerId,
        /// The token's place in the sequence.
        position: u32,
        /// Blocks it has in the layer.
        blocks: u32,
    },
    /// A block that the sequence uses is another's, or nobody's any more.
    #[error(
        "{request}, {call}: {block} at position {position} of {layer} is not its own, but {}",
        of(.owner)
    )]
    NotOwned {
        /// In which call.
        call: &'static str,
        /// Whose sequence.
        request: RequestId,
        /// The layer.
        layer: LayerId,
        /// The token's place in the sequence.
        position: u32,
        /// The block, as the sequence was given it.
        block: BlockRef,
        /// Whose it is.
        owner: Option<RequestId>,
    },
    /// A sequence was given a block that a sequence in the model has already.
    #[error("{request} is given {block}, which is {owner}'s as {held}")]
    DoubleOwned {
        /// Who is given it.
        request: RequestId,
        /// The block, as it is given.
        block: BlockRef,
        /// Who has it.
        owner: RequestId,
        /// The block, as that one has it.
        held: BlockRef,
    },
    /// Somebody else used a block while a cache lay in it.
    #[error("{request} starts from {block}, which was overwritten as {by}")]
    Overwritten {
        /// Who starts from it.
        request: RequestId,
        /// The cached block.
        block: BlockRef,
        /// As what it was used since.
        by: BlockRef,
    },
    /// A payload is in another block than it was filled for.
    #[error("{request}: what was in {payload} is now in {block}")]
    LeftItsBlock {
        /// Whose sequence.
        request: RequestId,
        /// The block it was filled for.
        payload: BlockRef,
        /// Where it is.
        block: BlockRef,
    },
    /// A sequence starts from a cached block that is not among its blocks.
    #[error("{request} starts from {block}, which is none of its blocks")]
    Foreign {
        /// Whose sequence.
        request: RequestId,
        /// The block.
        block: BlockRef,
    },
    /// A cached block, or one to be filled, stands at another place than its layer's order says.
    #[error("{request}, {call}: {block} begins at position {start}, should at {wanted}")]
    OutOfPlace {
        /// In which call.
        call: &'static str,
        /// Whose sequence.
        request: RequestId,
        /// The block.
        block: BlockRef,
        /// Where what it holds begins.
        start: u32,
        /// Where it should.
        wanted: u32,
    },
    /// A block does not hold as many tokens as it says.
    #[error("{request}: {block} is said to hold {said} tokens, and holds {holds}")]
    WrongLength {
        /// Whose sequence.
        request: RequestId,
        /// The block.
        block: BlockRef,
        /// Tokens it is said to hold.
        said: u32,
        /// Tokens it holds.
        holds: u32,
    },
    /// A block was computed with other weights.
    #[error("{request} starts from {block}, computed with weights {filled}; they are {now} now")]
    OtherWeights {
        /// Whose sequence.
        request: RequestId,
        /// The block.
        block: BlockRef,
        /// The seed it was computed with.
        filled: u64,
        /// The seed in use.
        now: u64,
    },
    /// A block is past the end of the memory, or of a layer the model has not.
    #[error("{block} fits no model of {layers} layers with {total} blocks")]
    NoSuchBlock {
        /// The block.
        block: BlockRef,
        /// Layers of the model.
        layers: u32,
        /// Blocks there are.
        total: u32,
    },
    /// A sequence that is in the model was inserted again.
    #[error("{request} was inserted twice")]
    Twice {
        /// The sequence.
        request: RequestId,
    },
    /// A call named a sequence that is not in the model.
    #[error("{call} of {request}, which is not in the model")]
    Unknown {
        /// Which call.
        call: &'static str,
        /// The sequence.
        request: RequestId,
    },
    /// A sequence begins with all of its tokens reused, or none.
    #[error("{request} reuses {reused} of {tokens} tokens: one at least must be computed")]
    NothingToCompute {
        /// The sequence.
        request: RequestId,
        /// Tokens reused.
        reused: u32,
        /// Tokens it has.
        tokens: u32,
    },
    /// A chunk is not the next of its prompt, or other tokens than the prompt's.
    #[error("{request}: a chunk of {tokens} tokens at {start}, after {computed} of {prompt}")]
    WrongChunk {
        /// The sequence.
        request: RequestId,
        /// Where the chunk begins.
        start: u32,
        /// Tokens of the chunk.
        tokens: u32,
        /// Tokens computed before.
        computed: u32,
        /// Tokens of the prompt.
        prompt: u32,
    },
    /// A sequence was to decode before its prompt was computed.
    #[error("{request} is to decode with {computed} of {tokens} tokens computed")]
    TooEarly {
        /// The sequence.
        request: RequestId,
        /// Tokens computed.
        computed: u32,
        /// Tokens it has.
        tokens: u32,
    },
    /// A step computes nothing.
    #[error("a step computes nothing")]
    EmptyStep,
    /// The model was swapped while sequences were in it.
    #[error("the model is swapped with {sequences} sequences in it; remove them first")]
    InUse {
        /// Sequences in it.
        sequences: usize,
    },
}

fn of(owner: &Option<RequestId>) -> String {
    owner.map_or_else(|| "nobody's".to_owned(), |owner| format!("{owner}'s"))
}
