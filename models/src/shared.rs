//! A part of a state that many states have in common: copied when it is changed, and hashed once.
//!
//! A step of a model changes one or two parts of a state and leaves the others as they are, but a
//! checker hashes every state that a step leads to, seen before or not.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use ahash::RandomState;

/// A value that is cloned by reference, and whose hash is its value's hash, kept.
///
/// **A state is then told apart by hashes of hashes.** Two values in one place of two states have
/// the same hash with a chance of 2^-64, as two states have, and there are far fewer different
/// values than states: all of it at most doubles
/// [`collision_chance`](crate::checker::collision_chance).
///
/// ```
/// use selvedge_models::shared::Shared;
///
/// let first = Shared::new(vec![1, 2]);
/// let mut second = first.clone();
/// assert_eq!(first, second);
/// second.make_mut().push(3);
/// assert_eq!((first.len(), second.len()), (2, 3));
/// ```
pub struct Shared<T>(Arc<Part<T>>);

struct Part<T> {
    value: T,
    /// 0 where nobody has asked for it.
    hash: AtomicU64,
}

impl<T> Shared<T> {
    /// One part of a state.
    pub fn new(value: T) -> Self {
        let hash = AtomicU64::new(0);
        Shared(Arc::new(Part { value, hash }))
    }
}

impl<T: Clone> Shared<T> {
    /// The value, to be changed here and nowhere else.
    pub fn make_mut(&mut self) -> &mut T {
        let part = Arc::make_mut(&mut self.0);
        *part.hash.get_mut() = 0;
        &mut part.value
    }

    /// The value itself.
    #[must_use]
    pub fn into_inner(self) -> T {
        match Arc::try_unwrap(self.0) {
            Ok(part) => part.value,
            Err(shared) => shared.value.clone(),
        }
    }
}

impl<T> Clone for Shared<T> {
    fn clone(&self) -> Self {
        Shared(Arc::clone(&self.0))
    }
}

impl<T: Clone> Clone for Part<T> {
    /// Made to be changed, so it has no hash yet.
    fn clone(&self) -> Self {
        Part {
            value: self.value.clone(),
            hash: AtomicU64::new(0),
        }
    }
}

impl<T> Deref for Shared<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0.value
    }
}

impl<T: fmt::Debug> fmt::Debug for Shared<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.value.fmt(f)
    }
}

impl<T: PartialEq> PartialEq for Shared<T> {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0) || self.0.value == other.0.value
    }
}

impl<T: Eq> Eq for Shared<T> {}

impl<T: Hash> Hash for Shared<T> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let part = &*self.0;
        // ORDERING: Relaxed, both. Who does not see it works out the same once more.
        let mut hash = part.hash.load(Ordering::Relaxed);
        if hash == 0 {
            hash = KEYS.hash_one(&part.value);
            part.hash.store(hash, Ordering::Relaxed);
        }
        state.write_u64(hash);
    }
}

/// Fixed, so that states have the same hashes in every run.
static KEYS: RandomState = RandomState::with_seeds(
    0x243f_6a88_85a3_08d3,
    0x1319_8a2e_0370_7344,
    0xa409_3822_299f_31d0,
    0x082e_fa98_ec4e_6c89,
);

#[cfg(test)]
mod tests {
    use std::hash::DefaultHasher;

    use super::*;

    fn hash(value: &impl Hash) -> u64 {
        let mut hasher = DefaultHasher::new();
        value.hash(&mut hasher);
        hasher.finish()
    }

    #[test]
    fn equal_values_have_equal_hashes_however_they_came_about() {
        let mut changed = Shared::new(vec![1, 2]);
        let before = (hash(&changed), changed.clone());
        // Hashed, and then changed in place or in a copy: the old hash is forgotten.
        changed.make_mut().push(3);
        assert_eq!(hash(&changed), hash(&Shared::new(vec![1, 2, 3])));
        changed.make_mut().pop();
        assert_eq!((hash(&changed), changed), before);
    }

    #[test]
    fn only_the_last_owner_takes_the_value_without_a_copy() {
        let shared = Shared::new(String::from("once"));
        let place = shared.as_ptr();
        let copy = shared.clone().into_inner();
        assert_ne!(copy.as_ptr(), place);
        let same = shared.into_inner();
        assert_eq!((same.as_ptr(), same), (place, copy));
    }

    #[test]
    fn it_looks_like_its_value() {
        let value = vec![Some(1), None];
        let shared = Shared::new(value.clone());
        assert_eq!(
            format!("{shared:?} {shared:#?}"),
            format!("{value:?} {value:#?}")
        );
    }
}
