//! The programs by name: `testbed role NAME …`, each under its own name, and any executable of this project under the
//! name of a role, as busybox does it: one file is enough for a container, and a role can start others from its own.

use std::error::Error;
use std::ffi::{CString, OsStr, OsString};
use std::future::Future;
use std::path::Path;
use std::process::ExitCode;

use clap::Parser;
use tracing_subscriber::EnvFilter;

use crate::events::EventSink;
use crate::exit::{self, Exit};
use crate::{
    check_server, downloader, file_server, multiserver, p2mp_receiver, p2mp_sender, p2p_downloader, peer, router,
    tracker,
};

/// Every role: its name, and what it does in a line.
pub const ROLES: &[(&str, &str)] = &[
    ("file-server", "serves one file over HTTP with ranges, and its Metalink"),
    ("check-server", "watches file servers and tells who lives"),
    ("downloader", "downloads one file from many servers at once"),
    ("multiserver", "runs file servers of one file and their check server, with a console"),
    ("p2mp-sender", "sends one file to several receivers at once"),
    ("p2mp-receiver", "receives files from point-to-multipoint senders"),
    ("tracker", "tells who has a file, by the csp2p protocol"),
    ("peer", "serves one file by the csp2p protocol, at its pace"),
    ("p2p-downloader", "downloads one file from the peers that a tracker names"),
    ("router", "stands for a node that forwards between its networks"),
];

/// Threads for name lookups: a resolver that hangs must not make more and more of them.
const MOST_LOOKUPS: usize = 32;

/// The `main` of the program called `own`: runs the role that it was started as, or else itself.
pub fn main(own: &str) -> ExitCode {
    run_role(started_as().unwrap_or(own), std::env::args_os().skip(1)).into()
}

/// The role whose name this process was started under: the last component of its `argv[0]`, if that is one of [`ROLES`].
pub fn started_as() -> Option<&'static str> {
    role_called(&std::env::args_os().next()?)
}

fn role_called(program: &OsStr) -> Option<&'static str> {
    let name = Path::new(program).file_name()?;
    ROLES.iter().map(|(role, _)| *role).find(|role| name == *role)
}

/// Runs the role called `name` in this process until it ends; `args` are its arguments without its name. Returns the
/// exit status, [`exit::TABLE`].
pub fn run_role(name: &str, args: impl Iterator<Item = OsString>) -> u8 {
    let words = std::iter::once(OsString::from(name)).chain(args);
    // Started from /proc/self/exe it would be called `exe` in a list of processes. A name is at most 15 bytes of this.
    if let Ok(name) = CString::new(name) {
        let _ = nix::sys::prctl::set_name(&name);
    }
    let exit = match name {
        "file-server" => run(words, file_server::run),
        "check-server" => run(words, check_server::run),
        "downloader" => run(words, downloader::run),
        "multiserver" => run(words, multiserver::run),
        "p2mp-sender" => run_on_this_thread(words, p2mp_sender::run),
        "p2mp-receiver" => run_on_this_thread(words, p2mp_receiver::run),
        "tracker" => run_on_this_thread(words, tracker::run),
        "peer" => run(words, peer::run),
        "p2p-downloader" => run(words, p2p_downloader::run),
        "router" => run_on_this_thread(words, router::run),
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
    let (args, events) = match begin::<A>(words) {
        Ok(begun) => begun,
        Err(exit) => return exit,
    };
    let runtime =
        match tokio::runtime::Builder::new_current_thread().enable_all().max_blocking_threads(MOST_LOOKUPS).build() {
            Ok(runtime) => runtime,
            Err(error) => {
                complain(&error);
                return Exit::Machine;
            }
        };
    let ended = runtime.block_on(program(args, events));
    // A name that is still being resolved must not hold up the end.
    runtime.shutdown_background();
    finish(ended)
}

/// The same for a program that waits for its sockets itself.
fn run_on_this_thread<A, E>(
    words: impl Iterator<Item = OsString>,
    program: impl FnOnce(A, EventSink) -> Result<Exit, E>,
) -> Exit
where
    A: Parser,
    E: Error + 'static,
{
    match begin::<A>(words) {
        Ok((args, events)) => finish(program(args, events)),
        Err(exit) => exit,
    }
}

/// Parses the command line, and finds where to write what happens.
fn begin<A: Parser>(words: impl Iterator<Item = OsString>) -> Result<(A, EventSink), Exit> {
    let matches = A::command().after_help(exit::help()).try_get_matches_from(words);
    let args = matches.and_then(|matches| A::from_arg_matches(&matches)).map_err(|error| {
        // Help and version are asked for, and go to stdout.
        let asked = !error.use_stderr();
        let _ = error.print();
        if asked { Exit::Done } else { Exit::Usage }
    })?;
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("warn"));
    // Set already when several roles share a process, as in tests.
    let _ = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).try_init();
    let events = EventSink::from_environment().map_err(|error| {
        complain(&error);
        Exit::Usage
    })?;
    Ok((args, events))
}

fn finish<E: Error + 'static>(ended: Result<Exit, E>) -> Exit {
    ended.unwrap_or_else(|error| {
        complain(&error);
        Exit::Machine
    })
}

fn complain(error: &dyn Error) {
    eprintln!("error: {}", in_a_line(error));
}

/// The error and what caused it.
pub(crate) fn in_a_line(error: &dyn Error) -> String {
    let mut line = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        line.push_str(&format!(": {error}"));
        cause = error.source();
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_that_a_program_is_started_under_says_its_role() {
        for (program, role) in [
            ("file-server", Some("file-server")),
            ("/usr/local/bin/downloader", Some("downloader")),
            ("./multiserver", Some("multiserver")),
            ("testbed", None),
            ("/usr/bin/file-server-2", None),
            ("file-server/", Some("file-server")),
            ("..", None),
            ("", None),
        ] {
            assert_eq!(role_called(OsStr::new(program)), role, "{program}");
        }
    }
}
