//! Which symbols a receiver has.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use super::layout::{Block, Layout};
use super::report::{MOST_RUNS, Run};
use super::tuning::MOST_BEGUN;

/// The symbols held, block by block. Symbols of a complete block are not told apart any more.
///
/// Memory: a byte a block, and for each begun block a bit a symbol; of those there are at most [`MOST_BEGUN`].
#[derive(Clone, Debug)]
pub struct Holdings {
    complete: Vec<bool>,
    begun: BTreeMap<u32, Begun>,
    /// No block below this is incomplete.
    first_incomplete: u32,
    /// No block from this on is begun or complete.
    untouched_from: u32,
    symbols: u64,
}

#[derive(Clone, Debug)]
struct Begun {
    held: Box<[u64]>,
    count: u16,
}

/// What becomes of a symbol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// It is new; there are not enough yet.
    New,
    /// It is new, and with it there are as many as originals.
    Enough,
    /// It was there, or its block is complete.
    Useless,
    /// There is no room for another begun block, so it counts as lost.
    Refused,
}

impl Holdings {
    /// Nothing of `layout`.
    pub fn new(layout: &Layout) -> Self {
        Holdings {
            complete: vec![false; layout.blocks() as usize],
            begun: BTreeMap::new(),
            first_incomplete: 0,
            untouched_from: 0,
            symbols: 0,
        }
    }

    /// Takes a symbol of `block`.
    pub fn take(&mut self, block: &Block, symbol: u16) -> Taken {
        let index = block.index;
        if symbol >= block.symbols() || self.is_complete(index) {
            return Taken::Useless;
        }
        let is_crowded = self.begun.len() >= MOST_BEGUN;
        let begun = match self.begun.entry(index) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(_) if is_crowded => return Taken::Refused,
            Entry::Vacant(entry) => {
                let words = usize::from(block.symbols()).div_ceil(64);
                entry.insert(Begun { held: vec![0; words].into(), count: 0 })
            }
        };
        let (word, bit) = (usize::from(symbol) / 64, 1 << (symbol % 64));
        if begun.held[word] & bit != 0 {
            return Taken::Useless;
        }
        begun.held[word] |= bit;
        begun.count += 1;
        self.symbols += 1;
        self.untouched_from = self.untouched_from.max(index + 1);
        if begun.count < block.originals {
            return Taken::New;
        }
        self.begun.remove(&index);
        self.complete[index as usize] = true;
        self.move_first();
        Taken::Enough
    }

    /// Notes that all of `block` is there.
    pub fn complete(&mut self, block: &Block) {
        if !self.is_complete(block.index) {
            let counted = self.begun.remove(&block.index).map_or(0, |begun| begun.count);
            self.symbols += u64::from(block.originals - counted);
            self.complete[block.index as usize] = true;
            self.untouched_from = self.untouched_from.max(block.index + 1);
            self.move_first();
        }
    }

    /// Forgets all of `block`.
    pub fn forget(&mut self, block: &Block) {
        let begun = self.begun.remove(&block.index).map_or(0, |begun| begun.count);
        let was_complete = std::mem::replace(&mut self.complete[block.index as usize], false);
        self.symbols -= u64::from(if was_complete { block.originals } else { begun });
        self.first_incomplete = self.first_incomplete.min(block.index);
    }

    /// Whether all of the block is there.
    pub fn is_complete(&self, block: u32) -> bool {
        self.complete.get(block as usize).copied().unwrap_or(false)
    }

    /// Whether all of every block is there.
    pub fn is_all(&self) -> bool {
        self.first_incomplete as usize == self.complete.len()
    }

    /// How many symbols count: of each block at most its originals.
    pub fn symbols(&self) -> u64 {
        self.symbols
    }

    /// What is missing, block by block, from the first on; and up to where that is all.
    pub fn runs(&self, layout: &Layout) -> (Vec<Run>, u32) {
        let mut runs: Vec<Run> = Vec::new();
        let untouched = self.untouched_from.max(self.first_incomplete);
        for index in self.first_incomplete..untouched {
            if self.complete[index as usize] {
                continue;
            }
            let missing = self.begun.get(&index).map(|begun| {
                let originals = layout.block(index).map_or(0, |block| block.originals);
                originals - begun.count
            });
            let is_full = runs.len() == MOST_RUNS;
            match runs.last_mut() {
                Some(run) if run.end() == index && run.missing == missing => run.count += 1,
                _ if is_full => return (runs, index),
                _ => runs.push(Run { first: index, count: 1, missing }),
            }
        }
        let blocks = self.complete.len() as u32;
        if untouched < blocks {
            let is_full = runs.len() == MOST_RUNS;
            match runs.last_mut() {
                Some(run) if run.end() == untouched && run.missing.is_none() => run.count += blocks - untouched,
                _ if is_full => return (runs, untouched),
                _ => runs.push(Run { first: untouched, count: blocks - untouched, missing: None }),
            }
        }
        (runs, blocks)
    }

    fn move_first(&mut self) {
        while self.is_complete(self.first_incomplete) {
            self.first_incomplete += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::manifest::{FileEntry, Manifest};
    use super::*;

    fn layout(symbols: u64) -> Layout {
        Layout::new(&Manifest::new(vec![FileEntry::new("f", symbols * 1000)]).unwrap(), 1000).unwrap()
    }

    #[test]
    fn any_symbols_as_many_as_originals_are_enough() {
        let layout = layout(10);
        let block = layout.block(0).unwrap();
        let mut holdings = Holdings::new(&layout);
        for symbol in [25, 3, 12, 0, 1, 2, 9, 20, 21] {
            assert_eq!(holdings.take(&block, symbol), Taken::New);
            assert_eq!(holdings.take(&block, symbol), Taken::Useless);
        }
        assert_eq!(holdings.runs(&layout), (vec![Run { first: 0, count: 1, missing: Some(1) }], 1));
        assert_eq!(holdings.take(&block, 26), Taken::Useless, "there is no such symbol");
        assert_eq!(holdings.take(&block, 24), Taken::Enough);
        assert!(holdings.is_all());
        assert_eq!((holdings.symbols(), holdings.runs(&layout)), (10, (vec![], 1)));
        assert_eq!(holdings.take(&block, 4), Taken::Useless);
        holdings.forget(&block);
        assert_eq!((holdings.symbols(), holdings.is_all()), (0, false));
        assert_eq!(holdings.runs(&layout), (vec![Run { first: 0, count: 1, missing: None }], 1));
    }

    #[test]
    fn runs_tell_every_block_once() {
        let layout = layout(1024 * 12);
        let mut holdings = Holdings::new(&layout);
        for (block, count) in [(0, 1024), (1, 1000), (2, 1000), (4, 1024), (7, 3)] {
            let block = layout.block(block).unwrap();
            (0..count).for_each(|symbol| assert_ne!(holdings.take(&block, symbol), Taken::Useless));
        }
        let run = |first, count, missing| Run { first, count, missing };
        let runs = vec![run(1, 2, Some(24)), run(3, 1, None), run(5, 2, None), run(7, 1, Some(1021)), run(8, 4, None)];
        assert_eq!(holdings.runs(&layout), (runs, 12));
        holdings.complete(&layout.block(7).unwrap());
        assert_eq!(holdings.symbols(), 1024 * 3 + 2000);
    }

    #[test]
    fn a_hostile_sender_cannot_make_it_large() {
        let layout = layout(1024 * 20_000);
        let mut holdings = Holdings::new(&layout);
        let taken: Vec<_> = (0..20_000).map(|block| holdings.take(&layout.block(block).unwrap(), 0)).collect();
        assert_eq!(taken.iter().filter(|taken| **taken == Taken::Refused).count(), 20_000 - MOST_BEGUN);
        let (runs, covered) = holdings.runs(&layout);
        assert!(runs.len() <= MOST_RUNS && covered == 20_000);
    }
}
