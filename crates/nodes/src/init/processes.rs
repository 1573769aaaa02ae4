//! Signals to everything in the node, and the dead.
#![allow(unsafe_code, reason = "kill(2) and waitpid(2) by number: real-time signals have no name in nix")]

use event::ExitStatus;
use nix::errno::Errno;
use nix::unistd::getpid;

use super::InitError;

/// All processes of the node but its init.
///
/// Invariant: this process is pid 1 of its PID namespace, so `kill(-1)` reaches the node and nothing else, and every
/// orphan of the node becomes its child.
#[derive(Debug)]
pub(super) struct Processes(());

/// What [`Processes::reap`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reaped {
    /// This one had ended.
    Dead(i32, ExitStatus),
    /// There are children, and all of them live.
    Alive,
    /// There are no children. As orphans come here, there are no processes in the node.
    NoneLeft,
}

impl Processes {
    /// Of the namespace whose pid 1 this process is.
    pub(super) fn of_this_node() -> Result<Self, InitError> {
        match getpid().as_raw() {
            1 => Ok(Processes(())),
            pid => Err(InitError::NotPidOne { pid }),
        }
    }

    /// Sends `signal` to every process of the node. The kernel holds the list of processes still meanwhile: no fork
    /// escapes. That there is none is not an error.
    pub(super) fn signal_all(&self, signal: i32) {
        // SAFETY: a plain system call. Pid -1 excludes pid 1 itself, see the invariant.
        unsafe { libc::kill(-1, signal) };
    }

    /// Sends `signal` to `pid`, which must not have been reaped.
    pub(super) fn signal(&self, pid: i32, signal: i32) -> Result<(), Errno> {
        // SAFETY: a plain system call.
        Errno::result(unsafe { libc::kill(pid, signal) }).map(drop)
    }

    /// Takes one that has ended, without waiting.
    pub(super) fn reap(&self) -> Reaped {
        wait_for_any(libc::WNOHANG)
    }

    /// KILL to everything; returns when nothing is left.
    pub(super) fn end_all(&self) {
        self.signal_all(libc::SIGKILL);
        while wait_for_any(0) != Reaped::NoneLeft {}
    }
}

fn wait_for_any(options: i32) -> Reaped {
    loop {
        let mut status = 0;
        // SAFETY: `status` outlives the call.
        match Errno::result(unsafe { libc::waitpid(-1, &raw mut status, options) }) {
            Ok(0) => return Reaped::Alive,
            Ok(pid) if libc::WIFSIGNALED(status) => {
                return Reaped::Dead(pid, ExitStatus::Signal(libc::WTERMSIG(status)));
            }
            Ok(pid) => return Reaped::Dead(pid, ExitStatus::Code(libc::WEXITSTATUS(status))),
            Err(Errno::EINTR) => {}
            Err(_) => return Reaped::NoneLeft,
        }
    }
}
