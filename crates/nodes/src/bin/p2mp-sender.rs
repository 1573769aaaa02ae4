//! `p2mp-sender`: see `p2mp-sender --help`.

use std::process::ExitCode;

fn main() -> ExitCode {
    nodes::roles::main("p2mp-sender")
}
