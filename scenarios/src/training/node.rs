//! One process of a run: a rank that trains, or the coordinator.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use selvedge_core::ddp::net::{
    CoordinatorError, CoordinatorOptions, CoordinatorReport, CoordinatorServer, Given, NetEvent,
    Noted, RankClient, RankError, RankOptions, RankReport, SlotAlpha, Start, Store, Timing, Token,
    Trainee, TraineeError,
};
use selvedge_core::ddp::{CommitRecord, Epoch, Failure, GateMetrics, Rank, RunConfig, SlotId};
use selvedge_core::train::CompileConfig;
use selvedge_core::train::compiled_step::ConfigError;
use selvedge_core::train::profiler::{
    Args, CloseError, OpenError, Profiler, ProfilerConfig, ProfilerSession, Schedule, Spans,
};
use thiserror::Error;
use tokio::runtime::Runtime;
use tokio::sync::mpsc;
use tracing::info_span;

use super::data::batches;
use super::event::{Event, Events};
use super::job::{Policy, genesis};
use super::sockets::CuttableSockets;
use super::trajectory::{Journal, Line};
use super::worker::Worker;

/// How often it is looked whether a run is to be given up.
const LOOK: Duration = Duration::from_millis(50);
/// A failure tells so many events that came before it.
const TOLD_BEFORE: usize = 20;

/// What a rank is to do.
pub struct RankJob {
    /// As who, where, and with what patience.
    pub options: RankOptions,
    /// What data and model are drawn from: the same on every rank.
    pub seed: u64,
    /// What a batch takes at least.
    pub batch_time: Duration,
    /// Where to write down what was applied; there must be no such file yet.
    pub journal: Option<PathBuf>,
    /// The directory for its profiler's trace; no profiler, if none.
    pub profile: Option<PathBuf>,
    /// Its sockets.
    pub sockets: CuttableSockets,
    /// Whom to tell.
    pub events: Events,
}

/// What a coordinator is to do.
pub struct CoordinatorJob {
    /// The run.
    pub config: RunConfig,
    /// What all its processes share.
    pub token: Token,
    /// Where to take connections.
    pub listen: SocketAddr,
    /// Its patience: that of all ranks.
    pub timing: Timing,
    /// Where to write down what must not be forgotten; in memory, if nowhere.
    pub store: Option<PathBuf>,
    /// Whom to tell.
    pub events: Events,
}

/// Why a process has not done its part.
#[derive(Debug, Error)]
pub enum NodeError {
    /// The rank is out of the run, and says why.
    #[error(transparent)]
    Rank(#[from] RankError),
    /// The coordinator has ended before the run.
    #[error(transparent)]
    Coordinator(#[from] CoordinatorError),
    /// The rank's patience leaves no time to compile in.
    #[error("cannot compile steps: {0}")]
    Compile(#[from] ConfigError),
    /// It was told to stop.
    #[error("interrupted")]
    Interrupted,
    /// There can be no profiler.
    #[error("no profiler: {0}")]
    NoProfiler(#[from] OpenError),
    /// All went well, but the profile is not complete.
    #[error(transparent)]
    Profile(#[from] CloseError),
    /// The machine did not give what was needed.
    #[error("{what}: {error}")]
    Io {
        /// What for.
        what: String,
        /// What it said.
        error: io::Error,
    },
}

impl NodeError {
    fn io(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let what = what.into();
        move |error| NodeError::Io { what, error }
    }
}

/// Trains as one rank until the run is over, the rank is out of it, or `stop` says so.
///
/// # Errors
/// [`NodeError`]; the event of a failure was told.
pub fn run_rank(job: RankJob, stop: impl Fn() -> bool) -> Result<RankReport, NodeError> {
    let Some(dir) = &job.profile else {
        return train(job, Profiler::off(), stop);
    };
    let spans = Spans::new();
    if spans.install().is_err() {
        // What the program's own subscriber does not hand on is not in the trace: the epochs are.
        eprintln!("selvedge: tracing goes elsewhere, so spans are not in the profile");
    }
    // Everything, and an epoch is a step. This process has a way of its own to be interrupted.
    let config = (ProfilerConfig::new(dir).schedule(Schedule::always()))
        .spans(&spans)
        .process(format!("rank {}", job.options.rank.0))
        .without_signals();
    let profiled = ProfilerSession::run(config, |profiler| train(job, profiler.clone(), stop))?;
    match (profiled.training, profiled.trace) {
        (Ok(report), Ok(_)) => Ok(report),
        (Ok(_), Err(error)) => Err(error.into()),
        (Err(error), trace) => {
            if let Err(trace) = trace {
                eprintln!("selvedge: {trace}");
            }
            Err(error)
        }
    }
}

fn train(
    job: RankJob,
    profiler: Profiler,
    stop: impl Fn() -> bool,
) -> Result<RankReport, NodeError> {
    let (rank, events) = (job.options.rank, job.events);
    let journal = (job.journal.map(|path| {
        let what = format!("cannot write a journal at {}", path.display());
        Journal::create(&path).map_err(NodeError::io(what))
    }))
    .transpose()?;
    let broken = Arc::new(Mutex::new(None));
    // No heartbeat is sent while it compiles.
    let silence = job.options.timing.suspect_after;
    let worker = Worker::new(job.seed, rank, job.batch_time).compiling_by(CompileConfig {
        patience: silence / 2,
        step_deadline: silence,
        ..CompileConfig::default()
    })?;
    let (alphas, steps) = worker.guards();
    let trained = Trained {
        worker,
        journal,
        written: None,
        awaited: None,
        broken: Arc::clone(&broken),
        events: events.clone(),
        profiler,
    };
    events.tell(&Event::Started {
        batches: batches(rank),
    });
    let told = events.clone();
    let mut telling = Telling::new(events);
    let ended = block_on(stop, async move {
        let client = RankClient::bind(job.sockets, job.options, trained).await?;
        client
            .guarded_by(alphas)
            .guarded_by(steps)
            .observed_by(move |noted: &Noted| telling.tell(&noted.event))
            .run()
            .await
    })?;
    let broken = broken.lock().unwrap_or_else(PoisonError::into_inner).take();
    if let Some(error) = broken {
        return Err(NodeError::io("cannot write the journal")(error));
    }
    match &ended {
        Ok(_) => told.tell(&Event::Done),
        Err(error) => told.tell(&failed(error)),
    }
    Ok(ended?)
}

/// Coordinates until the run is over and all have heard of it, or `stop` says so.
///
/// # Errors
/// [`NodeError`].
pub fn run_coordinator(
    job: CoordinatorJob,
    stop: impl Fn() -> bool,
) -> Result<CoordinatorReport, NodeError> {
    let run = job.config.run;
    let (told, events) = (job.events.clone(), job.events);
    let report = block_on(stop, async move {
        let store = match &job.store {
            Some(path) => Store::open_or_create(path, run)?,
            None => Store::in_memory(run)?,
        };
        let start = Start::GoOnOr(genesis(run));
        let mut options = CoordinatorOptions::new(job.config, start, job.token, job.listen);
        options.timing = job.timing;
        let server =
            CoordinatorServer::bind(selvedge_core::ddp::net::TcpSockets, options, store).await?;
        events.tell(&Event::Listening {
            address: server.local_addr()?.to_string(),
        });
        // The policy hears of each record as it is made, before any rank does, and its commands
        // are there before anybody can arrive at the end of the next epoch.
        let (decided, mut hears) = mpsc::unbounded_channel::<(Epoch, Vec<SlotAlpha>)>();
        let handle = server.handle();
        let policy = tokio::spawn(async move {
            let mut policy = Policy::default();
            while let Some((epoch, slots)) = hears.recv().await {
                for command in policy.after(epoch, &slots) {
                    if !handle.command(command).await {
                        return;
                    }
                }
            }
        });
        let mut telling = Telling::new(events.clone());
        let server = server.observed_by(move |noted: &Noted| {
            if let NetEvent::Committed { epoch, slots, .. } = &noted.event {
                // Where the policy has ended, so has the run.
                let _ = decided.send((*epoch, slots.clone()));
            }
            telling.tell(&noted.event);
        });
        let report = server.serve().await;
        policy.abort();
        report
    })?;
    match &report {
        Ok(_) => told.tell(&Event::Done),
        Err(error) => told.tell(&Event::Failed {
            reason: match error {
                CoordinatorError::Aborted { .. } => "aborted",
                _ => "coordinator",
            }
            .to_owned(),
            detail: error.to_string(),
            before: Vec::new(),
        }),
    }
    Ok(report?)
}

/// Runs `work` to its end, unless `stop` says so before.
fn block_on<T>(stop: impl Fn() -> bool, work: impl Future<Output = T>) -> Result<T, NodeError> {
    let runtime: Runtime = (tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build())
    .map_err(NodeError::io("cannot start tokio"))?;
    let ended = runtime.block_on(async {
        let mut work = pin!(work);
        loop {
            match tokio::time::timeout(LOOK, &mut work).await {
                Ok(ended) => return Some(ended),
                Err(_) if stop() => return None,
                Err(_) => {}
            }
        }
    });
    // A call of the trainee that is stuck is left behind.
    runtime.shutdown_background();
    ended.ok_or(NodeError::Interrupted)
}

/// A worker that writes down what it applies.
struct Trained {
    worker: Worker,
    journal: Option<Journal>,
    /// The last record that is in the journal: its epoch and its digest.
    written: Option<(Epoch, u64)>,
    /// The same record, where the parameters that go with it must be copied first.
    awaited: Option<CommitRecord>,
    broken: Arc<Mutex<Option<io::Error>>>,
    events: Events,
    profiler: Profiler,
}

impl Trainee for Trained {
    fn bucket_len(&self) -> usize {
        Worker::BUCKET
    }

    fn gradient(&mut self, epoch: Epoch, step: u64, bucket: &mut [f64]) -> Given {
        let _span = info_span!("gradient", epoch = epoch.0, step).entered();
        let more = self.worker.gradient(step, bucket);
        Given {
            active: more.is_some(),
            more: more.unwrap_or(false),
        }
    }

    fn apply_step(&mut self, sum: &[f64], active: u32, applied: u64) {
        let _span = info_span!("apply_step", active, applied).entered();
        self.worker.apply_step(sum, active, applied);
    }

    fn apply_epoch(&mut self, record: &CommitRecord) {
        {
            let _span = info_span!("apply_epoch", epoch = record.epoch.0).entered();
            self.worker.apply_epoch(record);
        }
        self.mark(record);
        // The same again is no news. Another one for the same epoch is what must never be, so it
        // has to be seen.
        let one = (record.epoch, record.digest());
        if self.written.replace(one) != Some(one) {
            self.write(record);
        }
    }

    fn measure(&mut self, slot: SlotId) -> GateMetrics {
        let _span = info_span!("measure", slot = slot.0).entered();
        self.worker.measure(slot)
    }

    fn save(&self) -> Vec<u8> {
        self.worker.save()
    }

    fn load(&mut self, bytes: &[u8]) -> Result<(), TraineeError> {
        self.worker
            .load(bytes)
            .map_err(|error| TraineeError(error.to_string()))?;
        if let Some(record) = self.awaited.take() {
            self.write(&record);
        }
        Ok(())
    }
}

impl Trained {
    /// Marks in the profile where an epoch's alphas took effect, and ends the profiler's step.
    fn mark(&self, record: &CommitRecord) {
        if self.profiler.is_recording() {
            let args = Args::new()
                .with("epoch", record.epoch.0)
                .with("applied", record.applied);
            let slots = record.schedule.slots().iter();
            let args = slots.fold(args, |args, slot| {
                let name = format!("alpha of slot {}", slot.id().0);
                args.with(&name, self.worker.alpha(slot.id()))
            });
            self.profiler.instant("ApplyEpoch", args);
        }
        // Whether to go on is for `stop` to say.
        let _ = self.profiler.step();
    }

    /// Writes down, and tells, what was applied.
    fn write(&mut self, record: &CommitRecord) {
        // Who is about to copy the parameters does not have this record's yet.
        let current = self.worker.applied() == record.applied;
        self.awaited = (!current).then(|| record.clone());
        let model = current.then(|| self.worker.digest());
        let line = Line::of(record, model, self.worker.last().filter(|_| current))
            .with_alphas(|slot| self.worker.alpha(slot));
        if let Some(Err(error)) = self.journal.as_mut().map(|journal| journal.write(&line)) {
            self.broken
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .get_or_insert(error);
        }
        self.events.tell(&Event::Applied(line));
    }
}

/// Says in our words what a driver notes.
struct Telling {
    events: Events,
    steps_us: Vec<u64>,
}

impl Telling {
    fn new(events: Events) -> Self {
        Telling {
            events,
            steps_us: Vec::new(),
        }
    }

    fn tell(&mut self, event: &NetEvent) {
        let us = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        let numbers = |ranks: &[Rank]| ranks.iter().map(|rank| rank.0).collect();
        let told = match event {
            NetEvent::Connected(member) => Event::Connected {
                rank: member.rank.0,
            },
            NetEvent::Disconnected(member) => Event::Disconnected {
                rank: member.rank.0,
            },
            NetEvent::ViewChange { view, members } => Event::View {
                view: view.0,
                members: numbers(members),
            },
            NetEvent::Step { latency, .. } => return self.steps_us.push(us(*latency)),
            NetEvent::Committed { epoch, latency, .. } => Event::Committed {
                epoch: epoch.0,
                latency_us: us(*latency),
                steps_us: core::mem::take(&mut self.steps_us),
            },
            NetEvent::SoftDeadline { wait, missing } => Event::Slow {
                wait: wait.clone(),
                missing: numbers(missing),
            },
            NetEvent::HardDeadline { wait, missing } => Event::Overdue {
                wait: wait.clone(),
                missing: numbers(missing),
            },
            NetEvent::Suspected(member) => Event::Suspected {
                rank: member.rank.0,
            },
            NetEvent::Refused(refusal) => Event::Refused {
                why: refusal.to_string(),
            },
            NetEvent::PeerLost { rank, .. } => Event::PeerLost { rank: rank.0 },
            NetEvent::Healed { applied, from } => Event::Healed {
                from: from.0,
                applied: *applied,
            },
            // How it ends is told when it has ended.
            _ => return,
        };
        self.events.tell(&told);
    }
}

fn failed(error: &RankError) -> Event {
    let events = error.events();
    let before = &events[events.len().saturating_sub(TOLD_BEFORE)..];
    Event::Failed {
        reason: reason(error).to_owned(),
        detail: error.to_string(),
        before: before
            .iter()
            .map(|noted| format!("{:?}", noted.event))
            .collect(),
    }
}

/// Why a rank is out of the run, in one word.
#[must_use]
pub fn reason(error: &RankError) -> &'static str {
    match error {
        RankError::Options(_) => "options",
        RankError::Listen(_) => "listen",
        RankError::Store(_) => "store",
        RankError::Refused { .. } => "refused",
        RankError::Load { .. } => "load",
        RankError::TraineeStuck { .. } => "trainee-stuck",
        RankError::TraineePanicked { .. } => "trainee-panicked",
        RankError::Failed { failure, .. } => match failure {
            Failure::Evicted(_) => "evicted",
            Failure::QuorumLost => "quorum-lost",
            Failure::StateLost => "state-lost",
            Failure::Diverged => "diverged",
            Failure::CoordinatorLost(_) => "coordinator-lost",
            Failure::TagMismatch => "tag-mismatch",
            Failure::BadRecord => "bad-record",
            Failure::Stalled(_) => "stalled",
        },
        _ => "other",
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use selvedge_core::ddp::RunId;

    use super::*;
    use crate::training::trajectory::read;

    fn trained(path: &Path) -> Trained {
        Trained {
            worker: Worker::new(1, Rank(0), Duration::ZERO),
            journal: Some(Journal::create(path).unwrap()),
            written: None,
            awaited: None,
            broken: Arc::default(),
            events: Events::nowhere(),
            profiler: Profiler::off(),
        }
    }

    #[test]
    fn a_record_is_written_once_and_another_for_its_epoch_as_well() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal");
        let mut trained = trained(&path);
        let one = genesis(RunId(1));
        let other = genesis(RunId(2));
        assert_eq!(one.epoch, other.epoch);
        trained.apply_epoch(&one);
        trained.apply_epoch(&one);
        assert_eq!(read(&path).unwrap().len(), 1);
        trained.apply_epoch(&other);
        let lines = read(&path).unwrap();
        assert_eq!(lines.len(), 2);
        assert_ne!(lines[0].record, lines[1].record);
    }

    /// Who joins has a record before it has the parameters: the journal has both.
    #[test]
    fn parameters_that_are_copied_are_written_down_when_they_are_there() {
        let dir = tempfile::tempdir().unwrap();
        let [here, there] = ["here", "there"].map(|name| dir.path().join(name));
        let (mut joiner, mut holder) = (trained(&here), trained(&there));
        let mut record = genesis(RunId(1));
        holder.apply_epoch(&record);
        let mut bucket = vec![0.0; Worker::BUCKET];
        holder.gradient(Epoch(1), 0, &mut bucket);
        holder.apply_step(&bucket, 1, 1);
        (record.epoch, record.applied) = (Epoch(1), 1);
        holder.apply_epoch(&record);

        joiner.apply_epoch(&record);
        let bare = read(&here).unwrap();
        assert_eq!((bare.len(), &bare[0].model), (1, &None));
        joiner.load(&holder.save()).unwrap();
        let lines = read(&here).unwrap();
        assert_eq!(lines.len(), 2);
        assert!(lines[1].completes(&lines[0]));
        assert_eq!(lines[1], read(&there).unwrap()[1]);
        joiner.load(&holder.save()).unwrap();
        assert_eq!(read(&here).unwrap().len(), 2, "another copy is no news");
    }
}
