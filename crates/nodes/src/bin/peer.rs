//! `peer`: see `peer --help`.

use std::process::ExitCode;

fn main() -> ExitCode {
    nodes::roles::main("peer")
}
