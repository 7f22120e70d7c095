//! Decision logs: what an engine chose, so that the same execution can be run again.

use serde::{Deserialize, Serialize};

use crate::Engine;
use crate::world::WorldConfig;

/// Everything needed to run one execution again.
///
/// ```
/// use selvedge_sim::{DecisionLog, Schedule};
///
/// let mut schedule = Schedule::default();
/// schedule.push_step(0);
/// assert_ne!(DecisionLog::Schedule(schedule), DecisionLog::Workload { seed: 1, execution: 1 });
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum DecisionLog {
    /// Which task ran at each step, and which random values the body drew.
    Schedule(Schedule),
    /// What loom did. It fits the same code only.
    Checkpoint {
        /// Loom's own path to the execution, as loom writes it (JSON).
        path: String,
        /// The choices the body made, which loom knows nothing of.
        choices: Vec<Choice>,
    },
    /// The workload's seed and the number of the execution. Real threads are scheduled by the
    /// machine, so the same workload may have to run many times before the same thing happens.
    Workload {
        /// The seed of the run.
        seed: u64,
        /// The execution, counted from 1.
        execution: u64,
    },
    /// A path through a model: of each state's actions, which.
    Path {
        /// The actions, by their place among those of their state.
        actions: Vec<u32>,
        /// Whether no path is shorter.
        shortest: bool,
    },
    /// A run of the world, with the plan of all that goes wrong in it. Where the code under test
    /// panicked before the plan was known, what draws it: the same plan again.
    World(Box<WorldConfig>),
}

impl DecisionLog {
    /// Whether it is of the kind that this engine leaves, and follows.
    pub(crate) fn fits(&self, engine: Engine) -> bool {
        match self {
            DecisionLog::Schedule(_) => {
                matches!(engine, Engine::Explorer { .. } | Engine::Shuttle { .. })
            }
            DecisionLog::Checkpoint { .. } => matches!(engine, Engine::Loom { .. }),
            DecisionLog::Workload { .. } => engine == Engine::Native,
            DecisionLog::Path { .. } => engine == Engine::Stateright,
            DecisionLog::World(_) => engine == Engine::World,
        }
    }
}

/// One choice of a body under loom.
///
/// ```
/// use selvedge_sim::{Choice, DecisionLog};
///
/// // The root took the third of what it could first choose from.
/// let choices = vec![Choice { task: 0, ordinal: 0, taken: 2 }];
/// let with = |choices| DecisionLog::Checkpoint { path: "{}".to_owned(), choices };
/// assert_ne!(with(choices), with(Vec::new()));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Choice {
    /// The thread that made it, by loom's number.
    pub task: u32,
    /// Which of its choices it was, counted from 0.
    pub ordinal: u32,
    /// What was taken.
    pub taken: u32,
}

/// A schedule of one execution.
///
/// Tasks are named by their creation path (the second child of the first child of the root),
/// never by an engine's numbering, which depends on the order in which tasks were created.
///
/// ```
/// use selvedge_sim::{Schedule, TaskName};
///
/// let mut schedule = Schedule {
///     tasks: vec![TaskName { parent: 0, child: 0 }, TaskName { parent: 0, child: 0 }],
///     ..Schedule::default()
/// };
/// assert!(schedule.is_empty());
/// for task in [0, 0, 1, 0] {
///     schedule.push_step(task);
/// }
/// assert_eq!((schedule.len(), schedule.switches()), (4, 2));
/// assert_eq!(schedule.path(1), "0.0");
/// assert!(schedule.is_well_formed());
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Schedule {
    /// The tasks, each by its parent's place in this list and which child of it it is. The
    /// first is the root and its own parent.
    pub tasks: Vec<TaskName>,
    /// Runs of steps: which task (by place), and how many steps in a row.
    pub steps: Vec<(u32, u32)>,
    /// The random values handed to the body, the choices made for it and the waiters notified,
    /// in order.
    pub draws: Vec<u64>,
    /// Types whose pointers' drops were steps, because their destructors were seen to make some.
    pub dropped: Vec<String>,
    /// What the body's own chance was drawn from: the run's seed.
    pub seed: u64,
    /// The execution, counted from 1, whose stream of that chance it was.
    pub execution: u64,
}

/// A task's place in the tree of tasks.
///
/// ```
/// use selvedge_sim::{Schedule, TaskName};
///
/// let [root, second] = [0, 1].map(|child| TaskName { parent: 0, child });
/// let schedule = Schedule { tasks: vec![root, second], ..Schedule::default() };
/// assert_eq!(schedule.path(1), "0.1", "the root's second child");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct TaskName {
    /// The parent's place in [`Schedule::tasks`].
    pub parent: u32,
    /// Which child of the parent it is, counted from 0.
    pub child: u32,
}

impl Schedule {
    /// Adds one step of the task at `place`.
    pub fn push_step(&mut self, place: u32) {
        match self.steps.last_mut() {
            Some((last, count)) if *last == place => *count += 1,
            _ => self.steps.push((place, 1)),
        }
    }

    /// Steps altogether.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.steps.iter().map(|&(_, count)| u64::from(count)).sum()
    }

    /// Whether there is no step.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    /// How often another task took over.
    #[must_use]
    pub fn switches(&self) -> usize {
        self.steps.len().saturating_sub(1)
    }

    /// The creation path of the task at `place`: `0` is the root, `0.1` its second child.
    #[must_use]
    pub fn path(&self, place: u32) -> String {
        path_of(&self.tasks, place)
    }

    /// How many of its first steps another schedule makes as well: by tasks of the same creation
    /// path, in the same order.
    ///
    /// ```
    /// use selvedge_sim::{Schedule, TaskName};
    ///
    /// let (parent, child) = (0, 0);
    /// let mut wanted = Schedule::default();
    /// wanted.tasks = vec![TaskName { parent, child }; 2];
    /// wanted.steps = vec![(0, 2), (1, 3), (0, 1)];
    /// let mut took = wanted.clone();
    /// assert_eq!(wanted.kept_by(&took), 6);
    /// took.steps = vec![(0, 2), (1, 1), (0, 3)];
    /// assert_eq!(wanted.kept_by(&took), 3);
    /// ```
    #[must_use]
    pub fn kept_by(&self, other: &Schedule) -> u64 {
        let (mut ours, mut theirs) = (self.steps.iter(), other.steps.iter());
        let (mut mine, mut its) = (ours.next().copied(), theirs.next().copied());
        let mut kept = 0;
        while let (Some((task, left)), Some((other_task, other_left))) = (mine, its) {
            if self.path(task) != other.path(other_task) {
                break;
            }
            let both = left.min(other_left);
            kept += u64::from(both);
            let rest = |task, left, all: &mut std::slice::Iter<'_, (u32, u32)>| match left {
                0 => all.next().copied(),
                left => Some((task, left)),
            };
            mine = rest(task, left - both, &mut ours);
            its = rest(other_task, other_left - both, &mut theirs);
        }
        kept
    }

    /// Whether every name's parent stands before it and every step names a task: only then
    /// does [`Schedule::path`] end.
    #[must_use]
    pub fn is_well_formed(&self) -> bool {
        let tasks = u32::try_from(self.tasks.len()).unwrap_or(u32::MAX);
        let parents_first = (self.tasks.iter().zip(0..))
            .all(|(name, place): (&TaskName, u32)| place == 0 || name.parent < place);
        let steps_right = (self.steps.iter()).all(|&(place, count)| place < tasks && count > 0);
        parents_first && steps_right
    }
}

/// The creation path of the task at `place`; `?` where the list has no such task.
pub(crate) fn path_of(tasks: &[TaskName], place: u32) -> String {
    let mut children = Vec::new();
    let mut at = place;
    while at != 0 {
        let Some(name) = tasks.get(at as usize).filter(|name| name.parent < at) else {
            return "?".to_owned();
        };
        children.push(name.child);
        at = name.parent;
    }
    let path = children.iter().rev().map(|child| format!(".{child}"));
    format!("0{}", path.collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_name_tasks_by_how_they_came_to_be() {
        let mut schedule = Schedule {
            tasks: vec![
                TaskName {
                    parent: 0,
                    child: 0,
                },
                TaskName {
                    parent: 0,
                    child: 1,
                },
                TaskName {
                    parent: 1,
                    child: 0,
                },
            ],
            ..Schedule::default()
        };
        for place in [0, 0, 2, 1, 1] {
            schedule.push_step(place);
        }
        assert_eq!(schedule.path(2), "0.1.0");
        assert_eq!(schedule.steps, [(0, 2), (2, 1), (1, 2)]);
        assert_eq!((schedule.len(), schedule.switches()), (5, 2));
        assert!(schedule.is_well_formed());
        schedule.tasks[1].parent = 2;
        assert!(
            !schedule.is_well_formed(),
            "a circle of parents has no path"
        );
    }
}
