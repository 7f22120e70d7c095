//! What the tests of the epoch step over a network share: a trainee that is small and exact, a
//! schedule in which alpha moves, ranks as threads with runtimes of their own.
#![allow(dead_code, reason = "each test binary uses a part")]

pub(crate) mod proxy;

use std::net::SocketAddr;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use selvedge_core::ddp::net::{
    Calls, CoordinatorError, CoordinatorHandle, CoordinatorOptions, CoordinatorReport,
    CoordinatorServer, Given, NetEvent, Noted, RankClient, RankError, RankOptions, RankReport,
    SlotAlpha, Start, Store, TcpSockets, Timing, Token, Trainee, TraineeError,
};
use selvedge_core::ddp::{
    BlueprintId, CommitRecord, Deadlines, Epoch, GateMetrics, Rank, RunConfig, RunId, Schedule,
    SeedId, SeedSlot, SeedStage, SlotId, SlotRules, Strictness,
};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::oneshot;

pub(crate) const BUCKET: usize = 64;

/// What a trainee has seen, for a test to look at.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seen {
    /// The digest and the alphas of each record, by epoch.
    pub(crate) epochs: Vec<(Epoch, u64, Vec<SlotAlpha>)>,
    pub(crate) parameters: Vec<f64>,
    pub(crate) steps: u64,
    pub(crate) loads: u32,
}

/// Parameters that depend on every gradient and on their order.
pub(crate) struct Tiny {
    pub(crate) rank: u32,
    pub(crate) batches: u64,
    pub(crate) pause: Duration,
    /// At this epoch the whole process stands still for so long, once.
    pub(crate) freeze: Option<(Epoch, Duration)>,
    pub(crate) seen: Arc<Mutex<Seen>>,
    parameters: Vec<f64>,
}

impl Tiny {
    pub(crate) fn new(rank: u32, batches: u64) -> Self {
        Self::sized(rank, batches, BUCKET)
    }

    pub(crate) fn sized(rank: u32, batches: u64, bucket: usize) -> Self {
        Tiny {
            rank,
            batches,
            pause: Duration::ZERO,
            freeze: None,
            seen: Arc::default(),
            parameters: vec![1.0; bucket],
        }
    }
}

impl Trainee for Tiny {
    fn bucket_len(&self) -> usize {
        self.parameters.len()
    }

    fn gradient(&mut self, epoch: Epoch, step: u64, bucket: &mut [f64]) -> Given {
        if !self.pause.is_zero() {
            thread::sleep(self.pause);
        }
        if let Some((_, stand_still)) = self.freeze.take_if(|(at, _)| *at == epoch) {
            thread::sleep(stand_still);
        }
        let active = step < self.batches;
        if active {
            for (at, value) in bucket.iter_mut().enumerate() {
                let noise = (u64::from(self.rank) * 7 + epoch.0 * 13 + step * 31 + at as u64) % 97;
                *value = self.parameters[at] * 0.1 + noise as f64 / 97.0;
            }
        }
        Given {
            active,
            more: step + 1 < self.batches,
        }
    }

    fn apply_step(&mut self, sum: &[f64], active: u32, _applied: u64) {
        for (parameter, sum) in self.parameters.iter_mut().zip(sum) {
            *parameter -= 0.01 * sum / f64::from(active.max(1));
        }
        let mut seen = self.seen.lock().unwrap();
        seen.steps += 1;
        seen.parameters.clone_from(&self.parameters);
    }

    fn apply_epoch(&mut self, record: &CommitRecord) {
        let mut seen = self.seen.lock().unwrap();
        let entry = (record.epoch, record.digest(), SlotAlpha::of(record));
        if seen.epochs.last() != Some(&entry) {
            seen.epochs.push(entry);
        }
    }

    fn measure(&mut self, _: SlotId) -> GateMetrics {
        GateMetrics {
            improvement: Some(f64::from(self.rank)),
            gradient_ratio: Some(1.0),
            gradient_health: Some(0.9),
            contribution: Some(2.0),
        }
    }

    fn save(&self) -> Vec<u8> {
        self.parameters
            .iter()
            .flat_map(|value| value.to_le_bytes())
            .collect()
    }

    fn load(&mut self, bytes: &[u8]) -> Result<(), TraineeError> {
        let expected = self.parameters.len() * 8;
        if bytes.len() != expected {
            let error = format!("{} bytes of parameters, not {expected}", bytes.len());
            return Err(TraineeError(error));
        }
        let values = bytes
            .chunks_exact(8)
            .map(|b| f64::from_le_bytes(b.try_into().unwrap()));
        self.parameters = values.collect();
        let mut seen = self.seen.lock().unwrap();
        seen.loads += 1;
        seen.parameters.clone_from(&self.parameters);
        Ok(())
    }
}

pub(crate) const RUN: RunId = RunId(0x5e1f);

pub(crate) fn config(world: u32, last: u64) -> RunConfig {
    RunConfig {
        run: RUN,
        world,
        min_world: 2.min(world),
        last_epoch: Epoch(last),
    }
}

/// A seed that has begun to blend, and one that wants to train: alpha moves, and is voted on.
pub(crate) fn genesis() -> CommitRecord {
    let rules = SlotRules {
        strictness: Strictness::Permissive,
        auto_g1: true,
        auto_g2: true,
        auto_g3: true,
        blend_steps: 40,
        ..SlotRules::default()
    };
    let mut blending = SeedSlot::new(SlotId(0), rules);
    blending.germinate(SeedId(1), BlueprintId(1)).unwrap();
    let metrics = Tiny::new(0, 0).measure(SlotId(0));
    while blending.stage() != SeedStage::Blending {
        let decision = blending.question().map(|question| {
            let vote = blending.evaluate(question, &metrics).vote(question);
            rules.reduction.decide(question, &[vote])
        });
        blending.step_epoch(decision.as_ref());
    }
    let mut fresh = SeedSlot::new(SlotId(1), rules);
    fresh.germinate(SeedId(2), BlueprintId(1)).unwrap();
    let schedule = Schedule::new([blending, fresh]).unwrap();
    CommitRecord::genesis(RUN, Epoch(0), 0, schedule)
}

pub(crate) fn token() -> Token {
    Token::new("a token of the tests").unwrap()
}

/// Quick enough for a test, slow enough for a machine that is busy with others.
pub(crate) fn timing() -> Timing {
    Timing {
        heartbeat: Duration::from_millis(50),
        suspect_after: Duration::from_millis(1500),
        reconnect_within: Duration::from_millis(1000),
        deadlines: Deadlines {
            soft: Duration::from_secs(1),
            hard: Duration::from_secs(15),
        },
        admission: Deadlines {
            soft: Duration::from_secs(5),
            hard: Duration::from_secs(30),
        },
        door: Duration::from_secs(1),
    }
}

pub(crate) fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

/// A task on a thread with a runtime of its own. To end it is to crash: its connections close.
pub(crate) struct Process<R> {
    end: Option<oneshot::Sender<()>>,
    thread: Option<thread::JoinHandle<Option<R>>>,
}

impl<R: Send + 'static> Process<R> {
    pub(crate) fn start<F: Future<Output = R>>(make: impl FnOnce() -> F + Send + 'static) -> Self {
        let (end, ended) = oneshot::channel::<()>();
        let thread = thread::spawn(move || {
            let runtime = runtime();
            let result = runtime.block_on(async {
                let mut work = std::pin::pin!(make());
                let mut ended = ended;
                std::future::poll_fn(|cx| {
                    if let std::task::Poll::Ready(result) = work.as_mut().poll(cx) {
                        return std::task::Poll::Ready(Some(result));
                    }
                    match std::pin::Pin::new(&mut ended).poll(cx) {
                        std::task::Poll::Ready(Ok(())) => std::task::Poll::Ready(None),
                        _ => std::task::Poll::Pending,
                    }
                })
                .await
            });
            runtime.shutdown_background();
            result
        });
        Process {
            end: Some(end),
            thread: Some(thread),
        }
    }

    pub(crate) fn kill(mut self) {
        self.end.take().unwrap().send(()).ok();
        self.thread.take().unwrap().join().unwrap();
    }

    pub(crate) fn join(mut self) -> R {
        // Kept, so that nobody takes its end for ours.
        let result = self.thread.take().unwrap().join().unwrap();
        result.expect("it was not killed")
    }
}

pub(crate) type Events = Arc<Mutex<Vec<Noted>>>;

pub(crate) struct Coordinator {
    pub(crate) address: SocketAddr,
    pub(crate) handle: CoordinatorHandle,
    pub(crate) events: Events,
    pub(crate) news: Receiver<NetEvent>,
    pub(crate) process: Process<Result<CoordinatorReport, CoordinatorError>>,
}

pub(crate) fn coordinator(config: RunConfig, listen: SocketAddr, store: Store) -> Coordinator {
    let options = CoordinatorOptions {
        timing: timing(),
        ..CoordinatorOptions::new(config, Start::GoOnOr(genesis()), token(), listen)
    };
    coordinator_with(options, store)
}

pub(crate) fn coordinator_with(options: CoordinatorOptions, store: Store) -> Coordinator {
    let events = Events::default();
    let (tell, news) = channel();
    let (bound, address) = channel();
    let log = events.clone();
    let process = Process::start(move || serve(options, store, log, tell, bound));
    let (address, handle) = address.recv().unwrap();
    Coordinator {
        address,
        handle,
        events,
        news,
        process,
    }
}

async fn serve(
    options: CoordinatorOptions,
    store: Store,
    events: Events,
    tell: Sender<NetEvent>,
    bound: Sender<(SocketAddr, CoordinatorHandle)>,
) -> Result<CoordinatorReport, CoordinatorError> {
    let server = CoordinatorServer::bind(TcpSockets, options, store).await?;
    bound.send((server.local_addr()?, server.handle())).unwrap();
    let observer = move |noted: &Noted| {
        events.lock().unwrap().push(noted.clone());
        // A test need not listen.
        tell.send(noted.event.clone()).ok();
    };
    server.observed_by(observer).serve().await
}

pub(crate) struct RankProcess {
    pub(crate) seen: Arc<Mutex<Seen>>,
    pub(crate) events: Events,
    pub(crate) process: Process<Result<RankReport, RankError>>,
}

pub(crate) fn rank_options(config: &RunConfig, rank: u32, coordinator: SocketAddr) -> RankOptions {
    RankOptions {
        timing: timing(),
        calls: Calls::Inline,
        ..RankOptions::new(config, Rank(rank), token(), coordinator)
    }
}

pub(crate) fn rank(options: RankOptions, trainee: Tiny) -> RankProcess {
    let (seen, events) = (trainee.seen.clone(), Events::default());
    let log = events.clone();
    let process = Process::start(move || async move {
        let client = RankClient::bind(TcpSockets, options, trainee).await?;
        let observer = move |noted: &Noted| log.lock().unwrap().push(noted.clone());
        client.observed_by(observer).run().await
    });
    RankProcess {
        seen,
        events,
        process,
    }
}

pub(crate) fn loopback() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

/// Waits until the coordinator says what is looked for.
pub(crate) fn wait_for(news: &Receiver<NetEvent>, what: impl Fn(&NetEvent) -> bool) {
    loop {
        let event = news.recv_timeout(Duration::from_secs(30));
        if what(&event.expect("the coordinator says it within half a minute")) {
            return;
        }
    }
}

pub(crate) fn committed(epoch: u64) -> impl Fn(&NetEvent) -> bool {
    move |event| matches!(event, NetEvent::Committed { epoch: e, .. } if e.0 >= epoch)
}
