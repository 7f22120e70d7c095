//! What the engine's oracle and its regressions share.
#![allow(dead_code, reason = "each test uses its part of it")]

pub(crate) mod operation;
pub(crate) mod oracle;
pub(crate) mod world;
