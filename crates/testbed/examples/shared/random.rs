//! Files to transfer.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

/// Writes a file of `length` bytes that nothing can compress, the same each time.
pub(crate) fn write(path: &Path, length: u64) -> io::Result<()> {
    let mut file = BufWriter::with_capacity(1 << 20, File::create(path)?);
    let mut state = length;
    let mut left = length;
    while left > 0 {
        // splitmix64 (Steele, Lea and Flood 2014)
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let bytes = (mixed ^ (mixed >> 31)).to_le_bytes();
        let taken = left.min(bytes.len() as u64);
        file.write_all(&bytes[..taken as usize])?;
        left -= taken;
    }
    file.flush()
}
