//! How well a relay kept the model's times.

use machine::{Span, Time};

/// Beyond this a packet is overdue: the machine did not give the relay its turn.
pub const OVERDUE: Span = Span::from_millis(10);

/// (Actual time of sending − the model's time) of all packets, as a histogram, and for how long any packet was overdue.
///
/// Starvation is judged by time and not by packets: [`excess`](Lateness::excess) is how long in sum *some* packet was
/// later than [`OVERDUE`], however many were at once. As a share of the run, and with
/// [`largest_excess`](Lateness::largest_excess) beside it, it tells a starved machine from one that stalled once.
#[derive(Clone, Debug)]
pub struct Lateness {
    buckets: Vec<u64>,
    count: u64,
    largest: Span,
    excess: Span,
    largest_excess: Span,
    /// The stretch of being overdue that is going on: its length so far, and when it was last seen.
    stretch: Span,
    stretch_end: Time,
}

/// Buckets for each power of two, so a quantile is exact to 1/16.
const FINENESS: u32 = 16;
const BUCKETS: usize = 64 * FINENESS as usize;

impl Default for Lateness {
    fn default() -> Self {
        Lateness {
            buckets: vec![0; BUCKETS],
            count: 0,
            largest: Span::ZERO,
            excess: Span::ZERO,
            largest_excess: Span::ZERO,
            stretch: Span::ZERO,
            stretch_end: Time::ZERO,
        }
    }
}

impl Lateness {
    /// Packets sent.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The lateness that the share `q` (0 to 1) of the packets did not exceed, rounded up by at most 1/16.
    pub fn quantile(&self, q: f64) -> Span {
        let rank = ((self.count as f64 * q).ceil() as u64).clamp(1, self.count.max(1));
        let mut seen = 0;
        for (bucket, n) in self.buckets.iter().enumerate() {
            seen += n;
            if seen >= rank {
                return upper_end(bucket).min(self.largest);
            }
        }
        self.largest
    }

    /// The largest of all.
    pub fn largest(&self) -> Span {
        self.largest
    }

    /// The largest of what was recorded since it was as in `before`, rounded up by at most 1/16; none if nothing was.
    pub fn largest_since(&self, before: &Lateness) -> Span {
        let grown = self.buckets.iter().zip(&before.buckets).rposition(|(now, then)| now > then);
        grown.map_or(Span::ZERO, |bucket| upper_end(bucket).min(self.largest))
    }

    /// For how long in sum some packet was overdue.
    pub fn excess(&self) -> Span {
        self.excess
    }

    /// The longest stretch of it.
    pub fn largest_excess(&self) -> Span {
        self.largest_excess
    }

    /// A packet due at `due` was sent at `sent`, which never decreases from call to call.
    pub fn record(&mut self, due: Time, sent: Time) {
        let late = sent.since(due);
        self.buckets[bucket_of(late)] += 1;
        self.count += 1;
        self.largest = self.largest.max(late);
        if late > OVERDUE {
            let since = due + OVERDUE;
            if since > self.stretch_end {
                self.stretch = Span::ZERO;
            }
            let more = sent.since(since.max(self.stretch_end));
            self.stretch += more;
            self.stretch_end = sent;
            self.excess += more;
            self.largest_excess = self.largest_excess.max(self.stretch);
        }
    }
}

fn bucket_of(late: Span) -> usize {
    let nanos = late.as_nanos();
    if nanos < u64::from(FINENESS) {
        return nanos as usize;
    }
    let magnitude = nanos.ilog2();
    let fraction = (nanos >> (magnitude - FINENESS.ilog2())) as usize & (FINENESS as usize - 1);
    (magnitude - FINENESS.ilog2() + 1) as usize * FINENESS as usize + fraction
}

fn upper_end(bucket: usize) -> Span {
    let (power, fraction) = (bucket as u32 / FINENESS, (bucket as u32 % FINENESS) as u64);
    match power {
        0 => Span::from_nanos(fraction),
        _ => {
            let end = ((u128::from(FINENESS) + u128::from(fraction) + 1) << (power - 1)) - 1;
            Span::from_nanos(u64::try_from(end).unwrap_or(u64::MAX))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(n: u64) -> Time {
        Time::ZERO + Span::from_millis(n)
    }

    #[test]
    fn quantiles_are_exact_to_a_sixteenth() {
        let mut lateness = Lateness::default();
        for late in 1..=1000 {
            lateness.record(ms(0), Time::from_nanos(late * 1000));
        }
        for (q, exact) in [(0.5, 500_000), (0.99, 990_000), (1.0, 1_000_000)] {
            let found = lateness.quantile(q).as_nanos();
            assert!((exact..=exact * 17 / 16).contains(&found), "{q}: {found}");
        }
        assert_eq!(Lateness::default().quantile(0.5), Span::ZERO);
    }

    #[test]
    fn what_came_before_is_not_the_largest_since() {
        let mut lateness = Lateness::default();
        lateness.record(ms(0), ms(400));
        let before = lateness.clone();
        assert_eq!(lateness.largest_since(&before), Span::ZERO);
        lateness.record(ms(500), ms(500) + Span::from_micros(30));
        lateness.record(ms(501), ms(501) + Span::from_micros(20));
        let largest = lateness.largest_since(&before).as_nanos();
        assert!((30_000..=32_000).contains(&largest), "{largest}");
    }

    #[test]
    fn every_lateness_has_a_bucket_that_ends_at_or_above_it() {
        for late in [0, 1, 15, 16, 17, 31, 32, 1000, u64::MAX / 2, u64::MAX - 1].map(Span::from_nanos) {
            let bucket = bucket_of(late);
            assert!(upper_end(bucket) >= late && (bucket == 0 || upper_end(bucket - 1) < late), "{late}");
        }
    }

    #[test]
    fn excess_is_time_and_not_packets() {
        let mut lateness = Lateness::default();
        // A stall of 30 ms with packets due all along: 20 ms of it some packet was overdue.
        for due in 0..=30 {
            lateness.record(ms(due), ms(30));
        }
        assert_eq!((lateness.excess(), lateness.largest_excess()), (Span::from_millis(20), Span::from_millis(20)));
        // Another, later, of 15 ms; then a packet in time.
        lateness.record(ms(100), ms(115));
        lateness.record(ms(116), ms(116));
        assert_eq!((lateness.excess(), lateness.largest_excess()), (Span::from_millis(25), Span::from_millis(20)));
    }
}
