//! What the classics are run by: a few threads, each with its role, on one fresh subject.

use selvedge_core::platform::{Atomic, AtomicInt, JoinHandle, Ordering, Platform, Shared};
use selvedge_sim::{Cx, Observation};

/// On a busy machine each pass of the gate may cost a time slice, so there are fewer rounds than
/// other bodies have.
const MOST_ROUNDS: u32 = 25;

/// Runs `role(subject, n)` on threads 0 to `threads - 1` at once, thread 0 being the main one;
/// returns what each role came to, round by round. Every round has a subject of its own.
pub(super) fn race<P, S, T>(
    cx: &Cx,
    threads: usize,
    fresh: impl Fn() -> S,
    role: impl Fn(&S, usize) -> T + Copy + Send + 'static,
) -> Vec<Vec<T>>
where
    P: Platform,
    S: Send + Sync + 'static,
    T: Send + 'static,
{
    let rounds = cx.rounds().min(MOST_ROUNDS);
    let subjects: Vec<S> = (0..rounds).map(|_| fresh()).collect();
    let shared = P::Arc::new((subjects, Gate::<P>::new(cx, threads)));
    let others: Vec<_> = (1..threads)
        .map(|me| {
            let shared = shared.clone();
            P::spawn(move || {
                let results = in_step::<P, S, T>(&shared, |subject| role(subject, me));
                // The pointer goes back too: if each thread dropped its own, loom would have
                // the drops to order as well.
                (results, shared)
            })
        })
        .collect();
    let mine = in_step::<P, S, T>(&shared, |subject| role(subject, 0));
    let mut rounds: Vec<Vec<T>> = mine.into_iter().map(|result| vec![result]).collect();
    let (theirs, _pointers): (Vec<_>, Vec<_>) = others.into_iter().map(JoinHandle::join).unzip();
    for results in theirs {
        for (round, result) in rounds.iter_mut().zip(results) {
            round.push(result);
        }
    }
    rounds
}

/// What the only round came to, in the words of `tell`; nothing where there were many.
pub(super) fn observe<T>(rounds: &[T], tell: impl Fn(&T) -> String) -> Observation {
    match rounds {
        [only] => Observation::of(tell(only)),
        _ => Observation::none(),
    }
}

fn in_step<P: Platform, S, T>(
    (subjects, gate): &(Vec<S>, Gate<P>),
    role: impl Fn(&S) -> T,
) -> Vec<T> {
    let rounds = (1..).zip(subjects);
    rounds
        .map(|(round, subject)| {
            gate.pass(round);
            role(subject)
        })
        .collect()
}

/// Lets real threads into each round together; they would hardly ever meet otherwise. A
/// checker, which has one round, orders them by itself.
struct Gate<P: Platform> {
    arrived: P::AtomicUsize,
    /// Arrivals a round; zero where the gate stands open.
    threads: usize,
}

impl<P: Platform> Gate<P> {
    fn new(cx: &Cx, threads: usize) -> Self {
        Gate {
            arrived: P::AtomicUsize::new(0),
            threads: if cx.rounds() > 1 { threads } else { 0 },
        }
    }

    fn pass(&self, round: usize) {
        if self.threads == 0 {
            return;
        }
        // ORDERING: Relaxed, both. The gate is about time; what happens between the threads is
        // left to the subject.
        self.arrived.fetch_add(1, Ordering::Relaxed);
        while self.arrived.load(Ordering::Relaxed) < round * self.threads {
            P::yield_now();
        }
    }
}
