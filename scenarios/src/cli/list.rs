//! `selvedge list`: the catalogue, with what each engine must find and miss, and why.

use serde_json::json;

use super::{Exit, ListArgs, Stop, input, say};
use crate::report::table;
use crate::{Expect, Plan, Scenario};

pub(super) fn list(args: &ListArgs) -> Result<Exit, Stop> {
    let scenarios = input::select(&args.filters)?;
    match args.json {
        true => say(&as_json(&scenarios))?,
        false => say(&as_table(&scenarios))?,
    }
    Ok(Exit::Ok)
}

fn as_table(scenarios: &[&Scenario]) -> String {
    let mut table = table::new(&["scenario", "ticket", "what goes wrong", "engine", "twin"]);
    for scenario in scenarios {
        for (i, plan) in scenario.engines.iter().enumerate() {
            let once = |text: &str| match i {
                0 => text.to_owned(),
                _ => String::new(),
            };
            table.add_row([
                once(scenario.id),
                once(scenario.ticket),
                once(scenario.summary),
                plan.engine.to_string(),
                expected(plan),
            ]);
        }
    }
    table.to_string()
}

fn expected(plan: &Plan) -> String {
    let mut text = match plan.twin {
        Expect::Finds => "finds it".to_owned(),
        Expect::May(why) => format!("may find it: {why}"),
        Expect::Misses(why) => format!("must miss it: {why}"),
        Expect::Observes => "observes; explorer's outcomes are compared with loom's".to_owned(),
    };
    if !plan.needs.is_zero() {
        let needs = humantime::format_duration(plan.needs);
        text += &format!("\nthe shipped body needs --budget {needs}");
    }
    for known in plan.differences {
        text += &format!("\n{}, {}: {}", known.line(), known.variant, known.why);
    }
    text
}

fn as_json(scenarios: &[&Scenario]) -> String {
    let scenarios: Vec<_> = (scenarios.iter())
        .map(|scenario| {
            let engines: Vec<_> = (scenario.engines.iter())
                .map(|plan| {
                    let (twin, why) = match plan.twin {
                        Expect::Finds => ("finds", None),
                        Expect::May(why) => ("may", Some(why)),
                        Expect::Misses(why) => ("misses", Some(why)),
                        Expect::Observes => ("observes", None),
                    };
                    json!({
                        "engine": plan.engine.to_string(),
                        "twin": twin,
                        "why": why,
                        "differences": differences(plan),
                        "states": plan.states,
                        "needs_s": plan.needs.as_secs(),
                    })
                })
                .collect();
            json!({
                "scenario": scenario.id,
                "ticket": scenario.ticket,
                "summary": scenario.summary,
                "signature": scenario.signature,
                "must_reach": scenario.must_reach,
                "revision": scenario.revision(),
                "engines": engines,
            })
        })
        .collect();
    format!("{:#}", json!({"schema": 1, "scenarios": scenarios}))
}

fn differences(plan: &Plan) -> Vec<serde_json::Value> {
    let known = plan.differences.iter();
    known
        .map(|known| {
            json!({
                "variant": known.variant,
                "only": known.only.name(),
                "outcome": known.outcome,
                "why": known.why,
            })
        })
        .collect()
}
