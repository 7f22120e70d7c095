//! The catalogue as a whole: every verdict is as expected, and no scenario is idle.
#![cfg(not(loom))]

mod common;

use std::collections::BTreeSet;

use common::check;
use selvedge_scenarios::{Expect, all};

#[test]
fn every_twin_is_found_and_every_shipped_body_survives() {
    let (exit, units) = check(&["--budget", "240s"]);
    let wrong: Vec<_> = (units.iter())
        .filter(|unit| unit["as_expected"] == false)
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
        let must_kill = scenario
            .engines
            .iter()
            .any(|plan| plan.twin == Expect::Finds);
        assert!(kills || !must_kill, "{} killed nothing", scenario.id);
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
