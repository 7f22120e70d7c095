//! Dijkstra's dining philosophers: between each two of them lies one fork, and to eat takes
//! both. If everyone takes the left fork first, all may hold one and wait for ever for the
//! other.
//!
//! Right where the last philosopher takes the right fork first: then the circle is broken.

use selvedge_core::platform::{Mutex, Platform};
use selvedge_sim::{Cx, Observation, bodies, reach, violation};

use super::race::{observe, race};
use crate::registry::{Expect, Scenario, explorer, loom, shuttle};

pub(super) const SCENARIO: Scenario = Scenario {
    id: "dining-philosophers",
    ticket: "classic",
    summary: "everyone takes the left fork first",
    source: concat!(
        include_str!("dining_philosophers.rs"),
        include_str!("race.rs")
    ),
    twin: bodies!(all_left_first),
    shipped: bodies!(last_right_first),
    signature: "deadlock",
    must_reach: &["fork-was-warm", "forks-were-cold"],
    // Not on real threads, which would hang.
    engines: &[
        explorer(Expect::Finds),
        loom(Expect::Finds),
        shuttle(Expect::Finds),
    ],
};

/// The main thread is one of them.
const PHILOSOPHERS: usize = 4;

/// How often each fork was eaten with.
type Forks<P> = [<P as Platform>::Mutex<usize>; PHILOSOPHERS];

fn all_left_first<P: Platform>(cx: &Cx) -> Observation {
    dine::<P>(cx, |_| true)
}

fn last_right_first<P: Platform>(cx: &Cx) -> Observation {
    dine::<P>(cx, |seat| seat + 1 < PHILOSOPHERS)
}

fn dine<P: Platform>(cx: &Cx, left_first: fn(usize) -> bool) -> Observation {
    let fresh = || std::array::from_fn(|_| P::Mutex::new(0));
    let rounds = race::<P, Forks<P>, _>(cx, PHILOSOPHERS, fresh, move |forks, seat| {
        eat::<P>(forks, seat, left_first(seat))
    });
    for warm in &rounds {
        for &warm in warm {
            reach(match warm {
                0 => "forks-were-cold",
                _ => "fork-was-warm",
            });
        }
        // Of a fork's two users one has it cold and the other warm.
        if warm.iter().sum::<usize>() != PHILOSOPHERS {
            violation!("fork-used-by-two-at-once", "warm forks found: {warm:?}");
        }
    }
    observe(&rounds, |warm| format!("warm forks found: {warm:?}"))
}

/// Eats once; how many of the two forks somebody had used before.
fn eat<P: Platform>(forks: &Forks<P>, seat: usize, left_first: bool) -> usize {
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
