//! `p2p-downloader`: see `p2p-downloader --help`.

use std::process::ExitCode;

fn main() -> ExitCode {
    nodes::roles::main("p2p-downloader")
}
