//! The receiving end of a bulk transfer.

use std::collections::BTreeSet;
use std::ops::Range;

use machine::{Span, Time};

/// An acknowledgement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ack {
    /// Everything below has arrived.
    pub below: u64,
    /// What arrived last with all beside it, if that is above (RFC 2018: the first SACK block).
    pub block: Option<Range<u64>>,
}

/// Counts what arrives, and acknowledges every second segment, or at once where something is missing (RFC 5681, section
/// 4.2).
#[derive(Clone, Debug, Default)]
pub struct Receiver {
    below: u64,
    above: BTreeSet<u64>,
    unacknowledged: u32,
    deadline: Option<Time>,
}

/// Linux's shortest.
const DELAY: Span = Span::from_millis(40);

impl Receiver {
    /// Segments that have arrived in order.
    pub fn delivered(&self) -> u64 {
        self.below
    }

    /// A segment has come.
    pub fn on_segment(&mut self, now: Time, number: u64) -> Option<Ack> {
        let in_order = number == self.below && self.above.is_empty();
        if number >= self.below {
            self.above.insert(number);
        }
        while self.above.remove(&self.below) {
            self.below += 1;
        }
        self.unacknowledged += 1;
        if in_order && self.unacknowledged < 2 {
            self.deadline = Some(now + DELAY);
            return None;
        }
        Some(self.acknowledge(Some(number)))
    }

    /// When an acknowledgement is due.
    pub fn deadline(&self) -> Option<Time> {
        self.deadline
    }

    /// It is due.
    pub fn on_deadline(&mut self) -> Ack {
        self.acknowledge(None)
    }

    fn acknowledge(&mut self, latest: Option<u64>) -> Ack {
        (self.unacknowledged, self.deadline) = (0, None);
        let block = latest.filter(|number| *number >= self.below).map(|number| {
            let (mut begin, mut end) = (number, number + 1);
            while begin > self.below && self.above.contains(&(begin - 1)) {
                begin -= 1;
            }
            while self.above.contains(&end) {
                end += 1;
            }
            begin..end
        });
        Ack { below: self.below, block }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_second_is_acknowledged_and_every_one_behind_a_gap() {
        let mut receiver = Receiver::default();
        let mut take = |number| receiver.on_segment(Time::ZERO, number);
        assert_eq!(take(0), None);
        assert_eq!(take(1), Some(Ack { below: 2, block: None }));
        assert_eq!(take(3), Some(Ack { below: 2, block: Some(3..4) }));
        assert_eq!(take(4), Some(Ack { below: 2, block: Some(3..5) }));
        assert_eq!(take(6), Some(Ack { below: 2, block: Some(6..7) }));
        assert_eq!(take(2), Some(Ack { below: 5, block: None }), "at once, as something is missing still");
        assert_eq!(take(5), Some(Ack { below: 7, block: None }));
        assert_eq!(take(7), None);
        assert_eq!(receiver.deadline(), Some(Time::ZERO + DELAY));
        assert_eq!(receiver.on_deadline(), Ack { below: 8, block: None });
    }
}
