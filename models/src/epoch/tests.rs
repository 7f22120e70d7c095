//! What the search of the epoch gate finds, and that it finds what it must.

use std::time::Instant;

use selvedge_core::ddp::{Ballot, CommitRecord, Incarnation, Member, Reduction, SeedStage};
use selvedge_sim::{Class, Verdict};

use super::*;
use crate::checker::{Search, collision_chance, search, search_lean};

/// Generated states, of which a part are unique.
const ENOUGH: usize = 200_000_000;

/// Pinned: another count means that the model explores something else than it did.
#[track_caller]
fn is_complete(model: EpochModel, states: u64) {
    let found = search_lean(model, &model.boundary(), ENOUGH);
    assert_eq!(found.verdict.class(), Class::Bounded, "{:?}", found.verdict);
    assert_eq!(found.verdict.executions(), states, "{}", model.boundary());
}

#[test]
fn without_faults_nothing_goes_wrong() {
    is_complete(EpochModel::of(2), 29);
    is_complete(EpochModel::of(3), 81);
    is_complete(EpochModel::of(4), 251);
}

#[test]
fn two_ranks_survive_a_crash_a_rejoin_and_a_false_suspicion() {
    is_complete(EpochModel::of(2).with(Faults::RANKS), 11_966);
}

#[test]
fn two_ranks_survive_a_coordinator_that_dies_and_comes_back() {
    is_complete(EpochModel::of(2).with(Faults::COORDINATOR), 121_359);
}

#[test]
fn ranks_survive_steps_that_come_to_nothing() {
    let faults = Faults {
        failed_steps: 2,
        crashes: 1,
        ..Faults::NONE
    };
    is_complete(EpochModel::of(2).with(faults), 15_623);
    let faults = Faults {
        failed_steps: 1,
        ..Faults::NONE
    };
    is_complete(EpochModel::of(3).with(faults), 2_865);
}

#[test]
fn three_ranks_survive_a_crash() {
    let faults = Faults {
        crashes: 1,
        ..Faults::NONE
    };
    is_complete(EpochModel::of(3).with(faults), 2_268);
}

#[test]
#[cfg_attr(
    debug_assertions,
    ignore = "half a minute unless it is a release build"
)]
fn two_ranks_survive_all_five_kinds_of_fault() {
    is_complete(EpochModel::of(2).with(Faults::ALL), 940_187);
}

#[test]
#[cfg_attr(
    debug_assertions,
    ignore = "half a minute unless it is a release build"
)]
fn three_ranks_survive_a_crash_a_rejoin_and_a_false_suspicion() {
    is_complete(EpochModel::of(3).with(Faults::RANKS), 340_498);
}

/// More than a push should wait for.
#[test]
#[ignore = "minutes, in a release build"]
fn three_ranks_survive_a_crash_a_rejoin_and_a_coordinator_that_dies_and_comes_back() {
    is_complete(EpochModel::of(3).with(Faults::COORDINATOR), 11_053_612);
}

#[test]
#[ignore = "minutes, in a release build"]
fn four_ranks_survive_a_crash_a_rejoin_and_a_false_suspicion() {
    is_complete(EpochModel::of(4).with(Faults::RANKS), 11_912_590);
}

fn mutant(mutant: Mutant, model: EpochModel) -> Search<Action> {
    search(model.but(mutant), &model.boundary(), ENOUGH)
}

/// The mutant dies of the property that it breaks, by a path that has no shorter one.
#[track_caller]
fn dies(of: Mutant, model: EpochModel, signature: &str, actions: usize) {
    let found = mutant(of, model);
    let Some(failure) = found.verdict.failure() else {
        panic!("{of:?} lives: {:?}", found.verdict);
    };
    let end = (failure.signature.as_str(), found.path.len());
    assert_eq!(end, (signature, actions), "{:?}", found.path);
}

#[test]
fn without_a_flush_ranks_go_on_from_different_parameters() {
    dies(
        Mutant::NoFlush,
        EpochModel::of(3).with(Faults::RANKS),
        "no-mix",
        8,
    );
}

#[test]
fn who_is_let_in_while_others_train_adds_up_what_they_do_not() {
    dies(
        Mutant::MidEpochJoin,
        EpochModel::of(2).with(Faults::RANKS),
        "no-mix",
        8,
    );
}

#[test]
fn a_view_that_is_forgotten_leaves_ranks_that_listen_to_nobody() {
    let faults = Faults {
        restarts: 0,
        ..Faults::COORDINATOR
    };
    dies(
        Mutant::VolatileView,
        EpochModel::of(2).with(faults),
        "progress",
        7,
    );
}

#[test]
fn a_majority_decides_for_one_that_is_not_there_yet() {
    dies(Mutant::MajorityCommit, EpochModel::of(3), "progress", 12);
}

#[test]
fn votes_that_rank_0_overrides_are_missed() {
    for (begin, actions) in [(Begin::AtGate(Reduction::All), 6), (Begin::ThreeSlots, 6)] {
        let model = EpochModel::of(2).from(begin);
        dies(Mutant::Rank0Decides, model, "every-vote-counts", actions);
    }
}

#[test]
fn a_vote_that_is_forged_is_missed() {
    let model = EpochModel::of(2).from(Begin::AtGate(Reduction::All));
    dies(Mutant::ForgedVote, model, "every-vote-counts", 6);
}

#[test]
fn a_question_without_a_decision_and_a_voter_without_a_vote_are_missed() {
    let model = EpochModel::of(2).from(Begin::ThreeSlots);
    let world = World::formed(&model);
    let before = world.durable();
    let questions = before.record.schedule.questions();
    assert_eq!(questions.len(), 2);
    let ballot = |member: &Member| Ballot {
        voter: member.rank,
        votes: drive::votes(member.rank, &questions),
    };
    let ballots = before.members.iter().map(ballot).collect();
    let record = (before.record.next(before.view, ballots, &[], 0)).unwrap();
    assert!(drive::every_vote_counts(before, &record));
    let less: [fn(&mut CommitRecord); 5] = [
        |record| record.decisions.clear(),
        |record| record.decisions.truncate(1),
        |record| record.ballots.truncate(1),
        |record| record.decisions.swap(0, 1),
        |record| record.decisions[0].passed = !record.decisions[0].passed,
    ];
    for (number, change) in less.iter().enumerate() {
        let mut record = record.clone();
        change(&mut record);
        assert!(!drive::every_vote_counts(before, &record), "{number}");
    }
}

#[test]
fn the_first_trap_a_message_for_an_earlier_life() {
    let faults = Faults {
        crashes: 1,
        restarts: 1,
        ..Faults::NONE
    };
    dies(
        Mutant::AnyLifeTakesIt,
        EpochModel::of(2).with(faults),
        "identity",
        9,
    );
}

#[test]
fn the_second_trap_an_evicted_rank_comes_back_as_it_is() {
    let faults = Faults {
        crashes: 0,
        restarts: 0,
        ..Faults::ALL
    };
    dies(
        Mutant::HelloRejoins,
        EpochModel::of(2).with(faults),
        "no-mix",
        18,
    );
}

#[test]
fn the_third_trap_all_wait_for_a_rank_that_has_failed() {
    let faults = Faults {
        crashes: 0,
        restarts: 0,
        suspicions: 0,
        ..Faults::ALL
    };
    dies(
        Mutant::FailedStaysMember,
        EpochModel::of(2).with(faults),
        "progress",
        9,
    );
}

/// Where a connection keeps the order of its messages and ends with either end of it, these
/// two keys tell nothing that is not known: an arrival in an old view comes before the answer
/// to the new one, and one of an old life before that life's end. The simulated world, where
/// messages of former connections may come late, shows that the view is needed there; the life
/// is redundant there too.
#[test]
fn the_view_and_the_life_of_an_arrival_are_redundant_on_ordered_connections() {
    for faults in [Faults::RANKS, Faults::COORDINATOR] {
        are_redundant(EpochModel::of(2).with(faults));
    }
}

#[test]
#[cfg_attr(debug_assertions, ignore = "minutes unless it is a release build")]
fn the_view_and_the_life_of_an_arrival_are_redundant_with_three_ranks_too() {
    are_redundant(EpochModel::of(3).with(Faults::RANKS));
}

fn are_redundant(model: EpochModel) {
    for of in [Mutant::ArriveInAnyView, Mutant::ArriveOfAnyLife] {
        let found = search_lean(model.but(of), &model.boundary(), ENOUGH);
        assert_eq!(
            found.verdict.class(),
            Class::Bounded,
            "{of:?}: {:?}",
            found.verdict
        );
    }
}

type Reached = fn(&World) -> bool;

/// The model in which something never happens: it must be violated, or the search has not been
/// where it should.
#[derive(Clone)]
struct Never(EpochModel, Reached);

impl Model for Never {
    type State = World;
    type Action = Action;

    fn init_states(&self) -> Vec<World> {
        self.0.init_states()
    }

    fn actions(&self, world: &World, actions: &mut Vec<Action>) {
        self.0.actions(world, actions);
    }

    fn next_state(&self, last: &World, action: Action) -> Option<World> {
        self.0.next_state(last, action)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![Property::always("never", |model: &Self, world: &World| {
            !model.1(world)
        })]
    }
}

#[test]
fn the_search_goes_where_it_should() {
    fn done_in(world: &World, life: u64) -> bool {
        let mut nodes = world.nodes.iter();
        nodes.any(|n| n.state.is_done() && n.state.incarnation() == Incarnation(life))
    }
    fn holds(world: &World) -> Option<bool> {
        let node = world.nodes.iter().find(|node| node.state.is_done())?;
        let slot = node.state.record()?.schedule.slots().first()?;
        Some(slot.stage() == SeedStage::Holding)
    }
    let reach: [(&str, Faults, Reached); 8] = [
        ("all are done", Faults::NONE, |w| {
            w.all_ended() && w.nodes.iter().all(|node| node.alive)
        }),
        ("a rejoined rank is done", Faults::RANKS, |w| done_in(w, 2)),
        ("parameters are copied", Faults::RANKS, |w| {
            w.nodes.iter().any(|node| node.heal.is_some())
        }),
        ("the run is given up", Faults::RANKS, |w| {
            w.durable().aborted.is_some()
        }),
        ("another coordinator decides", Faults::COORDINATOR, |w| {
            w.left.coordinator_restarts == 0 && done_in(w, 1)
        }),
        (
            "ranks fail for want of a coordinator",
            Faults::COORDINATOR,
            |w| w.left.coordinator_crashes == 0 && w.nodes.iter().all(|node| !node.alive),
        ),
        ("the votes of some pass the gate", Faults::RANKS, |w| {
            holds(w) == Some(true)
        }),
        ("the votes of others do not", Faults::RANKS, |w| {
            holds(w) == Some(false)
        }),
    ];
    for (what, faults, reached) in reach {
        let model = EpochModel::of(2).with(faults);
        let found = search(Never(model, reached), "", ENOUGH);
        assert_eq!(found.verdict.class(), Class::Violated, "never: {what}");
    }
}

/// A run that is being formed has fewer members than ranks, and nobody is evicted.
#[test]
fn only_who_was_lost_is_evicted() {
    for begin in [Begin::Blending, Begin::ThreeSlots] {
        let well = EpochModel::of(3).from(begin);
        let found = search(Never(well, World::has_evicted), "", ENOUGH);
        assert_eq!(found.verdict.class(), Class::Bounded, "{:?}", found.verdict);
        let faults = Faults {
            crashes: 1,
            ..Faults::NONE
        };
        let found = search(Never(well.with(faults), World::has_evicted), "", ENOUGH);
        assert_eq!(found.verdict.class(), Class::Violated);
    }
}

#[test]
fn a_search_cut_short_is_no_pass() {
    let model = EpochModel::of(3).with(Faults::RANKS);
    let found = search_lean(model, &model.boundary(), 10_000);
    assert!(
        matches!(found.verdict, Verdict::BudgetEnded { .. }),
        "{:?}",
        found.verdict
    );
}

/// The machine's peak memory so far, in bytes; 0 where the system does not tell.
fn peak_memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kilobytes = peak.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok());
    kilobytes.unwrap_or(0) * 1024
}

/// Processor time of the whole process so far, in seconds: on a busy machine the clock on the
/// wall tells how busy it is. 0 where the system does not tell.
fn processor_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // Behind the name, which may have spaces in it, the 12th and the 13th: hundredths in user
    // and in system mode.
    let behind = stat.rsplit(')').next().unwrap_or_default();
    let ticks = behind.split_whitespace().skip(11).take(2);
    ticks
        .filter_map(|ticks| ticks.parse::<f64>().ok())
        .sum::<f64>()
        / 100.0
}

/// Prints states, states a second and bytes a state. Run by itself, in a release build:
/// `cargo test --release -p selvedge-models figures -- --ignored --nocapture`.
#[test]
#[ignore = "prints figures, and takes a minute"]
fn figures() {
    for model in [
        EpochModel::of(3).with(Faults::RANKS),
        EpochModel::of(2).with(Faults::ALL),
    ] {
        let (begin, processor, before) = (Instant::now(), processor_seconds(), peak_memory());
        let found = search_lean(model, &model.boundary(), ENOUGH);
        let (states, took) = (found.verdict.executions(), begin.elapsed());
        let worked = (processor_seconds() - processor).max(0.01);
        assert_eq!(found.verdict.class(), Class::Bounded, "{:?}", found.verdict);
        println!(
            "{}: {states} states, {:.1} s, {:.0} states a second of one core, {} bytes a state, \
             chance of a collision {:.0e}",
            model.boundary(),
            took.as_secs_f64(),
            states as f64 / worked,
            peak_memory().saturating_sub(before) / states,
            collision_chance(states),
        );
    }
}
