//! The files that a session sends: read train by train, coded block by block.

use std::collections::VecDeque;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc;

use nix::sys::eventfd::EventFd;
use p2mp::coding::{Coder, CodingError};
use p2mp::fast::{Block, FileEntry, Identity, Manifest, ManifestError};

use super::super::sent_file::{SentFile, SentFileError};
use super::ahead::Ahead;
use crate::downloader::name::safe;
use crate::page_buffer::{PAGE, PageBuffer};
use crate::udp::LONGEST_TRAIN;

/// Coded blocks that are kept, in bytes of recovery symbols: repair comes back to the same blocks.
const MOST_CODED: usize = 48 << 20;

/// Read at once for hashing, in bytes.
const READ: usize = 256 << 10;

/// Why files cannot be sent.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// As no file can be.
    #[error(transparent)]
    File(#[from] SentFileError),
    /// No thread for hashing.
    #[error("cannot start a thread that hashes")]
    Thread(#[source] io::Error),
    /// No name for receivers can be made of it.
    #[error("{} has no name that receivers could use", path.display())]
    NoName {
        /// Its path.
        path: PathBuf,
    },
    /// They cannot be one session.
    #[error("these files cannot be sent together")]
    Manifest(#[from] ManifestError),
    /// No code fits a block.
    #[error("cannot code a block")]
    Coding(#[from] CodingError),
}

/// Open files, and what of them was coded lately.
#[derive(Debug)]
pub(super) struct Source {
    files: Arc<[SentFile]>,
    identity: Identity,
    coder: Coder,
    /// A block, while it is coded.
    bytes: Vec<u8>,
    /// Recovery symbols of blocks; the last used at the end.
    coded: VecDeque<(u32, Vec<u8>)>,
    /// The originals of a train, behind as many bytes as there are before them in their first page of the file.
    train: PageBuffer,
    hashing: Hashing,
}

/// Who hashes the files.
#[derive(Debug)]
enum Hashing {
    /// Whoever reads the only one to send it.
    Reader(Box<Ahead>),
    /// Nobody does. Several are hashed beside the sending: none should wait until all those before it are sent.
    Nobody,
    /// They are hashed, or a thread does it.
    Settled,
}

impl Source {
    /// Opens all files; what they are, for receivers.
    pub(super) fn open(paths: &[PathBuf]) -> Result<(Self, Manifest), SourceError> {
        let (mut files, mut entries) = (Vec::new(), Vec::new());
        let mut identity = blake3::Hasher::new();
        for path in paths {
            let (file, metadata) = SentFile::open(path)?;
            let name = path.file_name().map(|name| name.to_string_lossy()).and_then(|name| safe(&name));
            let name = name.ok_or_else(|| SourceError::NoName { path: path.clone() })?;
            identity.update(name.as_bytes());
            for number in [metadata.len(), metadata.mtime() as u64, metadata.mtime_nsec() as u64] {
                identity.update(&number.to_be_bytes());
            }
            entries.push(FileEntry::new(&name, metadata.len()));
            files.push(file);
        }
        let manifest = Manifest::new(entries)?;
        let identity = Identity(*identity.finalize().as_bytes().first_chunk().expect("a hash has 32 bytes"));
        let (bytes, coded, train) = (Vec::new(), VecDeque::new(), PageBuffer::new(PAGE + LONGEST_TRAIN));
        let hashing = match files.len() {
            1 => Hashing::Reader(Box::new(Ahead::new(manifest.length()))),
            _ => Hashing::Nobody,
        };
        Ok((Source { files: files.into(), identity, coder: Coder::default(), bytes, coded, train, hashing }, manifest))
    }

    /// What the transfer is known by.
    pub(super) fn identity(&self) -> Identity {
        self.identity
    }

    /// Symbols of a block, one after the other: `count` from `first` on, all of them originals or none.
    pub(super) fn symbols(&mut self, block: &Block, first: u16, count: u16) -> Result<&[u8], SourceError> {
        if first < block.originals {
            let last = block.original(first + count - 1).expect("originals were asked for");
            let begin = block.original(first).expect("originals were asked for").start;
            if let Hashing::Reader(ahead) = &mut self.hashing
                && let Some(train) = ahead.read(&self.files[block.file], begin, last.end)?
            {
                return Ok(train);
            }
            let train = &mut self.train[(begin % PAGE as u64) as usize..][..(last.end - begin) as usize];
            self.files[block.file].read(train, begin)?;
            return Ok(train);
        }
        let payload = usize::from(block.payload);
        let recoveries = self.code(block)?;
        Ok(&recoveries[usize::from(first - block.originals) * payload..][..usize::from(count) * payload])
    }

    fn code(&mut self, block: &Block) -> Result<&[u8], SourceError> {
        let found = self.coded.iter().position(|(index, _)| *index == block.index);
        let mut coded = found.and_then(|at| self.coded.remove(at));
        if coded.is_none() {
            let size = usize::from(block.recoveries) * usize::from(block.payload);
            let is_full = (self.coded.len() + 1) * size > MOST_CODED;
            let (_, mut recoveries) = self.coded.pop_front().filter(|_| is_full).unwrap_or_default();
            self.bytes.resize(block.length as usize, 0);
            self.files[block.file].read(&mut self.bytes, block.offset)?;
            self.coder.encode(block, &self.bytes, &mut recoveries)?;
            coded = Some((block.index, recoveries));
        }
        self.coded.extend(coded);
        Ok(&self.coded.back().expect("just put there").1)
    }

    /// The digest of the only file when all of it was read; told once.
    pub(super) fn digest(&mut self) -> Option<[u8; 32]> {
        let Hashing::Reader(ahead) = &self.hashing else { return None };
        let digest = ahead.digest()?;
        self.hashing = Hashing::Settled;
        Some(digest)
    }

    /// Whether a digest will be missing unless [`Source::hash`] is called.
    pub(super) fn is_behind(&self) -> bool {
        match &self.hashing {
            Hashing::Reader(ahead) => ahead.is_behind(),
            Hashing::Nobody => true,
            Hashing::Settled => false,
        }
    }

    /// Hashes what is not hashed yet on a thread of its own; `wake` is written to with each digest. `None` if nothing is left
    /// to do.
    pub(super) fn hash(&mut self, wake: &Arc<EventFd>) -> Result<Option<mpsc::Receiver<Hashed>>, SourceError> {
        let mut first = match std::mem::replace(&mut self.hashing, Hashing::Settled) {
            Hashing::Reader(ahead) => Some(ahead.into_hash()),
            Hashing::Nobody => None,
            Hashing::Settled => return Ok(None),
        };
        let (told, hashed) = mpsc::channel();
        let (files, wake) = (Arc::clone(&self.files), Arc::clone(wake));
        let work = move || {
            let mut buffer = PageBuffer::new(READ);
            for (index, file) in files.iter().enumerate() {
                let (hasher, read) = first.take().unwrap_or_default();
                if told.send((index, file.hash(hasher, read, &mut buffer))).is_err() {
                    return;
                }
                let _ = wake.write(1);
            }
        };
        let started = std::thread::Builder::new().name("hash".into()).spawn(work);
        started.map_err(SourceError::Thread).map(|_| Some(hashed))
    }
}

/// A file's position, and its digest.
pub(super) type Hashed = (usize, Result<[u8; 32], SentFileError>);
