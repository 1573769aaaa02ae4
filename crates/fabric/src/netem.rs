//! The kernel's netem queueing discipline as a driver of half links.
//!
//! * `Netem`: what a half link is as netem's parameters.
//! * `options`: those parameters as the bytes of `TCA_OPTIONS`, and back.
//!
//! Does no I/O: `netlink` sends and asks, [`fabric`](mod@crate::fabric) says which interface.
//!
//! netem keeps one queue in which packets wait both for the rate and for the end of their delay, and releases each at
//! max(arrival + delay, release of the one before) + size/rate. With a constant delay that is when [`link::Lane`] lets it go,
//! too, which sends first and lets travel afterwards.

mod options;

use link::{Burst, HalfLink, Queue};
use machine::{Rate, Ratio, Span};

/// An Ethernet header, which a packet has when it is counted (`qdisc_pkt_len`), without FCS.
const ETHERNET_HEADER: u64 = 14;

/// Most packets that a half without a rate may hold in its delay. The model has no bound there, so what finds no room is
/// told (`Netem::has_rate`); full frames at this bound take 600 MB of kernel memory.
const MOST_IN_DELAY: u32 = 1 << 18;

/// The parameters of one netem (`linux/pkt_sched.h`, tc-netem(8)). The default impairs nothing, and lets nothing through,
/// its limit being 0.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Netem {
    /// Packets that wait, for the rate or in the delay. One more is dropped.
    pub limit: u32,
    /// One way.
    pub latency: Span,
    /// Uniform in ± this; reorders.
    pub jitter: Span,
    /// What is lost.
    pub loss: Loss,
    /// Packets delivered twice, as a share of [`u32::MAX`].
    pub duplicate: u32,
    /// Packets that skip the delay, as a share of [`u32::MAX`].
    pub reorder: u32,
    /// Packets with one bit flipped, as a share of [`u32::MAX`].
    pub corrupt: u32,
    /// Ethernet bytes without FCS in a second; 0 is no limit.
    pub rate: u64,
    /// From which all of the above is drawn; in an answer absent before Linux 6.6, which ignores it in a request.
    pub seed: Option<u64>,
}

/// What a netem loses, as shares of [`u32::MAX`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Loss {
    /// Each packet independently.
    Independent(u32),
    /// By the Gilbert–Elliott model (`struct tc_netem_gemodel`).
    GilbertElliott {
        /// From the good to the bad state.
        p: u32,
        /// From the bad to the good state.
        r: u32,
        /// Kept, not lost, in the bad state.
        h: u32,
        /// Lost in the good state.
        k1: u32,
    },
}

impl Default for Loss {
    fn default() -> Self {
        Loss::Independent(0)
    }
}

impl Netem {
    /// What `half` is on a network whose packets have at most `mtu` bytes. A netem draws from `seed` whatever it draws.
    ///
    /// `drop`, `trace` and a jitter that keeps the order have no counterpart; [`topology`] lets no such half come here.
    pub(crate) fn of(half: &HalfLink, mtu: u32, seed: u64) -> Self {
        let loss = match half.burst {
            None => Loss::Independent(share(half.loss)),
            Some(Burst { p, r, good, bad }) => {
                Loss::GilbertElliott { p: share(p), r: share(r), h: u32::MAX - share(bad), k1: share(good) }
            }
        };
        Netem {
            limit: limit(half, mtu),
            latency: half.delay,
            jitter: half.jitter,
            loss,
            duplicate: share(half.duplicate),
            reorder: share(half.reorder),
            corrupt: share(half.corrupt),
            // Less than a byte a second would be no limit.
            rate: half.rate.map_or(0, |rate| rate.as_bytes_per_sec().max(1)),
            seed: Some(seed),
        }
    }

    /// Whether it drops by chance.
    pub(crate) fn loses(&self) -> bool {
        self.loss != Loss::default()
    }

    /// Whether it has a rate, whose queue can fill. Without this and without losses every packet that it drops is one too
    /// many for its limit where the model has none: the emulation's own loss.
    pub(crate) fn has_rate(&self) -> bool {
        self.rate != 0
    }

    /// Whether a kernel that was told `self` and says `kept` does what it was told. An old one keeps no seed.
    pub(crate) fn is_kept_as(&self, kept: &Netem) -> bool {
        let seed = kept.seed.and(self.seed);
        Netem { seed, ..self.clone() } == *kept
    }
}

/// netem's `limit` for a half, in packets: its queue, and what is in the delay besides.
///
/// A queue in bytes is as many packets of the largest size as fill it. What is in the delay is the rate times the longest
/// delay in such packets, and one is being sent. Small packets take the same places.
pub fn limit(half: &HalfLink, mtu: u32) -> u32 {
    let Some(rate) = half.rate else { return MOST_IN_DELAY };
    let frame = u64::from(mtu) + ETHERNET_HEADER;
    let queue = match half.queue_limit() {
        Queue::Bytes(size) => size.as_bytes().div_ceil(frame),
        Queue::Packets(packets) => u64::from(packets),
    };
    let in_delay = packets_in(rate, half.delay + half.jitter, frame);
    u32::try_from(queue.saturating_add(in_delay).saturating_add(1)).unwrap_or(u32::MAX)
}

fn packets_in(rate: Rate, span: Span, frame: u64) -> u64 {
    rate.size_in(span).as_bytes().div_ceil(frame)
}

/// A share as the kernel has it, rounded as tc(8) does: all of [`u32::MAX`] is always.
fn share(ratio: Ratio) -> u32 {
    let parts = u128::from(ratio.as_parts_per_billion());
    let one = u128::from(Ratio::ONE.as_parts_per_billion());
    ((parts * u128::from(u32::MAX) + one / 2) / one) as u32
}

#[cfg(test)]
mod tests {
    use machine::Size;

    use super::*;

    fn half(change: impl FnOnce(&mut HalfLink)) -> HalfLink {
        let mut half = HalfLink::default();
        change(&mut half);
        half
    }

    #[test]
    fn the_limit_holds_the_queue_what_is_in_the_delay_and_the_packet_being_sent() {
        let line = |queue, delay| {
            limit(&half(|half| (half.rate, half.queue, half.delay) = (Some(Rate::from_mbit(100)), queue, delay)), 1500)
        };
        assert_eq!(line(Some(Queue::Packets(10)), Span::ZERO), 11);
        // 125 000 bytes are on their way for 10 ms: 83 frames of 1514.
        assert_eq!(line(Some(Queue::Packets(10)), Span::from_millis(10)), 10 + 83 + 1);
        assert_eq!(line(Some(Queue::Bytes(Size::from_bytes(15_141))), Span::from_millis(10)), 11 + 83 + 1);
        // By itself the queue is the rate times 2 · 10 ms + 20 ms: 500 000 bytes.
        assert_eq!(line(None, Span::from_millis(10)), 331 + 83 + 1);
        // The kernel's silent 1000 would drop here: one second at 1 Gbit/s.
        let long = half(|half| (half.rate, half.delay) = (Some(Rate::from_mbit(1000)), Span::from_secs(1)));
        assert!(limit(&long, 1500) > 82_000);
    }

    #[test]
    fn a_half_without_a_rate_drops_nothing_by_itself() {
        let delayed = Netem::of(&half(|half| half.delay = Span::from_millis(5)), 1500, 1);
        assert_eq!(delayed.limit, MOST_IN_DELAY);
        assert!(!delayed.loses() && !delayed.has_rate());
        assert!(Netem::of(&half(|half| half.loss = Ratio::ONE), 1500, 1).loses());
        assert!(Netem::of(&half(|half| half.rate = Some(Rate::from_mbit(1))), 1500, 1).has_rate());
    }

    #[test]
    fn shares_end_at_never_and_always() {
        assert_eq!([share(Ratio::ZERO), share(Ratio::ONE)], [0, u32::MAX]);
        assert_eq!(share("1%".parse().unwrap()), 42_949_673);
    }

    #[test]
    fn what_a_kernel_kept_is_what_it_was_told_but_for_a_seed_that_it_has_no_place_for() {
        let told = Netem::of(&half(|half| half.delay = Span::from_millis(5)), 1500, 7);
        assert!(told.is_kept_as(&told));
        assert!(told.is_kept_as(&Netem { seed: None, ..told.clone() }));
        assert!(!told.is_kept_as(&Netem { seed: Some(8), ..told.clone() }));
        assert!(!told.is_kept_as(&Netem { limit: 1000, ..told.clone() }));
        assert!(!told.is_kept_as(&Netem { latency: Span::ZERO, ..told.clone() }));
    }

    #[test]
    fn less_than_a_byte_a_second_is_still_a_limit() {
        let slow = half(|half| half.rate = Some(Rate::from_bits_per_sec(7)));
        assert_eq!(Netem::of(&slow, 1500, 1).rate, 1);
    }
}
