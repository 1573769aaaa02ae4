//! The outer process: waits for the inner one and passes on what others signal to it.
#![allow(unsafe_code, reason = "nix has no sigwaitinfo, and no sigaction that only looks")]

use std::mem::MaybeUninit;
use std::ptr;

use nix::errno::Errno;
use nix::sys::signal::{SigSet, SigmaskHow, Signal, kill, sigprocmask};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use super::SandboxError;

/// Signals held back from the default action and taken one by one.
pub(super) struct Watch {
    taken: SigSet,
    before: SigSet,
}

impl Watch {
    /// Blocks the signals that end a run, and SIGCHLD. Those that the caller was told to ignore (`nohup`, a shell's
    /// background job) stay ignored.
    pub(super) fn begin() -> Result<Self, Errno> {
        let mut taken = SigSet::empty();
        taken.add(Signal::SIGCHLD);
        for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGQUIT] {
            if !is_ignored(signal) {
                taken.add(signal);
            }
        }
        let mut before = SigSet::empty();
        sigprocmask(SigmaskHow::SIG_BLOCK, Some(&taken), Some(&mut before))?;
        Ok(Watch { taken, before })
    }

    /// The signals that are blocked here and in the child.
    pub(super) fn signals(&self) -> SigSet {
        self.taken
    }

    /// Waits for the inner process. What another process signals to this one is passed on; what the kernel does (Ctrl-C,
    /// a closed terminal) has reached the inner process too, which is of the same process group.
    pub(super) fn until_exit(&self, child: Pid) -> Result<u8, SandboxError> {
        loop {
            match waitpid(child, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::Exited(_, status)) => return Ok(status as u8),
                Ok(WaitStatus::Signaled(_, signal, _)) => return Err(SandboxError::Killed { signal }),
                // Nobody else reaps in this process.
                Err(Errno::ECHILD) => return Err(SandboxError::Killed { signal: Signal::SIGKILL }),
                _ => {}
            }
            match next_signal(&self.taken) {
                Some((Signal::SIGCHLD, _)) | None => {}
                Some((signal, code)) if code <= 0 => {
                    let _ = kill(child, signal);
                }
                Some(_) => {}
            }
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let _ = sigprocmask(SigmaskHow::SIG_SETMASK, Some(&self.before), None);
    }
}

/// Waits for one of the blocked signals: which, and its `si_code` (at most 0 where a process sent it).
pub(super) fn next_signal(set: &SigSet) -> Option<(Signal, i32)> {
    let mut info = MaybeUninit::<libc::siginfo_t>::zeroed();
    // SAFETY: both pointers are valid for the call; the kernel fills `info` when the result is a signal.
    let number = unsafe { libc::sigwaitinfo(set.as_ref(), info.as_mut_ptr()) };
    let signal = Signal::try_from(number).ok()?;
    // SAFETY: filled, see above; all-zero is valid too.
    Some((signal, unsafe { info.assume_init() }.si_code))
}

fn is_ignored(signal: Signal) -> bool {
    let mut action = MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: with no new action this only writes the present one to `action`.
    let result = unsafe { libc::sigaction(signal as i32, ptr::null(), action.as_mut_ptr()) };
    // SAFETY: zeroed before and filled on success; all-zero is valid.
    result == 0 && unsafe { action.assume_init() }.sa_sigaction == libc::SIG_IGN
}
