//! The run that the ranks train: its slots, and the policy that moves its alphas.

use selvedge_core::ddp::net::SlotAlpha;
use selvedge_core::ddp::{
    AlphaCurve, AlphaLevel, BlueprintId, CommitRecord, Epoch, RunId, Schedule, SeedId, SeedSlot,
    SeedStage, SlotCommand, SlotId, SlotRules, Steepness, Strictness,
};

use super::model::{Blueprint, SLOTS};

/// Epochs a slot rests, in its stage and at its alpha, before something is done with it.
const RESTED: u32 = 8;
/// Epochs before the second slot gets its first seed.
const SECOND_SEED: u64 = 6;

/// The record that a run begins from: a seed in the first slot, none in the second.
#[must_use]
pub fn genesis(run: RunId) -> CommitRecord {
    let slots = SLOTS.map(|(id, blueprint)| {
        let curve = match blueprint {
            Blueprint::Products => AlphaCurve::Sigmoid(Steepness::DEFAULT),
            Blueprint::Hinges => AlphaCurve::Cosine,
        };
        let rules = SlotRules {
            strictness: Strictness::Permissive,
            auto_g1: true,
            auto_g2: true,
            auto_g3: true,
            blend_steps: 8,
            blend_curve: curve,
            ..SlotRules::default()
        };
        SeedSlot::new(id, rules)
    });
    let mut schedule = Schedule::new(slots).expect("INVARIANT: SLOTS names each slot once");
    let first = germinate(SLOTS[0], 1);
    let planted = schedule.command(&first);
    debug_assert!(planted.is_ok(), "the slot is empty: {planted:?}");
    CommitRecord::genesis(run, Epoch(0), 0, schedule)
}

/// Says what is to be done with the slots after each record.
///
/// The first seed is turned down to 0.6 and up to 1 for ever. Seeds of the second slot are
/// blended in, held, taken out again, and the next one is put in.
///
/// It is the coordinator's, and volatile as the commands are: one that starts again counts from
/// 0, and a command that died with the former one is given again, later.
#[derive(Clone, Debug, Default)]
pub struct Policy {
    slots: Vec<(SlotAlpha, u32)>,
}

impl Policy {
    /// What to do in the epoch after the one whose record left the slots so.
    ///
    /// ```
    /// use selvedge_core::ddp::{Epoch, RunId, SlotCommand};
    /// use selvedge_core::ddp::net::SlotAlpha;
    /// use selvedge_scenarios::training::job::{Policy, genesis};
    ///
    /// let slots = SlotAlpha::of(&genesis(RunId(1)));
    /// let mut policy = Policy::default();
    /// assert_eq!(policy.after(Epoch(1), &slots), []);
    /// let later = policy.after(Epoch(6), &slots);
    /// assert!(matches!(later[..], [SlotCommand::Germinate { .. }]), "the second slot is empty");
    /// ```
    pub fn after(&mut self, epoch: Epoch, slots: &[SlotAlpha]) -> Vec<SlotCommand> {
        let rested = |slot: &SlotAlpha| {
            let mut before = self.slots.iter();
            before
                .find(|(other, _)| other == slot)
                .map_or(0, |(_, rested)| rested + 1)
        };
        self.slots = slots.iter().map(|slot| (*slot, rested(slot))).collect();
        let wanted = self
            .slots
            .iter()
            .filter_map(|(slot, rested)| wanted(slot, *rested, epoch));
        wanted.collect()
    }
}

fn wanted(slot: &SlotAlpha, rested: u32, Epoch(epoch): Epoch) -> Option<SlotCommand> {
    let retarget = |level: f64, steps| {
        Some(SlotCommand::SetAlphaTarget {
            slot: slot.slot,
            target: AlphaLevel::from_f64(level).ok()?,
            steps,
            curve: None,
        })
    };
    let (first, long) = (slot.slot == SLOTS[0].0, rested >= RESTED);
    match slot.stage {
        SeedStage::Dormant if !first && epoch >= SECOND_SEED => Some(germinate(SLOTS[1], epoch)),
        SeedStage::Holding if long && first => retarget(0.6, 6),
        SeedStage::Holding if long => Some(SlotCommand::SchedulePrune {
            slot: slot.slot,
            steps: 6,
        }),
        // It rests below 1.
        SeedStage::Blending if long && first => retarget(1.0, 4),
        _ => None,
    }
}

fn germinate((slot, blueprint): (SlotId, Blueprint), seed: u64) -> SlotCommand {
    SlotCommand::Germinate {
        slot,
        seed: SeedId(seed),
        blueprint: BlueprintId(blueprint as u32),
    }
}

/// The run that a name stands for: the same number wherever the name is the same.
#[must_use]
pub fn run_id(name: &str) -> RunId {
    let fnv = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    RunId(name.bytes().fold(0xcbf2_9ce4_8422_2325, fnv))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::time::Duration;

    use selvedge_core::ddp::{Ballot, Rank, View};
    use selvedge_core::train::EpochGuard;

    use super::*;
    use crate::training::data::batches;
    use crate::training::worker::Worker;

    /// The run without a network: what the ranks would do, one after the other.
    fn train(epochs: u64, world: u32, seed: u64) -> (Vec<CommitRecord>, Vec<Worker>) {
        let mut workers: Vec<Worker> = (0..world)
            .map(|rank| Worker::new(seed, Rank(rank), Duration::ZERO))
            .collect();
        let mut records = vec![genesis(RunId(1))];
        let mut applied = 0;
        let mut policy = Policy::default();
        for _ in 0..epochs {
            let record = &records[records.len() - 1];
            for worker in &mut workers {
                worker.apply_epoch(record);
                let (mut alphas, mut steps) = worker.guards();
                alphas.at_epoch(record);
                steps.at_epoch(record);
            }
            let steps = (0..world).map(|rank| batches(Rank(rank))).max().unwrap();
            for step in 0..steps {
                let mut sum = vec![0.0; Worker::BUCKET];
                let mut active = 0;
                for worker in &mut workers {
                    let mut bucket = vec![0.0; Worker::BUCKET];
                    active += u32::from(worker.gradient(step, &mut bucket).is_some());
                    sum.iter_mut()
                        .zip(bucket)
                        .for_each(|(sum, value)| *sum += value);
                }
                applied += 1;
                workers
                    .iter_mut()
                    .for_each(|worker| worker.apply_step(&sum, active, applied));
            }
            let ballots = workers.iter().enumerate().map(|(rank, worker)| Ballot {
                voter: Rank(rank as u32),
                votes: record.schedule.vote(|slot| worker.measure(slot)),
            });
            let commands = policy.after(record.epoch, &SlotAlpha::of(record));
            let next = record.next(View(1), ballots.collect(), &commands, applied);
            records.push(next.unwrap());
        }
        let last = &records[records.len() - 1];
        workers
            .iter_mut()
            .for_each(|worker| worker.apply_epoch(last));
        (records, workers)
    }

    #[test]
    fn every_stage_is_gone_through_and_alpha_keeps_moving() {
        let (records, _) = train(200, 4, 1);
        let of = |slot: usize| {
            let slots = records
                .iter()
                .map(move |record| record.schedule.slots()[slot]);
            slots.map(|slot| (slot.stage(), slot.alpha().map_or(0.0, |a| a.alpha())))
        };
        let stages: BTreeSet<SeedStage> = of(1).map(|(stage, _)| stage).collect();
        let all: BTreeSet<SeedStage> = SeedStage::ALL.into_iter().collect();
        assert_eq!(&all - &stages, BTreeSet::from([SeedStage::Fossilized]));
        for slot in [0, 1] {
            let alphas: Vec<f64> = of(slot).map(|(_, alpha)| alpha).collect();
            let moves = alphas.windows(2).filter(|pair| pair[0] != pair[1]).count();
            assert!(moves > 60, "alpha of slot {slot} moves {moves} times");
            let late = alphas[150..].windows(2).any(|pair| pair[0] != pair[1]);
            assert!(late, "alpha of slot {slot} has come to rest");
        }
    }

    #[test]
    fn it_learns_and_the_seeds_are_of_use() {
        let (records, workers) = train(60, 4, 1);
        let begins = train(1, 4, 1).1[0].last().unwrap();
        let last = workers[0].last().unwrap();
        assert!(last.loss < 0.7 * begins.loss, "{begins:?} {last:?}");
        let slot = records[60].schedule.slots()[0];
        let worth = workers[3].measure(slot.id()).contribution.unwrap();
        assert!(worth > 2.0, "the first seed is worth {worth} points");
    }

    #[test]
    fn all_ranks_have_the_same_model_and_votes_of_their_own() {
        let (_, workers) = train(15, 3, 2);
        assert!(
            workers
                .iter()
                .all(|worker| worker.digest() == workers[0].digest())
        );
        let ratios = workers
            .iter()
            .map(|worker| worker.measure(SlotId(0)).gradient_ratio);
        let ratios: BTreeSet<u64> = ratios.map(|ratio| ratio.unwrap().to_bits()).collect();
        assert_eq!(ratios.len(), 3);
        assert_eq!(
            workers[0].digest(),
            train(15, 3, 2).1[0].digest(),
            "the same every time"
        );
    }

    #[test]
    fn who_copies_goes_on_as_the_copied_even_a_record_later() {
        let (records, workers) = train(20, 2, 3);
        let mut fresh = Worker::new(3, Rank(1), Duration::ZERO);
        fresh.apply_epoch(&records[20]);
        assert_ne!(fresh.digest(), workers[0].digest());
        fresh.load(&workers[0].save()).unwrap();
        assert_eq!(fresh.digest(), workers[1].digest());
        assert_eq!(
            (fresh.applied(), fresh.last()),
            (workers[1].applied(), workers[1].last())
        );

        // The holder has not heard of the next record yet, which plants another seed.
        let mut next = records[20].clone();
        next.epoch = next.epoch.next();
        next.schedule
            .command(&SlotCommand::Prune { slot: SlotId(0) })
            .unwrap();
        let mut holder = Worker::new(3, Rank(0), Duration::ZERO);
        holder.apply_epoch(&records[20]);
        holder.load(&workers[0].save()).unwrap();
        let mut fresh = Worker::new(3, Rank(1), Duration::ZERO);
        fresh.apply_epoch(&next);
        fresh.load(&holder.save()).unwrap();
        holder.apply_epoch(&next);
        assert_eq!(fresh.save(), holder.save());

        next.epoch = Epoch(next.epoch.0 + 5);
        fresh.apply_epoch(&next);
        let refused = fresh.load(&workers[0].save()).unwrap_err();
        assert!(refused.to_string().contains("after epoch 20"), "{refused}");
        assert!(fresh.load(b"nonsense").is_err());
    }

    /// Both guards are really on the way of each step.
    #[test]
    fn steps_are_compiled_and_alphas_come_from_the_cache() {
        let epochs = 60;
        let (records, workers) = train(epochs, 2, 1);
        let mut shapes = 0;
        for worker in workers {
            let (alphas, steps) = worker.guards();
            let census = alphas.census();
            assert_eq!((census.workers, census.entries), (2, 2));
            // The last record was applied without telling, so they are of the one before.
            assert_eq!(census.epoch, Some(records[records.len() - 2].epoch));
            assert_eq!(census.stale, 0);
            drop(worker);
            assert_eq!(alphas.live_entries(), 0);
            let counters = steps.counters();
            let (attempts, passed) = (counters.attempts, counters.passed);
            assert!(attempts > 2 && attempts == passed, "{counters:?}");
            assert_eq!(counters.eager, 0);
            shapes += attempts;
            assert!(counters.compiled >= epochs);
        }
        assert_eq!(shapes % 2, 0, "both ranks have compiled the same shapes");
    }

    #[test]
    fn names_of_runs_tell_them_apart() {
        assert_eq!(run_id("a"), run_id("a"));
        assert_ne!(run_id("a"), run_id("b"));
    }
}
