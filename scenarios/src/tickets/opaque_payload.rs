//! Ticket SPRINT-2.5, issue 4: a finished generation carried its cache as `Any`, to spare an
//! import. Nothing said what was inside, so a backend that keeps its values quantised handed
//! over bytes where the reader expected floats, and it came out only when somebody read them.
//!
//! Two backends, one of full precision and one quantised, each finish a generation on a thread
//! of their own; the same reader takes the values out of both.
//!
//! No schedule matters here, and that the shipped code survives says little by itself: its
//! proof is that handing over bytes does not compile, which a compile-fail test shows. What
//! runs here is what the compiler made of it: the quantised backend had to convert.

use std::any::Any;

use selvedge_core::platform::{JoinHandle, Platform, Shared};
use selvedge_core::{AgentBlocks, BlockPool, KvBlock, LayerId, ModelCacheSpec};
use selvedge_sim::{Cx, Observation, bodies, reach, violation};

use crate::registry::{Expect, Scenario, explorer, loom, native, shuttle};

pub(super) const SCENARIO: Scenario = Scenario {
    id: "opaque-payload",
    ticket: "SPRINT-2.5 #4",
    summary: "payload kept as Any: a wrong type comes out only when it is read",
    source: include_str!("opaque_payload.rs"),
    twin: bodies!(two_backends, Opaque),
    shipped: bodies!(two_backends, Typed),
    signature: "wrong-payload-type",
    must_reach: &["read-full-precision", "read-quantised"],
    // Once per execution is enough: the bug needs no luck.
    engines: &[
        native(Expect::Finds),
        explorer(Expect::Finds),
        loom(Expect::Finds),
        shuttle(Expect::Finds),
    ],
};

const VALUES: [f32; 2] = [0.5, -1.5];

#[derive(Clone, Copy, Debug)]
enum Backend {
    FullPrecision,
    Quantised,
}

/// How a finished generation's cache goes from the backend to its reader.
trait Handover: Send + Sync + 'static {
    type Cache: Send + 'static;
    fn new() -> Self;
    fn finish(&self, backend: Backend) -> Self::Cache;
    /// The values; `None` where what is inside is not what the reader takes it for.
    fn values(cache: Self::Cache) -> Option<Vec<f32>>;
}

fn two_backends<P: Platform, T: Handover>(_: &Cx) -> Observation {
    let handover = P::Arc::new(T::new());
    for backend in [Backend::FullPrecision, Backend::Quantised] {
        let theirs = handover.clone();
        let cache = P::spawn(move || theirs.finish(backend)).join();
        match T::values(cache) {
            Some(values) if values == VALUES => {}
            Some(values) => violation!("wrong-values", "{backend:?}: {values:?}"),
            None => violation!("wrong-payload-type", "{backend:?}: these are no floats"),
        }
        reach(match backend {
            Backend::FullPrecision => "read-full-precision",
            Backend::Quantised => "read-quantised",
        });
    }
    Observation::none()
}

fn quantise(values: &[f32]) -> Vec<i8> {
    values.iter().map(|value| (value * 2.0) as i8).collect()
}

fn dequantise(bytes: &[i8]) -> Vec<f32> {
    bytes.iter().map(|&byte| f32::from(byte) / 2.0).collect()
}

/// As reported: anything goes in.
struct Opaque<P: Platform> {
    _platform: std::marker::PhantomData<P>,
}

impl<P: Platform> Handover for Opaque<P> {
    type Cache = Box<dyn Any + Send>;

    fn new() -> Self {
        Opaque {
            _platform: std::marker::PhantomData,
        }
    }

    fn finish(&self, backend: Backend) -> Self::Cache {
        match backend {
            Backend::FullPrecision => Box::new(VALUES.to_vec()),
            Backend::Quantised => Box::new(quantise(&VALUES)),
        }
    }

    fn values(cache: Self::Cache) -> Option<Vec<f32>> {
        cache.downcast::<Vec<f32>>().ok().map(|values| *values)
    }
}

/// The code that ships: the cache's type names its payload.
struct Typed<P: Platform> {
    pool: P::Arc<BlockPool<P>>,
}

impl<P: Platform> Handover for Typed<P> {
    type Cache = AgentBlocks<'static, Vec<f32>, P>;

    fn new() -> Self {
        let spec = ModelCacheSpec::new(1, 1, 8, 16).expect("INVARIANT: no size is zero");
        let pool = BlockPool::new(spec, 1).expect("INVARIANT: there is a block");
        Typed {
            pool: P::Arc::new(pool),
        }
    }

    fn finish(&self, backend: Backend) -> Self::Cache {
        let values = match backend {
            Backend::FullPrecision => VALUES.to_vec(),
            // Without the conversion it does not compile.
            Backend::Quantised => dequantise(&quantise(&VALUES)),
        };
        let spec = self.pool.spec();
        let agent = self.pool.agent("a").expect("INVARIANT: it has a name");
        let lease = (self.pool.allocate(1, LayerId(0), agent))
            .expect("INVARIANT: the cache before was read, and dropped")
            .into_shared(&self.pool)
            .expect("INVARIANT: it is the same pool");
        let block = KvBlock::new(&spec, lease.blocks()[0], 2, values)
            .expect("INVARIANT: a block holds two tokens");
        AgentBlocks::new(&spec, lease, vec![block], vec![7, 8])
            .expect("INVARIANT: the one block holds the sequence")
    }

    fn values(cache: Self::Cache) -> Option<Vec<f32>> {
        let (_lease, blocks) = cache.into_parts();
        blocks.into_iter().next().map(KvBlock::into_data)
    }
}
