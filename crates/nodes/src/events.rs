//! What a program tells the testbed: [`NodeReport`]s, one JSON object a line, on the descriptor that
//! `TESTBED_EVENTS_FD` names. Without that variable nothing is written.
#![allow(unsafe_code, reason = "adopts the descriptor whose number stands in the environment")]

use std::env;
use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, FromRawFd, RawFd};
use std::sync::{Arc, Mutex, PoisonError};

use event::NodeReport;
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// The environment variable that holds the descriptor's number.
pub const VARIABLE: &str = "TESTBED_EVENTS_FD";

/// Where reports go. Clones write to the same place, each line whole.
#[derive(Clone, Debug, Default)]
pub struct EventSink {
    out: Option<Arc<Mutex<File>>>,
}

/// Why the descriptor in the environment cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum EventSinkError {
    /// Not a number, or one of the standard streams.
    #[error("{VARIABLE}={value} does not name a descriptor above 2")]
    NotADescriptor {
        /// What the variable holds.
        value: String,
    },
    /// Nothing is open under that number.
    #[error("{VARIABLE}={fd} is not open")]
    NotOpen {
        /// The number.
        fd: RawFd,
        /// What the kernel says.
        source: nix::Error,
    },
}

impl EventSink {
    /// The sink that the environment names; one that swallows everything if it names none. Call it once, before
    /// anything else could own the descriptor. Programs started later do not inherit it.
    ///
    /// # Errors
    /// When the variable is set but does not name an open descriptor.
    pub fn from_environment() -> Result<Self, EventSinkError> {
        let Some(value) = env::var_os(VARIABLE) else { return Ok(EventSink::default()) };
        let value = value.to_string_lossy().into_owned();
        let fd: RawFd = match value.parse() {
            Ok(fd) if fd > 2 => fd,
            _ => return Err(EventSinkError::NotADescriptor { value }),
        };
        // SAFETY: borrowed for these two calls only; a number that is not open yields EBADF.
        let borrowed = unsafe { std::os::fd::BorrowedFd::borrow_raw(fd) };
        fcntl(borrowed, FcntlArg::F_GETFD)
            .and_then(|_| fcntl(borrowed, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC)))
            .map_err(|source| EventSinkError::NotOpen { fd, source })?;
        // SAFETY: open, and by contract handed to this program alone.
        Ok(EventSink::new(unsafe { File::from_raw_fd(fd) }))
    }

    /// Writes to `out`.
    pub fn new(out: File) -> Self {
        EventSink { out: Some(Arc::new(Mutex::new(out))) }
    }

    /// Whether anybody listens.
    pub fn is_connected(&self) -> bool {
        self.out.is_some()
    }

    /// Reports a fact that must not be lost; waits while the pipe is full.
    pub fn tell(&self, report: &NodeReport) {
        self.write(report, Loss::Never);
    }

    /// Reports a sample that the next one replaces; dropped while the pipe is full. Whether it was written.
    pub fn sample(&self, report: &NodeReport) -> bool {
        self.write(report, Loss::WhenFull)
    }

    fn write(&self, report: &NodeReport, loss: Loss) -> bool {
        let Some(out) = &self.out else { return true };
        let mut line = report.to_line();
        line.push('\n');
        let mut out = out.lock().unwrap_or_else(PoisonError::into_inner);
        if loss == Loss::WhenFull && !has_room(&out, line.len()) {
            return false;
        }
        // A reader that is gone is no reason to stop the work; SIGPIPE is ignored in Rust programs.
        if let Err(error) = out.write_all(line.as_bytes()) {
            tracing::debug!(%error, "a report was lost");
            return false;
        }
        true
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Loss {
    Never,
    WhenFull,
}

/// A pipe that polls writable takes a line of up to `PIPE_BUF` bytes without blocking and in one piece. The
/// descriptor stays blocking: that flag is shared with whoever holds the other copies of it.
fn has_room(out: &File, len: usize) -> bool {
    let mut ask = [PollFd::new(out.as_fd(), PollFlags::POLLOUT)];
    let writable = poll(&mut ask, PollTimeout::ZERO).is_ok_and(|n| n > 0);
    len <= libc::PIPE_BUF && writable && ask[0].revents().is_some_and(|flags| flags.contains(PollFlags::POLLOUT))
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader};

    use super::*;

    #[test]
    fn samples_are_dropped_when_the_pipe_is_full_and_lines_stay_whole() {
        let (read, write) = nix::unistd::pipe().unwrap();
        let sink = EventSink::new(File::from(write));
        let sample = NodeReport::Progress { bytes: 1, total: 2, received: 3 };
        let mut written = 0;
        while sink.sample(&sample) {
            written += 1;
            assert!(written < 1 << 20, "the pipe never fills");
        }
        drop(sink);
        let lines = BufReader::new(File::from(read)).lines();
        let parsed = lines.map(|line| NodeReport::from_line(&line.unwrap()).unwrap()).filter(|r| *r == sample).count();
        assert_eq!(parsed, written);
    }
}
