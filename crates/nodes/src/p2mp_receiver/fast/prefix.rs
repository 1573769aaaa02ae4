//! How far a file is hashed: while it is written, or behind that, as far as its blocks are whole.

use std::io;
use std::os::unix::fs::FileExt;

use p2mp::fast::Layout;

use super::worker::{Source, Work, WorkError};
use crate::downloader::disk::DiskError;
use crate::page_buffer::PageBuffer;

/// Read at once for hashing, in bytes: fits into a cache.
const READ: usize = 256 << 10;

/// How far a file is hashed.
#[derive(Debug, Default)]
pub(super) struct Prefix {
    /// How many blocks are hashed wholly.
    pub(super) blocks: usize,
    /// How many bytes are hashed.
    bytes: u64,
    pub(super) hasher: blake3::Hasher,
}

/// Room for what is hashed at once.
pub(super) fn buffer() -> PageBuffer {
    PageBuffer::new(READ)
}

impl Prefix {
    /// Hashes bytes that nobody will change any more. Whether it was their turn.
    pub(super) fn take(&mut self, offset: u64, bytes: &[u8]) -> bool {
        let is_next = offset == self.bytes;
        if is_next {
            self.hasher.update(bytes);
            self.bytes += bytes.len() as u64;
        }
        is_next
    }

    /// Hashes as far as all blocks are whole; what was just written is still in memory.
    pub(super) fn follow(&mut self, work: &Work, layout: &Layout, buffer: &mut [u8]) -> Result<(), WorkError> {
        let (file, path) = match &work.source {
            Source::Part { part, .. } => (&*part.file, &part.path),
            Source::Present { file, path } => (file, path),
            Source::Kept => return Ok(()),
        };
        while work.whole.get(self.blocks).is_some_and(|whole| *whole) {
            let block = layout.block(work.first_block + self.blocks as u32).expect("as many as the layout has");
            let end = block.offset + u64::from(block.length);
            while self.bytes < end {
                let at = self.bytes;
                let want = READ.min((end - at) as usize);
                match file.read_at(&mut buffer[..want], at) {
                    Ok(0) => return Err(DiskError::Cut { path: path.clone() }.into()),
                    Ok(read) => {
                        self.hasher.update(&buffer[..read]);
                        self.bytes += read as u64;
                    }
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(source) => {
                        return Err(DiskError::Io { doing: "read back", path: path.clone(), source }.into());
                    }
                }
            }
            self.blocks += 1;
        }
        Ok(())
    }
}
