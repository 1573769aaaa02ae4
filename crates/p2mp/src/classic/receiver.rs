//! The receiver: acknowledges and puts in order what one sender sends.

use std::collections::VecDeque;
use std::convert::Infallible;

use machine::{Machine, Time};

/// A data segment that came, without its data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arrived {
    /// Where its data begins in the file.
    pub sequence: u32,
    /// Bytes of data; none is the end.
    pub length: u32,
    /// Whether its checksum is that of its data.
    pub sound: bool,
}

/// What a receiver wants done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Output {
    /// Tell the sender that everything up to and with this segment is here.
    Acknowledge {
        /// Of that segment.
        sequence: u32,
    },
    /// Put the data of the segment that was just handled into the file. Its acknowledgement came before.
    Write {
        /// Where.
        offset: u32,
        /// Bytes.
        length: u32,
    },
    /// The file is complete. The acknowledgement of the end follows: what it says must be true by then.
    Finished {
        /// Of the file.
        length: u32,
    },
}

/// Receives one file from one sender. Several senders are several receivers.
///
/// Order of calls: for every datagram [`LossService::discards`](crate::LossService::discards) first; what it leaves is
/// read, [`handle`](Machine::handle) it and [`poll`](Machine::poll) until nothing comes. There are no deadlines. After
/// [`Output::Finished`] go on for as long as the sender may repeat the end because its acknowledgement was lost.
///
/// Memory does not depend on what comes.
#[derive(Debug, Default)]
pub struct Receiver {
    /// What is in sequence next.
    expected: u32,
    /// The segment that came in sequence last.
    last: Option<u32>,
    finished: bool,
    outputs: VecDeque<Output>,
}

impl Receiver {
    /// Expects a file from its beginning.
    pub fn new() -> Self {
        Receiver::default()
    }

    /// Bytes that came in sequence.
    pub fn received(&self) -> u64 {
        u64::from(self.expected)
    }

    /// Whether anything came in sequence.
    pub fn has_begun(&self) -> bool {
        self.last.is_some()
    }

    /// Whether the end came.
    pub fn is_finished(&self) -> bool {
        self.finished
    }
}

impl Machine for Receiver {
    type Input = Arrived;
    type Output = Output;
    type Why = Infallible;

    fn handle(&mut self, _now: Time, Arrived { sequence, length, sound }: Arrived) {
        if !sound {
            return;
        }
        let after = sequence.checked_add(length);
        let Some(after) = after.filter(|_| sequence == self.expected && !self.finished) else {
            // Out of sequence. Before anything came there is nothing to acknowledge.
            self.outputs.extend(self.last.map(|sequence| Output::Acknowledge { sequence }));
            return;
        };
        self.last = Some(sequence);
        self.expected = after;
        if length == 0 {
            self.finished = true;
            self.outputs.extend([Output::Finished { length: sequence }, Output::Acknowledge { sequence }]);
        } else {
            self.outputs.extend([Output::Acknowledge { sequence }, Output::Write { offset: sequence, length }]);
        }
    }

    fn advance(&mut self, _now: Time) {}

    fn poll(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    fn deadline(&self) -> Option<(Time, Infallible)> {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(receiver: &mut Receiver, sequence: u32, length: u32) -> Vec<Output> {
        receiver.handle(Time::ZERO, Arrived { sequence, length, sound: true });
        std::iter::from_fn(|| receiver.poll()).collect()
    }

    #[test]
    fn in_sequence_is_acknowledged_and_then_written() {
        let mut receiver = Receiver::new();
        let first = [Output::Acknowledge { sequence: 0 }, Output::Write { offset: 0, length: 500 }];
        assert_eq!(after(&mut receiver, 0, 500), first);
        let second = [Output::Acknowledge { sequence: 500 }, Output::Write { offset: 500, length: 20 }];
        assert_eq!(after(&mut receiver, 500, 20), second);
    }

    #[test]
    fn out_of_sequence_repeats_the_last_acknowledgement_or_says_nothing() {
        let mut receiver = Receiver::new();
        assert_eq!(after(&mut receiver, 500, 500), []);
        after(&mut receiver, 0, 500);
        for sequence in [0, 1, 499, 501, 1000, u32::MAX] {
            assert_eq!(after(&mut receiver, sequence, 500), [Output::Acknowledge { sequence: 0 }]);
        }
    }

    #[test]
    fn the_end_is_told_again_but_happens_once() {
        let mut receiver = Receiver::new();
        after(&mut receiver, 0, 9);
        let end = [Output::Finished { length: 9 }, Output::Acknowledge { sequence: 9 }];
        assert_eq!(after(&mut receiver, 9, 0), end);
        for (sequence, length) in [(9, 0), (0, 9), (9, 500)] {
            assert_eq!(after(&mut receiver, sequence, length), [Output::Acknowledge { sequence: 9 }]);
        }
        assert_eq!(receiver.received(), 9);
    }

    #[test]
    fn what_is_damaged_is_answered_with_nothing() {
        let mut receiver = Receiver::new();
        after(&mut receiver, 0, 9);
        receiver.handle(Time::ZERO, Arrived { sequence: 9, length: 9, sound: false });
        assert_eq!(receiver.poll(), None);
        assert_eq!(receiver.received(), 9);
    }
}
