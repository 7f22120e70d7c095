//! A run, drawn for a terminal: a narrow lane for the coordinator and for each rank, time going
//! down, what happened beside it.
//!
//! This is for a test that has a report in hand. What `selvedge` draws is a
//! [`Trace`](crate::trace::Trace), which `lanes` makes of a run.

mod lanes;

use std::fmt::Write as _;

use super::chain::{Happened, What};
use super::network::Place;
use super::{Faults, WorldReport};

/// What is too frequent to be told.
pub(super) const fn is_noise(what: What) -> bool {
    matches!(what, What::Beats | What::Timer | What::GetsBeat)
}

impl WorldReport {
    /// The last `rows` things that happened, without beats and timers. It needs
    /// [`WorldConfig::record`](super::WorldConfig::record), and says so where that is missing.
    ///
    /// ```
    /// use selvedge_sim::world::{World, WorldConfig};
    ///
    /// let config = WorldConfig { record: true, ranks: 2, epochs: 3, ..WorldConfig::default() };
    /// let drawn = World::new(config)?.run().timeline(40);
    /// assert!(drawn.contains("rank 1: done"));
    /// # Ok::<(), selvedge_sim::world::WorldError>(())
    /// ```
    #[must_use]
    pub fn timeline(&self, rows: usize) -> String {
        if self.happened.is_empty() {
            return "nothing was recorded: set `record` in the world's configuration\n".to_owned();
        }
        let lanes = self.config.ranks as usize + 1;
        let mut out = String::new();
        let told = self.happened.iter().filter(|it| !is_noise(it.what)).count();
        let skipped = told.saturating_sub(rows);
        if skipped > 0 {
            out += &format!("({skipped} earlier events are left out)\n");
        }
        out += "     seconds  ";
        for lane in 0..lanes {
            let name = match lane {
                0 => "C".to_owned(),
                n => ((n - 1) % 10).to_string(),
            };
            out += &name;
            out.push(' ');
        }
        out.push('\n');
        let mut states = vec![' '; lanes];
        let mut told = 0;
        for happened in &self.happened {
            let lane = happened.place.map(Place::index);
            if let Some(lane) = lane {
                self.mark(&mut states, lane, happened.what);
            }
            if is_noise(happened.what) {
                continue;
            }
            told += 1;
            if told > skipped {
                self.row(&mut out, &states, lane, happened);
            }
        }
        if let Some(violation) = &self.violation {
            let _ = writeln!(
                out,
                "VIOLATED {}: {}",
                violation.signature, violation.message
            );
        }
        out
    }

    fn mark(&self, states: &mut [char], lane: usize, what: What) {
        let Some(state) = states.get_mut(lane) else {
            return;
        };
        match what {
            What::Starts | What::Thaws => *state = '|',
            What::Dies | What::Done | What::Fails => *state = ' ',
            What::Freezes => *state = ':',
            _ => {}
        }
    }

    fn row(&self, out: &mut String, states: &[char], lane: Option<usize>, happened: &Happened) {
        let seconds = happened.at.as_nanos() as f64 / 1e9;
        let _ = write!(out, "{seconds:>12.6}  ");
        for (at, state) in states.iter().enumerate() {
            let mark = match (happened.what, Some(at) == lane) {
                (What::Fails | What::Dies, true) => 'X',
                (_, true) => '*',
                (_, false) => *state,
            };
            out.push(mark);
            out.push(' ');
        }
        let who = match happened.place {
            None => "world".to_owned(),
            Some(place) => place.to_string(),
        };
        let _ = write!(out, " {who}: {happened}");
        let fault = (happened.what == What::Fault)
            .then(|| self.plan.faults.get(happened.numbers[0] as usize))
            .flatten();
        if let Some(fault) = fault {
            let _ = write!(out, " ({:?})", fault.kind);
        }
        out.push('\n');
    }

    /// The run made again, with everything recorded.
    #[must_use]
    pub fn recorded(&self) -> WorldReport {
        let config = super::WorldConfig {
            record: true,
            faults: Faults::Plan(self.plan.clone()),
            ..self.config.clone()
        };
        super::run::Simulation::new(config).run()
    }
}
