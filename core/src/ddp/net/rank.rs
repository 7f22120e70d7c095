//! [`RankClient`]: a rank's driver.

use std::net::SocketAddr;

use super::error::{RankError, RefusedCounts};
use super::network::Network;
use super::observe::{Observer, Recorder};
use super::options::{OptionsError, RankOptions};
use super::trainee::Trainee;
use super::wire;
use crate::ddp::ids::{Incarnation, Rank, View};
use crate::ddp::record::CommitRecord;
use crate::train::EpochGuard;

mod control;
mod copy;
mod door;
mod drive;
mod hands;
mod mesh;
mod perform;

use drive::Drive;

/// How a run ended for a rank that saw its end.
#[derive(Clone, Debug)]
pub struct RankReport {
    /// The rank.
    pub rank: Rank,
    /// Which life of it.
    pub incarnation: Incarnation,
    /// The last record.
    pub record: CommitRecord,
    /// The version of its parameters.
    pub applied: u64,
    /// The last view it was in.
    pub view: View,
    /// Who was refused at its own door.
    pub refused: RefusedCounts,
}

/// One rank: drives the machine, trains the trainee, talks to the coordinator and the others.
///
/// **Bind, then run to the end.** It runs in one task, with others that read and write its
/// connections; a runtime of one thread will do.
pub struct RankClient<N: Network, T: Trainee> {
    network: N,
    options: RankOptions,
    trainee: T,
    listener: N::Listener,
    recorder: Recorder,
    guards: Vec<Box<dyn EpochGuard>>,
}

impl<N: Network, T: Trainee> RankClient<N, T> {
    /// Checks everything and listens for other ranks.
    ///
    /// # Errors
    /// [`RankError::Options`], [`RankError::Listen`].
    pub async fn bind(network: N, options: RankOptions, trainee: T) -> Result<Self, RankError> {
        options.check()?;
        let len = trainee.bucket_len();
        if len > wire::MOST_BUCKET {
            let most = wire::MOST_BUCKET;
            return Err(OptionsError::Bucket { len, most }.into());
        }
        let listener = network.bind(options.listen).await;
        Ok(RankClient {
            listener: listener.map_err(RankError::Listen)?,
            network,
            options,
            trainee,
            recorder: Recorder::new(),
            guards: Vec::new(),
        })
    }

    /// Where it listens for other ranks.
    ///
    /// # Errors
    /// [`RankError::Listen`].
    pub fn local_addr(&self) -> Result<SocketAddr, RankError> {
        let address = self.network.local_addr(&self.listener);
        address.map_err(RankError::Listen)
    }

    /// Tells `observer` what happens.
    #[must_use]
    pub fn observed_by(mut self, observer: impl Observer) -> Self {
        self.recorder.tell(Box::new(observer));
        self
    }

    /// Tells `guard` of every record, once the trainee has applied it, that of a checkpoint
    /// included: an
    /// [`AlphaCache`](crate::train::AlphaCache) which entries are of the past, a `CompiledStep`
    /// that it may compile again. Any number of them, in the order of these calls.
    #[must_use]
    pub fn guarded_by(mut self, guard: impl EpochGuard) -> Self {
        self.guards.push(Box::new(guard));
        self
    }

    /// Runs to the end. To drop the future is to crash.
    ///
    /// # Errors
    /// Each of [`RankError`].
    pub async fn run(self) -> Result<RankReport, RankError> {
        let port = self.local_addr()?.port();
        let (network, listener) = (self.network, self.listener);
        let mut drive = Drive::start(
            network,
            listener,
            port,
            self.options,
            self.trainee,
            self.recorder,
            self.guards,
        )
        .await?;
        while !drive.is_over() {
            drive.turn().await?;
        }
        drive.end().await
    }
}
