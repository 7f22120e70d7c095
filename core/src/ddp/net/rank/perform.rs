//! What a rank's driver does about each action of its machine, in the order they were pushed.

use bytes::Bytes;

use super::copy;
use super::drive::Drive;
use super::hands::NoAnswer;
use super::mesh::Outcome;
use crate::ddp::collective::Contribution;
use crate::ddp::ids::Rank;
use crate::ddp::ids::View;
use crate::ddp::message::ToCoordinator;
use crate::ddp::net::error::RankError;
use crate::ddp::net::network::Network;
use crate::ddp::net::observe::{NetEvent, SlotAlpha};
use crate::ddp::net::trainee::Trainee;
use crate::ddp::net::wire::{self, Door, FromRank, Who};
use crate::ddp::rank::{RankAction, RankEvent};
use crate::ddp::record::CommitRecord;
use crate::ddp::tag::StepTag;

impl<N: Network, T: Trainee> Drive<N, T> {
    /// Gives the machine an event, and does what it wants done. What comes of that waits its turn:
    /// between any two events a heartbeat may be due.
    pub(super) async fn tell(&mut self, event: RankEvent) -> Result<(), RankError> {
        let mut out = Vec::new();
        self.state.on(event, &mut out);
        for action in out {
            let follows = self.perform(action).await?;
            self.follows.extend(follows);
        }
        Ok(())
    }

    pub(super) async fn tell_outcome(&mut self, outcome: Option<Outcome>) -> Result<(), RankError> {
        match self.event_of(outcome) {
            Some(event) => self.tell(event).await,
            None => Ok(()),
        }
    }

    fn event_of(&mut self, outcome: Option<Outcome>) -> Option<RankEvent> {
        Some(match outcome? {
            Outcome::Done {
                view,
                seq,
                reduced,
                sum,
            } => {
                self.sum = sum;
                self.step_took = self.clock.now().saturating_since(self.since);
                RankEvent::StepDone { view, seq, reduced }
            }
            Outcome::Failed { view, seq, lost } => RankEvent::StepFailed { view, seq, lost },
        })
    }

    async fn perform(&mut self, action: RankAction) -> Result<Option<RankEvent>, RankError> {
        match action {
            RankAction::Send(message) => self.send(message),
            RankAction::EnterView { view, members } => {
                let (book, ranks) = (self.book.clone(), members.clone());
                self.mesh
                    .enter(view, members, |rank| book.get(&rank).copied());
                self.note(NetEvent::ViewChange {
                    view,
                    members: ranks,
                });
            }
            RankAction::LeaveView(view) => {
                self.mesh.leave(view);
                self.copying.abort_all();
            }
            RankAction::Contribute { tag, step } => return self.contribute(tag, step).await,
            RankAction::ApplyStep { applied, active } => {
                self.saved = None;
                let sum = core::mem::take(&mut self.sum);
                let call = move |trainee: &mut T| trainee.apply_step(&sum, active, applied);
                self.call("apply_step", call).await?;
                if let Some(epoch) = self.state.epoch() {
                    self.note(NetEvent::Step {
                        epoch,
                        applied,
                        latency: self.step_took,
                    });
                }
            }
            RankAction::Vote { view, epoch } => {
                let schedule = self.state.record().map(|record| record.schedule.clone());
                let call = move |trainee: &mut T| {
                    let schedule = schedule.unwrap_or_default();
                    schedule.vote(|slot| trainee.measure(slot))
                };
                let votes = self.call("measure", call).await?;
                self.since = self.clock.now();
                return Ok(Some(RankEvent::Voted { view, epoch, votes }));
            }
            RankAction::Heal {
                view,
                applied,
                holders,
            } => self.heal(view, applied, &holders),
            RankAction::ApplyEpoch(record) => self.apply_epoch(record).await?,
            RankAction::Finish => {
                self.save_checkpoint().await?;
                self.note(NetEvent::Finished);
            }
            RankAction::Fail(failure) => {
                self.mesh.leave(self.state.view());
                self.note(NetEvent::Failed(failure));
            }
        }
        Ok(None)
    }

    fn send(&mut self, message: ToCoordinator) {
        let Some((_, writer)) = &self.coordinator else {
            // It is told what it must know when there is a connection again.
            return;
        };
        let frame = wire::control(&FromRank::Says(message));
        let sent = frame.is_some_and(|frame| writer.try_send(frame).is_ok());
        if !sent {
            // The coordinator does not read. A connection delivers all or ends.
            self.coordinator = None;
            self.note(NetEvent::Disconnected(self.member()));
        }
    }

    async fn contribute(
        &mut self,
        tag: StepTag,
        step: u64,
    ) -> Result<Option<RankEvent>, RankError> {
        self.save_checkpoint().await?;
        let mut bucket = vec![0.0; self.bucket_len];
        let call = move |trainee: &mut T| {
            let given = trainee.gradient(tag.epoch, step, &mut bucket);
            (given, bucket)
        };
        let (given, bucket) = self.call("gradient", call).await?;
        let contribution = Contribution {
            tag,
            active: given.active,
            more: given.more,
        };
        self.since = self.clock.now();
        let outcome = self.mesh.contribute(contribution, bucket);
        Ok(self.event_of(outcome))
    }

    fn heal(&mut self, view: View, applied: u64, holders: &[Rank]) {
        self.note(NetEvent::Healing { applied });
        let me = self.options.rank;
        let found = holders.iter().filter(|&&rank| rank != me);
        let found = found.filter_map(|&rank| Some((rank, *self.book.get(&rank)?)));
        let mut found: Vec<_> = found.collect();
        if !found.is_empty() {
            // Several that must copy begin with different holders.
            let first = me.0 as usize % found.len();
            found.rotate_left(first);
        }
        let wanted = copy::Wanted {
            view,
            applied,
            holders: found,
            door: Door {
                run: self.options.run,
                token: self.options.token.0.clone(),
                who: Who::Copy {
                    view,
                    from: me,
                    to: me,
                    applied,
                },
            },
            timing: self.options.timing,
            most: self.options.most_state_bytes,
            seed: view.0 ^ u64::from(me.0),
        };
        self.copying.abort_all();
        let (network, inbox) = (self.network.clone(), self.sender.clone());
        self.copying.spawn(copy::fetch(network, wanted, inbox));
    }

    async fn apply_epoch(&mut self, record: CommitRecord) -> Result<(), RankError> {
        let (epoch, applied, digest) = (record.epoch, record.applied, record.digest());
        let slots = SlotAlpha::of(&record);
        self.saved = None;
        self.tell_record(record).await?;
        let latency = self.clock.now().saturating_since(self.since);
        self.note(NetEvent::Committed {
            epoch,
            applied,
            digest,
            slots,
            latency,
        });
        Ok(())
    }

    /// Tells the trainee and the guards of a record.
    pub(super) async fn tell_record(&mut self, record: CommitRecord) -> Result<(), RankError> {
        let record = self.call("apply_epoch", move |trainee: &mut T| {
            trainee.apply_epoch(&record);
            record
        });
        let record = record.await?;
        // After the trainee: whoever looks meanwhile for what is of the old epoch may still keep
        // it, and would keep it for the new one.
        for guard in &mut self.guards {
            guard.at_epoch(&record);
        }
        Ok(())
    }

    /// Writes a checkpoint down, where there is anything to begin from again.
    async fn save_checkpoint(&mut self) -> Result<(), RankError> {
        if self.store.is_none() {
            return Ok(());
        }
        let Some(checkpoint) = self.state.checkpoint() else {
            return Ok(());
        };
        let bytes = self.call("save", |trainee: &mut T| trainee.save()).await?;
        if let Some(store) = &mut self.store {
            store.save_checkpoint(&checkpoint, &bytes)?;
        }
        Ok(())
    }

    /// The parameters of version `applied`, which it has, for another rank.
    pub(super) async fn copy_of(&mut self, applied: u64) -> Result<Bytes, RankError> {
        if let Some((_, bytes)) = self.saved.as_ref().filter(|(saved, _)| *saved == applied) {
            return Ok(bytes.clone());
        }
        let bytes = self.call("save", |trainee: &mut T| trainee.save()).await?;
        let bytes = Bytes::from(bytes);
        self.saved = Some((applied, bytes.clone()));
        Ok(bytes)
    }

    pub(super) async fn load(&mut self, bytes: Vec<u8>) -> Result<(), RankError> {
        self.saved = None;
        let loaded = self.call("load", move |trainee: &mut T| trainee.load(&bytes));
        loaded.await?.map_err(|error| RankError::Load {
            error,
            events: self.recorder.take(),
        })
    }

    /// Makes a call of the trainee.
    pub(super) async fn call<R: Send + 'static>(
        &mut self,
        name: &'static str,
        call: impl FnOnce(&mut T) -> R + Send + 'static,
    ) -> Result<R, RankError> {
        let me = self.options.rank;
        let now = self.clock.now();
        let recorder = &mut self.recorder;
        let slow = || {
            let wait = format!("its own trainee's {name}");
            let missing = vec![me];
            recorder.note(now, NetEvent::SoftDeadline { wait, missing });
        };
        let answer = self.hands.call(call, slow).await;
        // What a call takes is nobody's silence but this rank's own.
        self.clock.now();
        answer.map_err(|none| {
            let events = self.recorder.take();
            match none {
                NoAnswer::Stuck => RankError::TraineeStuck { call: name, events },
                NoAnswer::Panicked => RankError::TraineePanicked { call: name, events },
            }
        })
    }
}
