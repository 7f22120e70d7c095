//! What the engine's tests share: a backend that checks what it is given, and a bench to run an
//! engine on.
#![allow(dead_code, reason = "each test uses its part of it")]

pub(crate) mod backend;
pub(crate) mod bench;
