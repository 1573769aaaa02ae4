//! The programs by name: `testbed role NAME …` and each under its own name.

use std::error::Error;
use std::ffi::OsString;
use std::future::Future;

use clap::Parser;
use tracing_subscriber::EnvFilter;

use crate::events::EventSink;
use crate::exit::{self, Exit};
use crate::{check_server, downloader, file_server};

/// Every role: its name, and what it does in a line.
pub const ROLES: &[(&str, &str)] = &[
    ("file-server", "serves one file over HTTP with ranges, and its Metalink"),
    ("check-server", "watches file servers and tells who lives"),
    ("downloader", "downloads one file from many servers at once"),
];

/// Threads for name lookups: a resolver that hangs must not make more and more of them.
const MOST_LOOKUPS: usize = 32;

/// Runs the role called `name` in this process until it ends; `args` are its arguments without its name. Returns the
/// exit status, [`exit::TABLE`].
pub fn run_role(name: &str, args: impl Iterator<Item = OsString>) -> u8 {
    let words = std::iter::once(OsString::from(name)).chain(args);
    let exit = match name {
        "file-server" => run(words, file_server::run),
        "check-server" => run(words, check_server::run),
        "downloader" => run(words, downloader::run),
        _ => {
            let known: Vec<_> = ROLES.iter().map(|(name, _)| *name).collect();
            eprintln!("error: no role is called `{name}`; there are {}", known.join(", "));
            Exit::Usage
        }
    };
    exit.status()
}

/// Parses, starts the runtime, runs, and says in one line what went wrong.
fn run<A, F, E>(words: impl Iterator<Item = OsString>, program: impl FnOnce(A, EventSink) -> F) -> Exit
where
    A: Parser,
    F: Future<Output = Result<Exit, E>>,
    E: Error + 'static,
{
    let matches = A::command().after_help(exit::help()).try_get_matches_from(words);
    let args = match matches.and_then(|matches| A::from_arg_matches(&matches)) {
        Ok(args) => args,
        Err(error) => {
            // Help and version are asked for, and go to stdout.
            let asked = !error.use_stderr();
            let _ = error.print();
            return if asked { Exit::Done } else { Exit::Usage };
        }
    };
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("warn"));
    // Set already when several roles share a process, as in tests.
    let _ = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).try_init();
    let events = match EventSink::from_environment() {
        Ok(events) => events,
        Err(error) => {
            complain(&error);
            return Exit::Usage;
        }
    };
    let runtime =
        match tokio::runtime::Builder::new_current_thread().enable_all().max_blocking_threads(MOST_LOOKUPS).build() {
            Ok(runtime) => runtime,
            Err(error) => {
                complain(&error);
                return Exit::Machine;
            }
        };
    let exit = runtime.block_on(program(args, events)).unwrap_or_else(|error| {
        complain(&error);
        Exit::Machine
    });
    // A name that is still being resolved must not hold up the end.
    runtime.shutdown_background();
    exit
}

/// One line: the error and what caused it.
fn complain(error: &dyn Error) {
    let mut line = format!("error: {error}");
    let mut cause = error.source();
    while let Some(error) = cause {
        line.push_str(&format!(": {error}"));
        cause = error.source();
    }
    eprintln!("{line}");
}
