//! A file in blocks, as the protocol counts them.

/// The published size of a block, in bytes.
pub const BLOCK: u64 = 10_000;

/// A file's size and that of its blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Of the file, in bytes.
    pub size: u64,
    /// Of all blocks but the last, in bytes; not 0.
    block: u64,
}

/// Bytes of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// Of the first byte.
    pub offset: u64,
    /// How many.
    pub length: u64,
}

impl Layout {
    /// A file of `size` bytes in blocks of `block`; `None` if that is 0, or there would be more blocks than numbers.
    pub fn new(size: u64, block: u64) -> Option<Layout> {
        (block > 0 && size / block < u64::MAX).then_some(Layout { size, block })
    }

    /// In blocks of the published size.
    pub const fn published(size: u64) -> Layout {
        Layout { size, block: BLOCK }
    }

    /// Of all blocks but the last, in bytes.
    pub fn block_size(self) -> u64 {
        self.block
    }

    /// How many blocks there are. A size that is a multiple of a block's ends in one that is empty: so the original counts.
    pub fn blocks(self) -> u64 {
        self.size / self.block + 1
    }

    /// Where block number `index`, from 0, is; `None` where there is no such block.
    pub fn block(self, index: u64) -> Option<Span> {
        (index < self.blocks()).then(|| {
            let offset = index * self.block;
            Span { offset, length: self.block.min(self.size - offset) }
        })
    }

    /// All of it.
    pub fn whole(self) -> Span {
        Span { offset: 0, length: self.size }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_counted_as_the_original_does() {
        let file = Layout::published(805_975);
        assert_eq!(file.blocks(), 81);
        assert_eq!(file.block(0), Some(Span { offset: 0, length: 10_000 }));
        assert_eq!(file.block(80), Some(Span { offset: 800_000, length: 5_975 }));
        assert_eq!(file.block(81), None);
        let exact = Layout::published(20_000);
        assert_eq!((exact.blocks(), exact.block(2)), (3, Some(Span { offset: 20_000, length: 0 })));
        assert_eq!(Layout::published(0).block(0), Some(Span { offset: 0, length: 0 }));
        assert_eq!((Layout::new(u64::MAX, 1), Layout::new(1, 0)), (None, None));
        assert_eq!(
            Layout::new(u64::MAX, 2).unwrap().block(u64::MAX / 2),
            Some(Span { offset: u64::MAX - 1, length: 1 })
        );
    }
}
