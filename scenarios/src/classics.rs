//! Textbook programs that tell the engines apart. Here the twin is the wrong program and
//! "shipped" stands for the right one.
//!
//! Which engine finds the wrong one, which may, and which misses it (`-`: it is not run there):
//!
//! | classic | native | explorer | loom | shuttle | why |
//! |---|---|---|---|---|---|
//! | store-buffering | may | misses | finds | misses | weak memory: explorer and shuttle have none, x86 buffers stores |
//! | message-passing | may | misses | finds | misses | weak memory: x86 keeps stores in order |
//! | load-buffering | misses | misses | misses | misses | loom answers no load from a store to come, x86 neither |
//! | iriw | misses | misses | finds | misses | weak memory: x86 shows a store to all others at once |
//! | abba-2 | - | finds | finds | finds | an order of locks; real threads would hang |
//! | abba-3 | - | finds | finds | finds | the same, and two threads do not show it |
//! | lost-wakeup | - | finds | finds | finds | an order of steps; real threads would hang |
//! | dining-philosophers | - | finds | finds | finds | an order of locks; real threads would hang |
//! | bounded-buffer-notify-one | - | finds | finds | finds | a wrong waiter woken; real threads would hang |
//! | double-checked-init | may | misses | finds | misses | weak memory: x86 keeps stores in order |
//! | ticket-lock | may | finds | finds | finds | two steps that should be one |
//! | dekker | may | misses | finds | misses | right under SC, as explorer and shuttle are; x86 is not |
//! | peterson | may | misses | finds | misses | right under SC, as explorer and shuttle are; x86 is not |
//! | loom-166 | may | finds | misses | finds | loom loses an everyday interleaving |
//! | loom-392 | may | finds | misses | finds | loom loses an everyday interleaving |
//! | spin-needs-yield | - | finds | finds | finds | checkers need not be fair; real threads are, slowly |
//! | outcomes-message-passing | - | observes | observes | - | cross-check: only loom sees the flag and no message |
//! | outcomes-store-buffering | - | observes | observes | - | cross-check: loom weakens SeqCst accesses |
//! | outcomes-loom-392 | - | observes | observes | - | cross-check: only the explorer sees the store come first |
//! | outcomes-loom-166 | - | observes | observes | - | cross-check: only the explorer sees the key gone |
//!
//! The last four violate nothing. Their twin is the body whose outcomes explorer and loom must
//! differ by, just as declared, and "shipped" is one where they must agree.
//!
//! Of the native column, load-buffering and iriw are x86's; elsewhere they read `may`.

mod abba_2;
mod abba_3;
mod accounts;
mod bounded_buffer_notify_one;
mod dekker;
mod dining_philosophers;
mod double_checked_init;
mod exclusion;
mod iriw;
mod load_buffering;
mod loom_166;
mod loom_392;
mod lost_wakeup;
mod message_passing;
mod outcomes_loom_166;
mod outcomes_loom_392;
mod outcomes_message_passing;
mod outcomes_store_buffering;
mod peterson;
mod race;
mod spin_needs_yield;
mod store_buffering;
mod ticket_lock;

use crate::Scenario;

/// The classics.
pub const ALL: &[&Scenario] = &[
    &store_buffering::SCENARIO,
    &message_passing::SCENARIO,
    &load_buffering::SCENARIO,
    &iriw::SCENARIO,
    &abba_2::SCENARIO,
    &abba_3::SCENARIO,
    &lost_wakeup::SCENARIO,
    &dining_philosophers::SCENARIO,
    &bounded_buffer_notify_one::SCENARIO,
    &double_checked_init::SCENARIO,
    &ticket_lock::SCENARIO,
    &dekker::SCENARIO,
    &peterson::SCENARIO,
    &loom_166::SCENARIO,
    &loom_392::SCENARIO,
    &spin_needs_yield::SCENARIO,
    &outcomes_message_passing::SCENARIO,
    &outcomes_store_buffering::SCENARIO,
    &outcomes_loom_392::SCENARIO,
    &outcomes_loom_166::SCENARIO,
];

#[cfg(test)]
mod tests {
    use super::ALL;
    use crate::{Expect, Scenario};

    fn word(scenario: &Scenario, engine: &str) -> &'static str {
        let plan = (scenario.engines.iter()).find(|plan| plan.engine.name() == engine);
        match plan.map(|plan| plan.twin) {
            None => "-",
            Some(Expect::Finds) => "finds",
            Some(Expect::May(_)) => "may",
            Some(Expect::Misses(_)) => "misses",
            Some(Expect::Observes) => "observes",
        }
    }

    /// Every row of the table above, in the order of `ALL`, says what the scenario expects.
    #[test]
    fn table_says_what_the_scenarios_expect() {
        let rows: Vec<Vec<&str>> = include_str!("classics.rs")
            .lines()
            .filter_map(|line| line.strip_prefix("//! | ")?.strip_suffix(" |"))
            .skip(1) // the heading
            .map(|row| row.split(" | ").collect())
            .collect();
        assert_eq!(rows.len(), ALL.len());
        for (row, scenario) in rows.iter().zip(ALL) {
            let [id, native, explorer, loom, shuttle, why] = row[..] else {
                panic!("{row:?} has not six columns");
            };
            assert_eq!(id, scenario.id);
            assert!(!why.is_empty());
            assert_eq!(explorer, word(scenario, "explorer"), "{id} under explorer");
            assert_eq!(loom, word(scenario, "loom"), "{id} under loom");
            assert_eq!(shuttle, word(scenario, "shuttle"), "{id} under shuttle");
            if cfg!(target_arch = "x86_64") {
                assert_eq!(native, word(scenario, "native"), "{id} on real threads");
            }
        }
    }
}
