//! The process that everything of a run lives in: pid 1 of new namespaces, which the kernel tears down with all that is in
//! them when that process ends, or when the one that started it does.
//!
//! * `guardian`: the outer process, which waits and forwards signals.
//! * `pid_one`: the inner one, which reaps strangers and receives signals.
//! * `hosts`: the private `/etc/hosts`.
#![allow(unsafe_code, reason = "forks into new namespaces")]

mod guardian;
mod hosts;
mod pid_one;

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sched::CloneFlags;
use nix::sys::prctl;
use nix::sys::signal::Signal;
use nix::unistd::{Gid, Uid, getegid, geteuid, pipe2};

use crate::namespace::{self, Forked};
use crate::preflight;

pub use hosts::{HostsError, bind_hosts};

/// Proof that the calling process is inside: in network, mount, PID, IPC and UTS namespaces of its own.
#[derive(Debug)]
pub struct Sandbox {
    /// Whether a user namespace gives the privileges instead of root.
    pub rootless: bool,
    /// One byte a signal, its number: INT, TERM, HUP and QUIT as they arrive. They are blocked in every thread, and none
    /// is lost from the moment the sandbox exists; those that the caller's parent had ignored stay ignored.
    pub signals: UnixStream,
    /// Who the programs are.
    pub(crate) uid: Uid,
    pub(crate) gid: Gid,
}

/// Why there is no sandbox.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    /// A fork of a process of several threads would inherit their locks.
    #[error("the process already has {threads} threads, and only one may fork into namespaces")]
    Threads {
        /// How many.
        threads: usize,
    },
    /// The kernel refused a step.
    #[error("{call}: {errno}; {remedy}")]
    Refused {
        /// The step.
        call: String,
        /// The kernel's answer.
        errno: Errno,
        /// What the user can do about it.
        remedy: String,
    },
    /// Something killed the inner process, and with it everything inside.
    #[error("the inner process was killed by {signal}")]
    Killed {
        /// By this.
        signal: Signal,
    },
}

/// Runs `inside` in new namespaces and returns its status once the last process in there is gone.
///
/// Forks: the caller stays outside, waits and forwards INT, TERM, HUP and QUIT; `inside` runs in a thread of the inner
/// process, whose main thread is pid 1 and reaps orphans, and only those. Neither process survives the other.
///
/// The calling process must have one thread. Without root, or as a root that may not, it enters a user namespace in which
/// the caller keeps its uid and has every capability over the namespaces made here.
pub fn run(inside: impl FnOnce(Sandbox) -> u8 + Send) -> Result<u8, SandboxError> {
    let threads = std::fs::read_dir("/proc/self/task").map_or(1, |tasks| tasks.count());
    if threads > 1 {
        return Err(SandboxError::Threads { threads });
    }
    // What a buffer holds at the fork would be written twice.
    let _ = io::stdout().flush();
    let (uid, gid) = (geteuid(), getegid());
    let watch = guardian::Watch::begin().map_err(|errno| refused("block signals", errno))?;
    // The inner process sees the end of this pipe when the outer one dies, however it dies.
    let (lifeline, held) = pipe2(OFlag::O_CLOEXEC).map_err(|errno| refused("make a pipe", errno))?;
    let (complaint, complain) = pipe2(OFlag::O_CLOEXEC).map_err(|errno| refused("make a pipe", errno))?;

    let (forked, rootless) = fork(uid)?;
    match forked {
        Forked::Child => {
            drop((held, complaint));
            let sandbox = match settle(lifeline, rootless, uid, gid) {
                Ok((signals, sender)) => (Sandbox { rootless, signals, uid, gid }, sender),
                Err(Step { call, errno }) => {
                    let _ = std::fs::File::from(complain).write_all(format!("{} {call}", errno as i32).as_bytes());
                    std::process::exit(1);
                }
            };
            drop(complain);
            pid_one::live(sandbox.0, sandbox.1, watch.signals(), inside)
        }
        Forked::Parent(child) => {
            drop((lifeline, complain));
            let mut text = String::new();
            let _ = std::fs::File::from(complaint).read_to_string(&mut text);
            let outcome = watch.until_exit(child);
            drop(held);
            match text.split_once(' ') {
                Some((errno, call)) => Err(refused(call, Errno::from_raw(errno.parse().unwrap_or(libc::EIO)))),
                None => outcome,
            }
        }
    }
}

/// A step of the inner process that the kernel refused.
struct Step {
    call: &'static str,
    errno: Errno,
}

fn fork(uid: Uid) -> Result<(Forked, bool), SandboxError> {
    let own = CloneFlags::CLONE_NEWNET
        | CloneFlags::CLONE_NEWNS
        | CloneFlags::CLONE_NEWPID
        | CloneFlags::CLONE_NEWUTS
        | CloneFlags::CLONE_NEWIPC;
    if uid.is_root() {
        // SAFETY: `run` made sure that this process has one thread.
        match unsafe { namespace::fork_into(own) } {
            // A container's root without the capability: it may still be allowed a user namespace.
            Err(Errno::EPERM) => {}
            Err(errno) => return Err(refused("make namespaces", errno)),
            Ok(forked) => return Ok((forked, false)),
        }
    }
    // SAFETY: as above.
    match unsafe { namespace::fork_into(own | CloneFlags::CLONE_NEWUSER) } {
        Ok(forked) => Ok((forked, true)),
        Err(errno) => Err(refused("make a user namespace", errno)),
    }
}

/// The inner process's first steps. Returns the two ends on which signals travel from pid 1's thread to the sandbox.
fn settle(lifeline: OwnedFd, rootless: bool, uid: Uid, gid: Gid) -> Result<(UnixStream, UnixStream), Step> {
    let step = |call| move |errno| Step { call, errno };
    prctl::set_pdeathsig(Signal::SIGKILL).map_err(step("tie the processes together"))?;
    // The outer process may have died before that line; then its end of the pipe is closed already.
    let mut ends = [PollFd::new(lifeline.as_fd(), PollFlags::POLLIN)];
    if poll(&mut ends, PollTimeout::ZERO) != Ok(0) {
        std::process::exit(1);
    }
    if rootless {
        namespace::map_user(uid, uid, gid, gid).map_err(|(call, error)| Step { call, errno: errno_of(&error) })?;
        // Mapping may have cleared it: the kernel does so when credentials change.
        prctl::set_pdeathsig(Signal::SIGKILL).map_err(step("tie the processes together"))?;
    }
    namespace::detach_mounts().map_err(step("make the mounts private"))?;
    if let Err(errno) = namespace::mount_proc() {
        // A container may cover parts of /proc, and then forbids a fresh one: the old one shows other process ids.
        tracing::debug!(%errno, "keeping the outer /proc");
    }
    if uid.is_root() {
        // It shows the machine's interfaces and devices, and root may write it. Where it is no mount there is none.
        match namespace::make_read_only("/sys", true) {
            Ok(()) | Err(Errno::EINVAL | Errno::ENOENT) => {}
            Err(errno) => return Err(Step { call: "make /sys read-only", errno }),
        }
    }
    quieten_hub().map_err(|error| Step { call: "write network settings", errno: errno_of(&error) })?;
    let (receiver, sender) =
        UnixStream::pair().map_err(|error| Step { call: "make a socket pair", errno: errno_of(&error) })?;
    receiver
        .set_nonblocking(true)
        .map_err(|error| Step { call: "make a socket non-blocking", errno: errno_of(&error) })?;
    Ok((receiver, sender))
}

/// The hub namespace carries frames and emits none: no addresses, no IPv6, and no firewall hook on bridged frames.
fn quieten_hub() -> io::Result<()> {
    for setting in ["/proc/sys/net/ipv6/conf/all/disable_ipv6", "/proc/sys/net/ipv6/conf/default/disable_ipv6"] {
        match namespace::write(setting, "1") {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            // A kernel without IPv6.
            _ => {}
        }
    }
    for setting in ["arptables", "ip6tables", "iptables"] {
        // Exists only where the machine loaded br_netfilter, as Docker does.
        let _ = namespace::write(&format!("/proc/sys/net/bridge/bridge-nf-call-{setting}"), "0");
    }
    Ok(())
}

fn refused(call: &str, errno: Errno) -> SandboxError {
    SandboxError::Refused { call: call.to_owned(), errno, remedy: preflight::namespace_remedy(errno) }
}

fn errno_of(error: &io::Error) -> Errno {
    Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO))
}
