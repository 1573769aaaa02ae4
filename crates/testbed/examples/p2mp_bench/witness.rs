//! Starts a receiver inside its node, tells the testbed when it listens, and when it has the file.

use std::ffi::OsString;
use std::fs;
use std::os::fd::AsFd;
use std::process::{Command, ExitCode};

use anyhow::{Context as _, ensure};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use serde_json::json;

use crate::shared::usage;

/// The first word of a command line that is for this module; then the file's name, its length, the UDP port, and the group
/// that the program joins before anybody sends (`-`: none).
pub(crate) const WORD: &str = "--arrival-of";

/// Made in the node's disk when the program listens.
pub(crate) const READY: &str = "ready";

/// How often is looked whether it does.
const LOOK_EVERY_MS: u16 = 5;

/// How long a program that has the file may still answer its sender before it is ended, if it does not end by itself.
const FAREWELL_MS: u16 = 3000;

/// Runs a program with its arguments; ends when it has the file and has ended, or had time to.
pub(crate) fn run(words: &[OsString]) -> anyhow::Result<ExitCode> {
    let [name, length, port, group, program, arguments @ ..] = words else {
        anyhow::bail!("a file, its length, a port, a group and a program are needed");
    };
    let number = |word: &OsString| word.to_str().and_then(|word| word.parse::<u64>().ok()).context("not a number");
    let (length, port) = (number(length)?, number(port)?);
    let mut events = usage::events()?;
    let watch = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)?;
    // Both programs work on a file of another name, and rename it at the end.
    watch.add_watch(".", AddWatchFlags::IN_MOVED_TO | AddWatchFlags::IN_CREATE)?;
    let mut child = Command::new(program).args(arguments).spawn();
    let child = child.as_mut().map_err(|error| anyhow::anyhow!("cannot start {}: {error}", program.display()))?;
    while !listens(port, &group.to_string_lossy())? {
        if let Some(status) = child.try_wait()? {
            anyhow::bail!("it ended before it listened: {status}");
        }
        poll(&mut [], LOOK_EVERY_MS)?;
    }
    fs::write(READY, "")?;
    loop {
        poll(&mut [PollFd::new(watch.as_fd(), PollFlags::POLLIN)], PollTimeout::NONE)?;
        let arrived = usage::clock_ns()?;
        if watch.read_events()?.iter().any(|event| event.name.as_ref() == Some(name)) {
            let found = fs::metadata(name)?.len();
            ensure!(found == length, "a file of {found} bytes has the final name");
            let arrival = json!({ "kind": "arrived", "clock-ns": arrived, "cpu-s": cpu(child.id()), "max-rss-kib": rss(child.id()) });
            usage::tell(&mut events, &arrival)?;
            break;
        }
    }
    for _ in 0..FAREWELL_MS / LOOK_EVERY_MS {
        if let Some(status) = child.try_wait()? {
            return Ok(usage::exit_code(status));
        }
        poll(&mut [], LOOK_EVERY_MS)?;
    }
    child.kill()?;
    child.wait()?;
    Ok(ExitCode::SUCCESS)
}

/// Whether a UDP socket of this network namespace has this port, and an interface is in the group.
fn listens(port: u64, group: &str) -> anyhow::Result<bool> {
    let sockets = fs::read_to_string("/proc/net/udp")? + &fs::read_to_string("/proc/net/udp6").unwrap_or_default();
    let local = format!(":{port:04X}");
    let is_bound = sockets.lines().filter_map(|line| line.split_whitespace().nth(1)).any(|word| word.ends_with(&local));
    if group == "-" || !is_bound {
        return Ok(is_bound);
    }
    let group = u32::from_le_bytes(group.parse::<std::net::Ipv4Addr>()?.octets());
    Ok(fs::read_to_string("/proc/net/igmp")?.contains(&format!("{group:08X}")))
}

/// Processor time in seconds, all threads; none once the process has gone.
fn cpu(process: u32) -> Option<f64> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    let (_, fields) = stat.rsplit_once(')')?;
    let ticks = |index: usize| fields.split_whitespace().nth(index)?.parse::<u64>().ok();
    // utime and stime, fields 14 and 15 of proc_pid_stat(5), in hundredths of a second.
    Some((ticks(11)? + ticks(12)?) as f64 / 100.0)
}

/// The most memory that it had, in KiB.
fn rss(process: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.split_whitespace().next()?.parse().ok()
}
