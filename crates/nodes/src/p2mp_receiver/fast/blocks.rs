//! Symbols on their way to the disk: originals go straight to their place, and a recovery symbol is parked in the place of
//! an original that is missing. So all symbols of a block are in the file, whatever was lost, and memory holds only which.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;

use p2mp::fast::layout::MOST_ORIGINALS;
use p2mp::fast::{Block, Layout};

use super::prefix::Prefix;
use super::worker::Job;
use crate::downloader::disk::DiskError;
use crate::page_buffer::PageBuffer;

/// Written at once, in bytes: still in a cache when it is hashed. A run ends at a multiple of it in the file, so that whole
/// pages are written and whole subtrees of the hash are filled, which its vector instructions need.
pub(super) const RUN: usize = 128 << 10;

/// A part file that is written to.
#[derive(Clone, Debug)]
pub(super) struct Part {
    pub(super) file: Arc<File>,
    pub(super) path: PathBuf,
}

/// The blocks that are begun and not whole yet, of all files.
#[derive(Debug)]
pub(super) struct Blocks {
    layout: Arc<Layout>,
    /// By their position in the manifest; `None` for one that is not written.
    parts: Vec<Option<Part>>,
    begun: BTreeMap<u32, Begun>,
    /// The block that was asked for last.
    last: Option<Block>,
    run: Run,
    /// Of each file, as long as nothing is missing before what is written.
    prefixes: Vec<Option<Box<Prefix>>>,
    /// Those that are handed on.
    hashed: Vec<Job>,
}

/// Symbols of one block that are in the file.
#[derive(Debug, Default)]
struct Begun {
    /// Bit n: original n is in its place.
    originals: [u64; MOST_ORIGINALS as usize / 64],
    count: u16,
    /// Which recovery symbol is in which original's place.
    parked: BTreeMap<u16, u16>,
    /// No place below this is free.
    free: u16,
}

/// What one system call will write.
#[derive(Debug)]
struct Run {
    file: usize,
    offset: u64,
    length: usize,
    /// Only of originals, which nothing will change any more.
    is_final: bool,
    /// Each byte lies where it does between two multiples of [`RUN`] in the file.
    buffer: PageBuffer,
}

impl Blocks {
    pub(super) fn new(layout: Arc<Layout>, parts: Vec<Option<Part>>) -> Self {
        let prefixes = parts.iter().map(|_| Some(Box::default())).collect();
        let run = Run { file: 0, offset: 0, length: 0, is_final: false, buffer: PageBuffer::new(RUN) };
        let begun = BTreeMap::new();
        Blocks { layout, parts, begun, last: None, run, prefixes, hashed: Vec::new() }
    }

    /// The block numbered `index`, if there is one.
    pub(super) fn block(&mut self, index: u32) -> Option<Block> {
        if self.last.is_none_or(|last| last.index != index) {
            self.last = self.layout.block(index);
        }
        self.last.filter(|block| block.index == index)
    }

    /// Takes a symbol that has the length it should. It is written when one comes that does not follow on it, when a run is
    /// full, or by [`Blocks::flush`]: until then it may be lost, as its block is not whole either.
    pub(super) fn put(&mut self, index: u32, symbol: u16, bytes: &[u8]) -> Result<(), DiskError> {
        let Some(block) = self.block(index) else { return Ok(()) };
        let begun = self.begun.entry(index).or_default();
        let place = if symbol < block.originals {
            if begun.has(symbol) {
                return Ok(());
            }
            if let Some(recovery) = begun.parked.remove(&symbol) {
                // Before the original takes its own place.
                self.flush()?;
                self.relocate(&block, symbol, recovery)?;
                self.begun.entry(index).or_default().set(symbol);
            } else {
                begun.set(symbol);
            }
            symbol
        } else {
            let Some(free) = begun.lowest_free(block.originals, None) else { return Ok(()) };
            begun.parked.insert(free, symbol);
            free
        };
        self.append(&block, place, symbol < block.originals, bytes)
    }

    fn append(&mut self, block: &Block, place: u16, is_final: bool, mut bytes: &[u8]) -> Result<(), DiskError> {
        let offset = block.offset + u64::from(place) * u64::from(block.payload);
        let run = &self.run;
        if run.is_final != is_final || run.file != block.file || run.end() != offset {
            self.flush()?;
            (self.run.file, self.run.offset, self.run.is_final) = (block.file, offset, is_final);
        }
        while !bytes.is_empty() {
            let room = self.run.room();
            let (now, later) = bytes.split_at(bytes.len().min(room.len()));
            room[..now.len()].copy_from_slice(now);
            self.run.length += now.len();
            if self.run.end().is_multiple_of(RUN as u64) {
                self.flush()?;
            }
            bytes = later;
        }
        Ok(())
    }

    /// Moves a recovery symbol out of the place of an original that has come.
    fn relocate(&mut self, block: &Block, from: u16, recovery: u16) -> Result<(), DiskError> {
        let begun = self.begun.entry(block.index).or_default();
        let Some(to) = begun.lowest_free(block.originals, Some(from)) else { return Ok(()) };
        begun.parked.insert(to, recovery);
        let Some(part) = &self.parts[block.file] else { return Ok(()) };
        let at = |place: u16| block.offset + u64::from(place) * u64::from(block.payload);
        let mut bytes = vec![0; block.payload.into()];
        part.file.read_exact_at(&mut bytes, at(from)).map_err(|error| part.failed("read back", error))?;
        part.file.write_all_at(&bytes, at(to)).map_err(|error| part.failed("write", error))
    }

    /// Writes what is left.
    pub(super) fn flush(&mut self) -> Result<(), DiskError> {
        let (bytes, Run { file, offset, is_final, .. }) = (self.run.bytes(), &self.run);
        if let (Some(part), false) = (&self.parts[*file], bytes.is_empty()) {
            part.file.write_all_at(bytes, *offset).map_err(|error| part.failed("write", error))?;
            // What was just written is in a cache; read back later it would have to be copied once more.
            let is_hashed = |prefix: &mut Box<Prefix>| *is_final && prefix.take(*offset, bytes);
            if !self.prefixes[*file].as_mut().is_some_and(is_hashed) {
                let file = *file;
                self.hand_on(file);
            }
        }
        self.run.offset = self.run.end();
        self.run.length = 0;
        Ok(())
    }

    /// From now on somebody else hashes the file.
    pub(super) fn hand_on(&mut self, file: usize) {
        let prefix = self.prefixes.get_mut(file).and_then(Option::take);
        self.hashed.extend(prefix.map(|prefix| Job::Hashed { file, prefix }));
    }

    /// What was handed on since the last call.
    pub(super) fn handed_on(&mut self) -> impl Iterator<Item = Job> {
        self.hashed.drain(..)
    }

    /// The block has as many symbols as originals, all of them written: which symbol is in which place. `None` if every
    /// original is in its own.
    pub(super) fn take(&mut self, index: u32) -> Option<Vec<u16>> {
        let begun = self.begun.remove(&index)?;
        if begun.parked.is_empty() {
            return None;
        }
        let block = self.layout.block(index)?;
        Some((0..block.originals).map(|place| begun.parked.get(&place).copied().unwrap_or(place)).collect())
    }

    /// Forgets the blocks of a file that comes again.
    pub(super) fn forget(&mut self, file: usize) {
        let blocks = self.layout.blocks_of(file);
        self.begun.retain(|index, _| !blocks.contains(index));
    }
}

impl Run {
    /// Where the next byte would go.
    fn end(&self) -> u64 {
        self.offset + self.length as u64
    }

    fn bytes(&self) -> &[u8] {
        let start = (self.offset % RUN as u64) as usize;
        &self.buffer[start..start + self.length]
    }

    /// Up to the next multiple of [`RUN`].
    fn room(&mut self) -> &mut [u8] {
        let start = (self.end() % RUN as u64) as usize;
        &mut self.buffer[start..]
    }
}

impl Begun {
    fn has(&self, original: u16) -> bool {
        self.originals[usize::from(original / 64)] & 1 << (original % 64) != 0
    }

    fn set(&mut self, original: u16) {
        self.originals[usize::from(original / 64)] |= 1 << (original % 64);
        self.count += 1;
    }

    /// The lowest place without a symbol, other than `not`.
    fn lowest_free(&mut self, originals: u16, not: Option<u16>) -> Option<u16> {
        while self.free < originals && (self.has(self.free) || self.parked.contains_key(&self.free)) {
            self.free += 1;
        }
        (self.free..originals)
            .find(|place| !self.has(*place) && !self.parked.contains_key(place) && Some(*place) != not)
    }
}

impl Part {
    /// Reads a block whose symbols are all written: room for every original, the last padded with zeros. `holds` says which
    /// symbol is in which place.
    pub(super) fn read(&self, block: &Block, holds: &[u16], slots: &mut Vec<u8>) -> Result<(), DiskError> {
        let length = usize::from(block.originals) * usize::from(block.payload);
        slots.clear();
        slots.resize(length, 0);
        let mut at = 0;
        while at < length {
            match self.file.read_at(&mut slots[at..], block.offset + at as u64) {
                // The end of the file, in the last place of its last block.
                Ok(0) => break,
                Ok(read) => at += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(self.failed("read back", error)),
            }
        }
        if at < block.length as usize {
            return Err(DiskError::Cut { path: self.path.clone() });
        }
        // What was once parked there may lie behind the last original.
        if holds.last().is_some_and(|last| *last < block.originals) {
            slots[block.length as usize..].fill(0);
        }
        Ok(())
    }

    pub(super) fn failed(&self, doing: &'static str, source: io::Error) -> DiskError {
        DiskError::Io { doing, path: self.path.clone(), source }
    }
}

#[cfg(test)]
mod tests {
    use p2mp::coding::Coder;
    use p2mp::fast::{FileEntry, Manifest};
    use proptest::prelude::*;

    use super::*;

    fn noise(length: usize) -> Vec<u8> {
        (0..length as u64).map(|n| (n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

        /// Symbols in any order, some of them twice: with as many as there are originals the block can be restored.
        #[test]
        fn what_is_in_the_file_restores_the_block(length in 1..40_000usize, order: Vec<prop::sample::Index>, batch in 1..9usize) {
            let manifest = Manifest::new(vec![FileEntry::new("f", length as u64)]).unwrap();
            let layout = Arc::new(Layout::new(&manifest, 512).unwrap());
            let block = layout.block(0).unwrap();
            let bytes = noise(length);
            let mut recoveries = Vec::new();
            Coder::default().encode(&block, &bytes, &mut recoveries).unwrap();
            let symbol = |symbol: u16| match block.original(symbol) {
                Some(range) => &bytes[range.start as usize..range.end as usize],
                None => &recoveries[usize::from(symbol - block.originals) * 512..][..512],
            };

            let file = Arc::new(tempfile::tempfile().unwrap());
            let part = Part { file: Arc::clone(&file), path: PathBuf::from("f.part") };
            let mut blocks = Blocks::new(Arc::clone(&layout), vec![Some(part)]);
            let mut held = std::collections::BTreeSet::new();
            let chosen = order.iter().map(|index| index.index(block.symbols().into()) as u16);
            for (n, number) in chosen.chain(0..block.symbols()).enumerate() {
                if held.len() == usize::from(block.originals) {
                    break;
                }
                // The machine does not ask for a recovery symbol twice.
                if number < block.originals || !held.contains(&number) {
                    blocks.put(0, number, symbol(number)).unwrap();
                    held.insert(number);
                }
                if n % batch == 0 {
                    blocks.flush().unwrap();
                }
            }
            blocks.flush().unwrap();
            let holds = blocks.take(0);
            let holds = holds.unwrap_or_else(|| (0..block.originals).collect());
            let mut slots = Vec::new();
            blocks.parts[0].as_ref().unwrap().read(&block, &holds, &mut slots).unwrap();
            Coder::default().restore(&block, &mut slots, &holds).unwrap();
            prop_assert_eq!(&slots[..length], &bytes[..]);
        }
    }
}
