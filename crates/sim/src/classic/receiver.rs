//! A receiver of one file by stop-and-wait.

use std::collections::VecDeque;
use std::net::SocketAddr;

use event::NodeReport;
use machine::{Machine, Ratio, Seed, Span, Time};
use p2mp::LossService;
use p2mp::classic::Receiver;
use p2mp::classic::receiver::{Arrived, Output};
use topology::plan::FileId;

use super::Progress;
use crate::program::{Act, Content, Datagram, Kept, Program, discarded};

/// A receiver that ends when it has one file and its sender is silent.
pub struct ClassicReceiver {
    port: u16,
    name: String,
    /// What the file's length will be. The program does not know it; it only decides how often progress is told.
    total: u64,
    loss: LossService,
    machine: Receiver,
    /// Others are other transfers, which nobody waits for.
    sender: Option<SocketAddr>,
    kept: Option<Kept>,
    progress: Progress,
    /// Answers a sender that has not heard of the end, until this long after its last word.
    linger: Span,
    ends_at: Option<Time>,
    acts: VecDeque<Act>,
}

impl ClassicReceiver {
    /// Listens on `port`, throws a share `p` away by `seed`, and writes the file called `name`.
    pub fn new(port: u16, name: String, p: Ratio, seed: Seed, total: u64, linger: Span) -> Self {
        ClassicReceiver {
            port,
            name,
            total,
            loss: LossService::new(p, seed),
            machine: Receiver::new(),
            sender: None,
            kept: None,
            progress: Progress::new(0),
            linger,
            ends_at: None,
            acts: VecDeque::from([Act::Report(NodeReport::Ready)]),
        }
    }

    /// Notes that `length` bytes of `file` from `sequence` on are now at `offset`.
    fn write(&mut self, file: FileId, sequence: u32, offset: u32, length: u32) {
        let kept = self.kept.get_or_insert(Kept { file, bytes: 0, differs_at: None });
        let at = u64::from(offset);
        if kept.file != file || sequence != offset || kept.bytes != at {
            kept.differs_at.get_or_insert(at.min(kept.bytes));
        }
        kept.bytes = kept.bytes.max(at + u64::from(length));
    }
}

impl Program for ClassicReceiver {
    fn receive(&mut self, now: Time, datagram: Datagram) {
        let Content::Segment { sequence, length, file } = datagram.content else { return };
        if datagram.to.port() != self.port {
            return;
        }
        if self.loss.discards() {
            self.acts.push_back(Act::Print(format!("Packet loss, sequence number = {sequence}")));
            return;
        }
        if *self.sender.get_or_insert(datagram.from) != datagram.from {
            return;
        }
        self.machine.handle(now, Arrived { sequence, length, sound: true });
        while let Some(output) = self.machine.poll() {
            match output {
                Output::Acknowledge { sequence } => {
                    let content = Content::Acknowledgement { sequence };
                    self.acts.push_back(Act::Send { from_port: self.port, to: datagram.from, content });
                }
                Output::Write { offset, length } => {
                    self.write(file, sequence, offset, length);
                    let report = self.progress.at(self.machine.received(), self.total);
                    if let Some(progress) = report {
                        self.acts.push_back(Act::Report(progress));
                        self.acts.extend(discarded(&self.loss));
                    }
                }
                Output::Finished { length } => {
                    let kept = self.kept.unwrap_or(Kept { file, bytes: 0, differs_at: None });
                    self.acts.push_back(Act::Keep { name: self.name.clone(), kept });
                    let bytes = u64::from(length);
                    let whole = NodeReport::Progress { bytes, total: bytes, received: bytes };
                    self.acts.push_back(Act::Report(whole));
                    self.acts.push_back(Act::Report(NodeReport::Finished { bytes, sha256: None }));
                }
            }
        }
        if self.machine.is_finished() {
            self.ends_at = Some(now + self.linger);
        }
    }

    fn advance(&mut self, now: Time) {
        if self.ends_at.is_some_and(|at| at <= now) {
            self.ends_at = None;
            self.acts.extend(discarded(&self.loss));
            self.acts.push_back(Act::Exit(0));
        }
    }

    fn deadline(&self) -> Option<Time> {
        self.ends_at
    }

    fn poll(&mut self) -> Option<Act> {
        self.acts.pop_front()
    }
}
