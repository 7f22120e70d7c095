//! The block pool as a model: agents allocate, free, free twice and swap in every
//! order, on the very [`PoolState`] that ships. Every property of its `validate` must hold in
//! every state, and no handle that was freed may ever work again.

use selvedge_core::{AgentId, BlockRef, LayerId, ModelCacheSpec, PoolId, PoolState};
use stateright::{Model, Property};

/// How much of the pool's behaviour is explored.
#[derive(Clone, Copy, Debug)]
pub struct PoolModel {
    /// Blocks of the pool.
    pub blocks: u32,
    /// Agents.
    pub agents: usize,
    /// No block is handed out more often than this: the boundary of the search.
    pub uses: u64,
}

/// The pool, and what its users remember of it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct World {
    pool: PoolState,
    agents: Vec<AgentId>,
    /// By agent: the batches it holds.
    held: Vec<Vec<Vec<BlockRef>>>,
    /// Handles that were freed: each must be refused for ever.
    freed: Vec<(usize, BlockRef)>,
    /// A freed handle worked again, or a held one did not.
    broken: bool,
}

/// What an agent may do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Allocate so many blocks.
    Allocate(usize, u32),
    /// Free its oldest batch.
    Free(usize),
    /// Free a batch freed before.
    FreeAgain(usize, BlockRef),
    /// Swap its oldest batch for so many blocks.
    Exchange(usize, u32),
    /// Free everything of the agent at once.
    FreeAgent(usize),
}

impl Model for PoolModel {
    type State = World;
    type Action = Action;

    fn init_states(&self) -> Vec<World> {
        let spec = ModelCacheSpec::new(1, 1, 8, 16).expect("INVARIANT: no size is zero");
        let mut pool =
            PoolState::new(PoolId(1), spec, self.blocks).expect("INVARIANT: there are blocks");
        let agents: Vec<AgentId> = (0..self.agents)
            .map(|i| {
                pool.register(&format!("agent {i}"))
                    .expect("INVARIANT: it has a name")
            })
            .collect();
        vec![World {
            pool,
            held: vec![Vec::new(); agents.len()],
            agents,
            freed: Vec::new(),
            broken: false,
        }]
    }

    fn actions(&self, world: &World, actions: &mut Vec<Action>) {
        for agent in 0..self.agents {
            for n in 1..=self.blocks {
                actions.push(Action::Allocate(agent, n));
                if !world.held[agent].is_empty() {
                    actions.push(Action::Exchange(agent, n));
                }
            }
            if !world.held[agent].is_empty() {
                actions.push(Action::Free(agent));
                actions.push(Action::FreeAgent(agent));
            }
        }
        let again = world.freed.iter();
        actions.extend(again.map(|&(agent, block)| Action::FreeAgain(agent, block)));
    }

    fn next_state(&self, last: &World, action: Action) -> Option<World> {
        let mut world = last.clone();
        world.apply(&action);
        (world != *last).then_some(world)
    }

    fn within_boundary(&self, world: &World) -> bool {
        let held = world.held.iter().flatten().flatten().copied();
        let freed = world.freed.iter().map(|&(_, block)| block);
        held.chain(freed)
            .all(|block| block.generation() < self.uses)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("pool-invariants", |_, world: &World| {
                world.pool.validate().is_ok()
            }),
            Property::always("handles-end-with-their-use", |_, world: &World| {
                !world.broken
            }),
            Property::always("users-and-pool-agree", |_, world: &World| {
                let held: usize = world.held.iter().flatten().map(Vec::len).sum();
                let used = world.pool.total() - world.pool.available();
                held == used as usize
            }),
        ]
    }
}

impl World {
    fn apply(&mut self, action: &Action) {
        match *action {
            Action::Allocate(agent, n) => {
                if let Ok(batch) = self.pool.allocate(n, LayerId(0), self.agents[agent]) {
                    self.held[agent].push(batch);
                }
            }
            Action::Free(agent) => {
                let batch = self.held[agent].remove(0);
                self.broken |= self.pool.free(self.agents[agent], &batch).is_err();
                self.forget(agent, batch);
            }
            Action::FreeAgain(agent, block) => {
                self.broken |= self.pool.free(self.agents[agent], &[block]).is_ok();
            }
            Action::Exchange(agent, n) => {
                let old = self.held[agent][0].clone();
                let needs = [(LayerId(0), n)];
                if let Ok(new) = self.pool.exchange(self.agents[agent], &old, &needs) {
                    self.held[agent].remove(0);
                    self.held[agent].push(new);
                    self.forget(agent, old);
                }
            }
            Action::FreeAgent(agent) => {
                self.pool.free_agent(self.agents[agent]);
                for batch in std::mem::take(&mut self.held[agent]) {
                    self.forget(agent, batch);
                }
            }
        }
    }

    fn forget(&mut self, agent: usize, batch: Vec<BlockRef>) {
        self.freed
            .extend(batch.into_iter().map(|block| (agent, block)));
        // Which was freed first makes no difference to anybody.
        self.freed.sort_unstable();
    }
}

#[cfg(test)]
mod tests {
    use selvedge_sim::{Class, Verdict};

    use super::*;
    use crate::checker::search;

    const SMALL: PoolModel = PoolModel {
        blocks: 3,
        agents: 2,
        uses: 3,
    };

    #[test]
    fn every_property_holds_in_every_state() {
        let found = search(
            SMALL,
            "each block is handed out at most three times",
            10_000_000,
        );
        assert_eq!(found.verdict.class(), Class::Bounded, "{:?}", found.verdict);
        // Pinned: a change here means that the model explores something else than it did.
        assert_eq!(found.verdict.executions(), 61_947);
    }

    #[test]
    fn a_search_cut_short_is_no_pass() {
        let found = search(SMALL, "", 1_000);
        assert!(matches!(found.verdict, Verdict::BudgetEnded { .. }));
    }

    #[test]
    fn a_broken_property_is_found_with_a_shortest_path() {
        /// The same model, in which nobody may ever hold all blocks.
        #[derive(Clone)]
        struct Wrong(PoolModel);
        impl Model for Wrong {
            type State = World;
            type Action = Action;
            fn init_states(&self) -> Vec<World> {
                self.0.init_states()
            }
            fn actions(&self, world: &World, actions: &mut Vec<Action>) {
                self.0.actions(world, actions);
            }
            fn next_state(&self, last: &World, action: Action) -> Option<World> {
                self.0.next_state(last, action)
            }
            fn properties(&self) -> Vec<Property<Self>> {
                vec![Property::always("never-full", |_, world: &World| {
                    world.pool.available() > 0
                })]
            }
        }
        let found = search(Wrong(SMALL), "", 10_000_000);
        assert_eq!(found.verdict.failure().unwrap().signature, "never-full");
        assert_eq!(found.path, [Action::Allocate(0, 3)]);
    }
}
