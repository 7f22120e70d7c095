//! Puts the shards of a night together. **What is not there is told**: a night with a shard missing,
//! cut off or doubled is incomplete, however well the others are.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use selvedge_sim::{Class, Variant};
use thiserror::Error;

use super::file::Contents;
use super::{Ended, Header, Joined, Line, Piece, Plan, PlanUnit, Ran, Shard, better, join};
use crate::cli::{Exit, exit_code};
use crate::report::{LeftOut, RunReport, UnitReport, cross};
use crate::{Expect, Scenario, registry};

/// A night, as far as it is there.
#[derive(Debug)]
pub struct Night {
    /// What was to be run.
    pub plan: Plan,
    /// How many shards it was dealt to.
    pub shards: u32,
    /// What became of the units of which anything is there, in the order of the plan.
    pub run: RunReport,
    /// What more there is to say of each of them.
    pub units: Vec<Unit>,
    /// The planted bugs, shard by shard and session by session.
    pub canaries: Vec<Canary>,
    /// What is missing, and what is there twice.
    pub gaps: Vec<Gap>,
}

/// What a unit's pieces were.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Unit {
    /// Its place in the plan.
    pub place: usize,
    /// Executions of all pieces, those after a violation included.
    pub explored: u64,
    /// How many pieces there are.
    pub pieces: u32,
    /// How many there should be.
    pub of: u32,
    /// Probes that it must reach and did not.
    pub missed: Vec<&'static str>,
}

impl Unit {
    /// Whether all its pieces are there and time cut none of them short. What bounded searches found
    /// after the full one was cut hangs on the time, too.
    #[must_use]
    pub fn is_whole(&self, report: &UnitReport) -> bool {
        self.pieces == self.of && !report.was_cut() && report.escalation.is_none()
    }
}

/// A planted bug in one session of a shard.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Canary {
    /// Which shard.
    pub shard: u32,
    /// Which of its sessions.
    pub session: u32,
    /// The planted bug's id.
    pub scenario: String,
    /// Under which engine.
    pub engine: String,
    /// What became of it.
    pub state: CanaryState,
}

/// What became of a planted bug. **Everything but the first is red.**
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum CanaryState {
    /// It was found, by its signature.
    Found {
        /// After so many executions.
        executions: u64,
    },
    /// It was looked for, and this came of it.
    NotFound {
        /// In words.
        what: String,
    },
    /// The session ran pieces and has no record of it; an earlier one has, or it is another night's.
    Stale,
    /// There is no record of it.
    Missing,
}

/// Something that a complete night has not.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Gap {
    /// There is no file of it.
    Missing {
        /// Which shard.
        shard: u32,
    },
    /// There are several files of it. Each piece counts once.
    Doubled {
        /// Which shard.
        shard: u32,
        /// Its files.
        files: Vec<String>,
    },
    /// Some of its pieces were not run.
    CutOff {
        /// Which shard.
        shard: u32,
        /// How many pieces are missing.
        left: usize,
        /// Of how many.
        of: usize,
        /// Why the last session ended; `None` where it was killed.
        how: Option<Ended>,
    },
    /// A file whose first line was never written.
    NoHeader {
        /// Which.
        file: String,
    },
    /// A file has a line that is no record. Those after it do not count.
    Damaged {
        /// Which.
        file: String,
        /// The line, counted from 1.
        line: usize,
        /// What is wrong with it.
        why: String,
    },
    /// A file has records that the plan does not have. They do not count.
    Foreign {
        /// Which.
        file: String,
        /// How many.
        records: usize,
    },
}

/// Why files are not put together: they are no parts of one night.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Refused {
    /// There is no header in any of them.
    #[error("none of the {files} files says what it is of: nothing was written but the beginning")]
    Empty {
        /// How many there are.
        files: usize,
    },
    /// They differ in what they are of.
    #[error("these are no parts of one night: {one} is of {what} {this}, {other} of {that}")]
    Mixed {
        /// In what.
        what: &'static str,
        /// A file.
        one: String,
        /// What it says.
        this: String,
        /// Another file.
        other: String,
        /// What that says.
        that: String,
    },
    /// They were run by another program.
    #[error(
        "plan {theirs} was made by the program of sources {program}; this one, of sources {here}, \
         makes it {ours}: merge with the program that ran it"
    )]
    OtherProgram {
        /// The plan's hash in the files.
        theirs: String,
        /// The hash that this program comes to.
        ours: String,
        /// The revision of the program that ran it.
        program: String,
        /// This one's.
        here: String,
    },
}

impl fmt::Display for Gap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Gap::Missing { shard } => write!(f, "shard {shard} is missing"),
            Gap::Doubled { shard, files } => {
                write!(
                    f,
                    "shard {shard} is there {} times: {}",
                    files.len(),
                    files.join(", ")
                )
            }
            Gap::CutOff {
                shard,
                left,
                of,
                how,
            } => write!(
                f,
                "shard {shard} was cut off: {left} of its {of} pieces were not run ({}); run it \
                 again with the same --out and --run-id",
                match how {
                    None => "it was killed",
                    Some(Ended::Budget) => "time ran out",
                    Some(Ended::Interrupted) => "interrupted",
                    Some(Ended::Done) => "their records are gone",
                }
            ),
            Gap::NoHeader { file } => {
                write!(f, "{file} says nothing: its process was killed at once")
            }
            Gap::Damaged { file, line, why } => {
                write!(f, "{file} is damaged: line {line} is no record ({why})")
            }
            Gap::Foreign { file, records } => {
                write!(
                    f,
                    "{file} has {records} records that are none of its part of the plan"
                )
            }
        }
    }
}

impl Canary {
    /// Whether it was found as it must be.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        matches!(self.state, CanaryState::Found { .. })
    }

    /// What became of it, in words.
    #[must_use]
    pub fn line(&self) -> String {
        let Canary {
            shard,
            session,
            scenario,
            engine,
            ..
        } = self;
        let of = format!("{scenario} under {engine}, shard {shard}, session {session}");
        match &self.state {
            CanaryState::Found { executions } => format!("{of}: found after {executions}"),
            CanaryState::NotFound { what } => {
                format!("{of}: the planted bug was not found: {what}")
            }
            CanaryState::Stale => format!("{of}: its record is stale: of another session or night"),
            CanaryState::Missing => format!("{of}: there is no record of it"),
        }
    }
}

/// What all headers agree on.
///
/// # Errors
/// That there is none, or that they do not agree.
pub fn common_header(files: &[Contents]) -> Result<Header, Refused> {
    let mut headers = files
        .iter()
        .filter_map(|file| Some((file, file.header.as_ref()?)));
    let (first, header) = headers
        .next()
        .ok_or(Refused::Empty { files: files.len() })?;
    for (file, other) in headers {
        let facts = |header: &Header| {
            [
                ("schema", header.schema.to_string()),
                ("run", format!("'{}'", header.inputs.run_id)),
                ("plan", header.plan.clone()),
                ("a night of how many shards:", header.shard.of.to_string()),
            ]
        };
        for ((what, this), (_, that)) in facts(header).into_iter().zip(facts(other)) {
            if this != that {
                let (one, other) = (first.name.clone(), file.name.clone());
                return Err(Refused::Mixed {
                    what,
                    one,
                    this,
                    other,
                    that,
                });
            }
        }
    }
    Ok(header.clone())
}

impl Night {
    /// Puts these files together, which are of this plan. With `only`, the files are those of one
    /// shard, and nothing is said of the others.
    #[must_use]
    pub fn of(plan: Plan, shards: u32, mut files: Vec<Contents>, only: Option<Shard>) -> Self {
        files.sort_by_key(|file| (file.header.as_ref().map(|h| h.shard), file.name.clone()));
        let parts = Parts::of(&plan, shards, only);
        let mut pieces: BTreeMap<Piece, Ran> = BTreeMap::new();
        let mut left_out = BTreeMap::new();
        let mut gaps = Vec::new();
        let mut canaries = Vec::new();
        for file in &files {
            gaps.extend(trouble(file));
            let Some(header) = &file.header else { continue };
            let part = parts.of_shard(header.shard.number);
            let mut foreign = 0;
            for line in &file.lines {
                match line {
                    Line::Piece { ran, .. } => {
                        let piece = ran.piece(&plan).filter(|piece| part.contains(piece));
                        match piece.filter(|piece| plan.seed(*piece) == ran.drawn_from) {
                            Some(piece) => insert(&mut pieces, piece, ran),
                            None => foreign += 1,
                        }
                    }
                    Line::LeftOut {
                        scenario,
                        variant,
                        engine,
                        needs_s,
                        ..
                    } => {
                        let place = plan.units.iter().position(|unit| {
                            (&unit.scenario, unit.variant, &unit.engine)
                                == (scenario, *variant, engine)
                        });
                        if let Some(place) = place {
                            left_out.insert(place, *needs_s);
                        }
                    }
                    _ => {}
                }
            }
            if foreign > 0 {
                let (file, records) = (file.name.clone(), foreign);
                gaps.push(Gap::Foreign { file, records });
            }
            canaries.extend(canaries::of(&plan, header.shard, file));
        }
        left_out.retain(|place, _| !pieces.keys().any(|piece| piece.unit == *place));
        gaps.extend(parts.gaps(&files, &pieces, &left_out));
        gaps.sort();
        let mut night = Night {
            run: empty_run(),
            units: Vec::new(),
            plan,
            shards,
            canaries,
            gaps,
        };
        night.leave_out(&left_out);
        night.judge(pieces);
        night
    }

    /// What was never dealt, and what a shard had no room for beside the rest of its part.
    fn leave_out(&mut self, left_out: &BTreeMap<usize, u64>) {
        let by_plan = self.plan.left_out.iter().map(|unit| (unit, unit.needs_s));
        let by_shard = left_out
            .iter()
            .map(|(place, needs_s)| (&self.plan.units[*place], *needs_s));
        for (unit, needs_s) in by_plan.chain(by_shard) {
            if let (Some(scenario), Ok(engine)) = (registry::find(&unit.scenario), unit.engine()) {
                self.run.left_out.push(LeftOut {
                    scenario,
                    variant: unit.variant,
                    engine,
                    needs: Duration::from_secs(needs_s),
                });
            }
        }
    }

    fn judge(&mut self, mut pieces: BTreeMap<Piece, Ran>) {
        for (place, unit) in self.plan.units.iter().enumerate() {
            let Some(scenario) = registry::find(&unit.scenario) else {
                continue;
            };
            let of_unit = (0..unit.intervals).filter_map(|interval| {
                pieces.remove(&Piece {
                    unit: place,
                    interval,
                })
            });
            let of_unit: Vec<Ran> = of_unit.collect();
            let Some(joined) = join(of_unit, expected(scenario, unit)) else {
                continue;
            };
            let Some(mut report) = joined.ran.report() else {
                continue;
            };
            self.units.push(Unit {
                place,
                explored: joined.explored,
                pieces: joined.pieces,
                of: unit.intervals,
                missed: missed(scenario, &report),
            });
            report.surprise = surprise(scenario, unit, &joined, &report);
            report.require(Class::Sampled);
            self.run.took += report.took;
            self.run.units.push(report);
        }
        self.run.cross = cross::compare(&self.run.units);
        self.run.exit = self.exit();
    }

    fn exit(&self) -> Exit {
        let worst = exit_code(&self.run.units, &self.run.cross);
        match worst {
            Exit::Property | Exit::Deadlock | Exit::Liveness | Exit::Interrupted => worst,
            _ if self.canaries.iter().any(|canary| !canary.is_alive()) => Exit::Survived,
            Exit::Ok if !self.gaps.is_empty() => Exit::Budget,
            _ => worst,
        }
    }

    /// Units with what more there is to say of each.
    pub fn rows(&self) -> impl Iterator<Item = (&Unit, &UnitReport)> {
        self.units.iter().zip(&self.run.units)
    }

    /// The planted bugs that were not found as they must be.
    pub fn dead_canaries(&self) -> impl Iterator<Item = &Canary> {
        self.canaries.iter().filter(|canary| !canary.is_alive())
    }
}

/// Which pieces each shard has to run.
struct Parts {
    by_shard: BTreeMap<u32, BTreeSet<Piece>>,
}

impl Parts {
    fn of(plan: &Plan, of: u32, only: Option<Shard>) -> Self {
        let numbers = match only {
            Some(shard) => shard.number..=shard.number,
            None => 1..=of,
        };
        let part = |number| {
            (
                number,
                plan.part(Shard { number, of }).into_iter().collect(),
            )
        };
        Parts {
            by_shard: numbers.map(part).collect(),
        }
    }

    fn of_shard(&self, number: u32) -> BTreeSet<Piece> {
        self.by_shard.get(&number).cloned().unwrap_or_default()
    }

    fn gaps(
        &self,
        files: &[Contents],
        pieces: &BTreeMap<Piece, Ran>,
        left_out: &BTreeMap<usize, u64>,
    ) -> Vec<Gap> {
        let mut gaps = Vec::new();
        for (&shard, part) in &self.by_shard {
            let is_of =
                |file: &&Contents| file.header.as_ref().map(|h| h.shard.number) == Some(shard);
            let of_shard: Vec<&Contents> = files.iter().filter(is_of).collect();
            if of_shard.is_empty() {
                gaps.push(Gap::Missing { shard });
                continue;
            }
            if of_shard.len() > 1 {
                let files = of_shard.iter().map(|file| file.name.clone()).collect();
                gaps.push(Gap::Doubled { shard, files });
            }
            let left = part
                .iter()
                .filter(|piece| !pieces.contains_key(piece) && !left_out.contains_key(&piece.unit));
            let left = left.count();
            if left > 0 {
                let how = match of_shard.last().and_then(|file| file.lines.last()) {
                    Some(Line::End { how, .. }) => Some(*how),
                    _ => None,
                };
                let of = part.len();
                gaps.push(Gap::CutOff {
                    shard,
                    left,
                    of,
                    how,
                });
            }
        }
        gaps
    }
}

fn empty_run() -> RunReport {
    RunReport {
        units: Vec::new(),
        cross: Vec::new(),
        left_out: Vec::new(),
        exit: Exit::Ok,
        interrupted: false,
        budget: Duration::ZERO,
        took: Duration::ZERO,
    }
}

fn insert(pieces: &mut BTreeMap<Piece, Ran>, piece: Piece, ran: &Ran) {
    let ran = match pieces.remove(&piece) {
        Some(before) => better(before, ran.clone()),
        None => ran.clone(),
    };
    pieces.insert(piece, ran);
}

fn trouble(file: &Contents) -> Option<Gap> {
    let name = || file.name.clone();
    match (&file.damaged, &file.header) {
        (Some((line, why)), _) => Some(Gap::Damaged {
            file: name(),
            line: *line,
            why: why.clone(),
        }),
        (None, None) => Some(Gap::NoHeader { file: name() }),
        (None, Some(_)) => None,
    }
}

/// What the unit may be violated by; `None` where it must not be at all.
fn expected<'a>(scenario: &'a Scenario, unit: &PlanUnit) -> Option<&'a str> {
    let engine = unit.engine().ok()?;
    let may = matches!(scenario.expectation(engine), Expect::Finds | Expect::May(_));
    (unit.variant == Variant::AsReported && may).then_some(scenario.signature)
}

fn missed(scenario: &Scenario, report: &UnitReport) -> Vec<&'static str> {
    if report.variant == Variant::AsReported || report.verdict.failure().is_some() {
        return Vec::new();
    }
    let reached = |probe: &&&str| !report.reached.iter().any(|reached| reached == **probe);
    scenario
        .must_reach
        .iter()
        .filter(reached)
        .copied()
        .collect()
}

/// Why what came of a unit is not what was expected. Of one that is not all there, only what no
/// other piece could mend.
fn surprise(
    scenario: &Scenario,
    unit: &PlanUnit,
    joined: &Joined,
    report: &UnitReport,
) -> Option<String> {
    let class = report.verdict.class();
    let is_whole = joined.pieces == unit.intervals;
    let mends = matches!(class, Class::Sampled | Class::Bounded | Class::Exhausted);
    if !is_whole && mends {
        return None;
    }
    let surprise = scenario.surprise(
        report.variant,
        report.engine,
        &report.verdict,
        &report.reached,
    );
    match (surprise, joined.others.is_empty()) {
        (Some(surprise), false) => {
            let others = joined.others.join("', '");
            Some(format!("{surprise}; other intervals found '{others}'"))
        }
        (surprise, _) => surprise,
    }
}

mod canaries;
#[cfg(test)]
mod tests;
