//! How fast the simulated world is.
//!
//! `cargo bench -p selvedge-sim --bench world -- [--quick]` prints one JSON object a line: the
//! run, its events, virtual seconds, seconds, and both a second. With `--quick` the large one has
//! 50 epochs in place of 1,000.

use std::time::Instant;

use selvedge_sim::world::{Parts, World, WorldConfig};

fn measure(name: &str, configs: impl Iterator<Item = WorldConfig>) {
    let (mut runs, mut events, mut simulated) = (0, 0, 0.0);
    let begun = Instant::now();
    for config in configs {
        let report = World::new(config).expect("INVARIANT: it is sound").run();
        assert_eq!(report.violation, None, "{report}");
        runs += 1;
        events += report.events;
        simulated += report.virtual_time.as_secs_f64();
    }
    let seconds = begun.elapsed().as_secs_f64();
    let (a_second, virtual_a_second) = (events as f64 / seconds, simulated / seconds);
    println!(
        "{{\"world\":\"{name}\",\"runs\":{runs},\"events\":{events},\"virtual_seconds\":{simulated:.1},\
         \"seconds\":{seconds:.3},\"events_a_second\":{a_second:.0},\
         \"virtual_seconds_a_second\":{virtual_a_second:.0}}}"
    );
}

fn main() {
    let quick = std::env::args().any(|argument| argument == "--quick");
    let seeds = if quick { 100 } else { 2_000 };
    let four = |seed| WorldConfig {
        ranks: 4,
        min_world: 2,
        ..WorldConfig::swarm(seed)
    };
    measure("4 ranks, swarm", (0..seeds).map(four));
    let whole = if quick { 100 } else { 1_000 };
    measure("everybody, swarm", (0..whole).map(WorldConfig::whole));
    let serving = |seed| WorldConfig {
        parts: Parts::SERVING,
        ..WorldConfig::whole(seed)
    };
    measure("server and agents, swarm", (0..whole).map(serving));
    let calm = |seed| WorldConfig {
        seed,
        epochs: 200,
        ..WorldConfig::default()
    };
    measure("4 ranks, 200 epochs, calm", (0..seeds / 20).map(calm));
    let large = WorldConfig {
        ranks: 64,
        min_world: 32,
        epochs: if quick { 50 } else { 1_000 },
        ..WorldConfig::swarm(7)
    };
    let epochs = large.epochs;
    measure(
        &format!("64 ranks, {epochs} epochs, swarm"),
        std::iter::once(large),
    );
}
