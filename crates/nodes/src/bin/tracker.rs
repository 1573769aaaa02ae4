//! `tracker`: see `tracker --help`.

use std::process::ExitCode;

fn main() -> ExitCode {
    nodes::roles::main("tracker")
}
