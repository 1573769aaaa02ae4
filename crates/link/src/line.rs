//! The rate of a lane: a serialiser behind a queue that drops at its tail.

use std::collections::VecDeque;

use machine::{Rate, Span, Time};

use crate::trace::{Cursor, Trace};
use crate::{Queue, WireSize};

/// A line that sends one packet after the other.
///
/// Time is exact: what a packet takes beyond whole nanoseconds is carried to the next, so that a long train keeps the
/// rate to the last bit.
#[derive(Clone, Debug)]
pub(crate) struct Line {
    /// When it has sent everything, rounded down …
    free: Time,
    /// … and what is missing there, in 1/rate nanoseconds. Invariant: less than the rate of the last packet.
    rest: u64,
    /// Where it is in a trace, if it has one.
    cursor: Cursor,
    waiting: Waiting,
}

/// Packets that wait: when each begins to be sent, and its size. The one being sent no longer waits.
#[derive(Clone, Debug, Default)]
struct Waiting {
    packets: VecDeque<(Time, WireSize)>,
    bytes: u64,
    count: u64,
}

impl Default for Line {
    fn default() -> Self {
        Line { free: Time::ZERO, rest: 0, cursor: Cursor::new(Time::ZERO), waiting: Waiting::default() }
    }
}

impl Line {
    /// When the last byte of a packet that arrives `now` will have been sent; `None` if the queue has no room for it.
    /// An idle line takes a packet of any size.
    pub(crate) fn send(&mut self, now: Time, size: WireSize, rate: Rate, queue: Queue) -> Option<Time> {
        self.waiting.begin_due(now);
        let bits_per_sec = rate.as_bits_per_sec();
        if bits_per_sec == 0 {
            return None;
        }
        if self.free_at() <= now {
            (self.free, self.rest) = (now, 0);
        } else {
            if !self.waiting.has_room(size, queue) {
                return None;
            }
            self.waiting.push(self.free_at(), size);
        }
        let work = u128::from(size.bytes) * 8_000_000_000 + u128::from(self.rest);
        let nanos = u64::try_from(work / u128::from(bits_per_sec)).unwrap_or(u64::MAX);
        self.rest = (work % u128::from(bits_per_sec)) as u64;
        self.free += Span::from_nanos(nanos);
        Some(self.free_at())
    }

    /// The same where a trace says how fast. An idle line takes a packet of any size here, too, but lets it wait for the
    /// next opportunity.
    pub(crate) fn send_by(&mut self, trace: &Trace, now: Time, size: WireSize, queue: Queue) -> Option<Time> {
        self.waiting.begin_due(now);
        if self.free_at() > now && !self.waiting.has_room(size, queue) {
            return None;
        }
        let (begin, sent) = self.cursor.take(trace, now.max(self.free_at()), u64::from(size.bytes));
        if begin > now {
            self.waiting.push(begin, size);
        }
        (self.free, self.rest) = (sent, 0);
        Some(sent)
    }

    /// Packets from now on are sent at another rate; those accepted keep their times.
    pub(crate) fn change_rate(&mut self) {
        (self.free, self.rest) = (self.free_at(), 0);
    }

    /// A trace begins at `now`; packets accepted keep their times.
    pub(crate) fn begin_trace(&mut self, now: Time) {
        self.cursor = Cursor::new(now);
    }

    /// Everything on it is gone; it is idle. A trace goes on.
    pub(crate) fn clear(&mut self) {
        *self = Line { cursor: self.cursor.rewound(), ..Line::default() };
    }

    fn free_at(&self) -> Time {
        self.free + Span::from_nanos(u64::from(self.rest > 0))
    }
}

impl Waiting {
    fn has_room(&self, size: WireSize, queue: Queue) -> bool {
        match queue {
            Queue::Bytes(limit) => self.bytes + u64::from(size.bytes) <= limit.as_bytes(),
            Queue::Packets(limit) => self.count + u64::from(size.packets) <= u64::from(limit),
        }
    }

    fn push(&mut self, begin: Time, size: WireSize) {
        self.packets.push_back((begin, size));
        self.bytes += u64::from(size.bytes);
        self.count += u64::from(size.packets);
    }

    fn begin_due(&mut self, now: Time) {
        while let Some((_, size)) = self.packets.front().filter(|(begin, _)| *begin <= now) {
            self.bytes -= u64::from(size.bytes);
            self.count -= u64::from(size.packets);
            self.packets.pop_front();
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

    #[test]
    fn a_trace_lets_packets_wait_for_its_opportunities_and_drops_behind_a_full_queue() {
        let trace = Trace::parse("t", "10\n20\n30\n40\n").expect("a trace");
        let mut line = Line::default();
        let mut send = |now: u64| {
            let sent =
                line.send_by(&trace, Time::from_nanos(now * 1_000_000), WireSize::packet(1514), Queue::Packets(2));
            sent.map(|sent| sent.as_nanos() / 1_000_000)
        };
        assert_eq!([send(0), send(0), send(1)], [Some(10), Some(20), None], "two wait");
        assert_eq!([send(10), send(10)], [Some(30), None], "the first is gone at 10 ms");
        assert_eq!(send(101), Some(110), "idle from 30 ms on; this is the third cycle");
        line.clear();
        let again = line.send_by(&trace, Time::from_nanos(110_000_000), WireSize::packet(1514), Queue::Packets(0));
        assert_eq!(again, Some(Time::from_nanos(110_000_000)), "what was taken away gives its opportunity back");
    }
}
