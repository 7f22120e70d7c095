//! Dynamic partial-order reduction: of all schedules that differ only in the order of
//! independent steps, one is run.
//!
//! After each execution, every *race* (two dependent steps of different tasks that nothing
//! else orders) is reversed: at the node before the first of the two, the steps that lead to
//! the second without the first are put into a *wake-up tree*, unless what was explored there
//! already covers them. A step explored at a node *sleeps* in its siblings' subtrees until
//! something dependent is done: what would begin with it was seen (Abdulla, Aronsson,
//! Jonsson, Sagonas: "Source sets", 2017). Sequences are inserted by weak initials, so no two
//! complete executions are equivalent.

use super::access::{Access, Kind, NO_OBJECT};
use super::clock::Clock;
use super::record::{Event, Gate, NO_CHOICE, Record, allows};
use super::runtime::{Pick, Strategy};
use super::sleeping::{Asleep, Prefix};

/// Any choice of a notification: one still to be made, or all of them where it sleeps.
const ANY_CHOICE: u32 = u32::MAX - 1;

/// A step that was explored at a node, and what it did there.
#[derive(Clone, Copy, Debug)]
struct Sleeper {
    task: u32,
    choice: u32,
    access: Access,
    /// Whether it was asleep where this search began: it was, or will be, explored elsewhere,
    /// and the races found there are not told here.
    given: bool,
}

impl Sleeper {
    /// As it sleeps past the node where it fell asleep. Other waiters that a notification could
    /// choose were explored or are planned there. Other ways that a body could take are steps
    /// of their own: what begins with one of them is told apart from what begins with this.
    fn as_inherited(&self) -> Sleeper {
        let choice = match self.access.kind {
            Kind::Choose => self.choice,
            _ => ANY_CHOICE,
        };
        Sleeper { choice, ..*self }
    }
}

/// A step to take, and what to take after it.
#[derive(Clone, Debug)]
struct Branch {
    task: u32,
    choice: u32,
    access: Access,
    then: Vec<Branch>,
}

/// A state on the way of the running execution.
#[derive(Debug)]
struct Node {
    fingerprint: u64,
    /// Steps that need not be taken from here.
    sleep: Vec<Sleeper>,
    /// Steps to take from here, the one under way first.
    tree: Vec<Branch>,
}

/// One step of a sequence to insert.
#[derive(Clone, Copy, Debug)]
struct Item {
    task: u32,
    choice: u32,
    access: Access,
    /// The event it was; `None` for the last, which was not yet or comes out differently.
    event: Option<u32>,
}

/// The second step of a race.
struct Second {
    item: Item,
    /// What happened before it, not counting its object.
    pre: Clock,
    open: bool,
    /// Events that may race with it are before this one.
    before: u32,
}

/// The search as it stands.
#[derive(Debug, Default)]
pub(super) struct Reduction {
    /// Where the search begins. What could be done on the way there is for others to do.
    prefix: Prefix,
    nodes: Vec<Node>,
    /// Whether the step under way at the last node is yet to be chosen.
    resumes: bool,
    /// Events before this one are those of the execution before: the races that end in them
    /// were reversed then.
    fresh: u32,
}

impl Strategy for Reduction {
    fn pick(&mut self, record: &Record, enabled: &[u32], current: u32) -> Pick {
        let depth = record.events.len();
        let fingerprint = record.fingerprint();
        let known = self.nodes.len();
        if known == depth
            && let Some(pick) = self.prefix.follow(record, enabled)
        {
            if let Pick::Run(task, choice) = pick {
                self.nodes.push(Node::on_the_way(record, task, choice));
            }
            return pick;
        }
        if let Some(node) = self.nodes.get_mut(depth) {
            if node.fingerprint != fingerprint {
                return Pick::Diverged(format!(
                    "after the same {depth} steps something else could come next: the body depends on \
                     time, chance, addresses or state outside of the platform"
                ));
            }
            if depth + 1 < known || !self.resumes {
                let Branch { task, choice, .. } = node.tree[0];
                return Pick::Run(task, choice);
            }
            self.resumes = false;
            return match node.choose(record, enabled) {
                Some((task, choice)) => Pick::Run(task, choice),
                None => Pick::GiveUp,
            };
        }
        let mut node = match self.nodes.last() {
            Some(_) if depth == self.prefix.steps.len() => {
                Node::after(&self.prefix, record, fingerprint)
            }
            None => Node {
                fingerprint,
                sleep: Vec::new(),
                tree: Vec::new(),
            },
            Some(parent) => {
                let event = &record.events[depth - 1];
                let wakes = |s: &Sleeper| s.task == event.task || s.access.depends_on(event.access);
                Node {
                    fingerprint,
                    sleep: (parent.sleep.iter().filter(|s| !wakes(s)))
                        .map(Sleeper::as_inherited)
                        .collect(),
                    tree: parent.tree[0].then.clone(),
                }
            }
        };
        let picked = node
            .choose(record, enabled)
            .or_else(|| node.choose_any(record, enabled, current));
        match picked {
            Some((task, choice)) => {
                self.nodes.push(node);
                Pick::Run(task, choice)
            }
            None => Pick::GiveUp,
        }
    }
}

impl Node {
    /// A node of the prefix: there is one step to take.
    fn on_the_way(record: &Record, task: u32, choice: u32) -> Node {
        Node {
            fingerprint: record.fingerprint(),
            sleep: Vec::new(),
            tree: vec![Branch {
                task,
                choice,
                access: record.task(task).pending,
                then: Vec::new(),
            }],
        }
    }

    /// The node at the end of the prefix.
    fn after(prefix: &Prefix, record: &Record, fingerprint: u64) -> Node {
        let mut asleep = prefix.sleep.clone();
        asleep.wake(record);
        let sleeper = |asleep: &Asleep| Sleeper {
            task: asleep.task,
            choice: ANY_CHOICE,
            access: asleep.access,
            given: true,
        };
        Node {
            fingerprint,
            sleep: asleep.0.iter().map(sleeper).collect(),
            tree: Vec::new(),
        }
    }

    fn sleeps(&self, task: u32, choice: u32) -> bool {
        (self.sleep.iter()).any(|sleeper| {
            sleeper.task == task && (sleeper.choice == choice || sleeper.choice == ANY_CHOICE)
        })
    }

    /// The first branch that can be taken; those before it are dropped.
    fn choose(&mut self, record: &Record, enabled: &[u32]) -> Option<(u32, u32)> {
        while let Some(branch) = self.tree.first() {
            let Branch { task, choice, .. } = *branch;
            if enabled.contains(&task)
                && let Some(choice) = self.choice_for(record, task, choice)
            {
                self.tree[0].choice = choice;
                self.add_other_choices(record, task, choice);
                return Some((task, choice));
            }
            self.tree.remove(0);
        }
        None
    }

    /// Whoever need not sleep; the running task first, for executions with few switches.
    fn choose_any(&mut self, record: &Record, enabled: &[u32], current: u32) -> Option<(u32, u32)> {
        let goes_on = !record.task(current).yielding;
        let first = enabled.iter().filter(|&&task| goes_on && task == current);
        let (task, choice) = (first.chain(enabled))
            .find_map(|&task| Some((task, self.choice_for(record, task, ANY_CHOICE)?)))?;
        let access = record.task(task).pending;
        self.tree.push(Branch {
            task,
            choice,
            access,
            then: Vec::new(),
        });
        self.add_other_choices(record, task, choice);
        Some((task, choice))
    }

    /// The choice to make, of those that need not sleep; `None` where all sleep.
    fn choice_for(&self, record: &Record, task: u32, wanted: u32) -> Option<u32> {
        let choices = record.choices(task);
        if choices.is_empty() {
            return (!self.sleeps(task, NO_CHOICE)).then_some(NO_CHOICE);
        }
        if choices.contains(&wanted) {
            return (!self.sleeps(task, wanted)).then_some(wanted);
        }
        choices
            .iter()
            .copied()
            .find(|&choice| !self.sleeps(task, choice))
    }

    /// Whichever waiter is notified, the others could have been. They come right behind the one
    /// under way: a branch between them would let the task sleep with all of its choices, and
    /// then sleep itself where the others are taken.
    fn add_other_choices(&mut self, record: &Record, task: u32, chosen: u32) {
        // Those planned already come here too.
        let mut others: Vec<Branch> = Vec::new();
        let mut place = 1;
        while place < self.tree.len() {
            match self.tree[place].task == task && self.tree[place].choice != chosen {
                true => others.push(self.tree.remove(place)),
                false => place += 1,
            }
        }
        let planned = others.len();
        self.tree.splice(1..1, others);
        let mut at = 1 + planned;
        for &choice in record.choices(task) {
            let known = self
                .tree
                .iter()
                .any(|b| b.task == task && b.choice == choice);
            if choice != chosen && !known && !self.sleeps(task, choice) {
                let access = record.task(task).pending;
                let branch = Branch {
                    task,
                    choice,
                    access,
                    then: Vec::new(),
                };
                self.tree.insert(at, branch);
                at += 1;
            }
        }
    }
}

impl Reduction {
    /// The search of what begins with this prefix.
    pub(super) fn below(prefix: Prefix) -> Self {
        Reduction {
            prefix,
            ..Reduction::default()
        }
    }

    /// Reverses the races of the execution that just ended and goes back to the last node
    /// with something left to do. Whether there is one.
    pub(super) fn advance(&mut self, record: &Record, cut_short: bool) -> bool {
        self.reverse_races(record, cut_short);
        self.resumes = true;
        loop {
            let depth = self.nodes.len();
            let Some(node) = self.nodes.last_mut() else {
                return false;
            };
            if let Some(event) = record.events.get(depth - 1) {
                node.sleep.push(Sleeper {
                    task: event.task,
                    choice: event.choice,
                    access: event.access,
                    given: false,
                });
                node.tree.remove(0);
            }
            if !node.tree.is_empty() {
                self.fresh = depth as u32 - 1;
                return true;
            }
            self.nodes.pop();
        }
    }

    fn reverse_races(&mut self, record: &Record, cut_short: bool) {
        for (index, event) in (0..).zip(&record.events) {
            if index >= self.fresh && event.access.object != NO_OBJECT {
                let choice = if event.choice == NO_CHOICE {
                    NO_CHOICE
                } else {
                    ANY_CHOICE
                };
                let second = Second {
                    item: Item {
                        task: event.task,
                        choice,
                        access: Access {
                            kind: event.announced,
                            ..event.access
                        },
                        event: Some(index),
                    },
                    pre: event.pre.clone(),
                    open: event.open,
                    before: index,
                };
                self.reverse_races_with(record, &second, event.access.kind);
            }
        }
        // What a task never got to do races as well: else no deadlock would lead to the next.
        for &id in &record.live {
            let task = record.task(id);
            let access = task.pending;
            let held_back = !allows(record.state_of(access), access.kind);
            if task.finished || access.object == NO_OBJECT || !(held_back || cut_short) {
                continue;
            }
            let mut pre = task.clock.clone();
            match (task.gate, task.notified) {
                (Gate::Notified, Some(by)) => pre.join(&record.events[by as usize].clock),
                (Gate::Notified, None) => continue,
                _ => {}
            }
            let second = Second {
                item: Item {
                    task: id,
                    choice: NO_CHOICE,
                    access,
                    event: None,
                },
                pre,
                open: task.gate != Gate::TimedOut,
                before: record.events.len() as u32,
            };
            self.reverse_races_with(record, &second, access.kind);
        }
    }

    fn reverse_races_with(&mut self, record: &Record, second: &Second, kind: Kind) {
        let access = Access {
            kind,
            ..second.item.access
        };
        let mut known = second.pre.clone();
        let history = &record.objects[access.object as usize].history;
        for &index in history
            .iter()
            .rev()
            .skip_while(|&&index| index >= second.before)
        {
            let first = &record.events[index as usize];
            let total = first.access.kind.is_total();
            let races = first.access.depends_on(access) && !first.is_known_to(&known);
            if races {
                if let Some(without) = reversal(record, first, index, second) {
                    self.insert(record, &without, second);
                    known.join(&first.clock);
                    if total {
                        return;
                    }
                }
            } else if total {
                return;
            }
        }
    }

    /// Plans the execution in which the second step comes without those of `without`.
    fn insert(&mut self, record: &Record, without: &[u32], second: &Second) {
        let first = without[0];
        if (first as usize) < self.prefix.steps.len() {
            return;
        }
        let mut sequence: Vec<Item> = Vec::new();
        let mut pre = second.pre.clone();
        for (index, event) in (first + 1..).zip(&record.events[first as usize + 1..]) {
            if Some(index) == second.item.event || comes_after(record, event, without) {
                continue;
            }
            if event.access.depends_on(second.item.access) {
                pre.join(&event.clock);
            }
            sequence.push(Item {
                task: event.task,
                choice: event.choice,
                access: event.access,
                event: Some(index),
            });
        }
        sequence.push(Item {
            event: None,
            ..second.item
        });
        let node = &mut self.nodes[first as usize];
        // Where a sleeper is in the sequence, it would have to be taken asleep. Where it is not,
        // all that begins so was explored with it; but what may follow and wake it is found by
        // races that are seen only there, so where that is elsewhere the sequence is taken.
        let covered =
            |s: &Sleeper| match initial(record, &sequence, &pre, s.task, s.choice, s.access) {
                Some(place) => place.is_some() || !s.given,
                None => false,
            };
        if node.sleep.iter().any(covered) {
            return;
        }
        insert_into(&mut node.tree, record, sequence, &pre);
    }
}

fn comes_after(record: &Record, event: &Event, any_of: &[u32]) -> bool {
    (any_of.iter()).any(|&first| record.events[first as usize].is_known_to(&event.clock))
}

/// The steps that must not come before the second one for it to come before `first`, earliest
/// first; `None` where nothing brings it there: not what makes it possible at all.
fn reversal(record: &Record, first: &Event, index: u32, second: &Second) -> Option<Vec<u32>> {
    let kind = second.item.access.kind;
    if kind == Kind::WriteLock && first.access.kind == Kind::ReadLock {
        return before_readers(record, index, second);
    }
    if kind == Kind::WriteLock && first.access.kind == Kind::ReadUnlock {
        return None;
    }
    (second.open && allows(first.before, kind)).then(|| vec![index])
}

/// A writer comes before a reader only if each reader that came otherwise has left without
/// it, or is made to come later as well.
fn before_readers(record: &Record, index: u32, second: &Second) -> Option<Vec<u32>> {
    let mut without = vec![index];
    let history = &record.objects[second.item.access.object as usize].history;
    let earlier: Vec<u32> = (history.iter().copied())
        .filter(|&i| i < second.before)
        .collect();
    // Readers since the last writer, each with its leaving.
    let since = earlier
        .iter()
        .rposition(|&i| record.events[i as usize].access.kind.is_total());
    let readers = &earlier[since.map_or(0, |place| place + 1)..];
    loop {
        let mut grown = false;
        for (place, &i) in readers.iter().enumerate() {
            let event = &record.events[i as usize];
            if event.access.kind != Kind::ReadLock || comes_after(record, event, &without) {
                continue;
            }
            let leaves = readers[place + 1..].iter().find(|&&j| {
                let other = &record.events[j as usize];
                other.task == event.task && other.access.kind == Kind::ReadUnlock
            });
            let left =
                leaves.is_some_and(|&j| !comes_after(record, &record.events[j as usize], &without));
            if !left {
                if event.is_known_to(&second.pre) {
                    return None;
                }
                without.push(i);
                grown = true;
            }
        }
        if !grown {
            without.sort_unstable();
            return Some(without);
        }
    }
}

/// Whether an equivalent of the sequence can begin with this task's next step: where in the
/// sequence that step is, or `Some(None)` where it is not in it and independent of it all.
fn initial(
    record: &Record,
    sequence: &[Item],
    pre: &Clock,
    task: u32,
    choice: u32,
    access: Access,
) -> Option<Option<usize>> {
    let Some(place) = sequence.iter().position(|item| item.task == task) else {
        let independent = sequence.iter().all(|item| !access.depends_on(item.access));
        return independent.then_some(None);
    };
    let item = &sequence[place];
    if access.kind == Kind::Choose && item.choice != choice {
        return None;
    }
    let clock = item
        .event
        .map_or(pre, |event| &record.events[event as usize].clock);
    let first = (sequence[..place].iter()).all(|earlier| match earlier.event {
        Some(event) => !record.events[event as usize].is_known_to(clock),
        None => true,
    });
    first.then_some(Some(place))
}

fn insert_into(tree: &mut Vec<Branch>, record: &Record, mut sequence: Vec<Item>, pre: &Clock) {
    let found = tree.iter().enumerate().find_map(|(number, branch)| {
        let place = initial(
            record,
            &sequence,
            pre,
            branch.task,
            branch.choice,
            branch.access,
        )?;
        Some((number, place))
    });
    if let Some((mut number, place)) = found {
        if let Some(place) = place {
            let Item { task, choice, .. } = sequence.remove(place);
            if choice != ANY_CHOICE && choice != tree[number].choice {
                // With another choice: that one is planned too once the first is made.
                let same = |b: &Branch| b.task == task && b.choice == choice;
                match tree.iter().position(same) {
                    Some(branch) => number = branch,
                    None => return,
                }
            }
        }
        let then = &mut tree[number].then;
        if !then.is_empty() && !sequence.is_empty() {
            insert_into(then, record, sequence, pre);
        }
        return;
    }
    let chain = sequence.iter().rev().fold(Vec::new(), |then, item| {
        vec![Branch {
            task: item.task,
            choice: item.choice,
            access: item.access,
            then,
        }]
    });
    tree.extend(chain);
}
