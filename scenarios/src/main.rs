//! The `selvedge` command: see [`selvedge_scenarios::cli`].

use std::process::ExitCode;

fn main() -> ExitCode {
    selvedge_scenarios::cli::main()
}
