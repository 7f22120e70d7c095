//! One request as the engine's state sees it: lengths and phases, never tokens.
//!
//! | phase | holds blocks | in the backend | leaves by |
//! |---|---|---|---|
//! | `Waiting` | no | no | leased, or cancelled |
//! | `Leased` | yes | no | inserted, or insert failed |
//! | `Live` | yes | yes | its last token, cancelled, failed, or preempted (back to `Waiting`) |
//! | `Ending` | until released | until removed | released: it is told, and forgotten |

use super::action::{CancelReason, End};
use crate::AgentId;
use crate::time::Instant;

/// What a caller asks for, without the tokens themselves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RequestShape {
    /// Who asks. An agent has one request in flight at a time.
    pub agent: AgentId,
    /// Tokens of the prompt.
    pub prompt: u32,
    /// The most tokens to generate.
    pub max_tokens: u32,
    /// Whether to cache the sequence for the agent's next request.
    pub keep_cache: bool,
    /// When it is cancelled if it has not ended.
    pub deadline: Option<Instant>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Phase {
    Waiting,
    Leased,
    Live,
    Ending,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Request {
    pub(super) shape: RequestShape,
    pub(super) phase: Phase,
    /// Tokens the backend has computed of it.
    pub(super) computed: u32,
    pub(super) generated: u32,
    pub(super) blocks: u32,
    /// Tokens its blocks are good for.
    pub(super) capacity: u32,
    /// How often others were admitted past it.
    pub(super) overtaken: u32,
    /// Whether it gave its blocks up once, and so gets all of them at its next admission.
    pub(super) preempted: bool,
    /// Steps in a row without a token that was due.
    pub(super) silent: u32,
    /// Whether the backend knows it.
    pub(super) in_backend: bool,
    /// A cancellation that must wait for the action under way.
    pub(super) cancelled: Option<CancelReason>,
    /// How it ends, once that is decided.
    pub(super) end: Option<End>,
    /// Whether its cache is still to be extracted.
    pub(super) extract: bool,
    /// Tokens cached at its end.
    pub(super) cached: u32,
}

impl Request {
    pub(super) fn new(shape: RequestShape) -> Self {
        Request {
            shape,
            phase: Phase::Waiting,
            computed: 0,
            generated: 0,
            blocks: 0,
            capacity: 0,
            overtaken: 0,
            preempted: false,
            silent: 0,
            in_backend: false,
            cancelled: None,
            end: None,
            extract: false,
            cached: 0,
        }
    }

    /// Tokens of the sequence so far.
    pub(super) fn len(&self) -> u32 {
        self.shape.prompt + self.generated
    }

    /// Tokens it can come to. INVARIANT: `submit` has checked that a u32 counts them.
    pub(super) fn len_max(&self) -> u32 {
        self.shape.prompt + self.shape.max_tokens
    }

    /// Whether all but its last token is computed, so that it can decode.
    pub(super) fn is_prefilled(&self) -> bool {
        self.computed + 1 >= self.len()
    }

    /// Whether its blocks are good for one more token.
    pub(super) fn has_room(&self) -> bool {
        self.capacity > self.len()
    }

    /// What a cache of it covers: no token that was computed and not told.
    pub(super) fn extractable(&self) -> u32 {
        self.computed.min(self.len())
    }
}
