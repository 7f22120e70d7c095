//! The epoch step's drivers, as they ship, on a simulated network: latencies, partitions both
//! ways and one way (half-open connections), held messages, crashes of ranks and of the
//! coordinator, all drawn from a seed, in virtual time.
//!
//! Whatever happens: whoever applied an epoch applied the same, record and parameters; each life
//! of a rank ends, with the run or with a reason that faults of a network can be, within a
//! deadline; the coordinator ends well, or because too few ranks are left.
#![cfg(not(loom_run))]
#![allow(clippy::unwrap_used, reason = "a test ends there")]

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use selvedge_core::ddp::net::{
    Calls, CoordinatorError, CoordinatorOptions, CoordinatorServer, Given, NetEvent, Network,
    Noted, RankClient, RankError, RankOptions, Start, Store, Timing, Token, Trainee, TraineeError,
};
use selvedge_core::ddp::{
    AbortReason, AlphaCurve, AlphaLevel, BlueprintId, CommitRecord, Deadlines, Epoch, Failure,
    GateMetrics, Incarnation, Rank, RunConfig, RunId, Schedule, SeedId, SeedSlot, SlotId,
    SlotRules, Strictness,
};

const WORLD: u32 = 4;
const LAST: u64 = 80;
const RUN: RunId = RunId(77);
const DOOR: u16 = 9000;
/// In virtual time: a world that is not over by then hangs.
const LIMIT: Duration = Duration::from_secs(150);
/// In virtual time: a life that began, or was last disturbed, this long ago has ended. A run
/// without a fault takes a tenth of it; the rest is for silences, deadlines and a new beginning.
const LIFE: Duration = Duration::from_secs(40);

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

/// What a life has applied.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Entry {
    rank: u32,
    epoch: u64,
    /// The record's.
    digest: u64,
    /// The bits of the parameters, where they are known to be those that the record names.
    bits: Option<u64>,
}

type Applied = Arc<Mutex<Vec<Entry>>>;

struct Sum {
    rank: u32,
    value: f64,
    /// The version of the value, if the last that happened to it was a step.
    version: Option<u64>,
    /// Its bits, for the world to see.
    last: Arc<Mutex<u64>>,
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

    fn apply_step(&mut self, sum: &[f64], active: u32, applied: u64) {
        self.value -= 0.01 * sum[0] / f64::from(active.max(1));
        self.version = Some(applied);
        *self.last.lock().unwrap() = self.value.to_bits();
    }

    fn apply_epoch(&mut self, record: &CommitRecord) {
        let known = self.version == Some(record.applied);
        let entry = Entry {
            rank: self.rank,
            epoch: record.epoch.0,
            digest: record.digest(),
            bits: known.then_some(self.value.to_bits()),
        };
        self.applied.lock().unwrap().push(entry);
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
        self.version = None;
        *self.last.lock().unwrap() = self.value.to_bits();
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

/// A fault that everybody must survive: messages that are late by less than a silence that is
/// noticed, ranks that do not reach each other for a while, a coordinator that is started again
/// before anybody gives it up.
fn gentle_plan(seed: u64) -> Vec<(u64, Fault)> {
    let mut chance = Chance(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let at = 300 + chance.below(1_000);
    let a = chance.below(4) as usize;
    let b = (a + 1 + chance.below(3) as usize) % 4;
    let (fault, end, takes) = match seed % 4 {
        0 => (Fault::Partition(a, b), Fault::Repair(a, b), 1_500),
        1 => (Fault::OneWay(a, b), Fault::Repair(a, b), 1_500),
        2 => (Fault::Hold(a, 4), Fault::Release(a, 4), 400),
        _ => (Fault::Crash(4), Fault::Bounce(4), 4_000),
    };
    let until = at + takes / 2 + chance.below(takes / 2);
    vec![(at, fault), (until, end)]
}

/// How a life of a rank has ended.
#[derive(Clone, Debug, PartialEq)]
struct End {
    rank: u32,
    life: u64,
    began: Duration,
    ended: Duration,
    /// The bits of its parameters, or the reason.
    how: Result<u64, Failure>,
}

/// How a world has gone.
#[derive(Debug, PartialEq)]
struct Story {
    ends: Vec<End>,
    /// Whether the run came to its end, each time that a coordinator's life did.
    finished: Vec<bool>,
    applied: Vec<Entry>,
    events: Vec<Noted>,
    faults: Vec<Fault>,
    took: Duration,
}

impl Story {
    fn count(&self, what: impl Fn(&NetEvent) -> bool) -> usize {
        self.events
            .iter()
            .filter(|noted| what(&noted.event))
            .count()
    }
}

/// What faults of a network, and of processes, may come to for a rank. That tags or records do
/// not fit, that parameters differ or are lost, or that the door is shut to a rank of the run, is
/// never their fault.
fn is_excused(failure: Failure) -> bool {
    match failure {
        Failure::Evicted(_)
        | Failure::QuorumLost
        | Failure::CoordinatorLost(_)
        | Failure::Stalled(_) => true,
        Failure::StateLost | Failure::Diverged | Failure::TagMismatch | Failure::BadRecord => false,
    }
}

fn world(seed: u64, plan: Vec<(u64, Fault)>) -> Story {
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
    let events: Arc<Mutex<Vec<Noted>>> = Arc::default();
    let finished = Rc::new(RefCell::new(Vec::new()));
    let (log, told, store) = (events.clone(), finished.clone(), disk.clone());
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
            let observer = move |noted: &Noted| log.lock().unwrap().push(noted.clone());
            let end = server.observed_by(observer).serve().await;
            let finished = match end {
                Ok(report) => report.record.epoch == Epoch(LAST),
                Err(CoordinatorError::Aborted {
                    reason: AbortReason::QuorumLost,
                    ..
                }) => false,
                Err(error) => return Err(error.into()),
            };
            told.borrow_mut().push(finished);
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
                let began = turmoil::sim_elapsed().unwrap_or_default();
                let last = Arc::new(Mutex::new(1.0_f64.to_bits()));
                let trainee = Sum {
                    rank,
                    value: 1.0,
                    version: None,
                    last: last.clone(),
                    applied,
                };
                let options = RankOptions {
                    timing: timing(),
                    calls: Calls::Inline,
                    incarnation: Incarnation(life),
                    ..RankOptions::new(&config, Rank(rank), token(), coordinator)
                };
                let client = RankClient::bind(Simulated, options, trainee).await?;
                let how = match client.run().await {
                    Ok(report) if report.record.epoch == Epoch(LAST) => Ok(*last.lock().unwrap()),
                    Err(RankError::Failed { failure, .. }) if is_excused(failure) => Err(failure),
                    Ok(report) => return Err(format!("done at {}", report.record.epoch).into()),
                    Err(error) => return Err(error.into()),
                };
                ends.borrow_mut().push(End {
                    rank,
                    life,
                    began,
                    ended: turmoil::sim_elapsed().unwrap_or_default(),
                    how,
                });
                Ok(())
            }
        });
    }
    let mut faults = Vec::new();
    let mut plan = plan.into_iter().peekable();
    let mut disturbed = Duration::ZERO;
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
            disturbed = now;
        }
        if let Err(error) = sim.step() {
            panic!("seed {seed}: {error}; {faults:?}");
        }
        let all = names.iter().take(WORLD as usize);
        let running = all.clone().any(|name| sim.is_host_running(*name));
        let over = !sim.is_host_running(names[4]) && !finished.borrow().is_empty();
        if over && !running && plan.peek().is_none() && !down.contains(&true) {
            break;
        }
        let ranks = all.filter(|name| sim.is_host_running(**name));
        let ranks: Vec<_> = ranks.collect();
        assert!(
            now < LIMIT,
            "seed {seed} hangs: {ranks:?} run, coordinator over: {over}, {faults:?}\n{:#?}",
            events.lock().unwrap()
        );
    }
    let took = sim.elapsed();
    drop(sim);
    let story = Story {
        ends: ends.borrow().clone(),
        finished: finished.borrow().clone(),
        applied: applied.lock().unwrap().clone(),
        events: events.lock().unwrap().clone(),
        faults,
        took,
    };
    let (mut decided, mut parameters) = (BTreeMap::new(), BTreeMap::new());
    for entry in &story.applied {
        let first = *decided.entry(entry.epoch).or_insert(entry.digest);
        assert_eq!(first, entry.digest, "seed {seed}: {entry:?} differs");
        if let Some(bits) = entry.bits {
            let first = *parameters.entry(entry.epoch).or_insert(bits);
            assert_eq!(
                first, bits,
                "seed {seed}: the parameters of {entry:?} differ"
            );
        }
    }
    let mut done = story.ends.iter().filter_map(|end| end.how.ok());
    if let Some(bits) = done.next() {
        assert!(
            done.all(|other| other == bits),
            "seed {seed}: {:?}",
            story.ends
        );
        assert_eq!(parameters.get(&LAST), Some(&bits), "seed {seed}");
    }
    for end in &story.ends {
        let since = end.began.max(disturbed);
        let took = end.ended.saturating_sub(since);
        assert!(
            took < LIFE,
            "seed {seed}: {end:?} took {took:?} since {since:?}"
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

/// What it takes for the searches below to have tried anything.
#[derive(Debug, Default)]
struct Reached(BTreeMap<&'static str, usize>);

impl Reached {
    fn add(&mut self, story: &Story) {
        let mut reach = |what, times| *self.0.entry(what).or_default() += times;
        let suspected = |event: &NetEvent| matches!(event, NetEvent::Suspected(_));
        let view = |event: &NetEvent| matches!(event, NetEvent::ViewChange { .. });
        let cut = |event: &NetEvent| matches!(event, NetEvent::Disconnected(_));
        reach("suspicions", story.count(suspected));
        // The first is the run's beginning.
        reach("changes of view", story.count(view).saturating_sub(1));
        reach("connections cut", story.count(cut));
        let done = story.ends.iter().filter(|end| end.how.is_ok()).count();
        reach("done", done);
        reach("failed with a reason", story.ends.len() - done);
        let known = story.applied.iter().filter(|entry| entry.bits.is_some());
        reach("parameters compared", known.count());
        for fault in &story.faults {
            let name = match fault {
                Fault::Partition(..) => "partitions",
                Fault::OneWay(..) => "half-open links",
                Fault::Hold(..) => "holds",
                Fault::Crash(4) => "crashes of the coordinator",
                Fault::Crash(_) => "crashes of ranks",
                Fault::Bounce(_) => "starts after a crash",
                Fault::Repair(..) | Fault::Release(..) => continue,
            };
            reach(name, 1);
        }
    }

    fn must(&self, all: &[&str]) {
        for must in all {
            let times = self.0.get(must).copied().unwrap_or(0);
            assert!(times > 0, "never reached: {must}: {self:?}");
        }
    }
}

#[test]
fn alpha_agrees_and_every_rank_ends_whatever_the_network_does() {
    let mut reached = Reached::default();
    let mut longest = Duration::ZERO;
    for seed in 0..seeds() {
        let story = world(seed, plan(seed));
        longest = longest.max(story.took);
        for end in story.ends.iter().filter(|end| end.how.is_err()) {
            println!("seed {seed}: {end:?}");
        }
        reached.add(&story);
    }
    println!(
        "{} worlds, the longest of {longest:?}: {reached:?}",
        seeds()
    );
    reached.must(&[
        "changes of view",
        "connections cut",
        "crashes of ranks",
        "crashes of the coordinator",
        "done",
        "failed with a reason",
        "half-open links",
        "holds",
        "parameters compared",
        "partitions",
        "starts after a crash",
        "suspicions",
    ]);
}

/// Every rank sees the run's end, in its first life.
fn is_clean(seed: u64, story: &Story) {
    let first = |end: &End| end.life == 1 && end.how.is_ok();
    assert!(
        story.ends.len() == WORLD as usize && story.ends.iter().all(first),
        "seed {seed}: {:?}, {:?}, {:#?}",
        story.ends,
        story.faults,
        story.events
    );
    assert_eq!(story.finished, [true], "seed {seed}");
    let suspected = story.count(|event| matches!(event, NetEvent::Suspected(_)));
    assert_eq!(suspected, 0, "seed {seed}");
}

#[test]
fn a_world_without_a_fault_ends_well_in_its_first_view() {
    for seed in 0..3 {
        let story = world(seed, Vec::new());
        is_clean(seed, &story);
        let views = story.count(|event| matches!(event, NetEvent::ViewChange { .. }));
        assert_eq!(views, 1);
        assert!(story.took < LIFE / 10, "{:?}", story.took);
    }
}

#[test]
fn a_world_that_heals_in_time_loses_nobody() {
    let mut reached = Reached::default();
    for seed in 0..seeds() {
        let story = world(seed, gentle_plan(seed));
        is_clean(seed, &story);
        reached.add(&story);
    }
    println!("{} worlds: {reached:?}", seeds());
    reached.must(&[
        "changes of view",
        "connections cut",
        "crashes of the coordinator",
        "half-open links",
        "holds",
        "partitions",
    ]);
}

#[test]
fn a_world_is_the_same_again_from_its_seed() {
    assert_eq!(world(3, plan(3)), world(3, plan(3)));
}
