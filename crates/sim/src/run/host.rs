//! One node in virtual time: its program, whether it is frozen, its disk.

use std::collections::VecDeque;

use machine::Time;

use crate::program::{Act, Datagram, Disk, Program};

#[derive(Default)]
pub(super) struct Host {
    program: Option<Box<dyn Program>>,
    paused: bool,
    /// What came while the program was frozen.
    backlog: VecDeque<Datagram>,
    backlog_bytes: usize,
    pub(super) disk: Disk,
}

/// What a socket keeps for a program that does not look: Linux's usual `net.core.rmem_default`.
const SOCKET_BUFFER: usize = 212_992;

/// What the kernel counts a datagram for beside its bytes (`sk_buff` and alignment).
const DATAGRAM_OVERHEAD: usize = 768;

impl Host {
    pub(super) fn start(&mut self, program: Box<dyn Program>) {
        *self = Host { program: Some(program), disk: std::mem::take(&mut self.disk), ..Host::default() };
    }

    /// Ends the program without asking it; whether there was one.
    pub(super) fn kill(&mut self) -> bool {
        self.paused = false;
        self.backlog.clear();
        self.backlog_bytes = 0;
        self.program.take().is_some()
    }

    pub(super) fn is_alive(&self) -> bool {
        self.program.is_some()
    }

    pub(super) fn terminate(&mut self) -> Option<i32> {
        self.program.as_mut().map(|program| program.terminate())
    }

    pub(super) fn pause(&mut self) {
        self.paused = self.is_alive();
    }

    /// Lets a frozen program go on: first it sees what has come meanwhile.
    pub(super) fn resume(&mut self, now: Time) {
        self.paused = false;
        self.backlog_bytes = 0;
        for datagram in std::mem::take(&mut self.backlog) {
            self.receive(now, datagram);
        }
        self.advance(now);
    }

    pub(super) fn receive(&mut self, now: Time, datagram: Datagram) {
        let Some(program) = &mut self.program else { return };
        if !self.paused {
            program.receive(now, datagram);
            return;
        }
        let bytes = datagram.content.length() as usize + DATAGRAM_OVERHEAD;
        if self.backlog_bytes + bytes <= SOCKET_BUFFER {
            self.backlog_bytes += bytes;
            self.backlog.push_back(datagram);
        }
    }

    pub(super) fn advance(&mut self, now: Time) {
        if let Some(program) = self.program.as_mut().filter(|_| !self.paused) {
            program.advance(now);
        }
    }

    pub(super) fn deadline(&self) -> Option<Time> {
        self.program.as_ref().filter(|_| !self.paused)?.deadline()
    }

    pub(super) fn poll(&mut self) -> Option<Act> {
        self.program.as_mut().filter(|_| !self.paused)?.poll()
    }
}
