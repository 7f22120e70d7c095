//! The epoch step over loopback: real sockets, a thread and a runtime for each rank.
#![cfg(feature = "net")]
#![allow(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "processes here are std's threads"
)]

mod net;

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use net::proxy::Proxy;
use net::{
    RankProcess, Seen, Tiny, committed, config, coordinator, coordinator_with, genesis, loopback,
    rank, rank_options, timing, token, wait_for,
};
use redb::ReadableDatabase;
use selvedge_core::ddp::net::{
    Calls, CoordinatorError, CoordinatorOptions, CoordinatorServer, Given, NetEvent, Network,
    Noted, OptionsError, RankClient, RankError, Start, Store, TcpSockets, Trainee, TraineeError,
};
use selvedge_core::ddp::{
    AbortReason, CommitRecord, Epoch, Failure, GateMetrics, Rank, RunConfig, Schedule, SeedSlot,
    SeedStage, SlotId, SlotRules,
};
use selvedge_core::train::{AlphaCache, AlphaKey, Dtype, EpochGuard};
use tokio::net::{TcpListener, TcpStream};

const BATCHES: [u64; 4] = [1, 2, 1, 3];

#[test]
fn four_ranks_with_uneven_loaders_agree_on_every_alpha() {
    let config = config(4, 12);
    let server = coordinator(config, loopback(), Store::in_memory(config.run).unwrap());
    let ranks: Vec<_> = (0..4)
        .map(|r| {
            rank(
                rank_options(&config, r, server.address),
                Tiny::new(r, BATCHES[r as usize]),
            )
        })
        .collect();
    let mut seen = Vec::new();
    for rank in ranks {
        let report = rank.process.join().unwrap();
        assert_eq!((report.record.epoch, report.applied), (Epoch(12), 12 * 3));
        seen.push(rank.seen.lock().unwrap().clone());
    }
    let report = server.process.join().unwrap();
    assert_eq!(report.record.epoch, Epoch(12));
    let epochs: Vec<Epoch> = seen[0].epochs.iter().map(|(epoch, ..)| *epoch).collect();
    assert_eq!(epochs, (0..=12).map(Epoch).collect::<Vec<_>>());
    for other in &seen[1..] {
        assert_eq!(other.epochs, seen[0].epochs, "alpha differs");
        assert_eq!(other.parameters, seen[0].parameters, "to the last bit");
    }
    // Not vacuous: alpha has moved, and a gate was passed.
    let alphas: Vec<u64> = seen[0]
        .epochs
        .iter()
        .map(|(.., slots)| slots[0].alpha_bits)
        .collect();
    assert!(
        alphas.windows(2).all(|pair| pair[0] < pair[1]),
        "{alphas:?}"
    );
    assert_eq!(seen[0].epochs[1].2[1].stage, SeedStage::Training);
    assert!(!server.news.try_iter().any(|event| committed(13)(&event)));
}

/// Cut as one who does not read, the rank would come back and be cut again, for ever.
#[test]
fn a_record_that_has_no_room_in_a_frame_is_the_coordinators_error_by_name() {
    let config = config(1, 2);
    let slots = (0..600_000).map(|id| SeedSlot::new(SlotId(id), SlotRules::default()));
    let schedule = Schedule::new(slots).unwrap();
    let genesis = CommitRecord::genesis(config.run, Epoch(0), 0, schedule);
    let mut options = CoordinatorOptions::new(config, Start::GoOnOr(genesis), token(), loopback());
    options.timing = timing();
    let server = coordinator_with(options, Store::in_memory(config.run).unwrap());
    let rank = rank(rank_options(&config, 0, server.address), tiny(0));
    let Err(error) = server.process.join() else {
        panic!("the run ended as if the record had fitted");
    };
    assert!(
        matches!(
            error,
            CoordinatorError::Oversized {
                epoch: Epoch(0),
                ..
            }
        ),
        "{error:?}"
    );
    rank.process.kill();
}

/// What all ranks of a run agree on, whatever happened to some of them meanwhile.
fn agree(seen: &[Seen]) {
    let longest = seen.iter().max_by_key(|seen| seen.epochs.len()).unwrap();
    for other in seen {
        for entry in &other.epochs {
            assert!(
                longest.epochs.contains(entry),
                "{entry:?} in {:?}",
                longest.epochs
            );
        }
    }
}

/// The epoch of the record in a rank's file.
fn checkpointed(path: &Path) -> Epoch {
    let table: redb::TableDefinition<'_, &str, &[u8]> = redb::TableDefinition::new("state");
    let file = redb::Database::open(path).unwrap();
    let state = file.begin_read().unwrap().open_table(table).unwrap();
    let bytes = state.get("record").unwrap().expect("it has a checkpoint");
    postcard::from_bytes::<CommitRecord>(bytes.value())
        .unwrap()
        .epoch
}

fn tiny(rank: u32) -> Tiny {
    let mut tiny = Tiny::new(rank, BATCHES[rank as usize % 4]);
    // Long enough for the test to do something meanwhile.
    tiny.pause = Duration::from_millis(1);
    tiny
}

fn all_ranks(config: &RunConfig, address: SocketAddr) -> Vec<RankProcess> {
    let ranks = 0..config.world;
    ranks
        .map(|r| rank(rank_options(config, r, address), tiny(r)))
        .collect()
}

fn finish(ranks: Vec<RankProcess>, last: u64) -> Vec<Seen> {
    let seen: Vec<_> = ranks
        .into_iter()
        .map(|rank| {
            let report = rank.process.join().unwrap();
            assert_eq!(report.record.epoch, Epoch(last));
            rank.seen.lock().unwrap().clone()
        })
        .collect();
    agree(&seen);
    for other in &seen {
        assert_eq!(other.parameters, seen[0].parameters, "to the last bit");
    }
    seen
}

#[test]
fn a_rank_that_was_killed_rejoins_at_a_boundary_with_a_copy() {
    let config = config(4, 60);
    let server = coordinator(config, loopback(), Store::in_memory(config.run).unwrap());
    let mut ranks = all_ranks(&config, server.address);
    wait_for(&server.news, committed(5));
    let killed = ranks.remove(2);
    killed.process.kill();
    let of_killed = killed.seen.lock().unwrap().clone();
    wait_for(
        &server.news,
        |event| matches!(event, NetEvent::Suspected(m) if m.rank == Rank(2)),
    );
    ranks.push(rank(rank_options(&config, 2, server.address), tiny(2)));
    wait_for(
        &server.news,
        |event| matches!(event, NetEvent::ViewChange { members, .. } if members.len() == 4),
    );
    let seen = finish(ranks, 60);
    assert_eq!(seen[3].loads, 1, "it has copied the parameters");
    agree(&[of_killed, seen[0].clone()]);
    server.process.join().unwrap();
}

#[test]
fn a_coordinator_that_was_killed_goes_on_from_its_store() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("coordinator.redb");
    let config = config(4, 60);
    let open = || Store::open_or_create(&path, config.run).unwrap();
    let server = coordinator(config, loopback(), open());
    let ranks = all_ranks(&config, server.address);
    wait_for(&server.news, committed(5));
    let address = server.address;
    server.process.kill();
    let decided = open().durable().unwrap().unwrap().record.epoch;
    assert!(decided >= Epoch(5));
    let server = coordinator(config, address, open());
    let seen = finish(ranks, 60);
    assert_eq!(seen[0].epochs.len(), 61);
    let report = server.process.join().unwrap();
    let log = open().log().unwrap();
    assert_eq!(log.last(), Some(&report.record));
    let digests: Vec<u64> = log.iter().map(|record| record.digest()).collect();
    let applied: Vec<u64> = seen[0]
        .epochs
        .iter()
        .map(|(_, digest, _)| *digest)
        .collect();
    assert_eq!(
        digests, applied,
        "what was applied is what was written down"
    );
}

#[test]
fn connections_that_are_cut_are_made_again() {
    let config = config(3, 60);
    let server = coordinator(config, loopback(), Store::in_memory(config.run).unwrap());
    let control = Proxy::to(server.address);
    // The second rank is reached through a proxy by all, the coordinator through one by it.
    let free = std::net::TcpListener::bind(loopback()).unwrap();
    let listen = free.local_addr().unwrap();
    drop(free);
    let data = Proxy::to(listen);
    let ranks: Vec<_> = (0..3)
        .map(|r| {
            let mut options = rank_options(&config, r, server.address);
            if r == 1 {
                options.coordinator = control.address;
                (options.listen, options.advertise) = (listen, Some(data.address));
            }
            rank(options, tiny(r))
        })
        .collect();
    wait_for(&server.news, committed(5));
    assert!(control.cut() > 0);
    wait_for(&server.news, |event| {
        matches!(event, NetEvent::Connected(_))
    });
    wait_for(&server.news, committed(15));
    assert!(data.cut() > 0);
    wait_for(&server.news, |event| {
        matches!(event, NetEvent::ViewChange { .. })
    });
    finish(ranks, 60);
    server.process.join().unwrap();
    let events = server.events.lock().unwrap();
    let mut suspected = events
        .iter()
        .filter(|n| matches!(n.event, NetEvent::Suspected(_)));
    assert_eq!(suspected.next(), None, "nobody lost his membership");
}

#[test]
fn a_rank_whose_trainee_is_stuck_is_left_behind_and_ends_with_a_reason() {
    let config = config(3, 30);
    let server = coordinator(config, loopback(), Store::in_memory(config.run).unwrap());
    let mut ranks = Vec::new();
    for r in 0..3 {
        let mut options = rank_options(&config, r, server.address);
        let mut trainee = tiny(r);
        if r == 1 {
            options.calls = Calls::OnBlockingThread;
            options.timing.deadlines.hard = Duration::from_secs(4);
            trainee.pause = Duration::from_secs(3600);
        }
        ranks.push(rank(options, trainee));
    }
    let stuck = ranks.remove(1);
    wait_for(
        &server.news,
        |event| matches!(event, NetEvent::Suspected(m) if m.rank == Rank(1)),
    );
    let error = stuck.process.join().unwrap_err();
    assert!(
        matches!(
            error,
            RankError::TraineeStuck {
                call: "gradient",
                ..
            }
        ),
        "{error}"
    );
    let soft = |noted: &Noted| matches!(noted.event, NetEvent::SoftDeadline { .. });
    assert!(error.events().iter().any(soft));
    finish(ranks, 30);
    server.process.join().unwrap();
}

/// As if it were stopped by SIGSTOP: its thread runs nothing, its connections stay open.
#[test]
fn a_rank_that_stood_still_is_evicted_and_hears_so_when_it_wakes() {
    let config = config(3, 30);
    let server = coordinator(config, loopback(), Store::in_memory(config.run).unwrap());
    let mut ranks = Vec::new();
    for r in 0..3 {
        let mut trainee = tiny(r);
        let mut options = rank_options(&config, r, server.address);
        if r == 1 {
            trainee.freeze = Some((Epoch(4), Duration::from_secs(4)));
            // Longer than all its deadlines: it must not take its sleep for others' silence.
            options.timing.deadlines.hard = Duration::from_secs(2);
        }
        ranks.push(rank(options, trainee));
    }
    let frozen = ranks.remove(1);
    let others = finish(ranks, 30);
    let error = frozen.process.join().unwrap_err();
    let evicted = |failure: &Failure| matches!(failure, Failure::Evicted(_));
    assert!(
        matches!(&error, RankError::Failed { failure, .. } if evicted(failure)),
        "{error}"
    );
    agree(&[frozen.seen.lock().unwrap().clone(), others[0].clone()]);
    server.process.join().unwrap();
}

#[test]
fn a_run_that_never_forms_says_who_is_missing_and_ends() {
    let config = config(3, 5);
    let mut options =
        CoordinatorOptions::new(config, Start::GoOnOr(genesis()), token(), loopback());
    options.timing = timing();
    options.timing.deadlines.hard = Duration::from_secs(2);
    let server = coordinator_with(options, Store::in_memory(config.run).unwrap());
    let alone = rank(rank_options(&config, 1, server.address), tiny(1));
    let error = alone.process.join().unwrap_err();
    let failure = Failure::QuorumLost;
    assert!(
        matches!(error, RankError::Failed { failure: f, .. } if f == failure),
        "{error}"
    );
    let error = server.process.join().unwrap_err();
    let CoordinatorError::Aborted { reason, events } = error else {
        panic!("{error}");
    };
    assert_eq!(reason, AbortReason::QuorumLost);
    let named = |noted: &Noted| {
        let missing = [Rank(0), Rank(2)];
        matches!(&noted.event, NetEvent::SoftDeadline { missing: m, .. } if *m == missing)
    };
    assert!(events.iter().any(named), "{events:?}");
}

#[test]
fn all_of_a_run_was_stopped_and_begins_again_from_checkpoints() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("coordinator.redb");
    let config = config(3, 40);
    let open = || Store::open(&path, config.run).unwrap();
    let ranks = |address| -> Vec<RankProcess> {
        let options = |r| {
            let mut options = rank_options(&config, r, address);
            options.checkpoint = Some(folder.path().join(format!("rank-{r}.redb")));
            options
        };
        (0..3).map(|r| rank(options(r), tiny(r))).collect()
    };
    let store = Store::open_or_create(&path, config.run).unwrap();
    let server = coordinator(config, loopback(), store);
    let first = ranks(server.address);
    wait_for(&server.news, committed(6));
    server.process.kill();
    first.into_iter().for_each(|rank| rank.process.kill());
    // The last epoch that every rank has a checkpoint of, or of a later one: what their files say.
    let kept = (0..3).map(|r| checkpointed(&folder.path().join(format!("rank-{r}.redb"))));
    let again = kept.min().unwrap();
    let mut options =
        CoordinatorOptions::new(config, Start::Again(Some(again)), token(), loopback());
    options.timing = timing();
    let server = coordinator_with(options, open());
    let after = finish(ranks(server.address), 40);
    assert!(
        after
            .iter()
            .all(|seen| seen.epochs.iter().any(|entry| entry.0 == again))
    );
    server.process.join().unwrap();
    let log = open().log().unwrap();
    let epochs: Vec<u64> = log.iter().map(|record| record.epoch.0).collect();
    assert_eq!(epochs, (0..=40).collect::<Vec<_>>());
    for pair in log.windows(2) {
        pair[1].follows(&pair[0]).unwrap();
    }
}

#[test]
fn a_beginning_again_that_cannot_be_forgets_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("coordinator.redb");
    let config = config(2, 6);
    let open = || Store::open_or_create(&path, config.run).unwrap();
    let server = coordinator(config, loopback(), open());
    finish(all_ranks(&config, server.address), 6);
    server.process.join().unwrap();
    let kept = || {
        let store = open();
        (store.durable().unwrap(), store.log().unwrap())
    };
    let before = kept();
    let taken = std::net::TcpListener::bind(loopback()).unwrap();
    let mut options = CoordinatorOptions::new(
        config,
        Start::Again(Some(Epoch(2))),
        token(),
        taken.local_addr().unwrap(),
    );
    let bind = |options: CoordinatorOptions| {
        let bound = CoordinatorServer::bind(TcpSockets, options, open());
        net::runtime().block_on(bound).map(|_| ())
    };
    let error = bind(options.clone()).unwrap_err();
    assert!(matches!(error, CoordinatorError::Listen(_)), "{error}");
    options.listen = loopback();
    let mut other = options.clone();
    other.config.last_epoch = Epoch(1);
    let error = bind(other).unwrap_err();
    assert!(matches!(error, CoordinatorError::Config(_)), "{error}");
    assert_eq!(kept(), before);
    bind(options).unwrap();
    assert_eq!(open().log().unwrap(), before.1[..3]);
}

/// Sockets whose door panics when it is told to.
#[derive(Clone)]
struct Doomed(Arc<AtomicBool>);

impl Network for Doomed {
    type Stream = TcpStream;
    type Listener = TcpListener;

    async fn connect(&self, to: SocketAddr) -> io::Result<TcpStream> {
        TcpSockets.connect(to).await
    }

    async fn bind(&self, to: SocketAddr) -> io::Result<TcpListener> {
        TcpSockets.bind(to).await
    }

    async fn accept(&self, at: &TcpListener) -> io::Result<(TcpStream, SocketAddr)> {
        let accepted = TcpSockets.accept(at).await;
        assert!(!self.0.load(Ordering::SeqCst), "as the test wants it");
        accepted
    }

    fn local_addr(&self, of: &TcpListener) -> io::Result<SocketAddr> {
        TcpSockets.local_addr(of)
    }
}

#[test]
fn a_door_that_is_gone_is_an_error_of_its_own() {
    let config = config(2, 5);
    let doomed = Doomed(Arc::new(AtomicBool::new(true)));
    let options = CoordinatorOptions::new(config, Start::GoOnOr(genesis()), token(), loopback());
    let error = net::runtime().block_on(async {
        let store = Store::in_memory(config.run).unwrap();
        let server = CoordinatorServer::bind(doomed.clone(), options, store);
        let server = server.await.unwrap();
        let address = server.local_addr().unwrap();
        // A handle keeps the queue open.
        let _handle = server.handle();
        let _knock = tokio::spawn(TcpStream::connect(address));
        server.serve().await.unwrap_err()
    });
    assert!(
        matches!(error, CoordinatorError::DoorShut { .. }),
        "{error}"
    );
    let server = coordinator(config, loopback(), Store::in_memory(config.run).unwrap());
    let error = net::runtime().block_on(async {
        let options = rank_options(&config, 0, server.address);
        let client = RankClient::bind(doomed, options, tiny(0)).await.unwrap();
        let port = client.local_addr().unwrap().port();
        let to = SocketAddr::new(server.address.ip(), port);
        let _knock = tokio::spawn(TcpStream::connect(to));
        client.run().await.unwrap_err()
    });
    assert!(
        matches!(error, RankError::ConnectionsEnded { .. }),
        "{error}"
    );
    server.process.kill();
}

/// The epoch a guard was told of, and the last one that the trainee had applied by then.
type Telling = (Epoch, Option<Epoch>);

struct Told {
    trainee: Arc<Mutex<Seen>>,
    tellings: Arc<Mutex<Vec<Telling>>>,
}

impl Told {
    fn beside(trainee: &Tiny) -> Self {
        Told {
            trainee: trainee.seen.clone(),
            tellings: Arc::default(),
        }
    }
}

impl EpochGuard for Told {
    fn at_epoch(&mut self, record: &CommitRecord) {
        let trainee = self.trainee.lock().unwrap();
        let applied = trainee.epochs.last().map(|last| last.0);
        self.tellings.lock().unwrap().push((record.epoch, applied));
    }
}

/// Nobody has to remember to reset a cache: the driver tells each guard of each record, once the
/// trainee has applied it.
#[test]
fn guards_are_told_of_every_record() {
    let config = config(1, 4);
    let server = coordinator(config, loopback(), Store::in_memory(config.run).unwrap());
    let (trainee, alphas) = (tiny(0), AlphaCache::<selvedge_core::Std>::new(1).unwrap());
    let guard = Told::beside(&trainee);
    let tellings = Arc::clone(&guard.tellings);
    let mut worker = alphas.join::<u64>().unwrap();
    let key = AlphaKey::new(0, Dtype::F64, 0.5);
    worker.get_or_insert_with(key, || 1);
    net::runtime().block_on(async {
        let options = rank_options(&config, 0, server.address);
        let client = RankClient::bind(TcpSockets, options, trainee)
            .await
            .unwrap();
        let client = client.guarded_by(alphas.clone()).guarded_by(guard);
        client.run().await.unwrap();
    });
    server.process.join().unwrap();
    let each = |epoch| (Epoch(epoch), Some(Epoch(epoch)));
    assert_eq!(*tellings.lock().unwrap(), [0, 1, 2, 3, 4].map(each));
    assert_eq!(alphas.census().epoch, Some(Epoch(4)));
    assert_eq!(
        *worker.get_or_insert_with(key, || 2),
        2,
        "it was of another epoch"
    );
}

/// Who begins from a checkpoint applies its record before there is anybody to tell it one, and so do
/// its guards.
#[test]
fn guards_are_told_of_the_checkpoint() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("rank-0.redb");
    let config = config(1, 40);
    let server = coordinator(config, loopback(), Store::in_memory(config.run).unwrap());
    let options = |address| {
        let mut options = rank_options(&config, 0, address);
        options.checkpoint = Some(path.clone());
        options
    };
    let first = rank(options(server.address), tiny(0));
    wait_for(&server.news, committed(6));
    first.process.kill();
    server.process.kill();

    let trainee = tiny(0);
    let guard = Told::beside(&trainee);
    let tellings = Arc::clone(&guard.tellings);
    net::runtime().block_on(async {
        // Nobody is there: it gets no further than to what it has itself.
        let client = RankClient::bind(TcpSockets, options(loopback()), trainee);
        let client = client.await.unwrap().guarded_by(guard);
        let ended = tokio::time::timeout(Duration::from_millis(500), client.run()).await;
        assert!(ended.is_err(), "{ended:?}");
    });
    let epoch = checkpointed(&path);
    assert!(epoch > Epoch(0), "{epoch}");
    assert_eq!(*tellings.lock().unwrap(), [(epoch, Some(epoch))]);
}

#[test]
fn a_bucket_that_no_frame_can_hold_is_refused_before_anything_begins() {
    /// As large as it is said to be, without being there.
    struct Huge(Tiny);
    impl Trainee for Huge {
        fn bucket_len(&self) -> usize {
            1 << 29
        }
        fn gradient(&mut self, epoch: Epoch, step: u64, bucket: &mut [f64]) -> Given {
            self.0.gradient(epoch, step, bucket)
        }
        fn apply_step(&mut self, sum: &[f64], active: u32, applied: u64) {
            self.0.apply_step(sum, active, applied);
        }
        fn apply_epoch(&mut self, record: &CommitRecord) {
            self.0.apply_epoch(record);
        }
        fn measure(&mut self, slot: SlotId) -> GateMetrics {
            self.0.measure(slot)
        }
        fn save(&self) -> Vec<u8> {
            self.0.save()
        }
        fn load(&mut self, bytes: &[u8]) -> Result<(), TraineeError> {
            self.0.load(bytes)
        }
    }
    let config = config(2, 5);
    let options = rank_options(&config, 0, loopback());
    let bound = RankClient::bind(TcpSockets, options, Huge(tiny(0)));
    let error = net::runtime().block_on(bound).map(|_| ()).unwrap_err();
    assert!(
        matches!(error, RankError::Options(OptionsError::Bucket { len, .. }) if len == 1 << 29),
        "{error}"
    );
}
