//! What a replay says about a regression. Nothing is run here.

use selvedge_sim::follow::Followed;
use selvedge_sim::replay::Replayed;
use selvedge_sim::{DecisionLog, Failure, FailureKind, Seed};

use super::entry::{Entry, Expected};
use crate::Scenario;

/// What became of a regression.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Finding {
    /// The twin failed as it must.
    Fails,
    /// The shipped code was well, in an execution that the seed led, so far.
    Passes(String),
    /// The seed does not fit the code any more.
    Stale(String),
    /// The seed fits, and its twin was not found.
    Missed(String),
    /// The shipped code has the bug again, still, or another.
    Violated(FailureKind, String),
    /// What it was of is no more.
    Gone(String),
    /// The engine failed.
    EngineFailed(String),
    /// Time ran out.
    Cut,
    /// Interrupted.
    Interrupted,
}

impl Finding {
    /// What can be said without running anything; `None` where it has to be run.
    pub(crate) fn beforehand(entry: &Entry, scenario: Option<&Scenario>) -> Option<Finding> {
        let seed = &entry.seed;
        let Some(scenario) = scenario else {
            let why = format!("there is no scenario '{}' any more", seed.scenario);
            return Some(Finding::Gone(why));
        };
        if !scenario.bodies(seed.variant).runs_under(seed.engine) {
            let why = format!(
                "{} does not run under {} any more",
                scenario.id, seed.engine
            );
            return Some(Finding::Gone(why));
        }
        if entry.expect == Expected::Passes {
            // The fix may be in the scenario's own source.
            return None;
        }
        let revision = scenario.revision();
        if seed.revision != revision {
            return Some(Finding::Stale(format!(
                "it was made for revision {} of the scenario, this is {revision}",
                seed.revision
            )));
        }
        if seed.signature != scenario.signature {
            return Some(Finding::Stale(format!(
                "it violates '{}', and the twin must be found by '{}'",
                seed.signature, scenario.signature
            )));
        }
        let report = entry.twin.as_deref().unwrap_or_default();
        (report != scenario.ticket).then(|| {
            Finding::Stale(format!(
                "its twin is of '{report}', the scenario's is of '{}'",
                scenario.ticket
            ))
        })
    }

    /// Of a twin's seed, followed to the letter.
    pub(crate) fn of_twin(replayed: Replayed) -> Finding {
        match replayed {
            Replayed::Violated { executions: 1, .. } => Finding::Fails,
            Replayed::Violated { executions, .. } => Finding::Missed(format!(
                "it fails at execution {executions} only, and not at the first"
            )),
            Replayed::NotReproduced(why) => Finding::Missed(why),
            Replayed::Stale(why) => Finding::Stale(why),
            Replayed::Failed(what) => Finding::EngineFailed(what),
            Replayed::Cut => Finding::Cut,
            Replayed::Interrupted => Finding::Interrupted,
        }
    }

    /// Of a seed of the shipped code, followed as far as the code allows.
    pub(crate) fn of_shipped(entry: &Entry, followed: Followed) -> Finding {
        let seed = &entry.seed;
        match followed {
            Followed::Violated(failure) => {
                Finding::Violated(failure.kind, how_it_fails(entry, &failure))
            }
            Followed::Well { kept, of } if !guides(seed, kept, of) => Finding::Stale(format!(
                "only {kept} of its {of} steps are possible, and not one of its switches: it \
                 guides nothing any more"
            )),
            Followed::Well { kept, of } if kept == of => {
                Finding::Passes(format!("all of its {of} steps"))
            }
            Followed::Well { kept, of } => Finding::Passes(format!(
                "{kept} of its {of} steps, then as the code goes on by itself"
            )),
            Followed::Searched {
                preemptions,
                executions,
            } => Finding::Passes(format!(
                "all {executions} executions with at most {preemptions} preemptions"
            )),
            Followed::Impossible(why) => Finding::Stale(why),
            Followed::Failed(what) => Finding::EngineFailed(what),
            Followed::Cut => Finding::Cut,
            Followed::Interrupted => Finding::Interrupted,
        }
    }

    pub(crate) fn is_as_expected(&self) -> bool {
        matches!(self, Finding::Fails | Finding::Passes(_))
    }

    /// Whether another seed is needed, or none.
    pub(crate) fn is_stale(&self) -> bool {
        matches!(self, Finding::Stale(_) | Finding::Gone(_))
    }

    pub(crate) fn word(&self) -> &'static str {
        match self {
            Finding::Fails => "fails",
            Finding::Passes(_) => "passes",
            Finding::Stale(_) => "stale",
            Finding::Missed(_) => "missed",
            Finding::Violated(..) => "violated",
            Finding::Gone(_) => "gone",
            Finding::EngineFailed(_) => "engine failed",
            Finding::Cut => "cut",
            Finding::Interrupted => "interrupted",
        }
    }

    /// More about it; empty where there is no more to say.
    pub(crate) fn why(&self) -> &str {
        match self {
            Finding::Fails | Finding::Interrupted => "",
            Finding::Cut => "time ran out before its execution ended",
            Finding::Passes(why)
            | Finding::Stale(why)
            | Finding::Missed(why)
            | Finding::Violated(_, why)
            | Finding::Gone(why)
            | Finding::EngineFailed(why) => why,
        }
    }
}

fn how_it_fails(entry: &Entry, failure: &Failure) -> String {
    let Failure {
        signature, detail, ..
    } = failure;
    let again = match (*signature == entry.seed.signature, &entry.fixed_in) {
        (true, Some(fixed_in)) => format!("as before {fixed_in}"),
        (true, None) => "it is not fixed".to_owned(),
        (false, _) => format!("where it was '{}'", entry.seed.signature),
    };
    let first = detail.lines().next().unwrap_or_default();
    format!("{signature}, {again}: {first}")
}

/// Whether an execution that made only the first `kept` of the seed's `of` steps owes anything to
/// the seed.
fn guides(seed: &Seed, kept: u64, of: u64) -> bool {
    match &seed.log {
        // Up to the first switch each execution is the same.
        DecisionLog::Schedule(schedule) => match &schedule.steps[..] {
            [(_, first), _, ..] => kept > u64::from(*first),
            _ => kept > 0,
        },
        _ => kept > 0 || of == 0,
    }
}

#[cfg(test)]
mod tests {
    use selvedge_sim::{Engine, Schedule, TaskName, Variant};

    use super::*;
    use crate::registry;

    fn entry(expect: Expected) -> Entry {
        let scenario = registry::all()[0];
        let (parent, child) = (0, 0);
        let schedule = Schedule {
            tasks: vec![TaskName { parent, child }; 2],
            steps: vec![(0, 2), (1, 3), (0, 1)],
            ..Schedule::default()
        };
        Entry {
            name: "one".to_owned(),
            seed: Seed {
                scenario: scenario.id.to_owned(),
                variant: match expect {
                    Expected::Fails => Variant::AsReported,
                    Expected::Passes => Variant::Shipped,
                },
                engine: Engine::Explorer { preemptions: None },
                revision: scenario.revision(),
                signature: scenario.signature.to_owned(),
                trace: Some(1),
                log: DecisionLog::Schedule(schedule),
            },
            expect,
            found_by: "me".to_owned(),
            twin: (expect == Expected::Fails).then(|| scenario.ticket.to_owned()),
            fixed_in: (expect == Expected::Passes).then(|| "0.2".to_owned()),
            size: None,
            why: "because".to_owned(),
            place: super::super::entry::Place::default(),
        }
    }

    fn failure(signature: &str) -> Failure {
        Failure {
            kind: FailureKind::Deadlock,
            signature: signature.to_owned(),
            detail: "what was found\nand more".to_owned(),
            location: String::new(),
        }
    }

    #[test]
    fn a_twins_seed_fails_at_the_first_execution_or_is_told() {
        let violated = |executions| Replayed::Violated {
            failure: failure("any"),
            executions,
            trace: None,
        };
        assert_eq!(Finding::of_twin(violated(1)), Finding::Fails);
        let late = Finding::of_twin(violated(2));
        assert!(!late.is_as_expected() && late.why().contains("execution 2 only"));
        let why = || "reason".to_owned();
        let all = [
            (Replayed::NotReproduced(why()), "missed"),
            (Replayed::Stale(why()), "stale"),
            (Replayed::Failed(why()), "engine failed"),
            (Replayed::Cut, "cut"),
            (Replayed::Interrupted, "interrupted"),
        ];
        for (replayed, word) in all {
            let finding = Finding::of_twin(replayed);
            assert_eq!(finding.word(), word);
            assert!(!finding.is_as_expected());
            assert_eq!(finding.is_stale(), word == "stale");
        }
    }

    #[test]
    fn a_fixed_bug_that_fails_in_any_way_is_no_pass() {
        let entry = entry(Expected::Passes);
        let of = |followed| Finding::of_shipped(&entry, followed);
        let again = of(Followed::Violated(failure(&entry.seed.signature)));
        assert!(matches!(again, Finding::Violated(FailureKind::Deadlock, _)));
        assert!(
            again.why().contains("as before 0.2: what was found"),
            "{again:?}"
        );
        let other = of(Followed::Violated(failure("another")));
        assert!(!other.is_as_expected() && other.why().starts_with("another, where it was"));
        let open = Entry {
            fixed_in: None,
            ..entry.clone()
        };
        let still = Finding::of_shipped(&open, Followed::Violated(failure(&entry.seed.signature)));
        assert!(still.why().contains("it is not fixed"));
    }

    #[test]
    fn a_fixed_bug_passes_as_far_as_its_seed_leads() {
        let entry = entry(Expected::Passes);
        let of = |kept| Finding::of_shipped(&entry, Followed::Well { kept, of: 6 });
        // The two steps before the first switch are those of any execution.
        assert!(of(2).is_stale() && of(2).why().starts_with("only 2 of its 6"));
        assert_eq!(
            of(3),
            Finding::Passes("3 of its 6 steps, then as the code goes on by itself".to_owned())
        );
        assert_eq!(of(6), Finding::Passes("all of its 6 steps".to_owned()));
        let searched = Followed::Searched {
            preemptions: 1,
            executions: 40,
        };
        assert!(Finding::of_shipped(&entry, searched).is_as_expected());
        let none = Followed::Impossible("no".to_owned());
        assert!(Finding::of_shipped(&entry, none).is_stale());
        for (followed, word) in [
            (Followed::Failed("it".to_owned()), "engine failed"),
            (Followed::Cut, "cut"),
            (Followed::Interrupted, "interrupted"),
        ] {
            assert_eq!(Finding::of_shipped(&entry, followed).word(), word);
        }
    }

    #[test]
    fn what_a_seed_was_made_for_is_compared_before_anything_runs() {
        let scenario = registry::all()[0];
        let said = |change: &dyn Fn(&mut Entry)| {
            let mut entry = entry(Expected::Fails);
            change(&mut entry);
            Finding::beforehand(&entry, Some(scenario))
        };
        assert_eq!(said(&|_| ()), None);
        let revision = said(&|entry| entry.seed.revision = "00000000".to_owned()).unwrap();
        assert!(revision.is_stale() && revision.why().contains("revision 00000000"));
        let signature = said(&|entry| entry.seed.signature = "another".to_owned()).unwrap();
        assert!(signature.is_stale() && signature.why().contains("violates 'another'"));
        let ticket = said(&|entry| entry.twin = Some("another".to_owned())).unwrap();
        assert!(ticket.is_stale() && ticket.why().contains("is of 'another'"));
        let engine = said(&|entry| entry.seed.engine = Engine::Stateright).unwrap();
        assert!(matches!(engine, Finding::Gone(_)));
        assert!(matches!(
            Finding::beforehand(&entry(Expected::Fails), None),
            Some(Finding::Gone(_))
        ));
        // A fix changes the revision: a fixed bug's seed is tried all the same.
        let mut fixed = entry(Expected::Passes);
        fixed.seed.revision = "00000000".to_owned();
        assert_eq!(Finding::beforehand(&fixed, Some(scenario)), None);
    }
}
