//! Every interleaving of a program, by an interpreter that shares nothing with the explorer:
//! all outcomes, and how many different traces there are, a trace being what two schedules
//! have in common that differ only in the order of independent steps.

use std::collections::{BTreeSet, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};

use super::{Program, Stmt};

/// What all interleavings come to.
#[derive(Debug, Default)]
pub(crate) struct Truth {
    pub(crate) outcomes: BTreeSet<String>,
    pub(crate) traces: HashSet<u64>,
}

/// A step of a thread, in the machine's terms.
#[derive(Clone, Copy, Debug)]
enum Micro {
    Start,
    Stmt(Stmt),
    Lock(usize),
    Unlock(usize),
    Enter(bool),
    Leave(bool),
    GetInLine,
    LockNotified,
    TimedReturn,
    Bump(usize),
    BumpShared(bool),
    Join(usize),
    /// Go on to one of the atomics.
    Either,
    /// Look at the one that was chosen.
    LoadChosen,
}

/// What a step touches. Equal numbers are one object.
const MUTEX: usize = 10;
const RWLOCK: usize = 20;
const CONDVAR: usize = 21;
const TOKEN: usize = 22;

#[derive(Clone, Default)]
struct Thread {
    at: usize,
    notes: Vec<u32>,
    last: u64,
    /// The notification that chose it.
    notified: Option<u64>,
    /// The atomic it chose.
    either: usize,
}

#[derive(Clone, Default)]
struct State {
    threads: Vec<Thread>,
    atomics: [u32; 2],
    mutexes: [u32; 2],
    held: [Option<usize>; 2],
    shared: u32,
    readers: usize,
    writer: bool,
    waiting: BTreeSet<usize>,
    token: bool,
    /// Past events, as (object, how it commutes, identity).
    past: Vec<(usize, u8, u64)>,
    /// The main thread's first step, in which it spawned the others.
    spawned: u64,
    trace: u64,
}

/// Ways in which steps commute: two of the same class do, unless it is class 0.
const ALONE: u8 = 0;

/// All interleavings; `None` where there are too many to go through.
pub(crate) fn explore(program: &Program, most: usize) -> Option<Truth> {
    let code: Vec<Vec<Micro>> = (0..program.len())
        .map(|me| compile(&program[me], me, program.len()))
        .collect();
    let start = State {
        threads: vec![Thread::default(); program.len()],
        ..State::default()
    };
    let mut truth = Truth::default();
    let mut seen = HashSet::new();
    let mut left = vec![start];
    while let Some(state) = left.pop() {
        let next = successors(&state, &code);
        if next.is_empty() {
            let done = (state.threads.iter().zip(&code)).all(|(t, code)| t.at == code.len());
            let notes: Vec<_> = state.threads.iter().map(|t| &t.notes).collect();
            truth.outcomes.insert(match done {
                true => format!("{notes:?}"),
                false => "deadlock".to_owned(),
            });
            truth.traces.insert(state.trace);
        }
        for state in next {
            if seen.insert(state.trace) {
                left.push(state);
            }
        }
        if seen.len() > most {
            return None;
        }
    }
    Some(truth)
}

fn compile(statements: &[Stmt], me: usize, threads: usize) -> Vec<Micro> {
    let mut code = vec![Micro::Start];
    for &statement in statements {
        match statement {
            Stmt::Bump(m) => code.extend([Micro::Lock(m), Micro::Bump(m), Micro::Unlock(m)]),
            Stmt::Pair(a, b) => code.extend([
                Micro::Lock(a),
                Micro::Lock(b),
                Micro::Bump(a),
                Micro::Bump(b),
                Micro::Unlock(b),
                Micro::Unlock(a),
            ]),
            Stmt::Inside(m, x, adds) => code.extend([
                Micro::Lock(m),
                Micro::Stmt(if adds { Stmt::Add(x) } else { Stmt::Load(x) }),
                Micro::Unlock(m),
            ]),
            Stmt::Read => code.extend([
                Micro::Enter(false),
                Micro::BumpShared(false),
                Micro::Leave(false),
            ]),
            Stmt::Write => code.extend([
                Micro::Enter(true),
                Micro::BumpShared(true),
                Micro::Leave(true),
            ]),
            Stmt::ReadLoad(x) => {
                code.extend([
                    Micro::Enter(false),
                    Micro::Stmt(Stmt::Load(x)),
                    Micro::Leave(false),
                ]);
            }
            Stmt::Wait => code.extend([
                Micro::Lock(0),
                Micro::GetInLine,
                Micro::Unlock(0),
                Micro::LockNotified,
                Micro::Unlock(0),
            ]),
            Stmt::TimedWait => code.extend([
                Micro::Lock(0),
                Micro::GetInLine,
                Micro::Unlock(0),
                Micro::TimedReturn,
                Micro::Lock(0),
                Micro::Unlock(0),
            ]),
            Stmt::LoadEither => code.extend([Micro::Either, Micro::LoadChosen]),
            // Followed by an unlock that is skipped where the lock was not got.
            Stmt::Try(m) => code.extend([Micro::Stmt(statement), Micro::Bump(m), Micro::Unlock(m)]),
            other => code.push(Micro::Stmt(other)),
        }
    }
    if me == 0 {
        code.extend((1..threads).map(Micro::Join));
    }
    code
}

fn successors(state: &State, code: &[Vec<Micro>]) -> Vec<State> {
    let mut next = Vec::new();
    for me in 0..code.len() {
        let Some(&micro) = code[me].get(state.threads[me].at) else {
            continue;
        };
        // The others are spawned in the main thread's first step.
        if me != 0 && state.threads[0].at == 0 {
            continue;
        }
        match micro {
            Micro::Stmt(Stmt::NotifyOne) if !state.waiting.is_empty() => {
                let choices = state.waiting.iter().copied();
                next.extend(choices.filter_map(|who| step(state, code, me, micro, Some(who))));
            }
            Micro::Stmt(Stmt::Choose(n)) => {
                let ways = 0..n as usize;
                next.extend(ways.filter_map(|way| step(state, code, me, micro, Some(way))));
            }
            Micro::Either => {
                next.extend((0..2).filter_map(|way| step(state, code, me, micro, Some(way))));
            }
            _ => next.extend(step(state, code, me, micro, None)),
        }
    }
    next
}

fn step(
    from: &State,
    code: &[Vec<Micro>],
    me: usize,
    micro: Micro,
    choice: Option<usize>,
) -> Option<State> {
    let mut s = from.clone();
    let mut edges = vec![s.threads[me].last];
    let mut woken: Vec<usize> = Vec::new();
    let mut skip = 0;
    s.threads[me].at += 1;
    let local = (usize::MAX, ALONE);
    let (object, class) = match micro {
        Micro::Start => {
            edges.push(s.spawned);
            local
        }
        Micro::Join(other) => {
            if s.threads[other].at < code[other].len() {
                return None;
            }
            edges.push(s.threads[other].last);
            local
        }
        Micro::Either => {
            s.threads[me].either = choice?;
            local
        }
        Micro::LoadChosen => {
            let x = s.threads[me].either;
            let value = s.atomics[x];
            s.threads[me].notes.push(value);
            (x, 1)
        }
        Micro::Lock(m) => {
            if s.held[m].is_some() {
                return None;
            }
            s.held[m] = Some(me);
            (MUTEX + m, ALONE)
        }
        Micro::LockNotified => {
            edges.push(s.threads[me].notified?);
            if s.held[0].is_some() {
                return None;
            }
            s.threads[me].notified = None;
            s.held[0] = Some(me);
            (MUTEX, ALONE)
        }
        Micro::Unlock(m) => {
            s.held[m] = None;
            (MUTEX + m, ALONE)
        }
        // What a lock guards is no step of its own: it goes with the next one of its thread.
        Micro::Bump(m) => {
            let before = s.mutexes[m];
            s.mutexes[m] = before * 4 + me as u32 + 1;
            s.threads[me].notes.push(before);
            return step_again(s, code, me);
        }
        Micro::BumpShared(changes) => {
            let before = s.shared;
            if changes {
                s.shared = before * 4 + me as u32 + 1;
            }
            s.threads[me].notes.push(before);
            return step_again(s, code, me);
        }
        Micro::Enter(true) => {
            if s.writer || s.readers > 0 {
                return None;
            }
            s.writer = true;
            (RWLOCK, ALONE)
        }
        Micro::Enter(false) => {
            if s.writer {
                return None;
            }
            s.readers += 1;
            (RWLOCK, 1)
        }
        Micro::Leave(true) => {
            s.writer = false;
            (RWLOCK, ALONE)
        }
        Micro::Leave(false) => {
            s.readers -= 1;
            (RWLOCK, 1)
        }
        Micro::GetInLine => {
            s.waiting.insert(me);
            (CONDVAR, 1)
        }
        Micro::TimedReturn => {
            let timed_out = s.waiting.remove(&me);
            s.threads[me].notified = None;
            s.threads[me].notes.push(u32::from(!timed_out));
            (CONDVAR, 1)
        }
        Micro::Stmt(statement) => match statement {
            Stmt::Load(x) => {
                let value = s.atomics[x];
                s.threads[me].notes.push(value);
                (x, 1)
            }
            Stmt::Store(x, value) => {
                let before = std::mem::replace(&mut s.atomics[x], value);
                (x, u8::from(before == value))
            }
            Stmt::Add(x) => {
                let before = s.atomics[x];
                s.threads[me].notes.push(before);
                s.atomics[x] += 1;
                (x, ALONE)
            }
            Stmt::Cas(x, expected, new) => {
                let before = s.atomics[x];
                if before == expected {
                    s.atomics[x] = new;
                }
                s.threads[me].notes.push(if before == expected {
                    before
                } else {
                    before + 100
                });
                (x, u8::from(s.atomics[x] == before))
            }
            Stmt::Try(m) => match s.held[m] {
                None => {
                    s.held[m] = Some(me);
                    (MUTEX + m, ALONE)
                }
                Some(_) => {
                    s.threads[me].notes.push(1_000);
                    skip = 2;
                    (MUTEX + m, 1)
                }
            },
            Stmt::NotifyOne | Stmt::NotifyAll if s.waiting.is_empty() => (CONDVAR, 2),
            Stmt::NotifyOne => {
                woken.extend(choice);
                (CONDVAR, ALONE)
            }
            Stmt::NotifyAll => {
                woken.extend(s.waiting.iter());
                (CONDVAR, ALONE)
            }
            Stmt::Park => {
                if !std::mem::take(&mut s.token) {
                    return None;
                }
                (TOKEN, ALONE)
            }
            Stmt::Choose(_) => {
                s.threads[me].notes.push(choice? as u32);
                local
            }
            Stmt::Unpark => (TOKEN, u8::from(std::mem::replace(&mut s.token, true))),
            other => unreachable!("{other:?} is compiled away"),
        },
    };
    s.threads[me].at += skip;
    let mut before: Vec<u64> = (s.past.iter())
        .filter(|&&(o, c, _)| o == object && object != usize::MAX && (c == ALONE || c != class))
        .map(|&(_, _, identity)| identity)
        .collect();
    before.sort_unstable();
    let mut hasher = DefaultHasher::new();
    (me, from.threads[me].at, choice, before, edges).hash(&mut hasher);
    let identity = hasher.finish();
    for who in woken {
        s.waiting.remove(&who);
        s.threads[who].notified = Some(identity);
    }
    s.past.push((object, class, identity));
    s.threads[me].last = identity;
    if s.spawned == 0 {
        s.spawned = identity;
    }
    s.trace = s.trace.wrapping_add(identity);
    Some(s)
}

fn step_again(state: State, code: &[Vec<Micro>], me: usize) -> Option<State> {
    let micro = *code[me].get(state.threads[me].at)?;
    step(&state, code, me, micro, None)
}
