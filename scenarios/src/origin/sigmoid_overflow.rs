//! The origin's sigmoid takes the exponential of whatever comes, and a policy may ask for any
//! steepness. At 2,000 the exponent is a thousand, which no float holds: Python's `math.exp`
//! raises, in the middle of an epoch step, on every rank that has come so far. Here `exp` gives
//! infinity. Of the two ways to write the function, the origin's `1 / (1 + exp(-x))` outlives
//! that; the other, `exp(x) / (1 + exp(x))`, is infinity by infinity. The twin has that one.
//!
//! A ramp as steep as that, two ranks of it. At every tick alpha must be a number from 0 to 1,
//! no less than before, the same on both, and 1 at the end.
//!
//! What ships takes the sign out of the exponent first, so that it is never positive.

use selvedge_core::ddp::{AlphaController, AlphaCurve, AlphaLevel, Steepness};
use selvedge_core::platform::{JoinHandle, Platform};
use selvedge_sim::{Cx, Observation, bodies, reach, violation};

use crate::registry::{Expect, Scenario, explorer, loom, native, shuttle};

pub(super) const SCENARIO: Scenario = Scenario {
    id: "E-SIGMOID-OVERFLOW",
    ticket: "esper, AlphaController at steepness 2000",
    summary: "exp overflows in a steep sigmoid",
    source: include_str!("sigmoid_overflow.rs"),
    twin: bodies!(naive),
    shipped: bodies!(stable),
    signature: "no-alpha",
    must_reach: &["arrived"],
    engines: &[
        native(Expect::Finds),
        explorer(Expect::Finds),
        loom(Expect::Finds),
        shuttle(Expect::Finds),
    ],
};

const STEEPNESS: f64 = 2_000.0;
const TICKS: u32 = 4;

/// As reported.
fn naive<P: Platform>(_: &Cx) -> Observation {
    two_ranks::<P>(|tick| {
        let logistic = |x: f64| x.exp() / (1.0 + x.exp());
        let t = f64::from(tick) / f64::from(TICKS);
        let (low, high) = (logistic(-STEEPNESS / 2.0), logistic(STEEPNESS / 2.0));
        (logistic(STEEPNESS * (t - 0.5)) - low) / (high - low)
    })
}

/// The code that ships.
fn stable<P: Platform>(_: &Cx) -> Observation {
    two_ranks::<P>(|tick| {
        let Ok(steepness) = Steepness::from_f64(STEEPNESS) else {
            violation!("refused", "a steepness of {STEEPNESS}");
        };
        let curve = AlphaCurve::Sigmoid(steepness);
        let (from, to) = (AlphaLevel::ZERO, AlphaLevel::ONE);
        match AlphaController::from_parts(from, to, curve, tick, TICKS) {
            Ok(ramp) => ramp.alpha(),
            Err(refused) => violation!("refused", "{refused}"),
        }
    })
}

fn two_ranks<P: Platform>(alpha_at: fn(u32) -> f64) -> Observation {
    let ranks = [(); 2].map(|()| {
        P::spawn(move || {
            let mut before = 0.0;
            for tick in 0..=TICKS {
                let alpha = alpha_at(tick);
                if !(before..=1.0).contains(&alpha) {
                    violation!("no-alpha", "{alpha} after {before}");
                }
                // A quarter of the way in time is next to nothing of the way: it is that steep.
                if tick == 1 && alpha > 0.01 {
                    violation!("not-steep", "{alpha} at the first of {TICKS}");
                }
                before = alpha;
            }
            before
        })
    });
    let [ours, theirs] = ranks.map(JoinHandle::join);
    if (ours, theirs) != (1.0, 1.0) {
        violation!("not-arrived", "{ours} and {theirs}");
    }
    reach("arrived");
    Observation::none()
}
