//! What ticket B2-DRL-05 proposes, and what is wrong with it. Each rank goes through its own
//! loader; every step is an all-reduce with all others; at the end of *its* epoch a rank ticks
//! alpha. Under **option A** rank 0's alpha is broadcast then; under **option B** nothing is,
//! because a document asks for loaders of equal length.
//!
//! Collectives meet in the order in which each rank issues them, as in NCCL and gloo. With equal
//! loaders both options are clean. With loaders of one and two batches a rank that broadcasts
//! meets one that all-reduces, and both wait for ever; or one step adds up gradients of two
//! alphas.

use stateright::{Model, Property};

use crate::subject::Subject;

/// What is done at the end of an epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Boundary {
    /// Option A: rank 0 broadcasts its alpha.
    Broadcast,
    /// Option B: nothing.
    Nothing,
}

/// A run as the ticket has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TicketModel {
    /// Which option.
    pub boundary: Boundary,
    /// By rank: batches of an epoch.
    pub batches: Vec<u8>,
    /// Epochs of the run.
    pub epochs: u8,
}

/// What a rank has issued and waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Collective {
    /// A step, with this many ticks of alpha in its gradient.
    Step(u8),
    /// A broadcast of this many ticks, of which rank 0's count.
    Ticks(u8),
}

/// One rank.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct RankAt {
    epoch: u8,
    batch: u8,
    ticks: u8,
    issued: Option<Collective>,
    /// The result is there: the ticks that rank 0 gave.
    result: Option<u8>,
}

/// All ranks.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Ranks {
    ranks: Vec<RankAt>,
    /// A step has added up gradients of two alphas.
    mixed: bool,
}

/// What may happen next: a rank issues its next collective, or goes on after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// It issues what comes next.
    Issue(usize),
    /// It has the result.
    GoOn(usize),
}

impl TicketModel {
    fn is_done(&self, rank: &RankAt) -> bool {
        rank.epoch == self.epochs
    }
}

impl Model for TicketModel {
    type State = Ranks;
    type Action = Action;

    fn init_states(&self) -> Vec<Ranks> {
        vec![Ranks {
            ranks: vec![RankAt::default(); self.batches.len()],
            mixed: false,
        }]
    }

    fn actions(&self, all: &Ranks, actions: &mut Vec<Action>) {
        for (at, rank) in all.ranks.iter().enumerate() {
            if rank.issued.is_none() && !self.is_done(rank) {
                actions.push(Action::Issue(at));
            }
            if rank.result.is_some() {
                actions.push(Action::GoOn(at));
            }
        }
    }

    fn next_state(&self, last: &Ranks, action: Action) -> Option<Ranks> {
        let mut all = last.clone();
        match action {
            Action::Issue(at) => {
                let rank = &mut all.ranks[at];
                let over = rank.batch == self.batches[at];
                rank.issued = Some(match over {
                    true => Collective::Ticks(rank.ticks + 1),
                    false => Collective::Step(rank.ticks),
                });
                all.meet();
            }
            Action::GoOn(at) => {
                let rank = &mut all.ranks[at];
                match (rank.issued.take(), rank.result.take()) {
                    (Some(Collective::Step(_)), _) => rank.batch += 1,
                    (_, Some(ticks)) => {
                        (rank.epoch, rank.batch, rank.ticks) = (rank.epoch + 1, 0, ticks);
                    }
                    _ => {}
                }
                if self.boundary == Boundary::Nothing && rank.batch == self.batches[at] {
                    (rank.epoch, rank.batch, rank.ticks) = (rank.epoch + 1, 0, rank.ticks + 1);
                }
            }
        }
        Some(all)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("no-mix", |_, all: &Ranks| !all.mixed),
            Property::always("progress", |model: &Self, all: &Ranks| {
                let mut actions = Vec::new();
                model.actions(all, &mut actions);
                !actions.is_empty() || all.ranks.iter().all(|rank| model.is_done(rank))
            }),
        ]
    }
}

impl Ranks {
    /// Where all wait in the same kind of collective, it completes. Where they wait in
    /// different ones, nothing ever does.
    fn meet(&mut self) {
        let issued: Option<Vec<Collective>> = self.ranks.iter().map(|rank| rank.issued).collect();
        let Some(issued) = issued else {
            return;
        };
        if self.ranks.iter().any(|rank| rank.result.is_some()) {
            return;
        }
        let steps = |c: &Collective| matches!(c, Collective::Step(_));
        let same_kind = issued.iter().all(steps) || !issued.iter().any(steps);
        if same_kind {
            self.mixed |= steps(&issued[0]) && issued.iter().any(|other| *other != issued[0]);
            let (Collective::Step(ticks) | Collective::Ticks(ticks)) = issued[0];
            (self.ranks.iter_mut()).for_each(|rank| rank.result = Some(ticks));
        }
    }
}

impl Subject for TicketModel {
    fn boundary(&self) -> String {
        format!(
            "{} ranks, {} epochs, nothing fails",
            self.batches.len(),
            self.epochs
        )
    }

    fn columns(&self) -> Vec<String> {
        (0..self.batches.len())
            .map(|rank| format!("rank {rank}"))
            .collect()
    }

    fn act(&self, _: &Ranks, action: &Action) -> (usize, String) {
        match *action {
            Action::Issue(at) => (at, "issues".to_owned()),
            Action::GoOn(at) => (at, "goes on".to_owned()),
        }
    }

    fn look(&self, all: &Ranks, column: usize) -> String {
        let rank = &all.ranks[column];
        let (epoch, batch) = (rank.epoch + 1, rank.batch + 1);
        match (rank.issued, rank.result) {
            _ if self.is_done(rank) => "done".to_owned(),
            (None, _) => format!("epoch {epoch}, batch {batch}, alpha {}", rank.ticks),
            (Some(Collective::Step(ticks)), None) => {
                format!("waits in the step's all-reduce with alpha {ticks}")
            }
            (Some(Collective::Ticks(_)), None) => "waits in the broadcast of alpha".to_owned(),
            (Some(_), Some(_)) => "has the result".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use selvedge_sim::Class;

    use super::*;
    use crate::checker::{Search, search};

    fn run(boundary: Boundary, batches: &[u8]) -> Search<Action> {
        let batches = batches.to_vec();
        let epochs = 2;
        let model = TicketModel {
            boundary,
            batches,
            epochs,
        };
        search(model, "two epochs", 100_000)
    }

    #[test]
    fn option_a_hangs_where_loaders_are_uneven() {
        use Action::{GoOn, Issue};
        let found = run(Boundary::Broadcast, &[1, 2]);
        assert_eq!(found.verdict.failure().unwrap().signature, "progress");
        // Both step; then one broadcasts while the other steps.
        let path = [Issue(0), Issue(1), GoOn(0), GoOn(1), Issue(0), Issue(1)];
        assert_eq!(found.path.len(), path.len(), "{:?}", found.path);
    }

    #[test]
    fn option_b_mixes_two_alphas_where_loaders_are_uneven() {
        let found = run(Boundary::Nothing, &[1, 2]);
        assert_eq!(found.verdict.failure().unwrap().signature, "no-mix");
        assert_eq!(found.path.len(), 6, "{:?}", found.path);
    }

    #[test]
    fn with_equal_loaders_both_are_clean() {
        for boundary in [Boundary::Broadcast, Boundary::Nothing] {
            let found = run(boundary, &[2, 2]);
            assert_eq!(found.verdict.class(), Class::Bounded, "{:?}", found.verdict);
        }
    }
}
