//! What a caught panic said. Whoever catches one of the user's needs it, and must know which
//! panics are none of its business.

use std::any::Any;

/// What a `panic!` said; `None` if it was none.
///
/// What carries anything but a text is how coroutines and threads are cancelled: it is to go on.
pub(crate) fn text_of(payload: &(dyn Any + Send)) -> Option<String> {
    let text = payload
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned());
    text.or_else(|| payload.downcast_ref::<String>().cloned())
}
