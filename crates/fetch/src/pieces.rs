//! A file as bytes and as pieces.

use std::fmt;

/// Bytes `start..end` of a file; empty when both are equal.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ByteRange {
    /// First byte.
    pub start: u64,
    /// The byte after the last. Invariant: not before `start`.
    pub end: u64,
}

impl ByteRange {
    /// `start..end`; empty at `start` if `end` lies before it.
    pub const fn new(start: u64, end: u64) -> Self {
        ByteRange { start, end: if end < start { start } else { end } }
    }

    /// Bytes.
    pub const fn len(self) -> u64 {
        self.end - self.start
    }

    /// Whether there is no byte in it.
    pub const fn is_empty(self) -> bool {
        self.start == self.end
    }

    /// What both have in common; empty if nothing.
    pub fn intersect(self, other: ByteRange) -> ByteRange {
        ByteRange::new(self.start.max(other.start), self.end.min(other.end))
    }
}

impl fmt::Debug for ByteRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}..{}", self.start, self.end)
    }
}

/// How a file is cut: equal pieces, the last may be shorter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pieces {
    length: u64,
    size: u32,
}

/// A piece of a file. Made by [`Pieces`] alone, so it is in range.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PieceIndex(u32);

impl Pieces {
    /// The most pieces a file may have: 8 MiB of hashes, so that memory stays bounded whatever a source publishes.
    pub const MAX: u64 = 1 << 18;

    /// Cuts `length` bytes into pieces of `size`; `None` if `size` is zero or there would be more than [`Pieces::MAX`].
    pub fn new(length: u64, size: u32) -> Option<Self> {
        let fits = size > 0 && length.div_ceil(u64::from(size)) <= Pieces::MAX;
        fits.then_some(Pieces { length, size })
    }

    /// The cut for a file that nobody published hashes of: 256 KiB, larger for files whose pieces would be too many.
    /// `None` beyond 512 TiB.
    pub fn of_length(length: u64) -> Option<Self> {
        let mut size = 256 << 10;
        while size < 1 << 31 && length.div_ceil(u64::from(size)) > Pieces::MAX / 4 {
            size *= 2;
        }
        Pieces::new(length, size)
    }

    /// The cut for a file that is served in blocks: a block each, or several where there would be too many. `None` beyond
    /// all bounds.
    pub fn of_blocks(length: u64, block: u32) -> Option<Self> {
        let count = length.div_ceil(u64::from(block.max(1)));
        let together = count.div_ceil(Pieces::MAX / 4).max(1);
        Pieces::new(length, u32::try_from(u64::from(block) * together).ok()?)
    }

    /// Bytes of the file.
    pub const fn length(self) -> u64 {
        self.length
    }

    /// Bytes of every piece but the last.
    pub const fn size(self) -> u32 {
        self.size
    }

    /// How many pieces; none in an empty file.
    pub fn count(self) -> u32 {
        u32::try_from(self.length.div_ceil(u64::from(self.size))).expect("bounded by Pieces::MAX")
    }

    /// The piece numbered `index`, if there is one.
    pub fn get(self, index: u32) -> Option<PieceIndex> {
        (index < self.count()).then_some(PieceIndex(index))
    }

    /// The piece that holds the byte at `offset`, if the file reaches that far.
    pub fn at(self, offset: u64) -> Option<PieceIndex> {
        (offset < self.length).then(|| PieceIndex((offset / u64::from(self.size)) as u32))
    }

    /// The bytes of a piece.
    pub fn range(self, piece: PieceIndex) -> ByteRange {
        let start = u64::from(piece.0) * u64::from(self.size);
        ByteRange::new(start.min(self.length), (start + u64::from(self.size)).min(self.length))
    }

    /// All of the file.
    pub fn whole(self) -> ByteRange {
        ByteRange::new(0, self.length)
    }

    /// All pieces in order.
    pub fn iter(self) -> impl Iterator<Item = PieceIndex> {
        (0..self.count()).map(PieceIndex)
    }

    /// The pieces that `range` touches, in order.
    pub fn touching(self, range: ByteRange) -> impl Iterator<Item = PieceIndex> {
        let range = range.intersect(self.whole());
        let size = u64::from(self.size);
        let (first, last) =
            (range.start / size, if range.is_empty() { range.start / size } else { range.end.div_ceil(size) });
        (first..last).map(|index| PieceIndex(index as u32))
    }
}

impl PieceIndex {
    /// The number, counted from 0.
    pub const fn get(self) -> u32 {
        self.0
    }
}

impl fmt::Display for PieceIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "piece {}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_piece_is_shorter_and_nothing_lies_beyond() {
        let pieces = Pieces::new(25, 10).unwrap();
        assert_eq!(pieces.count(), 3);
        assert_eq!(pieces.range(pieces.get(2).unwrap()), ByteRange::new(20, 25));
        assert_eq!((pieces.get(3), pieces.at(25)), (None, None));
        let touched: Vec<_> = pieces.touching(ByteRange::new(9, 21)).map(PieceIndex::get).collect();
        assert_eq!(touched, [0, 1, 2]);
        assert_eq!(pieces.touching(ByteRange::new(10, 10)).count(), 0);
    }

    #[test]
    fn pieces_are_bounded_in_number() {
        assert_eq!(Pieces::new(1 << 40, 1), None);
        assert_eq!(Pieces::new(1, 0), None);
        assert_eq!(Pieces::new(0, 10).unwrap().count(), 0);
        assert!(u64::from(Pieces::of_length(20 << 30).unwrap().count()) <= Pieces::MAX);
        assert!(Pieces::of_length(u64::MAX).is_none());
        assert_eq!(Pieces::of_blocks(805_975, 10_000).unwrap().count(), 81);
        let many = Pieces::of_blocks(1 << 40, 10_000).unwrap();
        assert!(many.size().is_multiple_of(10_000) && u64::from(many.count()) <= Pieces::MAX);
        assert_eq!((Pieces::of_blocks(1, 0), Pieces::of_blocks(u64::MAX, 1)), (None, None));
    }
}
