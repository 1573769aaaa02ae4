//! Waiting for sockets, or for an instant.

use std::io;
use std::os::fd::BorrowedFd;

use machine::Time;
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::time::{TimeSpec, TimeValLike};

use crate::clock;

/// What is waited for on a descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interest {
    /// Something to read.
    Read,
    /// Room to write.
    Write,
    /// Either.
    ReadOrWrite,
    /// Neither, for now; an error shows all the same.
    Nothing,
}

/// What a descriptor is ready for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ready {
    /// There is something to read, or an error to be read.
    pub read: bool,
    /// There is room to write.
    pub write: bool,
}

/// The calling thread's waits end when they should, and not up to 50 µs later, as is usual (`PR_SET_TIMERSLACK`).
pub fn precise_timers() {
    // A kernel that does not want to only wakes later.
    let _ = nix::sys::prctl::set_timerslack(1);
}

/// Waits until one of the descriptors is ready, `until` has come ([`Time::MAX`]: never), or a signal was handled.
///
/// # Errors
/// When a descriptor is none.
pub fn wait<const N: usize>(descriptors: [(BorrowedFd<'_>, Interest); N], until: Time) -> io::Result<[Ready; N]> {
    let mut asked = descriptors.map(|(fd, interest)| {
        let flags = match interest {
            Interest::Read => PollFlags::POLLIN,
            Interest::Write => PollFlags::POLLOUT,
            Interest::ReadOrWrite => PollFlags::POLLIN | PollFlags::POLLOUT,
            Interest::Nothing => PollFlags::empty(),
        };
        PollFd::new(fd, flags)
    });
    let timeout = (until != Time::MAX).then(|| {
        let left = until.since(clock::now()).as_nanos();
        TimeSpec::nanoseconds(i64::try_from(left).unwrap_or(i64::MAX))
    });
    match ppoll(&mut asked, timeout, None) {
        Ok(_) => {}
        Err(nix::Error::EINTR) => return Ok([Ready::default(); N]),
        Err(error) => return Err(error.into()),
    }
    Ok(asked.map(|fd| {
        let flags = fd.revents().unwrap_or(PollFlags::empty());
        let read = flags.intersects(PollFlags::POLLIN | PollFlags::POLLERR | PollFlags::POLLHUP);
        Ready { read, write: flags.contains(PollFlags::POLLOUT) }
    }))
}
