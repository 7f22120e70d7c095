//! SPRINT-2.5, issue 3: a block of an agent's cannot be replaced by another.

use selvedge_core::{AgentBlocks, KvBlock, LayerId};

fn replace(cache: &mut AgentBlocks<'_, Vec<f32>>, block: KvBlock<Vec<f32>>) {
    cache.blocks_for_layer(LayerId(0))[0] = block;
}

fn main() {}
