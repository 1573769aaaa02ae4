//! The random draws of one lane: a fixed number for each packet, whatever its profile asks for.

use machine::{Seed, Stream};
use rand::Rng;

/// Words of the stream that belong to one packet: half a ChaCha block.
const WORDS_PER_PACKET: u64 = 8;

/// The draws that belong to one packet, each uniform over `u32`.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Draws {
    pub(crate) loss: u32,
    pub(crate) jitter: u32,
    /// Whether a burst begins or ends.
    pub(crate) burst: u32,
    pub(crate) reorder: u32,
    pub(crate) duplicate: u32,
    /// The jitter of the second one.
    pub(crate) copy_jitter: u32,
    pub(crate) corrupt: u32,
    /// Which bit.
    pub(crate) flip: u32,
}

/// The draws of all packets of a lane, by ordinal.
#[derive(Debug)]
pub(crate) struct Drawer {
    stream: Stream,
    /// The ordinal that the stream stands at.
    next: u64,
}

impl Drawer {
    pub(crate) fn new(seed: Seed) -> Self {
        Drawer { stream: seed.stream(), next: 0 }
    }

    /// The draws of packet `ordinal`, counted from 0. Packets that need none are skipped at no cost.
    pub(crate) fn draws_of(&mut self, ordinal: u64) -> Draws {
        if self.next != ordinal {
            self.stream.set_word_pos(u128::from(ordinal * WORDS_PER_PACKET));
        }
        self.next = ordinal + 1;
        let words: [u32; WORDS_PER_PACKET as usize] = std::array::from_fn(|_| self.stream.next_u32());
        let [loss, jitter, burst, reorder, duplicate, copy_jitter, corrupt, flip] = words;
        Draws { loss, jitter, burst, reorder, duplicate, copy_jitter, corrupt, flip }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_skipped_packet_does_not_shift_the_draws_of_the_next() {
        let (mut all, mut some) = (Drawer::new(Seed::new(3)), Drawer::new(Seed::new(3)));
        let each: Vec<u32> = (0..40).map(|ordinal| all.draws_of(ordinal).jitter).collect();
        for ordinal in [0, 7, 8, 9, 31, 39] {
            assert_eq!(some.draws_of(ordinal).jitter, each[ordinal as usize], "packet {ordinal}");
        }
    }
}
