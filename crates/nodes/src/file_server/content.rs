//! The file as it is now, and the tag that names that state.

use std::fs::{File, Metadata};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use fetch::{ByteRange, Digest, Validator, serve};
use sha2::{Digest as _, Sha256};

use crate::http::url::encode_segment;

/// The path that is served.
#[derive(Debug)]
pub(crate) struct Content {
    path: PathBuf,
    /// As a path segment, percent-encoded.
    name: String,
    /// What was last opened; kept while the file on disk is still the same.
    current: Mutex<Option<Arc<Snapshot>>>,
}

/// The file in one state. Invariant: `file` had `identity` when it was opened.
#[derive(Debug)]
pub(crate) struct Snapshot {
    pub(crate) file: File,
    pub(crate) identity: Identity,
    pub(crate) validator: Validator,
    /// For `Last-Modified`.
    pub(crate) modified: SystemTime,
}

/// What tells two states of a file apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    device: u64,
    inode: u64,
    pub(crate) length: u64,
    modified_nanos: u64,
}

/// Why a file cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum ContentError {
    /// It cannot be opened or looked at.
    #[error("cannot serve {}", path.display())]
    Open {
        /// The path.
        path: PathBuf,
        /// What the kernel says.
        source: io::Error,
    },
    /// A folder, a device or the like.
    #[error("cannot serve {}: not a regular file", path.display())]
    NotAFile {
        /// The path.
        path: PathBuf,
    },
}

impl Content {
    /// The file at `path`, which must exist.
    pub(crate) fn at(path: PathBuf) -> Result<Self, ContentError> {
        let name = encode_segment(path.file_name().map_or(b"file", OsStrExt::as_bytes));
        let content = Content { path, name, current: Mutex::new(None) };
        content.open()?;
        Ok(content)
    }

    /// Its name as a path segment, percent-encoded.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// The file as it is now. While it does not change this costs one system call and no descriptor.
    pub(crate) fn open(&self) -> Result<Arc<Snapshot>, ContentError> {
        let failed = |source| ContentError::Open { path: self.path.clone(), source };
        let metadata = std::fs::metadata(&self.path).map_err(failed)?;
        if !metadata.is_file() {
            // Not opened: that would wait for the other end of a pipe.
            return Err(ContentError::NotAFile { path: self.path.clone() });
        }
        let found = Identity::of(&metadata);
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(snapshot) = current.as_ref().filter(|snapshot| snapshot.identity == found) {
            return Ok(Arc::clone(snapshot));
        }
        let file = File::open(&self.path).map_err(failed)?;
        let metadata = file.metadata().map_err(failed)?;
        if !metadata.is_file() {
            return Err(ContentError::NotAFile { path: self.path.clone() });
        }
        let identity = Identity::of(&metadata);
        let snapshot = Arc::new(Snapshot {
            file,
            identity,
            // From the state alone, never from the hash: a tag that changed when hashing ends would part the ranges
            // fetched before from those fetched after.
            validator: serve::entity_tag(identity.length, identity.modified_nanos, None),
            modified: metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH),
        });
        *current = Some(Arc::clone(&snapshot));
        Ok(snapshot)
    }
}

/// A buffer of this many bytes is enough for [`Snapshot::digest`].
pub(crate) const READ: usize = 256 << 10;

impl Snapshot {
    /// The SHA-256 of these bytes, read through `buffer`, which is not empty; `None` if they cannot be read. Blocks.
    pub(crate) fn digest(&self, range: ByteRange, buffer: &mut [u8]) -> Option<Digest> {
        let mut sha = Sha256::new();
        let mut at = range.start;
        while at < range.end {
            let want = buffer.len().min(usize::try_from(range.end - at).unwrap_or(usize::MAX));
            self.file.read_exact_at(&mut buffer[..want], at).ok()?;
            sha.update(&buffer[..want]);
            at += want as u64;
        }
        Some(Digest(sha.finalize().into()))
    }

    /// Whether the opened file is still in the state that was announced. A body must not go on when it is not.
    pub(crate) fn is_unchanged(&self) -> bool {
        self.file.metadata().is_ok_and(|now| Identity::of(&now) == self.identity)
    }
}

impl Identity {
    fn of(metadata: &Metadata) -> Self {
        let nanos = i128::from(metadata.mtime()) * 1_000_000_000 + i128::from(metadata.mtime_nsec());
        Identity {
            device: metadata.dev(),
            inode: metadata.ino(),
            length: metadata.len(),
            modified_nanos: u64::try_from(nanos).unwrap_or_default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_changed_file_is_another_state() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a b");
        std::fs::write(&path, "one").unwrap();
        let content = Content::at(path.clone()).unwrap();
        assert_eq!(content.name(), "a%20b");
        let first = content.open().unwrap();
        assert!(Arc::ptr_eq(&first, &content.open().unwrap()), "opened once while unchanged");
        std::fs::write(&path, "three").unwrap();
        let second = content.open().unwrap();
        assert_ne!(first.validator, second.validator);
        assert!(!first.is_unchanged() && second.is_unchanged());
    }

    #[test]
    fn only_files_are_served() {
        let folder = tempfile::tempdir().unwrap();
        assert!(matches!(Content::at(folder.path().into()), Err(ContentError::NotAFile { .. })));
        assert!(matches!(Content::at(folder.path().join("missing")), Err(ContentError::Open { .. })));
    }
}
