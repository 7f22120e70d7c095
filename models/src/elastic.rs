//! Elastic training as horovod's: each worker trains in a loop of all-reduces; one that joins
//! begins with a broadcast of the state; the others take part in it only if they know that
//! somebody has joined.
//!
//! What they know is what they were told last. Told of a removal they leave the broadcast out,
//! because nobody needs it then; and if the one who was removed has come back by the time they go
//! on, it broadcasts while they all-reduce, and all wait for ever.

use stateright::{Model, Property};

use crate::subject::Subject;

/// Workers of which one is lost and comes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ElasticModel {
    /// Workers.
    pub workers: u8,
    /// Steps of the run.
    pub steps: u8,
    /// Workers that are lost.
    pub losses: u8,
    /// Workers that come back.
    pub returns: u8,
    /// Whether a worker told of a removal leaves the broadcast of the state out.
    pub skips_sync: bool,
}

/// What a worker has issued, and waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Collective {
    /// The broadcast of the state.
    Sync,
    /// A step's all-reduce.
    Step,
}

/// One worker.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Worker {
    alive: bool,
    steps: u8,
    /// It has entered the membership that there is; else it resets first.
    entered: bool,
    /// Its state is that of the others, as far as it knows.
    synced: bool,
    issued: Option<Collective>,
}

/// All of it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct World {
    workers: Vec<Worker>,
    losses: u8,
    returns: u8,
}

/// What may happen next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// A worker enters the membership that there is.
    Enter(usize),
    /// A worker issues what comes next.
    Issue(usize),
    /// All have issued the same: it is done.
    Complete,
    /// A worker is lost, and the others are told so.
    Lose(usize),
    /// One that was lost comes back.
    Return(usize),
}

impl ElasticModel {
    /// Two workers, one of which is lost and comes back.
    #[must_use]
    pub const fn of(skips_sync: bool) -> Self {
        ElasticModel {
            workers: 2,
            steps: 2,
            losses: 1,
            returns: 1,
            skips_sync,
        }
    }

    fn is_done(&self, worker: &Worker) -> bool {
        worker.steps == self.steps
    }

    fn progress(&self, world: &World, actions: &mut Vec<Action>) {
        for (at, worker) in world.workers.iter().enumerate() {
            if !worker.alive || self.is_done(worker) {
                continue;
            }
            if !worker.entered {
                actions.push(Action::Enter(at));
            } else if worker.issued.is_none() {
                actions.push(Action::Issue(at));
            }
        }
        let mut taking_part = world.workers.iter().filter(|worker| worker.alive);
        let first = taking_part.next().and_then(|worker| worker.issued);
        if first.is_some() && taking_part.all(|worker| worker.issued == first) {
            actions.push(Action::Complete);
        }
    }
}

impl Model for ElasticModel {
    type State = World;
    type Action = Action;

    fn init_states(&self) -> Vec<World> {
        let worker = Worker {
            alive: true,
            steps: 0,
            entered: true,
            synced: true,
            issued: None,
        };
        vec![World {
            workers: vec![worker; usize::from(self.workers)],
            losses: self.losses,
            returns: self.returns,
        }]
    }

    fn actions(&self, world: &World, actions: &mut Vec<Action>) {
        self.progress(world, actions);
        let training = |worker: &Worker| worker.alive && !self.is_done(worker);
        for (at, worker) in world.workers.iter().enumerate() {
            let others = world.workers.iter().filter(|worker| training(worker));
            if world.losses > 0 && training(worker) && others.count() > 1 {
                actions.push(Action::Lose(at));
            }
            if world.returns > 0 && !worker.alive && world.workers.iter().any(training) {
                actions.push(Action::Return(at));
            }
        }
    }

    fn next_state(&self, last: &World, action: Action) -> Option<World> {
        let mut world = last.clone();
        match action {
            Action::Enter(at) => world.workers[at].entered = true,
            Action::Issue(at) => {
                let worker = &mut world.workers[at];
                worker.issued = Some(match worker.synced {
                    true => Collective::Step,
                    false => Collective::Sync,
                });
            }
            Action::Complete => {
                let steps = world.workers.iter().map(|worker| worker.steps).max();
                for worker in world.workers.iter_mut().filter(|worker| worker.alive) {
                    match worker.issued.take() {
                        Some(Collective::Step) => worker.steps += 1,
                        Some(Collective::Sync) => {
                            (worker.synced, worker.steps) = (true, steps.unwrap_or(0));
                        }
                        None => {}
                    }
                }
            }
            Action::Lose(at) => {
                world.losses -= 1;
                world.workers[at].alive = false;
                world.workers[at].issued = None;
                world.reset(at, self.skips_sync);
            }
            Action::Return(at) => {
                world.returns -= 1;
                world.workers[at] = Worker {
                    alive: true,
                    steps: 0,
                    entered: true,
                    synced: false,
                    issued: None,
                };
                // Who has not entered yet will enter this membership, and knows no more of it.
                world.welcome(at, self.skips_sync);
            }
        }
        Some(world)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![Property::always(
            "progress",
            |model: &Self, world: &World| {
                let mut actions = Vec::new();
                model.progress(world, &mut actions);
                let mut alive = world.workers.iter().filter(|worker| worker.alive);
                !actions.is_empty() || alive.all(|worker| model.is_done(worker))
            },
        )]
    }
}

impl World {
    /// Everybody else's collective fails, and they are told that somebody is gone.
    fn reset(&mut self, gone: usize, skips_sync: bool) {
        for (at, worker) in self.workers.iter_mut().enumerate() {
            if at != gone && worker.alive {
                (worker.entered, worker.issued) = (false, None);
                worker.synced = skips_sync && worker.synced;
            }
        }
    }

    /// Everybody else is told that somebody has come.
    fn welcome(&mut self, new: usize, skips_sync: bool) {
        for (at, worker) in self.workers.iter_mut().enumerate() {
            if at != new && worker.alive && (worker.entered || !skips_sync) {
                (worker.entered, worker.issued, worker.synced) = (false, None, false);
            }
        }
    }
}

impl Subject for ElasticModel {
    fn boundary(&self) -> String {
        format!(
            "{} workers, {} steps, at most {} lost, {} return",
            self.workers, self.steps, self.losses, self.returns
        )
    }

    fn columns(&self) -> Vec<String> {
        let workers = (0..self.workers).map(|worker| format!("worker {worker}"));
        std::iter::once("network".to_owned())
            .chain(workers)
            .collect()
    }

    fn act(&self, _: &World, action: &Action) -> (usize, String) {
        match *action {
            Action::Enter(at) => (1 + at, "enters the membership".to_owned()),
            Action::Issue(at) => (1 + at, "issues".to_owned()),
            Action::Complete => (0, "the collective is done".to_owned()),
            Action::Lose(at) => (1 + at, "is LOST".to_owned()),
            Action::Return(at) => (1 + at, "COMES BACK".to_owned()),
        }
    }

    fn look(&self, world: &World, column: usize) -> String {
        let at = column.checked_sub(1);
        let Some(worker) = at.and_then(|at| world.workers.get(at)) else {
            return String::new();
        };
        if !worker.alive {
            return "lost".to_owned();
        }
        let waits = match worker.issued {
            Some(Collective::Sync) => ", waits in the broadcast of the state",
            Some(Collective::Step) => ", waits in a step's all-reduce",
            None if !worker.entered => ", resets",
            None => "",
        };
        format!("{} steps{waits}", worker.steps)
    }
}

#[cfg(test)]
mod tests {
    use selvedge_sim::Class;

    use super::*;
    use crate::checker::search;

    #[test]
    fn where_all_always_sync_nobody_waits_for_ever() {
        let found = search(ElasticModel::of(false), "", 1_000_000);
        assert_eq!(found.verdict.class(), Class::Bounded, "{:?}", found.verdict);
    }

    #[test]
    fn one_that_comes_back_while_others_know_of_its_loss_only_is_left_alone() {
        let found = search(ElasticModel::of(true), "", 1_000_000);
        assert_eq!(found.verdict.failure().unwrap().signature, "progress");
    }
}
