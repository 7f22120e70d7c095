//! What the end of an epoch costs with four ranks over loopback: from a rank's arrival at the
//! boundary until it has applied the record, beside one plain all-reduce round of the same run.
//! One line of JSON a row on stdout.
//!
//! | row | where the coordinator's store is |
//! |---|---|
//! | `memory` | nowhere: what the messages and the record take |
//! | `disk` | a file, synced before anybody is told: what a run pays |
//!
//! `n` is the values in a bucket. An arrival waits for the last rank's, as a contribution does.
//! Every rank and the coordinator has a thread; on fewer cores than five, they wait for each
//! other. Nothing here has a limit: both are times of a machine, and so is their ratio.
//! `--quick` or `SELVEDGE_BENCH_QUICK=1` measures a tenth.
//!
//! `cargo bench -p selvedge-core --features net --bench commit_latency`
#![allow(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "processes here are std's threads"
)]

#[allow(dead_code, reason = "it takes only the arguments from there")]
mod measure;
#[path = "../tests/net/mod.rs"]
mod net;

use std::env;
use std::process::ExitCode;
use std::time::Duration;

use net::{Tiny, config, coordinator, loopback, rank, rank_options};
use selvedge_core::ddp::Epoch;
use selvedge_core::ddp::net::{NetEvent, Store};

use self::measure::Size;

const RANKS: u32 = 4;
/// Steps of an epoch.
const STEPS: u64 = 4;

fn main() -> ExitCode {
    let size = match Size::from_args("commit_latency", env::args().skip(1)) {
        Ok(size) => size,
        Err(exit) => return exit,
    };
    // A commit takes about a thousand times what the other benches' operations do.
    let epochs = u64::from(size.rounds) * 10;
    for bucket in [64, 16_384] {
        row("memory", bucket, epochs, |run| {
            Store::in_memory(run).unwrap()
        });
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("store.redb");
        row("disk", bucket, epochs, |run| {
            Store::open_or_create(&path, run).unwrap()
        });
    }
    ExitCode::SUCCESS
}

fn row(
    name: &str,
    bucket: usize,
    epochs: u64,
    store: impl FnOnce(selvedge_core::ddp::RunId) -> Store,
) {
    let config = config(RANKS, epochs);
    let server = coordinator(config, loopback(), store(config.run));
    let ranks: Vec<_> = (0..RANKS)
        .map(|r| {
            let trainee = Tiny::sized(r, STEPS, bucket);
            rank(rank_options(&config, r, server.address), trainee)
        })
        .collect();
    let (mut commits, mut rounds) = (Vec::new(), Vec::new());
    for rank in ranks {
        rank.process.join().unwrap();
        for noted in rank.events.lock().unwrap().iter() {
            match noted.event {
                // Nobody arrived before the first record.
                NetEvent::Committed { epoch, latency, .. } if epoch > Epoch(0) => {
                    commits.push(latency);
                }
                NetEvent::Step { latency, .. } => rounds.push(latency),
                _ => {}
            }
        }
    }
    server.process.join().unwrap();
    let [commit_50, commit_99] = percentiles(commits);
    let [round_50, round_99] = percentiles(rounds);
    println!(
        r#"{{"bench":"commit_latency","row":"{name}","ranks":{RANKS},"n":{bucket},"epochs":{epochs},"commit_p50_us":{commit_50:.1},"commit_p99_us":{commit_99:.1},"all_reduce_p50_us":{round_50:.1},"all_reduce_p99_us":{round_99:.1},"ratio_p50":{:.3},"ratio_p99":{:.3}}}"#,
        commit_50 / round_50,
        commit_99 / round_99,
    );
}

/// The 50th and the 99th percentile, in microseconds.
fn percentiles(mut latencies: Vec<Duration>) -> [f64; 2] {
    latencies.sort_unstable();
    [50, 99].map(|percent| {
        let at = (latencies.len() * percent / 100).min(latencies.len() - 1);
        latencies[at].as_secs_f64() * 1e6
    })
}
