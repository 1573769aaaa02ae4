//! What a program prints: appended to a log, and forwarded line by line where somebody follows it.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use nix::errno::Errno;
use nix::unistd::read;

use super::lines::LineBuffer;
use super::protocol::{InitEvent, LONGEST_PRINTED, OutputStream};

/// One read of a stream that is only logged: all that a pipe holds.
const CHUNK: usize = 64 * 1024;
/// One read of a stream that is followed: short lines grow by much when they are wrapped into events.
const FOLLOWED_CHUNK: usize = 8 * 1024;

/// What one read of a pipe gave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Read {
    /// Something; there may be more.
    Some,
    /// Nothing for now.
    Nothing,
    /// The end: nobody holds the other side any more.
    End,
}

/// Reads once from `pipe` into `chunk`, which `take` gets.
pub(super) fn read_once(pipe: BorrowedFd<'_>, chunk: &mut [u8], take: impl FnOnce(&[u8])) -> Read {
    match read(pipe, chunk) {
        Ok(0) => Read::End,
        Ok(count) => {
            take(&chunk[..count]);
            Read::Some
        }
        Err(Errno::EAGAIN | Errno::EINTR) => Read::Nothing,
        // A pipe of our own gives no other error.
        Err(_) => Read::End,
    }
}

/// The init's end of one of a program's streams.
#[derive(Debug)]
pub(super) struct Output {
    incarnation: u32,
    stream: OutputStream,
    pipe: Option<OwnedFd>,
    log: Option<File>,
    lines: Option<LineBuffer>,
}

impl Output {
    /// Of the stream that comes out of `pipe`. It is lost until there is a log.
    pub(super) fn new(incarnation: u32, stream: OutputStream, pipe: OwnedFd, follow: bool) -> Self {
        let lines = follow.then(|| LineBuffer::new(LONGEST_PRINTED));
        Output { incarnation, stream, pipe: Some(pipe), log: None, lines }
    }

    /// Appends what comes to the file `log`. That it cannot be opened is told, and does not keep the program from
    /// running.
    pub(super) fn log_to(&mut self, log: &Path, say: &mut impl FnMut(InitEvent)) {
        match open_log(log) {
            Ok(file) => self.log = Some(file),
            Err(error) => say(log_failed(self.incarnation, self.stream, &error)),
        }
    }

    /// What to wait for, until the stream has ended.
    pub(super) fn pipe(&self) -> Option<BorrowedFd<'_>> {
        self.pipe.as_ref().map(AsFd::as_fd)
    }

    /// Takes what has been printed, up to a chunk.
    pub(super) fn read(&mut self, say: &mut impl FnMut(InitEvent)) -> Read {
        let Some(pipe) = self.pipe.take() else {
            return Read::End;
        };
        let mut chunk = [0; CHUNK];
        let chunk = if self.lines.is_some() { &mut chunk[..FOLLOWED_CHUNK] } else { &mut chunk[..] };
        let read = read_once(pipe.as_fd(), chunk, |bytes| self.take(bytes, say));
        if read != Read::End {
            self.pipe = Some(pipe);
        }
        read
    }

    /// Nothing more will come: forwards what stands after the last end of a line, and lets go of pipe and log.
    pub(super) fn finish(mut self, say: &mut impl FnMut(InitEvent)) {
        let (incarnation, stream) = (self.incarnation, self.stream);
        if let Some(lines) = &mut self.lines {
            lines.finish(|line| say(printed(incarnation, stream, line.bytes())));
        }
    }

    fn take(&mut self, bytes: &[u8], say: &mut impl FnMut(InitEvent)) {
        let (incarnation, stream) = (self.incarnation, self.stream);
        if let Some(Err(error)) = self.log.as_mut().map(|log| log.write_all(bytes)) {
            say(log_failed(incarnation, stream, &error));
            self.log = None;
        }
        if let Some(lines) = &mut self.lines {
            lines.feed(bytes, |line| say(printed(incarnation, stream, line.bytes())));
        }
    }
}

fn printed(incarnation: u32, stream: OutputStream, line: &[u8]) -> InitEvent {
    InitEvent::Printed { incarnation, stream, line: String::from_utf8_lossy(line).into_owned() }
}

fn log_failed(incarnation: u32, stream: OutputStream, error: &io::Error) -> InitEvent {
    InitEvent::LogFailed { incarnation, stream, why: error.to_string() }
}

/// The node's programs can reach the folder of their logs: a link there is not followed, and a pipe is not waited for.
fn open_log(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o644)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
        .open(path)
}
