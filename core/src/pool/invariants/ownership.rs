//! I4: every allocated block has exactly one owner, who is registered and counts it.
//! (Exactly one by construction: a slot has room for one.)

use crate::pool::error::InvariantViolation;
use crate::pool::state::PoolState;
use crate::{BlockId, LayerId};

pub(super) fn check(state: &PoolState) -> Result<(), InvariantViolation> {
    let layers = state.caps.len();
    let mut counted = vec![0u32; state.agents.len() * layers];
    for (slot, id) in state.slots.iter().zip(0..).map(|(s, id)| (s, BlockId(id))) {
        let Some(owner) = slot.owner else { continue };
        let agent = owner.index();
        if state.agents.get(agent).is_none_or(|a| a.name.is_none()) {
            return Err(orphan(id, "has an owner that is not registered"));
        }
        match slot.stamp.layer() {
            Some(LayerId(layer)) if (layer as usize) < layers => {
                counted[agent * layers + layer as usize] += 1;
            }
            _ => return Err(orphan(id, "is of a layer that the model has not")),
        }
    }
    for (index, agent) in state.agents.iter().enumerate() {
        let by_layer = &counted[index * layers..][..layers];
        if agent.by_layer != by_layer || agent.blocks != by_layer.iter().sum::<u32>() {
            return Err(InvariantViolation::new(
                "ownership",
                format!(
                    "agent {:?} counts {} blocks, by layer {:?}; it owns {by_layer:?}",
                    agent.name, agent.blocks, agent.by_layer
                ),
            ));
        }
    }
    Ok(())
}

fn orphan(id: BlockId, what: &str) -> InvariantViolation {
    InvariantViolation::of_block("ownership", id, what)
}
