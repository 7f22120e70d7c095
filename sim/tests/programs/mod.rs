//! Small generated programs: what a thread may do, and how it is done on the explorer.

use std::time::Duration;

use selvedge_core::platform::{
    Atomic, AtomicInt, Condvar, JoinHandle, Mutex, Ordering, Platform, RwLock, Shared, Unpark,
};
use selvedge_sim::{Cx, ExplorerPlatform as P, Observation};

pub(crate) mod interpreter;

/// One statement of a thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stmt {
    Load(usize),
    Store(usize, u32),
    Add(usize),
    Cas(usize, u32, u32),
    /// Lock, note the value, change it, unlock.
    Bump(usize),
    /// Lock one, lock the other, bump both, unlock both.
    Pair(usize, usize),
    /// Look at or add to an atomic while a lock is held.
    Inside(usize, usize, bool),
    Try(usize),
    Read,
    Write,
    /// Look at an atomic while reading.
    ReadLoad(usize),
    /// Lock mutex 0, wait for a notification, unlock.
    Wait,
    TimedWait,
    NotifyOne,
    NotifyAll,
    /// The main thread only.
    Park,
    /// Unparks the main thread.
    Unpark,
    /// Note a choice of so many.
    Choose(u32),
    /// Look at one of the atomics, by choice.
    LoadEither,
}

/// What each thread does; thread 0 is the main one, which joins the others at the end.
pub(crate) type Program = Vec<Vec<Stmt>>;

/// Any generator of numbers below a bound.
pub(crate) fn generate(mut below: impl FnMut(usize) -> usize) -> Program {
    // A program is about one or two things, or threads hardly ever meet.
    let family = below(9);
    let threads = 2 + below(2);
    (0..threads)
        .map(|me| {
            let most = if threads == 2 {
                3
            } else {
                2 + usize::from(below(4) == 0)
            };
            let length = 1 + below(most);
            let mut statements: Vec<Stmt> = (0..length)
                .map(|_| statement(&mut below, family, me))
                .collect();
            // Only two timed waits of a thread time out at will: the interpreter knows no bound.
            let timed = (0..length).filter(|&place| statements[place] == Stmt::TimedWait);
            for place in timed.skip(2).collect::<Vec<_>>() {
                statements[place] = Stmt::NotifyAll;
            }
            statements
        })
        .collect()
}

fn statement(below: &mut impl FnMut(usize) -> usize, family: usize, me: usize) -> Stmt {
    let kind = match family {
        0 => [0, 1, 2, 3][below(4)],
        1 => [4, 5, 6, 7][below(4)],
        2 => [4, 7, 6, 1][below(4)],
        3 => [8, 9, 10, 2][below(4)],
        4 => [11, 13, 14, 4][below(4)],
        5 => [12, 13, 14, 11][below(4)],
        6 => [15, 16, 1, 0][below(4)],
        7 => [17, 18, 18, 1, 2, 13, 11][below(7)],
        _ => below(17),
    };
    match kind {
        0 => Stmt::Load(below(2)),
        1 => Stmt::Store(below(2), below(2) as u32),
        2 => Stmt::Add(below(2)),
        3 => Stmt::Cas(below(2), below(2) as u32, below(3) as u32),
        4 => Stmt::Bump(below(2)),
        5 => {
            let first = below(2);
            Stmt::Pair(first, 1 - first)
        }
        6 => Stmt::Inside(below(2), below(2), below(2) == 0),
        7 => Stmt::Try(below(2)),
        8 => Stmt::Read,
        9 => Stmt::Write,
        10 => Stmt::ReadLoad(below(2)),
        11 => Stmt::Wait,
        12 => Stmt::TimedWait,
        13 => Stmt::NotifyOne,
        14 => Stmt::NotifyAll,
        17 => Stmt::Choose(2 + below(2) as u32),
        18 => Stmt::LoadEither,
        15 if me == 0 => Stmt::Park,
        _ if me == 0 => Stmt::Load(below(2)),
        _ => Stmt::Unpark,
    }
}

struct Shape {
    atomics: [<P as Platform>::AtomicU32; 2],
    mutexes: [<P as Platform>::Mutex<u32>; 2],
    rwlock: <P as Platform>::RwLock<u32>,
    condvar: <P as Platform>::Condvar,
}

/// The program as a body for the explorer.
pub(crate) fn run(program: &Program) -> Observation {
    let shape = <P as Platform>::Arc::new(Shape {
        atomics: [Atomic::new(0), Atomic::new(0)],
        mutexes: [Mutex::new(0), Mutex::new(0)],
        rwlock: RwLock::new(0),
        condvar: Condvar::new(),
    });
    let main = P::current();
    let others: Vec<_> = (1..program.len())
        .map(|me| {
            let (shape, main) = (shape.clone(), main.clone());
            let statements = program[me].clone();
            P::spawn(move || perform(&shape, &main, me, &statements))
        })
        .collect();
    let mut notes = vec![perform(&shape, &main, 0, &program[0])];
    notes.extend(others.into_iter().map(JoinHandle::join));
    Observation::of(format!("{notes:?}"))
}

fn bump(value: &mut u32, me: usize) -> u32 {
    let before = *value;
    *value = before * 4 + me as u32 + 1;
    before
}

fn perform(
    shape: &Shape,
    main: &<P as Platform>::Thread,
    me: usize,
    statements: &[Stmt],
) -> Vec<u32> {
    // ORDERING: SeqCst, all, as the explorer takes everything.
    const ORDER: Ordering = Ordering::SeqCst;
    let mut notes = Vec::new();
    let cx = Cx::new(0, 0, 1);
    for &statement in statements {
        match statement {
            Stmt::Load(x) => notes.push(shape.atomics[x].load(ORDER)),
            Stmt::Store(x, value) => shape.atomics[x].store(value, ORDER),
            Stmt::Add(x) => notes.push(shape.atomics[x].fetch_add(1, ORDER)),
            Stmt::Cas(x, from, to) => {
                let result = shape.atomics[x].compare_exchange(from, to, ORDER, ORDER);
                notes.push(result.unwrap_or_else(|found| found + 100));
            }
            Stmt::Bump(m) => notes.push(bump(&mut shape.mutexes[m].lock(), me)),
            Stmt::Pair(first, second) => {
                let mut first = shape.mutexes[first].lock();
                let mut second = shape.mutexes[second].lock();
                notes.push(bump(&mut first, me));
                notes.push(bump(&mut second, me));
                drop(second);
                drop(first);
            }
            Stmt::Inside(m, x, adds) => {
                let guard = shape.mutexes[m].lock();
                notes.push(match adds {
                    true => shape.atomics[x].fetch_add(1, ORDER),
                    false => shape.atomics[x].load(ORDER),
                });
                drop(guard);
            }
            Stmt::Try(m) => match shape.mutexes[m].try_lock() {
                Some(mut value) => notes.push(bump(&mut value, me)),
                None => notes.push(1_000),
            },
            Stmt::Read => notes.push(*shape.rwlock.read()),
            Stmt::Write => notes.push(bump(&mut shape.rwlock.write(), me)),
            Stmt::ReadLoad(x) => {
                let guard = shape.rwlock.read();
                notes.push(shape.atomics[x].load(ORDER));
                drop(guard);
            }
            Stmt::Wait => drop(shape.condvar.wait(shape.mutexes[0].lock())),
            Stmt::TimedWait => {
                let (guard, timed_out) =
                    (shape.condvar).wait_timeout(shape.mutexes[0].lock(), Duration::ZERO);
                notes.push(u32::from(!timed_out));
                drop(guard);
            }
            Stmt::NotifyOne => shape.condvar.notify_one(),
            Stmt::NotifyAll => shape.condvar.notify_all(),
            Stmt::Park => P::park(),
            Stmt::Unpark => main.unpark(),
            Stmt::Choose(n) => notes.push(cx.choose(n)),
            Stmt::LoadEither => {
                let either = cx.choose(2) as usize;
                notes.push(shape.atomics[either].load(ORDER));
            }
        }
    }
    notes
}
