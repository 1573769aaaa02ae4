//! Where segmentation offload may stay on because it cannot be seen.

use machine::{Ratio, Size, Span};

use crate::{HalfLink, Profile, Queue};

/// A queue that is not filled before the relay's own bound on memory is reached, which makes a run invalid anyhow.
pub const BOUNDLESS_QUEUE: Size = Size::from_mib(512);

/// The largest packet that an offloading sender hands over.
const LARGEST: Size = Size::from_bytes(64 * 1024);

/// Whether packets of up to 64 KiB may pass both halves whole, because no receiver could tell.
///
/// See [`HalfLink::allows_offload`]. A packet passes halves of several ports: its sender may keep offload on only if its
/// own `up`, every other port's `down` and every pair from it allow so.
pub fn offload_allowed(profile: &Profile) -> bool {
    profile.up.allows_offload() && profile.down.allows_offload()
}

impl HalfLink {
    /// Whether packets of up to 64 KiB may pass whole, because no receiver could tell.
    ///
    /// Each packet of a train has a fate of its own, so nothing may drop, reorder, duplicate or corrupt, and no jitter
    /// may spread the train. A full queue drops as well: a rate is allowed only with a queue of at least [`BOUNDLESS_QUEUE`]
    /// bytes, and if 64 KiB take less than a tenth of the delay and less than 1 ms at it.
    pub fn allows_offload(&self) -> bool {
        let HalfLink { rate, delay, jitter, loss, burst, drop, reorder, duplicate, corrupt, queue, trace } = self;
        let is_gentle = [loss, reorder, duplicate, corrupt].iter().all(|share| **share == Ratio::ZERO)
            && burst.is_none()
            && drop.is_empty()
            && trace.is_none()
            && jitter.is_zero();
        let is_fast = rate.is_none_or(|rate| {
            let time = rate.time_for(LARGEST);
            let is_roomy = matches!(queue, Some(Queue::Bytes(size)) if *size >= BOUNDLESS_QUEUE);
            is_roomy && time < Span::from_millis(1) && time < *delay / 10
        });
        is_gentle && is_fast
    }
}

#[cfg(test)]
mod tests {
    use machine::Rate;

    use super::*;

    #[test]
    fn offload_stays_on_only_where_it_cannot_be_seen() {
        let half = |change: fn(&mut HalfLink)| {
            let mut half = HalfLink { delay: Span::from_millis(10), ..HalfLink::default() };
            change(&mut half);
            half.allows_offload()
        };
        assert!(half(|_| {}));
        assert!(!half(|half| half.loss = Ratio::ONE));
        assert!(!half(|half| half.jitter = Span::from_nanos(1)));
        assert!(!half(|half| half.drop = ["3".parse().expect("an ordinal")].into_iter().collect()));
        assert!(!half(|half| half.rate = Some(Rate::from_mbit(10_000))), "its default queue can fill");
        let boundless = |half: &mut HalfLink| half.queue = Some(Queue::Bytes(BOUNDLESS_QUEUE));
        let rated = |mbit, delay| {
            let mut half = HalfLink { rate: Some(Rate::from_mbit(mbit)), delay, ..HalfLink::default() };
            boundless(&mut half);
            half.allows_offload()
        };
        assert!(rated(10_000, Span::from_millis(10)));
        assert!(!rated(10_000, Span::from_micros(500)), "52 µs are more than a tenth of the delay");
        assert!(!rated(500, Span::from_secs(1)), "64 KiB take more than 1 ms");
    }
}
