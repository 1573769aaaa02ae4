//! `router`: see `router --help`.

use std::process::ExitCode;

fn main() -> ExitCode {
    nodes::roles::main("router")
}
