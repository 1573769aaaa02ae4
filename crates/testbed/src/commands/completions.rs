//! `testbed completions`: what a shell sources.

use clap::CommandFactory;
use clap_complete::Shell;

use crate::cli::Cli;
use crate::status::Status;

pub(crate) fn completions(shell: Shell) -> anyhow::Result<Status> {
    clap_complete::generate(shell, &mut Cli::command(), "testbed", &mut std::io::stdout());
    Ok(Status::OK)
}
