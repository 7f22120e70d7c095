//! SPRINT-2.5, issue 3: what was validated once cannot be changed behind its back.

use selvedge_core::KvBlock;

fn overfill(block: &mut KvBlock<Vec<f32>>) {
    block.tokens = 9_999;
}

fn main() {}
