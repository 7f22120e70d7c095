//! How far a seed is blended in, as integers: where its ramp began, where it goes, how many of
//! how many ticks are done. Ranks agree on these; **alpha itself is a pure function of them and
//! becomes a float in one place, [`AlphaController::alpha`].**
//!
//! What differs from the origin, and why:
//! * Its levels are floats, silently clamped, and NaN becomes 1. Here NaN and anything outside
//!   0 to 1 are typed errors: a policy that computes NaN must not blend a seed in completely.
//! * Levels are held in billionths, so that equal levels have equal bits. Whoever gives nine
//!   decimals gets back the very float he gave.
//! * Nothing decides by alpha's float. Two machines' `exp` may differ in the last bit, and a
//!   decision that hung on it could differ between ranks.

use thiserror::Error;

use super::digest::Digest;

/// A level of alpha from 0 to 1, in billionths.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "net", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "net", serde(try_from = "u32"))]
pub struct AlphaLevel(u32);

impl AlphaLevel {
    /// Not blended in.
    pub const ZERO: AlphaLevel = AlphaLevel(0);
    /// Completely blended in.
    pub const ONE: AlphaLevel = AlphaLevel(1_000_000_000);
    /// Levels this near to another count as the same (the origin's 1e-6).
    pub const TOLERANCE: u32 = 1_000;

    /// The level of so many billionths.
    ///
    /// # Errors
    /// [`AlphaError::OutOfRange`] above 1.
    pub fn from_billionths(billionths: u32) -> Result<Self, AlphaError> {
        match billionths <= Self::ONE.0 {
            true => Ok(AlphaLevel(billionths)),
            false => Err(AlphaError::OutOfRange),
        }
    }

    /// The level nearest to `level`.
    ///
    /// ```
    /// use selvedge_core::ddp::{AlphaError, AlphaLevel};
    ///
    /// assert_eq!(AlphaLevel::from_f64(0.7)?.as_f64(), 0.7);
    /// assert_eq!(AlphaLevel::from_f64(f64::NAN), Err(AlphaError::NotANumber));
    /// assert_eq!(AlphaLevel::from_f64(1.5), Err(AlphaError::OutOfRange));
    /// # Ok::<(), AlphaError>(())
    /// ```
    ///
    /// # Errors
    /// Each of [`AlphaError`] but `TooFlat` and `TooSteep`.
    pub fn from_f64(level: f64) -> Result<Self, AlphaError> {
        if level.is_nan() {
            return Err(AlphaError::NotANumber);
        }
        if !(0.0..=1.0).contains(&level) {
            return Err(AlphaError::OutOfRange);
        }
        // Between 0 and 10^9: it fits.
        Ok(AlphaLevel((level * 1e9).round() as u32))
    }

    /// In billionths.
    #[must_use]
    pub const fn billionths(self) -> u32 {
        self.0
    }

    /// As a float. Both numbers are exact, so the quotient is the float nearest to the level.
    #[must_use]
    pub fn as_f64(self) -> f64 {
        f64::from(self.0) / 1e9
    }

    /// Whether it is as good as 0.
    #[must_use]
    pub const fn is_off(self) -> bool {
        self.0 <= Self::TOLERANCE
    }

    /// Whether it is as good as 1.
    #[must_use]
    pub const fn is_full(self) -> bool {
        self.0 >= Self::ONE.0 - Self::TOLERANCE
    }
}

/// How steep a sigmoid is, in thousandths.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "net", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "net", serde(try_from = "u32"))]
pub struct Steepness(u32);

impl Steepness {
    /// The least there is.
    pub const LEAST: Steepness = Steepness(100);
    /// What is taken where none is given: 12.
    pub const DEFAULT: Steepness = Steepness(12_000);
    /// The most there is. The origin overflowed at 2,000 (`E-SIGMOID-OVERFLOW`); this does not.
    pub const MOST: Steepness = Steepness(1_000_000_000);

    /// The steepness nearest to `steepness`.
    ///
    /// # Errors
    /// [`AlphaError::NotANumber`]; `TooFlat` below 0.1, `TooSteep` above a million. The origin
    /// took 0.1 for whatever is below.
    pub fn from_f64(steepness: f64) -> Result<Self, AlphaError> {
        if steepness.is_nan() {
            return Err(AlphaError::NotANumber);
        }
        if steepness < Self::LEAST.as_f64() {
            return Err(AlphaError::TooFlat);
        }
        if steepness > Self::MOST.as_f64() {
            return Err(AlphaError::TooSteep);
        }
        Ok(Steepness((steepness * 1e3).round() as u32))
    }

    /// The steepness of so many thousandths.
    ///
    /// # Errors
    /// [`AlphaError::TooFlat`] below 0.1, `TooSteep` above a million.
    pub fn from_thousandths(thousandths: u32) -> Result<Self, AlphaError> {
        match thousandths {
            0..100 => Err(AlphaError::TooFlat),
            100..=1_000_000_000 => Ok(Steepness(thousandths)),
            _ => Err(AlphaError::TooSteep),
        }
    }

    /// As a float.
    #[must_use]
    pub fn as_f64(self) -> f64 {
        f64::from(self.0) / 1e3
    }
}

/// The shape of a ramp.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "net", derive(serde::Serialize, serde::Deserialize))]
pub enum AlphaCurve {
    /// The same at every tick.
    Linear,
    /// Half a wave of the cosine.
    Cosine,
    /// Slow at both ends, the more so the steeper; stretched to reach both.
    Sigmoid(Steepness),
}

impl AlphaCurve {
    /// How much of the way is done at the share `t` of the ticks.
    fn progress(self, t: f64) -> f64 {
        match self {
            AlphaCurve::Linear => t,
            AlphaCurve::Cosine => 0.5 * (1.0 - (core::f64::consts::PI * t).cos()),
            AlphaCurve::Sigmoid(steepness) => {
                let k = steepness.as_f64();
                let (low, high) = (logistic(-k / 2.0), logistic(k / 2.0));
                match high > low {
                    true => (logistic(k * (t - 0.5)) - low) / (high - low),
                    false => t,
                }
            }
        }
    }

    pub(super) fn fold(self, digest: &mut Digest) {
        match self {
            AlphaCurve::Linear => digest.words(&[1]),
            AlphaCurve::Cosine => digest.words(&[2]),
            AlphaCurve::Sigmoid(steepness) => digest.words(&[3, u64::from(steepness.0)]),
        }
    }
}

/// The logistic function. The exponent is never positive, so nothing overflows.
fn logistic(x: f64) -> f64 {
    if x >= 0.0 {
        return 1.0 / (1.0 + (-x).exp());
    }
    let e = x.exp();
    e / (1.0 + e)
}

/// Which way alpha goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AlphaMode {
    /// It stays.
    Hold,
    /// It grows.
    Up,
    /// It falls.
    Down,
}

/// Alpha's ramp from one level to another.
///
/// **[`retarget`](Self::retarget) while it holds, then [`step`](Self::step) once an epoch.**
///
/// ```
/// use selvedge_core::ddp::{AlphaController, AlphaCurve, AlphaLevel, AlphaMode};
///
/// let mut alpha = AlphaController::held(AlphaLevel::ZERO, AlphaCurve::Linear);
/// alpha.retarget(AlphaLevel::ONE, 4, AlphaCurve::Linear)?;
/// assert!(!alpha.step());
/// assert_eq!((alpha.alpha(), alpha.mode()), (0.25, AlphaMode::Up));
/// assert!(!alpha.step() && !alpha.step());
/// assert!(alpha.step(), "it has arrived, and says so once");
/// assert_eq!((alpha.alpha(), alpha.mode()), (1.0, AlphaMode::Hold));
/// # Ok::<(), selvedge_core::ddp::RetargetError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "net", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "net", serde(try_from = "super::net::AlphaParts"))]
pub struct AlphaController {
    start: AlphaLevel,
    target: AlphaLevel,
    curve: AlphaCurve,
    steps_total: u32,
    steps_done: u32,
}

impl AlphaController {
    /// One that holds `level`.
    #[must_use]
    pub const fn held(level: AlphaLevel, curve: AlphaCurve) -> Self {
        AlphaController {
            start: level,
            target: level,
            curve,
            steps_total: 0,
            steps_done: 0,
        }
    }

    /// Puts together a controller that was written down as its parts.
    ///
    /// # Errors
    /// [`AlphaError::MoreDoneThanAll`] if more ticks were done than there are.
    pub fn from_parts(
        start: AlphaLevel,
        target: AlphaLevel,
        curve: AlphaCurve,
        steps_done: u32,
        steps_total: u32,
    ) -> Result<Self, AlphaError> {
        if steps_done > steps_total {
            return Err(AlphaError::MoreDoneThanAll);
        }
        Ok(AlphaController {
            start,
            target,
            curve,
            steps_total,
            steps_done,
        })
    }

    /// Begins a ramp of `steps` ticks from where alpha is; with 0, it is there at once.
    ///
    /// # Errors
    /// [`RetargetError`] unless it holds; nothing has changed then.
    pub fn retarget(
        &mut self,
        target: AlphaLevel,
        steps: u32,
        curve: AlphaCurve,
    ) -> Result<(), RetargetError> {
        if self.mode() != AlphaMode::Hold {
            return Err(RetargetError {
                done: self.steps_done,
                total: self.steps_total,
            });
        }
        *self = AlphaController {
            // Who holds is at the target.
            start: self.target,
            target,
            curve,
            steps_total: steps,
            steps_done: 0,
        };
        Ok(())
    }

    /// One tick of the ramp; true if it has arrived just now.
    pub fn step(&mut self) -> bool {
        if self.mode() == AlphaMode::Hold {
            return false;
        }
        self.steps_done += 1;
        self.steps_done == self.steps_total
    }

    /// Which way it goes. Who does not hold is on a ramp.
    #[must_use]
    pub fn mode(&self) -> AlphaMode {
        if self.steps_done >= self.steps_total || self.start == self.target {
            AlphaMode::Hold
        } else if self.start < self.target {
            AlphaMode::Up
        } else {
            AlphaMode::Down
        }
    }

    /// **The one place where alpha becomes a float**: between start and target, monotone over
    /// the ticks, and exactly the target when it has arrived.
    #[must_use]
    pub fn alpha(&self) -> f64 {
        let (start, target) = (self.start.as_f64(), self.target.as_f64());
        if self.mode() == AlphaMode::Hold {
            return target;
        }
        let t = f64::from(self.steps_done) / f64::from(self.steps_total);
        let alpha = start + (target - start) * self.curve.progress(t);
        alpha.clamp(start.min(target), start.max(target))
    }

    /// Whether nothing of the seed is blended in: at level 0, or before the first tick from it.
    #[must_use]
    pub fn is_zero(&self) -> bool {
        match self.mode() {
            AlphaMode::Hold => self.target == AlphaLevel::ZERO,
            _ => self.start == AlphaLevel::ZERO && self.steps_done == 0,
        }
    }

    /// Where the ramp began.
    #[must_use]
    pub const fn start(&self) -> AlphaLevel {
        self.start
    }

    /// Where it goes.
    #[must_use]
    pub const fn target(&self) -> AlphaLevel {
        self.target
    }

    /// Its shape.
    #[must_use]
    pub const fn curve(&self) -> AlphaCurve {
        self.curve
    }

    /// Ticks of the ramp that are done, and all of them.
    #[must_use]
    pub const fn ticks(&self) -> (u32, u32) {
        (self.steps_done, self.steps_total)
    }

    pub(super) fn fold(&self, digest: &mut Digest) {
        let levels = [self.start.0, self.target.0];
        let ticks = [self.steps_done, self.steps_total];
        for number in levels.into_iter().chain(ticks) {
            digest.words(&[u64::from(number)]);
        }
        self.curve.fold(digest);
    }
}

/// Why a number is no level, steepness or ramp.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum AlphaError {
    /// It is NaN. The origin takes it for 1.
    #[error("alpha is not a number; give one from 0 to 1")]
    NotANumber,
    /// It is below 0 or above 1. The origin cuts it off.
    #[error("alpha must be from 0 to 1")]
    OutOfRange,
    /// The steepness is below 0.1.
    #[error("a sigmoid's steepness must be at least 0.1")]
    TooFlat,
    /// The steepness is above a million.
    #[error("a sigmoid's steepness must be at most 1000000")]
    TooSteep,
    /// A ramp of which more was done than there is.
    #[error("more ticks are done than the ramp has")]
    MoreDoneThanAll,
}

/// A ramp was to begin in the middle of another: wait until that one has arrived.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("alpha is on its way, {done} of {total} ticks; wait until it holds")]
pub struct RetargetError {
    /// Ticks done.
    pub done: u32,
    /// Ticks of the ramp.
    pub total: u32,
}

#[cfg(test)]
mod tests;
