//! The loop that drives a fleet: what children say, who has ended, whose time has come, what the
//! plan wants done.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::ops::ControlFlow;
use std::process::Command;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

use super::process::{Process, Said, Who};
use super::slot::{Again, Bar, Due, Slot, end_of};
use super::{End, FleetConfig, FleetError, Outcome, RankStatus, STORE, Standing, Status, journal};
use crate::training::chaos::{Cut, Fault};
use crate::training::event::Event;

/// How often clocks and children are looked at.
const TICK: Duration = Duration::from_millis(10);
/// A rank that failed is started again after this.
const AGAIN_AFTER: Duration = Duration::from_millis(100);
/// A rank that has so many lives behind it gets no other.
const MOST_LIVES: u32 = 100;

/// Runs all of it to the end. `look` sees how it stands, again and again, and may break it off.
///
/// # Errors
/// [`FleetError`], where a process cannot be started or signalled. All that were started are
/// killed and waited for then.
pub fn run(
    config: &FleetConfig,
    look: &mut dyn FnMut(&Status) -> ControlFlow<()>,
) -> Result<Outcome, FleetError> {
    let (sender, said) = mpsc::channel();
    let mut fleet = Fleet {
        config,
        sender,
        started: Instant::now(),
        coordinator: Slot::default(),
        address: None,
        ranks: (0..config.world).map(|_| Slot::default()).collect(),
        status: Status {
            epoch: 0,
            ranks: vec![
                RankStatus {
                    standing: Standing::Down,
                    life: 0,
                    line: None,
                    view: 0,
                    ends: Vec::new(),
                    commits: Vec::new(),
                    last: String::new(),
                };
                config.world as usize
            ],
            news: Vec::new(),
        },
        coordinator_ends: Vec::new(),
        faults: config.plan.iter().copied().map(Due::new).collect(),
        progress: Instant::now(),
        over: None,
        commits: BTreeMap::new(),
        steps: BTreeMap::new(),
    };
    let (stuck, interrupted) = fleet.drive(&said, look)?;
    let coordinator_lives = fleet.coordinator.lives;
    Ok(Outcome {
        ranks: fleet.status.ranks,
        coordinator_lives,
        coordinator_ends: fleet.coordinator_ends,
        faults: (fleet.faults.iter())
            .map(|due| (due.planned, due.done_at))
            .collect(),
        over: fleet.over.is_some(),
        stuck,
        interrupted,
        commits: fleet.commits,
        steps: fleet.steps,
    })
}

struct Fleet<'a> {
    config: &'a FleetConfig,
    sender: Sender<(Who, u32, Said)>,
    started: Instant,
    coordinator: Slot,
    address: Option<SocketAddr>,
    ranks: Vec<Slot>,
    status: Status,
    coordinator_ends: Vec<End>,
    faults: Vec<Due>,
    /// When an epoch was last applied.
    progress: Instant,
    /// When the run was over.
    over: Option<Instant>,
    commits: BTreeMap<u64, Vec<Duration>>,
    steps: BTreeMap<(u64, usize), Vec<Duration>>,
}

impl Fleet<'_> {
    /// Until the end; whether nobody got anywhere, and whether it was broken off.
    fn drive(
        &mut self,
        said: &Receiver<(Who, u32, Said)>,
        look: &mut dyn FnMut(&Status) -> ControlFlow<()>,
    ) -> Result<(bool, bool), FleetError> {
        self.start_coordinator()?;
        let patience = 2 * self.config.deadline + self.config.patience + self.config.grace;
        loop {
            match said.recv_timeout(TICK) {
                Ok(one) => {
                    self.hear(one);
                    while let Ok(one) = said.try_recv() {
                        self.hear(one);
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => {
                    return Ok((true, false));
                }
            }
            self.reap()?;
            self.keep_time()?;
            self.end_the_hung()?;
            self.do_faults()?;
            let broken_off = look(&self.status).is_break();
            self.status.news.clear();
            if broken_off {
                self.end_all(|_| End::Interrupted);
                return Ok((false, true));
            }
            if self.is_idle() {
                return Ok((false, false));
            }
            let since = self.over.unwrap_or(self.progress).max(self.progress);
            if since.elapsed() > patience {
                self.end_all(|last| End::Hung { last });
                return Ok((true, false));
            }
        }
    }

    /// Nobody runs and nobody will.
    fn is_idle(&self) -> bool {
        let idle = |slot: &Slot| slot.process.is_none() && slot.again.is_none();
        if self.address.is_none() {
            // It has never come so far.
            return idle(&self.coordinator);
        }
        // Without a rank that lives a coordinator waits for nobody.
        self.ranks.iter().all(idle) && (idle(&self.coordinator) || self.over.is_none())
    }

    fn start_coordinator(&mut self) -> Result<(), FleetError> {
        let life = self.coordinator.lives + 1;
        let address = self
            .address
            .unwrap_or(SocketAddr::from(([127, 0, 0, 1], 0)));
        let mut command = self.command(address);
        command
            .args(["--coordinator", "only", "--store"])
            .arg(self.config.dir.join(STORE));
        let stderr = self.config.dir.join(format!("coordinator.life-{life}.err"));
        let process = Process::start(
            &mut command,
            (Who::Coordinator, life),
            &stderr,
            &self.sender,
        );
        self.coordinator = Slot::with(what("cannot start the coordinator", process)?, life);
        Ok(())
    }

    fn start_rank(&mut self, rank: u32, address: SocketAddr) -> Result<(), FleetError> {
        let life = self.ranks[rank as usize].lives + 1;
        let journal = self.config.dir.join(journal(rank, life));
        let mut command = self.command(address);
        command.env("RANK", rank.to_string());
        command
            .args(["--coordinator", "external", "--journal"])
            .arg(&journal);
        if let Some(dir) = &self.config.profile {
            command.arg("--profile").arg(dir);
        }
        let stderr = journal.with_extension("err");
        let started = Process::start(&mut command, (Who::Rank(rank), life), &stderr, &self.sender);
        let process = what(format!("cannot start rank {rank}"), started)?;
        self.ranks[rank as usize] = Slot::with(process, life);
        let status = &mut self.status.ranks[rank as usize];
        (status.standing, status.life) = (Standing::Joining, life);
        Ok(())
    }

    /// What is the same for all of them.
    fn command(&self, address: SocketAddr) -> Command {
        let config = self.config;
        let mut command = Command::new(&config.program);
        for other in [
            "SLURM_PROCID",
            "SLURM_NTASKS",
            "TORCHELASTIC_USE_AGENT_STORE",
        ] {
            command.env_remove(other);
        }
        command
            .args(["rank", "--led", "--events", "-"])
            .args(["--epochs", &config.epochs.to_string()])
            .args(["--seed", &config.seed.to_string()])
            .args(["--min-world", &config.min_world.to_string()])
            .args([
                "--batch-time",
                &format!("{}us", config.batch_time.as_micros()),
            ])
            .args(["--patience", &format!("{}ns", config.patience.as_nanos())])
            .args(["--deadline", &format!("{}ns", config.deadline.as_nanos())])
            // Its epochs are short.
            .args(["--admission", &format!("{}ns", config.deadline.as_nanos())])
            .env("WORLD_SIZE", config.world.to_string())
            .env("MASTER_ADDR", address.ip().to_string())
            .env("MASTER_PORT", address.port().to_string())
            .env("SELVEDGE_TOKEN", &config.token)
            .env("SELVEDGE_RUN", &config.run);
        command
    }

    fn slot(&mut self, who: Who) -> &mut Slot {
        match who {
            Who::Coordinator => &mut self.coordinator,
            Who::Rank(rank) => &mut self.ranks[rank as usize],
        }
    }

    fn hear(&mut self, (who, life, said): (Who, u32, Said)) {
        let slot = self.slot(who);
        let Some(process) = slot.process.as_mut().filter(|process| process.life == life) else {
            return;
        };
        slot.since = Some(Instant::now());
        let event = match said {
            Said::End => {
                process.silent = true;
                return;
            }
            Said::Other(text) => {
                if let Who::Rank(rank) = who {
                    self.status.ranks[rank as usize].last = text;
                }
                return;
            }
            Said::Event(event) => event,
        };
        match &event {
            Event::Done => slot.done = true,
            Event::Listening { .. } => slot.listens = true,
            Event::Failed {
                reason,
                detail,
                before,
            } => {
                slot.failed = Some(End::Failed {
                    reason: reason.clone(),
                    detail: detail.clone(),
                    before: before.clone(),
                });
            }
            _ => {}
        }
        match who {
            Who::Coordinator => self.hear_coordinator(&event),
            Who::Rank(rank) => {
                if let Event::CutOff { sockets } = event {
                    self.note_cut(rank, sockets);
                }
                self.hear_rank(rank, event);
            }
        }
    }

    fn hear_coordinator(&mut self, event: &Event) {
        match event {
            Event::Listening { address } if self.address.is_none() => {
                self.address = address.parse().ok();
                let now = Again {
                    at: Instant::now(),
                    epoch: None,
                };
                self.ranks
                    .iter_mut()
                    .for_each(|rank| rank.again = Some(now));
            }
            Event::Suspected { .. } | Event::Overdue { .. } | Event::Refused { .. } => {
                self.news(format!("coordinator: {event}"));
            }
            Event::Done => self.note_over(),
            _ => {}
        }
    }

    fn hear_rank(&mut self, rank: u32, event: Event) {
        let status = &mut self.status.ranks[rank as usize];
        status.last = event.to_string();
        match event {
            Event::View { view, .. } => status.view = view,
            Event::Applied(line) => {
                let bar = self.ranks[rank as usize].bar;
                let newer = bar.is_none_or(|bar| bar.is_passed_by(&line));
                if status.standing == Standing::Joining && newer && line.model.is_some() {
                    status.standing = Standing::In;
                }
                if line.epoch > self.status.epoch || status.line.is_none() {
                    self.progress = Instant::now();
                }
                self.status.epoch = self.status.epoch.max(line.epoch);
                self.status.ranks[rank as usize].line = Some(line);
            }
            Event::Committed {
                epoch,
                latency_us,
                steps_us,
            } => {
                let latency = Duration::from_micros(latency_us);
                status.commits.push(latency);
                self.commits.entry(epoch).or_default().push(latency);
                for (step, us) in steps_us.into_iter().enumerate() {
                    let took = Duration::from_micros(us);
                    self.steps.entry((epoch, step)).or_default().push(took);
                }
            }
            Event::Failed { .. } | Event::CutOff { .. } | Event::Overdue { .. } => {
                self.news(format!("rank {rank}: {event}"));
            }
            Event::Done => self.note_over(),
            _ => {}
        }
    }

    /// A cut that cut nothing is none, and is tried again.
    fn note_cut(&mut self, rank: u32, sockets: usize) {
        let (life, epoch) = (self.ranks[rank as usize].lives, self.status.epoch);
        let asked = |due: &&mut Due| due.asked == Some(life) && due.planned.fault.hits(rank);
        if let Some(due) = self.faults.iter_mut().find(asked) {
            due.asked = None;
            due.done_at = (sockets > 0).then_some(epoch);
        }
    }

    fn note_over(&mut self) {
        self.over.get_or_insert_with(Instant::now);
    }

    fn news(&mut self, text: String) {
        let at = self.started.elapsed().as_secs_f64();
        self.status
            .news
            .push(format!("{at:7.2} s, epoch {}: {text}", self.status.epoch));
    }

    /// Waits for those that have ended, and says how.
    fn reap(&mut self) -> Result<(), FleetError> {
        let all = (0..self.config.world)
            .map(Who::Rank)
            .chain([Who::Coordinator]);
        for who in all {
            let slot = self.slot(who);
            let Some(process) = &mut slot.process else {
                continue;
            };
            let Some(status) = what("cannot wait for a child", process.ended())? else {
                continue;
            };
            let end = end_of(slot, status);
            let was_killed = end == End::Killed;
            let life = slot.lives;
            (slot.process, slot.stopped_until) = (None, None);
            let over = self.over.is_some();
            match who {
                Who::Coordinator => {
                    if !was_killed && end != End::Done {
                        self.news(format!("the coordinator {}", end.sentence()));
                    }
                    self.coordinator_ends.push(end);
                }
                Who::Rank(rank) => {
                    // It cannot say any more what it cut.
                    for due in &mut self.faults {
                        if due.planned.fault.hits(rank) {
                            due.asked = None;
                        }
                    }
                    let standing = match end {
                        End::Done => Standing::Done,
                        _ => Standing::Down,
                    };
                    // What was killed on purpose knows already when it comes again. A run that
                    // nothing is done to has nobody come again.
                    let chaos = !self.config.plan.is_empty();
                    let typed = matches!(end, End::Failed { .. });
                    if typed && chaos && !over && life < MOST_LIVES {
                        self.slot(who).again = Some(Again {
                            at: Instant::now() + AGAIN_AFTER,
                            epoch: None,
                        });
                    }
                    if matches!(end, End::Died { .. }) {
                        self.news(format!("rank {rank} {}", end.sentence()));
                    }
                    let status = &mut self.status.ranks[rank as usize];
                    status.standing = standing;
                    status.ends.push(match end {
                        End::Hung { .. } => End::Hung {
                            last: status.last.clone(),
                        },
                        end => end,
                    });
                }
            }
        }
        Ok(())
    }

    /// Starts again, and lets go on, whoever's time has come.
    fn keep_time(&mut self) -> Result<(), FleetError> {
        let (now, epoch, over) = (Instant::now(), self.status.epoch, self.over.is_some());
        let due = |again: Again| now >= again.at || again.epoch.is_some_and(|after| epoch >= after);
        for rank in 0..self.config.world {
            let slot = &mut self.ranks[rank as usize];
            if slot.stopped_until.is_some_and(|until| now >= until) {
                slot.stopped_until = None;
                if let Some(process) = &slot.process {
                    what("cannot let a rank go on", process.go_on())?;
                }
                slot.since = Some(now);
                self.must_show(rank);
                self.news(format!("rank {rank} goes on"));
            }
            let slot = &mut self.ranks[rank as usize];
            if over {
                // Nobody is let into a run that is over.
                slot.again = None;
            }
            if slot.process.is_none()
                && let (Some(again), Some(address)) = (slot.again, self.address)
                && due(again)
            {
                self.start_rank(rank, address)?;
                if self.ranks[rank as usize].lives > 1 {
                    self.news(format!("rank {rank} is started again"));
                }
            }
        }
        let coordinator = &self.coordinator;
        if coordinator.process.is_none() && coordinator.again.is_some_and(due) {
            self.start_coordinator()?;
            self.news("the coordinator is started again".to_owned());
        }
        Ok(())
    }

    /// Kills ranks that were silent for longer than any of their waits may take: a rank that
    /// says nothing more must have ended.
    fn end_the_hung(&mut self) -> Result<(), FleetError> {
        let config = self.config;
        let patience = config.deadline + config.patience + config.grace;
        for slot in &mut self.ranks {
            let silent = slot.since.is_some_and(|since| since.elapsed() > patience);
            if let (true, false, None, Some(process)) =
                (silent, slot.hung, slot.stopped_until, &mut slot.process)
            {
                slot.hung = true;
                what("cannot kill a rank that hangs", process.kill())?;
            }
        }
        Ok(())
    }

    /// Whether the rank is a member still its next records will show.
    fn must_show(&mut self, rank: u32) {
        let view = self.status.ranks.iter().map(|status| status.view).max();
        self.ranks[rank as usize].bar = Some(Bar {
            view: view.unwrap_or(0),
            epoch: self.status.epoch,
        });
        self.status.ranks[rank as usize].standing = Standing::Joining;
    }

    fn do_faults(&mut self) -> Result<(), FleetError> {
        for at in 0..self.faults.len() {
            let Due {
                planned,
                asked,
                done_at,
            } = self.faults[at];
            if planned.epoch > self.status.epoch {
                break;
            }
            let open = (asked, done_at) == (None, None) && self.over.is_none();
            if open && self.may(planned.fault) {
                match planned.fault {
                    // It is done when it says how many sockets it has cut.
                    Fault::CutOff { rank, .. } => {
                        self.faults[at].asked = Some(self.ranks[rank as usize].lives);
                    }
                    _ => self.faults[at].done_at = Some(self.status.epoch),
                }
                self.news(planned.fault.to_string());
                what("cannot do what was planned", self.inflict(planned.fault))?;
            }
        }
        Ok(())
    }

    /// Whether a fault finds somebody to hit, and leaves the run as many as it needs.
    fn may(&self, fault: Fault) -> bool {
        let Some(rank) = fault.takes_out() else {
            return self.coordinator.is_there() && self.coordinator.listens;
        };
        let slot = &self.ranks[rank.0 as usize];
        let is_in = |status: &RankStatus| status.standing == Standing::In;
        let others = (self.status.ranks.iter().enumerate())
            .filter(|(other, status)| *other != rank.0 as usize && is_in(status));
        // Who is not in may have nothing that could be cut.
        let ready = match fault {
            Fault::CutOff { .. } => is_in(&self.status.ranks[rank.0 as usize]),
            _ => true,
        };
        let enough = others.count() >= self.config.min_world as usize;
        slot.is_there() && slot.stopped_until.is_none() && ready && enough
    }

    fn inflict(&mut self, fault: Fault) -> io::Result<()> {
        let now = Instant::now();
        let slow = 3 * self.config.patience;
        match fault {
            Fault::Kill { rank, back_after } => {
                let epoch = Some(self.status.epoch + back_after);
                self.kill(
                    Who::Rank(rank),
                    Again {
                        at: now + slow,
                        epoch,
                    },
                )
            }
            Fault::Restart { rank } => self.kill(
                Who::Rank(rank),
                Again {
                    at: now,
                    epoch: None,
                },
            ),
            Fault::KillCoordinator { ms } => {
                let at = now + Duration::from_millis(ms);
                self.kill(Who::Coordinator, Again { at, epoch: None })
            }
            Fault::Stop { rank, ms } => {
                let slot = &mut self.ranks[rank as usize];
                slot.stopped_until = Some(now + Duration::from_millis(ms));
                self.status.ranks[rank as usize].standing = Standing::Stopped;
                slot.process.as_ref().map_or(Ok(()), Process::stop)
            }
            Fault::CutOff { rank, cut } => {
                self.must_show(rank);
                let which = match cut {
                    Cut::Coordinator => "cut coordinator",
                    Cut::Peers => "cut peers",
                    Cut::All => "cut all",
                };
                let process = self.ranks[rank as usize].process.as_mut();
                match process.map(|process| process.command(which)) {
                    // It has just ended by itself.
                    Some(Err(error)) if error.kind() != io::ErrorKind::BrokenPipe => Err(error),
                    _ => Ok(()),
                }
            }
        }
    }

    fn kill(&mut self, who: Who, again: Again) -> io::Result<()> {
        if let Who::Rank(rank) = who {
            self.status.ranks[rank as usize].standing = Standing::Down;
        }
        let slot = self.slot(who);
        slot.again = Some(again);
        slot.process.as_mut().map_or(Ok(()), Process::kill)
    }

    /// Kills all that still run.
    fn end_all(&mut self, end: impl Fn(String) -> End) {
        for (slot, status) in self.ranks.iter_mut().zip(&mut self.status.ranks) {
            if slot.process.take().is_some() {
                status.ends.push(end(status.last.clone()));
                status.standing = Standing::Down;
            }
        }
        if self.coordinator.process.take().is_some() {
            self.coordinator_ends.push(end("it runs".to_owned()));
        }
    }
}

fn what<T>(what: impl Into<String>, result: io::Result<T>) -> Result<T, FleetError> {
    result.map_err(|error| FleetError {
        what: what.into(),
        error,
    })
}
