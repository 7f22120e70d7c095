//! The front end's loop and those who end it, under every engine. What tokens it passes on is
//! in the scenarios; here the engine is idle and only has a cache to give up.
#![cfg(not(loom_run))]

use std::num::NonZeroU32;

use selvedge_core::engine::{BatchEngine, EngineConfig, EngineServer, NewRequest, Wake};
use selvedge_core::time::{Clock, Instant};
use selvedge_core::{BlockPool, ModelCacheSpec};
use selvedge_sim::content::{ContentModel, Weights};
use selvedge_sim::platform::{JoinHandle, Platform, Shared};
use selvedge_sim::{Cx, Observation, reach, violation};

// Found by reading: the loop asked whether there was work, and then whether it was shut down. A
// shutdown in between looked like one that was done, and the cache's blocks stayed.
selvedge_sim::model_tests! {
    mod shutdown_gives_back_an_idle_cache = shutdown;
    engines = [explorer, loom, shuttle];
    must_reach = &["had-a-cache"];
}

fn shutdown<P: Platform>(_: &Cx) -> Observation {
    let spec = ModelCacheSpec::new(1, 1, 8, 4).expect("no size is zero");
    let pool: P::Arc<BlockPool<P>> =
        P::Arc::new(BlockPool::new(spec.clone(), 2).expect("there are blocks"));
    let model = ContentModel::new(spec, 2, Weights::of(1));
    let engine: BatchEngine<ContentModel, P> =
        BatchEngine::new(pool.clone(), model, EngineConfig::default()).expect("it is valid");
    let alice = pool.agent("alice").expect("it has a name");
    let request = NewRequest::new(alice, vec![1, 2, 3], 1);
    (engine.submit(request, Instant::ZERO)).expect("there is room");
    while engine.wake() == Wake::Now {
        engine.step(Instant::ZERO).expect("it lives");
    }
    if pool.snapshot().used > 0 {
        reach("had-a-cache");
    }

    let room = NonZeroU32::MIN;
    let server = P::Arc::new(EngineServer::new(engine, room, Box::new(Still)));
    let theirs = server.clone();
    let other = P::spawn(move || theirs.shutdown());
    let ended = server.run();
    other.join();
    let left = pool.snapshot().used;
    if left > 0 {
        violation!(
            "blocks-left",
            "{left} of 2, though the loop ended: {ended:?}"
        );
    }
    Observation::of(format!("{ended:?}"))
}

#[derive(Debug)]
struct Still;

impl Clock for Still {
    fn now(&self) -> Instant {
        Instant::ZERO
    }
}
