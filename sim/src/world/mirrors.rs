//! What core's own types look like where a plan is written down. Core knows no serialisation, and
//! a decision log must be read whatever core's fields are called by then.

use std::time::Duration;

use selvedge_core::ddp::{Deadlines, Rank};
use serde::{Deserialize, Serialize};

/// A [`Rank`], by its number.
#[derive(Serialize, Deserialize)]
#[serde(remote = "Rank")]
pub(super) struct RankMirror(u32);

/// [`Deadlines`], the soft one first.
#[derive(Serialize, Deserialize)]
#[serde(remote = "Deadlines")]
pub(super) struct DeadlinesMirror {
    soft: Duration,
    hard: Duration,
}
