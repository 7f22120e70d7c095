//! SPRINT-2.5, issue 4: a payload's type is known, so a wrong one is found before it runs.

use selvedge_core::{AgentBlocks, LayerId};

fn read<'a>(cache: &'a AgentBlocks<'_, Vec<f32>>) -> &'a Vec<u8> {
    cache.blocks_for_layer(LayerId(0))[0].data()
}

fn main() {}
