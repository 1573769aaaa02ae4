//! Where a classic sender's file goes, and why it cannot.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use nix::unistd::{AccessFlags, access};

use crate::downloader::PlaceError;
use crate::downloader::place::{self, Existing, Place};

/// Why there is no place for a file. In the words of a receiver, which cannot go on with what an earlier run left.
#[derive(Debug, thiserror::Error)]
pub enum TargetError {
    /// The target exists.
    #[error("{} exists; --overwrite replaces it", path.display())]
    Exists {
        /// The target.
        path: PathBuf,
    },
    /// Unfinished work would be lost.
    #[error("{} is left of an earlier transfer, {bytes} bytes; --overwrite begins anew", path.display())]
    Unfinished {
        /// The part file.
        path: PathBuf,
        /// How much it is.
        bytes: u64,
    },
    /// Somebody made the target while the file came.
    #[error("{} was made by somebody else meanwhile; the whole file is in {}", path.display(), part.display())]
    Appeared {
        /// The target.
        path: PathBuf,
        /// Where the file is.
        part: PathBuf,
    },
    /// Another process writes there.
    #[error("another transfer writes {}", path.display())]
    Locked {
        /// The part file.
        path: PathBuf,
    },
    /// Somebody else wrote into the part file.
    #[error("somebody else changed {} while it was written", path.display())]
    Changed {
        /// The part file.
        path: PathBuf,
    },
    /// Anything else.
    #[error(transparent)]
    Place(PlaceError),
}

impl From<PlaceError> for TargetError {
    fn from(error: PlaceError) -> Self {
        match error {
            PlaceError::Exists { path } => TargetError::Exists { path },
            PlaceError::Unfinished { path, bytes } => TargetError::Unfinished { path, bytes },
            PlaceError::Appeared { path, part } => TargetError::Appeared { path, part },
            PlaceError::Locked { path } => TargetError::Locked { path },
            PlaceError::Changed { path } => TargetError::Changed { path },
            other => TargetError::Place(other),
        }
    }
}

/// What the command line says of the file.
#[derive(Clone, Debug)]
pub(super) struct Target {
    pub(super) path: PathBuf,
    pub(super) overwrite: bool,
}

impl Target {
    /// Whether the file can be begun, as far as can be seen before anything comes. Unfinished work that has a journal is
    /// the fast mode's, which goes on with it.
    pub(super) fn look(&self) -> Result<(), TargetError> {
        if self.path.is_dir() {
            return ensure_writable(&self.path);
        }
        let (path, exists) = place::look(&self.path)?;
        ensure_writable(place::folder(&path))?;
        if self.overwrite {
            return Ok(());
        }
        if exists {
            return Err(TargetError::Exists { path: self.path.clone() });
        }
        let part = place::beside(&self.path, ".part");
        let bytes = part.symlink_metadata().map_or(0, |found| found.len());
        if bytes > 0 && place::beside(&self.path, ".journal").symlink_metadata().is_err() {
            return Err(TargetError::Unfinished { path: part, bytes });
        }
        Ok(())
    }

    /// Whether FILE may still be made: it is not there, or it is to be replaced.
    pub(super) fn is_free(&self) -> bool {
        self.overwrite || self.path.symlink_metadata().is_err()
    }

    /// The place for the file of `sender`: FILE itself, or FILE.<address>-<port> if that is `taken` by another sender.
    pub(super) fn prepare(&self, sender: SocketAddr, taken: bool) -> Result<Place, TargetError> {
        let path = if taken { of_sender(&self.path, sender) } else { self.path.clone() };
        let existing = if self.overwrite { Existing::Overwrite } else { Existing::Refuse };
        let (place, _) = Place::prepare(&path, existing)?;
        // What an earlier run left would stay behind the end of a shorter file.
        let emptied = place.part().and_then(|part| part.set_len(0));
        emptied.map_err(|source| PlaceError::Io { doing: "empty", path: place.part_path().to_owned(), source })?;
        Ok(place)
    }
}

/// Whoever waits for a sender should hear beforehand that there is no place for its file.
fn ensure_writable(folder: &Path) -> Result<(), TargetError> {
    access(folder, AccessFlags::W_OK | AccessFlags::X_OK).map_err(|error| {
        let (path, source) = (folder.to_owned(), error.into());
        TargetError::Place(PlaceError::Io { doing: "make a file in the folder", path, source })
    })
}

/// Where the file of a sender goes that is not the first: FILE.<address>-<port>.
pub(super) fn of_sender(path: &Path, sender: SocketAddr) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{}-{}", sender.ip(), sender.port()));
    PathBuf::from(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn concurrent_senders_have_names_of_their_own() {
        let path = Path::new("folder/movie.mp4");
        assert_eq!(of_sender(path, "10.0.0.1:7735".parse().unwrap()), Path::new("folder/movie.mp4.10.0.0.1-7735"));
        assert_eq!(of_sender(path, "[fd00::1]:9".parse().unwrap()), Path::new("folder/movie.mp4.fd00::1-9"));
    }

    #[test]
    fn a_target_that_exists_is_replaced_only_when_told() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("movie");
        std::fs::write(&path, "old").unwrap();
        let sender = "127.0.0.1:1".parse().unwrap();
        let refused = Target { path: path.clone(), overwrite: false };
        assert!(refused.look().unwrap_err().to_string().ends_with("movie exists; --overwrite replaces it"));
        assert!(refused.prepare(sender, false).is_err());
        assert!(refused.prepare(sender, true).is_ok(), "another name is free");
        std::fs::remove_file(&path).unwrap();
        std::fs::write(folder.path().join("movie.part"), "half").unwrap();
        let says = "movie.part is left of an earlier transfer, 4 bytes; --overwrite begins anew";
        assert!(refused.look().unwrap_err().to_string().ends_with(says));
        std::fs::write(folder.path().join("movie.journal"), "of the fast mode").unwrap();
        assert!(refused.look().is_ok(), "the fast mode goes on with it");
        assert!(matches!(refused.prepare(sender, false), Err(TargetError::Unfinished { .. })), "this mode cannot");
        let told = Target { path, overwrite: true };
        assert!(told.look().is_ok());
        assert!(told.prepare(sender, false).is_ok());
    }
}
