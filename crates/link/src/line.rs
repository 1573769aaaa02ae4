//! The rate of a lane: a serialiser behind a queue that drops at its tail.

use std::collections::VecDeque;

use machine::{Rate, Span, Time};

use crate::{Queue, WireSize};

/// A line that sends one packet after the other.
///
/// Time is exact: what a packet takes beyond whole nanoseconds is carried to the next, so that a long train keeps the
/// rate to the last bit.
#[derive(Clone, Debug, Default)]
pub(crate) struct Line {
    /// When it has sent everything, rounded down …
    free: Time,
    /// … and what is missing there, in 1/rate nanoseconds. Invariant: less than the rate of the last packet.
    rest: u64,
    /// Packets that wait: when each begins to be sent, and its size. The one being sent no longer waits.
    waiting: VecDeque<(Time, WireSize)>,
    waiting_bytes: u64,
    waiting_packets: u64,
}

impl Line {
    /// When the last byte of a packet that arrives `now` will have been sent; `None` if the queue has no room for it.
    /// An idle line takes a packet of any size.
    pub(crate) fn send(&mut self, now: Time, size: WireSize, rate: Rate, queue: Queue) -> Option<Time> {
        self.begin_due(now);
        let bits_per_sec = rate.as_bits_per_sec();
        if bits_per_sec == 0 {
            return None;
        }
        if self.free_at() <= now {
            (self.free, self.rest) = (now, 0);
        } else {
            let room = match queue {
                Queue::Bytes(limit) => self.waiting_bytes + u64::from(size.bytes) <= limit.as_bytes(),
                Queue::Packets(limit) => self.waiting_packets + u64::from(size.packets) <= u64::from(limit),
            };
            if !room {
                return None;
            }
            self.waiting.push_back((self.free_at(), size));
            self.waiting_bytes += u64::from(size.bytes);
            self.waiting_packets += u64::from(size.packets);
        }
        let work = u128::from(size.bytes) * 8_000_000_000 + u128::from(self.rest);
        let nanos = u64::try_from(work / u128::from(bits_per_sec)).unwrap_or(u64::MAX);
        self.rest = (work % u128::from(bits_per_sec)) as u64;
        self.free += Span::from_nanos(nanos);
        Some(self.free_at())
    }

    /// Packets from now on are sent at another rate; those accepted keep their times.
    pub(crate) fn change_rate(&mut self) {
        (self.free, self.rest) = (self.free_at(), 0);
    }

    /// Everything on it is gone; it is idle.
    pub(crate) fn clear(&mut self) {
        *self = Line::default();
    }

    fn free_at(&self) -> Time {
        self.free + Span::from_nanos(u64::from(self.rest > 0))
    }

    fn begin_due(&mut self, now: Time) {
        while let Some((begin, size)) = self.waiting.front().filter(|(begin, _)| *begin <= now) {
            let _ = begin;
            self.waiting_bytes -= u64::from(size.bytes);
            self.waiting_packets -= u64::from(size.packets);
            self.waiting.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use machine::Size;

    use super::*;

    #[test]
    fn a_train_keeps_a_rate_that_does_not_divide_a_nanosecond() {
        // 1514 B at 100 Gbit/s are 121.12 ns: rounding each up would be 0.7 % slow.
        let (mut line, rate) = (Line::default(), Rate::from_mbit(100_000));
        let all = Queue::Packets(u32::MAX);
        let last = (0..10_000).map(|_| line.send(Time::ZERO, WireSize::packet(1514), rate, all)).last();
        assert_eq!(last, Some(Some(Time::from_nanos(1_211_200))));
    }

    #[test]
    fn the_packet_being_sent_does_not_wait() {
        let (mut line, rate) = (Line::default(), Rate::from_mbit(8));
        let queue = Queue::Bytes(Size::from_bytes(2000));
        let mut send = |now| line.send(Time::from_nanos(now), WireSize::packet(1000), rate, queue).is_some();
        assert_eq!([send(0), send(0), send(0), send(0)], [true, true, true, false], "one sent, two waiting");
        assert_eq!([send(1_000_000), send(1_000_000)], [true, false], "after 1 ms the next is being sent");
    }
}
