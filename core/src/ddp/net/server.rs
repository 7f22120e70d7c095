//! [`CoordinatorServer`]: the coordinator's driver.

use std::net::SocketAddr;

use tokio::sync::mpsc;

use super::error::{CoordinatorError, RefusedCounts};
use super::network::Network;
use super::observe::{Observer, Recorder};
use super::options::{CoordinatorOptions, Start};
use super::store::{self, Store};
use crate::ddp::coordinator::{CoordinatorAction, CoordinatorState};
use crate::ddp::ids::View;
use crate::ddp::record::CommitRecord;
use crate::ddp::slot::SlotCommand;

mod door;
mod drive;

use drive::{Drive, Heard};

/// So many things that were heard may wait for the driver.
const INBOX: usize = 1024;

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
///
/// **One for a run at a time**; the lock on its store sees to that. It runs in one task, on a
/// runtime of one thread or more. Its store is written in that task: what is sent rests on it.
pub struct CoordinatorServer<N: Network> {
    network: N,
    options: CoordinatorOptions,
    store: Store,
    state: CoordinatorState,
    begin_with: Vec<CoordinatorAction>,
    listener: N::Listener,
    recorder: Recorder,
    inbox: (mpsc::Sender<Heard>, mpsc::Receiver<Heard>),
}

/// Tells a running coordinator something.
#[derive(Clone, Debug)]
pub struct CoordinatorHandle(mpsc::Sender<Heard>);

impl CoordinatorHandle {
    /// Asks that something be done with a slot, with the next record. False if the coordinator
    /// has ended.
    pub async fn command(&self, command: SlotCommand) -> bool {
        self.0.send(Heard::Command(command)).await.is_ok()
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
        mut store: Store,
    ) -> Result<Self, CoordinatorError> {
        options.check()?;
        let mut begin_with = Vec::new();
        let durable = match &options.start {
            Start::GoOnOr(_) => store.durable()?,
            Start::Again(epoch) => {
                let again = store.again(*epoch)?;
                Some(again.ok_or(CoordinatorError::NothingToBeginFrom)?)
            }
        };
        let state = match (durable, &options.start) {
            (Some(durable), _) => {
                store::fits(&durable, &options.config)?;
                CoordinatorState::restore(options.config, durable, &mut begin_with)?
            }
            (None, Start::GoOnOr(genesis)) => {
                let state = CoordinatorState::new(options.config, genesis.clone())?;
                begin_with.push(CoordinatorAction::Persist);
                state
            }
            (None, Start::Again(_)) => return Err(CoordinatorError::NothingToBeginFrom),
        };
        let listener = network.bind(options.listen).await;
        let listener = listener.map_err(CoordinatorError::Listen)?;
        if let Start::Again(_) = options.start {
            // Last of all: where anything is wrong with the rest, no record is forgotten.
            store.go_back(state.durable())?;
        }
        Ok(CoordinatorServer {
            network,
            options,
            store,
            state,
            begin_with,
            listener,
            recorder: Recorder::new(),
            inbox: mpsc::channel(INBOX),
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
        CoordinatorHandle(self.inbox.0.clone())
    }

    /// Serves until the run is over and all have heard of it. To drop the future is to crash.
    ///
    /// # Errors
    /// Each of [`CoordinatorError`].
    pub async fn serve(self) -> Result<CoordinatorReport, CoordinatorError> {
        let (sender, mut inbox) = self.inbox;
        let mut guard = door::open(self.network, self.listener, &self.options, sender);
        let mut drive = Drive::new(self.options, self.store, self.state, self.recorder);
        drive.act(self.begin_with)?;
        while !drive.is_over() {
            drive.turn(&mut inbox, &mut guard).await?;
        }
        drop(guard);
        drive.end()
    }
}
