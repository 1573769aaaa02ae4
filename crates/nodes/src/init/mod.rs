//! Pid 1 of every node: starts and kills the node's program in place, so that a revived program finds the same
//! address, links and disk.
//!
//! It is forked, never executed, into namespaces that are already made; it has one thread, waits in `ppoll`, and speaks
//! one protocol with the conductor over a stream socket. When that ends, everything in the node ends.
//!
//! * [`protocol`]: commands in, events out, one JSON object a line.
//! * [`lines`]: splits a stream of bytes into lines and never holds more than a bound.
//! * `supervisor`: the node's life: one program at a time, from its start until nothing of it is left.
//! * `wait`: the loop: waits for commands, output, reports, deaths and deadlines.
//! * `launch`, `privilege`: from a command to a running program, and with which powers.
//! * `output`, `reports`: what a program prints, what it reports.
//! * `forwarding`: whether the node forwards between its networks.
//! * `readiness`, `listening`: when a program is ready that does not say so; whether somebody listens on a port, without
//!   connecting to it.
//! * `processes`: signals to everything in the node, and the dead.
//! * `wipe`: empties a disk. `ownership`: whose files those on it are.
//! * `control`: the connection to the conductor.
//! * [`container`]: an init without a conductor, for a container that others made.
//! * `inherited`: what a fork leaves behind that must not stay.
//! * `clock`: the one place that reads a clock.

mod clock;
pub mod container;
mod control;
mod forwarding;
mod inherited;
mod launch;
pub mod lines;
mod listening;
mod output;
mod ownership;
mod privilege;
mod processes;
pub mod protocol;
mod readiness;
mod reports;
mod supervisor;
mod wait;
mod wipe;

pub use privilege::User;

use std::io;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::panic::{self, AssertUnwindSafe};

use nix::sys::socket::{SockType, getsockopt, sockopt};
use thiserror::Error;

/// What the init of one node is given.
#[derive(Debug)]
pub struct InitOptions {
    /// The node's name, for its title in lists of processes.
    pub name: String,
    /// The connection to the conductor: a connected stream socket.
    pub control: OwnedFd,
    /// Destroys what a crashed program left in the kernel's network stack, so that nothing of it speaks after a
    /// revival. Called in the node's namespaces; without it the command is rejected.
    pub purge_sockets: Option<fn() -> io::Result<()>>,
    /// Makes a file the node's `/etc/hosts`. Called in the node's namespaces; without it a start that asks for it fails.
    pub bind_hosts: Option<fn(&std::path::Path) -> io::Result<()>>,
    /// Who asked for the run, where the init is somebody else: in a container, the machine's root. Programs without privilege
    /// are this user's, and so is every file that the init makes or deletes.
    pub caller: Option<User>,
}

/// Why a process cannot be the init of a node.
#[derive(Debug, Error)]
pub enum InitError {
    /// Signals to everything would reach processes that are not the node's.
    #[error("be the init of a node: this is process {pid}, not process 1 of a PID namespace of its own")]
    NotPidOne {
        /// What it is.
        pid: i32,
    },
    /// The number is no descriptor of a stream socket.
    #[error("use descriptor {fd} as the control connection: it is not a stream socket")]
    NotASocket {
        /// The number.
        fd: RawFd,
    },
    /// A system call that nothing works without.
    #[error("{call}")]
    System {
        /// Which.
        call: &'static str,
        /// What the kernel said.
        #[source]
        source: nix::Error,
    },
}

/// Serves the node until the conductor is gone; then nothing of it lives any more. Returns the exit status for the
/// process: 0 when the conductor closed the connection, anything else when the init itself failed.
///
/// To be called in a process that was just forked into its namespaces, with one thread. Every descriptor but the
/// standard three and the control connection is closed: the caller must not use or drop what it owns of them, but end
/// the process, with `std::process::exit` for example.
pub fn run(options: InitOptions) -> i32 {
    // A panic must not unwind into the copy of whatever forked this process.
    match panic::catch_unwind(AssertUnwindSafe(|| wait::serve(options))) {
        Ok(Ok(())) => 0,
        Ok(Err(error)) => {
            let cause = std::error::Error::source(&error).map(|source| format!(": {source}")).unwrap_or_default();
            eprintln!("node init failed to {error}{cause}");
            1
        }
        Err(_) => 101,
    }
}

/// Takes over the control connection that whoever executed this process left open as `control_fd`, and serves the node
/// as [`run`] does.
///
/// # Errors
/// When the number does not name a stream socket; whether this process may be an init is found out by [`run`].
pub fn run_on_descriptor(name: String, control_fd: RawFd) -> Result<i32, InitError> {
    // The standard three are not ours to own and close.
    if control_fd <= 2 {
        return Err(InitError::NotASocket { fd: control_fd });
    }
    let control = adopt(control_fd).ok_or(InitError::NotASocket { fd: control_fd })?;
    Ok(run(InitOptions { name, control, purge_sockets: None, bind_hosts: None, caller: None }))
}

#[expect(unsafe_code, reason = "a descriptor that is inherited by number has no owner yet")]
fn adopt(fd: RawFd) -> Option<OwnedFd> {
    // SAFETY: whether the number is open at all is asked first; nothing else in this process owns what it was
    // executed with, and the caller gives it away.
    let owned = unsafe {
        if libc::fcntl(fd, libc::F_GETFD) == -1 {
            return None;
        }
        OwnedFd::from_raw_fd(fd)
    };
    (getsockopt(&owned, sockopt::SockType).ok()? == SockType::Stream).then_some(owned)
}
