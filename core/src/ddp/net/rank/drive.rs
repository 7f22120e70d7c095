//! The loop around a rank's machine: what it hears, in order, and the time. What the machine wants
//! done is done in [`perform`](super::perform).
//!
//! Everything comes through one queue, and between two events nothing is waited for but a call of
//! the trainee: so the coordinator is heard, and heartbeats are sent, while others are slow; and
//! while the trainee is stuck no heartbeat is sent.

use core::time::Duration;
use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};
use tokio::task::{JoinSet, yield_now};
use tokio::time::timeout;

use super::hands::Hands;
use super::mesh::Mesh;
use super::{RankReport, control, door};
use crate::ddp::collective::Contribution;
use crate::ddp::coordinator::Member;
use crate::ddp::ids::{Rank, View};
use crate::ddp::message::ToRank;
use crate::ddp::net::clock::Awake;
use crate::ddp::net::error::{RankError, Refusal, RefusedCounts};
use crate::ddp::net::link::Writer;
use crate::ddp::net::network::Network;
use crate::ddp::net::observe::{NetEvent, Recorder};
use crate::ddp::net::options::RankOptions;
use crate::ddp::net::store::Store;
use crate::ddp::net::trainee::Trainee;
use crate::ddp::net::wire::{self, Door, FromRank, Who};
use crate::ddp::rank::{RankConfig, RankEvent, RankState, RankWait};
use crate::ddp::watch::{Due, Watch};
use crate::time::Instant;
use crate::train::EpochGuard;

/// So many things that were heard may wait for the driver; some of them hold a gradient.
const INBOX: usize = 64;

/// What the driver is told.
#[derive(Debug)]
pub(super) enum Heard {
    /// There is a connection to the coordinator.
    Up { link: u64, writer: Writer },
    /// It is gone.
    Down { link: u64, refusal: Option<Refusal> },
    /// The coordinator does not want this rank.
    NotLetIn(Refusal),
    Says {
        message: ToRank,
        book: Vec<(Rank, SocketAddr)>,
    },
    /// Another rank's contribution.
    Gives {
        from: Rank,
        given: Contribution,
        bucket: Vec<f64>,
    },
    /// Another rank has opened a connection to send its contributions on.
    PeerThere { view: View, rank: Rank, link: u64 },
    /// The connection to another rank is gone, or this one from it.
    PeerLost {
        view: View,
        rank: Rank,
        link: Option<u64>,
    },
    /// Another rank wants the parameters of this version.
    CopyAsked {
        view: View,
        applied: u64,
        reply: oneshot::Sender<Bytes>,
    },
    Copied {
        view: View,
        from: Rank,
        applied: u64,
        bytes: Vec<u8>,
    },
    /// Somebody was refused.
    Stranger(Refusal),
}

pub(super) struct Drive<N: Network, T: Trainee> {
    pub(super) network: N,
    pub(super) options: RankOptions,
    pub(super) state: RankState,
    /// What came of its actions and it was not told yet.
    pub(super) follows: VecDeque<RankEvent>,
    pub(super) hands: Hands<T>,
    pub(super) bucket_len: usize,
    pub(super) mesh: Mesh<N>,
    pub(super) sum: Vec<f64>,
    pub(super) coordinator: Option<(u64, Writer)>,
    pub(super) book: BTreeMap<Rank, SocketAddr>,
    /// A copy under way.
    pub(super) copying: JoinSet<()>,
    /// What was saved last for a copy, and its version: several may want the same.
    pub(super) saved: Option<(u64, Bytes)>,
    pub(super) store: Option<Store>,
    pub(super) recorder: Recorder,
    /// Whom to tell of records, beside the trainee.
    pub(super) guards: Vec<Box<dyn EpochGuard>>,
    pub(super) refused: RefusedCounts,
    pub(super) clock: Awake,
    tick: Duration,
    beat_at: Instant,
    watch: Watch<RankWait>,
    admission: Watch<RankWait>,
    answer: Watch<RankWait>,
    /// When the present contribution was made, or the arrival.
    pub(super) since: Instant,
    /// What the last step took, until its sum was there.
    pub(super) step_took: Duration,
    pub(super) sender: mpsc::Sender<Heard>,
    inbox: mpsc::Receiver<Heard>,
    /// Dropped at the end, and all connections with them.
    tasks: [JoinSet<()>; 2],
}

impl<N: Network, T: Trainee> Drive<N, T> {
    pub(super) async fn start(
        network: N,
        listener: N::Listener,
        port: u16,
        options: RankOptions,
        trainee: T,
        recorder: Recorder,
        guards: Vec<Box<dyn EpochGuard>>,
    ) -> Result<Self, RankError> {
        let timing = options.timing;
        let (sender, inbox) = mpsc::channel(INBOX);
        let bucket_len = trainee.bucket_len();
        let mut store = None;
        let mut checkpoint = None;
        if let Some(path) = &options.checkpoint {
            let opened = Store::of_rank(path, options.run, options.rank)?;
            checkpoint = opened.checkpoint()?;
            store = Some(opened);
        }
        let member = Member {
            rank: options.rank,
            incarnation: options.incarnation,
        };
        let door = Door {
            run: options.run,
            token: options.token.0.clone(),
            who: Who::Rank {
                member,
                world: options.world,
                last_epoch: options.last_epoch,
                port,
                advertise: options.advertise,
            },
        };
        let rules = door::Rules {
            run: options.run,
            rank: options.rank,
            token: options.token.clone(),
            bucket: bucket_len,
            timing,
        };
        let mesh = Mesh::new(
            network.clone(),
            options.rank,
            door.clone(),
            bucket_len,
            timing,
            sender.clone(),
        );
        let config = RankConfig {
            run: options.run,
            rank: options.rank,
            last_epoch: options.last_epoch,
        };
        let mut clock = Awake::new(timing.heartbeat);
        let now = clock.now();
        let mut actions = Vec::new();
        let (record, parameters) = checkpoint.unzip();
        // Its first words are left out: it says them again when there is a connection.
        let state = RankState::start(config, options.incarnation, record.clone(), &mut actions);
        let mut drive = Drive {
            hands: Hands::new(trainee, options.calls, timing.deadlines),
            state,
            follows: VecDeque::new(),
            bucket_len,
            mesh,
            sum: Vec::new(),
            coordinator: None,
            book: BTreeMap::new(),
            copying: JoinSet::new(),
            saved: None,
            store,
            recorder,
            guards,
            refused: RefusedCounts::default(),
            clock,
            tick: timing.heartbeat / 2,
            beat_at: now + timing.heartbeat,
            watch: Watch::new(timing.deadlines),
            admission: Watch::new(timing.admission),
            answer: Watch::new(timing.answer()),
            since: now,
            step_took: Duration::ZERO,
            sender,
            inbox,
            tasks: [JoinSet::new(), JoinSet::new()],
            network,
            options,
        };
        if let (Some(checkpoint), Some(parameters)) = (record, parameters) {
            drive.load(parameters).await?;
            drive.tell_record(checkpoint.record).await?;
        }
        let (network, to) = (drive.network.clone(), drive.options.coordinator);
        let seed = options_seed(member);
        let sender = drive.sender.clone();
        let door_open = door::open(network.clone(), listener, rules, sender.clone());
        let mut keeping = JoinSet::new();
        keeping.spawn(control::keep(network, to, door, timing, seed, sender));
        drive.tasks = [door_open, keeping];
        Ok(drive)
    }

    pub(super) fn is_over(&self) -> bool {
        self.state.wait().is_none()
    }

    /// Hears one thing, or waits for it for a while; then does what there is to do by now.
    pub(super) async fn turn(&mut self) -> Result<(), RankError> {
        let next = [self.watch.next(), self.admission.next(), self.answer.next()];
        let next = next.into_iter().flatten().fold(self.beat_at, Instant::min);
        let mut patience = self.clock.until(next).min(self.tick);
        if !self.follows.is_empty() {
            patience = Duration::ZERO;
            // The tasks of its connections may run on this very thread.
            yield_now().await;
        }
        // Its own sender is among them, so it is never told that all are gone.
        if let Ok(Some(heard)) = timeout(patience, self.inbox.recv()).await {
            self.hear(heard).await?;
        } else if self.has_lost_a_task() {
            // What it has said before it ended comes first: why it is not let in, for one.
            let Ok(heard) = self.inbox.try_recv() else {
                let events = self.recorder.take();
                return Err(RankError::ConnectionsEnded { events });
            };
            self.hear(heard).await?;
        }
        if let Some(event) = self.follows.pop_front() {
            self.tell(event).await?;
        }
        let now = self.clock.now();
        if now >= self.beat_at {
            self.beat_at = now + self.options.timing.heartbeat;
            self.tell(RankEvent::Beat).await?;
        }
        self.observe().await
    }

    /// Neither ends but with this: what is left could only wait for its deadlines.
    fn has_lost_a_task(&mut self) -> bool {
        self.tasks.iter_mut().any(|task| {
            task.try_join_next();
            task.is_empty()
        })
    }

    async fn hear(&mut self, heard: Heard) -> Result<(), RankError> {
        match heard {
            Heard::Up { link, writer } => {
                self.coordinator = Some((link, writer));
                self.note(NetEvent::Connected(self.member()));
                self.tell(RankEvent::Reconnected).await
            }
            Heard::Down { link, refusal } => {
                refusal.into_iter().for_each(|refusal| self.refuse(refusal));
                if self.coordinator.as_ref().is_some_and(|(at, _)| *at == link) {
                    self.coordinator = None;
                    self.note(NetEvent::Disconnected(self.member()));
                }
                Ok(())
            }
            Heard::NotLetIn(refusal) => {
                self.refuse(refusal);
                let events = self.recorder.take();
                Err(RankError::Refused { refusal, events })
            }
            Heard::Says { message, book } => {
                self.book.extend(book);
                self.tell(RankEvent::Message(message)).await
            }
            Heard::Gives {
                from,
                given,
                bucket,
            } => {
                let view = given.tag.view;
                let outcome = match self.mesh.take(from, given, bucket) {
                    Ok(outcome) => outcome,
                    Err(()) => {
                        self.refuse(Refusal::Malformed);
                        self.mesh.lose(view, from, None)
                    }
                };
                self.tell_outcome(outcome).await
            }
            Heard::PeerThere { view, rank, link } => {
                self.mesh.heard_from(view, rank, link);
                Ok(())
            }
            Heard::PeerLost { view, rank, link } => {
                if view >= self.state.view() {
                    self.note(NetEvent::PeerLost { rank, view });
                }
                let outcome = self.mesh.lose(view, rank, link);
                self.tell_outcome(outcome).await
            }
            Heard::CopyAsked {
                view,
                applied,
                reply,
            } => {
                let copying = matches!(self.state.wait(), Some(RankWait::Copy { .. }));
                let fits = (view, applied) == (self.state.view(), self.state.applied());
                // Whoever has hung up meanwhile asks again, here or elsewhere.
                if fits && !copying && !reply.is_closed() {
                    let bytes = self.copy_of(applied).await?;
                    drop(reply.send(bytes));
                }
                Ok(())
            }
            Heard::Copied {
                view,
                from,
                applied,
                bytes,
            } => {
                if self.state.wait() != Some(RankWait::Copy { view }) {
                    return Ok(());
                }
                self.load(bytes).await?;
                self.note(NetEvent::Healed { applied, from });
                self.tell(RankEvent::Healed { view }).await
            }
            Heard::Stranger(refusal) => {
                self.refuse(refusal);
                Ok(())
            }
        }
    }

    /// Looks whether a wait has become too long.
    async fn observe(&mut self) -> Result<(), RankError> {
        let now = self.clock.now();
        let wait = self.state.wait();
        let mut due = None;
        for (watch, whose) in [
            (&mut self.watch, WaitFor::Others),
            (&mut self.admission, WaitFor::Admission),
            (&mut self.answer, WaitFor::Answer),
        ] {
            let wait = wait.filter(|&wait| WaitFor::of(wait) == whose);
            due = due.or(watch.observe(wait, now));
        }
        match due {
            None => Ok(()),
            Some(Due::Soft(wait)) => {
                let (wait, missing) = (format!("{wait:?}"), self.missing(wait));
                self.note(NetEvent::SoftDeadline { wait, missing });
                Ok(())
            }
            Some(Due::Hard(wait)) => {
                let (name, missing) = (format!("{wait:?}"), self.missing(wait));
                let wait_name = name;
                self.note(NetEvent::HardDeadline {
                    wait: wait_name,
                    missing,
                });
                self.tell(RankEvent::HardDeadline(wait)).await
            }
        }
    }

    fn missing(&self, wait: RankWait) -> Vec<Rank> {
        match wait {
            RankWait::Step { .. } => self.mesh.missing(),
            _ => Vec::new(),
        }
    }

    pub(super) const fn member(&self) -> Member {
        Member {
            rank: self.options.rank,
            incarnation: self.options.incarnation,
        }
    }

    fn refuse(&mut self, refusal: Refusal) {
        self.refused.count(refusal);
        self.note(NetEvent::Refused(refusal));
    }

    pub(super) fn note(&mut self, event: NetEvent) {
        let now = self.clock.now();
        self.recorder.note(now, event);
    }

    /// Says goodbye, waits until that was heard, and closes everything.
    pub(super) async fn end(mut self) -> Result<RankReport, RankError> {
        let failure = self.state.failure();
        let bye = FromRank::Bye {
            failed: failure.is_some(),
        };
        if let Some((_, writer)) = self.coordinator.take()
            && let Some(frame) = wire::control(&bye)
            && writer.try_send(frame).is_ok()
        {
            drop(writer);
            // The coordinator closes the connection when it has heard it.
            let patience = self.options.timing.reconnect_within;
            let heard = timeout(patience, async {
                while let Some(heard) = self.inbox.recv().await {
                    if matches!(heard, Heard::Down { .. }) {
                        break;
                    }
                }
            });
            drop(heard.await);
        }
        if let Some(failure) = failure {
            let events = self.recorder.take();
            return Err(RankError::Failed { failure, events });
        }
        let record = self.state.record().cloned();
        Ok(RankReport {
            rank: self.options.rank,
            incarnation: self.options.incarnation,
            record: record.expect("INVARIANT: a rank that is done has applied the last record"),
            applied: self.state.applied(),
            view: self.state.view(),
            refused: self.refused,
        })
    }
}

/// Whose deadlines a wait has.
#[derive(Clone, Copy, PartialEq)]
enum WaitFor {
    Others,
    Admission,
    /// The coordinator's word, which may have to wait for others in turn.
    Answer,
}

impl WaitFor {
    const fn of(wait: RankWait) -> Self {
        match wait {
            RankWait::Admission => WaitFor::Admission,
            RankWait::Commit { .. } | RankWait::Resume { .. } => WaitFor::Answer,
            RankWait::Step { .. } | RankWait::Votes { .. } | RankWait::Copy { .. } => {
                WaitFor::Others
            }
        }
    }
}

/// Ranks that are started together shall not try again together.
fn options_seed(member: Member) -> u64 {
    member.incarnation.0.wrapping_mul(31) ^ u64::from(member.rank.0)
}
