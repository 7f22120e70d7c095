//! `selvedge` under a name of its own, for the tests of this package to run.

use std::process::ExitCode;

fn main() -> ExitCode {
    selvedge_scenarios::cli::main()
}
