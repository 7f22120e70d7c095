//! The stages of a seed's life, and which may follow which.

use core::fmt;

use super::gates::GateLevel;

/// Where a seed stands. The numbers are the origin's; 0 (unknown) and 5 (retired) are no
/// stages, and an empty slot is dormant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "net", derive(serde::Serialize, serde::Deserialize))]
pub enum SeedStage {
    /// The slot is empty.
    Dormant = 1,
    /// The seed is there and does nothing yet.
    Germinated = 2,
    /// It learns, isolated from the host.
    Training = 3,
    /// Alpha moves.
    Blending = 4,
    /// Blended in completely, on probation.
    Holding = 6,
    /// Part of the host for good.
    Fossilized = 7,
    /// Removed.
    Pruned = 8,
    /// The slot stays empty for a while.
    Embargoed = 9,
    /// The slot is being made ready.
    Resetting = 10,
}

impl SeedStage {
    /// Every stage, in the order of their numbers.
    pub const ALL: [SeedStage; 9] = [
        SeedStage::Dormant,
        SeedStage::Germinated,
        SeedStage::Training,
        SeedStage::Blending,
        SeedStage::Holding,
        SeedStage::Fossilized,
        SeedStage::Pruned,
        SeedStage::Embargoed,
        SeedStage::Resetting,
    ];

    /// The stages that may follow.
    ///
    /// ```
    /// use selvedge_core::ddp::SeedStage::{Blending, Fossilized, Holding, Pruned};
    ///
    /// assert_eq!(Holding.successors(), [Fossilized, Blending, Pruned]);
    /// assert!(Fossilized.successors().is_empty());
    /// ```
    #[must_use]
    pub const fn successors(self) -> &'static [SeedStage] {
        use SeedStage::{
            Blending, Dormant, Embargoed, Fossilized, Germinated, Holding, Pruned, Resetting,
            Training,
        };
        match self {
            Dormant => &[Germinated],
            Germinated => &[Training, Pruned],
            Training => &[Blending, Pruned],
            Blending => &[Holding, Pruned],
            Holding => &[Fossilized, Blending, Pruned],
            Fossilized => &[],
            Pruned => &[Embargoed],
            Embargoed => &[Resetting],
            Resetting => &[Dormant],
        }
    }

    /// Whether `next` may follow.
    #[must_use]
    pub fn may_become(self, next: SeedStage) -> bool {
        self.successors().contains(&next)
    }

    /// Whether it is one of those a seed goes through after it was removed.
    #[must_use]
    pub const fn is_failure(self) -> bool {
        matches!(
            self,
            SeedStage::Pruned | SeedStage::Embargoed | SeedStage::Resetting
        )
    }

    /// Whether the seed has a part in the network.
    #[must_use]
    pub const fn is_active(self) -> bool {
        matches!(
            self,
            SeedStage::Training | SeedStage::Blending | SeedStage::Holding | SeedStage::Fossilized
        )
    }

    /// Where a seed goes when nobody says where to: the first successor that is no failure.
    #[must_use]
    pub fn onward(self) -> Option<SeedStage> {
        let mut successors = self.successors().iter().copied();
        successors.find(|next| !next.is_failure())
    }

    /// The gate before this stage, if there is one.
    #[must_use]
    pub const fn gate(self) -> Option<GateLevel> {
        match self {
            SeedStage::Germinated => Some(GateLevel::G0),
            SeedStage::Training => Some(GateLevel::G1),
            SeedStage::Blending => Some(GateLevel::G2),
            SeedStage::Holding => Some(GateLevel::G3),
            SeedStage::Fossilized => Some(GateLevel::G5),
            _ => None,
        }
    }
}

impl fmt::Display for SeedStage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            SeedStage::Dormant => "dormant",
            SeedStage::Germinated => "germinated",
            SeedStage::Training => "training",
            SeedStage::Blending => "blending",
            SeedStage::Holding => "holding",
            SeedStage::Fossilized => "fossilized",
            SeedStage::Pruned => "pruned",
            SeedStage::Embargoed => "embargoed",
            SeedStage::Resetting => "resetting",
        })
    }
}
