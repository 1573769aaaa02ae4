//! Pid 1 of a container that others made: one program, from its start to its end.
//!
//! It reaps whatever is orphaned, hands signals on, and ends as the program ends. Nobody commands it, unlike the rest of
//! this module. The program has no capabilities and can gain none (`PR_SET_NO_NEW_PRIVS`), whatever the container was given for
//! its network.
#![allow(unsafe_code, reason = "runs between fork and exec: raw system calls only")]

use std::ffi::{OsStr, OsString};
use std::io;
use std::mem::MaybeUninit;
use std::os::unix::process::CommandExt;
use std::process::Command;

use nix::errno::Errno;
use nix::sys::signal::{SigSet, SigmaskHow, Signal, sigprocmask};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Pid, getpid};

use super::privilege::{User, hold_no_more_than};
use crate::roles::ROLES;

/// A process that waits for signals in one place.
#[derive(Debug)]
pub struct ContainerInit {
    /// Of whoever started it: the program's.
    mask: SigSet,
}

/// These mean that this process itself is broken.
const OWN_FAULTS: [Signal; 7] =
    [Signal::SIGABRT, Signal::SIGBUS, Signal::SIGFPE, Signal::SIGILL, Signal::SIGSEGV, Signal::SIGSYS, Signal::SIGTRAP];

/// Why the program did not start, as a shell tells it: 127, there is none; 126, it cannot be executed.
#[derive(Debug, thiserror::Error)]
#[error("cannot start `{}`", .program.to_string_lossy())]
pub struct StartError {
    /// As it was asked for.
    pub program: OsString,
    /// What the kernel said.
    pub source: io::Error,
}

impl StartError {
    /// The exit status that says so.
    pub fn status(&self) -> u8 {
        if self.source.kind() == io::ErrorKind::NotFound { 127 } else { 126 }
    }
}

impl ContainerInit {
    /// From now on signals wait to be handed on. To be called before there are other threads, which must not get them.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn prepare() -> io::Result<Self> {
        let mut all = SigSet::all();
        OWN_FAULTS.into_iter().for_each(|fault| all.remove(fault));
        let mut mask = SigSet::empty();
        sigprocmask(SigmaskHow::SIG_BLOCK, Some(&all), Some(&mut mask))?;
        if getpid() != Pid::from_raw(1) {
            // Started under another init: what its program leaves behind is reaped here all the same.
            let _ = nix::sys::prctl::set_child_subreaper(true);
        }
        Ok(ContainerInit { mask })
    }

    /// Runs `program` to its end. A role's name means this executable; anything else is searched for in `PATH`. Returns its
    /// exit status, or 128 and the number of the signal that ended it.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn run(self, program: &[OsString], user: Option<User>) -> Result<u8, StartError> {
        let (name, arguments) = program.split_first().map_or((OsStr::new(""), &[][..]), |(name, rest)| (name, rest));
        let failed = |source: io::Error| {
            // A folder of PATH that this user may not look into is no program that he may not execute.
            let is_nowhere = source.kind() == io::ErrorKind::PermissionDenied && is_nowhere(name);
            let source = if is_nowhere { io::ErrorKind::NotFound.into() } else { source };
            StartError { program: name.to_owned(), source }
        };
        let is_role = ROLES.iter().any(|(role, _)| name == *role);
        let mut command = if is_role {
            let mut own = Command::new("/proc/self/exe");
            own.arg0(name);
            own
        } else {
            Command::new(name)
        };
        command.args(arguments);
        if let Some(User { uid, gid }) = user {
            // As root this leaves all other groups, too.
            command.uid(uid).gid(gid);
        }
        let mask = self.mask;
        // SAFETY: between fork and exec it makes plain system calls only.
        unsafe {
            command.pre_exec(move || {
                own_terminal();
                // Signals are blocked here as in the parent; the program gets what the parent was started with.
                sigprocmask(SigmaskHow::SIG_SETMASK, Some(&mask), None)?;
                hold_no_more_than(0)?;
                nix::sys::prctl::set_no_new_privs()?;
                Ok(())
            });
        }
        // Never waited for by the standard library: the loop below reaps everything.
        let child = Pid::from_raw(command.spawn().map_err(failed)?.id() as i32);
        loop {
            match next_signal() {
                Ok(libc::SIGCHLD) => {
                    if let Some(status) = reap(child) {
                        return Ok(status);
                    }
                }
                // Meant for whoever has the terminal.
                Ok(libc::SIGTTIN | libc::SIGTTOU) => {}
                Ok(number) => {
                    // SAFETY: a plain system call. A program that has just ended does not hear it.
                    unsafe { libc::kill(child.as_raw(), number) };
                }
                Err(Errno::EINTR) => {}
                Err(errno) => return Err(failed(errno.into())),
            }
        }
    }
}

/// Whether a program is to be searched for, and no folder of `PATH` is known to have it.
fn is_nowhere(program: &OsStr) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    !program.as_encoded_bytes().contains(&b'/')
        && !std::env::split_paths(&path).any(|folder| folder.join(program).exists())
}

/// Puts this process into a group of its own, and that in front of its terminal, if it has one: so a key such as Ctrl-C is
/// heard once, by the program, and not a second time from its init.
fn own_terminal() {
    // SAFETY: plain system calls. Refusals leave the program where it was, which is right without a terminal.
    unsafe {
        libc::setpgid(0, 0);
        if libc::isatty(0) == 1 {
            libc::tcsetpgrp(0, libc::getpid());
        }
    }
}

/// Waits for the next of the blocked signals.
fn next_signal() -> Result<i32, Errno> {
    let mut set = MaybeUninit::uninit();
    // SAFETY: the set is made before it is waited for; no account of the signal is asked for.
    unsafe {
        libc::sigfillset(set.as_mut_ptr());
        Errno::result(libc::sigwaitinfo(set.as_ptr(), std::ptr::null_mut()))
    }
}

/// Buries the dead; the exit status of `child` if it is among them.
fn reap(child: Pid) -> Option<u8> {
    let mut ended = None;
    loop {
        match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::Exited(pid, status)) if pid == child => ended = Some(status as u8),
            Ok(WaitStatus::Signaled(pid, signal, _)) if pid == child => ended = Some(128 + signal as i32 as u8),
            Ok(WaitStatus::StillAlive) | Err(Errno::ECHILD) => return ended,
            Err(Errno::EINTR) | Ok(_) => {}
            // Nothing else is said of waiting for any child.
            Err(_) => return ended,
        }
    }
}
