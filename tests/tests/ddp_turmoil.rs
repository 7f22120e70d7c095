//! The epoch step's drivers, as they ship, on a simulated network: latencies, partitions both
//! ways and one way (half-open connections), held messages, crashes of ranks and of the
//! coordinator, all drawn from a seed, in virtual time.
//!
//! Whatever happens: whoever applied an epoch applied the same, and each life of a rank ends, with
//! the run or with a reason, within a deadline.
#![cfg(not(loom))]
#![allow(clippy::unwrap_used, reason = "a test ends there")]

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use selvedge_core::ddp::net::{
    Calls, CoordinatorOptions, CoordinatorServer, Given, Network, Noted, RankClient, RankOptions,
    Start, Store, Timing, Token, Trainee, TraineeError,
};
use selvedge_core::ddp::{
    AlphaCurve, AlphaLevel, BlueprintId, CommitRecord, Deadlines, Epoch, GateMetrics, Incarnation,
    Rank, RunConfig, RunId, Schedule, SeedId, SeedSlot, SlotId, SlotRules, Strictness,
};

const WORLD: u32 = 4;
const LAST: u64 = 80;
const RUN: RunId = RunId(77);
const DOOR: u16 = 9000;
/// In virtual time: by then every rank has ended.
const LIMIT: Duration = Duration::from_secs(150);

#[derive(Clone, Copy)]
struct Simulated;

impl Network for Simulated {
    type Stream = turmoil::net::TcpStream;
    type Listener = turmoil::net::TcpListener;

    async fn connect(&self, to: SocketAddr) -> io::Result<Self::Stream> {
        turmoil::net::TcpStream::connect(to).await
    }

    async fn bind(&self, to: SocketAddr) -> io::Result<Self::Listener> {
        turmoil::net::TcpListener::bind(to).await
    }

    async fn accept(&self, at: &Self::Listener) -> io::Result<(Self::Stream, SocketAddr)> {
        at.accept().await
    }

    fn local_addr(&self, of: &Self::Listener) -> io::Result<SocketAddr> {
        of.local_addr()
    }
}

/// A disk that outlives the coordinator.
#[derive(Clone, Debug, Default)]
struct Disk(Arc<Mutex<Vec<u8>>>);

impl redb::StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.lock().unwrap().len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let at = offset as usize;
        let bytes = self.0.lock().unwrap();
        let found = bytes.get(at..at + out.len());
        out.copy_from_slice(found.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        self.0.lock().unwrap().resize(length as usize, 0);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let at = offset as usize;
        self.0.lock().unwrap()[at..at + data.len()].copy_from_slice(data);
        Ok(())
    }
}

/// What each life has applied: its rank, the epoch, the record's digest.
type Applied = Arc<Mutex<Vec<(u32, u64, u64)>>>;

struct Sum {
    rank: u32,
    value: f64,
    applied: Applied,
}

impl Trainee for Sum {
    fn bucket_len(&self) -> usize {
        1
    }

    fn gradient(&mut self, epoch: Epoch, step: u64, bucket: &mut [f64]) -> Given {
        let batches = u64::from(self.rank % 3) + 1;
        if step < batches {
            bucket[0] = self.value * 0.5 + (epoch.0 * 10 + step) as f64 + f64::from(self.rank);
        }
        Given {
            active: step < batches,
            more: step + 1 < batches,
        }
    }

    fn apply_step(&mut self, sum: &[f64], active: u32, _: u64) {
        self.value -= 0.01 * sum[0] / f64::from(active.max(1));
    }

    fn apply_epoch(&mut self, record: &CommitRecord) {
        let mut applied = self.applied.lock().unwrap();
        applied.push((self.rank, record.epoch.0, record.digest()));
    }

    fn measure(&mut self, _: SlotId) -> GateMetrics {
        GateMetrics {
            gradient_ratio: Some(1.0),
            gradient_health: Some(1.0),
            ..GateMetrics::default()
        }
    }

    fn save(&self) -> Vec<u8> {
        self.value.to_le_bytes().to_vec()
    }

    fn load(&mut self, bytes: &[u8]) -> Result<(), TraineeError> {
        let bytes = bytes.try_into();
        let bytes = bytes.map_err(|_| TraineeError("not a value".to_owned()))?;
        self.value = f64::from_le_bytes(bytes);
        Ok(())
    }
}

fn genesis() -> CommitRecord {
    let rules = SlotRules {
        strictness: Strictness::Permissive,
        auto_g1: true,
        auto_g2: true,
        blend_steps: 60,
        blend_curve: AlphaCurve::Linear,
        ..SlotRules::default()
    };
    let mut slot = SeedSlot::new(SlotId(0), rules);
    slot.germinate(SeedId(1), BlueprintId(1)).unwrap();
    assert_eq!(slot.alpha().unwrap().target(), AlphaLevel::ZERO);
    CommitRecord::genesis(RUN, Epoch(0), 0, Schedule::new([slot]).unwrap())
}

fn timing() -> Timing {
    Timing {
        heartbeat: Duration::from_millis(100),
        suspect_after: Duration::from_millis(1000),
        reconnect_within: Duration::from_millis(600),
        deadlines: Deadlines {
            soft: Duration::from_secs(1),
            hard: Duration::from_secs(8),
        },
        admission: Deadlines {
            soft: Duration::from_secs(4),
            hard: Duration::from_secs(12),
        },
        door: Duration::from_millis(500),
    }
}

fn token() -> Token {
    Token::new("a token of the simulation").unwrap()
}

struct Chance(u64);

impl Chance {
    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % n
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    Partition(usize, usize),
    /// A half-open connection: one way is dead, the other delivers.
    OneWay(usize, usize),
    Hold(usize, usize),
    Repair(usize, usize),
    Release(usize, usize),
    Crash(usize),
    Bounce(usize),
}

/// What goes wrong when, in milliseconds. Host 4 is the coordinator.
fn plan(seed: u64) -> Vec<(u64, Fault)> {
    let mut chance = Chance(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let mut plan = Vec::new();
    for _ in 0..=chance.below(5) {
        let at = 200 + chance.below(3_000);
        let until = at + 50 + chance.below(2_500);
        let a = chance.below(5) as usize;
        let b = (a + 1 + chance.below(4) as usize) % 5;
        let (fault, end) = match chance.below(6) {
            0 => (Fault::Partition(a, b), Fault::Repair(a, b)),
            1 | 2 => (Fault::OneWay(a, b), Fault::Repair(a, b)),
            3 => (Fault::Hold(a, b), Fault::Release(a, b)),
            _ => (Fault::Crash(a), Fault::Bounce(a)),
        };
        plan.extend([(at, fault), (until, end)]);
    }
    plan.sort_by_key(|(at, _)| *at);
    plan
}

/// How a world has gone.
#[derive(Debug, PartialEq)]
struct Story {
    /// How each life of each rank ended, and when.
    ends: Vec<(u32, u64, String, Duration)>,
    applied: Vec<(u32, u64, u64)>,
    events: Vec<String>,
    faults: Vec<Fault>,
    took: Duration,
}

fn world(seed: u64) -> Story {
    let config = RunConfig {
        run: RUN,
        world: WORLD,
        min_world: 2,
        last_epoch: Epoch(LAST),
    };
    let mut sim = turmoil::Builder::new()
        .rng_seed(seed)
        .tick_duration(Duration::from_millis(2))
        .simulation_duration(LIMIT * 2)
        .min_message_latency(Duration::from_millis(1))
        .max_message_latency(Duration::from_millis(12))
        .build();
    let names = ["r0", "r1", "r2", "r3", "c"];
    let disk = Disk::default();
    let events: Arc<Mutex<Vec<String>>> = Arc::default();
    let over = Rc::new(Cell::new(false));
    let (log, told, store) = (events.clone(), over.clone(), disk.clone());
    sim.host("c", move || {
        let (log, told, store) = (log.clone(), told.clone(), store.clone());
        async move {
            let store = Store::with_backend(store, RUN)?;
            let listen = SocketAddr::from(([0, 0, 0, 0], DOOR));
            let options = CoordinatorOptions {
                timing: timing(),
                ..CoordinatorOptions::new(config, Start::GoOnOr(genesis()), token(), listen)
            };
            let server = CoordinatorServer::bind(Simulated, options, store).await?;
            let observer = move |noted: &Noted| {
                let text = format!("{:?} {:?}", noted.at, noted.event);
                log.lock().unwrap().push(text);
            };
            let end = server.observed_by(observer).serve().await;
            told.set(true);
            // A run that was given up is an end as any.
            drop(end);
            Ok(())
        }
    });
    let coordinator = SocketAddr::new(sim.lookup("c"), DOOR);
    let applied = Applied::default();
    let ends = Rc::new(RefCell::new(Vec::new()));
    let lives = Rc::new(RefCell::new([0_u64; WORLD as usize]));
    for rank in 0..WORLD {
        let (applied, ends, lives) = (applied.clone(), ends.clone(), lives.clone());
        sim.host(names[rank as usize], move || {
            lives.borrow_mut()[rank as usize] += 1;
            let life = lives.borrow()[rank as usize];
            let (ends, applied) = (ends.clone(), applied.clone());
            async move {
                let trainee = Sum {
                    rank,
                    value: 1.0,
                    applied,
                };
                let options = RankOptions {
                    timing: timing(),
                    calls: Calls::Inline,
                    incarnation: Incarnation(life),
                    ..RankOptions::new(&config, Rank(rank), token(), coordinator)
                };
                let client = RankClient::bind(Simulated, options, trainee).await?;
                let end = match client.run().await {
                    Ok(report) => format!("done after {}", report.record.epoch),
                    Err(error) => format!("{error}"),
                };
                let now = turmoil::sim_elapsed().unwrap_or_default();
                ends.borrow_mut().push((rank, life, end, now));
                Ok(())
            }
        });
    }
    let mut faults = Vec::new();
    let mut plan = plan(seed).into_iter().peekable();
    let mut down = [false; 5];
    loop {
        let now = sim.elapsed();
        while let Some((_, fault)) = plan.next_if(|(at, _)| Duration::from_millis(*at) <= now) {
            match fault {
                Fault::Partition(a, b) => sim.partition(names[a], names[b]),
                Fault::OneWay(a, b) => sim.partition_oneway(names[a], names[b]),
                Fault::Hold(a, b) => sim.hold(names[a], names[b]),
                Fault::Repair(a, b) => sim.repair(names[a], names[b]),
                Fault::Release(a, b) => sim.release(names[a], names[b]),
                // A process that has ended is neither killed nor started again.
                Fault::Crash(a) if sim.is_host_running(names[a]) => {
                    sim.crash(names[a]);
                    down[a] = true;
                }
                Fault::Bounce(a) if down[a] => {
                    sim.bounce(names[a]);
                    down[a] = false;
                }
                Fault::Crash(_) | Fault::Bounce(_) => continue,
            }
            faults.push(fault);
        }
        sim.step().unwrap();
        let all = names.iter().take(WORLD as usize);
        let running = all.clone().any(|name| sim.is_host_running(*name));
        if over.get() && !running && plan.peek().is_none() && !down.contains(&true) {
            break;
        }
        let ranks = all.filter(|name| sim.is_host_running(**name));
        let ranks: Vec<_> = ranks.collect();
        let said = || events.lock().unwrap().join("\n");
        assert!(
            now < LIMIT,
            "seed {seed} hangs: {ranks:?} run, coordinator over: {}, {faults:?}\n{}",
            over.get(),
            said()
        );
    }
    let took = sim.elapsed();
    drop(sim);
    let story = Story {
        ends: ends.borrow().clone(),
        applied: applied.lock().unwrap().clone(),
        events: events.lock().unwrap().clone(),
        faults,
        took,
    };
    let mut decided = BTreeMap::new();
    for &(rank, epoch, digest) in &story.applied {
        let first = *decided.entry(epoch).or_insert(digest);
        assert_eq!(
            first, digest,
            "seed {seed}: rank {rank} differs in epoch {epoch}"
        );
    }
    // And what was written down is what they applied.
    let log = Store::with_backend(disk, RUN).unwrap().log().unwrap();
    for record in &log {
        if let Some(&digest) = decided.get(&record.epoch.0) {
            assert_eq!(digest, record.digest(), "seed {seed}: {}", record.epoch);
        }
    }
    assert!(
        decided.keys().all(|epoch| *epoch < log.len() as u64),
        "seed {seed}"
    );
    story
}

fn seeds() -> u64 {
    let set = std::env::var("SELVEDGE_TURMOIL_SEEDS");
    set.map_or(10, |seeds| {
        seeds
            .parse()
            .expect("SELVEDGE_TURMOIL_SEEDS is a number of seeds")
    })
}

#[test]
fn alpha_agrees_and_every_rank_ends_whatever_the_network_does() {
    let mut reached: BTreeMap<&str, u32> = BTreeMap::new();
    let mut longest = Duration::ZERO;
    for seed in 0..seeds() {
        let story = world(seed);
        longest = longest.max(story.took);
        let mut reach = |what, times: usize| *reached.entry(what).or_default() += times as u32;
        let count = |text: &str| story.events.iter().filter(|e| e.contains(text)).count();
        reach("suspicions", count("Suspected"));
        reach("changes of view", count("ViewChange"));
        reach("reconnections", count("Disconnected"));
        let done = |end: &&(u32, u64, String, Duration)| end.2.starts_with("done");
        for (rank, life, end, at) in story.ends.iter().filter(|end| !done(end)) {
            println!("seed {seed}: life {life} of rank {rank} after {at:?}: {end}");
        }
        reach("done", story.ends.iter().filter(done).count());
        reach(
            "failed with a reason",
            story.ends.iter().filter(|end| !done(end)).count(),
        );
        for fault in &story.faults {
            let name = match fault {
                Fault::Partition(..) => "partitions",
                Fault::OneWay(..) => "half-open links",
                Fault::Hold(..) => "holds",
                Fault::Crash(4) => "crashes of the coordinator",
                Fault::Crash(_) => "crashes of ranks",
                Fault::Repair(..) | Fault::Release(..) | Fault::Bounce(_) => continue,
            };
            reach(name, 1);
        }
    }
    println!(
        "{} worlds, the longest of {longest:?}: {reached:?}",
        seeds()
    );
    for must in [
        "suspicions",
        "half-open links",
        "holds",
        "partitions",
        "done",
    ] {
        assert!(
            reached.get(must).is_some_and(|n| *n > 0),
            "never reached: {must}: {reached:?}"
        );
    }
}

#[test]
fn a_world_is_the_same_again_from_its_seed() {
    assert_eq!(world(3), world(3));
}
