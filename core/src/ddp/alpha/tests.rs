//! The origin's own numbers, and what must hold of every ramp.

use proptest::prelude::*;

use super::*;

const SIGMOID: AlphaCurve = AlphaCurve::Sigmoid(Steepness::DEFAULT);

fn ramp(from: AlphaLevel, to: AlphaLevel, steps: u32, curve: AlphaCurve) -> Vec<f64> {
    let mut alpha = AlphaController::held(from, curve);
    alpha.retarget(to, steps, curve).unwrap();
    (0..steps)
        .map(|_| {
            alpha.step();
            alpha.alpha()
        })
        .collect()
}

fn sigmoid(steepness: f64) -> AlphaCurve {
    AlphaCurve::Sigmoid(Steepness::from_f64(steepness).unwrap())
}

/// Bit for bit where nothing but IEEE arithmetic is used; else `exp` and `cos` may differ in
/// their last bits from one C library to the next.
#[track_caller]
fn assert_golden(found: &[f64], golden: &[f64], exact: bool) {
    assert_eq!(found.len(), golden.len());
    for (tick, (found, golden)) in found.iter().zip(golden).enumerate() {
        let same = found.to_bits() == golden.to_bits();
        let near = (found - golden).abs() <= 1e-12;
        assert!(
            same || (near && !exact),
            "tick {}: {found} for {golden}",
            tick + 1
        );
    }
}

#[test]
fn the_origins_ramps_come_out_as_they_did() {
    let up = |steps, curve| ramp(AlphaLevel::ZERO, AlphaLevel::ONE, steps, curve);
    let linear = AlphaCurve::Linear;
    assert_golden(
        &up(3, linear),
        &[0.3333333333333333, 0.6666666666666666, 1.0],
        true,
    );
    assert_golden(&up(5, linear), &[0.2, 0.4, 0.6, 0.8, 1.0], true);
    let eighths: Vec<f64> = (1..=8).map(|n| f64::from(n) * 0.125).collect();
    assert_golden(&up(8, linear), &eighths, true);

    let cosine = AlphaCurve::Cosine;
    assert_golden(
        &up(3, cosine),
        &[0.24999999999999994, 0.7499999999999999, 1.0],
        false,
    );
    assert_golden(
        &up(5, cosine),
        &[
            0.09549150281252627,
            0.3454915028125263,
            0.6545084971874737,
            0.9045084971874737,
            1.0,
        ],
        false,
    );
    assert_golden(
        &up(8, cosine),
        &[
            0.03806023374435663,
            0.1464466094067262,
            0.3086582838174551,
            0.49999999999999994,
            0.6913417161825448,
            0.8535533905932737,
            0.9619397662556434,
            1.0,
        ],
        false,
    );

    assert_golden(
        &up(3, SIGMOID),
        &[0.11731042782619834, 0.8826895721738014, 1.0],
        false,
    );
    assert_golden(
        &up(5, SIGMOID),
        &[
            0.02424426427877362,
            0.23014069577164564,
            0.7698593042283542,
            0.9757557357212262,
            1.0,
        ],
        false,
    );
    assert_golden(
        &up(8, SIGMOID),
        &[
            0.00855663413738028,
            0.04517665973091213,
            0.1808472347707365,
            0.49999999999999994,
            0.8191527652292634,
            0.9548233402690879,
            0.9914433658626196,
            1.0,
        ],
        false,
    );
    let down = ramp(AlphaLevel::ONE, AlphaLevel::ZERO, 4, SIGMOID);
    assert_golden(
        &down,
        &[0.9548233402690879, 0.5, 0.045176659730912117, 0.0],
        false,
    );
    assert_golden(&up(4, sigmoid(6.0))[..1], &[0.1491464520703328], false);
    assert_golden(&up(4, sigmoid(24.0))[..1], &[0.0024665092913600485], false);
}

/// On the library that the origin's numbers come from, every one of them has the same bits. Where
/// it is another one, this says so by being left out.
#[test]
#[cfg(all(target_os = "linux", target_env = "gnu", target_arch = "x86_64"))]
fn on_the_same_c_library_they_have_the_same_bits() {
    let up = |curve| ramp(AlphaLevel::ZERO, AlphaLevel::ONE, 5, curve);
    assert_golden(
        &up(SIGMOID),
        &[
            0.02424426427877362,
            0.23014069577164564,
            0.7698593042283542,
            0.9757557357212262,
            1.0,
        ],
        true,
    );
    assert_golden(
        &up(AlphaCurve::Cosine),
        &[
            0.09549150281252627,
            0.3454915028125263,
            0.6545084971874737,
            0.9045084971874737,
            1.0,
        ],
        true,
    );
}

#[test]
fn one_tick_too_many_on_one_rank_is_half_of_all() {
    let ticks = ramp(AlphaLevel::ZERO, AlphaLevel::ONE, 5, SIGMOID);
    let drift = ticks
        .windows(2)
        .map(|pair| pair[1] - pair[0])
        .fold(0.0, f64::max);
    assert!((drift - 0.5397).abs() < 5e-5, "{drift}");
}

#[test]
fn the_steepest_sigmoid_overflows_nowhere() {
    for steepness in [0.1, 2_000.0, 1e6] {
        let ticks = ramp(AlphaLevel::ZERO, AlphaLevel::ONE, 9, sigmoid(steepness));
        assert!(ticks.iter().all(|alpha| alpha.is_finite()), "{ticks:?}");
        assert!(ticks.is_sorted(), "{ticks:?}");
    }
}

#[test]
fn bad_numbers_are_refused_by_name() {
    assert_eq!(AlphaLevel::from_f64(f64::NAN), Err(AlphaError::NotANumber));
    for outside in [
        -1e-300,
        1.0 + f64::EPSILON,
        f64::INFINITY,
        f64::NEG_INFINITY,
    ] {
        assert_eq!(AlphaLevel::from_f64(outside), Err(AlphaError::OutOfRange));
    }
    assert_eq!(
        AlphaLevel::from_billionths(1_000_000_001),
        Err(AlphaError::OutOfRange)
    );
    assert_eq!(Steepness::from_f64(f64::NAN), Err(AlphaError::NotANumber));
    assert_eq!(Steepness::from_f64(0.09), Err(AlphaError::TooFlat));
    assert_eq!(
        Steepness::from_f64(f64::INFINITY),
        Err(AlphaError::TooSteep)
    );
    let parts = (AlphaLevel::ZERO, AlphaLevel::ONE, AlphaCurve::Linear);
    let torn = AlphaController::from_parts(parts.0, parts.1, parts.2, 6, 5);
    assert_eq!(torn, Err(AlphaError::MoreDoneThanAll));
}

#[test]
fn a_ramp_to_where_it_is_ends_at_once_and_one_under_way_stands() {
    let mut alpha = AlphaController::held(AlphaLevel::ONE, AlphaCurve::Linear);
    alpha
        .retarget(AlphaLevel::ONE, 5, AlphaCurve::Linear)
        .unwrap();
    assert_eq!(alpha.mode(), AlphaMode::Hold);
    assert!(!alpha.step());
    alpha
        .retarget(AlphaLevel::ZERO, 0, AlphaCurve::Linear)
        .unwrap();
    assert_eq!((alpha.alpha(), alpha.is_zero()), (0.0, true));
    alpha
        .retarget(AlphaLevel::ONE, 3, AlphaCurve::Linear)
        .unwrap();
    alpha.step();
    let before = alpha;
    let refused = alpha.retarget(AlphaLevel::ZERO, 2, AlphaCurve::Cosine);
    assert_eq!(refused, Err(RetargetError { done: 1, total: 3 }));
    assert_eq!(alpha, before);
}

fn curves() -> impl Strategy<Value = AlphaCurve> {
    (0..3u8, 100u32..100_000_000).prop_map(|(kind, steepness)| match kind {
        0 => AlphaCurve::Linear,
        1 => AlphaCurve::Cosine,
        _ => AlphaCurve::Sigmoid(Steepness(steepness)),
    })
}

fn levels() -> impl Strategy<Value = AlphaLevel> {
    (0..=AlphaLevel::ONE.0).prop_map(AlphaLevel)
}

proptest! {
    #![proptest_config(ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn every_ramp_is_monotone_stays_between_and_arrives_once(
        from in levels(), to in levels(), steps in 1u32..40, curve in curves(),
    ) {
        let mut alpha = AlphaController::held(from, curve);
        alpha.retarget(to, steps, curve).unwrap();
        let mut path = vec![alpha.alpha()];
        let mut arrived = 0;
        for _ in 0..steps + 3 {
            arrived += u32::from(alpha.step());
            path.push(alpha.alpha());
        }
        prop_assert_eq!(path[0], from.as_f64());
        prop_assert_eq!(alpha.alpha(), to.as_f64());
        prop_assert_eq!(arrived, u32::from(from != to));
        let ordered = match from <= to {
            true => path.is_sorted(),
            false => path.is_sorted_by(|a, b| a >= b),
        };
        prop_assert!(ordered, "{:?}", path);
    }

    #[test]
    fn parts_make_the_same_controller(
        from in levels(), to in levels(), steps in 1u32..20, curve in curves(), done in 0u32..20,
    ) {
        let mut alpha = AlphaController::held(from, curve);
        alpha.retarget(to, steps, curve).unwrap();
        for _ in 0..done {
            alpha.step();
        }
        let (done, total) = alpha.ticks();
        let again =
            AlphaController::from_parts(alpha.start(), alpha.target(), alpha.curve(), done, total);
        prop_assert_eq!(again, Ok(alpha));
    }

    #[test]
    fn nine_decimals_come_back_as_they_went_in(billionths in 0u32..=1_000_000_000) {
        let level = AlphaLevel(billionths);
        prop_assert_eq!(AlphaLevel::from_f64(level.as_f64()), Ok(level));
    }
}

/// A ramp of which more is done than there is can only be made here.
#[test]
fn alpha_in_range_sees_a_torn_ramp() {
    use crate::ddp::{BlueprintId, SeedId, SeedSlot, SlotId, SlotRules};
    let mut slot = SeedSlot::new(SlotId(0), SlotRules::default());
    slot.germinate(SeedId(1), BlueprintId(1)).unwrap();
    assert_eq!(crate::ddp::invariants::check_slot(&slot), Ok(()));
    slot.seed.as_mut().unwrap().alpha.steps_done = 1;
    let found = crate::ddp::invariants::check_slot(&slot).unwrap_err();
    assert_eq!(found.property, "alpha_in_range");
}
