//! The tickets this project began with. Each stands for ever.

mod pool_check_then_act;

use crate::Scenario;

/// The scenarios of the tickets.
pub const ALL: &[&Scenario] = &[&pool_check_then_act::SCENARIO];
