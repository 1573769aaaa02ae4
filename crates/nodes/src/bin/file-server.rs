//! `file-server`: see `file-server --help`.

use std::process::ExitCode;

fn main() -> ExitCode {
    nodes::roles::main("file-server")
}
