//! The connection to the conductor, without ever waiting for it.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, recv, send};

use super::clock;
use super::lines::LineBuffer;
use super::protocol::{self, Command, DecodeError, InitEvent, LONGEST_LINE, Notice};

/// With more than this unsent, no further output or report of the program is read: it waits, as with any pipe.
const CONGESTED: usize = 256 * 1024;
/// With more than this unsent, no further command is read either.
const CHOKED: usize = 4 * 1024 * 1024;
const CHUNK: usize = 16 * 1024;
/// A buffer that has grown beyond this is given back when it is empty.
const WORTH_KEEPING: usize = 64 * 1024;

/// Bytes to and from the conductor.
#[derive(Debug)]
pub(super) struct Control {
    socket: OwnedFd,
    incoming: LineBuffer,
    outgoing: Vec<u8>,
    /// How much of `outgoing` has been sent.
    sent: usize,
}

/// The conductor is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Gone;

impl Control {
    pub(super) fn new(socket: OwnedFd) -> Self {
        Control { socket, incoming: LineBuffer::new(LONGEST_LINE), outgoing: Vec::new(), sent: 0 }
    }

    /// Says `event` as of now; it leaves with the next [`flush`](Self::flush).
    pub(super) fn say(&mut self, event: InitEvent) {
        let notice = Notice { at_ns: clock::now().as_nanos(), event };
        let line = protocol::encode(&notice)
            .expect("every text in an event is bounded to a fraction of a line, and is UTF-8 by type");
        self.outgoing.extend_from_slice(&line);
    }

    /// Sends as much as the connection takes.
    pub(super) fn flush(&mut self) -> Result<(), Gone> {
        while self.unsent() > 0 {
            let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
            match send(self.socket.as_raw_fd(), &self.outgoing[self.sent..], flags) {
                Ok(count) => self.sent += count,
                Err(Errno::EAGAIN) => {
                    if self.sent > WORTH_KEEPING {
                        self.outgoing.drain(..self.sent);
                        self.sent = 0;
                    }
                    return Ok(());
                }
                Err(Errno::EINTR) => {}
                Err(_) => return Err(Gone),
            }
        }
        self.sent = 0;
        self.outgoing.clear();
        if self.outgoing.capacity() > WORTH_KEEPING {
            self.outgoing = Vec::new();
        }
        Ok(())
    }

    /// Takes what has arrived, at most a chunk; each complete line is added to `commands`.
    pub(super) fn receive(&mut self, commands: &mut Vec<Result<Command, DecodeError>>) -> Result<(), Gone> {
        let mut chunk = [0; CHUNK];
        match recv(self.socket.as_raw_fd(), &mut chunk, MsgFlags::MSG_DONTWAIT) {
            Ok(0) => Err(Gone),
            Ok(count) => {
                self.incoming.feed(&chunk[..count], |line| commands.push(protocol::decode(line)));
                Ok(())
            }
            Err(Errno::EAGAIN | Errno::EINTR) => Ok(()),
            Err(_) => Err(Gone),
        }
    }

    /// Something waits to be sent.
    pub(super) fn has_unsent(&self) -> bool {
        self.unsent() > 0
    }

    /// So much waits to be sent that the program has to wait.
    pub(super) fn is_congested(&self) -> bool {
        self.unsent() > CONGESTED
    }

    /// So much waits to be sent that the conductor has to wait.
    pub(super) fn is_choked(&self) -> bool {
        self.unsent() > CHOKED
    }

    fn unsent(&self) -> usize {
        self.outgoing.len() - self.sent
    }
}

impl AsFd for Control {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
