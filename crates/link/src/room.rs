//! How much can be under way in a half link.

use machine::{Size, Span};

use crate::trace::OPPORTUNITY;
use crate::{HalfLink, Queue, Trace};

/// The most that can be under way in a half link, in Ethernet bytes without FCS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Room {
    /// What waits for the rate: the queue, and the packet that is being sent.
    pub queue: Size,
    /// What has been sent and travels for the delay; `None` where no rate bounds it.
    pub delay: Option<Size>,
}

impl Room {
    /// Of a half that is each of `halves` at some time or a mixture of them, as overlapping changes make it, with frames of
    /// at most `frame` bytes.
    pub fn of<'a>(halves: impl IntoIterator<Item = &'a HalfLink>, frame: Size) -> Room {
        let halves: Vec<&HalfLink> = halves.into_iter().collect();
        let longest = |of: fn(&HalfLink) -> Span| halves.iter().map(|half| of(half)).max().unwrap_or_default();
        let (delay, jitter) = (longest(|half| half.delay), longest(|half| half.jitter));
        let way = delay + jitter;
        let is_limited = |half: &HalfLink| half.rate.is_some() || half.trace.is_some();
        let rates = halves.iter().filter_map(|half| half.rate).max().map(|rate| rate.size_in(way));
        let traces = halves.iter().filter_map(|half| half.trace.as_ref()).map(|trace| trace.most_in(way)).max();
        let travelling = rates.max(traces).unwrap_or_default();
        let delay_room = if way.is_zero() {
            Some(Size::ZERO)
        } else {
            let slack = Size::from_bytes(travelling.as_bytes().saturating_add(frame.as_bytes()));
            halves.iter().all(|half| is_limited(half)).then_some(slack)
        };
        let queues = halves.iter().filter(|half| is_limited(half)).map(|half| {
            let limit = match half.queue {
                Some(queue) => queue,
                // Sized from the longest way that it can have.
                None => HalfLink { delay, jitter, ..(*half).clone() }.queue_limit(),
            };
            match limit {
                Queue::Bytes(size) => size.as_bytes(),
                Queue::Packets(packets) => u64::from(packets).saturating_mul(frame.as_bytes()),
            }
        });
        let queue = queues.max().map_or(0, |bytes| bytes.saturating_add(frame.as_bytes()));
        Room { queue: Size::from_bytes(queue), delay: delay_room }
    }
}

impl Trace {
    /// The most that it carries in any span of this length.
    pub fn most_in(&self, span: Span) -> Size {
        let instants = self.instants();
        let length = u64::from(*instants.last().expect("a trace is not empty"));
        let span = span.as_nanos().div_ceil(1_000_000);
        let (whole, rest) = (span / length, span % length);
        // The busiest window of `rest` milliseconds, over the seam, too; both of its ends count.
        let at = |index: usize| {
            let (cycle, index) = (index / instants.len(), index % instants.len());
            u64::from(instants[index]) + cycle as u64 * length
        };
        let (mut first, mut most) = (0, 0);
        for last in 0..2 * instants.len() {
            while at(last) - at(first) > rest {
                first += 1;
            }
            most = most.max(last + 1 - first);
        }
        let opportunities = whole * instants.len() as u64 + most as u64;
        Size::from_bytes(opportunities.saturating_mul(OPPORTUNITY.as_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use machine::{Rate, Seed, Time};
    use proptest::prelude::*;

    use super::*;
    use crate::{Fate, Lane, WireSize};

    const FRAME: Size = Size::from_bytes(1514);

    #[test]
    fn a_half_without_a_rate_has_room_for_anything_unless_nothing_stays_in_it() {
        assert_eq!(Room::of([&HalfLink::default()], FRAME), Room { queue: Size::ZERO, delay: Some(Size::ZERO) });
        let delayed = HalfLink { delay: Span::from_millis(1), ..HalfLink::default() };
        let rated = HalfLink { rate: Some(Rate::from_mbit(8)), ..delayed.clone() };
        assert_eq!(Room::of([&delayed], FRAME).delay, None);
        assert_eq!(Room::of([&rated, &delayed], FRAME).delay, None, "at one time it has no rate");
        let both = Room::of([&rated], FRAME);
        assert_eq!(both.delay, Some(Size::from_bytes(1000 + 1514)));
        assert_eq!(both.queue, Size::from_bytes(32 * 1514 + 1514));
    }

    #[test]
    fn the_busiest_span_of_a_trace_is_found_over_its_seam() {
        let trace = Trace::parse("t", "1\n5\n9\n10\n").unwrap();
        // 9, 10, 11 (the first again) are three within two milliseconds.
        assert_eq!(trace.most_in(Span::from_millis(2)).as_bytes(), 3 * 1514);
        assert_eq!(trace.most_in(Span::from_millis(12)).as_bytes(), (4 + 3) * 1514);
    }

    proptest! {
        #[test]
        fn never_more_is_under_way_than_there_is_room(
            mbit in 1..100u64,
            delay in 0..20_000u64,
            jitter in 0..20_000u64,
            packets in prop::option::of(1..50u32),
            traced in any::<bool>(),
            duplicate in any::<bool>(),
            mut arrivals in prop::collection::vec((0..50_000_000u64, 60..1514u32), 1..400),
        ) {
            arrivals.sort_unstable();
            let trace = Trace::parse("t", "1\n1\n1\n4\n8\n8\n9\n").unwrap();
            let half = HalfLink {
                rate: (!traced).then(|| Rate::from_mbit(mbit)),
                trace: traced.then_some(trace),
                delay: Span::from_micros(delay.max(jitter)),
                jitter: Span::from_micros(jitter),
                duplicate: if duplicate { "30%".parse().unwrap() } else { machine::Ratio::ZERO },
                queue: packets.map(Queue::Packets),
                ..HalfLink::default()
            };
            let Room { queue, delay } = Room::of([&half], FRAME);
            let bound = queue.as_bytes() + delay.expect("it has a rate").as_bytes();
            let mut lane = Lane::new(&half, Seed::new(1));
            let mut under_way: Vec<(Time, u64)> = Vec::new();
            for (at, bytes) in arrivals {
                let now = Time::from_nanos(at);
                let decision = lane.offer(now, WireSize::packet(bytes));
                under_way.retain(|(leaves, _)| *leaves > now);
                for fate in [Some(decision.packet), decision.copy].into_iter().flatten() {
                    if let Fate::Deliver { at, .. } = fate {
                        under_way.push((at, u64::from(bytes)));
                    }
                }
                let sum: u64 = under_way.iter().map(|(_, bytes)| bytes).sum();
                prop_assert!(sum <= bound, "{sum} bytes under way, {bound} is the bound");
            }
        }
    }
}
