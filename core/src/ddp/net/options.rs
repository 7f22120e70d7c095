//! What a coordinator and a rank are told when they are started.

use core::fmt;
use core::hint::black_box;
use core::time::Duration;
use std::net::SocketAddr;
use std::path::PathBuf;

use thiserror::Error;

use crate::ddp::coordinator::RunConfig;
use crate::ddp::ids::{Epoch, Incarnation, Rank, RunId};
use crate::ddp::record::CommitRecord;
use crate::ddp::watch::Deadlines;

/// What all processes of a run share, and nobody else has.
#[derive(Clone)]
pub struct Token(pub(super) Vec<u8>);

impl Token {
    /// The fewest bytes.
    pub const LEAST: usize = 8;
    /// The most bytes.
    pub const MOST: usize = 64;

    /// A token of these bytes.
    ///
    /// # Errors
    /// [`TokenError`] if there are too few or too many.
    pub fn new(bytes: impl AsRef<[u8]>) -> Result<Self, TokenError> {
        let bytes = bytes.as_ref();
        match (Self::LEAST..=Self::MOST).contains(&bytes.len()) {
            true => Ok(Token(bytes.to_vec())),
            false => Err(TokenError { len: bytes.len() }),
        }
    }

    /// Whether this is what somebody says it is. How long it takes does not tell where the two
    /// differ.
    pub(super) fn is(&self, said: &[u8]) -> bool {
        let mut differ = self.0.len() ^ said.len();
        for at in 0..Self::MOST {
            let byte = |of: &[u8]| of.get(at).copied().unwrap_or(0);
            differ |= usize::from(black_box(byte(&self.0) ^ byte(said)));
        }
        black_box(differ) == 0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(..)")
    }
}

/// A token has the wrong length.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error(
    "the token has {len} bytes; give one of {} to {}",
    Token::LEAST,
    Token::MOST
)]
pub struct TokenError {
    /// Its length.
    pub len: usize,
}

/// How long things may take. Heartbeat, silences and deadlines rest on each other: give the same
/// to the coordinator and all ranks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// How often a sign of life is sent.
    pub heartbeat: Duration,
    /// After so long a silence a rank is lost, and a connection is taken for cut. It must be
    /// longer than any call of a [`Trainee`](super::Trainee).
    pub suspect_after: Duration,
    /// A rank whose connection was cut is lost if it has none again after this. It tries at least
    /// every quarter of it.
    pub reconnect_within: Duration,
    /// Of every wait. A rank waits for the coordinator's word about what all have arrived for, or
    /// go on from, twice the hard one and `suspect_after`: the coordinator itself waits so long
    /// for others.
    pub deadlines: Deadlines,
    /// Of a rank's wait to be admitted, which may last as long as an epoch.
    pub admission: Deadlines,
    /// Whoever has not said who he is after this is refused.
    pub door: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Timing {
            heartbeat: Duration::from_millis(500),
            suspect_after: Duration::from_secs(5),
            reconnect_within: Duration::from_secs(2),
            deadlines: Deadlines {
                soft: Duration::from_secs(5),
                hard: Duration::from_secs(60),
            },
            admission: Deadlines {
                soft: Duration::from_secs(30),
                hard: Duration::from_secs(3600),
            },
            door: Duration::from_secs(2),
        }
    }
}

impl Timing {
    /// The longest that any of these may be: ten years. Sums of a few cannot overflow.
    pub const LONGEST: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

    /// The longest pause between two tries to connect: there are several in the time in which a
    /// rank must be back.
    pub(super) fn most_delay(&self) -> Duration {
        (self.reconnect_within / 4).min(Duration::from_secs(2))
    }

    /// How long a rank that does not know yet that its connection is gone may take to be back.
    pub(super) fn back_within(&self) -> Duration {
        self.suspect_after
            .max(self.most_delay() * 2 + self.door)
            .max(self.reconnect_within)
    }

    /// Of a rank's wait for the coordinator's word. The coordinator may have to wait for a
    /// straggler until its own hard deadline, and then for the others to enter a new view: it
    /// must be able to let go of who is missing before others despair of it.
    pub(super) fn answer(&self) -> Deadlines {
        Deadlines {
            soft: self.deadlines.soft,
            hard: self.deadlines.hard * 2 + self.suspect_after,
        }
    }

    fn check(&self) -> Result<(), OptionsError> {
        let all = [
            self.heartbeat,
            self.suspect_after,
            self.reconnect_within,
            self.deadlines.hard,
            self.admission.hard,
            self.door,
        ];
        if let Some(&long) = all.iter().find(|&&one| one > Self::LONGEST) {
            return Err(OptionsError::TooLong(long));
        }
        if self.reconnect_within < Duration::from_millis(1) {
            return Err(OptionsError::Reconnect(self.reconnect_within));
        }
        if self.heartbeat.is_zero() || self.heartbeat * 2 > self.suspect_after {
            return Err(OptionsError::Heartbeat {
                heartbeat: self.heartbeat,
                suspect_after: self.suspect_after,
            });
        }
        for deadlines in [self.deadlines, self.admission] {
            if deadlines.soft > deadlines.hard || deadlines.soft.is_zero() {
                return Err(OptionsError::Deadlines(deadlines));
            }
        }
        if self.door.is_zero() {
            return Err(OptionsError::Door);
        }
        Ok(())
    }
}

/// Where the calls of a trainee are made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Calls {
    /// On tokio's blocking threads. A call that is stuck ends the rank at the hard deadline; its
    /// thread is left behind (end the runtime with `shutdown_background`).
    #[default]
    OnBlockingThread,
    /// In the driver's own task: for calls that take microseconds, and for simulated time.
    Inline,
}

/// What a rank is told.
#[derive(Clone, Debug)]
pub struct RankOptions {
    /// The run.
    pub run: RunId,
    /// Which rank this is.
    pub rank: Rank,
    /// Which life of it: greater than any before. [`RankOptions::incarnation_now`] is.
    pub incarnation: Incarnation,
    /// How many ranks the run has; the coordinator's must be the same.
    pub world: u32,
    /// The last epoch; the coordinator's must be the same.
    pub last_epoch: Epoch,
    /// What all processes of the run share.
    pub token: Token,
    /// Where the coordinator is.
    pub coordinator: SocketAddr,
    /// Where to take the other ranks' connections; port 0 is any that is free.
    pub listen: SocketAddr,
    /// Where the others find that. By default, the listener's port at the address that the
    /// coordinator sees. **A rank on the coordinator's own machine that reaches it as 127.0.0.1 is
    /// seen there, where ranks on other machines find nobody:** give it the machine's address, or
    /// let it reach the coordinator by that.
    pub advertise: Option<SocketAddr>,
    /// How long things may take.
    pub timing: Timing,
    /// Where to keep a checkpoint, and to begin from it if one is there.
    pub checkpoint: Option<PathBuf>,
    /// Where the trainee's calls are made.
    pub calls: Calls,
    /// The most bytes of parameters that are copied from another rank.
    pub most_state_bytes: u64,
}

impl RankOptions {
    /// Options of a rank that listens on any free port of the address it reaches the coordinator
    /// from, with a new incarnation, default timing and no checkpoint.
    #[must_use]
    pub fn new(run: &RunConfig, rank: Rank, token: Token, coordinator: SocketAddr) -> Self {
        let unspecified = match coordinator {
            SocketAddr::V4(_) => SocketAddr::from(([0, 0, 0, 0], 0)),
            SocketAddr::V6(_) => SocketAddr::from(([0_u16; 8], 0)),
        };
        RankOptions {
            run: run.run,
            rank,
            incarnation: Self::incarnation_now(),
            world: run.world,
            last_epoch: run.last_epoch,
            token,
            coordinator,
            listen: unspecified,
            advertise: None,
            timing: Timing::default(),
            checkpoint: None,
            calls: Calls::default(),
            most_state_bytes: 4 << 30,
        }
    }

    /// An incarnation for a process that starts now: nanoseconds of the wall clock since 1970. It
    /// is greater than any before as long as that clock is not set back between two starts of
    /// one rank; a rank that comes with an earlier one is refused, and may be started again.
    #[must_use]
    #[allow(
        clippy::disallowed_methods,
        clippy::disallowed_types,
        reason = "nothing but the wall clock outlives a process that keeps no file"
    )]
    pub fn incarnation_now() -> Incarnation {
        let since = std::time::SystemTime::UNIX_EPOCH.elapsed();
        let nanos = since.map_or(1, |since| since.as_nanos());
        Incarnation(u64::try_from(nanos).unwrap_or(u64::MAX - 1))
    }

    pub(super) fn check(&self) -> Result<(), OptionsError> {
        if self.rank.0 >= self.world {
            return Err(OptionsError::Rank {
                rank: self.rank,
                world: self.world,
            });
        }
        self.timing.check()
    }
}

/// What a coordinator begins from.
#[derive(Clone, Debug)]
pub enum Start {
    /// Goes on from its store; where that is empty, the run begins from this record.
    GoOnOr(CommitRecord),
    /// All of the run was stopped, and begins again from the store's record of this epoch (the
    /// last one, if none is given), with new lives of its ranks that have the checkpoint of it.
    /// Records after it are forgotten: **each time that it is given**, so a coordinator that is
    /// started again later is given [`GoOnOr`](Self::GoOnOr).
    Again(Option<Epoch>),
}

/// What a coordinator is told.
#[derive(Clone, Debug)]
pub struct CoordinatorOptions {
    /// The run.
    pub config: RunConfig,
    /// What it begins from.
    pub start: Start,
    /// What all processes of the run share.
    pub token: Token,
    /// Where to take connections; port 0 is any that is free.
    pub listen: SocketAddr,
    /// How long things may take.
    pub timing: Timing,
    /// So many connections may be at the door at once; more are refused.
    pub most_at_door: usize,
}

impl CoordinatorOptions {
    /// Options of a coordinator with default timing.
    #[must_use]
    pub fn new(config: RunConfig, start: Start, token: Token, listen: SocketAddr) -> Self {
        CoordinatorOptions {
            config,
            start,
            token,
            listen,
            timing: Timing::default(),
            most_at_door: 64,
        }
    }

    pub(super) fn check(&self) -> Result<(), OptionsError> {
        if self.most_at_door == 0 {
            return Err(OptionsError::NobodyAtDoor);
        }
        self.timing.check()
    }
}

/// Options that make no sense.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum OptionsError {
    /// Everybody would be suspected.
    #[error(
        "a heartbeat every {heartbeat:?} and suspicion after {suspect_after:?}; \
         leave time for two heartbeats, neither of them zero"
    )]
    Heartbeat {
        /// How often.
        heartbeat: Duration,
        /// How long a silence.
        suspect_after: Duration,
    },
    /// The soft one is to come first.
    #[error("the soft deadline must be above zero and not after the hard one, not {0:?}")]
    Deadlines(Deadlines),
    /// No clock counts so far.
    #[error("{0:?} is too long; give at most {limit:?}", limit = Timing::LONGEST)]
    TooLong(Duration),
    /// Nobody could come back.
    #[error("reconnect_within must be at least a millisecond, not {0:?}")]
    Reconnect(Duration),
    /// A frame could not hold it.
    #[error("a bucket of {len} values does not fit in a frame; give at most {most}")]
    Bucket {
        /// How many values it has.
        len: usize,
        /// How many it may have.
        most: usize,
    },
    /// Nobody could get in.
    #[error("time at the door must be above zero")]
    Door,
    /// Nobody could get in.
    #[error("most_at_door must be above zero")]
    NobodyAtDoor,
    /// There is no such rank.
    #[error("{rank} is not in a world of {world}; ranks are counted from 0")]
    Rank {
        /// Which.
        rank: Rank,
        /// How many there are.
        world: u32,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timing_that_cannot_work_is_refused_by_name() {
        let good = Timing::default();
        assert_eq!(good.check(), Ok(()));
        let refused = |change: fn(&mut Timing)| {
            let mut timing = good;
            change(&mut timing);
            timing.check().unwrap_err()
        };
        for change in [
            (|t| t.heartbeat = Duration::MAX) as fn(&mut Timing),
            |t| t.suspect_after = Duration::MAX,
            |t| t.reconnect_within = Duration::MAX,
            |t| t.deadlines.hard = Duration::MAX,
            |t| t.admission.hard = Duration::MAX,
            |t| t.door = Duration::MAX,
        ] {
            assert_eq!(refused(change), OptionsError::TooLong(Duration::MAX));
        }
        let nobody = refused(|t| t.reconnect_within = Duration::ZERO);
        assert_eq!(nobody, OptionsError::Reconnect(Duration::ZERO));
        let busy = refused(|t| t.heartbeat = t.suspect_after);
        assert!(matches!(busy, OptionsError::Heartbeat { .. }));
        let late = refused(|t| t.deadlines.soft = t.deadlines.hard * 2);
        assert!(matches!(late, OptionsError::Deadlines(_)));
        assert_eq!(refused(|t| t.door = Duration::ZERO), OptionsError::Door);
    }

    /// A member that is silent is let go of after the coordinator's hard deadline, and so is
    /// another that then does not enter the new view. Others must still be there.
    #[test]
    fn ranks_wait_for_the_coordinator_longer_than_it_waits_for_others() {
        for (hard, suspect_after) in [(15, 5), (1, 4), (3600, 60)] {
            let mut timing = Timing::default();
            timing.deadlines.hard = Duration::from_secs(hard);
            timing.suspect_after = Duration::from_secs(suspect_after);
            let answer = timing.answer().hard;
            assert!(answer >= timing.deadlines.hard * 2 + timing.suspect_after);
            assert!(timing.back_within() >= timing.most_delay() * 2 + timing.door);
            assert!(timing.back_within() >= timing.suspect_after);
        }
    }
}
