//! Further bugs of the two systems that the tickets come from.

use crate::Scenario;

/// The scenarios of the origin.
pub const ALL: &[&Scenario] = &[];
