//! A seed's life against the origin's description of it.

use proptest::prelude::*;

use super::*;
use crate::ddp::gates::{Check, GateLevel, GateMetrics, Vote};

const SLOT: SlotId = SlotId(3);

fn permissive() -> SlotRules {
    SlotRules {
        strictness: Strictness::Permissive,
        auto_g1: true,
        auto_g2: true,
        auto_g3: true,
        blend_curve: AlphaCurve::Linear,
        ..SlotRules::default()
    }
}

fn good() -> GateMetrics {
    GateMetrics {
        improvement: Some(2.0),
        gradient_ratio: Some(0.4),
        gradient_health: Some(0.9),
        contribution: Some(3.0),
    }
}

fn planted(rules: SlotRules) -> SeedSlot {
    let mut slot = SeedSlot::new(SLOT, rules);
    slot.germinate(SeedId(1), BlueprintId(1)).unwrap();
    slot
}

/// One epoch of a run with one rank.
fn epoch(slot: &mut SeedSlot, metrics: &GateMetrics) -> Option<SeedStage> {
    let decision = slot.question().map(|question| {
        let vote = slot.evaluate(question, metrics).vote(question);
        slot.rules().reduction.decide(question, &[vote])
    });
    slot.step_epoch(decision.as_ref()).map(|change| change.to)
}

/// A slot that holds at 1.
fn holding(rules: SlotRules) -> SeedSlot {
    let mut slot = planted(rules);
    while slot.stage() != SeedStage::Holding {
        epoch(&mut slot, &good());
    }
    slot
}

#[test]
fn a_good_seed_goes_all_the_way_by_itself_up_to_holding() {
    let mut slot = planted(permissive());
    let mut changes = Vec::new();
    for n in 1..=40 {
        if let Some(stage) = epoch(&mut slot, &good()) {
            changes.push((n, stage));
        }
    }
    // G1 at once; ten epochs of training; five ticks of blending.
    let expected = [
        (1, SeedStage::Training),
        (11, SeedStage::Blending),
        (16, SeedStage::Holding),
    ];
    assert_eq!(changes, expected);
    assert_eq!(slot.alpha().unwrap().alpha(), 1.0);
    slot.advance_stage(None).unwrap();
    assert_eq!(epoch(&mut slot, &good()), Some(SeedStage::Fossilized));
    assert_eq!(slot.prune(), Err(PruneError::Fossilized));
    assert_eq!(slot.schedule_prune(3), Err(PruneError::Fossilized.into()));
}

#[test]
fn a_strict_slot_holds_only_after_ten_epochs_of_blending() {
    let rules = SlotRules {
        strictness: Strictness::Strict,
        ..permissive()
    };
    let mut slot = planted(rules);
    let mut ages = Vec::new();
    for _ in 0..40 {
        let before = slot.epochs_in_stage();
        if epoch(&mut slot, &good()).is_some() {
            ages.push(before + 1);
        }
    }
    assert_eq!(ages, [1, 10, 10]);
}

#[test]
fn an_unmeasured_gradient_fails_and_so_does_nan() {
    for ratio in [None, Some(f64::NAN), Some(f64::INFINITY)] {
        for strictness in [Strictness::Strict, Strictness::Permissive] {
            let mut slot = planted(SlotRules {
                strictness,
                ..permissive()
            });
            epoch(&mut slot, &good());
            (0..9).for_each(|_| assert_eq!(epoch(&mut slot, &good()), None));
            let question = slot.question().unwrap();
            let metrics = GateMetrics {
                gradient_ratio: ratio,
                ..good()
            };
            let result = slot.evaluate(question, &metrics);
            assert!(result.failed.contains(&Check::GradientMeasured));
            assert!(!result.vote(question).passed);
            assert_eq!(epoch(&mut slot, &metrics), None);
            assert_eq!(epoch(&mut slot, &good()), Some(SeedStage::Blending));
        }
    }
}

#[test]
fn each_gate_fails_by_the_check_that_does_not_hold() {
    let failed = |slot: &SeedSlot, gate, metrics| -> Vec<Check> {
        crate::ddp::gates::evaluate(gate, &slot.at_gate(), &metrics).failed
    };
    let strict = SlotRules {
        strictness: Strictness::Strict,
        ..permissive()
    };
    let fresh = planted(strict);
    let weak = GateMetrics {
        improvement: Some(0.49),
        gradient_ratio: Some(0.09),
        ..good()
    };
    let all = [Check::EnoughEpochs, Check::Improved, Check::GradientActive];
    assert_eq!(failed(&fresh, GateLevel::G2, weak), all);
    let settling = [Check::TargetFull, Check::EnoughEpochs];
    assert_eq!(failed(&fresh, GateLevel::G3, weak), settling);
    let held = holding(strict);
    assert_eq!(failed(&held, GateLevel::G1, weak), [Check::Germinated]);
    let useless = GateMetrics {
        contribution: Some(0.99),
        gradient_health: Some(0.69),
        ..good()
    };
    let both = [Check::Healthy, Check::Contributes];
    assert_eq!(failed(&held, GateLevel::G5, useless), both);
    let loose = holding(permissive());
    assert_eq!(failed(&loose, GateLevel::G5, useless), [Check::Healthy]);
    let exploding = GateMetrics {
        gradient_ratio: Some(10.1),
        gradient_health: Some(0.69),
        ..good()
    };
    let found = failed(&planted(permissive()), GateLevel::G2, exploding);
    assert_eq!(
        found,
        [Check::EnoughEpochs, Check::NotExploding, Check::Healthy]
    );
    assert_eq!(
        failed(&SeedSlot::new(SLOT, strict), GateLevel::G0, good()),
        [Check::IdsPresent]
    );
}

#[test]
fn a_removed_seed_leaves_its_slot_empty_after_seven_calls() {
    let mut slot = planted(permissive());
    slot.prune().unwrap();
    assert_eq!(slot.stage(), SeedStage::Pruned);
    let dwell: Vec<SeedStage> = (0..7)
        .map(|_| {
            epoch(&mut slot, &good());
            slot.stage()
        })
        .collect();
    use SeedStage::{Dormant, Embargoed, Resetting};
    let expected = [
        Embargoed, Embargoed, Embargoed, Embargoed, Embargoed, Resetting, Dormant,
    ];
    assert_eq!(dwell, expected);
    assert_eq!(slot, SeedSlot::new(SLOT, permissive()));
}

#[test]
fn a_scheduled_prune_takes_alpha_down_and_then_the_seed() {
    let mut slot = holding(permissive());
    let change = slot.schedule_prune(4).unwrap().unwrap();
    assert_eq!(
        (change.from, change.to),
        (SeedStage::Holding, SeedStage::Blending)
    );
    assert!(slot.is_frozen());
    let mut alphas = Vec::new();
    for _ in 0..3 {
        assert_eq!(epoch(&mut slot, &good()), None);
        alphas.push(slot.alpha().unwrap().alpha());
    }
    assert_eq!(alphas, [0.75, 0.5, 0.25]);
    let change = slot.step_epoch(None).unwrap();
    let end = (change.to, change.pruned);
    assert_eq!(end, (SeedStage::Pruned, Some(PruneReason::Scheduled)));
    assert!(!slot.is_frozen());
    let again = slot.schedule_prune(2);
    let removed = PruneError::Removed {
        stage: SeedStage::Pruned,
    };
    assert_eq!(again, Err(removed.into()));
}

#[test]
fn a_prune_is_at_once_where_nothing_is_blended_in() {
    for steps in [0, 5] {
        let mut slot = planted(permissive());
        let change = slot.schedule_prune(steps).unwrap().unwrap();
        assert_eq!(change.to, SeedStage::Pruned);
    }
    let mut slot = holding(permissive());
    assert_eq!(
        slot.schedule_prune(0).unwrap().unwrap().to,
        SeedStage::Pruned
    );
}

#[test]
fn alpha_is_sent_on_only_while_it_holds() {
    let mut slot = holding(permissive());
    let level = |x| AlphaLevel::from_f64(x).unwrap();
    let refused = slot.set_alpha_target(AlphaLevel::ZERO, 2, None);
    assert_eq!(refused, Err(AlphaTargetError::Zero));
    let change = slot.set_alpha_target(level(0.5), 2, None).unwrap().unwrap();
    assert_eq!(change.to, SeedStage::Blending);
    let before = slot;
    for refused in [
        slot.set_alpha_target(level(0.7), 2, None)
            .unwrap_err()
            .to_string(),
        slot.schedule_prune(2).unwrap_err().to_string(),
    ] {
        assert!(refused.contains("0 of 2 ticks"), "{refused}");
    }
    assert_eq!(slot, before);
    epoch(&mut slot, &good());
    epoch(&mut slot, &good());
    assert_eq!(slot.alpha().unwrap().alpha(), 0.5);
    // G3 asks for 1.
    assert_eq!(epoch(&mut slot, &good()), None);
    assert_eq!(slot.set_alpha_target(AlphaLevel::ONE, 0, None), Ok(None));
    assert_eq!(epoch(&mut slot, &good()), Some(SeedStage::Holding));
    assert_eq!(slot.set_alpha_target(AlphaLevel::ONE, 3, None), Ok(None));
    let stage = SeedStage::Germinated;
    let refused = planted(permissive()).set_alpha_target(AlphaLevel::ONE, 1, None);
    assert_eq!(refused, Err(AlphaTargetError::NotBlending { stage }));
}

#[test]
fn a_full_slot_takes_no_seed_and_no_seed_is_nameless() {
    let mut slot = planted(permissive());
    let stage = SeedStage::Germinated;
    let twice = slot.germinate(SeedId(2), BlueprintId(1));
    assert_eq!(twice, Err(GerminateError::Occupied { stage }));
    let mut empty = SeedSlot::new(SLOT, permissive());
    for (seed, blueprint) in [(0, 1), (1, 0)] {
        let refused = empty.germinate(SeedId(seed), BlueprintId(blueprint));
        assert_eq!(refused, Err(GerminateError::MissingId));
    }
}

#[test]
fn nobody_advances_to_where_he_cannot() {
    let mut slot = planted(permissive());
    let stage = SeedStage::Germinated;
    let refused = slot.advance_stage(Some(SeedStage::Embargoed));
    assert_eq!(refused, Err(AdvanceError::Failure { stage }));
    let target = SeedStage::Holding;
    let refused = slot.advance_stage(Some(target));
    assert_eq!(refused, Err(AdvanceError::NotASuccessor { stage, target }));
    slot.prune().unwrap();
    let stage = SeedStage::Pruned;
    assert_eq!(
        slot.advance_stage(None),
        Err(AdvanceError::NoSuccessor { stage })
    );
    assert_eq!(
        SeedSlot::new(SLOT, permissive()).advance_stage(None),
        Err(AdvanceError::NoSeed)
    );
}

#[test]
fn a_decision_about_something_else_changes_nothing() {
    let mut slot = planted(permissive());
    epoch(&mut slot, &good());
    let expected = {
        let mut slot = slot;
        slot.step_epoch(None);
        slot
    };
    let of = |slot, gate, target| {
        let question = Question { slot, gate, target };
        let vote = Vote {
            question,
            passed: true,
            score: 0,
        };
        Reduction::All.decide(question, &[vote])
    };
    for strange in [
        of(SlotId(4), GateLevel::G2, SeedStage::Blending),
        of(SLOT, GateLevel::G3, SeedStage::Holding),
        // Its own, but it does not ask yet: ten epochs are not over.
        of(SLOT, GateLevel::G2, SeedStage::Blending),
    ] {
        let mut slot = slot;
        assert_eq!(slot.step_epoch(Some(&strange)), None);
        assert_eq!(slot, expected);
    }
}

#[test]
fn votes_are_reduced_as_the_slot_declares() {
    let question = planted(permissive()).question().unwrap();
    let vote = |passed, score| Vote {
        question,
        passed,
        score,
    };
    let votes = [
        vote(true, 500_000),
        vote(false, 100_000),
        vote(true, 300_000),
    ];
    let passes = |reduction: Reduction| reduction.decide(question, &votes).passed;
    assert!(!passes(Reduction::All) && passes(Reduction::Any) && passes(Reduction::Majority));
    assert!(passes(Reduction::AtLeast(2)) && !passes(Reduction::AtLeast(3)));
    assert!(passes(Reduction::SumAtLeast(900_000)) && !passes(Reduction::SumAtLeast(900_001)));
    let half = [vote(true, 0), vote(false, 0)];
    assert!(!Reduction::Majority.decide(question, &half).passed);
    for reduction in [
        Reduction::All,
        Reduction::AtLeast(0),
        Reduction::SumAtLeast(0),
    ] {
        assert!(!reduction.decide(question, &[]).passed, "nobody voted");
    }
}

#[test]
fn history_keeps_the_last_hundred() {
    let mut history = History::default();
    let mut change = planted(permissive()).prune().unwrap();
    for n in 0..150 {
        change.epochs = n;
        history.note(change);
    }
    let kept: Vec<u32> = history.iter().map(|change| change.epochs).collect();
    assert_eq!(kept, (50..150).collect::<Vec<u32>>());
}

fn commands() -> impl Strategy<Value = Option<SlotCommand>> {
    let slot = SLOT;
    let stages = prop::option::of(prop::sample::select(&SeedStage::ALL[..]));
    let command = (0..5u8, 0..5u32, stages).prop_map(move |(kind, n, target)| match kind {
        0 => SlotCommand::Germinate {
            slot,
            seed: SeedId(1),
            blueprint: BlueprintId(n),
        },
        1 => SlotCommand::Advance { slot, target },
        2 => SlotCommand::Prune { slot },
        3 => SlotCommand::SchedulePrune { slot, steps: n },
        _ => SlotCommand::SetAlphaTarget {
            slot,
            target: AlphaLevel::from_billionths(n * 250_000_000).unwrap(),
            steps: n,
            curve: None,
        },
    });
    prop::option::of(command)
}

proptest! {
    #![proptest_config(ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    /// Whatever is asked of a slot in whatever order, its invariants hold, what fails changes
    /// nothing, and a stage is followed only by one that may.
    #[test]
    fn no_order_of_commands_and_epochs_breaks_a_slot(
        steps in prop::collection::vec((commands(), any::<bool>()), 1..80),
        strict in any::<bool>(),
    ) {
        let strictness = if strict { Strictness::Strict } else { Strictness::Permissive };
        let mut slot = SeedSlot::new(SLOT, SlotRules { strictness, ..permissive() });
        for (command, measured) in steps {
            if let Some(command) = command {
                let before = slot;
                match slot.command(&command) {
                    Ok(Some(change)) => prop_assert!(change.from.may_become(change.to)),
                    Ok(None) => {}
                    Err(_) => prop_assert_eq!(slot, before),
                }
            }
            let metrics = if measured { good() } else { GateMetrics::default() };
            let from = slot.stage();
            if let Some(to) = epoch(&mut slot, &metrics) {
                prop_assert!(from.may_become(to), "{} to {}", from, to);
            }
            prop_assert_eq!(crate::ddp::invariants::check_slot(&slot), Ok(()));
        }
    }
}
