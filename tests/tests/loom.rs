//! The loom run (`cargo loom`): every scenario under loom with full bounds. Each shipped body
//! must be exhausted, not just cut short well; each twin that loom can find must be found.

#[cfg(loom_run)]
mod common;

/// `RUSTFLAGS` or a user's own configuration overrides the alias' flags; the run would be empty
/// then, and green.
#[cfg(not(loom_run))]
#[test]
fn the_loom_run_is_not_empty() {
    assert!(
        std::env::var_os("SELVEDGE_LOOM_RUN").is_none(),
        "`--cfg loom_run` did not arrive: unset RUSTFLAGS, or add `--cfg loom_run` to it"
    );
}

#[cfg(loom_run)]
#[test]
fn every_shipped_body_is_exhausted_and_every_twin_is_judged_right() {
    let (exit, units) = common::check(&[
        "--engine",
        "loom",
        "--require",
        "exhausted",
        "--budget",
        "20m",
    ]);
    let wrong: Vec<_> = (units.iter())
        .filter(|unit| unit["as_expected"] == false)
        .collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert_eq!(exit, 0);
    let exhausted = units.iter().filter(|unit| unit["verdict"] == "Exhausted");
    println!(
        "{} units under loom, {} exhausted",
        units.len(),
        exhausted.count()
    );
}
