//! A transfer by TCP from the sender's machine to the first receiver's, on the same line.

use machine::Time;

use super::Beside;
use crate::tcp;

/// Both ends of it.
#[derive(Debug)]
pub(super) struct Flow {
    beside: Beside,
    sender: tcp::Sender,
    receiver: tcp::Receiver,
    has_begun: bool,
    /// What both had brought when watching began, while it goes on.
    noted: Option<(u64, u64)>,
    is_over: bool,
}

impl Flow {
    pub(super) fn new(beside: Beside) -> Self {
        Flow {
            sender: tcp::Sender::new(beside.kind),
            receiver: tcp::Receiver::default(),
            beside,
            has_begun: false,
            noted: None,
            is_over: false,
        }
    }

    /// When something of it is due.
    pub(super) fn deadline(&self) -> Option<Time> {
        if !self.has_begun {
            return Some(self.beside.begins);
        }
        let watch = match self.noted {
            _ if self.is_over => None,
            None => Some(self.beside.from),
            Some(_) => Some(self.beside.until),
        };
        [self.sender.deadline(), self.receiver.deadline(), watch].into_iter().flatten().min()
    }

    /// Does what is due, `ours` being what multicast has brought. What both have brought while they were watched, when that
    /// is over, and an acknowledgement to be sent.
    pub(super) fn advance(&mut self, now: Time, ours: u64) -> (Option<(u64, u64)>, Option<tcp::Ack>) {
        self.has_begun |= self.beside.begins <= now;
        if self.sender.deadline().is_some_and(|at| at <= now) {
            self.sender.on_deadline(now);
        }
        let ack = self.receiver.deadline().is_some_and(|at| at <= now).then(|| self.receiver.on_deadline());
        let theirs = self.receiver.delivered() * u64::from(tcp::PAYLOAD);
        let seen = match self.noted {
            None if self.beside.from <= now => {
                self.noted = Some((ours, theirs));
                None
            }
            Some((our_start, their_start)) if self.beside.until <= now && !self.is_over => {
                self.is_over = true;
                Some((ours.saturating_sub(our_start), theirs - their_start))
            }
            _ => None,
        };
        (seen, ack)
    }

    /// The number of a segment that goes out now.
    pub(super) fn poll(&mut self, now: Time) -> Option<u64> {
        if self.has_begun { self.sender.poll(now) } else { None }
    }

    pub(super) fn on_segment(&mut self, now: Time, number: u64) -> Option<tcp::Ack> {
        self.receiver.on_segment(now, number)
    }

    pub(super) fn on_ack(&mut self, now: Time, ack: &tcp::Ack) {
        self.sender.on_ack(now, ack);
    }
}
