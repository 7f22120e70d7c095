//! **Conservation:** every block of the pool is free, held by a request, or an idle cache's; what
//! the engine says it has is what the pool says was given; and an engine that is over, or is to get
//! another model, has none.

use selvedge_core::engine::{ReconfigureError, Snapshot};
use selvedge_core::pool::PoolSnapshot;

use super::{Broken, Kept};

const SIGNATURE: &str = "conservation";

/// The engine's books beside the pool's.
pub(in crate::world) fn balances(engine: &Snapshot, pool: &PoolSnapshot) -> Kept {
    let by_agents: u64 = pool
        .agents
        .iter()
        .map(|agent| u64::from(agent.blocks))
        .sum();
    let held = engine.blocks_held + engine.blocks_cached;
    let used = u64::from(pool.used);
    let whole = pool.used + pool.available == pool.total;
    match whole && by_agents + u64::from(pool.reserved) == used && held == used {
        true => Ok(()),
        false => Err(Broken::new(
            SIGNATURE,
            format!(
                "of {} blocks {} are available and {used} used: by agents {by_agents}, reserved \
                 {}; requests hold {} and caches {}",
                pool.total, pool.available, pool.reserved, engine.blocks_held, engine.blocks_cached,
            ),
        )),
    }
}

/// Nobody has any reason to hold a block.
pub(in crate::world) fn is_empty(used: u32, why: &str) -> Kept {
    match used {
        0 => Ok(()),
        used => Err(Broken::new(
            SIGNATURE,
            format!("{why}, and {used} blocks are not given back"),
        )),
    }
}

/// An engine that was drained did not get another model.
pub(in crate::world) fn refused(error: &ReconfigureError, used: u32) -> Kept {
    match error {
        ReconfigureError::Backend { .. } => is_empty(used, "the model was refused"),
        ReconfigureError::Closed(_) => Ok(()),
        _ => Err(Broken::new(
            SIGNATURE,
            format!("a drained engine does not get another model: {error}"),
        )),
    }
}
