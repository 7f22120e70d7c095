//! What is allowed and rare: places in the drivers that now and then go the seldom way. In a run
//! each place is switched on or off as a whole, and those switched on are taken some of the time.
//!
//! **The places are in the drivers.** What ships has none, and so costs nothing.

use super::probes::Probe;
use super::run::Simulation;

macro_rules! rares {
    ($($(#[doc = $doc:literal])+ $rare:ident,)+) => {
        /// A place.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(super) enum Rare {
            $($(#[doc = $doc])+ $rare,)+
        }

        impl Rare {
            /// How many there are.
            pub(super) const COUNT: u64 = [$(Rare::$rare),+].len() as u64;

            /// Where it is told that it was taken.
            const fn probe(self) -> Probe {
                match self {
                    $(Rare::$rare => Probe::$rare,)+
                }
            }
        }
    };
}

rares! {
    /// An agent asks twice at once.
    AskTwice,
    /// An agent has enough before it can have been heard.
    CancelAtOnce,
    /// Each token goes by itself.
    SplitTokens,
    /// The engine is stepped with nothing to do.
    SpuriousTurn,
    /// A drain is taken back as it begins.
    ResumeDrain,
    /// An agent's idle cache is taken out and put back.
    CacheOutAndIn,
    /// A guard is told of a record twice.
    RecordTwice,
    /// A worker drops what it has.
    WorkerClears,
    /// A trace is written to in the midst of a step.
    EarlyFlush,
    /// A compiled step is forgotten.
    StepForgotten,
}

impl Simulation {
    /// Whether the seldom way is to be taken here.
    pub(super) fn rare(&mut self, rare: Rare) -> bool {
        let rares = self.plan.rare;
        if rares.sites >> rare as u64 & 1 == 0 || self.calm {
            return false;
        }
        let taken = self.rares.chance(rares.per_mille);
        if taken {
            self.probes.reach(rare.probe());
        }
        taken
    }
}
