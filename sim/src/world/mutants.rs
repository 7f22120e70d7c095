//! The protocol, broken on purpose, one way at a time, to see whether the world finds it. **The
//! machines are not touched: a mutant is a driver that does not do what it should**, or one that
//! forges a message, so that what ships has no switch.

use selvedge_core::ddp::{
    CoordinatorEvent, CoordinatorSays, CoordinatorState, CoordinatorWait, Durable, Incarnation,
    Member, Rank, RankSays, RankWait, Reduced, ToCoordinator, ToRank, View,
};
use serde::{Deserialize, Serialize};

use super::run::Simulation;

/// What is broken.
///
/// ```
/// use selvedge_sim::world::{Mutant, WorldConfig};
///
/// assert_eq!(WorldConfig::default().mutant, Mutant::None);
/// assert!(Mutant::ALL.contains(&Mutant::NoFlush));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Mutant {
    /// Nothing.
    None,
    /// After a change of view each rank goes on from what it has itself.
    NoFlush,
    /// The coordinator keeps the number of its view in memory only.
    VolatileView,
    /// An epoch is decided when most members have arrived.
    MajorityCommit,
    /// A message is for a rank, whichever life of it.
    AnyLifeTakesIt,
    /// Whoever is connected again is a member again, in the life it has.
    HelloRejoins,
    /// A rank that has failed keeps its connection, and beats.
    FailedStaysMember,
    /// Nobody looks at the view of an arrival.
    ArriveInAnyView,
    /// Nobody looks at the life of an arrival.
    ArriveOfAnyLife,
    /// The coordinator sends a decision before it is written down.
    TellsBeforeItWrites,
    /// What the coordinator has written is not there after its death.
    DiskForgets,
    /// Heartbeats come from a thread of their own.
    BeatsWhileStuck,
    /// A rank that is connected again does not say so.
    SilentReconnection,
    /// A rank does not tell that its collective came to nothing.
    FailureKeptQuiet,
    /// Another life of a rank has the number of the last.
    SameLifeAgain,
    /// A rank says that it has copied parameters, and has not.
    CopiesNothing,
    /// Each rank goes by its own loader, whatever the others have (ticket B2-DRL-05, option B).
    OwnLoaderDecides,
    /// A rank that is asked again what it has takes it for answered: a bug that core had, until
    /// this world found it.
    AnswersOnce,
    /// The front end forgets what it has executed: what comes twice is done twice.
    ForgetsKeys,
    /// An agent that hears nothing asks under another key.
    RetriesUnderNewKey,
    /// An agent keeps what a former life of the server has said.
    KeepsFormerTokens,
    /// The front end says that a request is cancelled, and does not cancel it.
    ForgetsCancels,
    /// What finds no room in a client's stream is lost, and nobody is told.
    LosesTokens,
    /// The engine is not stepped while a client has no room.
    SlowStallsAll,
    /// The front end looks whether nobody is there, and drains later.
    DrainsByLooking,
    /// Blocks that were taken when a request was refused by the backend are not given back.
    LeaksAtInsertError,
    /// The front end gives back what the engine has.
    ReleasesTwice,
    /// Caches are taken out of the engine and kept beside those that take their place.
    HoardsCaches,
    /// A cache is kept over a change of model.
    KeepsCaches,
    /// The backend keeps its weights over a change of model.
    KeepsOldWeights,
    /// The server goes by a clock that is set back.
    ClockGoesBack,
    /// Nobody tells the cache of alphas that an epoch begins.
    AlphaNeverReset,
    /// Workers that are gone keep what they had.
    WorkersStay,
    /// A step that failed to compile is never compiled again.
    FallbackForEver,
    /// What was compiled is used before it was run once.
    PublishesUnrun,
    /// A step that failed to compile is compiled again in every step.
    CompilesEveryStep,
    /// A life ends without closing its trace.
    ProfileLeftOpen,
    /// A write to a trace does not close the array.
    ArrayLeftOpen,
    /// After a full disk the trace's end is not put back.
    RestoreForgotten,
}

impl Mutant {
    /// All but none.
    pub const ALL: [Mutant; 38] = [
        Mutant::NoFlush,
        Mutant::VolatileView,
        Mutant::MajorityCommit,
        Mutant::AnyLifeTakesIt,
        Mutant::HelloRejoins,
        Mutant::FailedStaysMember,
        Mutant::ArriveInAnyView,
        Mutant::ArriveOfAnyLife,
        Mutant::TellsBeforeItWrites,
        Mutant::DiskForgets,
        Mutant::BeatsWhileStuck,
        Mutant::SilentReconnection,
        Mutant::FailureKeptQuiet,
        Mutant::SameLifeAgain,
        Mutant::CopiesNothing,
        Mutant::OwnLoaderDecides,
        Mutant::AnswersOnce,
        Mutant::ForgetsKeys,
        Mutant::RetriesUnderNewKey,
        Mutant::KeepsFormerTokens,
        Mutant::ForgetsCancels,
        Mutant::LosesTokens,
        Mutant::SlowStallsAll,
        Mutant::DrainsByLooking,
        Mutant::LeaksAtInsertError,
        Mutant::ReleasesTwice,
        Mutant::HoardsCaches,
        Mutant::KeepsCaches,
        Mutant::KeepsOldWeights,
        Mutant::ClockGoesBack,
        Mutant::AlphaNeverReset,
        Mutant::WorkersStay,
        Mutant::FallbackForEver,
        Mutant::PublishesUnrun,
        Mutant::CompilesEveryStep,
        Mutant::ProfileLeftOpen,
        Mutant::ArrayLeftOpen,
        Mutant::RestoreForgotten,
    ];

    /// Those of the training job alone.
    ///
    /// ```
    /// use selvedge_sim::world::Mutant;
    ///
    /// assert!(Mutant::of_training().contains(&Mutant::NoFlush));
    /// assert!(!Mutant::of_training().contains(&Mutant::ForgetsKeys));
    /// ```
    #[must_use]
    pub const fn of_training() -> &'static [Mutant] {
        Mutant::ALL.split_at(17).0
    }

    /// Those of server, agents and guards.
    ///
    /// ```
    /// use selvedge_sim::world::Mutant;
    ///
    /// let all = Mutant::of_training().len() + Mutant::of_the_rest().len();
    /// assert_eq!(all, Mutant::ALL.len());
    /// ```
    #[must_use]
    pub const fn of_the_rest() -> &'static [Mutant] {
        Mutant::ALL.split_at(17).1
    }

    /// What a crash of the coordinator loses.
    pub(super) fn forget(self, durable: &mut Durable) {
        if self == Mutant::VolatileView {
            durable.view = View(0);
        }
    }

    /// What a rank makes of a result.
    pub(super) fn reduced(self, reduced: Reduced, own_more: bool) -> Reduced {
        match self {
            Mutant::OwnLoaderDecides => Reduced {
                more: own_more,
                ..reduced
            },
            _ => reduced,
        }
    }
}

impl Simulation {
    /// What is done with a message to a rank.
    pub(super) fn mutant_to_rank(&mut self, rank: Rank, message: &mut ToRank) {
        let Some(process) = &self.node(rank).process else {
            return;
        };
        let life = process.state.incarnation();
        let flushing = process.state.wait()
            == Some(RankWait::Resume {
                view: process.state.view(),
            });
        let entered = process.state.view();
        match (self.config.mutant, &mut message.body) {
            // For nobody.
            (Mutant::AnswersOnce, CoordinatorSays::NewView { view, .. })
                if flushing && *view == entered =>
            {
                message.incarnation = Incarnation(0);
            }
            (Mutant::AnyLifeTakesIt, _) => message.incarnation = life,
            (
                Mutant::NoFlush,
                CoordinatorSays::Resume {
                    applied,
                    boundary,
                    holders,
                    ..
                },
            ) => {
                if let Some(said) = self.said.get(&rank) {
                    (*applied, *boundary) = (said.applied, said.boundary);
                    *holders = vec![rank];
                }
            }
            _ => {}
        }
    }

    /// What is remembered of what a rank said.
    pub(super) fn mutant_said(&mut self, rank: Rank, message: &ToCoordinator) {
        if let (Mutant::NoFlush, RankSays::ViewAck { held, .. }) =
            (self.config.mutant, &message.body)
        {
            match held {
                Some(held) => self.said.insert(rank, *held),
                None => self.said.remove(&rank),
            };
        }
    }

    /// What is done with a message to the coordinator.
    pub(super) fn mutant_to_coordinator(&mut self, from: Rank, mut message: ToCoordinator) {
        let Some(process) = &self.coordinator.process else {
            return;
        };
        let durable = process.state.durable();
        let now = durable.view;
        let mut members = durable.members.iter();
        let member = members.find(|member| member.rank == from).copied();
        let training = process.state.wait().is_none() && !process.state.is_over();
        match (self.config.mutant, &mut message.body) {
            (Mutant::ArriveInAnyView, RankSays::Arrive { view, .. }) => *view = now,
            (Mutant::ArriveOfAnyLife, RankSays::Arrive { .. }) => {
                if let Some(member) = member {
                    message.incarnation = member.incarnation;
                }
            }
            (Mutant::HelloRejoins, RankSays::Hello) if member.is_none() && training => {
                return self.readmit(from, message.incarnation);
            }
            _ => {}
        }
        let arrives = matches!(message.body, RankSays::Arrive { .. });
        let arrival =
            (self.config.mutant == Mutant::MajorityCommit && arrives).then(|| message.clone());
        self.tell_coordinator(CoordinatorEvent::Message { from, message });
        if let Some(arrival) = arrival {
            self.arrive_for_the_rest(&arrival);
        }
    }

    /// Where most members have arrived: the others too, as far as the coordinator knows.
    fn arrive_for_the_rest(&mut self, arrival: &ToCoordinator) {
        let Some(process) = &self.coordinator.process else {
            return;
        };
        let Some(CoordinatorWait::Arrivals { .. }) = process.state.wait() else {
            return;
        };
        let members = process.state.durable().members.clone();
        let missing = process.state.missing();
        if 2 * (members.len() - missing.len()) <= members.len() {
            return;
        }
        let missing = members.iter().filter(|m| missing.contains(&m.rank));
        for &Member { rank, incarnation } in missing {
            let message = ToCoordinator {
                incarnation,
                body: arrival.body.clone(),
            };
            let from = rank;
            self.tell_coordinator(CoordinatorEvent::Message { from, message });
        }
    }

    /// Makes a rank a member again in the life it has, by a change of view.
    fn readmit(&mut self, rank: Rank, incarnation: Incarnation) {
        let config = self.run_config();
        let Some(process) = &mut self.coordinator.process else {
            return;
        };
        let mut durable = process.state.durable().clone();
        let member = Member { rank, incarnation };
        for lives in [&mut durable.members, &mut durable.lives] {
            lives.retain(|life| life.rank != rank);
            lives.push(member);
            lives.sort_unstable();
        }
        let mut out = Vec::new();
        if let Ok(state) = CoordinatorState::restore(config, durable, &mut out) {
            process.state = state;
            self.coordinator_todo(out);
        }
    }
}
