//! `check-server`: see `check-server --help`.

use std::process::ExitCode;

fn main() -> ExitCode {
    nodes::roles::main("check-server")
}
