//! `testbed`: one YAML file builds a network, runs transfer programs in it, breaks it, and gives a verdict.
//!
//! * [`cli`]: what can be asked.
//! * [`commands`]: one file an answer.
//! * [`engine`]: one run on an engine, from its directory to its reports.
//! * [`status`]: the exit status of each outcome.
//! * [`loading`]: topology files to plans, with messages for people.
//!
//! Invariant: this process has one thread until it has entered its sandbox or has decided not to: a process with
//! threads cannot make the namespaces that a run needs.

use std::process::ExitCode;

use clap::Parser;

use crate::cli::{Bench, Cli, Command};
use crate::status::Status;

mod cli;
mod commands;
mod engine;
mod loading;
mod status;

fn main() -> ExitCode {
    // Under the name of a role this is that role: one file is enough for a container, and for a role that starts others.
    if let Some(role) = nodes::roles::started_as() {
        return ExitCode::from(nodes::run_role(role, std::env::args_os().skip(1)));
    }
    let cli = Cli::parse();
    let status = match cli.command {
        Command::Run(arguments) => commands::run::run(&arguments),
        Command::Sweep(arguments) => commands::sweep::sweep(&arguments),
        Command::Check(arguments) => commands::check::check(&arguments),
        Command::Plan(arguments) => commands::plan::plan(&arguments),
        Command::Report(arguments) => commands::report::report(&arguments),
        Command::Replay(arguments) => commands::replay::replay(&arguments),
        Command::Bench { what: Bench::Link(arguments) } => commands::bench::link(&arguments),
        Command::Doctor => commands::doctor::doctor(),
        Command::Gc(arguments) => commands::gc::gc(&arguments),
        Command::Schema => commands::schema::schema(),
        Command::Completions { shell } => commands::completions::completions(shell),
        Command::Role { name, .. } if name == "help" => commands::roles::roles(),
        Command::Role { name, arguments } => return ExitCode::from(nodes::run_role(&name, arguments.into_iter())),
        Command::Init(arguments) => return commands::init::init(&arguments),
        Command::Node { name, control_fd, connect, packet_sockets, caller } => {
            commands::node::node(name, control_fd, connect, packet_sockets, caller)
        }
    };
    match status {
        Ok(status) => status.into(),
        Err(error) => {
            eprintln!("error: {error:#}");
            Status::from_error(&error).into()
        }
    }
}
