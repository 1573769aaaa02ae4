//! `check-server`: see `check-server --help`.

use std::process::ExitCode;

fn main() -> ExitCode {
    nodes::run_role("check-server", std::env::args_os().skip(1)).into()
}
