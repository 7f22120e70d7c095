//! **Bounded bypass:** nobody who waits is overtaken by younger requests more often than the
//! engine's bounds say, so nobody is starved.

use std::collections::BTreeMap;

use selvedge_core::RequestId;

use super::{Broken, Kept};

/// How often each that waits for its first start was overtaken.
#[derive(Debug, Default)]
pub(in crate::world) struct BoundedBypass {
    most: u32,
    waiting: BTreeMap<RequestId, u32>,
}

impl BoundedBypass {
    pub(in crate::world) fn begins(&mut self, most: u32) {
        self.most = most;
        self.waiting.clear();
    }

    pub(in crate::world) fn accepts(&mut self, request: RequestId) {
        self.waiting.insert(request, 0);
    }

    pub(in crate::world) fn starts(&mut self, request: RequestId) -> Kept {
        self.waiting.remove(&request);
        for (older, overtaken) in self.waiting.range_mut(..request) {
            *overtaken += 1;
            if *overtaken > self.most {
                return Err(Broken::new(
                    "bounded-bypass",
                    format!(
                        "{older} was overtaken {overtaken} times; {} may be",
                        self.most
                    ),
                ));
            }
        }
        Ok(())
    }

    pub(in crate::world) fn ends(&mut self, request: RequestId) {
        self.waiting.remove(&request);
    }
}
