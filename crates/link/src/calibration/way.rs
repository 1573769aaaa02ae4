//! What a train passes.

use machine::{Rate, Ratio, Size, Span};

use crate::{Burst, HalfLink, Queue};

/// Half links behind each other, as a frame passes them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Way {
    halves: Vec<HalfLink>,
    mtu: u32,
    counts_packets: bool,
}

/// An Ethernet header.
const HEADER: u32 = 14;

impl Way {
    /// Through these half links, where IP packets have at most `mtu` bytes.
    pub fn new(halves: Vec<HalfLink>, mtu: u32) -> Self {
        Way { halves, mtu, counts_packets: false }
    }

    /// The same where queues hold so many packets, as netem's do, and not so many bytes: as many as full frames of them.
    #[must_use]
    pub fn counting_packets(self) -> Self {
        Way { counts_packets: true, ..self }
    }

    /// Bytes that a frame of `bytes` counts for in its queues.
    pub fn room_of(&self, bytes: u32) -> u32 {
        if self.counts_packets { self.full_frame() } else { bytes }
    }

    /// Whether nothing on it impairs anything.
    pub fn is_transparent(&self) -> bool {
        self.halves.iter().all(HalfLink::is_transparent)
    }

    /// Ethernet bytes of a full frame, without FCS.
    pub fn full_frame(&self) -> u32 {
        self.mtu + HEADER
    }

    /// Of all its half links together.
    pub fn delay(&self) -> Span {
        self.halves.iter().map(|half| half.delay).sum()
    }

    /// Of all its half links together.
    pub fn jitter(&self) -> Span {
        self.halves.iter().map(|half| half.jitter).sum()
    }

    /// Of the slowest of its half links; `None` is unlimited. One that follows a trace has none here.
    pub fn rate(&self) -> Option<Rate> {
        self.halves.iter().filter(|half| half.trace.is_none()).filter_map(|half| half.rate).min()
    }

    /// The longest that a full frame waits for its turn on an idle way, where it follows traces.
    pub fn longest_gap(&self) -> Option<Span> {
        let gaps = self.halves.iter().filter_map(|half| half.trace.as_ref()).map(|trace| trace.longest_gap());
        gaps.reduce(|sum, gap| sum + gap)
    }

    /// What it takes to send a frame of `bytes` on all of its half links, one after the other.
    pub fn serialisation(&self, bytes: u32) -> Span {
        let rates = self.halves.iter().filter(|half| half.trace.is_none()).filter_map(|half| half.rate);
        rates.map(|rate| rate.time_for(Size::from_bytes(u64::from(bytes)))).sum()
    }

    /// The share of frames that it loses in the long run by `loss` and `burst`, leaving listed drops and queues aside.
    pub fn loss(&self) -> f64 {
        1.0 - self.halves.iter().map(|half| 1.0 - mean_loss(half)).product::<f64>()
    }

    /// How much more the number of losses varies than that of as many independent ones would: more than 1 where they come
    /// in bursts.
    pub fn loss_clustering(&self) -> f64 {
        self.halves.iter().map(clustering).fold(1.0, f64::max)
    }

    /// Whether certain frames are lost, by their ordinals.
    pub fn has_listed_drops(&self) -> bool {
        self.halves.iter().any(|half| !half.drop.is_empty())
    }

    /// Whether frames may be damaged.
    pub fn may_corrupt(&self) -> bool {
        self.halves.iter().any(|half| half.corrupt != Ratio::ZERO)
    }

    /// Whether frames may overtake others.
    pub fn may_reorder(&self) -> bool {
        self.halves.iter().any(HalfLink::may_reorder)
    }

    /// The chance that none of `frames` frames arrives, at most.
    pub fn silence_chance(&self, frames: u32) -> f64 {
        if self.has_listed_drops() {
            return 1.0;
        }
        let chance = |half: &HalfLink| match half.burst {
            None => half.loss.as_f64().powf(f64::from(frames)),
            // All of them in one stay in the state that loses more.
            Some(Burst { p, r, good, bad }) => {
                let (worse, leaving) = if bad >= good { (bad, r) } else { (good, p) };
                let stays = worse.as_f64() * (1.0 - leaving.as_f64());
                stays.powf(f64::from(frames.saturating_sub(1)))
            }
        };
        self.halves.iter().map(chance).sum()
    }

    /// How many frames of `bytes` may come at once without any queue losing one.
    pub fn longest_burst(&self, bytes: u32) -> u32 {
        let bytes = self.room_of(bytes);
        let limited = self.halves.iter().filter(|half| half.mean_rate().is_some());
        let room = limited.map(|half| match half.queue_limit() {
            Queue::Bytes(size) => u32::try_from(size.as_bytes() / u64::from(bytes)).unwrap_or(u32::MAX),
            Queue::Packets(packets) => packets,
        });
        // The one that is being sent does not wait.
        room.min().unwrap_or(u32::MAX).saturating_add(1)
    }
}

fn mean_loss(half: &HalfLink) -> f64 {
    match half.burst {
        None => half.loss.as_f64(),
        Some(Burst { p, r, good, bad }) => {
            let (p, r) = (p.as_f64(), r.as_f64());
            // A model that never changes its state stays in the good one, where it begins.
            let in_bad = if p + r > 0.0 { p / (p + r) } else { 0.0 };
            (1.0 - in_bad) * good.as_f64() + in_bad * bad.as_f64()
        }
    }
}

/// The variance of a sum over a chain of two states whose correlation falls by the factor 1 − p − r with each step.
fn clustering(half: &HalfLink) -> f64 {
    half.burst.map_or(1.0, |Burst { p, r, .. }| {
        let kept = (1.0 - p.as_f64() - r.as_f64()).clamp(0.0, 0.999_9);
        (1.0 + kept) / (1.0 - kept)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn share(text: &str) -> Ratio {
        text.parse().expect("a share")
    }

    #[test]
    fn what_is_behind_each_other_adds_up_and_the_slowest_decides() {
        let first = HalfLink {
            rate: Some(Rate::from_mbit(10)),
            delay: Span::from_millis(5),
            loss: share("10%"),
            ..HalfLink::default()
        };
        let second = HalfLink {
            rate: Some(Rate::from_mbit(2)),
            delay: Span::from_millis(1),
            loss: share("50%"),
            queue: Some(Queue::Packets(7)),
            ..HalfLink::default()
        };
        let way = Way::new(vec![first, second], 1500);
        assert_eq!((way.delay(), way.rate()), (Span::from_millis(6), Some(Rate::from_mbit(2))));
        assert_eq!(way.serialisation(1250), Span::from_millis(6), "1 ms and 5 ms");
        assert!((way.loss() - 0.55).abs() < 1e-9);
        assert_eq!(way.longest_burst(1514), 8, "seven wait, one is sent");
    }

    #[test]
    fn small_frames_need_as_much_room_as_full_ones_where_packets_are_counted() {
        let half = HalfLink {
            rate: Some(Rate::from_mbit(1)),
            queue: Some(Queue::Bytes(Size::from_bytes(15_140))),
            ..HalfLink::default()
        };
        let way = Way::new(vec![half], 1500);
        assert_eq!((way.longest_burst(1514), way.longest_burst(60)), (11, 253));
        assert_eq!(way.counting_packets().longest_burst(60), 11);
    }

    #[test]
    fn bursts_have_the_mean_of_their_stationary_state_and_vary_more() {
        let burst = Burst { p: share("1%"), r: share("9%"), good: Ratio::ZERO, bad: Ratio::ONE };
        let way = Way::new(vec![HalfLink { burst: Some(burst), ..HalfLink::default() }], 1500);
        assert!((way.loss() - 0.1).abs() < 1e-9);
        assert!((way.loss_clustering() - 19.0).abs() < 1e-9);
        assert!(way.silence_chance(6) > 0.5, "a burst may take six");
        assert!(way.silence_chance(500) < 1e-9);
    }
}
