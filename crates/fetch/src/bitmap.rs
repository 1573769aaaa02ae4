//! A set of pieces.

use crate::pieces::{PieceIndex, Pieces};

/// A set of pieces of one file, one bit each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bitmap {
    words: Vec<u64>,
    ones: u32,
}

impl Bitmap {
    /// The empty set, with room for every piece of `pieces`.
    pub fn empty(pieces: Pieces) -> Self {
        Bitmap { words: vec![0; pieces.count().div_ceil(64) as usize], ones: 0 }
    }

    /// Adds a piece; whether it was new.
    pub fn insert(&mut self, piece: PieceIndex) -> bool {
        let (word, bit) = place(piece);
        let new = self.words[word] & bit == 0;
        self.words[word] |= bit;
        self.ones += u32::from(new);
        new
    }

    /// Takes a piece out; whether it was there.
    pub fn remove(&mut self, piece: PieceIndex) -> bool {
        let (word, bit) = place(piece);
        let there = self.words[word] & bit != 0;
        self.words[word] &= !bit;
        self.ones -= u32::from(there);
        there
    }

    /// Whether a piece is in the set.
    pub fn contains(&self, piece: PieceIndex) -> bool {
        let (word, bit) = place(piece);
        self.words[word] & bit != 0
    }

    /// How many pieces are in the set.
    pub fn count(&self) -> u32 {
        self.ones
    }
}

fn place(piece: PieceIndex) -> (usize, u64) {
    ((piece.get() / 64) as usize, 1 << (piece.get() % 64))
}
