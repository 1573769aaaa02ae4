//! What a fork leaves behind that pid 1 must not keep, and its title.
#![allow(unsafe_code, reason = "resets signal dispositions and closes ranges of descriptors by raw calls")]

use std::ffi::CString;
use std::os::fd::{AsRawFd, BorrowedFd};

use nix::sys::prctl;
use nix::sys::signal::SigSet;
use nix::unistd::setsid;

use super::InitError;

/// The last signal of Linux on every architecture but MIPS.
pub(super) const LAST_SIGNAL: i32 = 64;

/// Leaves the session of whatever forked this process (so that a terminal's signals pass by), takes no signal, and
/// keeps no descriptor but the standard three and `control`. Programs inherit default dispositions from here.
pub(super) fn shed(name: &str, control: BorrowedFd<'_>) -> Result<(), InitError> {
    SigSet::all().thread_block().map_err(|source| InitError::System { call: "block signals", source })?;
    for signal in 1..=LAST_SIGNAL {
        reset(signal);
    }
    // Fails only where this is the leader of a session already, which is what is wanted.
    let _ = setsid();
    // A title is for people; a name is at most 15 bytes of it.
    if let Ok(title) = CString::new(format!("node {name}")) {
        let _ = prctl::set_name(&title);
    }
    let control = control.as_raw_fd().unsigned_abs();
    close_range(3, control - 1);
    close_range(control + 1, u32::MAX);
    Ok(())
}

/// Past the C library, which refuses to touch the two signals that it keeps for itself; they may be inherited as
/// ignored like any other.
fn reset(signal: i32) {
    // As the kernel has it: handler (`SIG_DFL` is zero), flags, restorer, mask.
    let default = [0_u64; 4];
    // SAFETY: the structure is the kernel's, its mask has 8 bytes, and the default disposition runs no code of ours.
    // KILL and STOP refuse it, which is as good.
    unsafe { libc::syscall(libc::SYS_rt_sigaction, signal, default.as_ptr(), 0_usize, 8_usize) };
}

/// Closes the descriptors from `first` to `last`. Kernels before 5.9 cannot, and keep them until the end.
pub(super) fn close_range(first: u32, last: u32) {
    if first <= last {
        // SAFETY: nothing in this process uses a descriptor that it does not name to the callers: they exclude those.
        unsafe { libc::syscall(libc::SYS_close_range, first, last, 0_u32) };
    }
}
