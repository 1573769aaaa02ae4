//! Being told to end, for programs that wait on descriptors.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

/// Readable once this program shall end, by SIGINT or SIGTERM.
#[derive(Debug)]
pub(crate) struct Signals {
    descriptor: SignalFd,
}

impl Signals {
    /// From now on those signals show here only, in this thread and those that it starts later. A file that grows too
    /// large (SIGXFSZ) is an error of the write, and no death.
    pub(crate) fn catch() -> io::Result<Self> {
        let mut ends = SigSet::empty();
        ends.add(Signal::SIGINT);
        ends.add(Signal::SIGTERM);
        let mut blocked = ends;
        blocked.add(Signal::SIGXFSZ);
        blocked.thread_block()?;
        let descriptor = SignalFd::with_flags(&ends, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)?;
        Ok(Signals { descriptor })
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}
