//! The training guards of the ranks, a set for each life: the cache of alphas with its workers,
//! the compiled step, and the profiler's session with its disk.
//!
//! Their drivers are here; they stand where a training loop would have them. The step is compiled
//! by core's state itself, and not by its shell, because in virtual time a compile begins at one
//! event and ends at another. The session likewise: its shell numbers threads by the process they
//! are in, and a run must not depend on how many there were before it.

pub(super) mod disk;

use std::time::Duration;

use selvedge_core::ddp::{CommitRecord, Epoch, Rank, SlotId};
use selvedge_core::time::Instant;
use selvedge_core::train::compiled_step::{
    Attempt, Backoff, CompileConfig, CompileState, Decision, FailureClass, KeyId, Phase,
};
use selvedge_core::train::profiler::{
    Args, Batch, QueueState, Schedule, SessionState, TraceEvent, TraceNaming,
};
use selvedge_core::train::{AlphaCache, AlphaKey, AlphaWorker, Dtype, EpochGuard};

use self::disk::Disk;
use super::chain::What;
use super::faults::{CompileFaults, Moment};
use super::mutants::Mutant;
use super::network::Place;
use super::probes::Probe;
use super::properties::guards::compile::Compiles;
use super::properties::guards::{fresh_alpha, live_entries, profile_kept};
use super::properties::{Broken, valid};
use super::random::hash;
use super::ranks::RankInput;
use super::rare::Rare;
use super::run::{Event, Simulation};

/// Workers of a rank at once, at most.
const WORKERS: usize = 4;

/// A compile may begin so long after an epoch has.
const LEFT: Duration = Duration::from_millis(300);

/// The alpha that a rank trains with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Alpha {
    pub(super) epoch: Epoch,
    pub(super) bits: u64,
}

/// The guards of a rank, through all of its lives.
#[derive(Debug, Default)]
pub(super) struct GuardNode {
    life: Option<Box<Guards>>,
    /// The disk that its traces go to is full.
    full: bool,
}

/// The guards of one life.
#[derive(Debug)]
struct Guards {
    alpha: AlphaCache,
    workers: Vec<AlphaWorker<Alpha>>,
    /// Workers that are gone, and whose entries are not: a mutant's.
    lingering: Vec<AlphaWorker<Alpha>>,
    compile: CompileState,
    key: KeyId,
    compiles: Compiles,
    session: SessionState,
    queue: QueueState,
    disk: Disk,
    steps: u64,
}

/// What becomes of an attempt to compile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    Passes,
    Fails(FailureClass),
    /// It is compiled, and fails as it is run for the first time.
    Lazy,
}

fn compile_config() -> CompileConfig {
    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }
    let from_to = |base, cap| Backoff {
        base: ms(base),
        cap: ms(cap),
    };
    CompileConfig {
        max_keys: 2,
        patience: ms(400),
        step_deadline: ms(2_000),
        transient: from_to(40, 300),
        deterministic: from_to(90, 700),
        panicked: from_to(70, 700),
        overdue: from_to(70, 700),
        ..CompileConfig::default()
    }
}

/// Which steps are recorded: different ones in each life.
fn schedule(drawn: u64) -> Schedule {
    let number = |shift: u32, of: u64| ((drawn >> shift) % of) as u32;
    match drawn.is_multiple_of(6) {
        true => Schedule::always(),
        false => Schedule::new(
            number(4, 5),
            number(8, 2),
            1 + number(12, 12),
            1 + number(16, 3),
        )
        .expect("INVARIANT: at least one step is active"),
    }
}

impl Guards {
    fn new(rank: Rank, life: u64, drawn: u64, now: Instant, full: bool) -> Guards {
        let mut compile =
            CompileState::new(compile_config()).expect("INVARIANT: the bounds above make sense");
        let key = compile.admit();
        let mut compiles = Compiles::default();
        compiles.admits();
        let alpha = AlphaCache::new(WORKERS as u32);
        let naming = TraceNaming {
            host: "world".to_owned(),
            pid: rank.0 + 1,
            process: format!("{rank}, life {life}"),
            origin_unix_ns: 0,
        };
        Guards {
            alpha: alpha.expect("INVARIANT: there is room for some workers"),
            workers: Vec::new(),
            lingering: Vec::new(),
            compile,
            key: key.expect("INVARIANT: it has no key yet, and may have two"),
            compiles,
            session: SessionState::new(schedule(drawn), naming, now),
            queue: QueueState::new(2 + (drawn >> 40) as usize % 3),
            disk: Disk::new(full),
            steps: 0,
        }
    }

    fn batch(&mut self, pid: u32) -> (Batch, u64) {
        let dropped = self.queue.dropped();
        self.queue.forget();
        let mut batch = Batch::new();
        for event in self.queue.take() {
            batch.push(pid, &event);
        }
        (batch, dropped)
    }

    /// Does what the session wants done. Whether there was anything, and whether it failed.
    fn write(&mut self, now: Instant, mutant: Mutant) -> (bool, bool) {
        let (mut any, mut failed) = (false, false);
        while let Some(io) = self.session.poll() {
            let end = self.disk.perform(io, now, mutant);
            any = true;
            failed |= end != selvedge_core::train::profiler::IoEnd::Done;
            self.session.done(end);
        }
        (any, failed)
    }
}

impl Simulation {
    fn guards(&mut self, rank: Rank) -> Option<&mut Guards> {
        self.guards.get_mut(rank.0 as usize)?.life.as_deref_mut()
    }

    /// A life of a rank begins, and with it its guards.
    pub(super) fn begin_guards(&mut self, rank: Rank) {
        let now = self.rank_now(rank);
        let life = self.ranks[rank.0 as usize].life;
        let drawn = hash(&[self.config.seed, u64::from(rank.0), life, 0x6775_6172]);
        let mutant = self.config.mutant;
        if let Some(node) = self.guards.get_mut(rank.0 as usize) {
            let mut guards = Guards::new(rank, life, drawn, now, node.full);
            guards.write(now, mutant);
            node.life = Some(Box::new(guards));
        }
    }

    /// The alpha that a rank's last record says.
    fn committed(&self, rank: Rank) -> Option<Alpha> {
        let process = self.ranks[rank.0 as usize].process.as_ref()?;
        let record = process.state.record()?;
        let alpha = record.schedule.alphas().of(SlotId(0)).unwrap_or_default();
        Some(Alpha {
            epoch: record.epoch,
            bits: alpha.to_bits(),
        })
    }

    /// A step begins that takes so long if nothing is compiled; how long it does take.
    pub(super) fn guarded_compute(&mut self, rank: Rank, takes: Duration) -> Duration {
        if self.guards(rank).is_none() {
            return takes;
        }
        self.workers_come_and_go(rank);
        self.read_alphas(rank);
        self.run_step(rank, takes)
    }

    fn workers_come_and_go(&mut self, rank: Rank) {
        let drawn = self.guard_work.below(64);
        let clears = self.rare(Rare::WorkerClears);
        let stays = self.config.mutant == Mutant::WorkersStay;
        let Some(guards) = self.guards(rank) else {
            return;
        };
        let count = guards.workers.len();
        let joins = count == 0 || (drawn < 4 && count < WORKERS);
        if joins && let Ok(worker) = guards.alpha.join() {
            guards.workers.push(worker);
        } else if drawn >= 61 && count > 1 {
            let gone = guards.workers.swap_remove(drawn as usize % count);
            if stays {
                guards.lingering.push(gone);
            }
            self.probes.reach(Probe::WorkerLeft);
        } else if clears && let Some(worker) = guards.workers.last_mut() {
            worker.clear();
        }
    }

    fn read_alphas(&mut self, rank: Rank) {
        let Some(committed) = self.committed(rank) else {
            return;
        };
        let key = AlphaKey::new(0, Dtype::F32, f64::from_bits(committed.bits));
        let Some(guards) = self.guards(rank) else {
            return;
        };
        let reads = guards.workers.iter_mut();
        let stale = reads
            .map(|worker| *worker.get_or_insert_with(key, || committed))
            .find(|read| *read != committed);
        let (census, workers) = (guards.alpha.census(), guards.workers.len() as u32);
        let kept = fresh_alpha::reads(rank, stale.unwrap_or(committed), committed);
        self.hold(kept);
        let kept = live_entries::counts(rank, census, workers);
        self.hold(kept);
    }

    /// Runs a rank's step, by what is compiled, eagerly, or compiling it.
    fn run_step(&mut self, rank: Rank, takes: Duration) -> Duration {
        let now = self.rank_now(rank);
        let (mutant, faults) = (self.config.mutant, self.compile_faults());
        let forgets = self.rare(Rare::StepForgotten);
        let withdraws = faults.in_use > 0 && self.guard_work.chance(faults.in_use);
        let Some(guards) = self.guards(rank) else {
            return takes;
        };
        if forgets
            && guards.compile.forget(guards.key)
            && let Ok(key) = guards.compile.admit()
        {
            guards.key = key;
            guards.compiles.admits();
        }
        let failed = matches!(
            guards.compile.phase(guards.key),
            Some(Phase::Cooling { .. })
        );
        if failed && mutant == Mutant::FallbackForEver {
            return takes;
        }
        if failed && mutant == Mutant::CompilesEveryStep {
            guards.compile.forget(guards.key);
            if let Ok(key) = guards.compile.admit() {
                guards.key = key;
            }
        }
        let decision = guards.compile.ask(guards.key, now);
        let takes = match decision {
            None | Some(Decision::Eager) => {
                self.probes.reach(Probe::Eager);
                takes
            }
            Some(Decision::Use { number }) if withdraws => {
                let class = FailureClass::Transient;
                guards.compile.withdrawn(guards.key, number, class, now);
                self.probes.reach(Probe::Withdrawn);
                takes
            }
            Some(Decision::Use { .. }) => takes * 3 / 4,
            Some(Decision::Compile(attempt)) => takes + self.compile(rank, attempt, faults),
        };
        self.check_compile(rank);
        takes
    }

    fn compile_faults(&self) -> CompileFaults {
        match self.calm {
            true => CompileFaults::default(),
            false => self.plan.compile,
        }
    }

    /// Begins to compile; how long the step waits for it.
    fn compile(&mut self, rank: Rank, attempt: Attempt, faults: CompileFaults) -> Duration {
        self.note(Place::Rank(rank), What::Compiles, [attempt.number, 0, 0]);
        let fates = [
            (faults.transient, Fate::Fails(FailureClass::Transient)),
            (faults.permanent, Fate::Fails(FailureClass::Deterministic)),
            (faults.panicking, Fate::Fails(FailureClass::Panicked)),
            (faults.lazy, Fate::Lazy),
        ];
        let mut drawn = self.guard_work.below(1_000);
        let mut fate = Fate::Passes;
        for (per_mille, other) in fates {
            if drawn < per_mille {
                fate = other;
                break;
            }
            drawn -= per_mille;
        }
        let hangs = faults.hanging > 0 && self.guard_work.chance(faults.hanging);
        let ms = Duration::from_millis;
        let takes = match hangs {
            true => self.guard_work.between(ms(400), ms(2_500)),
            false => self.guard_work.between(ms(10), ms(120)),
        };
        self.plan_rank(rank, takes, RankInput::Compiled { attempt, fate });
        self.moment(Moment::Compiles);
        // What hangs does so beside the step.
        if hangs { Duration::ZERO } else { takes }
    }

    /// A compile is over.
    pub(super) fn compiled(&mut self, rank: Rank, attempt: Attempt, fate: Fate) {
        let now = self.rank_now(rank);
        let unrun = self.config.mutant == Mutant::PublishesUnrun;
        let Some(guards) = self.guards(rank) else {
            return;
        };
        let came = match fate {
            Fate::Passes => {
                guards.compiles.executes(attempt.number);
                let late = guards.compile.passed(attempt);
                late.map(|_| Probe::Compiled)
            }
            Fate::Lazy if unrun => guards.compile.passed(attempt).map(|_| Probe::Compiled),
            Fate::Lazy => {
                let class = FailureClass::Transient;
                guards
                    .compile
                    .failed(attempt, class, now)
                    .map(|_| Probe::FailedAtFirstRun)
            }
            Fate::Fails(class) => {
                let failed = guards.compile.failed(attempt, class, now);
                failed.map(|_| Probe::CompileFailed)
            }
        };
        match came {
            Some(probe) => self.probes.reach(probe),
            None => self.probes.reach(Probe::CompiledTooLate),
        }
        self.note(Place::Rank(rank), What::Compiled, [attempt.number, 0, 0]);
        self.check_compile(rank);
    }

    fn check_compile(&mut self, rank: Rank) {
        let Some(guards) = self.guards(rank) else {
            return;
        };
        let sound = valid(guards.compile.validate());
        let phase = guards.compile.phase(guards.key);
        let kept = guards
            .compiles
            .looks(rank, guards.compile.counters(), phase);
        self.hold(sound);
        self.hold(kept);
    }

    /// A rank leaves its view: how long its epoch takes is nobody's fault.
    pub(super) fn guards_interrupted(&mut self, rank: Rank) {
        if let Some(guards) = self.guards(rank) {
            guards.compiles.interrupted();
        }
    }

    /// A rank has applied a record, and its guards are told.
    pub(super) fn guards_epoch(&mut self, rank: Rank, record: &CommitRecord) {
        let now = self.rank_now(rank);
        let (mutant, calm) = (self.config.mutant, self.calm);
        let twice = self.rare(Rare::RecordTwice);
        let Some(guards) = self.guards(rank) else {
            return;
        };
        let epoch = record.epoch;
        let before = guards.compile.phase(guards.key);
        let ready_for = calm
            && match before {
                Some(Phase::Cooling { not_before, .. }) => not_before <= now,
                Some(Phase::Compiling { attempt }) => attempt.deadline < now,
                _ => true,
            };
        let permits = guards.compile.apply_epoch(epoch, now, LEFT);
        if mutant != Mutant::AlphaNeverReset {
            guards.alpha.at_epoch(record);
        }
        if twice {
            guards.alpha.at_epoch(record);
            guards.compile.apply_epoch(epoch, now, LEFT);
        }
        let overdue = !permits.overdue.is_empty();
        let phase = guards.compile.phase(guards.key);
        let kept = guards
            .compiles
            .epoch(rank, permits.granted, phase, ready_for);
        if overdue {
            self.probes.reach(Probe::Overdue);
        }
        self.hold(kept);
    }

    /// A rank has applied a step, which is recorded.
    pub(super) fn guards_step(&mut self, rank: Rank) {
        let now = self.rank_now(rank);
        let mutant = self.config.mutant;
        let early = self.rare(Rare::EarlyFlush);
        let more = self.guard_work.below(3);
        let Some(guards) = self.guards(rank) else {
            return;
        };
        guards.steps += 1;
        let (steps, pid) = (guards.steps, rank.0 + 1);
        if guards.session.wants_events() {
            for number in 0..1 + more {
                let args = Args::new().with("step", steps).with("number", number);
                // What finds no room is counted.
                drop(guards.queue.push(TraceEvent::instant("loss", now, args)));
            }
        }
        if early {
            let (batch, dropped) = guards.batch(pid);
            guards.session.flush(batch, dropped, now);
            guards.write(now, mutant);
        }
        let (batch, dropped) = guards.batch(pid);
        guards.session.step(batch, dropped, pid, now);
        let (any, failed) = guards.write(now, mutant);
        let sound = guards.session.validate();
        if dropped > 0 {
            self.probes.reach(Probe::EventsDropped);
        }
        if failed {
            self.probes.reach(Probe::DiskFull);
        }
        if any {
            self.moment(Moment::Records);
        }
        self.hold(sound.map_err(|what| Broken::new("core-invariants", what)));
    }

    /// A rank's life is over, by itself or not. What it leaves behind is looked at.
    pub(super) fn end_guards(&mut self, rank: Rank, by_itself: bool) {
        let now = self.rank_now(rank);
        let mutant = self.config.mutant;
        let cut = self.guard_work.below(1_000);
        let Some(node) = self.guards.get_mut(rank.0 as usize) else {
            return;
        };
        let Some(mut guards) = node.life.take() else {
            return;
        };
        if by_itself && mutant != Mutant::ProfileLeftOpen {
            let (batch, dropped) = guards.batch(rank.0 + 1);
            guards.session.close(batch, dropped, now);
            guards.write(now, mutant);
            self.probes.reach(Probe::ProfileClosed);
        } else if guards.disk.tear(now, cut) {
            self.probes.reach(Probe::ProfileTorn);
        }
        let kept = profile_kept::is_left(rank, &guards.disk, by_itself);
        self.hold(kept);
        // The workers leave, and take their entries along.
        let Guards {
            alpha,
            workers,
            lingering,
            ..
        } = *guards;
        drop((workers, lingering));
        let kept = live_entries::counts(rank, alpha.census(), 0);
        self.hold(kept);
    }

    /// The disk of a rank's traces is full for some time.
    pub(super) fn fill_disk(&mut self, rank: Rank, lasts: Duration) {
        self.disk_is_full(rank, true);
        self.queue.push(self.now + lasts, Event::DiskFree(rank));
    }

    pub(super) fn disk_is_full(&mut self, rank: Rank, full: bool) {
        if let Some(node) = self.guards.get_mut(rank.0 as usize) {
            node.full = full;
            if let Some(guards) = &mut node.life {
                guards.disk.full = full;
            }
        }
    }
}
