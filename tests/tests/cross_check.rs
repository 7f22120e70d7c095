//! Explorer and loom side by side: what only one of them saw is told, known differences are held
//! to exactly, and a new one is no pass.
#![cfg(not(loom_run))]

mod common;

use std::fs;
use std::time::Duration;

use common::{check, code, report, run, stdout};
use selvedge_scenarios::registry::{only_explorer, only_loom};
use selvedge_scenarios::report::UnitReport;
use selvedge_scenarios::report::cross::{Comparison, compare};
use selvedge_scenarios::{Difference, Plan, Scenario, all};
use selvedge_sim::{Variant, Verdict};
use serde_json::{Value, json};

const BOTH: [&str; 2] = ["--engine", "explorer,loom"];

/// The comparison of a variant, as the JSON has it.
#[track_caller]
fn compared(scenario: &str, variant: &str) -> Value {
    let (exit, json) = report(&[scenario, BOTH[0], BOTH[1]]);
    assert_eq!(exit, 0, "{json:#}");
    let comparisons = json["cross_check"]
        .as_array()
        .expect("the report has the comparisons");
    let mut of_variant = comparisons.iter().filter(|c| c["variant"] == variant);
    let found = of_variant.next().expect("both engines ran").clone();
    assert!(of_variant.next().is_none());
    assert_eq!(found["scenario"], scenario);
    found
}

fn outcomes(side: &Value) -> Vec<&str> {
    let side = side.as_array().expect("a list of outcomes");
    side.iter()
        .map(|o| o["outcome"].as_str().expect("an outcome is text"))
        .collect()
}

#[test]
fn loom_loses_an_outcome_of_its_issue_392() {
    let twin = compared("outcomes-loom-392", "as-reported");
    assert_eq!(twin["compared"], true);
    assert_eq!(outcomes(&twin["only_explorer"]), ["the look saw true"]);
    assert_eq!(outcomes(&twin["only_loom"]), [""; 0]);
    assert_eq!(twin["both"], 1);
}

#[test]
fn the_weak_outcome_of_message_passing_is_looms_alone() {
    let twin = compared("outcomes-message-passing", "as-reported");
    assert_eq!(twin["compared"], true);
    assert_eq!(outcomes(&twin["only_loom"]), ["flag 1, message 0"]);
    assert_eq!(outcomes(&twin["only_explorer"]), [""; 0]);
    assert_eq!(twin["both"], 3);
}

#[test]
fn equal_sets_agree_and_are_counted() {
    for scenario in ["outcomes-message-passing", "outcomes-loom-392"] {
        let shipped = compared(scenario, "shipped");
        assert_eq!(shipped["compared"], true);
        assert_eq!(shipped["only_explorer"], json!([]));
        assert_eq!(shipped["only_loom"], json!([]));
        assert!(shipped["both"].as_u64() >= Some(2), "{shipped}");
    }
    let dir = tempfile::tempdir().unwrap();
    let output = run(dir.path(), &["outcomes-", BOTH[0], BOTH[1]]);
    let text = stdout(&output);
    assert_eq!(code(&output), 0, "{text}");
    let summary = "completed 8 bodies; 4 have the same outcomes, 4 differ";
    assert!(text.contains(summary), "{text}");
    assert!(
        text.contains("only explorer: the look saw true (loom lost it: its issue 392)"),
        "{text}"
    );
    assert!(
        text.contains("only loom: flag 1, message 0 (weak memory: "),
        "{text}"
    );
}

#[test]
fn incomplete_sets_are_not_compared() {
    // Both engines stop at the twin's failure.
    let twin = compared("pool-check-then-act", "as-reported");
    assert_eq!(twin["compared"], false);
    assert_eq!(twin["why_not"], "explorer is Violated");
    // A bounded search is no complete one, and one engine alone has nothing to be compared with.
    for engines in ["explorer,loom:1", "explorer:1,loom", "explorer", "loom"] {
        let (exit, json) = report(&["outcomes-loom-392", "--engine", engines]);
        assert_eq!((exit, &json["cross_check"]), (0, &json!([])), "{engines}");
    }
    // A body that observes nothing does not count as one on which they agree.
    let silent = compared("loom-392", "shipped");
    assert_eq!(silent["why_not"], "the body observes nothing");
}

#[test]
fn junit_has_a_case_a_comparison() {
    let dir = tempfile::tempdir().unwrap();
    let args = ["outcomes-loom-392", BOTH[0], BOTH[1], "--junit", "out.xml"];
    assert_eq!(code(&run(dir.path(), &args)), 0);
    let xml = fs::read_to_string(dir.path().join("out.xml")).unwrap();
    assert_eq!(xml.matches("<testcase ").count(), 6, "{xml}");
    assert!(xml.contains("as-reported explorer and loom"), "{xml}");
    assert!(xml.contains("only explorer: the look saw true"), "{xml}");
}

#[test]
fn a_declaration_that_does_not_hold_is_a_surprise() {
    let units = units_of("outcomes-message-passing");
    let known = only_loom(Variant::AsReported, "flag 1, message 0", "the truth");
    let never = only_explorer(Variant::AsReported, "flag 7, message 7", "a fancy");
    let turned = Difference {
        only: selvedge_scenarios::Only::Explorer,
        ..known
    };
    let surprise = |declared: &[Difference]| {
        let [twin, shipped] = two(compare(&declaring(&units, declared)));
        assert_eq!(shipped.surprise, None);
        twin.surprise
    };
    assert_eq!(surprise(&[known]), None);
    let undeclared = surprise(&[]).expect("a difference that nobody declared");
    assert!(undeclared.starts_with("the explorer never saw 'flag 1, message 0'"));
    assert!(undeclared.contains("only_loom(...)"), "{undeclared}");
    let missing = surprise(&[known, never]).expect("a declared one that is not there");
    assert_eq!(
        missing,
        "only explorer sees 'flag 7, message 7' no longer, though it is declared (a fancy)"
    );
    // The right outcome on the wrong side is wrong twice.
    let turned = surprise(&[turned]).expect("the other side saw it");
    assert!(turned.contains("never saw") && turned.contains("no longer"));
    // A declaration of the other variant is none of this one's.
    let other = Difference {
        variant: Variant::Shipped,
        ..known
    };
    let [twin, shipped] = two(compare(&declaring(&units, &[other])));
    assert!(twin.surprise.is_some() && shipped.surprise.is_some());
}

#[test]
fn a_set_that_was_cut_short_proves_nothing() {
    let units = units_of("outcomes-message-passing");
    let known = only_loom(Variant::AsReported, "flag 1, message 0", "the truth");
    let mut units = declaring(&units, &[known]);
    for unit in &mut units {
        unit.more_observations = true;
    }
    let [twin, shipped] = two(compare(&units));
    assert_eq!(
        shipped.not_compared.as_deref(),
        Some("explorer saw more than the 3 outcomes it kept")
    );
    // What cannot be compared cannot surprise, unless something was to be found.
    assert_eq!(shipped.surprise, None);
    assert!(
        twin.surprise
            .is_some_and(|s| s.contains("cannot be checked"))
    );
    for unit in &mut units {
        unit.verdict = Verdict::BudgetEnded { executions: 9 };
    }
    let [twin, shipped] = two(compare(&units));
    assert!(twin.not_compared.is_some() && shipped.not_compared.is_some());
    assert_eq!(twin.surprise, None, "the units say that time ran out");
}

#[test]
fn of_many_outcomes_a_few_are_printed() {
    let units = units_of("outcomes-message-passing");
    let mut units = declaring(&units, &[]);
    let loom = units.iter_mut().rfind(|u| u.variant == Variant::Shipped);
    let loom = loom.expect("loom's unit of the shipped body");
    loom.observations = (0..40)
        .map(|n| format!("{n}\n{}", "x".repeat(400)))
        .collect();
    let [_, shipped] = two(compare(&units));
    let lines = shipped.lines();
    assert_eq!(lines.len(), 3 + 4, "{lines:#?}"); // the explorer's three; three of 40, and a count
    assert!(lines[3].starts_with("only loom: 0 xxx"), "{lines:#?}");
    assert!(
        lines
            .iter()
            .all(|line| line.chars().count() < 250 && !line.contains('\n'))
    );
    assert_eq!(lines[6], "only loom: 37 more (weak memory)");
}

/// The real engines' units of a scenario: variant, engine, executions, outcomes.
fn units_of(scenario: &str) -> Vec<Value> {
    let (_, units) = check(&[scenario, BOTH[0], BOTH[1]]);
    assert_eq!(units.len(), 4);
    units
}

/// Those units of the same scenario, had it declared these differences.
fn declaring(units: &[Value], differences: &[Difference]) -> Vec<UnitReport> {
    let text = |value: &Value| value.as_str().expect("text").to_owned();
    let id = text(&units[0]["scenario"]);
    let real = all()
        .into_iter()
        .find(|s| s.id == id)
        .expect("a scenario of the catalogue");
    // A scenario lives as long as the program, and so do these few.
    let differences: &'static [Difference] = differences.to_vec().leak();
    let plans = real.engines.iter().map(|plan| match plan.engine.name() {
        "loom" => plan.differs_by(differences),
        _ => *plan,
    });
    let engines: &'static [Plan] = plans.collect::<Vec<_>>().leak();
    let scenario: &'static Scenario = Box::leak(Box::new(Scenario { engines, ..*real }));
    let report = |unit: &Value| UnitReport {
        scenario,
        variant: text(&unit["variant"]).parse().expect("a variant"),
        engine: text(&unit["parameters"]).parse().expect("an engine"),
        verdict: match unit["verdict"].as_str() {
            Some("Exhausted") => Verdict::Exhausted {
                executions: unit["executions"].as_u64().expect("a count"),
                memory_model: "",
            },
            other => panic!("{other:?}"),
        },
        surprise: None,
        below_required: false,
        started: true,
        reached: Vec::new(),
        observations: (unit["observations"]
            .as_array()
            .expect("a list of outcomes")
            .iter())
        .map(text)
        .collect(),
        more_observations: unit["observations_complete"] == false,
        escalation: None,
        figures: None,
        seed: None,
        shrunk: None,
        took: Duration::ZERO,
    };
    units.iter().map(report).collect()
}

#[track_caller]
fn two(comparisons: Vec<Comparison>) -> [Comparison; 2] {
    comparisons
        .try_into()
        .expect("the twin and the shipped body")
}
