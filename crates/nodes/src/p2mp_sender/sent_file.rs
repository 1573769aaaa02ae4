//! A file that is sent, in either mode: opened once, and read where the receivers are.

use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// A regular file, open for reading.
#[derive(Debug)]
pub(super) struct SentFile {
    file: File,
    path: PathBuf,
}

/// Why a file cannot be sent.
#[derive(Debug, thiserror::Error)]
pub enum SentFileError {
    /// The kernel says no.
    #[error("cannot {doing} {}", path.display())]
    Io {
        /// A verb.
        doing: &'static str,
        /// The file.
        path: PathBuf,
        /// What the kernel says.
        source: io::Error,
    },
    /// A folder, a device or the like.
    #[error("{} is not a file", path.display())]
    NotAFile {
        /// What it is not.
        path: PathBuf,
    },
    /// Somebody cut it while it was sent.
    #[error("{} became shorter while it was sent", path.display())]
    Cut {
        /// The file.
        path: PathBuf,
    },
}

impl SentFile {
    /// Opens it; what it is now.
    pub(super) fn open(path: &Path) -> Result<(Self, Metadata), SentFileError> {
        let failed = |doing| move |source| SentFileError::Io { doing, path: path.to_owned(), source };
        // A pipe must not make it wait for its other end.
        let file = File::options().read(true).custom_flags(libc::O_NONBLOCK).open(path).map_err(failed("open"))?;
        let metadata = file.metadata().map_err(failed("look at"))?;
        if !metadata.is_file() {
            return Err(SentFileError::NotAFile { path: path.to_owned() });
        }
        Ok((SentFile { file, path: path.to_owned() }, metadata))
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Reads what lies at `offset` until `bytes` is full.
    pub(super) fn read(&self, bytes: &mut [u8], offset: u64) -> Result<(), SentFileError> {
        self.file.read_exact_at(bytes, offset).map_err(|source| match source.kind() {
            io::ErrorKind::UnexpectedEof => SentFileError::Cut { path: self.path.clone() },
            _ => self.unreadable(source),
        })
    }

    /// The BLAKE3 of all of it, of which `hasher` has what is before `at`. Read into `buffer` part by part.
    pub(super) fn hash(
        &self,
        mut hasher: blake3::Hasher,
        mut at: u64,
        buffer: &mut [u8],
    ) -> Result<[u8; 32], SentFileError> {
        loop {
            match self.file.read_at(buffer, at) {
                Ok(0) => return Ok(*hasher.finalize().as_bytes()),
                Ok(read) => {
                    hasher.update(&buffer[..read]);
                    at += read as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(source) => return Err(self.unreadable(source)),
            }
        }
    }

    fn unreadable(&self, source: io::Error) -> SentFileError {
        SentFileError::Io { doing: "read", path: self.path.clone(), source }
    }
}
