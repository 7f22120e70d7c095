//! Whatever comes in whatever order: a late failure never replaces a success, nothing is given up
//! for ever, and a failure that stays costs few attempts.
#![cfg(feature = "train")]
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_types,
    reason = "all of this file is one test, and proptest's macros share what they make"
)]

use std::collections::BTreeMap;
use std::time::Duration;

use proptest::prelude::*;
use selvedge_core::ddp::Epoch;
use selvedge_core::time::Instant;
use selvedge_core::train::compiled_step::{
    Attempt, Backoff, CompileConfig, CompileState, Decision, FailureClass, FirstCompile, KeyId,
    Phase, TransitionKind,
};

const KEYS: usize = 3;

/// One thing that happens; what it names is taken from what there is.
#[derive(Clone, Copy, Debug)]
enum Happens {
    Ask(usize),
    Passes(usize),
    Fails(usize, FailureClass),
    Withdraw(usize, FailureClass),
    Epoch { back: bool, left: u64 },
    Forget(usize),
    Wait(u64),
}

fn class() -> impl Strategy<Value = FailureClass> {
    prop::sample::select(&FailureClass::ALL[..])
}

fn happens() -> impl Strategy<Value = Happens> {
    prop_oneof![
        6 => (0..KEYS).prop_map(Happens::Ask),
        2 => (0..8_usize).prop_map(Happens::Passes),
        4 => (0..8_usize, class()).prop_map(|(which, class)| Happens::Fails(which, class)),
        1 => (0..KEYS, class()).prop_map(|(key, class)| Happens::Withdraw(key, class)),
        3 => (any::<bool>(), 0..4_u64).prop_map(|(back, left)| Happens::Epoch { back, left }),
        1 => (0..KEYS).prop_map(Happens::Forget),
        4 => (0..40_u64).prop_map(Happens::Wait),
    ]
}

fn config(first: FirstCompile) -> CompileConfig {
    let from_to = |base, cap| Backoff {
        base: Duration::from_secs(base),
        cap: Duration::from_secs(cap),
    };
    CompileConfig {
        max_keys: 2,
        first,
        patience: Duration::from_secs(3),
        transient: from_to(2, 10),
        deterministic: from_to(7, 30),
        panicked: from_to(3, 30),
        overdue: from_to(5, 30),
        ..CompileConfig::default()
    }
}

/// What a driver knows: attempts it has begun, keys it was given.
struct Driver {
    state: CompileState,
    now: Instant,
    epoch: u64,
    /// All attempts ever begun and not told of. They may be long past.
    open: Vec<Attempt>,
    keys: BTreeMap<usize, KeyId>,
}

impl Driver {
    fn new(first: FirstCompile) -> Self {
        Driver {
            state: CompileState::new(config(first)).unwrap(),
            now: Instant::ZERO,
            epoch: 0,
            open: Vec::new(),
            keys: BTreeMap::new(),
        }
    }

    fn phase(&self, key: KeyId) -> Option<Phase> {
        self.state.phase(key)
    }

    fn key(&mut self, key: usize) -> Option<KeyId> {
        if let Some(known) = self.keys.get(&key) {
            return Some(*known);
        }
        let new = self.state.admit().ok()?;
        self.keys.insert(key, new);
        Some(new)
    }

    fn happens(&mut self, what: Happens) {
        match what {
            Happens::Ask(key) => {
                let Some(key) = self.key(key) else { return };
                let before = self.phase(key).unwrap();
                let decision = self.state.ask(key, self.now).unwrap();
                match (before, decision) {
                    (Phase::Ready { number }, Decision::Use { number: used }) => {
                        assert_eq!(number, used);
                    }
                    (Phase::Compiling { .. }, Decision::Eager) => {}
                    (Phase::Vacant, Decision::Eager | Decision::Compile(_))
                    | (Phase::Cooling { .. }, Decision::Eager) => {}
                    (Phase::Cooling { not_before, .. }, Decision::Compile(_)) => {
                        assert!(not_before <= self.now, "too soon");
                    }
                    other => panic!("{other:?}"),
                }
                if let Decision::Compile(attempt) = decision {
                    assert!(attempt.deadline <= self.now + self.state.config().patience);
                    self.open.push(attempt);
                }
            }
            Happens::Passes(which) if !self.open.is_empty() => {
                let attempt = self.open.remove(which % self.open.len());
                let before = self.phase(attempt.key);
                let told = self.state.passed(attempt);
                let ready = matches!(before, None | Some(Phase::Ready { .. }));
                assert_eq!(told.is_none(), ready, "the first success counts");
                assert!(matches!(
                    self.phase(attempt.key),
                    None | Some(Phase::Ready { .. })
                ));
            }
            Happens::Fails(which, class) if !self.open.is_empty() => {
                let attempt = self.open.remove(which % self.open.len());
                let before = self.phase(attempt.key);
                let told = self.state.failed(attempt, class, self.now);
                if before != Some(Phase::Compiling { attempt }) {
                    assert_eq!(told, None);
                    assert_eq!(self.phase(attempt.key), before, "a late failure");
                }
            }
            Happens::Withdraw(key, class) => {
                let Some(&key) = self.keys.get(&key) else {
                    return;
                };
                let before = self.phase(key);
                let number = match before {
                    Some(Phase::Ready { number }) => number,
                    _ => 0,
                };
                let told = self.state.withdrawn(key, number, class, self.now);
                let kind = told.map(|told| told.kind);
                match (before, kind) {
                    (Some(Phase::Ready { .. }), Some(TransitionKind::Withdrawn { .. })) => {}
                    (Some(Phase::Ready { .. }), _) | (_, Some(_)) => panic!("{before:?} {told:?}"),
                    (_, None) => assert_eq!(self.phase(key), before),
                }
            }
            Happens::Epoch { back, left } => {
                let before = self.state.clone();
                let epoch = match back {
                    true => self.epoch.saturating_sub(1),
                    false => self.epoch,
                };
                let left = Duration::from_secs(left);
                let permits = self.state.apply_epoch(Epoch(epoch), self.now, left);
                if permits.news {
                    self.epoch += 1;
                } else {
                    assert_eq!(self.state, before, "no news");
                }
            }
            Happens::Forget(key) => {
                if let Some(key) = self.keys.remove(&key) {
                    assert!(self.state.forget(key));
                }
            }
            Happens::Wait(seconds) => self.now = self.now + Duration::from_secs(seconds),
            Happens::Passes(_) | Happens::Fails(..) => {}
        }
        assert_eq!(self.state.validate(), Ok(()));
    }

    /// From wherever it is, a key is compiled in the end, if only epochs come.
    fn recovers(mut self) {
        let cap = CompileConfig::MOST_CAP;
        for &key in self.keys.clone().values() {
            for _ in 0..3 {
                self.now = self.now + cap;
                self.epoch += 1;
                let left = Duration::from_secs(1);
                self.state.apply_epoch(Epoch(self.epoch), self.now, left);
                if let Some(Decision::Compile(attempt)) = self.state.ask(key, self.now) {
                    self.state.passed(attempt);
                }
            }
            assert!(matches!(self.phase(key), Some(Phase::Ready { .. })));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(500) })]

    #[test]
    fn any_order_is_answered(
        first in prop::sample::select(&[FirstCompile::AtUse, FirstCompile::AtEpoch][..]),
        all in prop::collection::vec(happens(), 0..120),
    ) {
        let mut driver = Driver::new(first);
        for what in all {
            driver.happens(what);
        }
        driver.recovers();
    }

    /// However epochs and calls come, a failure that never goes away costs at most
    /// log2(time / base) attempts and one for each cap of that time.
    #[test]
    fn a_permanent_failure_costs_a_bounded_number_of_attempts(
        base_ms in 1..5_000_u64,
        doublings in 0..14_u32,
        class in class(),
        gaps_ms in prop::collection::vec(1..60_000_u64, 1..400),
    ) {
        let base = Duration::from_millis(base_ms);
        let cap = base * 2_u32.pow(doublings);
        let backoff = Backoff { base, cap };
        let mut state = CompileState::new(CompileConfig {
            transient: backoff,
            deterministic: backoff,
            panicked: backoff,
            overdue: backoff,
            ..CompileConfig::default()
        }).unwrap();
        let key = state.admit().unwrap();
        let mut now = Instant::ZERO;
        for (epoch, gap) in gaps_ms.iter().enumerate() {
            state.apply_epoch(Epoch(epoch as u64), now, Duration::from_secs(1));
            if let Some(Decision::Compile(attempt)) = state.ask(key, now) {
                state.failed(attempt, class, now).unwrap();
            }
            now = now + Duration::from_millis(*gap);
        }
        let time = now.as_nanos() as f64;
        let (base, cap) = (base.as_nanos() as f64, cap.as_nanos() as f64);
        // The first attempt comes before any delay. Delays come out of 32-bit floats, a part in
        // ten millions off.
        let most = 1.0 + (time / base + 1.0).log2() + 1.000_001 * time / cap;
        let attempts = state.counters().attempts;
        prop_assert!(attempts as f64 <= most, "{attempts} attempts, {most} allowed");
        prop_assert_eq!(state.counters().failures(), attempts);
    }
}
