//! Histories of the pool that ships are explained; those of three pools that are not atomic are
//! not, each made to go wrong at the one place where it is wrong.

use std::collections::BTreeSet;
use std::mem::{Discriminant, discriminant};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::*;

/// A number that depends on all three and on nothing else (splitmix64).
fn draw(seed: u64, thread: usize, n: usize) -> u64 {
    let mut x = seed ^ ((thread as u64) << 48) ^ ((n as u64) << 32);
    x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

fn script(seed: u64, thread: usize) -> Vec<Step> {
    let step = |n| match draw(seed, thread, n) % 10 {
        0..=2 => Step::Allocate(1),
        3 | 4 => Step::Allocate(2),
        5 => Step::Allocate(4),
        6 | 7 => Step::Free,
        8 => Step::FreeAgain,
        _ => match draw(seed, thread, n + 100) % 2 {
            0 => Step::FreeAgent,
            _ => Step::Look,
        },
    };
    (0..6).map(step).collect()
}

#[test]
fn every_history_of_the_pool_that_ships_is_explained() {
    let mut overlaps = 0;
    let mut seen: BTreeSet<String> = BTreeSet::new();
    let mut kinds: Vec<Discriminant<Answer>> = Vec::new();
    for seed in 0..1_000 {
        let scripts: Vec<_> = (0..3).map(|thread| script(seed, thread)).collect();
        let pause = |thread, n| draw(seed, thread, 1_000 + n).is_multiple_of(3);
        let history = History::record(&SharedPool::new(3, 3), 3, &scripts, pause);
        assert_eq!(history.calls.len(), 18);
        overlaps += history.overlaps();
        for call in &history.calls {
            let kind = discriminant(&call.answer);
            if !kinds.contains(&kind) {
                kinds.push(kind);
                let answer = format!("{:?}", call.answer);
                seen.extend(answer.split('(').next().map(str::to_owned));
            }
        }
        let order = history
            .explain()
            .unwrap_or_else(|unexplained| panic!("seed {seed}: {unexplained}"));
        assert_eq!(order.len(), history.calls.len());
    }
    // It is not for want of anything to explain.
    let every = ["Blocks", "Count", "Exhausted", "Freed", "Never", "Refused"];
    assert_eq!(seen, every.map(str::to_owned).into());
    assert!(overlaps > 1_000, "{overlaps} pairs of calls overlapped");
    println!("1000 histories, 18000 calls, {overlaps} pairs overlapped");
}

fn block(id: u32, generation: u64) -> BlockRef {
    BlockRef::from_parts(PoolId(0), BlockId(id), LayerId(0), generation)
}

/// Calls by hand: agent, call, answer, instants.
fn history(blocks: u32, calls: &[(usize, Call, Answer, u64, u64)]) -> History {
    let observed =
        |(agent, call, answer, invoked, returned): &(usize, Call, Answer, u64, u64)| Observed {
            op: Op {
                agent: *agent,
                call: call.clone(),
            },
            answer: answer.clone(),
            invoked: *invoked,
            returned: *returned,
        };
    History {
        blocks,
        calls: calls.iter().map(observed).collect(),
    }
}

#[test]
fn what_no_pool_could_answer_is_not_explained() {
    let one = || {
        (
            0,
            Call::Allocate(1),
            Answer::Blocks(vec![block(0, 0)]),
            0,
            1,
        )
    };
    let free = |agent, from| {
        (
            agent,
            Call::Free(vec![block(0, 0)]),
            Answer::Freed,
            from,
            from + 1,
        )
    };
    let got = |blocks| (1, Call::Allocate(1), Answer::Blocks(blocks), 4, 5);
    let right: [&[_]; 4] = [
        &[one(), free(0, 2), got(vec![block(0, 1)])],
        &[one(), free(0, 2), got(vec![block(1, 0)])],
        &[one(), (1, Call::Allocate(2), Answer::Exhausted(1), 4, 5)],
        // It began before the block was allocated.
        &[
            (
                0,
                Call::Allocate(1),
                Answer::Blocks(vec![block(0, 0)]),
                1,
                3,
            ),
            (
                1,
                Call::Allocate(2),
                Answer::Blocks(vec![block(0, 1), block(1, 0)]),
                2,
                9,
            ),
            free(0, 4),
        ],
    ];
    for calls in right {
        assert!(history(2, calls).explain().is_ok(), "{calls:?}");
    }
    let wrong: [&[_]; 10] = [
        // The same use of a block twice, a block that somebody holds, one that there is not.
        &[one(), free(0, 2), got(vec![block(0, 0)])],
        &[one(), got(vec![block(0, 1)])],
        &[one(), got(vec![block(2, 0)])],
        // Another number of blocks than was asked for.
        &[one(), got(vec![])],
        // A refusal without a reason, or with another.
        &[one(), (1, Call::Allocate(1), Answer::Exhausted(1), 4, 5)],
        &[one(), (1, Call::Allocate(2), Answer::Exhausted(0), 4, 5)],
        &[one(), (1, Call::Allocate(2), Answer::Never, 4, 5)],
        // Freed twice, or by who does not hold it.
        &[one(), free(0, 2), free(0, 4)],
        &[one(), free(1, 2)],
        // A look at what was before.
        &[one(), (1, Call::Available, Answer::Count(2), 4, 5)],
    ];
    for calls in wrong {
        assert!(history(2, calls).explain().is_err(), "{calls:?}");
    }
}

#[test]
fn the_spec_answers_as_the_pool_does_where_nobody_is_beside() {
    for seed in 0..200 {
        let pool = SharedPool::new(3, 1);
        let mut alone = script(seed, 0);
        alone.extend(script(seed, 1));
        let history = History::record(&pool, 3, &[alone], |_, _| false);
        assert_eq!(history.overlaps(), 0);
        let mut spec = PoolSpec::new(3);
        for Observed { op, answer, .. } in &history.calls {
            // What `invoke` would say is a right answer too, and of the same kind.
            let chosen = spec.clone().invoke(op);
            assert_eq!(discriminant(&chosen), discriminant(answer), "{op:?}");
            assert!(spec.clone().is_valid_step(op, &chosen));
            assert!(spec.is_valid_step(op, answer), "{op:?} {answer:?}");
        }
    }
}

/// Where a pool is not atomic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flaw {
    /// None: the lock is held throughout.
    None,
    /// Which blocks are free is seen under one lock, and they are taken under the next.
    CheckThenAct,
    /// A batch is freed block by block.
    FreeOneByOne,
    /// A batch is taken block by block, and given back if it cannot be completed.
    TakeOneByOne,
}

/// A pool with a flaw, and a meeting of two threads in the midst of it.
struct Flawed {
    flaw: Flaw,
    blocks: u32,
    /// Each block's owner and generation.
    table: Mutex<Vec<(Option<usize>, u64)>>,
    meeting: Barrier,
}

impl Flawed {
    fn new(flaw: Flaw, blocks: u32) -> Self {
        Flawed {
            flaw,
            blocks,
            table: Mutex::new(vec![(None, 0); blocks as usize]),
            meeting: Barrier::new(2),
        }
    }

    fn table(&self) -> MutexGuard<'_, Vec<(Option<usize>, u64)>> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn allocate(&self, agent: usize, n: usize) -> Answer {
        let free_of = |table: &[(Option<usize>, u64)]| -> Vec<usize> {
            let free = table
                .iter()
                .enumerate()
                .filter(|(_, block)| block.0.is_none());
            free.map(|(id, _)| id).collect()
        };
        let take = |table: &mut [(Option<usize>, u64)], id: usize| {
            table[id] = (Some(agent), table[id].1 + 1);
            block(id as u32, table[id].1)
        };
        let mut table = self.table();
        let mut free = free_of(&table);
        if self.flaw == Flaw::TakeOneByOne {
            let mut got = vec![take(&mut table, free[0])];
            drop(table);
            self.meeting.wait();
            table = self.table();
            free = free_of(&table);
            if free.len() + 1 < n {
                // Both have seen that it is not enough before either gives back.
                drop(table);
                self.meeting.wait();
                table = self.table();
                table[got[0].id().0 as usize].0 = None;
                return Answer::Exhausted(free.len() as u32 + 1);
            }
            got.extend(free[..n - 1].iter().map(|&id| take(&mut table, id)));
            return Answer::Blocks(got);
        }
        if free.len() < n {
            return Answer::Exhausted(free.len() as u32);
        }
        if self.flaw == Flaw::CheckThenAct {
            drop(table);
            self.meeting.wait();
            table = self.table();
        }
        Answer::Blocks(free[..n].iter().map(|&id| take(&mut table, id)).collect())
    }

    fn free(&self, blocks: &[BlockRef]) -> Answer {
        let mut table = self.table();
        for (n, block) in blocks.iter().enumerate() {
            table[block.id().0 as usize].0 = None;
            if n == 0 && self.flaw == Flaw::FreeOneByOne {
                drop(table);
                // The other looks between the two.
                self.meeting.wait();
                self.meeting.wait();
                table = self.table();
            }
        }
        Answer::Freed
    }
}

impl Subject for Flawed {
    fn call(&self, op: &Op) -> Answer {
        match &op.call {
            Call::Allocate(n) if *n > self.blocks => Answer::Never,
            Call::Allocate(n) => self.allocate(op.agent, *n as usize),
            Call::Free(blocks) => self.free(blocks),
            Call::FreeAgent => unreachable!("no script of these tests does it"),
            Call::Available => {
                let meets = self.flaw == Flaw::FreeOneByOne;
                if meets {
                    self.meeting.wait();
                }
                let free = self
                    .table()
                    .iter()
                    .filter(|block| block.0.is_none())
                    .count();
                if meets {
                    self.meeting.wait();
                }
                Answer::Count(free as u32)
            }
        }
    }
}

#[test]
fn a_pool_that_is_not_atomic_is_caught_each_time() {
    use Step::{Allocate, Free, Look};
    // Two threads, and what goes wrong between them.
    let cases = [
        (
            Flaw::CheckThenAct,
            2,
            [vec![Allocate(1)], vec![Allocate(1)]],
        ),
        (Flaw::FreeOneByOne, 2, [vec![Allocate(2), Free], vec![Look]]),
        // Both want both blocks: one of them must get them.
        (
            Flaw::TakeOneByOne,
            2,
            [vec![Allocate(2)], vec![Allocate(2)]],
        ),
    ];
    for (flaw, blocks, scripts) in cases {
        for _ in 0..50 {
            let broken =
                History::record(&Flawed::new(flaw, blocks), blocks, &scripts, |_, _| false);
            let unexplained = broken.explain().expect_err("it is not atomic");
            let drawn = unexplained.to_string();
            assert_eq!(drawn.lines().count(), 1 + broken.calls.len(), "{drawn}");
            // The same calls of the same pool with its lock held, and of the one that ships.
            let mended = Flawed::new(Flaw::None, blocks);
            let mended = History::record(&mended, blocks, &scripts, |_, _| true);
            assert!(mended.explain().is_ok(), "{mended:?}");
            let ships = History::record(&SharedPool::new(blocks, 2), blocks, &scripts, |_, _| true);
            assert!(ships.explain().is_ok(), "{ships:?}");
        }
    }
}
