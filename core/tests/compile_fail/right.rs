//! The counterpart of the cases that must not compile: all of this does.

use selvedge_core::{AgentBlocks, BlockPool, KvBlock, LayerId, ModelCacheSpec};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let spec = ModelCacheSpec::new(1, 1, 8, 16)?;
    let pool: BlockPool = BlockPool::new(spec.clone(), 4)?;
    let alice = pool.agent("alice")?;
    let lease = pool.allocate(1, LayerId(0), alice)?;
    let block = KvBlock::new(&spec, lease.blocks()[0], 2, vec![0.5f32, 1.5])?;
    let cache: AgentBlocks<'_, Vec<f32>> = AgentBlocks::new(&spec, lease, vec![block], vec![1, 2])?;
    let payload: &Vec<f32> = cache.blocks_for_layer(LayerId(0))[0].data();
    assert_eq!(payload, &[0.5, 1.5]);
    Ok(())
}
