//! Dijkstra's dining philosophers: between each two of them lies one fork, and to eat takes
//! both. If everyone takes the left fork first, all may hold one and wait for ever for the
//! other.
//!
//! Right where the last philosopher takes the right fork first: then the circle is broken.

use selvedge_core::platform::{JoinHandle, Mutex, Platform, Shared};
use selvedge_sim::{Cx, Observation, bodies, reach, violation};

use crate::registry::{Expect, Scenario, loom, shuttle};

pub(super) const SCENARIO: Scenario = Scenario {
    id: "dining-philosophers",
    ticket: "classic",
    summary: "everyone takes the left fork first",
    source: include_str!("dining_philosophers.rs"),
    twin: bodies!(all_left_first),
    shipped: bodies!(last_right_first),
    signature: "deadlock",
    must_reach: &["fork-was-warm", "forks-were-cold"],
    // Not on real threads, which would hang.
    engines: &[loom(Expect::Finds), shuttle(Expect::Finds)],
};

/// The main thread is one of them.
const PHILOSOPHERS: usize = 4;

/// How often each fork was eaten with.
type Forks<P> = [<P as Platform>::Mutex<u32>; PHILOSOPHERS];

fn all_left_first<P: Platform>(_: &Cx) -> Observation {
    dine::<P>(|_| true)
}

fn last_right_first<P: Platform>(_: &Cx) -> Observation {
    dine::<P>(|seat| seat + 1 < PHILOSOPHERS)
}

fn dine<P: Platform>(left_first: fn(usize) -> bool) -> Observation {
    let forks: P::Arc<Forks<P>> = P::Arc::new(std::array::from_fn(|_| P::Mutex::new(0)));
    let others: Vec<_> = (1..PHILOSOPHERS)
        .map(|seat| {
            let forks = forks.clone();
            P::spawn(move || eat::<P>(&forks, seat, left_first(seat)))
        })
        .collect();
    let mut warm = vec![eat::<P>(&forks, 0, left_first(0))];
    warm.extend(others.into_iter().map(JoinHandle::join));
    for &warm in &warm {
        reach(match warm {
            0 => "forks-were-cold",
            _ => "fork-was-warm",
        });
    }
    // Every fork was used by both its neighbours, one after the other.
    let warmth: u32 = warm.iter().sum();
    if warmth as usize != PHILOSOPHERS {
        violation!("fork-used-by-two-at-once", "warm forks found: {warm:?}");
    }
    Observation::of(format!("warm forks found: {warm:?}"))
}

/// Eats once; how many of the two forks somebody had used before.
fn eat<P: Platform>(forks: &Forks<P>, seat: usize, left_first: bool) -> u32 {
    let (left, right) = (seat, (seat + 1) % PHILOSOPHERS);
    let (first, second) = match left_first {
        true => (left, right),
        false => (right, left),
    };
    let mut first = forks[first].lock();
    let mut second = forks[second].lock();
    let warm = *first + *second;
    *first += 1;
    *second += 1;
    warm
}
