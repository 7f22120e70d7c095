//! The catalogue as a whole: every verdict is as expected, and no scenario is idle.
#![cfg(not(loom_run))]

mod common;

use std::collections::BTreeSet;

use common::report;
use selvedge_scenarios::{Expect, all};
use selvedge_sim::Variant;

#[test]
fn every_twin_is_found_and_every_shipped_body_survives() {
    let (exit, json) = report(&["--budget", "600s", "--effort", "1"]);
    let units = json["units"].as_array().unwrap();
    let compared = json["cross_check"].as_array().unwrap();
    let wrong: Vec<_> = (units.iter())
        .filter(|unit| unit["as_expected"] == false)
        .collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
    let wrong: Vec<_> = (compared.iter())
        .filter(|comparison| comparison["as_expected"] == false)
        .collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert_eq!(exit, 0);
    // A scenario that kills nothing is idle, unless its point is that nobody can see it.
    for scenario in all() {
        let kills = units.iter().any(|unit| {
            unit["scenario"] == scenario.id
                && unit["variant"] == "as-reported"
                && unit["signature"] == scenario.signature
        });
        let observes = compared.iter().any(|comparison| {
            let outcomes = ["only_explorer", "only_loom"].map(|side| &comparison[side]);
            comparison["scenario"] == scenario.id
                && comparison["variant"] == "as-reported"
                && (outcomes.iter().filter_map(|side| side.as_array()).flatten())
                    .any(|outcome| outcome["outcome"] == scenario.signature)
        });
        let must_kill = scenario
            .engines
            .iter()
            .any(|plan| matches!(plan.twin, Expect::Finds | Expect::Observes));
        assert!(
            kills || observes || !must_kill,
            "{} killed nothing",
            scenario.id
        );
    }
}

#[test]
fn ids_revisions_and_signatures_are_fit_for_seeds() {
    let scenarios = all();
    let ids: BTreeSet<_> = scenarios.iter().map(|s| s.id.to_lowercase()).collect();
    assert_eq!(ids.len(), scenarios.len(), "ids differ in more than case");
    for scenario in scenarios {
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '-';
        assert!(scenario.id.chars().all(plain), "{}", scenario.id);
        assert!(!scenario.signature.is_empty() && !scenario.summary.is_empty());
        assert!(!scenario.engines.is_empty(), "{}", scenario.id);
        assert!(
            scenario
                .source
                .contains(&format!("id: \"{}\"", scenario.id)),
            "{}: `source` is another file's",
            scenario.id
        );
    }
}

#[test]
fn every_engine_of_a_scenario_has_its_bodies() {
    for scenario in all() {
        for plan in scenario.engines {
            for variant in Variant::ALL {
                let bodies = scenario.bodies(variant);
                assert!(bodies.runs_under(plan.engine), "{}", scenario.id);
            }
            // A model is another one as soon as its number of states is.
            let is_model = plan.engine.name() == "stateright";
            let pinned = plan.states.is_some() || !plan.needs.is_zero();
            assert_eq!(is_model, pinned, "{}", scenario.id);
        }
    }
}

/// A declaration that no run can hold the engines to is one nobody would miss.
#[test]
fn a_declared_difference_is_one_that_the_cross_check_can_see() {
    for scenario in all() {
        let id = scenario.id;
        let plan = |name| scenario.engines.iter().find(|p| p.engine.name() == name);
        let of = |variant| scenario.differences(variant).collect::<Vec<_>>();
        let observes = |name| plan(name).is_some_and(|plan| plan.twin == Expect::Observes);
        let (twins, shipped) = (of(Variant::AsReported), of(Variant::Shipped));
        for plan in scenario.engines {
            let on_loom = plan.differences.is_empty() || plan.engine.name() == "loom";
            assert!(on_loom, "{id}: differences stand on loom's plan");
            // Both or none: the set of one engine alone is judged by nobody.
            if plan.twin == Expect::Observes {
                assert!(observes("explorer") && observes("loom"), "{id}");
                assert!(
                    twins
                        .iter()
                        .any(|known| known.outcome == scenario.signature),
                    "{id}: its signature is the outcome that tells the engines apart"
                );
                assert!(shipped.is_empty(), "{id}: the engines agree on `shipped`");
            }
        }
        assert!(
            twins.is_empty() || observes("loom"),
            "{id}: loom stops at a failure"
        );
        if !shipped.is_empty() {
            assert!(plan("explorer").is_some() && plan("loom").is_some(), "{id}");
        }
        for known in twins.iter().chain(&shipped) {
            assert!(!known.outcome.is_empty() && !known.why.is_empty(), "{id}");
        }
    }
}
