//! Rotten memory, on purpose: some of the blocks that are sent have one bit flipped, under hashes that stay true.

use std::sync::{Mutex, PoisonError};

use fetch::ByteRange;
use machine::{Ratio, Seed, Stream};
use rand::{Rng, RngExt};

/// A fate is drawn for each of these that is sent, in bytes; they begin at multiples of it.
pub(crate) const BLOCK: u64 = 16 << 10;

/// Damages what is sent. The k-th block that is sent meets the fate drawn for k, whoever it is sent to.
#[derive(Debug)]
pub(crate) struct Rot {
    share: Ratio,
    fates: Mutex<Stream>,
}

impl Rot {
    /// Flips a bit in this share of the blocks.
    pub(crate) fn new(share: Ratio, seed: Seed) -> Self {
        Rot { share, fates: Mutex::new(seed.derive("corrupt").stream()) }
    }

    /// The beginning of a range up to where the next block begins.
    pub(crate) fn block(range: ByteRange) -> ByteRange {
        ByteRange::new(range.start, range.end.min((range.start / BLOCK + 1) * BLOCK))
    }

    /// What becomes of a block, or of the part of one that was asked for; whether that is damage.
    pub(crate) fn befall(&self, bytes: &mut [u8]) -> bool {
        let (fate, place) = {
            let mut fates = self.fates.lock().unwrap_or_else(PoisonError::into_inner);
            // Both always: what one block draws must not depend on what befell another.
            (fates.next_u32(), fates.random::<u64>())
        };
        if bytes.is_empty() || !self.share.holds(fate) {
            return false;
        }
        let bits = bytes.len() as u64 * 8;
        let bit = place % bits;
        bytes[(bit / 8) as usize] ^= 1 << (bit % 8);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn damaged(share: &str, seed: u64) -> Vec<usize> {
        let rot = Rot::new(share.parse().unwrap(), Seed::new(seed));
        let of_block = |_| {
            let mut block = vec![0; 4096];
            let told = rot.befall(&mut block);
            let bits: u32 = block.iter().map(|byte| byte.count_ones()).sum();
            assert_eq!(u32::from(told), bits, "one bit or none");
            told
        };
        (0..10_000).filter(|block| of_block(*block)).collect()
    }

    #[test]
    fn the_share_and_the_seed_decide() {
        assert!(damaged("0%", 1).is_empty());
        assert_eq!(damaged("100%", 1).len(), 10_000);
        // The binomial's standard deviation is 10.
        assert!((50..=150).contains(&damaged("1%", 1).len()));
        assert_eq!(damaged("1%", 7), damaged("1%", 7));
        assert_ne!(damaged("1%", 7), damaged("1%", 8));
    }

    #[test]
    fn blocks_begin_at_multiples() {
        let block = |start, end| Rot::block(ByteRange::new(start, end));
        assert_eq!(block(0, 100_000), ByteRange::new(0, BLOCK));
        assert_eq!(block(BLOCK - 1, 100_000), ByteRange::new(BLOCK - 1, BLOCK));
        assert_eq!(block(BLOCK, BLOCK + 5), ByteRange::new(BLOCK, BLOCK + 5));
    }
}
