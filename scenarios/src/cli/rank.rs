//! `selvedge rank`: one rank of a run, started by torchrun, srun, a shell, or `selvedge ddp`.

use std::env;
use std::fs::{self, File};
use std::io::{self, BufRead};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use clap::{Args, ValueEnum};
use selvedge_core::ddp::net::{RankError, RankOptions, Timing, Token};
use selvedge_core::ddp::{Deadlines, Epoch, Failure, Rank, RunConfig};

use super::check::{interrupted, on_ctrl_c};
use super::{Exit, Stop, input};
use crate::training::chaos::Cut;
use crate::training::event::{Event, Events};
use crate::training::job::run_id;
use crate::training::node::{CoordinatorJob, NodeError, RankJob, run_coordinator, run_rank};
use crate::training::sockets::CuttableSockets;

/// The most ranks a run of this command has.
pub(super) const MOST_RANKS: u32 = 256;

const VARIABLES: &str = "\
Environment:
  RANK          this rank, counted from 0 (or SLURM_PROCID)
  WORLD_SIZE    how many ranks there are (or SLURM_NTASKS)
  MASTER_ADDR   where the coordinator is: the host of rank 0
  MASTER_PORT   its port; the one after it where torchrun's own store has that port
                (TORCHELASTIC_USE_AGENT_STORE=True)
  SELVEDGE_TOKEN  a secret of 8 to 64 bytes that all ranks share, if there is no --token-file
  SELVEDGE_RUN  the run's name, if there is no --run (or TORCHELASTIC_RUN_ID, SLURM_JOB_ID)

  export SELVEDGE_TOKEN=$(head -c 16 /dev/urandom | base64)
  torchrun --no-python --nproc-per-node 4 selvedge rank --epochs 50
  MASTER_ADDR=$(hostname) MASTER_PORT=29500 srun -n 4 selvedge rank --epochs 50";

/// Who coordinates.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Coordinator {
    /// A thread of rank 0's process
    Host,
    /// Another process
    External,
    /// This process, and it does nothing else
    Only,
}

#[derive(Debug, Args)]
#[command(after_help = VARIABLES)]
pub(super) struct RankArgs {
    /// Epochs of the run, the same on every rank
    #[arg(long, value_name = "N", default_value = "200", value_parser = input::at_least_one::<u64>)]
    epochs: u64,
    /// What data and model are drawn from, the same on every rank
    #[arg(long, value_name = "N", default_value = "1", value_parser = input::number)]
    seed: u64,
    /// With fewer ranks the run is given up; half of the world if not given
    #[arg(long, value_name = "N", value_parser = input::up_to::<MOST_RANKS>)]
    min_world: Option<u32>,
    /// Who coordinates
    #[arg(long, value_name = "WHO", value_enum, default_value = "host")]
    coordinator: Coordinator,
    /// Where the coordinator writes down what it must not forget; without it, nothing outlives it
    #[arg(long, value_name = "FILE")]
    store: Option<PathBuf>,
    /// The run's name: processes of runs with other names are turned away
    #[arg(long, value_name = "NAME")]
    run: Option<String>,
    /// A file with the secret that all ranks share
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// Write what was applied, a JSON line an epoch, to a new file
    #[arg(long, value_name = "FILE")]
    journal: Option<PathBuf>,
    /// Profile this rank: a trace for ui.perfetto.dev, in this directory
    #[arg(long, value_name = "DIR")]
    profile: Option<PathBuf>,
    /// Tell events as JSON lines, to a file or (`-`) standard output, in place of words
    #[arg(long, value_name = "FILE")]
    events: Option<PathBuf>,
    /// What a batch takes at least, as one of a larger model would
    #[arg(long, value_name = "TIME", default_value = "0ms", value_parser = input::virtual_time)]
    batch_time: Duration,
    /// How long a silence is borne with before a rank is taken for lost
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = input::wait)]
    patience: Duration,
    /// When a wait ends in a failure
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = input::wait)]
    deadline: Duration,
    /// When a rank gives up waiting to be let in, which is at the end of an epoch
    #[arg(long, value_name = "TIME", default_value = "1h", value_parser = input::wait)]
    admission: Duration,
    /// It is led by a parent: it takes commands from standard input, and ends when that closes
    #[arg(long, hide = true)]
    led: bool,
}

pub(super) fn rank(args: &RankArgs) -> Result<Exit, Stop> {
    let place = Place::find(args.coordinator, &|name| env::var(name).ok())?;
    let token = token(args)?;
    let min_world = args.min_world.unwrap_or(place.world.div_ceil(2));
    if min_world > place.world {
        return Err(Stop::usage(format!(
            "--min-world is {min_world}, but the world has only {}",
            place.world
        )));
    }
    let run = (args.run.clone()).unwrap_or_else(|| run_name(&|name| env::var(name).ok()));
    let config = RunConfig {
        run: run_id(&run),
        world: place.world,
        min_world,
        last_epoch: Epoch(args.epochs),
    };
    let timing = timing(args.patience, args.deadline, args.admission)?;
    let events = events(args)?;
    on_ctrl_c()?;

    let coordinates = |listen, events| CoordinatorJob {
        config,
        token: token.clone(),
        listen,
        timing,
        store: args.store.clone(),
        events,
    };
    let sockets = CuttableSockets::new(place.coordinator);
    if args.led {
        obey(sockets.clone(), events.clone());
    }
    if args.coordinator == Coordinator::Only {
        let job = coordinates(place.listen(), events.clone());
        let ended = run_coordinator(job, interrupted).map(drop);
        return exit(ended, &events);
    }
    let hosted = match args.coordinator == Coordinator::Host && place.rank == Rank(0) {
        true => Some(host(coordinates(place.listen(), events.clone()))?),
        false => None,
    };
    let mut options = RankOptions::new(&config, place.rank, token.clone(), place.coordinator);
    options.timing = timing;
    if place.coordinator.ip().is_loopback() {
        // All are on this machine: nobody from elsewhere has a business here.
        options.listen = SocketAddr::new(place.coordinator.ip(), 0);
    }
    let job = RankJob {
        options,
        seed: args.seed,
        batch_time: args.batch_time,
        journal: args.journal.clone(),
        profile: args.profile.clone(),
        sockets,
        events: events.clone(),
    };
    let ended = run_rank(job, interrupted).map(drop);
    // The others may still need the coordinator, also where this rank is out of the run.
    let coordinated = match hosted.map(JoinHandle::join) {
        None => Ok(()),
        Some(Ok(coordinated)) => coordinated,
        Some(Err(panic)) => std::panic::resume_unwind(panic),
    };
    if let (Err(failure), Err(cause)) = (&ended, &coordinated) {
        let stop = stop(failure);
        let message = format!("{}; this process coordinates, and {cause}", stop.message);
        return Err(Stop { message, ..stop });
    }
    exit(ended.and(coordinated), &events)
}

/// Which rank this is, of how many, and where its coordinator is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    rank: Rank,
    world: u32,
    coordinator: SocketAddr,
}

impl Place {
    fn find(who: Coordinator, env: &dyn Fn(&str) -> Option<String>) -> Result<Self, Stop> {
        let world = variable(env, &["WORLD_SIZE", "SLURM_NTASKS"], "the number of ranks")?;
        let world = whole(&world, 1, MOST_RANKS.into(), "the number of ranks")?;
        let rank = match who {
            // It is no rank.
            Coordinator::Only => 0,
            _ => {
                let what = "this rank, counted from 0";
                let rank = variable(env, &["RANK", "SLURM_PROCID"], what)?;
                whole(&rank, 0, u64::from(MOST_RANKS), what).and_then(|n| match n < world {
                    true => Ok(n),
                    false => Err(Stop::usage(format!(
                        "{} is {n} in a world of {world}; ranks are counted from 0 to {}",
                        rank.0,
                        world - 1
                    ))),
                })?
            }
        };
        let host = variable(
            env,
            &["MASTER_ADDR"],
            "the host of rank 0, by name or address",
        )?;
        let port = variable(env, &["MASTER_PORT"], "the coordinator's port")?;
        let lowest = if who == Coordinator::Only { 0 } else { 1 };
        let mut number = whole(&port, lowest, 65_535, "a port")?;
        if env("TORCHELASTIC_USE_AGENT_STORE").as_deref() == Some("True") {
            number += 1;
        }
        let number = u16::try_from(number).map_err(|_| {
            Stop::usage("torchrun's store has MASTER_PORT 65535, and there is none after it")
        })?;
        let found = (host.1.as_str(), number).to_socket_addrs();
        let found: Vec<SocketAddr> = found.map(Iterator::collect).map_err(|error| {
            Stop::usage(format!(
                "cannot find the host '{}' of MASTER_ADDR: {error}",
                host.1
            ))
        })?;
        // A host may know itself by a name of its own loopback, which nobody else can reach.
        let outside = found.iter().find(|address| !address.ip().is_loopback());
        let coordinator = *outside.or(found.first()).ok_or_else(|| {
            Stop::usage(format!(
                "the host '{}' of MASTER_ADDR has no address",
                host.1
            ))
        })?;
        if let (Some(nodes), true) = (several_nodes(env), coordinator.ip().is_loopback()) {
            return Err(Stop::usage(format!(
                "MASTER_ADDR '{}' is {} here, which no other node can reach, and {nodes}; set it \
                 to an address of rank 0's node in your network",
                host.1,
                coordinator.ip()
            )));
        }
        let small = |n: u64| u32::try_from(n).unwrap_or(u32::MAX);
        Ok(Place {
            rank: Rank(small(rank)),
            world: small(world),
            coordinator,
        })
    }

    /// Where a coordinator takes connections: on this machine only, if it is for this machine.
    fn listen(&self) -> SocketAddr {
        match self.coordinator {
            local if local.ip().is_loopback() => local,
            SocketAddr::V4(at) => SocketAddr::from((Ipv4Addr::UNSPECIFIED, at.port())),
            SocketAddr::V6(at) => SocketAddr::from((Ipv6Addr::UNSPECIFIED, at.port())),
        }
    }
}

/// What says that the ranks are on more than one node, if anything does.
fn several_nodes(env: &dyn Fn(&str) -> Option<String>) -> Option<String> {
    let number = |name: &str| env(name)?.trim().parse::<u64>().ok();
    for name in ["SLURM_NNODES", "SLURM_JOB_NUM_NODES", "GROUP_WORLD_SIZE"] {
        if let Some(nodes) = number(name).filter(|nodes| *nodes > 1) {
            return Some(format!("{name} says there are {nodes}"));
        }
    }
    let (local, world) = (number("LOCAL_WORLD_SIZE")?, number("WORLD_SIZE")?);
    (local < world).then(|| format!("LOCAL_WORLD_SIZE is {local} of {world} ranks"))
}

/// The first of these variables that is set: its name and its text.
fn variable<'a>(
    env: &dyn Fn(&str) -> Option<String>,
    names: &[&'a str],
    what: &str,
) -> Result<(&'a str, String), Stop> {
    let mut set = names.iter().filter_map(|name| Some((*name, env(name)?)));
    set.next().ok_or_else(|| {
        let names = names.join(" or ");
        Stop::usage(format!(
            "{names} is not set; it is {what}. torchrun sets it, or set it as in `RANK=0 \
             WORLD_SIZE=2 MASTER_ADDR=127.0.0.1 MASTER_PORT=29500 selvedge rank`"
        ))
    })
}

fn whole((name, text): &(&str, String), from: u64, to: u64, what: &str) -> Result<u64, Stop> {
    let number = text.trim().parse().ok().filter(|n| (from..=to).contains(n));
    number.ok_or_else(|| {
        Stop::usage(format!(
            "{name} is '{text}'; it is {what}, a whole number from {from} to {to}"
        ))
    })
}

fn token(args: &RankArgs) -> Result<Token, Stop> {
    let text = match &args.token_file {
        Some(path) => fs::read_to_string(path)
            .map_err(|error| Stop::usage(format!("cannot read {}: {error}", path.display())))?,
        None => env::var("SELVEDGE_TOKEN").map_err(|_| {
            Stop::usage(
                "SELVEDGE_TOKEN is not set; set it to a secret that all ranks share, or name a \
                 file that holds it by --token-file",
            )
        })?,
    };
    Token::new(text.trim()).map_err(Stop::usage)
}

fn run_name(env: &dyn Fn(&str) -> Option<String>) -> String {
    let names = ["SELVEDGE_RUN", "TORCHELASTIC_RUN_ID", "SLURM_JOB_ID"];
    names
        .iter()
        .find_map(|name| env(name))
        .unwrap_or_else(|| "selvedge".to_owned())
}

/// How long things may take, by how long a silence is borne with.
fn timing(patience: Duration, deadline: Duration, admission: Duration) -> Result<Timing, Stop> {
    if deadline <= patience {
        return Err(Stop::usage(
            "--deadline must be longer than --patience, or a run gives up before it lets anybody go",
        ));
    }
    Ok(Timing {
        heartbeat: patience / 10,
        suspect_after: patience,
        reconnect_within: patience,
        deadlines: Deadlines {
            soft: patience.min(deadline / 2),
            hard: deadline,
        },
        admission: Deadlines {
            soft: patience.min(admission / 2),
            hard: admission,
        },
        ..Timing::default()
    })
}

fn events(args: &RankArgs) -> Result<Events, Stop> {
    match args.events.as_deref() {
        None => Ok(Events::words()),
        Some(path) if path.as_os_str() == "-" => Ok(Events::lines()),
        Some(path) => {
            let file: File = input::output(path)?;
            file.set_len(0).map_err(|error| {
                Stop::usage(format!("cannot write {}: {error}", path.display()))
            })?;
            Ok(Events::file(file))
        }
    }
}

/// Coordinates on a thread of its own; back when the door is open.
fn host(mut job: CoordinatorJob) -> Result<JoinHandle<Result<(), NodeError>>, Stop> {
    let (opened, open) = mpsc::channel();
    let events = job.events;
    job.events = Events::nowhere().also(move |event| match event {
        // What it says of views and epochs, the rank says too.
        Event::View { .. } | Event::Committed { .. } | Event::Done => {}
        Event::Connected { .. } | Event::Disconnected { .. } => {}
        Event::Failed { .. } => drop(opened.send(event.clone())),
        Event::Listening { .. } => {
            events.tell(event);
            // Nobody waits for a second one.
            drop(opened.send(event.clone()));
        }
        _ => events.tell(event),
    });
    let thread = thread::spawn(move || run_coordinator(job, interrupted).map(drop));
    match open.recv() {
        Ok(Event::Failed { detail, .. }) => Err(Stop::usage(format!(
            "rank 0 cannot coordinate: {detail}; --coordinator external leaves it to another"
        ))),
        _ => Ok(thread),
    }
}

/// Takes commands from standard input, and ends with it: a parent that is gone has no use for
/// what it has started.
fn obey(sockets: CuttableSockets, events: Events) {
    thread::spawn(move || {
        for line in io::stdin().lock().lines().map_while(Result::ok) {
            let cut = match line.trim() {
                "cut coordinator" => Cut::Coordinator,
                "cut peers" => Cut::Peers,
                "cut all" => Cut::All,
                _ => continue,
            };
            let sockets = sockets.cut(cut);
            events.tell(&Event::CutOff { sockets });
        }
        std::process::exit(Exit::Interrupted as i32);
    });
}

fn exit(ended: Result<(), NodeError>, events: &Events) -> Result<Exit, Stop> {
    ended.map_err(|error| stop(&error))?;
    match events.error() {
        Some(error) => Err(Stop::harness("cannot tell the events", error)),
        None => Ok(Exit::Ok),
    }
}

fn stop(error: &NodeError) -> Stop {
    let exit = match error {
        NodeError::Interrupted => Exit::Interrupted,
        NodeError::Rank(error) => exit_of(error),
        NodeError::Coordinator(_) => Exit::Left,
        NodeError::NoProfiler(_) => Exit::Usage,
        NodeError::Io { .. } | NodeError::Compile(_) | NodeError::Profile(_) => Exit::Harness,
    };
    Stop {
        exit,
        message: error.to_string(),
    }
}

fn exit_of(error: &RankError) -> Exit {
    match error {
        RankError::Options(_) | RankError::Listen(_) | RankError::Store(_) => Exit::Usage,
        RankError::Failed {
            failure: Failure::TagMismatch | Failure::BadRecord | Failure::Diverged,
            ..
        } => Exit::Property,
        _ => Exit::Left,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(set: &[(&str, &str)], who: Coordinator) -> Result<Place, String> {
        let set: Vec<(String, String)> = set
            .iter()
            .map(|(name, text)| ((*name).into(), (*text).into()))
            .collect();
        let env = move |name: &str| {
            let mut set = set.iter();
            set.find(|(other, _)| other == name)
                .map(|(_, text)| text.clone())
        };
        Place::find(who, &env).map_err(|stop| stop.message)
    }

    const RIGHT: [(&str, &str); 4] = [
        ("RANK", "1"),
        ("WORLD_SIZE", "2"),
        ("MASTER_ADDR", "127.0.0.1"),
        ("MASTER_PORT", "29500"),
    ];

    #[test]
    fn torchrun_and_srun_say_who_and_where() {
        let right = place(&RIGHT, Coordinator::Host).unwrap();
        assert_eq!((right.rank, right.world), (Rank(1), 2));
        assert_eq!(right.coordinator, "127.0.0.1:29500".parse().unwrap());
        assert_eq!(right.listen(), right.coordinator);

        let agent = [&RIGHT[..], &[("TORCHELASTIC_USE_AGENT_STORE", "True")]].concat();
        let torchrun = place(&agent, Coordinator::Host).unwrap();
        assert_eq!(torchrun.coordinator.port(), 29501);

        let slurm = [
            ("SLURM_PROCID", "1"),
            ("SLURM_NTASKS", "2"),
            RIGHT[2],
            RIGHT[3],
        ];
        assert_eq!(place(&slurm, Coordinator::Host).unwrap(), right);

        let elsewhere = [RIGHT[0], RIGHT[1], ("MASTER_ADDR", "10.0.0.7"), RIGHT[3]];
        let elsewhere = place(&elsewhere, Coordinator::Host).unwrap();
        assert_eq!(elsewhere.listen(), "0.0.0.0:29500".parse().unwrap());
    }

    #[test]
    fn each_variable_that_is_missing_or_wrong_is_named() {
        for (name, wrong, words) in [
            ("RANK", "one", "from 0 to 256"),
            ("RANK", "2", "ranks are counted from 0 to 1"),
            ("RANK", "-1", "whole number"),
            ("WORLD_SIZE", "0", "from 1 to 256"),
            ("WORLD_SIZE", "4000000000000", "from 1 to 256"),
            ("MASTER_PORT", "0", "from 1 to 65535"),
            ("MASTER_PORT", "99999", "from 1 to 65535"),
            ("MASTER_PORT", "http", "a port"),
            (
                "MASTER_ADDR",
                "no.such.host.invalid",
                "cannot find the host",
            ),
        ] {
            let others = RIGHT.into_iter().filter(|(other, _)| *other != name);
            let missing: Vec<_> = others.clone().collect();
            let told = place(&missing, Coordinator::Host).unwrap_err();
            assert!(told.contains(name) && told.contains("is not set"), "{told}");
            let set: Vec<_> = others.chain([(name, wrong)]).collect();
            let told = place(&set, Coordinator::Host).unwrap_err();
            assert!(told.contains(name) && told.contains(words), "{told}");
        }
    }

    #[test]
    fn an_address_that_other_nodes_cannot_reach_is_refused_where_there_are_others() {
        for (name, nodes, words) in [
            ("SLURM_NNODES", "2", Some("SLURM_NNODES says there are 2")),
            ("SLURM_NNODES", "1", None),
            ("GROUP_WORLD_SIZE", "3", Some("there are 3")),
            ("LOCAL_WORLD_SIZE", "1", Some("is 1 of 2 ranks")),
            ("LOCAL_WORLD_SIZE", "2", None),
        ] {
            let told = place(&[&RIGHT[..], &[(name, nodes)]].concat(), Coordinator::Host);
            match words {
                None => assert_eq!(told, place(&RIGHT, Coordinator::Host)),
                Some(words) => {
                    let told = told.unwrap_err();
                    assert!(
                        told.contains(words) && told.contains("MASTER_ADDR"),
                        "{told}"
                    );
                }
            }
            let outside = [RIGHT[0], RIGHT[1], ("MASTER_ADDR", "10.0.0.7"), RIGHT[3]];
            let outside = [&outside[..], &[(name, nodes)]].concat();
            assert!(place(&outside, Coordinator::Host).is_ok());
        }
    }

    #[test]
    fn who_only_coordinates_is_no_rank_and_may_take_any_port() {
        let set = [RIGHT[1], RIGHT[2], ("MASTER_PORT", "0")];
        assert_eq!(
            place(&set, Coordinator::Only).unwrap().coordinator.port(),
            0
        );
    }
}
