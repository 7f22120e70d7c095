//! Changing a part of what is held: the one operation that frees, allocates and keeps a
//! promise in the same step. A running sequence grows by it, and a new one starts by it from
//! what its agent has cached already.

use super::error::{AllocateError, ExchangeError};
use super::state::PoolState;
use crate::{AgentId, BlockRef, LayerId};

impl PoolState {
    /// Gives up `old`, uses `promised` of what is reserved for the agent, and hands out
    /// `needs`, in one step. Either may be empty.
    ///
    /// It cannot fail for want of blocks if `old` and `promised` together are as many as
    /// `needs`.
    ///
    /// # Errors
    /// Each of [`ExchangeError`]; the state is unchanged then.
    pub fn exchange_part(
        &mut self,
        agent: AgentId,
        old: &[BlockRef],
        needs: &[(LayerId, u32)],
        promised: u32,
        out: &mut impl Extend<BlockRef>,
    ) -> Result<(), ExchangeError> {
        let unknown = ExchangeError::New(AllocateError::UnknownAgent);
        let index = self.agent_index(agent).ok_or(unknown)?;
        let reserved = self.agents[index].reserved;
        if promised > reserved {
            return Err(ExchangeError::New(AllocateError::ExceedsReservation {
                requested: promised,
                left: reserved,
            }));
        }
        self.check_and_free(agent, old)?;
        if needs.is_empty() {
            debug_assert_eq!(self.validate(), Ok(()));
            return Ok(());
        }
        self.agents[index].reserved -= promised;
        self.reserved -= promised;
        self.allocate_into(needs, agent, out).map_err(|error| {
            self.agents[index].reserved += promised;
            self.reserved += promised;
            self.undo_free(agent, old);
            ExchangeError::New(error)
        })
    }
}
