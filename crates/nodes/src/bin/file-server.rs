//! `file-server`: see `file-server --help`.

use std::process::ExitCode;

fn main() -> ExitCode {
    nodes::run_role("file-server", std::env::args_os().skip(1)).into()
}
