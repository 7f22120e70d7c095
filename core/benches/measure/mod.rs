//! How the benches of this crate measure: two things in turns, in one process, and the median of
//! the rounds' ratios.
#![allow(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "a bench reads the clock"
)]

use std::env;
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// How much is measured.
#[derive(Clone, Copy)]
pub(crate) struct Size {
    pub(crate) rounds: u32,
    pub(crate) ops: u32,
}

impl Size {
    pub(crate) const FULL: Size = Size {
        rounds: 200,
        ops: 20_000,
    };
    const QUICK: Size = Size {
        rounds: 20,
        ops: 4_000,
    };
    const DEBUG: Size = Size { rounds: 3, ops: 50 };

    /// # Errors
    /// How the program ends if there is an unknown argument; it was said.
    pub(crate) fn from_args(
        bench: &str,
        args: impl Iterator<Item = String>,
    ) -> Result<Size, ExitCode> {
        let mut quick = env::var_os("SELVEDGE_BENCH_QUICK").is_some_and(|v| v != "0");
        for arg in args {
            match arg.as_str() {
                "--quick" => quick = true,
                "--bench" => {} // cargo says so to every bench
                _ => {
                    eprintln!("{bench}: unknown argument {arg:?}; the only one is --quick");
                    return Err(ExitCode::from(2));
                }
            }
        }
        Ok(match (cfg!(debug_assertions), quick) {
            (true, _) => Size::DEBUG,
            (false, true) => Size::QUICK,
            (false, false) => Size::FULL,
        })
    }
}

/// A line of the table, but for its numbers.
pub(crate) struct Row {
    pub(crate) bench: &'static str,
    pub(crate) name: &'static str,
    pub(crate) n: u32,
    pub(crate) limit: Option<f64>,
}

impl Row {
    /// Measures both in turns and prints the line. Returns whether the limit was kept.
    pub(crate) fn compare(
        &self,
        size: Size,
        mut ours: impl FnMut(),
        peer: &str,
        mut theirs: impl FnMut(),
    ) -> bool {
        // A larger batch costs more; a round shall not.
        let ops = size.ops / self.n.isqrt().max(1);
        time(ops, &mut ours);
        time(ops, &mut theirs);
        let (mut ours_ns, mut peer_ns, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
        for round in 0..size.rounds {
            let (a, b) = if round % 2 == 0 {
                let a = time(ops, &mut ours);
                (a, time(ops, &mut theirs))
            } else {
                let b = time(ops, &mut theirs);
                (time(ops, &mut ours), b)
            };
            ours_ns.push(a);
            peer_ns.push(b);
            ratios.push(a / b);
        }
        let ratio = median(ratios);
        let limit = json(self.limit.map(|limit| format!("{limit}")));
        let within = json(self.limit.map(|limit| (ratio <= limit).to_string()));
        println!(
            r#"{{"bench":"{}","row":"{}","n":{},"ours_ns":{:.2},"peer":"{peer}","peer_ns":{:.2},"ratio":{ratio:.3},"limit":{limit},"within":{within}}}"#,
            self.bench,
            self.name,
            self.n,
            median(ours_ns),
            median(peer_ns),
        );
        self.limit.is_none_or(|limit| ratio <= limit)
    }
}

/// Nanoseconds one of `ops` calls takes.
pub(crate) fn time(ops: u32, op: &mut impl FnMut()) -> f64 {
    let start = Instant::now();
    for _ in 0..ops {
        op();
    }
    let nanos = start.elapsed().max(Duration::from_nanos(1)).as_nanos();
    nanos as f64 / f64::from(ops)
}

pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() % 2 {
        0 => (values[middle - 1] + values[middle]) / 2.0,
        _ => values[middle],
    }
}

fn json(value: Option<String>) -> String {
    value.unwrap_or_else(|| "null".to_owned())
}
