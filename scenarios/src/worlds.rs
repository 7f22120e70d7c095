//! The simulated world as scenarios: the whole system in virtual time, with everything going wrong
//! that may, a run a seed.
//!
//! Every [`Mutant`] of the world is the twin of one scenario: a driver that does not do what it
//! should. What is said of a mutant is its line in `lines`; one that has none gets a scenario all
//! the same, which no run can satisfy, so that it is not forgotten. The shipped body of each is the
//! world that its mutant is searched in, by seeds of its own: together they are a few thousand
//! worlds.
//!
//! A mutant that is done wrong shows in several ways, and which comes first is luck. A scenario
//! names the one that tells what was done wrong, and its search goes on until it meets that one.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use selvedge_core::ddp::Rank;
use selvedge_sim::Bodies;
use selvedge_sim::campaign::{WorldBody, world_revision};
use selvedge_sim::world::{
    Fault, FaultKind, Faults, Latency, Moment, Mutant, Plan, Probe, Timing, When, WorldConfig,
};

use crate::Scenario;
use crate::registry::{self, Expect, world};

/// The scenario of the world as it ships. Its twin is a world that is never the same twice, which
/// the engine must notice by itself.
pub const WORLD: &str = "world";

/// What is said of a mutant.
struct Line {
    mutant: Mutant,
    id: &'static str,
    ticket: &'static str,
    summary: &'static str,
    signature: &'static str,
    must_reach: &'static [Probe],
    draw: fn(u64) -> WorldConfig,
    engines: &'static [registry::Plan],
}

const FINDS: &[registry::Plan] = &[world(Expect::Finds)];

const NEEDLESS: &[registry::Plan] = &[world(Expect::Misses(
    "a life is admitted by the commit of an epoch, so what an earlier life has said of one is of \
     an older epoch and told by its number",
))];

/// A mutant of the epoch step that the swarm finds.
const fn of_swarm(mutant: Mutant, id: &'static str, signature: &'static str) -> Line {
    Line {
        mutant,
        id,
        ticket: "ddp mutant",
        summary: "",
        signature,
        must_reach: &[],
        draw: WorldConfig::swarm,
        engines: FINDS,
    }
}

/// A mutant of the server, its agents or the guards, which the swarm finds where all take part.
const fn of_the_rest(mutant: Mutant, id: &'static str, signature: &'static str) -> Line {
    Line {
        ticket: "world mutant",
        draw: WorldConfig::whole,
        ..of_swarm(mutant, id, signature)
    }
}

/// A line for each mutant: one that is new is added here.
fn lines() -> [Line; 38] {
    [
        Line {
            summary: "after a change of view each rank goes on from what it has itself",
            must_reach: &[Probe::HealAfterFlush, Probe::StepFailed],
            ..of_swarm(Mutant::NoFlush, "world-no-flush", "no-mix")
        },
        Line {
            ticket: "torchft `quorum_id`",
            summary: "the coordinator keeps the number of its view in memory only",
            must_reach: &[Probe::RestartInFlush],
            ..of_swarm(Mutant::VolatileView, "world-volatile-view", "monotone")
        },
        Line {
            summary: "an epoch is decided when most members have arrived",
            must_reach: &[Probe::ViewChangeAtGate],
            ..of_swarm(Mutant::MajorityCommit, "world-majority-commit", "blameless")
        },
        Line {
            ticket: "draft trap 1",
            summary: "a message is for a rank, whichever life of it",
            must_reach: &[Probe::FormerLife, Probe::RejoinAtBoundary],
            ..of_swarm(
                Mutant::AnyLifeTakesIt,
                "world-any-life-takes-it",
                "one-life",
            )
        },
        Line {
            ticket: "draft trap 2",
            summary: "whoever is connected again is a member again, in the life it has",
            must_reach: &[Probe::Reconnected, Probe::FalseSuspicion],
            ..of_swarm(Mutant::HelloRejoins, "world-hello-rejoins", "one-life")
        },
        Line {
            ticket: "draft trap 3, jax#38503",
            summary: "a rank that has failed keeps its connection, and beats",
            must_reach: &[Probe::StepFailed],
            ..of_swarm(
                Mutant::FailedStaysMember,
                "world-failed-stays-member",
                "blameless",
            )
        },
        Line {
            ticket: "ddp mutant, out of order",
            summary: "nobody looks at the view of an arrival, which may come late",
            must_reach: &[Probe::LateMessage, Probe::Reconnected],
            draw: late_arrival,
            ..of_swarm(
                Mutant::ArriveInAnyView,
                "world-arrive-in-any-view",
                "blameless",
            )
        },
        Line {
            ticket: "ddp mutant, out of order",
            summary: "nobody looks at the life of an arrival, which does not matter",
            must_reach: &[Probe::LateMessage, Probe::Reconnected],
            draw: late_arrival,
            engines: NEEDLESS,
            ..of_swarm(
                Mutant::ArriveOfAnyLife,
                "world-arrive-of-any-life",
                "agreement",
            )
        },
        Line {
            summary: "the coordinator sends a decision before it is written down",
            must_reach: &[Probe::RestartInFlush],
            ..of_swarm(
                Mutant::TellsBeforeItWrites,
                "world-tells-before-it-writes",
                "agreement",
            )
        },
        Line {
            summary: "what the coordinator has written is not there after its death",
            must_reach: &[Probe::RestartInFlush],
            ..of_swarm(Mutant::DiskForgets, "world-disk-forgets", "monotone")
        },
        Line {
            ticket: "jax#38503",
            summary: "heartbeats come from a thread of their own, so who is stuck seems alive",
            must_reach: &[Probe::SilentEvicted],
            ..of_swarm(
                Mutant::BeatsWhileStuck,
                "world-beats-while-stuck",
                "blameless",
            )
        },
        Line {
            summary: "a rank that is connected again does not say so",
            must_reach: &[Probe::Reconnected],
            ..of_swarm(
                Mutant::SilentReconnection,
                "world-silent-reconnection",
                "liveness",
            )
        },
        Line {
            summary: "a rank does not tell that its collective came to nothing",
            must_reach: &[Probe::StepFailed],
            ..of_swarm(
                Mutant::FailureKeptQuiet,
                "world-failure-kept-quiet",
                "blameless",
            )
        },
        Line {
            summary: "another life of a rank has the number of the last",
            must_reach: &[Probe::RejoinAtBoundary],
            ..of_swarm(Mutant::SameLifeAgain, "world-same-life-again", "monotone")
        },
        Line {
            summary: "a rank says that it has copied parameters, and has not",
            must_reach: &[Probe::HealAfterFlush],
            ..of_swarm(Mutant::CopiesNothing, "world-copies-nothing", "no-mix")
        },
        Line {
            ticket: "B2-DRL-05, option B",
            summary: "each rank goes by its own loader, whatever the others have",
            must_reach: &[Probe::UnevenLoaders],
            ..of_swarm(
                Mutant::OwnLoaderDecides,
                "world-own-loader-decides",
                "liveness",
            )
        },
        Line {
            ticket: "found by the world",
            summary: "a rank that is asked again what it has takes it for answered",
            must_reach: &[Probe::Reconnected, Probe::HealAfterFlush],
            ..of_swarm(Mutant::AnswersOnce, "world-answers-once", "liveness")
        },
        Line {
            summary: "the front end forgets what it has executed: what comes twice is done twice",
            must_reach: &[Probe::LetterTwice, Probe::KnownKey],
            ..of_the_rest(Mutant::ForgetsKeys, "world-forgets-keys", "ends-once")
        },
        Line {
            summary: "an agent that hears nothing asks under another key",
            must_reach: &[Probe::AskedAgain, Probe::LetterLost],
            ..of_the_rest(
                Mutant::RetriesUnderNewKey,
                "world-retries-under-new-key",
                "ends-once",
            )
        },
        Line {
            summary: "an agent keeps what a former life of the server has said",
            must_reach: &[Probe::ServerCrashed, Probe::AnotherServer],
            ..of_the_rest(
                Mutant::KeepsFormerTokens,
                "world-keeps-former-tokens",
                "right-tokens",
            )
        },
        Line {
            summary: "the front end says that a request is cancelled, and does not cancel it",
            must_reach: &[Probe::Cancelled],
            ..of_the_rest(Mutant::ForgetsCancels, "world-forgets-cancels", "ends-once")
        },
        Line {
            summary: "what finds no room in a client's stream is lost, and nobody is told",
            must_reach: &[Probe::ClientCut],
            ..of_the_rest(Mutant::LosesTokens, "world-loses-tokens", "right-tokens")
        },
        Line {
            summary: "the engine is not stepped while a client has no room",
            must_reach: &[Probe::ClientCut],
            ..of_the_rest(Mutant::SlowStallsAll, "world-slow-stalls-all", "no-stall")
        },
        Line {
            summary: "the front end looks whether nobody is there, and drains later",
            must_reach: &[Probe::Drained, Probe::AskedInDrain],
            ..of_the_rest(Mutant::DrainsByLooking, "world-drains-by-looking", "drain")
        },
        Line {
            summary: "blocks of a request that the backend refused are not given back",
            must_reach: &[Probe::BackendFault, Probe::Refused],
            ..of_the_rest(
                Mutant::LeaksAtInsertError,
                "world-leaks-at-insert-error",
                "conservation",
            )
        },
        Line {
            summary: "the front end gives back what the engine has",
            must_reach: &[Probe::CacheReused],
            ..of_the_rest(
                Mutant::ReleasesTwice,
                "world-releases-twice",
                "conservation",
            )
        },
        Line {
            summary: "caches are taken out of the engine and kept beside their successors",
            must_reach: &[Probe::CacheReused, Probe::CacheEvicted],
            ..of_the_rest(Mutant::HoardsCaches, "world-hoards-caches", "conservation")
        },
        Line {
            summary: "a cache is kept over a change of model",
            must_reach: &[Probe::Reconfigured],
            ..of_the_rest(Mutant::KeepsCaches, "world-keeps-caches", "conservation")
        },
        Line {
            summary: "the backend keeps its weights over a change of model",
            must_reach: &[Probe::Reconfigured],
            ..of_the_rest(
                Mutant::KeepsOldWeights,
                "world-keeps-old-weights",
                "right-tokens",
            )
        },
        Line {
            summary: "the server goes by a clock that is set back",
            must_reach: &[Probe::ClockStepped],
            ..of_the_rest(Mutant::ClockGoesBack, "world-clock-goes-back", "clock")
        },
        Line {
            summary: "nobody tells the cache of alphas that an epoch begins",
            must_reach: &[Probe::WorkerLeft],
            ..of_the_rest(
                Mutant::AlphaNeverReset,
                "world-alpha-never-reset",
                "stale-alpha",
            )
        },
        Line {
            summary: "workers that are gone keep what they had",
            must_reach: &[Probe::WorkerLeft],
            ..of_the_rest(Mutant::WorkersStay, "world-workers-stay", "live-entries")
        },
        Line {
            summary: "a step that failed to compile is never compiled again",
            must_reach: &[Probe::CompileFailed, Probe::Eager],
            ..of_the_rest(
                Mutant::FallbackForEver,
                "world-fallback-for-ever",
                "never-for-ever",
            )
        },
        Line {
            summary: "what was compiled is used before it was run once",
            must_reach: &[Probe::FailedAtFirstRun],
            ..of_the_rest(
                Mutant::PublishesUnrun,
                "world-publishes-unrun",
                "first-execution",
            )
        },
        Line {
            summary: "a step that failed to compile is compiled again in every step",
            must_reach: &[Probe::CompileFailed],
            ..of_the_rest(
                Mutant::CompilesEveryStep,
                "world-compiles-every-step",
                "attempts-bounded",
            )
        },
        Line {
            summary: "a life ends without closing its trace",
            must_reach: &[Probe::ProfileClosed],
            ..of_the_rest(
                Mutant::ProfileLeftOpen,
                "world-profile-left-open",
                "profile-kept",
            )
        },
        Line {
            summary: "a write to a trace does not close the array",
            must_reach: &[Probe::ProfileTorn],
            ..of_the_rest(
                Mutant::ArrayLeftOpen,
                "world-array-left-open",
                "profile-kept",
            )
        },
        Line {
            summary: "after a full disk the trace's end is not put back",
            must_reach: &[Probe::DiskFull],
            ..of_the_rest(
                Mutant::RestoreForgotten,
                "world-restore-forgotten",
                "profile-kept",
            )
        },
    ]
}

/// A slow voter's connection breaks just after its vote, which comes long after the next
/// connection is there.
fn late_arrival(seed: u64) -> WorldConfig {
    let (rank, millis) = (Rank(0), Duration::from_millis);
    let slow = Fault {
        when: When::At(millis(0)),
        kind: FaultKind::Slow {
            rank,
            factor: 6,
            lasts: millis(60_000),
        },
    };
    // It votes last of four.
    let breaks = Fault {
        when: When::After {
            moment: Moment::Arrives,
            nth: 4 * (seed % 8) as u32 + 3,
            plus: Duration::from_micros(100),
        },
        kind: FaultKind::Break { rank },
    };
    let calm = Plan::calm();
    WorldConfig {
        seed,
        timing: Timing {
            vote: (millis(20), millis(60)),
            ..Timing::default()
        },
        faults: Faults::Plan(Plan {
            latency: Latency {
                most: millis(20),
                notice: millis(1_500),
                linger: millis(500),
                ..calm.latency
            },
            faults: vec![slow, breaks],
            grace: millis(800),
            ..calm
        }),
        ..WorldConfig::default()
    }
}

/// A world that takes a nanosecond more each time it is made.
fn never_the_same(seed: u64) -> WorldConfig {
    static MADE: AtomicU64 = AtomicU64::new(0);
    let mut config = WorldConfig::swarm(seed);
    // ORDERING: Relaxed. Only distinctness matters.
    let made = MADE.fetch_add(1, Ordering::Relaxed);
    config.timing.compute.1 += Duration::from_nanos(made);
    config
}

/// A mutant's name on the command line: `no-flush`.
///
/// ```
/// use selvedge_scenarios::worlds::name;
/// use selvedge_sim::world::Mutant;
///
/// assert_eq!(name(Mutant::NoFlush), "no-flush");
/// ```
#[must_use]
pub fn name(mutant: Mutant) -> String {
    let mut name = String::new();
    for c in format!("{mutant:?}").chars() {
        if c.is_ascii_uppercase() && !name.is_empty() {
            name.push('-');
        }
        name.push(c.to_ascii_lowercase());
    }
    name
}

/// The mutant's scenario.
#[must_use]
pub fn of(mutant: Mutant) -> Option<&'static Scenario> {
    let twin = |scenario: &&Scenario| {
        (scenario.twin.world.as_ref()).is_some_and(|world| world.mutant() == mutant)
    };
    ALL.iter().find(twin)
}

/// The world as it ships, and each mutant of it.
pub static ALL: LazyLock<Vec<Scenario>> = LazyLock::new(|| {
    let source = source();
    let mut all = vec![Scenario {
        id: WORLD,
        ticket: "the bed itself",
        summary: "a world that is not the same twice, so that no seed of it means anything",
        source: with_id(WORLD, &source),
        twin: Bodies::of_world(WorldBody::drawn_by(never_the_same)),
        shipped: Bodies::of_world(WorldBody::drawn_by(WorldConfig::whole)),
        signature: registry::NONDETERMINISM,
        must_reach: words(&[
            Probe::AllDone,
            Probe::FalseSuspicion,
            Probe::HealAfterFlush,
            Probe::QuorumLost,
            Probe::RejoinAtBoundary,
            Probe::RestartInFlush,
            Probe::StepFailed,
        ]),
        engines: FINDS,
    }];
    let mut lines = Vec::from(lines());
    for mutant in Mutant::ALL {
        let line = lines.iter().position(|line| line.mutant == mutant);
        let line = line.map(|place| lines.swap_remove(place));
        all.push(scenario(line.unwrap_or_else(|| unsaid(mutant)), &source));
    }
    all
});

/// For a mutant without a line: no run is violated by such a signature.
fn unsaid(mutant: Mutant) -> Line {
    let id = Box::leak(format!("world-{}", name(mutant)).into_boxed_str());
    Line {
        summary: "nothing is said of this mutant in scenarios/src/worlds.rs: give it a line",
        ..of_swarm(mutant, id, "not-said")
    }
}

fn scenario(line: Line, source: &str) -> Scenario {
    let body = WorldBody::drawn_by(line.draw);
    Scenario {
        id: line.id,
        ticket: line.ticket,
        summary: line.summary,
        source: with_id(line.id, source),
        twin: Bodies::of_world(body.but(line.mutant).found_by(line.signature)),
        shipped: Bodies::of_world(body),
        signature: line.signature,
        must_reach: words(line.must_reach),
        engines: line.engines,
    }
}

/// Probes as a scenario names them. The catalogue is made once and lives as long as the process.
fn words(probes: &[Probe]) -> &'static [&'static str] {
    let words: Vec<&str> = probes.iter().map(|probe| probe.words()).collect();
    Box::leak(words.into_boxed_slice())
}

/// The text of this file, and the revision of the world.
fn source() -> String {
    format!("{}\nworld {}", include_str!("worlds.rs"), world_revision())
}

/// A seed is of one scenario of this file.
fn with_id(id: &str, source: &str) -> &'static str {
    Box::leak(format!("id: \"{id}\"\n{source}").into_boxed_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_mutant_has_a_scenario_of_its_own_and_something_is_said_of_it() {
        for mutant in Mutant::ALL {
            let scenario = of(mutant).expect("it has one");
            assert_eq!(scenario.id, format!("world-{}", name(mutant)));
            assert_ne!(scenario.signature, "not-said", "{}", scenario.summary);
            assert!(!scenario.must_reach.is_empty(), "{}", scenario.id);
        }
        assert_eq!(ALL.len(), Mutant::ALL.len() + 1);
        assert_eq!(of(Mutant::None).map(|it| it.id), Some(WORLD));
    }
}
