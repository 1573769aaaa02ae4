//! `multiserver`: see `multiserver --help`.

use std::process::ExitCode;

fn main() -> ExitCode {
    nodes::roles::main("multiserver")
}
