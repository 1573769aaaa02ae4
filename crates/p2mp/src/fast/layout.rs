//! Files cut into blocks, and blocks into symbols.

use std::ops::Range;

use super::manifest::Manifest;
use super::packet::DATA_HEADER;

/// The most originals of a block. Larger blocks need less parity for the same loss (at 5 % loss and 1000 receivers 1.078
/// sends a packet with 1024, 1.10 with 512); smaller ones are restored in less memory and sooner.
pub const MOST_ORIGINALS: u16 = 1024;

/// The most blocks of a session: 2 TB in the smallest symbols, 6 TB in those of Ethernet. A receiver holds a byte for each
/// and walks over them when it reports, whoever says how long the files are.
pub const MOST_BLOCKS: u32 = 1 << 22;

/// The least payload of a datagram that a transfer is cut for: what passes wherever IPv4 does (576 bytes, RFC 791).
pub const LEAST_PAYLOAD: u16 = 512;

/// How the files of a session are cut.
///
/// Blocks are numbered through all files, in the order of the manifest; an empty file has none. The blocks of one file
/// differ by at most one symbol, so that no block is much smaller, and so weaker, than the others. Every symbol has
/// `payload` bytes; the last of a file is padded with zeros where it takes part in coding, but sent without them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    payload: u16,
    files: Vec<FileLayout>,
    blocks: u32,
    symbols: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct FileLayout {
    length: u64,
    first_block: u32,
    blocks: u32,
    symbols: u64,
}

/// One block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Block {
    /// Its number in the session.
    pub index: u32,
    /// Position of its file in the manifest.
    pub file: usize,
    /// Where it begins in its file, in bytes.
    pub offset: u64,
    /// Its bytes.
    pub length: u32,
    /// Its original symbols, at least one.
    pub originals: u16,
    /// Its recovery symbols, at least one.
    pub recoveries: u16,
    /// Bytes of a symbol.
    pub payload: u16,
}

/// Why files cannot be cut so.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LayoutError {
    /// Odd, or out of bounds.
    #[error("a payload of {0} bytes is not an even number from {LEAST_PAYLOAD} to 65476")]
    Payload(u16),
    /// More than a session carries.
    #[error("the files are too long: they have more than {MOST_BLOCKS} blocks")]
    TooLong,
}

impl Layout {
    /// Cuts the files of `manifest` into symbols of `payload` bytes.
    ///
    /// # Errors
    /// When the payload is odd (codes work on 16-bit words) or no datagram's, or there would be too many blocks.
    pub fn new(manifest: &Manifest, payload: u16) -> Result<Self, LayoutError> {
        if !payload.is_multiple_of(2) || payload < LEAST_PAYLOAD || usize::from(payload) > 65_507 - DATA_HEADER {
            return Err(LayoutError::Payload(payload));
        }
        let mut layout = Layout { payload, files: Vec::new(), blocks: 0, symbols: 0 };
        for file in manifest.files() {
            let symbols = file.length.div_ceil(u64::from(payload));
            let blocks =
                u32::try_from(symbols.div_ceil(u64::from(MOST_ORIGINALS))).map_err(|_| LayoutError::TooLong)?;
            layout.files.push(FileLayout { length: file.length, first_block: layout.blocks, blocks, symbols });
            let all = layout.blocks.checked_add(blocks).filter(|all| *all <= MOST_BLOCKS);
            layout.blocks = all.ok_or(LayoutError::TooLong)?;
            layout.symbols += symbols;
        }
        Ok(layout)
    }

    /// Bytes of a symbol.
    pub fn payload(&self) -> u16 {
        self.payload
    }

    /// How many blocks there are.
    pub fn blocks(&self) -> u32 {
        self.blocks
    }

    /// How many original symbols there are.
    pub fn symbols(&self) -> u64 {
        self.symbols
    }

    /// The blocks of the file at `file` in the manifest.
    pub fn blocks_of(&self, file: usize) -> Range<u32> {
        let file = &self.files[file];
        file.first_block..file.first_block + file.blocks
    }

    /// The block numbered `index`, if there is one.
    pub fn block(&self, index: u32) -> Option<Block> {
        if index >= self.blocks {
            return None;
        }
        // Files without blocks begin where the next one does; the last of equals has the block.
        let file = self.files.partition_point(|file| file.first_block <= index) - 1;
        let FileLayout { length, first_block, blocks, symbols } = self.files[file];
        let (within, blocks) = (u64::from(index - first_block), u64::from(blocks));
        let (base, longer) = (symbols / blocks, symbols % blocks);
        let first_symbol = base * within + within.min(longer);
        let originals = base + u64::from(within < longer);
        let offset = first_symbol * u64::from(self.payload);
        Some(Block {
            index,
            file,
            offset,
            length: (originals * u64::from(self.payload)).min(length - offset) as u32,
            originals: originals as u16,
            recoveries: recoveries(originals as u16),
            payload: self.payload,
        })
    }
}

/// How many recovery symbols a block of so many originals has: what a loss of a third can need, in the code's own steps of
/// powers of two. Where even more are lost, symbols are sent again.
fn recoveries(originals: u16) -> u16 {
    (originals.next_power_of_two() / 2).max(16)
}

impl Block {
    /// Original and recovery symbols together. Those from `originals` on are recovery symbols.
    pub fn symbols(&self) -> u16 {
        self.originals + self.recoveries
    }

    /// Where an original lies in its file, in bytes; the last of a file may be shorter than the others.
    pub fn original(&self, symbol: u16) -> Option<Range<u64>> {
        if symbol >= self.originals {
            return None;
        }
        let begin = u64::from(symbol) * u64::from(self.payload);
        let end = (begin + u64::from(self.payload)).min(u64::from(self.length));
        Some(self.offset + begin..self.offset + end)
    }

    /// How many bytes a symbol has on the wire.
    pub fn length_of(&self, symbol: u16) -> Option<u16> {
        match self.original(symbol) {
            Some(range) => Some((range.end - range.start) as u16),
            None => (symbol < self.symbols()).then_some(self.payload),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::manifest::FileEntry;
    use super::*;

    fn layout(lengths: &[u64], payload: u16) -> Layout {
        let files = lengths.iter().enumerate().map(|(index, length)| FileEntry::new(&format!("f{index}"), *length));
        Layout::new(&Manifest::new(files.collect()).unwrap(), payload).unwrap()
    }

    #[test]
    fn every_byte_is_in_exactly_one_original() {
        for lengths in
            [vec![0], vec![1], vec![0, 7, 0, 0, 1442, 1443, 0], vec![1_500_000, 1442 * 1024, 1442 * 1024 + 1]]
        {
            let layout = layout(&lengths, 1442);
            let mut symbols = 0;
            let mut at = vec![0; lengths.len()];
            for index in 0..layout.blocks() {
                let block = layout.block(index).unwrap();
                assert!(layout.blocks_of(block.file).contains(&index));
                assert!((1..=MOST_ORIGINALS).contains(&block.originals) && block.recoveries > 0);
                assert_eq!(block.offset, at[block.file]);
                for symbol in 0..block.originals {
                    let range = block.original(symbol).unwrap();
                    assert_eq!(range.start, at[block.file]);
                    assert!(range.end > range.start);
                    assert_eq!(u64::from(block.length_of(symbol).unwrap()), range.end - range.start);
                    at[block.file] = range.end;
                }
                symbols += u64::from(block.originals);
            }
            assert_eq!(at, lengths);
            assert_eq!(symbols, layout.symbols());
            assert_eq!(layout.block(layout.blocks()), None);
        }
    }

    #[test]
    fn blocks_of_a_file_differ_by_one_symbol_at_most() {
        let layout = layout(&[10_000_000], 1442);
        let sizes: Vec<_> = (0..layout.blocks()).map(|index| layout.block(index).unwrap().originals).collect();
        assert_eq!(sizes.len(), 7);
        assert!(sizes.iter().all(|size| (990..=991).contains(size)), "{sizes:?}");
    }

    #[test]
    fn impossible_cuts_are_refused() {
        let manifest = Manifest::new(vec![FileEntry::new("f", u64::MAX)]).unwrap();
        assert_eq!(Layout::new(&manifest, 1442), Err(LayoutError::TooLong));
        for payload in [0, 511, 513, 65_478] {
            assert_eq!(Layout::new(&manifest, payload), Err(LayoutError::Payload(payload)));
        }
    }
}
