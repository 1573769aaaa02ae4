//! `p2mp-receiver`: see `p2mp-receiver --help`.

use std::process::ExitCode;

fn main() -> ExitCode {
    nodes::roles::main("p2mp-receiver")
}
