//! [`Store`]: what a coordinator must not forget, and what a rank begins again from, in a file of
//! redb's. One transaction a change: after a crash the file has the state before or after it,
//! whatever was torn. A file that is open is locked, so a run has one coordinator at a time.

use std::io;
use std::path::Path;

use redb::{
    Builder, Database, DatabaseError, ReadableDatabase, ReadableTable, StorageBackend,
    TableDefinition,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use thiserror::Error;

use crate::ddp::coordinator::{Durable, RunConfig};
use crate::ddp::ids::{Epoch, Rank, RunId};
use crate::ddp::rank::RankCheckpoint;
use crate::ddp::record::CommitRecord;

/// What this file is: `format`, `run`, `owner`.
const ABOUT: TableDefinition<'_, &str, u64> = TableDefinition::new("about");
/// One row: the coordinator's [`Durable`], or a rank's record.
const STATE: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("state");
/// Every record since the run began, by epoch.
const LOG: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("log");

const FORMAT: u64 = 1;
const COORDINATOR: u64 = u64::MAX;
const DURABLE: &str = "durable";
const RECORD: &str = "record";
const PARAMETERS: &str = "parameters";
/// What is kept is small; redb's default would be a gigabyte.
const CACHE_BYTES: usize = 4 << 20;

/// Why a store cannot be used.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum StoreError {
    /// There is no such file.
    #[error("there is no store at {path}; create one, or check the path")]
    Missing {
        /// Where.
        path: String,
    },
    /// Another process has it open.
    #[error("the store is in use: another coordinator or rank runs with it; end that first")]
    InUse,
    /// It is not a file of a store.
    #[error("this is not a store, or it is damaged: {0}")]
    NotAStore(String),
    /// It is another run's.
    #[error("the store is of run {found}, not of run {expected}")]
    OtherRun {
        /// Its run.
        found: u64,
        /// The run asked for.
        expected: u64,
    },
    /// It was made by another version.
    #[error("the store has format {found}; this version reads format {FORMAT}")]
    OtherFormat {
        /// Its format.
        found: u64,
    },
    /// It is a coordinator's where a rank's was wanted, or another rank's.
    #[error("the store is {found}'s, not {expected}'s")]
    OtherOwner {
        /// Whose it is.
        found: String,
        /// Whose was wanted.
        expected: String,
    },
    /// What is in it cannot be.
    #[error("what is stored as {what} cannot be read: {why}")]
    Damaged {
        /// Which part.
        what: String,
        /// What is wrong with it.
        why: String,
    },
    /// The disk.
    #[error("the store failed: {0}")]
    Failed(#[from] redb::Error),
}

/// A coordinator's store, or (from within a rank's driver) a rank's.
pub struct Store {
    database: Database,
    /// The last record in the log.
    logged: Option<Epoch>,
}

impl Store {
    /// The coordinator's store at `path`, made if there is none.
    ///
    /// # Errors
    /// Each of [`StoreError`] but `Missing`.
    pub fn open_or_create(path: impl AsRef<Path>, run: RunId) -> Result<Self, StoreError> {
        let database = builder().create(path).map_err(StoreError::opening)?;
        Self::of(database, run, COORDINATOR)
    }

    /// The coordinator's store at `path`.
    ///
    /// # Errors
    /// Each of [`StoreError`].
    pub fn open(path: impl AsRef<Path>, run: RunId) -> Result<Self, StoreError> {
        let path = path.as_ref();
        if !path.exists() {
            let path = path.display().to_string();
            return Err(StoreError::Missing { path });
        }
        Self::open_or_create(path, run)
    }

    /// A store that is gone when it is dropped: a coordinator with this one cannot go on after a
    /// crash.
    ///
    /// # Errors
    /// None that can be expected.
    pub fn in_memory(run: RunId) -> Result<Self, StoreError> {
        Self::with_backend(redb::backends::InMemoryBackend::new(), run)
    }

    /// The coordinator's store in whatever `backend` is.
    ///
    /// # Errors
    /// Each of [`StoreError`] but `Missing`.
    pub fn with_backend(backend: impl StorageBackend, run: RunId) -> Result<Self, StoreError> {
        let database = builder().create_with_backend(backend);
        Self::of(database.map_err(StoreError::opening)?, run, COORDINATOR)
    }

    /// A rank's checkpoints at `path`, made if there is none.
    pub(super) fn of_rank(path: &Path, run: RunId, rank: Rank) -> Result<Self, StoreError> {
        let database = builder().create(path).map_err(StoreError::opening)?;
        Self::of(database, run, u64::from(rank.0))
    }

    fn of(database: Database, run: RunId, owner: u64) -> Result<Self, StoreError> {
        let write = database.begin_write().map_err(redb::Error::from)?;
        {
            let mut about = write.open_table(ABOUT).map_err(redb::Error::from)?;
            let mut row = |name, value| -> Result<u64, redb::Error> {
                let found = about.get(name)?.map(|found| found.value());
                if found.is_none() {
                    about.insert(name, value)?;
                }
                Ok(found.unwrap_or(value))
            };
            let found = row("format", FORMAT)?;
            if found != FORMAT {
                return Err(StoreError::OtherFormat { found });
            }
            let found = row("run", run.0)?;
            if found != run.0 {
                let expected = run.0;
                return Err(StoreError::OtherRun { found, expected });
            }
            let found = row("owner", owner)?;
            if found != owner {
                let (found, expected) = (named(found), named(owner));
                return Err(StoreError::OtherOwner { found, expected });
            }
            write.open_table(STATE).map_err(redb::Error::from)?;
            write.open_table(LOG).map_err(redb::Error::from)?;
        }
        write.commit().map_err(redb::Error::from)?;
        let mut store = Store {
            database,
            logged: None,
        };
        store.logged = store.log()?.last().map(|record| record.epoch);
        Ok(store)
    }

    /// What the coordinator has written down last; nothing in a new store.
    ///
    /// # Errors
    /// [`StoreError::Damaged`], [`StoreError::Failed`].
    pub fn durable(&self) -> Result<Option<Durable>, StoreError> {
        self.state(DURABLE)
    }

    /// Every record since the run began, in the order of epochs.
    ///
    /// # Errors
    /// [`StoreError::Damaged`], [`StoreError::Failed`].
    pub fn log(&self) -> Result<Vec<CommitRecord>, StoreError> {
        let read = self.database.begin_read().map_err(redb::Error::from)?;
        let log = read.open_table(LOG).map_err(redb::Error::from)?;
        let mut records = Vec::new();
        for row in log.range::<u64>(..).map_err(redb::Error::from)? {
            let (epoch, bytes) = row.map_err(redb::Error::from)?;
            let name = format!("the record of epoch {}", epoch.value());
            records.push(decode(&name, bytes.value())?);
        }
        Ok(records)
    }

    /// Writes a coordinator's durable part down. When this returns, it survives a power cut.
    pub(super) fn persist(&mut self, durable: &Durable) -> Result<(), StoreError> {
        let record = &durable.record;
        let news = self.logged.is_none_or(|logged| logged < record.epoch);
        self.write(|write| {
            let mut state = write.open_table(STATE)?;
            state.insert(DURABLE, &encode(durable)[..])?;
            if news {
                let mut log = write.open_table(LOG)?;
                log.insert(record.epoch.0, &encode(record)[..])?;
            }
            Ok(())
        })?;
        self.logged = self.logged.max(Some(record.epoch));
        Ok(())
    }

    /// What a run begins again from: the record of `epoch`, or the last, and no member yet. Views
    /// and lives go on from where they were. `None` if there is no such record. Nothing is
    /// changed by asking.
    pub(super) fn again(&self, epoch: Option<Epoch>) -> Result<Option<Durable>, StoreError> {
        let Some(durable) = self.durable()? else {
            return Ok(None);
        };
        let epoch = epoch.unwrap_or(durable.record.epoch);
        let mut log = self.log()?.into_iter();
        let Some(record) = log.find(|record| record.epoch == epoch) else {
            return Ok(None);
        };
        Ok(Some(Durable {
            view: durable.view,
            members: Vec::new(),
            lives: durable.lives,
            record,
            aborted: None,
        }))
    }

    /// Goes back to what [`again`](Self::again) gave: later records are forgotten.
    pub(super) fn go_back(&mut self, durable: &Durable) -> Result<(), StoreError> {
        let epoch = durable.record.epoch;
        self.write(|write| {
            let mut state = write.open_table(STATE)?;
            state.insert(DURABLE, &encode(durable)[..])?;
            let mut log = write.open_table(LOG)?;
            log.retain_in(epoch.0.saturating_add(1).., |_, _| false)?;
            Ok(())
        })?;
        self.logged = Some(epoch);
        Ok(())
    }

    pub(super) fn checkpoint(&self) -> Result<Option<(RankCheckpoint, Vec<u8>)>, StoreError> {
        let Some(record) = self.state(RECORD)? else {
            return Ok(None);
        };
        let read = self.database.begin_read().map_err(redb::Error::from)?;
        let state = read.open_table(STATE).map_err(redb::Error::from)?;
        let bytes = state.get(PARAMETERS).map_err(redb::Error::from)?;
        let Some(bytes) = bytes else {
            let (what, why) = (PARAMETERS.to_owned(), "it is missing".to_owned());
            return Err(StoreError::Damaged { what, why });
        };
        Ok(Some((RankCheckpoint { record }, bytes.value().to_vec())))
    }

    pub(super) fn save_checkpoint(
        &mut self,
        checkpoint: &RankCheckpoint,
        parameters: &[u8],
    ) -> Result<(), StoreError> {
        self.write(|write| {
            let mut state = write.open_table(STATE)?;
            state.insert(RECORD, &encode(&checkpoint.record)[..])?;
            state.insert(PARAMETERS, parameters)?;
            Ok(())
        })
    }

    fn state<T: DeserializeOwned>(&self, name: &'static str) -> Result<Option<T>, StoreError> {
        let read = self.database.begin_read().map_err(redb::Error::from)?;
        let state = read.open_table(STATE).map_err(redb::Error::from)?;
        let bytes = state.get(name).map_err(redb::Error::from)?;
        bytes.map(|bytes| decode(name, bytes.value())).transpose()
    }

    fn write(
        &mut self,
        change: impl FnOnce(&redb::WriteTransaction) -> Result<(), redb::Error>,
    ) -> Result<(), StoreError> {
        let write = self.database.begin_write().map_err(redb::Error::from)?;
        change(&write)?;
        // Immediate durability is redb's default: when it returns, it is on the disk.
        write.commit().map_err(redb::Error::from)?;
        Ok(())
    }
}

impl core::fmt::Debug for Store {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Store")
            .field("logged", &self.logged)
            .finish_non_exhaustive()
    }
}

/// Whether a coordinator with `config` can go on from `durable`.
pub(super) fn fits(durable: &Durable, config: &RunConfig) -> Result<(), StoreError> {
    let members = durable.members.len();
    let least = config.min_world as usize;
    if durable.aborted.is_none() && (1..least).contains(&members) {
        return Err(StoreError::Damaged {
            what: DURABLE.to_owned(),
            why: format!("{members} members, of at least {least}"),
        });
    }
    Ok(())
}

impl StoreError {
    fn opening(error: DatabaseError) -> Self {
        use redb::StorageError;
        match error {
            DatabaseError::DatabaseAlreadyOpen | DatabaseError::LockProtocolMismatch => {
                StoreError::InUse
            }
            DatabaseError::UpgradeRequired(found) => StoreError::OtherFormat {
                found: u64::from(found),
            },
            DatabaseError::Storage(StorageError::Corrupted(why)) => StoreError::NotAStore(why),
            DatabaseError::Storage(StorageError::Io(error))
                if error.kind() == io::ErrorKind::InvalidData =>
            {
                StoreError::NotAStore(error.to_string())
            }
            error => StoreError::Failed(error.into()),
        }
    }
}

fn builder() -> Builder {
    let mut builder = Builder::new();
    builder.set_cache_size(CACHE_BYTES);
    builder
}

fn named(owner: u64) -> String {
    match owner {
        COORDINATOR => "the coordinator".to_owned(),
        rank => format!("rank {rank}"),
    }
}

fn encode(value: &impl Serialize) -> Vec<u8> {
    postcard::to_stdvec(value).expect("INVARIANT: these types have lengths, and memory grows")
}

fn decode<T: DeserializeOwned>(what: &str, bytes: &[u8]) -> Result<T, StoreError> {
    postcard::from_bytes(bytes).map_err(|error| StoreError::Damaged {
        what: what.to_owned(),
        why: error.to_string(),
    })
}

#[cfg(test)]
mod tests;
