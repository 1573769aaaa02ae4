//! The sender of a file by stop-and-wait.

use std::collections::VecDeque;
use std::net::SocketAddr;

use event::{Delivery, NodeReport, Rounds, Transferred};
use machine::{Machine, Time};
use p2mp::classic::sender::{Acknowledged, Output, SenderError};
use p2mp::classic::{Sender, SenderConfig};
use topology::plan::FileId;

use super::Progress;
use crate::program::{Act, Content, Datagram, Program};

/// What a sender is to send, and to whom.
#[derive(Clone, Debug)]
pub struct Task {
    /// The file.
    pub file: FileId,
    /// The names and addresses of the receivers.
    pub receivers: Vec<(String, SocketAddr)>,
    /// What the machine is told. Its count of receivers is theirs.
    pub config: SenderConfig,
}

/// A sender that starts at once and ends with its transfer.
pub struct ClassicSender {
    task: Task,
    machine: Sender,
    progress: Progress,
    acts: VecDeque<Act>,
}

/// Any port does; this one is the first that Linux hands out.
const PORT: u16 = 32_768;

impl ClassicSender {
    /// Begins at `now`.
    ///
    /// # Errors
    /// As the machine says.
    pub fn new(mut task: Task, now: Time) -> Result<Self, SenderError> {
        task.config.receivers = task.receivers.len();
        let machine = Sender::new(task.config, now)?;
        let acts = VecDeque::from([Act::Report(NodeReport::Ready)]);
        let progress = Progress::new(task.config.length);
        let mut sender = ClassicSender { task, machine, progress, acts };
        sender.carry_out();
        Ok(sender)
    }

    fn carry_out(&mut self) {
        while let Some(output) = self.machine.poll() {
            match output {
                Output::Send { receiver, sequence, length } => self.acts.push_back(Act::Send {
                    from_port: PORT,
                    to: self.task.receivers[receiver].1,
                    content: Content::Segment { sequence, length, file: self.task.file },
                }),
                Output::TimedOut { sequence, .. } => {
                    self.acts.push_back(Act::Print(format!("Timeout, sequence number = {sequence}")));
                }
                Output::GaveUp { .. } => {}
                Output::Finished(summary) => {
                    let names = self.task.receivers.iter();
                    let receivers = names.zip(&summary.receivers).map(|((name, _), delivery)| Delivery {
                        name: name.clone(),
                        complete: delivery.complete,
                        retransmissions: delivery.retransmissions,
                    });
                    let transferred = Transferred {
                        seconds: summary.elapsed.as_secs_f64(),
                        segments: summary.segments,
                        bytes: summary.bytes,
                        rounds: Some(Rounds {
                            count: summary.rounds.count,
                            needless: summary.rounds.needless,
                            waited: summary.rounds.waited.as_secs_f64(),
                        }),
                        receivers: receivers.collect(),
                    };
                    self.acts.push_back(Act::Report(NodeReport::Transferred(transferred)));
                    self.acts.push_back(Act::Exit(if summary.is_complete() { 0 } else { 1 }));
                }
            }
        }
        let report = self.progress.at(self.machine.acknowledged(), self.task.config.length);
        // Nothing is told after the end.
        if !matches!(self.acts.back(), Some(Act::Exit(_))) {
            self.acts.extend(report.map(Act::Report));
        }
    }
}

impl Program for ClassicSender {
    fn receive(&mut self, now: Time, datagram: Datagram) {
        let Content::Acknowledgement { sequence } = datagram.content else { return };
        if datagram.to.port() != PORT {
            return;
        }
        let known = self.task.receivers.iter().position(|(_, address)| *address == datagram.from);
        if let Some(receiver) = known {
            self.machine.handle(now, Acknowledged { receiver, sequence });
            self.carry_out();
        }
    }

    fn advance(&mut self, now: Time) {
        self.machine.advance(now);
        self.carry_out();
    }

    fn deadline(&self) -> Option<Time> {
        self.machine.deadline().map(|(at, _)| at)
    }

    fn poll(&mut self) -> Option<Act> {
        self.acts.pop_front()
    }
}
