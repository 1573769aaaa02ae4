//! The sender: one segment at a time, to every receiver, until each has acknowledged it or is given up.

use std::collections::VecDeque;

use machine::{Machine, Span, Time, Timers};

use super::data_segments;
use super::rounds::{Of, Rounds, Tally};
use super::rto::Estimator;

/// What a sender is to do.
#[derive(Clone, Copy, Debug)]
pub struct SenderConfig {
    /// Of the file, in bytes.
    pub length: u64,
    /// The most data in a segment, in bytes.
    pub mss: u32,
    /// How many there are. They are told by index, from 0.
    pub receivers: usize,
    /// How long to wait for an acknowledgement.
    pub timeout: Timeout,
    /// Who has not acknowledged a segment this long after it was first sent is given up.
    pub give_up: Span,
}

/// How long to wait for an acknowledgement before a segment is sent again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Timeout {
    /// What the round trips of each receiver suggest, see [`Estimator`].
    Adaptive,
    /// This long, a timer for each receiver.
    Fixed(Span),
    /// One timer for a segment's whole round: with each acknowledgement, what is left of it is what the others have.
    Shared(Span),
}

/// A sender that wakes up so late was stopped itself, and knows nothing of how long others were silent: it waits anew.
const ASLEEP: Span = Span::from_secs(1);

/// Why there can be no such sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SenderError {
    /// Sequence numbers count bytes in 32 bits, and the end has one, too.
    #[error("a file of {length} bytes is too long for 32-bit sequence numbers, which end at {}", u32::MAX)]
    TooLong {
        /// Of the file.
        length: u64,
    },
    /// Nobody to send to.
    #[error("there is no receiver to send to")]
    NoReceivers,
    /// No segment would carry anything.
    #[error("a segment carries at least one byte")]
    NoData,
    /// Every wait would be over at once.
    #[error("a timeout of 0 expires before any answer")]
    NoTimeout,
}

impl SenderConfig {
    /// Whether there can be a sender like this.
    ///
    /// # Errors
    /// When the file is longer than sequence numbers reach, or something makes no sense.
    pub fn check(&self) -> Result<(), SenderError> {
        if u32::try_from(self.length).is_err() {
            return Err(SenderError::TooLong { length: self.length });
        }
        if self.receivers == 0 {
            return Err(SenderError::NoReceivers);
        }
        if self.mss == 0 {
            return Err(SenderError::NoData);
        }
        if let Timeout::Fixed(Span::ZERO) | Timeout::Shared(Span::ZERO) = self.timeout {
            return Err(SenderError::NoTimeout);
        }
        Ok(())
    }
}

/// What a sender hears.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Acknowledged {
    /// Whose acknowledgement it is.
    pub receiver: usize,
    /// Of what.
    pub sequence: u32,
}

/// What a sender wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Send a segment to a receiver.
    Send {
        /// To whom.
        receiver: usize,
        /// Where its data begins in the file.
        sequence: u32,
        /// Bytes of data; none is the end.
        length: u32,
    },
    /// Nothing was heard in time: the line of the assignment. What is sent again follows.
    TimedOut {
        /// Of whom; `None` where one timer is for all.
        receiver: Option<usize>,
        /// Of what.
        sequence: u32,
    },
    /// This receiver gets nothing any more.
    GaveUp {
        /// Whom.
        receiver: usize,
        /// What it did not acknowledge.
        sequence: u32,
    },
    /// Everybody has everything, or is given up. Nothing follows.
    Finished(Summary),
}

/// What there is to tell of a transfer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    /// From the first segment to the last acknowledgement.
    pub elapsed: Span,
    /// Segments with data that everybody has acknowledged who was not given up; all of them, unless all were given up.
    pub segments: u64,
    /// The same in bytes.
    pub bytes: u64,
    /// What the time went to.
    pub rounds: Rounds,
    /// By index.
    pub receivers: Vec<Delivery>,
}

/// One receiver's part of a transfer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Delivery {
    /// It has acknowledged the end.
    pub complete: bool,
    /// Segments sent to it again.
    pub retransmissions: u64,
    /// Bytes that it has acknowledged.
    pub acknowledged: u64,
}

impl Summary {
    /// The time that a segment with data took, on average; nothing for an empty file.
    pub fn mean_per_segment(&self) -> Span {
        if self.segments == 0 { Span::ZERO } else { self.elapsed / self.segments }
    }

    /// Whether every receiver has the whole file.
    pub fn is_complete(&self) -> bool {
        self.receivers.iter().all(|receiver| receiver.complete)
    }
}

/// What a deadline is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Why {
    /// A receiver has been silent for too long.
    GiveUp,
    /// Everybody's acknowledgement is late.
    RoundLate,
    /// This receiver's acknowledgement is late.
    Late(usize),
}

/// Sends a file to several receivers by stop-and-wait.
///
/// Order of calls: [`new`](Sender::new) sends the first segment, so [`poll`](Machine::poll) at once; from then on as
/// [`Machine`] says, until [`Output::Finished`]. Acknowledgements that fit nothing, come twice or too late are harmless.
///
/// Invariant: until `Finished`, some receiver lacks the segment and has a timer for it.
#[derive(Debug)]
pub struct Sender {
    config: SenderConfig,
    started: Time,
    /// Where the segment under way begins.
    sequence: u32,
    first_sent: Time,
    /// Where the segment before it began.
    before: Option<u32>,
    tally: Tally,
    receivers: Vec<Receiver>,
    /// Those that have not acknowledged the segment under way, nor been given up.
    lacking: usize,
    timers: Timers<Why>,
    outputs: VecDeque<Output>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Receiver {
    estimator: Estimator,
    state: State,
    delivery: Delivery,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    /// Has not acknowledged the segment under way, which was sent to it so often. Sent more than once, its answer
    /// measures nothing.
    Lacks {
        sent: Time,
        times: u64,
    },
    /// Waits for the others.
    #[default]
    Has,
    GivenUp,
}

impl Sender {
    /// Begins at `now`.
    ///
    /// # Errors
    /// Those of [`SenderConfig::check`].
    pub fn new(config: SenderConfig, now: Time) -> Result<Self, SenderError> {
        config.check()?;
        let mut sender = Sender {
            config,
            started: now,
            sequence: 0,
            first_sent: now,
            before: None,
            tally: Tally::new(config.receivers, now),
            receivers: vec![Receiver::default(); config.receivers],
            lacking: 0,
            timers: Timers::default(),
            outputs: VecDeque::new(),
        };
        sender.send_to_all(now);
        Ok(sender)
    }

    /// Bytes that everybody has acknowledged who was not given up.
    pub fn acknowledged(&self) -> u64 {
        u64::from(self.sequence)
    }

    /// Sends the segment at `sequence` to everybody who is left.
    fn send_to_all(&mut self, now: Time) {
        self.first_sent = now;
        self.tally.begin(now);
        self.timers.set(Why::GiveUp, now + self.config.give_up);
        if let Timeout::Shared(round) = self.config.timeout {
            self.timers.set(Why::RoundLate, now + round);
        }
        for index in 0..self.receivers.len() {
            if self.receivers[index].state == State::Has {
                self.lacking += 1;
                self.send(index, now, 1);
            }
        }
    }

    /// Sends the segment to a receiver, for the so many-th time.
    fn send(&mut self, index: usize, now: Time, times: u64) {
        self.tally.sent(index, times, now);
        let receiver = &mut self.receivers[index];
        receiver.state = State::Lacks { sent: now, times };
        receiver.delivery.retransmissions += u64::from(times > 1);
        let wait = match self.config.timeout {
            Timeout::Adaptive => Some(receiver.estimator.timeout()),
            Timeout::Fixed(timeout) => Some(timeout),
            Timeout::Shared(_) => None,
        };
        if let Some(wait) = wait {
            self.timers.set(Why::Late(index), now + wait);
        }
        let (sequence, length) = (self.sequence, self.segment_length());
        self.outputs.push_back(Output::Send { receiver: index, sequence, length });
    }

    /// Data of the segment under way, in bytes.
    fn segment_length(&self) -> u32 {
        let left = self.config.length - u64::from(self.sequence);
        u32::try_from(left).map_or(self.config.mss, |left| left.min(self.config.mss))
    }

    fn is_at_the_end(&self) -> bool {
        u64::from(self.sequence) == self.config.length
    }

    /// Goes on if nobody lacks the segment under way any more.
    fn go_on_if_all_have_it(&mut self, now: Time) {
        if self.lacking > 0 {
            return;
        }
        self.timers = Timers::default();
        self.tally.end();
        let anybody = self.receivers.iter().any(|receiver| receiver.state != State::GivenUp);
        if anybody && !self.is_at_the_end() {
            self.before = Some(self.sequence);
            self.sequence += self.segment_length();
            self.send_to_all(now);
            return;
        }
        let bytes = self.acknowledged();
        self.outputs.push_back(Output::Finished(Summary {
            elapsed: now.since(self.started),
            segments: data_segments(bytes, self.config.mss),
            bytes,
            rounds: self.tally.rounds(),
            receivers: self.receivers.iter().map(|receiver| receiver.delivery).collect(),
        }));
    }

    fn give_up(&mut self) {
        for (index, receiver) in self.receivers.iter_mut().enumerate() {
            if matches!(receiver.state, State::Lacks { .. }) {
                receiver.state = State::GivenUp;
                self.outputs.push_back(Output::GaveUp { receiver: index, sequence: self.sequence });
            }
        }
        self.lacking = 0;
    }

    fn repeat(&mut self, index: usize, now: Time) {
        if let State::Lacks { times, .. } = self.receivers[index].state {
            self.receivers[index].estimator.expired();
            self.send(index, now, times + 1);
        }
    }
}

impl Machine for Sender {
    type Input = Acknowledged;
    type Output = Output;
    type Why = Why;

    fn handle(&mut self, now: Time, Acknowledged { receiver: index, sequence }: Acknowledged) {
        let (at_the_end, here) = (self.is_at_the_end(), self.sequence);
        let acknowledged = u64::from(here) + u64::from(self.segment_length());
        if Some(sequence) == self.before {
            self.tally.answered(index, Of::TheOneBefore);
        }
        let Some(receiver) = self.receivers.get_mut(index).filter(|_| sequence == here) else { return };
        self.tally.answered(index, Of::TheSegmentUnderWay);
        let State::Lacks { sent, times } = receiver.state else { return };
        if times == 1 {
            receiver.estimator.measured(now.since(sent));
        }
        receiver.state = State::Has;
        receiver.delivery.acknowledged = acknowledged;
        receiver.delivery.complete = at_the_end;
        self.timers.cancel(Why::Late(index));
        self.lacking -= 1;
        self.go_on_if_all_have_it(now);
    }

    fn advance(&mut self, now: Time) {
        loop {
            // Giving up comes first: nothing is sent to those who are given up.
            if let Some(at) = self.timers.get(Why::GiveUp).filter(|at| *at <= now) {
                if now.since(at) > ASLEEP {
                    self.timers.set(Why::GiveUp, now + self.config.give_up);
                } else {
                    self.give_up();
                    self.go_on_if_all_have_it(now);
                }
                continue;
            }
            let Some((_, why)) = self.timers.pop(now) else { return };
            match why {
                Why::GiveUp => unreachable!("it is not due, and would have been seen"),
                Why::Late(index) => {
                    self.outputs.push_back(Output::TimedOut { receiver: Some(index), sequence: self.sequence });
                    self.repeat(index, now);
                }
                Why::RoundLate => {
                    self.outputs.push_back(Output::TimedOut { receiver: None, sequence: self.sequence });
                    (0..self.receivers.len()).for_each(|index| self.repeat(index, now));
                    if let Timeout::Shared(round) = self.config.timeout {
                        self.timers.set(Why::RoundLate, now + round);
                    }
                }
            }
        }
    }

    fn poll(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    fn deadline(&self) -> Option<(Time, Why)> {
        self.timers.next()
    }
}
