//! Strangers at the coordinator's door while a run goes on: each is refused by name and counted,
//! and the run does not notice.
#![cfg(feature = "net")]
#![allow(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "processes here are std's threads"
)]

mod net;

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use net::{Tiny, committed, config, coordinator, loopback, rank, rank_options, wait_for};
use selvedge_core::ddp::net::{NetEvent, RankError, Refusal, RefusedCounts, Store, Token};
use selvedge_core::ddp::{Epoch, Rank};

/// The first frame of a rank that would be let in.
fn real_frame(config: &selvedge_core::ddp::RunConfig) -> Vec<u8> {
    let door = TcpListener::bind(loopback()).unwrap();
    // One that the run has, in a life that it would take.
    let options = rank_options(config, 1, door.local_addr().unwrap());
    let caller = rank(options, Tiny::new(1, 1));
    let (mut stream, _) = door.accept().unwrap();
    let mut length = [0; 4];
    stream.read_exact(&mut length).unwrap();
    let mut frame = length.to_vec();
    frame.resize(4 + u32::from_be_bytes(length) as usize, 0);
    stream.read_exact(&mut frame[4..]).unwrap();
    caller.process.kill();
    frame
}

struct Chance(u64);

impl Chance {
    fn below(&mut self, n: usize) -> usize {
        // A full-period generator: every test sees the same strangers.
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % n
    }

    fn bytes(&mut self, n: usize) -> Vec<u8> {
        (0..n).map(|_| self.below(256) as u8).collect()
    }
}

/// What one stranger sends.
fn stranger(real: &[u8], chance: &mut Chance) -> Vec<u8> {
    match chance.below(5) {
        // Anything.
        0 => {
            let n = chance.below(600);
            chance.bytes(n)
        }
        // A frame of anything.
        1 => {
            let n = chance.below(400);
            let body = chance.bytes(n);
            [&(n as u32).to_be_bytes()[..], &body].concat()
        }
        // A real one, cut short.
        2 => real[..chance.below(real.len())].to_vec(),
        // A real one with some bits changed.
        3 => {
            let mut frame = real.to_vec();
            for _ in 0..=chance.below(3) {
                let at = chance.below(frame.len());
                frame[at] ^= 1 << chance.below(8);
            }
            if frame == real {
                frame[9] ^= 1;
            }
            frame
        }
        // A length that nobody would keep.
        _ => {
            let length = (1_u32 << 10) + chance.below(1 << 30) as u32;
            [&length.to_be_bytes()[..], &chance.bytes(64)].concat()
        }
    }
}

fn knock(address: SocketAddr, bytes: &[u8]) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(10)))
        .unwrap();
    // Who was refused already may not be able to finish.
    stream.write_all(bytes).ok();
    stream.shutdown(Shutdown::Write).ok();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).ok();
    assert!(answer.len() < 64, "nobody is told more than why");
}

fn strangers_do_not_disturb(strangers: usize) {
    let config = config(4, 1_000_000);
    let server = coordinator(config, loopback(), Store::in_memory(config.run).unwrap());
    let ranks: Vec<_> = (0..4)
        .map(|r| rank(rank_options(&config, r, server.address), Tiny::new(r, 2)))
        .collect();
    let real = real_frame(&config);
    wait_for(&server.news, committed(20));
    let epochs = || {
        let events = server.events.lock().unwrap();
        let done = events.iter().filter(|noted| committed(0)(&noted.event));
        done.count()
    };
    let quiet = (epochs(), Instant::now());
    std::thread::sleep(Duration::from_millis(700));
    let rate =
        |since: (usize, Instant)| (epochs() - since.0) as f64 / since.1.elapsed().as_secs_f64();
    let before = rate(quiet);
    let flood = (epochs(), Instant::now());
    let mut chance = Chance(7);
    for _ in 0..strangers {
        knock(server.address, &stranger(&real, &mut chance));
    }
    let meanwhile = rate(flood);
    let took = flood.1.elapsed();
    // The last may still be on its way to be counted.
    let refused = || {
        let events = server.events.lock().unwrap();
        let kinds = events.iter().filter_map(|noted| match noted.event {
            NetEvent::Refused(refusal) => Some(refusal),
            _ => None,
        });
        kinds.collect::<Vec<_>>()
    };
    let patience = Instant::now();
    while refused().len() < strangers && patience.elapsed() < Duration::from_secs(10) {
        std::thread::sleep(Duration::from_millis(20));
    }
    let kinds = refused();
    let mut counts = std::collections::BTreeMap::new();
    for kind in &kinds {
        *counts.entry(kind).or_insert(0_u32) += 1;
    }
    println!(
        "{strangers} strangers in {took:.1?}: {counts:?}; epochs a second {before:.0} before, \
         {meanwhile:.0} meanwhile"
    );
    assert_eq!(kinds.len(), strangers, "each is refused and counted once");
    assert!(counts.len() >= 4, "not all by the same name: {counts:?}");
    assert!(epochs() > flood.0, "the run goes on");
    let events = server.events.lock().unwrap();
    let harmed = |event: &NetEvent| {
        matches!(
            event,
            NetEvent::Suspected(_) | NetEvent::Disconnected(_) | NetEvent::HardDeadline { .. }
        )
    };
    let harm = events.iter().find(|noted| harmed(&noted.event));
    assert!(harm.is_none(), "{harm:?}");
    let formed = events
        .iter()
        .filter(|n| matches!(n.event, NetEvent::ViewChange { .. }));
    assert_eq!(formed.count(), 1, "and nobody's view has changed");
    drop(events);
    ranks.into_iter().for_each(|rank| rank.process.kill());
    server.process.kill();
}

#[test]
fn five_hundred_strangers_are_refused_and_counted() {
    strangers_do_not_disturb(500);
}

/// `cargo test --release -p selvedge-core --features net --test ddp_net_strangers -- --ignored`
#[test]
#[ignore = "ten thousand connections: half a minute"]
fn ten_thousand_strangers_are_refused_and_counted() {
    strangers_do_not_disturb(10_000);
}

#[test]
fn whoever_says_nothing_is_refused_in_time_and_a_crowd_keeps_nobody_out_for_long() {
    let config = config(2, 30);
    let server = coordinator(config, loopback(), Store::in_memory(config.run).unwrap());
    // More than fit at the door, and not one says a word.
    let silent: Vec<_> = (0..90)
        .map(|_| TcpStream::connect(server.address).unwrap())
        .collect();
    let ranks: Vec<_> = (0..2)
        .map(|r| rank(rank_options(&config, r, server.address), Tiny::new(r, 2)))
        .collect();
    for rank in ranks {
        rank.process.join().unwrap();
    }
    let report = server.process.join().unwrap();
    let crowded = report.refused.of(Refusal::Crowded);
    assert!(
        report.refused.of(Refusal::TimedOut) >= 60,
        "{}",
        report.refused
    );
    assert!(crowded >= 90 - 64, "{}", report.refused);
    drop(silent);
}

#[test]
fn a_rank_that_is_of_another_run_is_told_why_and_ends() {
    let config = config(2, 1_000_000);
    let server = coordinator(config, loopback(), Store::in_memory(config.run).unwrap());
    let good = rank_options(&config, 1, server.address);
    let refusal = |options| {
        let error = rank(options, Tiny::new(1, 1)).process.join().unwrap_err();
        let RankError::Refused { refusal, .. } = error else {
            panic!("{error}");
        };
        refusal
    };
    let mut bad = good.clone();
    bad.token = Token::new("a token of others").unwrap();
    assert_eq!(refusal(bad), Refusal::Token);
    let mut bad = good.clone();
    bad.run.0 += 1;
    assert_eq!(refusal(bad), Refusal::Run);
    let mut bad = good.clone();
    bad.last_epoch = Epoch(7);
    assert_eq!(refusal(bad), Refusal::Config);
    let mut bad = good;
    (bad.world, bad.rank) = (3, Rank(2));
    assert_eq!(refusal(bad), Refusal::Config);
    let events = server.events.lock().unwrap().clone();
    let refused = events
        .iter()
        .filter(|n| matches!(n.event, NetEvent::Refused(_)));
    assert_eq!(refused.count(), 4);
    server.process.kill();
    assert_eq!(RefusedCounts::default().to_string(), "0 refused");
}
