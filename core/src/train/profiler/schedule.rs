//! Which steps are recorded: torch's `torch.profiler.schedule`, and the transitions between its
//! actions, as tables.

use thiserror::Error;

/// What the profiler does in one step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Action {
    /// Nothing, at no cost.
    #[default]
    None,
    /// It records, so that the first recorded step is not the one that pays for it, and throws
    /// away what it got.
    Warmup,
    /// It records.
    Record,
    /// It records, and the trace is complete at the end of the step.
    RecordAndSave,
}

impl Action {
    /// All of them, in torch's order.
    pub const ALL: [Action; 4] = [
        Action::None,
        Action::Warmup,
        Action::Record,
        Action::RecordAndSave,
    ];

    /// Whether what happens in the step belongs into a trace.
    #[must_use]
    pub const fn records(self) -> bool {
        matches!(self, Action::Record | Action::RecordAndSave)
    }
}

/// One thing to do between two steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Op {
    /// Switch recording on.
    Prepare,
    /// Begin a trace: what was recorded before is thrown away.
    Start,
    /// End the trace.
    Stop,
    /// The trace is complete and may be read.
    TraceReady,
}

/// What is to be done between a step of action `from` and one of action `to`; `None` is the end
/// of the session. The table is torch's `action_map`.
///
/// ```
/// use selvedge_core::train::profiler::{Action, Op, transition};
///
/// assert_eq!(transition(Action::Warmup, Some(Action::Record)), [Op::Start]);
/// // A session that ends in warm-up has no trace: nothing is ready.
/// assert_eq!(transition(Action::Warmup, None), [Op::Start, Op::Stop]);
/// // One that ends while it records hands over what there is.
/// assert_eq!(transition(Action::Record, None), [Op::Stop, Op::TraceReady]);
/// ```
#[must_use]
pub const fn transition(from: Action, to: Option<Action>) -> &'static [Op] {
    use Action::{None as Nothing, Record, RecordAndSave, Warmup};
    use Op::{Prepare, Start, Stop, TraceReady};
    match (from, to) {
        (Nothing, Some(Nothing) | None) => &[],
        (Nothing, Some(Warmup)) => &[Prepare],
        (Nothing, Some(Record | RecordAndSave)) => &[Prepare, Start],
        (Warmup, Some(Warmup)) => &[],
        (Warmup, Some(Record | RecordAndSave)) => &[Start],
        (Warmup, Some(Nothing) | None) => &[Start, Stop],
        (Record, Some(Record | RecordAndSave)) => &[],
        (Record, Some(Nothing | Warmup)) => &[Stop],
        (Record, None) => &[Stop, TraceReady],
        (RecordAndSave, Some(Nothing) | None) => &[Stop, TraceReady],
        (RecordAndSave, Some(Warmup)) => &[Stop, TraceReady, Prepare],
        (RecordAndSave, Some(Record | RecordAndSave)) => &[Stop, TraceReady, Prepare, Start],
    }
}

/// How many steps to wait, to warm up and to record, and how often. In steps, all of them.
///
/// ```
/// use selvedge_core::train::profiler::{Action, Schedule};
///
/// let schedule = Schedule::new(1, 1, 2, 1)?;
/// let actions: Vec<Action> = (0..5).map(|step| schedule.action(step)).collect();
/// use Action::{None, Record, RecordAndSave, Warmup};
/// assert_eq!(actions, [None, Warmup, Record, RecordAndSave, None]);
/// # Ok::<(), selvedge_core::train::profiler::ScheduleError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Schedule {
    wait: u32,
    warmup: u32,
    active: u32,
    repeat: u32,
}

impl Schedule {
    /// Steps in which nothing is done, then those thrown away, then those recorded; all of that
    /// so many times, or for ever if `repeat` is 0.
    ///
    /// # Errors
    /// [`ScheduleError::NothingActive`] if no step would be recorded.
    pub const fn new(
        wait: u32,
        warmup: u32,
        active: u32,
        repeat: u32,
    ) -> Result<Self, ScheduleError> {
        if active == 0 {
            return Err(ScheduleError::NothingActive);
        }
        Ok(Schedule {
            wait,
            warmup,
            active,
            repeat,
        })
    }

    /// Everything from the first step on, in one trace that ends with the session.
    #[must_use]
    pub const fn always() -> Self {
        Schedule {
            wait: 0,
            warmup: 0,
            active: u32::MAX,
            repeat: 0,
        }
    }

    /// Steps of one round.
    #[must_use]
    pub const fn round(&self) -> u64 {
        self.wait as u64 + self.warmup as u64 + self.active as u64
    }

    /// The first step that is recorded, counted from 0.
    #[must_use]
    pub const fn first_recorded(&self) -> u64 {
        self.wait as u64 + self.warmup as u64
    }

    /// What is done in step `step`, counted from 0.
    #[must_use]
    pub const fn action(&self, step: u64) -> Action {
        let round = self.round();
        if self.repeat > 0 && step / round >= self.repeat as u64 {
            return Action::None;
        }
        let within = step % round;
        if within < self.wait as u64 {
            Action::None
        } else if within < self.first_recorded() {
            Action::Warmup
        } else if within + 1 < round {
            Action::Record
        } else {
            Action::RecordAndSave
        }
    }
}

/// The origin's own: wait 1, warm up 1, record 3, once.
impl Default for Schedule {
    fn default() -> Self {
        Schedule {
            wait: 1,
            warmup: 1,
            active: 3,
            repeat: 1,
        }
    }
}

/// Why there is no such schedule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Error)]
pub enum ScheduleError {
    /// No step would ever be recorded.
    #[error("a schedule with 0 active steps records nothing: give at least 1")]
    NothingActive,
}

/// Where a session is in its schedule. **Call [`enter`](Self::enter) once, [`step`](Self::step)
/// after each step, [`exit`](Self::exit) once, and do what each returns, in order.**
///
/// ```
/// use selvedge_core::train::profiler::{Op, Schedule, ScheduleState};
///
/// let mut state = ScheduleState::new(Schedule::new(0, 1, 1, 0)?);
/// assert_eq!(state.enter(), [Op::Prepare]);
/// assert_eq!(state.step(), [Op::Start]);
/// assert_eq!(state.step(), [Op::Stop, Op::TraceReady, Op::Prepare]);
/// assert_eq!(state.exit(), [Op::Start, Op::Stop]);
/// assert_eq!(state.exit(), [], "it is over");
/// # Ok::<(), selvedge_core::train::profiler::ScheduleError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ScheduleState {
    schedule: Schedule,
    steps: u64,
    action: Action,
    over: bool,
}

impl ScheduleState {
    /// Before the first step.
    #[must_use]
    pub const fn new(schedule: Schedule) -> Self {
        ScheduleState {
            schedule,
            steps: 0,
            action: schedule.action(0),
            over: false,
        }
    }

    /// What to do as the session begins.
    #[must_use]
    pub const fn enter(&self) -> &'static [Op] {
        transition(Action::None, Some(self.action))
    }

    /// A step is over: what to do before the next.
    #[must_use]
    pub fn step(&mut self) -> &'static [Op] {
        if self.over {
            return &[];
        }
        self.steps += 1;
        let before = self.action;
        self.action = self.schedule.action(self.steps);
        transition(before, Some(self.action))
    }

    /// What to do as the session ends, in whatever step it is.
    #[must_use]
    pub fn exit(&mut self) -> &'static [Op] {
        if self.over {
            return &[];
        }
        self.over = true;
        let before = core::mem::take(&mut self.action);
        transition(before, None)
    }

    /// What is done in the present step; nothing once it is over.
    #[must_use]
    pub const fn action(&self) -> Action {
        self.action
    }

    /// Steps that are over.
    #[must_use]
    pub const fn steps(&self) -> u64 {
        self.steps
    }

    /// The schedule.
    #[must_use]
    pub const fn schedule(&self) -> Schedule {
        self.schedule
    }
}

#[cfg(test)]
mod tests {
    use super::Action::{None as Nothing, Record, RecordAndSave, Warmup};
    use super::Op::{Prepare, Start, Stop, TraceReady};
    use super::*;

    /// torch's `action_map`, entry for entry.
    #[test]
    fn transitions_are_torchs() {
        let golden: [(Action, Option<Action>, &[Op]); 20] = [
            (Nothing, Some(Nothing), &[]),
            (Nothing, Some(Warmup), &[Prepare]),
            (Nothing, Some(Record), &[Prepare, Start]),
            (Nothing, Some(RecordAndSave), &[Prepare, Start]),
            (Warmup, Some(Nothing), &[Start, Stop]),
            (Warmup, Some(Warmup), &[]),
            (Warmup, Some(Record), &[Start]),
            (Warmup, Some(RecordAndSave), &[Start]),
            (Record, Some(Nothing), &[Stop]),
            (Record, Some(Warmup), &[Stop]),
            (Record, Some(Record), &[]),
            (Record, Some(RecordAndSave), &[]),
            (RecordAndSave, Some(Nothing), &[Stop, TraceReady]),
            (RecordAndSave, Some(Warmup), &[Stop, TraceReady, Prepare]),
            (
                RecordAndSave,
                Some(Record),
                &[Stop, TraceReady, Prepare, Start],
            ),
            (
                RecordAndSave,
                Some(RecordAndSave),
                &[Stop, TraceReady, Prepare, Start],
            ),
            (Nothing, None, &[]),
            (Warmup, None, &[Start, Stop]),
            (Record, None, &[Stop, TraceReady]),
            (RecordAndSave, None, &[Stop, TraceReady]),
        ];
        for (from, to, ops) in golden {
            assert_eq!(transition(from, to), ops, "{from:?} to {to:?}");
        }
    }

    /// What `torch.profiler.schedule(...)(step)` returned, one letter a step: `.` none,
    /// `w` warm-up, `r` record, `S` record and save.
    #[test]
    fn actions_are_torchs() {
        let golden = [
            ((1, 1, 3, 1), ".wrrS..............."),
            ((1, 1, 3, 2), ".wrrS.wrrS.........."),
            ((0, 0, 1, 0), "SSSSSSSSSSSSSSSSSSSS"),
            ((0, 0, 1, 3), "SSS................."),
            ((0, 2, 2, 0), "wwrSwwrSwwrSwwrSwwrS"),
            ((5, 0, 1, 0), ".....S.....S.....S.."),
            ((0, 0, 4, 2), "rrrSrrrS............"),
        ];
        for ((wait, warmup, active, repeat), steps) in golden {
            let schedule = Schedule::new(wait, warmup, active, repeat).unwrap();
            let told: String = (0..20)
                .map(|step| match schedule.action(step) {
                    Nothing => '.',
                    Warmup => 'w',
                    Record => 'r',
                    RecordAndSave => 'S',
                })
                .collect();
            assert_eq!(told, steps, "{schedule:?}");
        }
    }

    #[test]
    fn the_first_trace_is_ready_after_as_many_steps_as_a_round_has() {
        for (wait, warmup, active) in [(1, 1, 3), (0, 0, 1), (0, 3, 2), (4, 0, 5)] {
            let mut state = ScheduleState::new(Schedule::new(wait, warmup, active, 1).unwrap());
            assert!(!state.enter().contains(&TraceReady));
            let first = (1..).find(|_| state.step().contains(&TraceReady));
            assert_eq!(first, Some(u64::from(wait + warmup + active)));
            assert!((0..100).all(|_| state.step().is_empty()), "once is once");
            assert_eq!(state.exit(), []);
        }
    }

    #[test]
    fn sizes_at_the_edge_do_not_overflow() {
        let most = Schedule::new(u32::MAX, u32::MAX, u32::MAX, u32::MAX).unwrap();
        assert_eq!(most.action(0), Nothing);
        assert_eq!(most.action(most.round() - 1), RecordAndSave);
        assert_eq!(most.action(u64::MAX), most.action(u64::MAX));
        assert_eq!(Schedule::new(1, 1, 0, 1), Err(ScheduleError::NothingActive));
    }
}
