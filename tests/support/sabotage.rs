//! Changes a link behind the back of a run, between its making and its measuring.
//!
//! What there is to hold on to: links with long ways are measured first. So a topology that has one with a delay of some
//! seconds does not come to measure the others before those have passed, since its links stand. If this machine keeps the
//! test from changing a link in that time, the clocks tell, and there is another try with a longer delay.

use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use event::{Event, Record, RunState, Verdict, run_directory as names};
use nix::sched::{CloneFlags, setns};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, geteuid};

use super::{Ended, Place, Run, pause};

/// Seconds of delay, one for each try.
const DELAYS: [u64; 3] = [3, 12, 48];

/// Does that in the namespaces of one of a run's processes.
pub(crate) fn done_inside(process: u32, command: &str) {
    let words: Vec<&str> = command.split(' ').collect();
    let done = inside(process, &words).output().expect("it can be started");
    assert!(done.status.success(), "{command}: {}", String::from_utf8_lossy(&done.stderr));
}

/// A command in the namespaces of one of a run's processes, that may change its network there.
fn inside(process: u32, words: &[&str]) -> Command {
    // An ordinary user owns the user namespace of his runs.
    let kinds: &[&str] = if geteuid().is_root() { &["net", "uts"] } else { &["user", "net", "uts"] };
    let open = |kind: &&str| File::open(format!("/proc/{process}/ns/{kind}"));
    let namespaces: std::io::Result<Vec<File>> = kinds.iter().map(open).collect();
    let mut command = Command::new(words[0]);
    command.args(&words[1..]).stdin(Stdio::null());
    let enter = move || {
        let namespaces = namespaces.as_ref().map_err(|error| std::io::Error::from(error.kind()))?;
        for namespace in namespaces {
            setns(namespace, CloneFlags::empty())?;
        }
        keep_network_capability()
    };
    // SAFETY: between fork and exec only system calls are made.
    unsafe { command.pre_exec(enter) };
    command
}

/// Whoever is not root in a user namespace has no capability after exec but ambient ones (capabilities(7)).
fn keep_network_capability() -> std::io::Result<()> {
    const VERSION_3: u32 = 0x2008_0522; // linux/capability.h
    const CAP_NET_ADMIN: libc::c_ulong = 12;
    let mut header = [VERSION_3, 0];
    // Effective, permitted and inheritable; first the lower 32 of each.
    let mut sets = [0_u32; 6];
    let done = |result: libc::c_long| if result < 0 { Err(std::io::Error::last_os_error()) } else { Ok(()) };
    // SAFETY: header and sets are as long as version 3 has them, and alive.
    done(unsafe { libc::syscall(libc::SYS_capget, header.as_mut_ptr(), sets.as_mut_ptr()) })?;
    sets[2] |= 1 << CAP_NET_ADMIN;
    // SAFETY: as above.
    done(unsafe { libc::syscall(libc::SYS_capset, header.as_mut_ptr(), sets.as_ptr()) })?;
    // SAFETY: only numbers are given.
    done(unsafe { libc::prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_RAISE, CAP_NET_ADMIN, 0, 0) }.into())
}

/// What a run has started.
pub(crate) struct Processes {
    /// The one that everything of the run is below, in the hub.
    pub(crate) hub: u32,
    nodes: Vec<u32>,
}

impl Processes {
    fn of(testbed: u32) -> Self {
        let hub = children(testbed).first().copied().expect("a run has a process of its own");
        Processes { hub, nodes: descendants(hub) }
    }

    /// The first process of a node.
    pub(crate) fn node(&self, name: &str) -> u32 {
        let is_it = |process: &&u32| {
            let said = inside(**process, &["hostname"]).output().expect("it can be started");
            String::from_utf8_lossy(&said.stdout).trim() == name
        };
        *self.nodes.iter().find(is_it).unwrap_or_else(|| panic!("no process of node {name}"))
    }
}

/// Runs the topology that `text` makes of a long delay, and changes it by `change` before its other links are measured. The
/// run in which that came in time, or `None`, and said so, if it never did.
pub(crate) fn run_changed(place: &Place, text: impl Fn(&str) -> String, change: impl Fn(&Processes)) -> Option<Run> {
    for (seconds, attempt) in DELAYS.into_iter().zip(0..) {
        let name = format!("changed-{attempt}");
        let file = place.write(&format!("{name}.yaml"), &text(&format!("{seconds}s")));
        let mut command = place.command();
        command.arg("run").arg(&file).stdout(Stdio::piped()).stderr(Stdio::piped());
        let child = command.spawn().expect("testbed can be started");
        let latest = place.path().join(names::RUNS).join("changed").join(names::LATEST);
        let Some(stand) = await_links(&latest, &name, child.id()) else {
            let output = child.wait_with_output().expect("it has ended");
            panic!("no links: {}", Ended { output }.told());
        };
        change(&Processes::of(child.id()));
        let changed = fabric::clock::realtime();
        let is_in_time = changed < stand + seconds * 1_000_000_000;
        if !is_in_time {
            // It may be about anything by now.
            let _gone = kill(Pid::from_raw(child.id() as i32), Signal::SIGKILL);
        }
        let output = child.wait_with_output().expect("it ends");
        if is_in_time {
            return Some(Run {
                ended: Ended { output },
                directory: latest.canonicalize().expect("it has a directory"),
            });
        }
        eprintln!("the link was changed too late, another try");
    }
    eprintln!("STARVED in every attempt: nothing is proven");
    None
}

/// When the links of the run of this file stood, at the earliest: nanoseconds since 1970. `None` if it ends before.
fn await_links(latest: &Path, name: &str, testbed: u32) -> Option<u64> {
    loop {
        let log = std::fs::read_to_string(latest.join(names::EVENTS)).unwrap_or_default();
        let records: Vec<Record> = log.lines().filter_map(|line| Record::from_line(line).ok()).collect();
        let began = records.iter().find_map(|record| match &record.event {
            // `latest` may still be the run before.
            Event::RunBegan { file, unix_ms, .. } if file.contains(name) => Some(unix_ms * 1_000_000),
            _ => None,
        });
        let stood = records.iter().find(|record| matches!(record.event, Event::FabricRaised { .. }));
        if let (Some(began), Some(stood)) = (began, stood) {
            return Some(began + stood.at_ns);
        }
        let stat = std::fs::read_to_string(format!("/proc/{testbed}/stat")).unwrap_or_default();
        if stat.rsplit(')').next().is_none_or(|rest| rest.trim_start().starts_with('Z')) {
            return None;
        }
        pause(Duration::from_millis(5), "the log is a file, which tells nobody that it grew");
    }
}

/// Whether the run is INVALID for a link, and what it says of it; `None`, and said so, if this machine was too busy.
pub(crate) fn deviation(run: &Run) -> Option<String> {
    if !run.kept_up() {
        eprintln!("STARVED: nothing is proven");
        return None;
    }
    run.ended.expect_status(Verdict::Invalid.exit_status().into());
    let state: RunState = run.state();
    assert_eq!(state.verdict, Some(Verdict::Invalid));
    let cause = state.causes.first().cloned().expect("a verdict but PASS has a cause");
    assert!(run.ended.stdout().contains(&format!("INVALID {}: {cause}", state.name)), "{}", run.ended.told());
    assert!(state.started_at.is_none(), "no node was started");
    Some(cause)
}

fn children(process: u32) -> Vec<u32> {
    let listed = std::fs::read_to_string(format!("/proc/{process}/task/{process}/children")).unwrap_or_default();
    listed.split_whitespace().filter_map(|child| child.parse().ok()).collect()
}

fn descendants(process: u32) -> Vec<u32> {
    let own = children(process);
    own.iter().copied().chain(own.iter().flat_map(|child| descendants(*child))).collect()
}
