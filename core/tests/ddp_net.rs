//! The epoch step over loopback: real sockets, a thread and a runtime for each rank.
#![cfg(feature = "net")]

mod net;

use net::{Tiny, committed, config, coordinator, loopback, rank, rank_options};
use selvedge_core::ddp::net::Store;
use selvedge_core::ddp::{Epoch, SeedStage};

const BATCHES: [u64; 4] = [1, 2, 1, 3];

#[test]
fn four_ranks_with_uneven_loaders_agree_on_every_alpha() {
    let config = config(4, 12);
    let server = coordinator(config, loopback(), Store::in_memory(config.run).unwrap());
    let ranks: Vec<_> = (0..4)
        .map(|r| {
            rank(
                rank_options(&config, r, server.address),
                Tiny::new(r, BATCHES[r as usize]),
            )
        })
        .collect();
    let mut seen = Vec::new();
    for rank in ranks {
        let report = rank.process.join().unwrap();
        assert_eq!((report.record.epoch, report.applied), (Epoch(12), 12 * 3));
        seen.push(rank.seen.lock().unwrap().clone());
    }
    let report = server.process.join().unwrap();
    assert_eq!(report.record.epoch, Epoch(12));
    let epochs: Vec<Epoch> = seen[0].epochs.iter().map(|(epoch, ..)| *epoch).collect();
    assert_eq!(epochs, (0..=12).map(Epoch).collect::<Vec<_>>());
    for other in &seen[1..] {
        assert_eq!(other.epochs, seen[0].epochs, "alpha differs");
        assert_eq!(other.parameters, seen[0].parameters, "to the last bit");
    }
    // Not vacuous: alpha has moved, and a gate was passed.
    let alphas: Vec<u64> = seen[0]
        .epochs
        .iter()
        .map(|(.., slots)| slots[0].alpha_bits)
        .collect();
    assert!(
        alphas.windows(2).all(|pair| pair[0] < pair[1]),
        "{alphas:?}"
    );
    assert_eq!(seen[0].epochs[1].2[1].stage, SeedStage::Training);
    assert!(!server.news.try_iter().any(|event| committed(13)(&event)));
}
