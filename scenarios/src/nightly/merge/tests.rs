//! The merge, on records that nobody ran.

use selvedge_sim::{Failure, FailureKind};

use super::super::{Base, Inputs, Trend};
use super::*;

/// Two classics, drawn in five intervals.
fn plan() -> Plan {
    let inputs = Inputs {
        run_id: "night".to_owned(),
        seed: 1,
        effort: 5,
        filters: Vec::new(),
        room_s: 0,
        sources: "s".to_owned(),
    };
    let scenarios = ["lost-wakeup", "abba-2"].map(|id| registry::find(id).unwrap());
    Plan::of(inputs, &scenarios)
}

fn failing(ran: &Ran, signature: &str) -> Ran {
    Ran {
        verdict: "Violated".to_owned(),
        scope: signature.to_owned(),
        failure: Some(Failure {
            kind: FailureKind::Deadlock,
            signature: signature.to_owned(),
            detail: String::new(),
            location: String::new(),
        }),
        seed: Some("a-seed".to_owned()),
        ..ran.clone()
    }
}

/// What a unit's interval comes to where all is well.
fn well(unit: &PlanUnit, interval: u32, drawn_from: u64) -> Ran {
    let scenario = registry::find(&unit.scenario).unwrap();
    let ran = Ran {
        scenario: unit.scenario.clone(),
        variant: unit.variant,
        engine: unit.engine.clone(),
        interval,
        drawn_from,
        verdict: if unit.executions > 0 {
            "Sampled"
        } else {
            "Exhausted"
        }
        .to_owned(),
        scope: "luck".to_owned(),
        executions: 10,
        failure: None,
        reached: scenario
            .must_reach
            .iter()
            .map(|probe| (*probe).to_owned())
            .collect(),
        observations: Vec::new(),
        more_observations: false,
        seed: None,
        shrunk: None,
        escalation: None,
        figures: None,
        took_ms: 1,
    };
    match unit.variant {
        Variant::AsReported => failing(&ran, scenario.signature),
        Variant::Shipped => ran,
    }
}

/// A shard's file, all well.
fn file(plan: &Plan, shard: Shard) -> Contents {
    let session = 1;
    let mut lines = vec![Line::Session {
        session,
        budget_s: 60,
    }];
    for canary in &plan.canaries {
        let ran = Box::new(well(canary, 0, plan.canary_seed(canary, shard)));
        lines.push(Line::Canary { session, ran });
    }
    for piece in plan.part(shard) {
        let ran = well(&plan.units[piece.unit], piece.interval, plan.seed(piece));
        lines.push(Line::Piece {
            session,
            ran: Box::new(ran),
        });
    }
    lines.push(Line::End {
        session,
        how: Ended::Done,
    });
    Contents {
        name: format!("shard-{}", shard.number),
        header: Some(Header::of(plan, shard)),
        lines,
        ..Contents::default()
    }
}

fn files(of: u32) -> Vec<Contents> {
    let plan = plan();
    (1..=of)
        .map(|number| file(&plan, Shard { number, of }))
        .collect()
}

fn night(files: Vec<Contents>) -> Night {
    let header = common_header(&files).unwrap();
    Night::of(plan(), header.shard.of, files, None)
}

/// Changes what came of a unit's intervals, wherever they are.
fn change(files: &mut [Contents], of: (&str, Variant, &str), change: impl Fn(&mut Ran)) {
    for line in files.iter_mut().flat_map(|file| &mut file.lines) {
        if let Line::Piece { ran, .. } = line
            && (&*ran.scenario, ran.variant, &*ran.engine) == of
        {
            change(ran);
        }
    }
}

const SHIPPED: (&str, Variant, &str) = ("abba-2", Variant::Shipped, "shuttle");
const TWIN: (&str, Variant, &str) = ("abba-2", Variant::AsReported, "shuttle");

#[test]
fn whoever_ran_them_and_however_they_are_named_the_night_is_the_same() {
    let one = night(files(1));
    assert_eq!((one.run.exit, one.gaps.len()), (Exit::Ok, 0));
    assert_eq!(one.units.len(), plan().units.len());
    for of in [2, 3, 8, 40] {
        let mut many = files(of);
        many.reverse();
        let many = night(many);
        assert_eq!(many.units, one.units);
        assert_eq!(Base::of(&many), Base::of(&one));
        assert_eq!((many.run.exit, many.gaps.len()), (Exit::Ok, 0));
        let same = Trend::of(&Base::of(&many), &Base::of(&one))
            .same_plan
            .unwrap();
        assert_eq!((same.same, same.different.len()), (one.units.len(), 0));
    }
}

#[test]
fn what_is_missing_cut_off_doubled_or_damaged_is_told_and_no_success() {
    let told = |change: &dyn Fn(&mut Vec<Contents>)| {
        let mut files = files(4);
        change(&mut files);
        let night = night(files);
        assert_eq!(night.run.exit, Exit::Budget, "{:?}", night.gaps);
        night.gaps
    };
    assert_eq!(
        told(&|files| drop(files.remove(2))),
        [Gap::Missing { shard: 3 }]
    );
    let cut = |gaps: Vec<Gap>| match &gaps[..] {
        [
            Gap::CutOff {
                shard: 2,
                left,
                of,
                how,
            },
        ] => (*left, *of, *how),
        other => panic!("{other:?}"),
    };
    let of = plan().part(Shard { number: 2, of: 4 }).len();
    // Killed after its planted bugs.
    assert_eq!(
        cut(told(&|files| files[1].lines.truncate(1 + 4))),
        (of, of, None)
    );
    let interrupted = |files: &mut Vec<Contents>| {
        let lines = &mut files[1].lines;
        lines.truncate(lines.len() - 2);
        lines.push(Line::End {
            session: 1,
            how: Ended::Interrupted,
        });
    };
    assert_eq!(cut(told(&interrupted)), (1, of, Some(Ended::Interrupted)));
    let doubled = told(&|files| {
        let twice = Contents {
            name: "again".to_owned(),
            ..files[0].clone()
        };
        files.push(twice);
    });
    let names = vec!["again".to_owned(), "shard-1".to_owned()];
    assert_eq!(
        doubled,
        [Gap::Doubled {
            shard: 1,
            files: names
        }]
    );
    let damaged = told(&|files| files[3].damaged = Some((7, "nonsense".to_owned())));
    assert!(
        matches!(&damaged[..], [Gap::Damaged { line: 7, .. }]),
        "{damaged:?}"
    );
    let headless = told(&|files| {
        files[3] = Contents {
            name: "x".to_owned(),
            ..Contents::default()
        }
    });
    assert_eq!(
        headless,
        [
            Gap::Missing { shard: 4 },
            Gap::NoHeader {
                file: "x".to_owned()
            }
        ]
    );
    // A record of another night in it: its piece is not there.
    let foreign = told(&|files| change(files, SHIPPED, |ran| ran.drawn_from += 1));
    assert!(
        foreign.iter().any(|gap| matches!(gap, Gap::Foreign { .. })),
        "{foreign:?}"
    );
    assert!(
        foreign.iter().any(|gap| matches!(gap, Gap::CutOff { .. })),
        "{foreign:?}"
    );
}

#[test]
fn a_night_without_its_planted_bugs_is_red() {
    let red = |change: &dyn Fn(&mut Vec<Line>)| {
        let mut files = files(2);
        change(&mut files[1].lines);
        let night = night(files);
        assert_eq!(night.run.exit, Exit::Survived);
        let dead: Vec<CanaryState> = night.dead_canaries().map(|c| c.state.clone()).collect();
        dead
    };
    let is_canary = |line: &Line| matches!(line, Line::Canary { .. });
    let missing = red(&|lines| lines.retain(|line| !is_canary(line)));
    assert_eq!(missing, vec![CanaryState::Missing; 4]);
    let stale = red(&|lines| {
        for line in lines {
            if let Line::Piece { session, .. } = line {
                *session = 2;
            }
        }
    });
    assert_eq!(stale, vec![CanaryState::Stale; 4]);
    let other_night = red(&|lines| {
        for line in lines {
            if let Line::Canary { ran, .. } = line {
                ran.drawn_from += 1;
            }
        }
    });
    assert_eq!(other_night, vec![CanaryState::Stale; 4]);
    let dead = red(&|lines| {
        let ran = lines.iter_mut().find_map(|line| match line {
            Line::Canary { ran, .. } => Some(ran),
            _ => None,
        });
        let ran = ran.unwrap();
        ran.failure = None;
        ran.verdict = "Exhausted".to_owned();
    });
    assert!(
        matches!(&dead[..], [CanaryState::NotFound { .. }]),
        "{dead:?}"
    );
    let wrong = red(&|lines| {
        for line in lines {
            if let Line::Canary { ran, .. } = line {
                **ran = failing(ran, "another");
            }
        }
    });
    assert!(matches!(&wrong[0], CanaryState::NotFound { what } if what.contains("'another'")));
}

#[test]
fn a_session_that_was_killed_among_its_planted_bugs_ran_nothing_and_is_no_failure() {
    for how in [None, Some(Ended::Interrupted)] {
        let mut files = files(2);
        let lines = &mut files[1].lines;
        let session = 2;
        let canary = lines.iter().find_map(|line| match line {
            Line::Canary { ran, .. } => Some(ran.clone()),
            _ => None,
        });
        let ran = canary.unwrap();
        lines.push(Line::Session {
            session,
            budget_s: 60,
        });
        lines.push(Line::Canary { session, ran });
        lines.extend(how.map(|how| Line::End { session, how }));
        let night = night(files);
        assert_eq!(night.run.exit, Exit::Ok);
        assert_eq!(night.dead_canaries().count(), 0);
    }
}

#[test]
fn a_unit_is_judged_by_all_its_intervals() {
    let exit = |of, with: &dyn Fn(&mut Ran)| {
        let mut files = files(3);
        change(&mut files, of, with);
        let night = night(files);
        let failures = Base::of(&night).failures;
        (
            night.run.exit,
            failures.into_iter().map(|f| f.what).collect::<Vec<_>>(),
        )
    };
    // One interval that finds it is enough for a twin, and one for each probe.
    let in_one = |ran: &mut Ran| {
        if ran.interval != 3 {
            (ran.failure, ran.verdict) = (None, "Sampled".to_owned());
        }
    };
    assert_eq!(exit(TWIN, &in_one), (Exit::Ok, vec![]));
    let nowhere = |ran: &mut Ran| (ran.failure, ran.verdict) = (None, "Sampled".to_owned());
    assert_eq!(exit(TWIN, &nowhere).0, Exit::Survived);
    let otherwise = |ran: &mut Ran| {
        if ran.interval == 4 {
            *ran = failing(ran, "other");
        }
    };
    let (worst, told) = exit(TWIN, &otherwise);
    assert_eq!(worst, Exit::Survived);
    assert!(
        told[0].contains("found 'other'") && told[0].contains("'deadlock'"),
        "{told:?}"
    );
    assert_eq!(exit(SHIPPED, &otherwise).0, Exit::Deadlock);
    let reached_once = |ran: &mut Ran| {
        if ran.interval != 2 {
            ran.reached.clear();
        }
    };
    assert_eq!(exit(SHIPPED, &reached_once), (Exit::Ok, vec![]));
    let (worst, told) = exit(SHIPPED, &|ran| ran.reached.clear());
    assert_eq!(worst, Exit::Harness);
    assert!(told[0].contains("vacuous"), "{told:?}");
    // Of a unit that is not all there, nothing is said that the rest could mend.
    let mut two = files(3);
    change(&mut two, TWIN, nowhere);
    two.remove(1);
    let night = night(two);
    assert_eq!(
        (night.run.exit, Base::of(&night).failures.len()),
        (Exit::Budget, 0)
    );
}

#[test]
fn what_is_no_part_of_one_night_is_refused() {
    let refused = |change: fn(&mut Header)| {
        let mut files = files(2);
        change(files[1].header.as_mut().unwrap());
        common_header(&files).unwrap_err().to_string()
    };
    assert!(refused(|h| h.inputs.run_id = "x".to_owned()).contains("run 'night', shard-2 of 'x'"));
    assert!(refused(|h| h.plan = "x".to_owned()).contains("plan"));
    assert!(refused(|h| h.shard.of = 3).contains("how many shards"));
    assert!(refused(|h| h.schema = 9).contains("schema"));
    assert_eq!(common_header(&[]), Err(Refused::Empty { files: 0 }));
}

#[test]
fn the_trend_tells_new_fixed_and_still_failing() {
    let of = |failures: &[(&str, Variant, &str)]| {
        let mut files = files(1);
        for failing_unit in failures {
            change(&mut files, *failing_unit, |ran| {
                *ran = failing(ran, "broken");
            });
        }
        Base::of(&night(files))
    };
    let other = ("lost-wakeup", Variant::Shipped, "loom");
    let (was, is) = (of(&[SHIPPED]), of(&[SHIPPED, other]));
    let places = |failing: &[super::super::Failing]| {
        failing.iter().map(|f| f.place.clone()).collect::<Vec<_>>()
    };
    let trend = Trend::of(&is, &was);
    assert_eq!(places(&trend.new), ["lost-wakeup shipped loom"]);
    assert_eq!(places(&trend.still), ["abba-2 shipped shuttle"]);
    assert_eq!((trend.fixed.len(), trend.unknown.len()), (0, 0));
    // The same plan came to something else.
    let same = trend.same_plan.unwrap();
    assert!(
        same.different[0].contains("lost-wakeup shipped loom: verdict"),
        "{same:?}"
    );
    let back = Trend::of(&was, &is);
    assert_eq!(places(&back.fixed), ["lost-wakeup shipped loom"]);
    // What was not run is not mended.
    let mut not_run = of(&[SHIPPED]);
    not_run
        .units
        .retain(|unit| unit.key.scenario != "lost-wakeup");
    let trend = Trend::of(&not_run, &is);
    assert_eq!((trend.fixed.len(), places(&trend.unknown).len()), (0, 1));
    assert!(!trend.gone.is_empty());
}
