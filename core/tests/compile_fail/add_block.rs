//! SPRINT-2.5, issue 2: there is no way to add a block to an agent's, or to take one away.

use selvedge_core::{AgentBlocks, KvBlock};

fn grow(cache: &mut AgentBlocks<'_, Vec<f32>>, block: KvBlock<Vec<f32>>) {
    cache.add_block(block);
}

fn shrink(cache: &mut AgentBlocks<'_, Vec<f32>>, block: &KvBlock<Vec<f32>>) {
    cache.remove_block(block.block());
}

fn main() {}
