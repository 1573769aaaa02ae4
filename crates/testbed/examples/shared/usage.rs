//! Starts a program inside its node and tells the testbed when it began, how long it took and what it used.

use std::env;
use std::ffi::OsString;
use std::fs::File;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::fd::{FromRawFd, RawFd};
use std::process::{Command, ExitCode, ExitStatus};
use std::time::Instant;

use anyhow::{Context as _, bail};
use nix::sys::resource::{UsageWho, getrusage};
use nix::time::{ClockId, clock_gettime};
use serde_json::{Value, json};

/// The first word of a command line that is for this module.
pub(crate) const WORD: &str = "--usage-of";

/// May stand next, before a server and a path: the program starts when the server has what is asked for there.
pub(crate) const ONCE: &str = "--once";

/// Runs a program with its arguments, and exits as it does.
#[allow(clippy::disallowed_methods, reason = "a benchmark reads the clock")]
pub(crate) fn run(words: &[OsString]) -> anyhow::Result<ExitCode> {
    let mut words = words;
    while let [once, server, path, rest @ ..] = words
        && once == ONCE
    {
        let (server, path) = (server.to_string_lossy(), path.to_string_lossy());
        wait_for(&server, &path).with_context(|| format!("{server} never had {path}"))?;
        words = rest;
    }
    let (program, arguments) = words.split_first().context("no program is named")?;
    let mut events = events()?;
    tell(&mut events, &json!({ "kind": "began", "clock-ns": clock_ns()? }))?;
    let began = Instant::now();
    let status = Command::new(program).args(arguments).status();
    let took = began.elapsed();
    let status = status.with_context(|| format!("cannot start {}", program.display()))?;
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN)?;
    let seconds = |time: nix::sys::time::TimeVal| time.tv_sec() as f64 + time.tv_usec() as f64 / 1e6;
    let ended = json!({
        "kind": "ended",
        "took-s": took.as_secs_f64(),
        "max-rss-kib": usage.max_rss(),
        "user-s": seconds(usage.user_time()),
        "system-s": seconds(usage.system_time()),
    });
    tell(&mut events, &ended)?;
    Ok(exit_code(status))
}

/// What to exit with after a program that ended so.
pub(crate) fn exit_code(status: ExitStatus) -> ExitCode {
    ExitCode::from(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(255))
}

/// Nanoseconds of a clock that all nodes of a machine share.
pub(crate) fn clock_ns() -> anyhow::Result<u64> {
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC).context("there is no monotonic clock")?;
    Ok(now.tv_sec() as u64 * 1_000_000_000 + now.tv_nsec() as u64)
}

/// The testbed's descriptor. The program inherits it, too, so this one stays open until all is told.
#[allow(unsafe_code, reason = "a descriptor is given by its number")]
pub(crate) fn events() -> anyhow::Result<File> {
    let number = env::var("TESTBED_EVENTS_FD").context("this runs in a node of a testbed")?;
    let number: RawFd = number.parse().context("TESTBED_EVENTS_FD is no number")?;
    // SAFETY: the testbed gives this process the descriptor, and nothing else in it uses it.
    Ok(unsafe { File::from_raw_fd(number) })
}

/// Asks until the answer is 200. A file server that is still hashing holds its answer back for a while by itself.
fn wait_for(server: &str, path: &str) -> anyhow::Result<()> {
    loop {
        let mut stream = TcpStream::connect((server, 80))?;
        write!(stream, "GET {path} HTTP/1.1\r\nHost: {server}\r\nConnection: close\r\n\r\n")?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer)?;
        match answer.get(..12) {
            Some(b"HTTP/1.1 200") => return Ok(()),
            Some(b"HTTP/1.1 503") => {}
            other => bail!("it answers {}", String::from_utf8_lossy(other.unwrap_or_default())),
        }
    }
}

/// Tells the testbed something.
pub(crate) fn tell(events: &mut File, report: &Value) -> std::io::Result<()> {
    events.write_all(format!("{report}\n").as_bytes())
}
