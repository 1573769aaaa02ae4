//! The probabilistic loss service that stands before everything else in a receiver.

use machine::{Ratio, Seed, Stream};
use rand::Rng;

/// Throws away a share p of what arrives: for each datagram it draws r from (0, 1) and discards if r ≤ p. So nothing is
/// lost at p = 0, and everything at p = 1. Independent of what links lose: with a link's loss l, a share
/// 1 − (1 − p)(1 − l) is lost in all.
///
/// ```
/// use machine::{Ratio, Seed};
/// use p2mp::LossService;
///
/// let mut nothing = LossService::new(Ratio::ZERO, Seed::new(1));
/// assert!(!(0..1000).any(|_| nothing.discards()));
/// ```
#[derive(Debug)]
pub struct LossService {
    p: Ratio,
    stream: Stream,
    tally: LossTally,
}

/// What has come to a [`LossService`], in datagrams.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LossTally {
    /// All that arrived.
    pub arrived: u64,
    /// Those of them that it threw away.
    pub discarded: u64,
}

impl LossService {
    /// Discards a share `p`; the k-th draw depends on `seed` and k alone.
    pub fn new(p: Ratio, seed: Seed) -> Self {
        LossService { p, stream: seed.derive("loss service").stream(), tally: LossTally::default() }
    }

    /// Draws for one datagram: whether it is to be discarded.
    pub fn discards(&mut self) -> bool {
        self.tally.arrived += 1;
        if self.p == Ratio::ZERO {
            return false;
        }
        // The upper half of a word, moved into the middle of its interval: neither 0 nor 1 can come out.
        let r = ((self.stream.next_u64() >> 32) as f64 + 0.5) / (1_u64 << 32) as f64;
        let discards = r <= self.p.as_f64();
        self.tally.discarded += u64::from(discards);
        discards
    }

    /// What it has done so far; `None` at p = 0, where it does nothing.
    pub fn tally(&self) -> Option<LossTally> {
        (self.p != Ratio::ZERO).then_some(self.tally)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_share_that_is_lost_is_p() {
        // Four standard deviations of a binomial count: 1 of 16 000 honest services would fail, and this one is seeded.
        for p in ["0", "0.01", "0.05", "0.5", "1"] {
            let p: Ratio = p.parse().unwrap();
            let mut service = LossService::new(p, Seed::new(7));
            let draws = 100_000_u32;
            let lost = (0..draws).filter(|_| service.discards()).count() as f64;
            let (mean, share) = (f64::from(draws) * p.as_f64(), p.as_f64());
            let deviation = (mean * (1.0 - share)).sqrt();
            assert!((lost - mean).abs() <= 4.0 * deviation, "p = {p}: lost {lost} of {draws}");
            let told = service.tally().map(|tally| (tally.arrived, tally.discarded as f64));
            assert_eq!(told, (p != Ratio::ZERO).then_some((u64::from(draws), lost)));
        }
    }

    #[test]
    fn a_seed_repeats_its_losses() {
        let fates = |seed| {
            let mut service = LossService::new("0.3".parse().unwrap(), Seed::new(seed));
            (0..64).map(|_| service.discards()).collect::<Vec<_>>()
        };
        assert_eq!(fates(1), fates(1));
        assert_ne!(fates(1), fates(2));
    }
}
