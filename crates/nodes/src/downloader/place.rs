//! The target, and beside it the part file and the journal.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use fetch::{Boot, Remains};
use nix::fcntl::{AT_FDCWD, Flock, FlockArg, RenameFlags, renameat2};

use crate::clock;
use crate::http::url::decode;

/// What to do when the target exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Existing {
    Refuse,
    Overwrite,
    /// It counts as an earlier run's work: checked, kept if right, completed if not.
    Resume,
}

/// Where a download lives on the disk. Holds the lock on the part file.
#[derive(Debug)]
pub(crate) struct Place {
    target: PathBuf,
    part_path: PathBuf,
    journal_path: PathBuf,
    part: Flock<File>,
    existing: Existing,
}

/// Why a download cannot live there.
#[derive(Debug, thiserror::Error)]
pub enum PlaceError {
    /// The target exists.
    #[error("{} exists; --overwrite replaces it, --resume completes it", path.display())]
    Exists {
        /// The target.
        path: PathBuf,
    },
    /// Another process has the part file.
    #[error("another download writes {}", path.display())]
    Locked {
        /// The part file.
        path: PathBuf,
    },
    /// The disk says no.
    #[error("cannot {doing} {}", path.display())]
    Io {
        /// A verb.
        doing: &'static str,
        /// What it was done to.
        path: PathBuf,
        /// What the kernel says.
        source: io::Error,
    },
}

/// Journals larger than this are not ours: two records for each of the most pieces there can be, and the header.
const LONGEST_JOURNAL: u64 = 16 << 20;

impl Place {
    /// Takes possession of the place, and tells what an earlier run left there if that is wanted.
    pub(crate) fn prepare(target: PathBuf, existing: Existing) -> Result<(Self, Option<Remains>), PlaceError> {
        let with = |suffix: &str| {
            let mut name = target.clone().into_os_string();
            name.push(suffix);
            PathBuf::from(name)
        };
        let (part_path, journal_path) = (with(".part"), with(".journal"));
        let finished = target.symlink_metadata().is_ok();
        if finished && existing == Existing::Refuse {
            return Err(PlaceError::Exists { path: target });
        }
        let io = |doing, path: &Path| {
            let path = path.to_owned();
            move |source| PlaceError::Io { doing, path, source }
        };
        let part = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&part_path);
        let part = part.map_err(io("create", &part_path))?;
        let part = Flock::lock(part, FlockArg::LockExclusiveNonblock).map_err(|(_, error)| match error {
            nix::Error::EWOULDBLOCK => PlaceError::Locked { path: part_path.clone() },
            error => io("lock", &part_path)(error.into()),
        })?;
        let mut part_length = part.metadata().map_err(io("look at", &part_path))?.len();
        let mut remains = None;
        if existing == Existing::Resume {
            if finished && part_length == 0 {
                // An earlier run finished. Its file is checked as if it were a part file without a journal.
                part_length = io::copy(&mut File::open(&target).map_err(io("open", &target))?, &mut &*part)
                    .map_err(io("copy", &target))?;
            }
            if part_length > 0 {
                remains = Some(Remains { journal: read_journal(&journal_path), part_length });
            }
        }
        Ok((Place { target, part_path, journal_path, part, existing }, remains))
    }

    /// Another handle on the part file.
    pub(crate) fn part(&self) -> io::Result<File> {
        self.part.try_clone()
    }

    pub(crate) fn part_path(&self) -> &Path {
        &self.part_path
    }

    pub(crate) fn journal_path(&self) -> &Path {
        &self.journal_path
    }

    /// The part file is whole and right: makes it the target, durably, in one step.
    pub(crate) fn complete(self) -> Result<PathBuf, PlaceError> {
        let io = |doing, path: &Path| {
            let path = path.to_owned();
            move |source| PlaceError::Io { doing, path, source }
        };
        self.part.sync_all().map_err(io("sync", &self.part_path))?;
        self.rename()?;
        sync_folder(&self.target).map_err(io("sync the folder of", &self.target))?;
        // Left behind, it would speak of a part file that is gone; nobody would be harmed.
        let _ = fs::remove_file(&self.journal_path);
        Ok(self.target)
    }

    fn rename(&self) -> Result<(), PlaceError> {
        let failed = |source: io::Error| PlaceError::Io { doing: "make", path: self.target.clone(), source };
        if self.existing == Existing::Refuse {
            let unless_it_exists = RenameFlags::RENAME_NOREPLACE;
            match renameat2(AT_FDCWD, &self.part_path, AT_FDCWD, &self.target, unless_it_exists) {
                Ok(()) => return Ok(()),
                Err(nix::Error::EEXIST) => return Err(PlaceError::Exists { path: self.target.clone() }),
                // A file system that does not know the flag.
                Err(nix::Error::EINVAL | nix::Error::ENOSYS) => {}
                Err(error) => return Err(failed(error.into())),
            }
        }
        fs::rename(&self.part_path, &self.target).map_err(failed)
    }

    /// What was fetched is known to be wrong.
    pub(crate) fn discard(self) {
        for path in [&self.part_path, &self.journal_path] {
            if let Err(error) = fs::remove_file(path) {
                tracing::debug!(%error, "cannot remove {}", path.display());
            }
        }
    }

    /// Leaves no empty part file behind a download that never began.
    pub(crate) fn leave(self) {
        if self.part.metadata().is_ok_and(|metadata| metadata.len() == 0) {
            self.discard();
        }
    }
}

/// Makes a rename in the folder of `path` durable.
pub(crate) fn sync_folder(path: &Path) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder)?.sync_all()
}

/// The machine's current boot.
pub(crate) fn boot() -> Boot {
    let id = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let digits: String = id.chars().filter(char::is_ascii_hexdigit).collect();
    // Unknown: one that no other run has, so that only what was synced is trusted.
    let unknown = || clock::calendar().duration_since(std::time::UNIX_EPOCH).map_or(0, |time| time.as_nanos());
    Boot(u128::from_str_radix(&digits, 16).ok().filter(|id| *id != 0).unwrap_or_else(unknown).to_be_bytes())
}

/// A file name from a percent-encoded path segment; `None` if it would lead elsewhere or nowhere.
pub(crate) fn safe_name(segment: &str) -> Option<OsString> {
    let bytes: Vec<u8> = decode(segment).into_iter().filter(|b| !b.is_ascii_control()).collect();
    let leads_elsewhere = bytes.is_empty() || bytes.contains(&b'/') || bytes == b"." || bytes == b"..";
    (!leads_elsewhere && bytes.len() <= 200).then(|| OsString::from_vec(bytes))
}

/// What there is of a journal; nothing if it cannot be read, which costs a rehash.
fn read_journal(path: &Path) -> Bytes {
    match fs::metadata(path) {
        Ok(metadata) if metadata.is_file() && metadata.len() <= LONGEST_JOURNAL => {
            fs::read(path).map(Bytes::from).unwrap_or_default()
        }
        _ => Bytes::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_from_servers_lead_nowhere_else() {
        for (segment, name) in [("a%20b", Some("a b")), ("..", None), ("%2e%2e", None), ("a%2Fb", None), ("", None)] {
            assert_eq!(safe_name(segment), name.map(OsString::from), "{segment}");
        }
    }

    #[test]
    fn a_target_is_not_replaced_unasked_and_a_part_file_has_one_writer() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("f");
        let (place, remains) = Place::prepare(target.clone(), Existing::Refuse).unwrap();
        assert!(remains.is_none());
        assert!(matches!(Place::prepare(target.clone(), Existing::Resume), Err(PlaceError::Locked { .. })));
        fs::write(&target, "made by somebody else meanwhile").unwrap();
        assert!(matches!(place.complete(), Err(PlaceError::Exists { .. })));
        assert!(matches!(Place::prepare(target.clone(), Existing::Refuse), Err(PlaceError::Exists { .. })));
        let (_place, remains) = Place::prepare(target, Existing::Resume).unwrap();
        assert_eq!(remains.unwrap().part_length, 31, "a finished file is checked like a part file");
    }
}
