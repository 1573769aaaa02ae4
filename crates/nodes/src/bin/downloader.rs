//! `downloader`: see `downloader --help`.

use std::process::ExitCode;

fn main() -> ExitCode {
    nodes::roles::main("downloader")
}
