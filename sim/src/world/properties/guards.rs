//! What the guards of a rank keep: see [`fresh_alpha`], [`live_entries`], [`compile`] and
//! [`profile_kept`].

pub(in crate::world) mod compile;
pub(in crate::world) mod fresh_alpha;
pub(in crate::world) mod live_entries;
pub(in crate::world) mod profile_kept;
