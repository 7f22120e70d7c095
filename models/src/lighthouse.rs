//! A lighthouse as torchft's: before each step the replicas ask it who takes part, it answers
//! with a quorum and its number, and those in the quorum connect to each other where that number
//! is a new one.
//!
//! Two things went wrong with it. It told replicas apart by *name*: one that died and came back
//! under its old name made no new quorum, and the others kept their connections to its earlier
//! life. And it *never forgot* who had asked: a dead replica was counted into quorums for ever.

use stateright::{Model, Property};

use crate::subject::Subject;

/// What is wrong with the lighthouse.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Flaw {
    /// Nothing.
    None,
    /// A quorum of the same names is the same quorum.
    ByName,
    /// Whoever has asked is counted until the quorum is formed, dead or alive.
    NeverForgets,
}

/// Replicas that train, of which some die and come back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LighthouseModel {
    /// What is wrong.
    pub flaw: Flaw,
    /// Replicas, at most eight.
    pub replicas: u8,
    /// With fewer there is no quorum.
    pub least: u8,
    /// Steps of the run.
    pub steps: u8,
    /// Replicas that die.
    pub crashes: u8,
    /// Dead replicas that come back.
    pub restarts: u8,
}

/// Who, and which life of it.
type Member = (u8, u8);

/// One replica.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Replica {
    life: u8,
    alive: bool,
    steps: u8,
    asks: bool,
    /// The quorum it is in a step of.
    in_step: bool,
    /// Whom it is connected to, itself included, and under which quorum's number.
    connected: Option<(u8, Vec<Member>)>,
    /// Who of them was dead when it connected: a connection that was never made tells nothing.
    never_connected: Vec<Member>,
}

/// All of it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct World {
    replicas: Vec<Replica>,
    /// Who has asked, as the lighthouse knows it.
    asked: Vec<Member>,
    quorum: Option<(u8, Vec<Member>)>,
    crashes: u8,
    restarts: u8,
    /// Connections to one life were taken for those to another.
    mistaken: bool,
}

/// What may happen next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// A replica asks who takes part in its next step.
    Ask(usize),
    /// The lighthouse forms a quorum of those who have asked.
    Form,
    /// All who are in the step have given to it: it is done.
    Step,
    /// A replica's connections tell it that another is dead.
    StepFails(usize),
    /// The lighthouse misses the heartbeat of one that has asked.
    Expire(usize),
    /// A replica dies.
    Crash(usize),
    /// A dead one comes back under its name.
    Restart(usize),
}

impl LighthouseModel {
    /// Two replicas that both must take part, one death and one return.
    #[must_use]
    pub const fn with(flaw: Flaw) -> Self {
        LighthouseModel {
            flaw,
            replicas: 2,
            least: 2,
            steps: 2,
            crashes: 1,
            restarts: 1,
        }
    }

    fn is_done(&self, replica: &Replica) -> bool {
        replica.steps == self.steps
    }

    fn progress(&self, world: &World, actions: &mut Vec<Action>) {
        let is_alive = |&(name, life): &Member| world.is_alive(name, life);
        for (at, replica) in world.replicas.iter().enumerate() {
            if !replica.alive {
                continue;
            }
            if !self.is_done(replica) && !replica.asks && !replica.in_step {
                actions.push(Action::Ask(at));
            }
            let members = replica.connected.as_ref().map(|(_, members)| members);
            let lost =
                |member: &Member| !is_alive(member) && !replica.never_connected.contains(member);
            let alone = members.is_some_and(|members| members.iter().any(lost));
            if replica.in_step && alone {
                actions.push(Action::StepFails(at));
            }
        }
        // Whose heartbeat it misses, it forgets before it forms a quorum, unless it never does.
        let known = self.flaw == Flaw::NeverForgets || world.asked.iter().all(is_alive);
        let enough = world.asked.len() >= usize::from(self.least);
        if enough && known && world.nobody_else_may_ask() {
            actions.push(Action::Form);
        }
        for (at, member) in world.asked.iter().enumerate() {
            if !is_alive(member) && self.flaw != Flaw::NeverForgets {
                actions.push(Action::Expire(at));
            }
        }
        if world.step_is_complete() {
            actions.push(Action::Step);
        }
    }
}

impl Model for LighthouseModel {
    type State = World;
    type Action = Action;

    fn init_states(&self) -> Vec<World> {
        let replica = Replica {
            life: 1,
            alive: true,
            steps: 0,
            asks: false,
            in_step: false,
            connected: None,
            never_connected: Vec::new(),
        };
        vec![World {
            replicas: vec![replica; usize::from(self.replicas)],
            asked: Vec::new(),
            quorum: None,
            crashes: self.crashes,
            restarts: self.restarts,
            mistaken: false,
        }]
    }

    fn actions(&self, world: &World, actions: &mut Vec<Action>) {
        self.progress(world, actions);
        for (at, replica) in world.replicas.iter().enumerate() {
            if world.crashes > 0 && replica.alive && !self.is_done(replica) {
                actions.push(Action::Crash(at));
            }
            if world.restarts > 0 && !replica.alive {
                actions.push(Action::Restart(at));
            }
        }
    }

    fn next_state(&self, last: &World, action: Action) -> Option<World> {
        let mut world = last.clone();
        match action {
            Action::Ask(at) => {
                let replica = &mut world.replicas[at];
                replica.asks = true;
                let member = (u8::try_from(at).ok()?, replica.life);
                if self.flaw == Flaw::ByName {
                    // By its name it has asked already.
                    world.asked.retain(|(name, _)| *name != member.0);
                }
                world.asked.push(member);
                world.asked.sort_unstable();
            }
            Action::Form => world.form(self.flaw),
            Action::Step => {
                for replica in &mut world.replicas {
                    replica.steps += u8::from(replica.in_step);
                    replica.in_step = false;
                }
            }
            Action::StepFails(at) => world.replicas[at].in_step = false,
            Action::Expire(at) => {
                world.asked.remove(at);
            }
            Action::Crash(at) => {
                world.crashes -= 1;
                let replica = &mut world.replicas[at];
                (replica.alive, replica.asks, replica.in_step) = (false, false, false);
                replica.connected = None;
                replica.never_connected.clear();
            }
            Action::Restart(at) => {
                world.restarts -= 1;
                let replica = &mut world.replicas[at];
                (replica.alive, replica.life) = (true, replica.life + 1);
                // It takes the parameters of whoever is furthest.
                replica.steps = last.replicas.iter().map(|r| r.steps).max().unwrap_or(0);
            }
        }
        Some(world)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("identity", |_, world: &World| !world.mistaken),
            Property::always("progress", |model: &Self, world: &World| {
                let mut actions = Vec::new();
                model.progress(world, &mut actions);
                let alive = world.replicas.iter().filter(|replica| replica.alive);
                let waits = alive.clone().any(|replica| !model.is_done(replica));
                // With too few to train, waiting is all that can be done.
                let enough = alive.count() >= usize::from(model.least);
                !actions.is_empty() || !waits || !enough
            }),
        ]
    }
}

impl World {
    fn is_alive(&self, name: u8, life: u8) -> bool {
        let replica = self.replicas.get(usize::from(name));
        replica.is_some_and(|replica| replica.alive && replica.life == life)
    }

    /// Whoever lives has asked, or is not going to.
    fn nobody_else_may_ask(&self) -> bool {
        let mut alive = self.replicas.iter().filter(|replica| replica.alive);
        alive.all(|replica| replica.asks || replica.in_step || replica.connected.is_none())
    }

    fn form(&mut self, flaw: Flaw) {
        let members = std::mem::take(&mut self.asked);
        let names = |members: &[Member]| members.iter().map(|m| m.0).collect::<Vec<_>>();
        let same = self.quorum.as_ref().is_some_and(|(_, old)| match flaw {
            Flaw::ByName => names(old) == names(&members),
            Flaw::None | Flaw::NeverForgets => *old == members,
        });
        let last = self.quorum.as_ref().map_or(0, |(number, _)| *number);
        let number = if same { last } else { last + 1 };
        let dead = members
            .iter()
            .filter(|(name, life)| !self.is_alive(*name, *life));
        let dead: Vec<Member> = dead.copied().collect();
        self.quorum = Some((number, members.clone()));
        for &(name, life) in &members {
            if !self.is_alive(name, life) {
                continue;
            }
            let replica = &mut self.replicas[usize::from(name)];
            (replica.asks, replica.in_step) = (false, true);
            let kept = replica.connected.as_ref().filter(|(old, _)| *old == number);
            match kept {
                Some((_, old)) => self.mistaken |= *old != members,
                None => {
                    replica.connected = Some((number, members.clone()));
                    replica.never_connected.clone_from(&dead);
                }
            }
        }
    }

    /// All whom the quorum names are in its step, and connected to each other.
    fn step_is_complete(&self) -> bool {
        let Some((number, members)) = &self.quorum else {
            return false;
        };
        let wanted = Some((*number, members.clone()));
        members.iter().all(|&(name, life)| {
            let replica = &self.replicas[usize::from(name)];
            self.is_alive(name, life) && replica.in_step && replica.connected == wanted
        })
    }
}

impl Subject for LighthouseModel {
    fn boundary(&self) -> String {
        format!(
            "{} replicas, {} steps, at most {} crash, {} return",
            self.replicas, self.steps, self.crashes, self.restarts
        )
    }

    fn columns(&self) -> Vec<String> {
        let replicas = (0..self.replicas).map(|replica| format!("replica {replica}"));
        std::iter::once("lighthouse".to_owned())
            .chain(replicas)
            .collect()
    }

    fn act(&self, before: &World, action: &Action) -> (usize, String) {
        match *action {
            Action::Ask(at) => (1 + at, "asks for a quorum".to_owned()),
            Action::Form => (0, "forms a quorum".to_owned()),
            Action::Step => (0, "the step is done".to_owned()),
            Action::StepFails(at) => (1 + at, "its step fails".to_owned()),
            Action::Expire(at) => {
                let who = before.asked.get(at).map_or(0, |member| member.0);
                (0, format!("misses the heartbeat of {who}"))
            }
            Action::Crash(at) => (1 + at, "CRASHES".to_owned()),
            Action::Restart(at) => (1 + at, "COMES BACK".to_owned()),
        }
    }

    fn look(&self, world: &World, column: usize) -> String {
        let lives = |members: &[Member]| {
            let words: Vec<String> = members.iter().map(|(n, l)| format!("{n}.{l}")).collect();
            words.join(" ")
        };
        let Some(at) = column.checked_sub(1) else {
            let quorum = world
                .quorum
                .as_ref()
                .map_or_else(String::new, |(n, members)| {
                    format!("quorum {n} of {}, ", lives(members))
                });
            return format!("{quorum}asked: {}", lives(&world.asked));
        };
        let replica = &world.replicas[at];
        if !replica.alive {
            return "dead".to_owned();
        }
        let does = match (replica.asks, replica.in_step) {
            (true, _) => ", asks",
            (_, true) => ", in a step",
            _ => "",
        };
        let connected = (replica.connected.as_ref()).map_or_else(String::new, |(n, members)| {
            format!(", connected by {n} to {}", lives(members))
        });
        format!(
            "life {}, step {}{does}{connected}",
            replica.life, replica.steps
        )
    }
}

#[cfg(test)]
mod tests {
    use selvedge_sim::Class;

    use super::*;
    use crate::checker::search;

    #[test]
    fn without_a_flaw_lives_are_told_apart_and_the_dead_forgotten() {
        let model = LighthouseModel::with(Flaw::None);
        let found = search(model, "", 1_000_000);
        assert_eq!(found.verdict.class(), Class::Bounded, "{:?}", found.verdict);
    }

    #[test]
    fn a_name_is_no_identity() {
        let found = search(LighthouseModel::with(Flaw::ByName), "", 1_000_000);
        assert_eq!(found.verdict.failure().unwrap().signature, "identity");
    }

    #[test]
    fn who_is_never_forgotten_is_waited_for() {
        let model = LighthouseModel::with(Flaw::NeverForgets);
        let found = search(model, "", 1_000_000);
        assert_eq!(found.verdict.failure().unwrap().signature, "progress");
        let mut world = model.init_states().remove(0);
        let mut with_a_dead_one = false;
        for action in found.path {
            world = model.next_state(&world, action).unwrap();
            with_a_dead_one |= action == Action::Form
                && (world.quorum.iter().flat_map(|(_, members)| members))
                    .any(|&(name, life)| !world.is_alive(name, life));
        }
        assert!(with_a_dead_one, "it hangs for another reason");
    }
}
