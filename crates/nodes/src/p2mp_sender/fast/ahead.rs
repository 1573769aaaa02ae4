//! A file read in its order, a little ahead of what is sent, and hashed as it is read: each byte comes from the disk, or out
//! of the system's cache, once.

use super::super::sent_file::{SentFile, SentFileError};
use crate::page_buffer::{PAGE, PageBuffer};
use crate::udp::LONGEST_TRAIN;

/// Read and hashed at once, in bytes, from one multiple of it to the next: whole subtrees of the hash are filled, which its
/// vector instructions need, and what is sent next is still in a core's own cache.
const STEP: usize = 128 << 10;

/// The next bytes of a file, and the hash of all up to there.
#[derive(Debug)]
pub(super) struct Ahead {
    length: u64,
    /// The file's bytes from `start`, which is a multiple of the page, to `end`.
    buffer: PageBuffer,
    start: u64,
    end: u64,
    hasher: blake3::Hasher,
    is_behind: bool,
}

impl Ahead {
    /// Of a file of `length` bytes nothing is read.
    pub(super) fn new(length: u64) -> Self {
        let buffer = PageBuffer::new(PAGE + 2 * LONGEST_TRAIN + 2 * STEP);
        Ahead { length, buffer, start: 0, end: 0, hasher: blake3::Hasher::new(), is_behind: false }
    }

    /// The bytes from `begin` to `end`, at most a train's; `None` if it is not their turn.
    pub(super) fn read(&mut self, file: &SentFile, begin: u64, end: u64) -> Result<Option<&[u8]>, SentFileError> {
        self.is_behind |= begin > self.end;
        if begin < self.start || begin > self.end {
            return Ok(None);
        }
        if end > self.end {
            let start = begin - begin % PAGE as u64;
            // What was read is behind, but for the page that it ends in.
            self.buffer.copy_within((start - self.start) as usize..(self.end - self.start) as usize, 0);
            self.start = start;
            let until = end.next_multiple_of(STEP as u64).min(self.length);
            let bytes = &mut self.buffer[(self.end - start) as usize..(until - start) as usize];
            file.read(bytes, self.end)?;
            self.hasher.update(bytes);
            self.end = until;
        }
        Ok(Some(&self.buffer[(begin - self.start) as usize..(end - self.start) as usize]))
    }

    /// Whether something was left out, so that it will never have read all.
    pub(super) fn is_behind(&self) -> bool {
        self.is_behind
    }

    /// The digest of the file, once all of it was read.
    pub(super) fn digest(&self) -> Option<[u8; 32]> {
        (self.end == self.length).then(|| *self.hasher.finalize().as_bytes())
    }

    /// The hash of what was read, and how much that is.
    pub(super) fn into_hash(self) -> (blake3::Hasher, u64) {
        (self.hasher, self.end)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn what_is_read_in_order_is_hashed_and_what_is_not_is_left_to_others() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("f");
        let content: Vec<u8> = (0..1_000_003u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        fs::write(&path, &content).unwrap();
        let (file, metadata) = SentFile::open(&path).unwrap();
        let mut ahead = Ahead::new(metadata.len());
        let (mut at, mut sizes) = (0, [63_448, 1442, 5, LONGEST_TRAIN as u64].into_iter().cycle());
        while at < metadata.len() {
            // It is as far ahead as the next multiple of a step.
            assert!(ahead.digest().is_none() || at + STEP as u64 >= metadata.len());
            let end = (at + sizes.next().unwrap()).min(metadata.len());
            let bytes = ahead.read(&file, at, end).unwrap().expect("it is their turn");
            assert!(*bytes == content[at as usize..end as usize], "{at}");
            at = end;
        }
        assert_eq!(ahead.digest(), Some(*blake3::hash(&content).as_bytes()));
        assert_eq!(ahead.read(&file, 0, 10).unwrap(), None, "it was their turn long ago");
        assert!(!ahead.is_behind());

        let mut ahead = Ahead::new(metadata.len());
        assert!(ahead.read(&file, 0, 1000).unwrap().is_some());
        assert_eq!(ahead.read(&file, 500_000, 501_000).unwrap(), None);
        assert!(ahead.is_behind());
        let (hasher, read) = ahead.into_hash();
        assert_eq!(read, STEP as u64);
        let digest = file.hash(hasher, read, &mut [0; 5000]).unwrap();
        assert_eq!(digest, *blake3::hash(&content).as_bytes());
    }
}
