//! A recorded link: the instants at which it could deliver, in mahimahi's format.

use std::fmt;
use std::sync::Arc;

use machine::{Rate, Size, Span, Time};
use thiserror::Error;

/// What one delivery opportunity carries: a full Ethernet frame at the usual MTU, without FCS.
///
/// mahimahi counts 1504 bytes, which are the same 1500 bytes of IP packet behind the four of a TUN device's header
/// (`PACKET_SIZE` in its `link_queue.hh`); here everything is counted as Ethernet does.
pub const OPPORTUNITY: Size = Size::from_bytes(1514);

/// When a recorded link could deliver a full packet; it repeats.
///
/// The format is that of mahimahi's `mm-link` (its manual page, and Netravali et al., "Mahimahi: Accurate
/// Record-and-Replay for HTTP", USENIX ATC 2015, section 4): one line for each opportunity to deliver [`OPPORTUNITY`]
/// bytes, its milliseconds since the beginning of the trace, never less than the line before. Several in a millisecond
/// are several lines. The last line also says how long the trace is, after which it begins again. Bytes are what counts:
/// small packets share an opportunity, a large one takes several. One at which nothing waits is wasted.
///
/// Cheap to copy. Equal to another by name and instants.
#[derive(Clone, PartialEq, Eq)]
pub struct Trace {
    name: Arc<str>,
    /// Milliseconds. Invariant: in order, not empty, the last is not zero.
    instants: Arc<[u32]>,
}

/// Why a text is no trace. Lines count from 1.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum TraceError {
    /// Nothing in it.
    #[error("a trace has one line at least")]
    Empty,
    /// A line with something else than a number of milliseconds.
    #[error("a line of a trace is a number of milliseconds, at most {} (49 days)", u32::MAX)]
    NotAnInstant {
        /// Which.
        line: usize,
    },
    /// Time goes back.
    #[error("{instant} ms comes after {before} ms")]
    Backwards {
        /// Which line.
        line: usize,
        /// What it says.
        instant: u32,
        /// What the line before says.
        before: u32,
    },
    /// All opportunities are in the first instant, so there is nothing to repeat.
    #[error("the trace ends at 0 ms; its last line says after how long it repeats")]
    NoLength {
        /// The last.
        line: usize,
    },
    /// More than [`Trace::LONGEST`].
    #[error("a trace has at most {} lines", Trace::LONGEST)]
    TooLong,
}

impl TraceError {
    /// The line that is at fault, if one is.
    pub fn line(&self) -> Option<usize> {
        match self {
            TraceError::Empty => None,
            TraceError::NotAnInstant { line } | TraceError::Backwards { line, .. } | TraceError::NoLength { line } => {
                Some(*line)
            }
            TraceError::TooLong => Some(Trace::LONGEST + 1),
        }
    }
}

impl Trace {
    /// The most opportunities: 4 MiB of them.
    pub const LONGEST: usize = 1 << 20;

    /// Reads a trace; `name` is what it is called wherever it is shown.
    ///
    /// # Errors
    ///
    /// When a line is not a time, or not in order, or there is none.
    pub fn parse(name: &str, text: &str) -> Result<Trace, TraceError> {
        let lines = (1..).zip(text.lines());
        Trace::of(
            name,
            lines.map(|(line, written)| written.trim().parse().map_err(|_| TraceError::NotAnInstant { line })),
        )
    }

    /// The trace of these instants.
    ///
    /// # Errors
    ///
    /// When they are not in order, or there is none; an instant is told by its line, as if each had one.
    pub fn from_instants(name: &str, instants: &[u32]) -> Result<Trace, TraceError> {
        Trace::of(name, instants.iter().map(|instant| Ok(*instant)))
    }

    fn of(name: &str, written: impl Iterator<Item = Result<u32, TraceError>>) -> Result<Trace, TraceError> {
        let mut instants: Vec<u32> = Vec::new();
        for (line, instant) in (1..).zip(written) {
            if instants.len() == Trace::LONGEST {
                return Err(TraceError::TooLong);
            }
            let instant = instant?;
            if let Some(&before) = instants.last().filter(|before| instant < **before) {
                return Err(TraceError::Backwards { line, instant, before });
            }
            instants.push(instant);
        }
        match instants.last() {
            None => Err(TraceError::Empty),
            Some(0) => Err(TraceError::NoLength { line: instants.len() }),
            Some(_) => Ok(Trace { name: name.into(), instants: instants.into() }),
        }
    }

    /// As it was given to [`parse`](Trace::parse).
    pub fn name(&self) -> &str {
        &self.name
    }

    /// After how long it repeats.
    pub fn length(&self) -> Span {
        Span::from_millis(u64::from(self.last()))
    }

    /// How many opportunities it has before it repeats.
    pub fn opportunities(&self) -> usize {
        self.instants.len()
    }

    /// What it carries if something always waits, over its whole length.
    pub fn mean_rate(&self) -> Rate {
        Rate::over(Size::from_bytes(OPPORTUNITY.as_bytes() * self.instants.len() as u64), self.length())
    }

    /// The longest time between two instants that have an opportunity, over the end of the trace, too.
    pub fn longest_gap(&self) -> Span {
        let first_again = u64::from(self.instants[0]) + u64::from(self.last());
        let instants = self.instants.iter().map(|instant| u64::from(*instant));
        let gaps = instants.clone().skip(1).chain([first_again]).zip(instants).map(|(next, one)| next - one);
        Span::from_millis(gaps.max().expect("not empty"))
    }

    /// Milliseconds, in order; never empty.
    pub fn instants(&self) -> &[u32] {
        &self.instants
    }

    fn last(&self) -> u32 {
        *self.instants.last().expect("not empty")
    }
}

impl fmt::Debug for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Trace({:?}, {} opportunities in {})", self.name, self.instants.len(), self.length())
    }
}

/// A place in a repeating trace: an opportunity and what is left of it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cursor {
    /// When the trace began.
    origin: Time,
    /// How often it has repeated.
    cycle: u64,
    /// The opportunity. Invariant: below the trace's length.
    index: usize,
    /// Bytes that it can still carry.
    left: u64,
}

impl Cursor {
    /// At the beginning of a trace that begins at `origin`.
    pub(crate) fn new(origin: Time) -> Self {
        Cursor { origin, cycle: 0, index: 0, left: OPPORTUNITY.as_bytes() }
    }

    /// The same trace with nothing taken from it yet.
    pub(crate) fn rewound(self) -> Self {
        Cursor::new(self.origin)
    }

    /// Takes the next `bytes`, none of them before `from`: when the first and when the last of them are delivered.
    pub(crate) fn take(&mut self, trace: &Trace, from: Time, bytes: u64) -> (Time, Time) {
        self.skip_to(trace, from);
        if self.left == 0 {
            self.step(trace);
        }
        let first = self.time(trace);
        let mut rest = bytes;
        while rest > self.left {
            rest -= self.left;
            self.step(trace);
        }
        self.left -= rest;
        (first, self.time(trace))
    }

    /// Wastes the opportunities before `from`.
    fn skip_to(&mut self, trace: &Trace, from: Time) {
        let elapsed = from.since(self.origin).as_nanos();
        let length = trace.length().as_nanos();
        let (mut cycle, mut within) = (elapsed / length, elapsed % length);
        if within == 0 && cycle > 0 {
            // The last opportunities of a cycle are in the instant in which the next begins.
            (cycle, within) = (cycle - 1, length);
        }
        let index = trace.instants.partition_point(|instant| u64::from(*instant) * 1_000_000 < within);
        if (cycle, index) > (self.cycle, self.index) {
            (self.cycle, self.index, self.left) = (cycle, index, OPPORTUNITY.as_bytes());
        }
    }

    fn step(&mut self, trace: &Trace) {
        self.left = OPPORTUNITY.as_bytes();
        self.index += 1;
        if self.index == trace.instants.len() {
            (self.cycle, self.index) = (self.cycle.saturating_add(1), 0);
        }
    }

    fn time(&self, trace: &Trace) -> Time {
        let millis =
            self.cycle.saturating_mul(u64::from(trace.last())).saturating_add(trace.instants[self.index].into());
        self.origin + Span::from_nanos(millis.saturating_mul(1_000_000))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ms(n: u64) -> Time {
        Time::from_nanos(n * 1_000_000)
    }

    fn parse(text: &str) -> Result<Trace, TraceError> {
        Trace::parse("t", text)
    }

    #[test]
    fn what_is_no_trace_is_told_with_its_line() {
        assert_eq!(parse(""), Err(TraceError::Empty));
        for (text, line) in
            [("1\n\n2\n", 2), ("1\n-2\n", 2), ("x\n", 1), ("1\n2 3\n", 2), ("4294967296", 1), ("1.5", 1)]
        {
            assert_eq!(parse(text), Err(TraceError::NotAnInstant { line }), "{text:?}");
        }
        assert_eq!(parse("5\n4\n"), Err(TraceError::Backwards { line: 2, instant: 4, before: 5 }));
        assert_eq!(parse("0\n0\n"), Err(TraceError::NoLength { line: 2 }));
        let endless = "1\n".repeat(Trace::LONGEST);
        assert_eq!(parse(&endless).map(|trace| trace.opportunities()), Ok(Trace::LONGEST));
        assert_eq!(parse(&(endless + "1\n")), Err(TraceError::TooLong));
        assert_eq!(parse("0\r\n 7 \r\n").map(|trace| trace.length()), Ok(Span::from_millis(7)));
    }

    #[test]
    fn opportunities_are_shared_filled_wasted_and_repeated() {
        let trace = parse("0\n2\n2\n10\n").expect("a trace");
        let mut cursor = Cursor::new(ms(100));
        let mut take = |from, bytes| {
            let (first, last) = cursor.take(&trace, ms(from), bytes);
            [first, last].map(|time| time.as_nanos() / 1_000_000)
        };
        assert_eq!(take(100, 1000), [100, 100]);
        assert_eq!(take(100, 500), [100, 100], "two small packets share an opportunity");
        assert_eq!(take(100, 1514), [100, 102], "14 bytes were left of the first");
        assert_eq!(take(100, 1514), [102, 102], "the rest of the second and a piece of the third, in one instant");
        assert_eq!(take(103, 60), [110, 110], "what was left at 102 is wasted");
        assert_eq!(take(110, 1454), [110, 110], "there still is the rest of it");
        assert_eq!(take(110, 1514), [110, 110], "the first of the second cycle is at the same instant");
        assert_eq!(take(110, 1), [112, 112]);
        assert_eq!(take(1000, 1514), [1000, 1000], "the last of a cycle is at its end");
        assert_eq!(take(1005, 1515), [1010, 1010], "the last of a cycle and the first of the next");
    }

    #[test]
    fn the_mean_rate_is_what_a_backlog_gets() {
        let trace = parse("1\n1\n3\n20\n").expect("a trace");
        assert_eq!(trace.mean_rate(), Rate::from_bits_per_sec(4 * 1514 * 8 * 50));
    }

    proptest! {
        /// Against the obvious: a list of all opportunities of all cycles, used up one by one.
        #[test]
        fn it_delivers_what_a_list_of_all_opportunities_does(
            mut instants in prop::collection::vec(0..40u32, 1..20),
            packets in prop::collection::vec((0..30_000u64, 1..5000u64), 1..60), origin in 0..1000u64,
        ) {
            instants.sort_unstable();
            *instants.last_mut().expect("one") += 1;
            let text: String = instants.iter().map(|instant| format!("{instant}\n")).collect();
            let trace = parse(&text).expect("a trace");
            let length = u64::from(trace.last());
            let origin = Time::from_nanos(origin);
            let mut list: std::collections::VecDeque<(Time, u64)> = (0..(2000 + 60 * 5) / length + 400)
                .flat_map(|cycle| instants.iter().map(move |instant| cycle * length + u64::from(*instant)))
                .map(|millis| (origin + Span::from_millis(millis), 1514))
                .collect();
            let (mut cursor, mut from) = (Cursor::new(origin), origin);
            for (pause, bytes) in packets {
                from += Span::from_micros(pause);
                while list.front().is_some_and(|(at, left)| *at < from || *left == 0) {
                    list.pop_front();
                }
                let first = list.front().expect("enough").0;
                let (mut rest, mut last) = (bytes, first);
                while rest > 0 {
                    let (at, left) = list.front_mut().expect("enough");
                    let taken = rest.min(*left);
                    (*left, rest, last) = (*left - taken, rest - taken, *at);
                    if *left == 0 {
                        list.pop_front();
                    }
                }
                prop_assert_eq!(cursor.take(&trace, from, bytes), (first, last));
                from = from.max(last);
            }
        }
    }
}
