//! Strangers at the coordinator's door while a run goes on, many at once: each is refused by name
//! and counted, and the run does not notice.
#![cfg(feature = "net")]
#![allow(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "processes here are std's threads"
)]

mod net;

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use net::{
    Tiny, committed, config, coordinator, coordinator_with, genesis, loopback, rank, rank_options,
    timing, token, wait_for,
};
use selvedge_core::ddp::net::{
    CoordinatorOptions, NetEvent, RankError, Refusal, RefusedCounts, Start, Store, Timing, Token,
};
use selvedge_core::ddp::{Epoch, Incarnation, Rank};

/// A life of rank 1 that is long over: it may come in, and nothing it says counts.
const PAST: Incarnation = Incarnation(1);

/// The first frame of a rank that would be let in.
fn real_frame(config: &selvedge_core::ddp::RunConfig) -> Vec<u8> {
    let door = TcpListener::bind(loopback()).unwrap();
    let mut options = rank_options(config, 1, door.local_addr().unwrap());
    options.incarnation = PAST;
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

/// A frame of a body, with the checksum that it should have.
fn framed(body: &[u8]) -> Vec<u8> {
    let length = (body.len() as u32 + 4).to_be_bytes();
    let crc = crc32fast::hash(body).to_le_bytes();
    [&length[..], body, &crc].concat()
}

/// What one stranger sends.
fn stranger(real: &[u8], chance: &mut Chance) -> Vec<u8> {
    let body = &real[4..real.len() - 4];
    match chance.below(9) {
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
        // Made up, by somebody who knows how to make a checksum: another beginning, version, run
        // or token. What comes after these is for those to say who know them.
        4 => {
            let mut body = body.to_vec();
            let known = 6 + 3 + 1 + token_len();
            body[chance.below(known)] ^= 1 << chance.below(8);
            framed(&body)
        }
        // The same with something missing or something more.
        5 => framed(&body[..chance.below(body.len())]),
        6 => {
            let n = 1 + chance.below(100);
            framed(&[body, &chance.bytes(n)].concat())
        }
        // A length that nobody would keep.
        7 => {
            let length = (1_u32 << 10) + chance.below(1 << 30) as u32;
            [&length.to_be_bytes()[..], &chance.bytes(64)].concat()
        }
        // The door is passed, and then comes what no rank says.
        _ => {
            let n = 1 + chance.below(300);
            let mut said = chance.bytes(n);
            said[0] = 2 + said[0] % 250;
            let mut frame = framed(&said);
            match chance.below(3) {
                0 => {}
                1 => frame[4 + n] ^= 1,
                _ => frame = [&u32::MAX.to_be_bytes()[..], &said].concat(),
            }
            [real, &frame].concat()
        }
    }
}

fn token_len() -> usize {
    b"a token of the tests".len()
}

fn knock(address: SocketAddr, bytes: &[u8]) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    // Who was refused already may not be able to finish.
    stream.write_all(bytes).ok();
    stream.shutdown(Shutdown::Write).ok();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).ok();
    assert!(
        answer.len() < 200,
        "nobody is told more than why, or pinged"
    );
}

/// So many knock at once.
const AT_ONCE: usize = 32;
/// Windows with strangers, each after one without.
const FLOODS: usize = 3;

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
    let each = strangers / FLOODS / AT_ONCE;
    let sent = each * FLOODS * AT_ONCE;
    let (mut before, mut meanwhile) = ((0, 0.0), (0, 0.0));
    let add = |to: &mut (usize, f64), since: (usize, Instant)| {
        to.0 += epochs() - since.0;
        to.1 += since.1.elapsed().as_secs_f64();
    };
    for flood in 0..FLOODS {
        let quiet = (epochs(), Instant::now());
        std::thread::sleep(Duration::from_millis(400));
        add(&mut before, quiet);
        let since = (epochs(), Instant::now());
        std::thread::scope(|scope| {
            for one in 0..AT_ONCE {
                let (real, address) = (&real, server.address);
                scope.spawn(move || {
                    let mut chance = Chance((flood * AT_ONCE + one) as u64);
                    for _ in 0..each {
                        knock(address, &stranger(real, &mut chance));
                    }
                });
            }
        });
        add(&mut meanwhile, since);
    }
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
    while refused().len() < sent && patience.elapsed() < Duration::from_secs(30) {
        std::thread::sleep(Duration::from_millis(20));
    }
    let kinds = refused();
    let mut counts = std::collections::BTreeMap::new();
    for kind in &kinds {
        *counts.entry(kind).or_insert(0_u32) += 1;
    }
    let rate = |(epochs, seconds): (usize, f64)| epochs as f64 / seconds;
    println!(
        "{sent} strangers, {AT_ONCE} at once, in {:.1} s: {counts:?}; epochs a second {:.0} in \
         quiet, {:.0} meanwhile: {:.2} of it",
        meanwhile.1,
        rate(before),
        rate(meanwhile),
        rate(meanwhile) / rate(before),
    );
    assert_eq!(kinds.len(), sent, "each is refused and counted once");
    assert!(counts.len() >= 7, "not all by the same name: {counts:?}");
    // No limit on time: on a busy machine the strangers themselves take most of it.
    assert!(meanwhile.0 > 0, "the run goes on");
    let events = server.events.lock().unwrap();
    let harmed = |event: &NetEvent| match event {
        NetEvent::Suspected(member) | NetEvent::Disconnected(member) => member.incarnation != PAST,
        NetEvent::HardDeadline { .. } => true,
        _ => false,
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
fn a_thousand_strangers_are_refused_and_counted() {
    strangers_do_not_disturb(1_000);
}

/// `cargo test --release -p selvedge-core --features net --test ddp_net_strangers -- --ignored`
#[test]
#[ignore = "ten thousand connections: half a minute"]
fn ten_thousand_strangers_are_refused_and_counted() {
    strangers_do_not_disturb(10_000);
}

#[test]
fn whoever_says_nothing_is_refused_in_time() {
    let config = config(2, 30);
    let server = coordinator(config, loopback(), Store::in_memory(config.run).unwrap());
    // More than fit at the door, and not one says a word.
    let silent: Vec<_> = (0..90)
        .map(|_| TcpStream::connect(server.address).unwrap())
        .collect();
    for _ in 0..64 {
        let late = NetEvent::Refused(Refusal::TimedOut);
        wait_for(&server.news, |event| *event == late);
    }
    let ranks: Vec<_> = (0..2)
        .map(|r| rank(rank_options(&config, r, server.address), Tiny::new(r, 2)))
        .collect();
    for rank in ranks {
        rank.process.join().unwrap();
    }
    let report = server.process.join().unwrap();
    let refused = |refusal| report.refused.of(refusal);
    let crowded = refused(Refusal::Crowded);
    assert_eq!((refused(Refusal::TimedOut), crowded), (64, 90 - 64));
    drop(silent);
}

/// With room for four, and patience for hours: nobody goes who is not put out.
#[test]
fn silent_strangers_who_come_back_keep_no_rank_out() {
    let config = config(3, 20);
    let mut options =
        CoordinatorOptions::new(config, Start::GoOnOr(genesis()), token(), loopback());
    options.timing = Timing {
        door: Duration::from_secs(3600),
        ..timing()
    };
    options.most_at_door = 4;
    let server = coordinator_with(options, Store::in_memory(config.run).unwrap());
    let over = AtomicBool::new(false);
    let filled = Barrier::new(9);
    let report = std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let mut first = true;
                while !over.load(Ordering::SeqCst) {
                    let Ok(mut stream) = TcpStream::connect(server.address) else {
                        break;
                    };
                    if first {
                        filled.wait();
                    }
                    first = false;
                    let most = Some(Duration::from_millis(100));
                    stream.set_read_timeout(most).unwrap();
                    // Until it is put out, or nobody needs it any more.
                    let kept = |error: &std::io::Error| {
                        let waits = [ErrorKind::WouldBlock, ErrorKind::TimedOut];
                        waits.contains(&error.kind()) && !over.load(Ordering::SeqCst)
                    };
                    while stream.read(&mut [0; 64]).is_err_and(|error| kept(&error)) {}
                    std::thread::sleep(Duration::from_millis(5));
                }
            });
        }
        filled.wait();
        let ranks: Vec<_> = (0..3)
            .map(|r| rank(rank_options(&config, r, server.address), Tiny::new(r, 2)))
            .collect();
        let ends: Vec<_> = ranks.into_iter().map(|rank| rank.process.join()).collect();
        over.store(true, Ordering::SeqCst);
        let report = server.process.join();
        for end in ends {
            assert_eq!(end.unwrap().record.epoch, Epoch(20));
        }
        report.unwrap()
    });
    let crowded = report.refused.of(Refusal::Crowded);
    assert!(crowded >= 4, "{}", report.refused);
    assert_eq!(
        report.refused.of(Refusal::TimedOut),
        0,
        "{}",
        report.refused
    );
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
