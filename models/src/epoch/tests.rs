//! What the search of the epoch gate finds, and that it finds what it must.

use selvedge_sim::Class;

use super::*;
use crate::checker::{search, search_lean};

#[test]
fn small() {
    for model in [
        EpochModel::of(2),
        EpochModel::of(2).with(Faults::RANKS),
        EpochModel::of(2).with(Faults::ALL),
        EpochModel::of(3),
        EpochModel::of(3).with(Faults::RANKS),
    ] {
        let t = std::time::Instant::now();
        let found = search_lean(model, &model.boundary(), 5_000_000);
        println!(
            "{model:?} {:?} {} {:?}",
            t.elapsed(),
            found.verdict.executions(),
            found.verdict.class()
        );
        if found.verdict.class() == Class::Violated {
            let found = search(model, &model.boundary(), 5_000_000);
            println!("{:?}", found.verdict.failure());
            for a in &found.path {
                println!("  {a:?}");
            }
            return;
        }
    }
}
