//! `downloader`: see `downloader --help`.

use std::process::ExitCode;

fn main() -> ExitCode {
    nodes::run_role("downloader", std::env::args_os().skip(1)).into()
}
