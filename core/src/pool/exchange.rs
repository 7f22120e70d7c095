//! Exchanging what is held, all or a part of it: the operations that free and allocate in the
//! same step. A running sequence grows by it, and a new one starts by it from what its agent has
//! cached already.

use super::error::{AllocateError, ExchangeError};
use super::state::PoolState;
use crate::{AgentId, BlockRef, LayerId};

impl PoolState {
    /// Gives up `old` and hands out `needs` in one step: a caller never holds both, and never
    /// loses the old ones to a failure.
    ///
    /// # Errors
    /// Each of [`ExchangeError`]; `old` is still held then, by the same handles.
    pub fn exchange(
        &mut self,
        agent: AgentId,
        old: &[BlockRef],
        needs: &[(LayerId, u32)],
    ) -> Result<Vec<BlockRef>, ExchangeError> {
        let mut out = Vec::new();
        self.exchange_into(agent, old, needs, &mut out)?;
        Ok(out)
    }

    pub(super) fn exchange_into(
        &mut self,
        agent: AgentId,
        old: &[BlockRef],
        needs: &[(LayerId, u32)],
        out: &mut impl Extend<BlockRef>,
    ) -> Result<(), ExchangeError> {
        self.check_and_free(agent, old)?;
        if let Err(error) = self.grant_available(needs, agent, out) {
            self.undo_free(agent, old);
            return Err(ExchangeError::New(error));
        }
        self.came_back();
        debug_assert_eq!(self.validate(), Ok(()));
        Ok(())
    }

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
            self.came_back();
            debug_assert_eq!(self.validate(), Ok(()));
            return Ok(());
        }
        self.agents[index].reserved -= promised;
        self.reserved -= promised;
        if let Err(error) = self.grant_available(needs, agent, out) {
            self.agents[index].reserved += promised;
            self.reserved += promised;
            self.undo_free(agent, old);
            return Err(ExchangeError::New(error));
        }
        self.came_back();
        debug_assert_eq!(self.validate(), Ok(()));
        Ok(())
    }
}
