//! The erasure code of a block: any as many symbols as there are originals restore it.
//!
//! It is the Reed–Solomon code over GF(2^16) of Lin, Al-Naffouri and Han (2016, "FFT algorithm for binary extension finite
//! fields"), by `reed-solomon-simd`. The machines count symbols, so "any k suffice" has to be true: a receiver that knows
//! only how many it lacks must not turn out to lack one more. RaptorQ (RFC 6330, by `raptorq`) promises that for 99 in 100
//! blocks only; what it has beyond, recovery symbols without end, is not needed, for the loss of a third takes half as many
//! as there are originals. Nor is it faster. Blocks of 1024 symbols of 1440 bytes on one core of an AMD EPYC with AVX2, by
//! `cargo run --release -p p2mp --example coding_bench`, in MB/s of the block's bytes:
//!
//! | | lost | encode | restore |
//! | --- | --- | --- | --- |
//! | `reed-solomon-simd`, all of 512 recovery symbols | 1, 5, 20 % | 2200–3400 | 672, 666, 606 |
//! | `raptorq`, as many as were lost and 4 | 1, 5, 20 % | 1160, 829, 820 | 541, 197, 465 |

use reed_solomon_simd::{ReedSolomonDecoder, ReedSolomonEncoder};

use crate::fast::Block;

/// Encodes and restores blocks, one after the other; keeps its working memory, about two blocks, for the next.
#[derive(Default)]
pub struct Coder {
    encoder: Option<ReedSolomonEncoder>,
    decoder: Option<ReedSolomonDecoder>,
    /// The last symbol of a block, brought to its length.
    padded: Vec<u8>,
}

/// Why a block cannot be coded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CodingError {
    /// No code has so many symbols, or symbols of such a length.
    #[error("no code for {originals} and {recoveries} symbols of {payload} bytes")]
    Geometry {
        /// Original symbols.
        originals: u16,
        /// Recovery symbols.
        recoveries: u16,
        /// Bytes of each.
        payload: u16,
    },
    /// The bytes or the list of symbols are not as long as the block says.
    #[error("{found} where the block has {expected}")]
    Length {
        /// What it should be.
        expected: usize,
        /// What it is.
        found: usize,
    },
    /// A symbol is named twice, or is none of the block.
    #[error("symbol {0} is none, or is there twice")]
    Symbol(u16),
}

impl Coder {
    /// Writes the recovery symbols of `block` into `recoveries`, one after the other; `bytes` are the block's, without
    /// padding.
    ///
    /// # Errors
    /// When `bytes` has not the block's length, or there is no such code.
    pub fn encode(&mut self, block: &Block, bytes: &[u8], recoveries: &mut Vec<u8>) -> Result<(), CodingError> {
        let (originals, payload) = (usize::from(block.originals), usize::from(block.payload));
        expect(block.length as usize, bytes.len())?;
        if bytes.len() > originals * payload || bytes.len() + payload <= originals * payload {
            return Err(CodingError::Length { expected: originals * payload, found: bytes.len() });
        }
        let geometry = |_| geometry(block);
        let encoder = match &mut self.encoder {
            Some(encoder) => {
                encoder.reset(originals, block.recoveries.into(), payload).map_err(geometry)?;
                encoder
            }
            none => {
                let encoder = ReedSolomonEncoder::new(originals, block.recoveries.into(), payload).map_err(geometry)?;
                none.insert(encoder)
            }
        };
        for symbol in bytes.chunks(payload) {
            let symbol = if symbol.len() == payload {
                symbol
            } else {
                self.padded.clear();
                self.padded.extend_from_slice(symbol);
                self.padded.resize(payload, 0);
                &self.padded
            };
            encoder.add_original_shard(symbol).map_err(geometry)?;
        }
        let encoded = encoder.encode().map_err(geometry)?;
        recoveries.clear();
        encoded.recovery_iter().for_each(|symbol| recoveries.extend_from_slice(symbol));
        Ok(())
    }

    /// Restores a block of which as many symbols are there as it has originals. `slots` has room for each original, the
    /// last padded with zeros; `holds` says for each slot which symbol it holds: its own original, or any recovery symbol.
    /// In the end each holds its own.
    ///
    /// # Errors
    /// When lengths or symbols are not the block's, or there is no such code. The slots are then as they were.
    pub fn restore(&mut self, block: &Block, slots: &mut [u8], holds: &[u16]) -> Result<(), CodingError> {
        let (originals, payload) = (usize::from(block.originals), usize::from(block.payload));
        expect(originals, holds.len())?;
        expect(originals * payload, slots.len())?;
        if holds.iter().zip(0..).all(|(holds, slot)| *holds == slot) {
            return Ok(());
        }
        let geometry = |_| geometry(block);
        let decoder = match &mut self.decoder {
            Some(decoder) => {
                decoder.reset(originals, block.recoveries.into(), payload).map_err(geometry)?;
                decoder
            }
            none => {
                let decoder = ReedSolomonDecoder::new(originals, block.recoveries.into(), payload).map_err(geometry)?;
                none.insert(decoder)
            }
        };
        for ((slot, bytes), holds) in slots.chunks_exact(payload).enumerate().zip(holds) {
            match usize::from(*holds).checked_sub(originals) {
                Some(recovery) => decoder.add_recovery_shard(recovery, bytes),
                None if usize::from(*holds) == slot => decoder.add_original_shard(slot, bytes),
                None => return Err(CodingError::Symbol(*holds)),
            }
            .map_err(|_| CodingError::Symbol(*holds))?;
        }
        let decoded = decoder.decode().map_err(geometry)?;
        for (slot, bytes) in decoded.restored_original_iter() {
            slots[slot * payload..][..payload].copy_from_slice(bytes);
        }
        Ok(())
    }
}

impl std::fmt::Debug for Coder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Coder").finish_non_exhaustive()
    }
}

fn expect(expected: usize, found: usize) -> Result<(), CodingError> {
    if expected == found { Ok(()) } else { Err(CodingError::Length { expected, found }) }
}

fn geometry(block: &Block) -> CodingError {
    CodingError::Geometry { originals: block.originals, recoveries: block.recoveries, payload: block.payload }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn block(originals: u16, recoveries: u16, payload: u16, short: u32) -> Block {
        let length = u32::from(originals) * u32::from(payload) - short;
        Block { index: 0, file: 0, offset: 0, length, originals, recoveries, payload }
    }

    fn noise(length: usize, seed: u64) -> Vec<u8> {
        (0..length as u64).map(|n| ((n + seed).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8).collect()
    }

    /// Encodes, replaces the originals in `lost` by recovery symbols from `first` on, restores and compares.
    fn survives(coder: &mut Coder, block: &Block, lost: &[u16], first: u16) {
        let payload = usize::from(block.payload);
        let bytes = noise(block.length as usize, 7);
        let mut recoveries = Vec::new();
        coder.encode(block, &bytes, &mut recoveries).unwrap();
        assert_eq!(recoveries.len(), usize::from(block.recoveries) * payload);
        let mut whole = bytes;
        whole.resize(usize::from(block.originals) * payload, 0);
        let mut slots = whole.clone();
        let mut holds: Vec<u16> = (0..block.originals).collect();
        for (n, slot) in (0..).zip(lost) {
            let recovery = (first + n) % block.recoveries;
            holds[usize::from(*slot)] = block.originals + recovery;
            let symbol = &recoveries[usize::from(recovery) * payload..][..payload];
            slots[usize::from(*slot) * payload..][..payload].copy_from_slice(symbol);
        }
        coder.restore(block, &mut slots, &holds).unwrap();
        assert!(slots == whole, "{block:?} without {lost:?}");
    }

    #[test]
    fn the_largest_block_survives_the_loss_of_a_third() {
        let lost: Vec<u16> = (0..1024).filter(|symbol| symbol % 2 == 1).collect();
        survives(&mut Coder::default(), &block(1024, 512, 1442, 5), &lost, 0);
    }

    #[test]
    fn what_is_no_block_is_refused() {
        let mut coder = Coder::default();
        let good = block(4, 16, 64, 0);
        let lengths = coder.encode(&good, &[0; 255], &mut Vec::new());
        assert_eq!(lengths, Err(CodingError::Length { expected: 256, found: 255 }));
        let odd = Block { payload: 63, length: 252, ..good };
        assert!(matches!(coder.encode(&odd, &[0; 252], &mut Vec::new()), Err(CodingError::Geometry { .. })));
        for (holds, wrong) in [([0, 1, 2, 2], 2), ([0, 1, 5, 5], 5), ([0, 1, 2, 20], 20), ([1, 1, 2, 4], 1)] {
            assert_eq!(coder.restore(&good, &mut [0; 256], &holds), Err(CodingError::Symbol(wrong)), "{holds:?}");
        }
        survives(&mut coder, &good, &[0, 3], 9);
    }

    proptest! {
        #[test]
        fn any_as_many_symbols_as_originals_restore_a_block(
            originals in 1..200u16, recoveries in 1..100u16, words in 1..40u16, short in 0..80u32, lost: Vec<u16>, first: u16,
        ) {
            let payload = 2 * words;
            let block = block(originals, recoveries, payload, short.min(u32::from(payload) - 1));
            let mut lost: Vec<u16> = lost.into_iter().map(|symbol| symbol % originals).collect();
            lost.sort_unstable();
            lost.dedup();
            lost.truncate(recoveries.into());
            survives(&mut Coder::default(), &block, &lost, first % recoveries);
        }
    }
}
