//! The explorer beside loom and shuttle's depth-first search, on the same bodies in one run.
//!
//! `cargo bench -p selvedge-sim --bench explorer -- [--quick] [LIMIT-SECONDS] [ROW...]` prints one
//! JSON object a line: body, engine, executions, seconds, outcomes, whether it ended by itself.
//! The others are cut at the limit (60 s, with `--quick` 3 s), each in a process of its own: loom
//! cannot be cut from inside.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering as StdOrdering};
use std::sync::{Arc, Mutex as StdMutex};
use std::time::{Duration, Instant};

use selvedge_core::platform::{Atomic, AtomicInt, JoinHandle, Mutex, Ordering, Platform, Shared};
use selvedge_core::{AgentId, BlockPool, LayerId, ModelCacheSpec};
use selvedge_sim::explorer::{Explorer, SearchEnd};
use selvedge_sim::{Bodies, Cx, Observation, bodies};

/// The bodies, each with a letter to ask for it by.
fn rows() -> [(&'static str, &'static str, Bodies); 6] {
    [
        (
            "a",
            "pool of 3, 3 threads allocate 2 and drop",
            bodies!(pool_3),
        ),
        (
            "b",
            "pool of 3, 4 threads allocate 2 and drop",
            bodies!(pool_4),
        ),
        (
            "c",
            "pool of 3, 2 threads x 2 operations",
            bodies!(pool_2_twice),
        ),
        ("d", "load and CAS loop, 3 threads", bodies!(cas_loops)),
        ("e", "lock order of ABBA mended, 3 threads", bodies!(abba_3)),
        (
            "f",
            "pool of 3, 3 threads x 3 operations",
            bodies!(pool_3_thrice),
        ),
    ]
}

fn pool<P: Platform>(threads: usize, operations: usize) -> Observation {
    let spec = ModelCacheSpec::new(1, 1, 8, 16).expect("INVARIANT: no size is zero");
    let pool = BlockPool::<P>::new(spec, 3).expect("INVARIANT: there are blocks");
    let pool = P::Arc::new(pool);
    let agent = pool.agent("a").expect("INVARIANT: it has a name");
    let others: Vec<_> = (1..threads)
        .map(|_| {
            let pool = pool.clone();
            P::spawn(move || (allocate_and_drop(&pool, agent, operations), pool).0)
        })
        .collect();
    let mut granted = vec![allocate_and_drop(&pool, agent, operations)];
    granted.extend(others.into_iter().map(JoinHandle::join));
    Observation::of(format!("{granted:?}"))
}

fn allocate_and_drop<P: Platform>(
    pool: &BlockPool<P>,
    agent: AgentId,
    operations: usize,
) -> Vec<bool> {
    (0..operations)
        .map(|_| pool.allocate(2, LayerId(0), agent).is_ok())
        .collect()
}

fn pool_3<P: Platform>(_: &Cx) -> Observation {
    pool::<P>(3, 1)
}

fn pool_4<P: Platform>(_: &Cx) -> Observation {
    pool::<P>(4, 1)
}

fn pool_2_twice<P: Platform>(_: &Cx) -> Observation {
    pool::<P>(2, 2)
}

fn pool_3_thrice<P: Platform>(_: &Cx) -> Observation {
    pool::<P>(3, 3)
}

fn cas_loops<P: Platform>(_: &Cx) -> Observation {
    let cell = P::Arc::new(P::AtomicU32::new(0));
    let others: Vec<_> = (0..2)
        .map(|_| {
            let cell = cell.clone();
            P::spawn(move || (add::<P>(&cell), cell).0)
        })
        .collect();
    let mut told = vec![add::<P>(&cell)];
    told.extend(others.into_iter().map(JoinHandle::join));
    Observation::of(format!("{told:?}"))
}

/// Adds one by exchange, again until it is done, and ten at once.
fn add<P: Platform>(cell: &P::AtomicU32) -> (u32, u32) {
    // ORDERING: AcqRel and Acquire, which all engines take alike on a single cell.
    let (both, acquire) = (Ordering::AcqRel, Ordering::Acquire);
    let mut seen = cell.load(acquire);
    let mut tries = 0;
    while let Err(now) = cell.compare_exchange(seen, seen + 1, both, acquire) {
        seen = now;
        tries += 1;
    }
    (tries, cell.fetch_add(10, both))
}

/// A deadlock would end the search, so it is the right order of locks that is measured.
fn abba_3<P: Platform>(_: &Cx) -> Observation {
    let locks: [P::Mutex<u32>; 3] = std::array::from_fn(|_| Mutex::new(0));
    let locks = P::Arc::new(locks);
    let others: Vec<_> = (1..3)
        .map(|me| {
            let locks = locks.clone();
            P::spawn(move || (take_both::<P>(&locks, me), locks).0)
        })
        .collect();
    let mut told = vec![take_both::<P>(&locks, 0)];
    told.extend(others.into_iter().map(JoinHandle::join));
    Observation::of(format!("{told:?}"))
}

fn take_both<P: Platform>(locks: &[P::Mutex<u32>; 3], me: usize) -> (u32, u32) {
    let next = (me + 1) % 3;
    let mut first = locks[me.min(next)].lock();
    let mut second = locks[me.max(next)].lock();
    *first += 1;
    *second += 1;
    (*first, *second)
}

fn main() {
    let args: Vec<String> = (std::env::args().skip(1))
        .filter(|arg| arg != "--bench")
        .collect();
    if let [flag, row, engine] = &args[..]
        && flag == "--one"
    {
        return run_one(row, engine);
    }
    let quick = args.iter().any(|arg| arg == "--quick");
    let seconds = args.iter().find_map(|arg| arg.parse::<u64>().ok());
    let limit = Duration::from_secs(seconds.unwrap_or(if quick { 3 } else { 60 }));
    let is_row = |arg: &&String| rows().iter().any(|(row, ..)| row == arg);
    let wanted: Vec<&String> = args.iter().filter(is_row).collect();
    for (row, title, _) in rows() {
        if wanted.is_empty() || wanted.iter().any(|name| *name == row) {
            // The largest is there to be divided.
            let engines: &[&str] = match row {
                "f" => &["explorer", "explorer, 2 workers"],
                _ => &["explorer", "loom", "shuttle-dfs"],
            };
            for engine in engines {
                measure(row, title, engine, limit);
            }
        }
    }
}

/// Runs a row in a process of its own, prints what it said last, and ends it at the limit.
fn measure(row: &str, title: &str, engine: &str, limit: Duration) {
    let program = std::env::current_exe().expect("INVARIANT: a running program has a file");
    let mut child = Command::new(program)
        .args(["--one", row, engine])
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .expect("INVARIANT: what runs can be run again");
    let output = child.stdout.take().expect("INVARIANT: it was asked for");
    let (said, lines) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        for line in BufReader::new(output).lines().map_while(Result::ok) {
            let _ = said.send(line);
        }
    });
    let started = Instant::now();
    let mut last = String::new();
    // Until it is done, or its time is up.
    while let Ok(line) = lines.recv_timeout(limit.saturating_sub(started.elapsed())) {
        last = line;
    }
    let _ = child.kill();
    let _ = child.wait();
    if last.is_empty() {
        last = r#""complete":false,"executions":0,"seconds":0,"outcomes":0"#.to_owned();
    }
    println!(r#"{{"row":"{row}","body":"{title}","engine":"{engine}",{last}}}"#);
}

/// Runs a row here; says how far it is now and then, and at the end.
fn run_one(row: &str, engine: &str) {
    let bodies = (rows().into_iter()).find(|(name, ..)| *name == row);
    let (_, _, bodies) = bodies.expect("INVARIANT: the parent names rows that exist");
    let bodies = bodies
        .threads
        .expect("INVARIANT: each row is a body on threads");
    let tally = Arc::new(Tally {
        started: Instant::now(),
        executions: AtomicU64::new(0),
        outcomes: StdMutex::default(),
    });
    let counted = Arc::clone(&tally);
    let count = move |body: fn(&Cx) -> Observation| counted.add(&body(&Cx::new(0, 0, 1)));
    match engine {
        "explorer" | "explorer, 2 workers" => {
            let explorer = Explorer {
                workers: 1 + usize::from(engine != "explorer"),
                ..Explorer::default()
            };
            let search = explorer.run(move || {
                count(bodies.explorer);
                Observation::none()
            });
            assert!(search.end == SearchEnd::Complete);
            assert!(search.abandoned == 0 || explorer.workers > 1);
            eprintln!(
                "{} complete + {} abandoned",
                search.executions, search.abandoned
            );
        }
        "loom" => {
            let mut builder = loom::model::Builder::new();
            builder.max_branches = 10_000;
            builder.check(move || count(bodies.loom));
        }
        _ => {
            let mut config = shuttle::Config::new();
            config.stack_size = 512 << 10;
            config.failure_persistence = shuttle::FailurePersistence::None;
            config.silence_warnings = true;
            let scheduler = shuttle::scheduler::DfsScheduler::new(None, false);
            shuttle::Runner::new(scheduler, config).run(move || count(bodies.shuttle));
        }
    }
    tally.tell(true);
}

struct Tally {
    started: Instant,
    executions: AtomicU64,
    outcomes: StdMutex<BTreeSet<String>>,
}

impl Tally {
    fn add(&self, observation: &Observation) {
        let mut outcomes = (self.outcomes.lock()).expect("INVARIANT: nobody panics holding it");
        if !outcomes.contains(observation.as_str()) {
            outcomes.insert(observation.as_str().to_owned());
        }
        drop(outcomes);
        // ORDERING: Relaxed, here and below. A counter that is only displayed.
        if (self.executions.fetch_add(1, StdOrdering::Relaxed) + 1).is_multiple_of(1_000) {
            self.tell(false);
        }
    }

    fn tell(&self, complete: bool) {
        // ORDERING: Relaxed, as above.
        let executions = self.executions.load(StdOrdering::Relaxed);
        let seconds = self.started.elapsed().as_secs_f64();
        let outcomes = (self.outcomes.lock()).expect("INVARIANT: nobody panics holding it");
        println!(
            r#""complete":{complete},"executions":{executions},"seconds":{seconds:.6},"outcomes":{}"#,
            outcomes.len()
        );
        let _ = std::io::stdout().flush();
    }
}
