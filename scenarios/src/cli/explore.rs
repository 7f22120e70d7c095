//! `selvedge explore`: a model's states in the browser.

use std::panic;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use selvedge_models::epoch::{EpochModel, Faults, Mutant};
use selvedge_models::explore::{free, serve};
use selvedge_models::gate_sync::{GateSyncModel, SlotAt, stage};
use selvedge_models::slot::SlotModel;
use selvedge_models::ticket::{Boundary, TicketModel};

use super::check::{interrupted, on_ctrl_c};
use super::{Exit, ExploreArgs, Stop, complain, say};

const POLL: Duration = Duration::from_millis(50);

/// A model that can be looked around in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Named {
    Alpha,
    GateSync,
    Slot,
    OptionA,
    OptionB,
}

impl Named {
    pub(super) const ALL: [Named; 5] = [
        Named::Alpha,
        Named::GateSync,
        Named::Slot,
        Named::OptionA,
        Named::OptionB,
    ];

    pub(super) fn name(self) -> &'static str {
        match self {
            Named::Alpha => "alpha",
            Named::GateSync => "gate-sync",
            Named::Slot => "slot",
            Named::OptionA => "option-a",
            Named::OptionB => "option-b",
        }
    }

    /// Serves it until the process ends; says why it cannot.
    fn serve(self, mutant: Mutant, address: &str) -> std::io::Error {
        let ticket = |boundary| TicketModel {
            boundary,
            batches: vec![1, 2],
            epochs: 2,
        };
        let trains = SlotAt::due(0, stage::TRAINING);
        let waits = SlotAt::due(1, stage::TRAINING).voting(false);
        match self {
            Named::Alpha => serve(&EpochModel::of(2).with(Faults::ALL).but(mutant), address),
            Named::GateSync => {
                // Two slots, visited in opposite orders.
                let model = GateSyncModel::of(&[&[trains, waits], &[waits, trains]]);
                serve(&model, address)
            }
            Named::Slot => serve(&SlotModel { epochs: 5 }, address),
            Named::OptionA => serve(&ticket(Boundary::Broadcast), address),
            Named::OptionB => serve(&ticket(Boundary::Nothing), address),
        }
    }
}

pub(super) fn explore(args: &ExploreArgs) -> Result<Exit, Stop> {
    let (model, address) = (args.model, args.address.clone());
    if args.mutant.is_some() && model != Named::Alpha {
        return Err(Stop::usage(format!(
            "only alpha has mutants; {} is explored as it is",
            model.name()
        )));
    }
    let mutant = args.mutant.unwrap_or(Mutant::None);
    free(&address).map_err(|error| cannot(&address, &error))?;
    on_ctrl_c()?;
    say(&format!(
        "{} is at http://{address}; Ctrl-C ends it",
        model.name()
    ))?;
    // A browser that leaves in the middle of an answer makes the server panic; it is started
    // again, and nobody needs a backtrace of it.
    panic::set_hook(Box::new(|_| {
        complain("a connection was lost; the Explorer starts again");
    }));
    let (ended, end) = mpsc::channel();
    let served = address.clone();
    thread::spawn(move || ended.send(model.serve(mutant, &served)));
    loop {
        match end.recv_timeout(POLL) {
            Err(RecvTimeoutError::Timeout) if !interrupted() => {}
            Err(RecvTimeoutError::Timeout) => return Ok(Exit::Ok),
            Ok(error) => return Err(cannot(&address, &error)),
            Err(RecvTimeoutError::Disconnected) => {
                return Err(Stop::harness("the Explorer", "its thread went away"));
            }
        }
    }
}

fn cannot(address: &str, error: &std::io::Error) -> Stop {
    Stop::usage(format!(
        "cannot serve at {address}: {error}; --address takes a host and a free port, as \
         127.0.0.1:3001"
    ))
}
