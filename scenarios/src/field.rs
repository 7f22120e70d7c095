//! Bugs of other engines in the field, by the issue that tells of them.

use crate::Scenario;

/// The scenarios of the field.
pub const ALL: &[&Scenario] = &[];
