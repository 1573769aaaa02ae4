//! `testbed completions`: what a shell sources.

use clap::CommandFactory;
use clap_complete::Shell;

use crate::cli::Cli;
use crate::status::Status;

pub(crate) fn completions(shell: Shell) -> anyhow::Result<Status> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "testbed", &mut script);
    report::say(&String::from_utf8_lossy(&script));
    Ok(Status::OK)
}
