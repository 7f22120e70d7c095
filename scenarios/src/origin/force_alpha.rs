//! The origin's `force_alpha`: for an evaluation with another alpha, such as the host without
//! its seed, a context writes the alpha and writes the old one back at its end. It says that it
//! is not safe for threads, and is used by several. Two of them at once leave what one forced;
//! a tick in between is undone, while its count stays.
//!
//! Two evaluations, and one tick of the ramp. Each evaluation must see what it forced, and in
//! the end alpha must be where one tick brings it.
//!
//! What ships has a view of the alphas that an evaluation is made with, and writes nothing.

use selvedge_core::ddp::{AlphaLevel, Schedule, SeedStage};
use selvedge_core::platform::{JoinHandle, Mutex, Platform, Shared};
use selvedge_sim::{Cx, Observation, bodies, reach, violation};

use crate::bed::in_rounds;
use crate::registry::{BY_LUCK, Expect, Scenario, explorer, loom, native, shuttle};
use crate::slots::{BLENDING, advanced, schedule_of};

pub(super) const SCENARIO: Scenario = Scenario {
    id: "E-FORCE-ALPHA",
    ticket: "esper JANK-005, JANK-020, B3-CR-07",
    summary: "an evaluation writes alpha and writes a stale one back",
    source: concat!(include_str!("force_alpha.rs"), include_str!("../slots.rs")),
    twin: bodies!(evaluate_and_tick, Context),
    shipped: bodies!(evaluate_and_tick, View),
    signature: "wrong-alpha",
    must_reach: &["evaluated", "ticked"],
    engines: &[
        native(BY_LUCK),
        explorer(Expect::Finds),
        loom(Expect::Finds),
        shuttle(Expect::Finds),
    ],
};

/// A slot that blends: a quarter at each tick.
trait Slot: Send + Sync + 'static {
    fn new() -> Self;
    /// The alpha of a forward pass where `level` is forced.
    fn evaluate(&self, level: AlphaLevel) -> f64;
    fn tick(&self);
    fn alpha(&self) -> f64;
}

fn evaluate_and_tick<P: Platform, T: Slot>(cx: &Cx) -> Observation {
    in_rounds(cx, || {
        let slot = P::Arc::new(T::new());
        let ticker = slot.clone();
        let ticker = P::spawn(move || ticker.tick());
        let other = slot.clone();
        let other = P::spawn(move || forced(&*other, AlphaLevel::ONE));
        forced(&*slot, AlphaLevel::ZERO);
        other.join();
        ticker.join();
        reach("ticked");
        if slot.alpha() != 0.25 {
            violation!("wrong-alpha", "{} after the first of four", slot.alpha());
        }
        String::new()
    })
}

fn forced<T: Slot>(slot: &T, level: AlphaLevel) {
    let seen = slot.evaluate(level);
    if seen != level.as_f64() {
        violation!(
            "wrong-alpha",
            "{} was forced, and {seen} used",
            level.as_f64()
        );
    }
    reach("evaluated");
}

/// The code that ships.
struct View<P: Platform>(P::Mutex<Schedule>);

impl<P: Platform> Slot for View<P> {
    fn new() -> Self {
        let blending = advanced(BLENDING, 2);
        if blending.stage() != SeedStage::Blending {
            violation!("bad-configuration", "it is {}", blending.stage());
        }
        View(P::Mutex::new(schedule_of([blending])))
    }

    fn evaluate(&self, level: AlphaLevel) -> f64 {
        // A pass takes long: it is made with a copy, not with the lock held.
        let schedule = self.0.lock().clone();
        match schedule.alphas().force(BLENDING, level) {
            Ok(alphas) => alphas.of(BLENDING).unwrap_or(f64::NAN),
            Err(refused) => violation!("refused", "{refused}"),
        }
    }

    fn tick(&self) {
        self.0.lock().step_epoch(&[]);
    }

    fn alpha(&self) -> f64 {
        self.0.lock().alphas().of(BLENDING).unwrap_or(f64::NAN)
    }
}

/// As reported.
struct Context<P: Platform>(P::Mutex<f64>);

impl<P: Platform> Slot for Context<P> {
    fn new() -> Self {
        Context(P::Mutex::new(0.0))
    }

    fn evaluate(&self, level: AlphaLevel) -> f64 {
        let before = std::mem::replace(&mut *self.0.lock(), level.as_f64());
        let used = self.alpha();
        *self.0.lock() = before;
        used
    }

    fn tick(&self) {
        *self.0.lock() += 0.25;
    }

    fn alpha(&self) -> f64 {
        *self.0.lock()
    }
}
