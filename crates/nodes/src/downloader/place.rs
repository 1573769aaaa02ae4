//! The target, and beside it the part file and the journal.
//!
//! * `together`: many of them finished at once.

mod together;

use std::fs::{self, File, Metadata, OpenOptions};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use fetch::{Boot, Remains, journal};
use nix::fcntl::{AT_FDCWD, Flock, FlockArg, RenameFlags, renameat2};
use nix::unistd::{Whence, lseek};

pub(crate) use self::together::sync_files;
use crate::clock;

/// What to do with what is there already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Existing {
    /// Neither the target nor the work of an earlier run is touched.
    Refuse,
    /// The target is replaced in the end, and an earlier run's work given up.
    Overwrite,
    /// The target is not touched; an earlier run's work goes on.
    Continue,
    /// The target is replaced in the end; an earlier run's work goes on.
    Replace,
    /// An earlier run's work goes on. So does a target, whoever made it: checked, kept if right, completed if not.
    Resume,
}

/// Where a download lives on the disk. Holds the lock on the part file.
#[derive(Debug)]
pub(crate) struct Place {
    target: PathBuf,
    part_path: PathBuf,
    journal_path: PathBuf,
    part: Flock<File>,
    /// Whether the target may be replaced. One that was not there at first may not.
    replaces: bool,
    /// Whether it began with nothing.
    is_fresh: bool,
}

/// Why a download cannot live there, or not be put in its place.
#[derive(Debug, thiserror::Error)]
pub enum PlaceError {
    /// The target exists.
    #[error("{} exists; --continue checks and completes it, --overwrite replaces it", path.display())]
    Exists {
        /// The target.
        path: PathBuf,
    },
    /// An earlier run left work that would be lost.
    #[error("{} is left of an earlier download, {bytes} bytes; --continue goes on with it, --overwrite begins anew",
            path.display())]
    Unfinished {
        /// The part file.
        path: PathBuf,
        /// Those that its journal records, or else its length.
        bytes: u64,
    },
    /// A folder, a device or the like is in the way.
    #[error("{} is {kind}, not a file", path.display())]
    NotAFile {
        /// What is in the way.
        path: PathBuf,
        /// What it is, with its article.
        kind: &'static str,
    },
    /// Somebody made the target while it was being fetched.
    #[error("{} was made by somebody else meanwhile; the whole file is in {}, and --continue puts it in its place",
            path.display(), part.display())]
    Appeared {
        /// The target.
        path: PathBuf,
        /// Where the file is.
        part: PathBuf,
    },
    /// Another process has the part file.
    #[error("another download writes {}", path.display())]
    Locked {
        /// The part file.
        path: PathBuf,
    },
    /// The part file is not the one that was written.
    #[error("somebody else put another file at {}; nothing was put in the place of the download", path.display())]
    Replaced {
        /// The part file.
        path: PathBuf,
    },
    /// The part file does not hold what was written to it.
    #[error("somebody else changed {} while it was written; --continue finds out what of it is right", path.display())]
    Changed {
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
    pub(crate) fn prepare(target: &Path, existing: Existing) -> Result<(Self, Option<Remains>), PlaceError> {
        let (target, finished) = look(target)?;
        if finished && matches!(existing, Existing::Refuse | Existing::Continue) {
            return Err(PlaceError::Exists { path: target });
        }
        let (part_path, journal_path) = (beside(&target, ".part"), beside(&target, ".journal"));
        let part = lock(&part_path)?;
        let mut part_length = part.metadata().map_err(failed("look at", &part_path))?.len();
        let mut remains = None;
        match existing {
            Existing::Refuse => {
                let recorded = recorded(&journal_path).min(part_length);
                // A journal without records may be one whose pieces were being looked at again.
                let bytes = if recorded == 0 && has_data(&part) { part_length } else { recorded };
                if bytes > 0 {
                    return Err(PlaceError::Unfinished { path: part_path, bytes });
                }
            }
            Existing::Overwrite => {}
            Existing::Resume | Existing::Continue | Existing::Replace => {
                if finished && part_length == 0 && existing == Existing::Resume {
                    // Checked as if it were a part file without a journal. A copy, so that it stays until it is right.
                    part_length = copy(&File::open(&target).map_err(failed("open", &target))?, &part)
                        .map_err(failed("copy", &target))?;
                }
                if part_length > 0 {
                    remains = Some(Remains { journal: read_journal(&journal_path), part_length });
                }
            }
        }
        let replaces = finished;
        let is_fresh = remains.is_none();
        Ok((Place { target, part_path, journal_path, part, replaces, is_fresh }, remains))
    }

    /// Another handle on the part file.
    pub(crate) fn part(&self) -> io::Result<File> {
        self.part.try_clone()
    }

    /// Where the whole file will be.
    pub(crate) fn target(&self) -> &Path {
        &self.target
    }

    pub(crate) fn part_path(&self) -> &Path {
        &self.part_path
    }

    pub(crate) fn journal_path(&self) -> &Path {
        &self.journal_path
    }

    /// The part file is whole and right, `length` bytes: makes it the target, durably, in one step. If all of it
    /// `was_written` here, on space that was reserved, then no hole may be in it.
    pub(crate) fn complete(self, length: u64, was_written: bool) -> Result<PathBuf, PlaceError> {
        self.part.sync_all().map_err(failed("sync", &self.part_path))?;
        let named = self.take_name(length, was_written)?;
        sync_folder(&named.target).map_err(failed("sync the folder of", &named.target))?;
        Ok(named.end())
    }

    /// Gives the part file, which is synced, its final name; that is not durable yet.
    fn take_name(self, length: u64, was_written: bool) -> Result<Named, PlaceError> {
        let written = self.part.metadata().map_err(failed("look at", &self.part_path))?;
        if written.len() != length || was_written && has_hole(&self.part, length) {
            return Err(self.changed());
        }
        self.ensure_its_name(&written)?;
        self.rename()?;
        Ok(Named { target: self.target, journal_path: self.journal_path })
    }

    /// Somebody else changed the part file. Its journal is not to be believed any more.
    pub(crate) fn changed(self) -> PlaceError {
        let _ = fs::remove_file(&self.journal_path);
        PlaceError::Changed { path: self.part_path }
    }

    /// The name must still lead to what was written, or another file would be put in the target's place. A name that was
    /// removed is made again: what it led to is still in hand.
    fn ensure_its_name(&self, written: &Metadata) -> Result<(), PlaceError> {
        let path = &self.part_path;
        match fs::symlink_metadata(path) {
            Ok(found) if (found.dev(), found.ino()) == (written.dev(), written.ino()) => Ok(()),
            Ok(_) => Err(PlaceError::Replaced { path: path.clone() }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                tracing::warn!("{} was removed; what it held is written again", path.display());
                let again = OpenOptions::new().write(true).create_new(true).open(path);
                let again = again.map_err(failed("create", path))?;
                copy(&self.part, &again).and_then(|_| again.sync_all()).map_err(failed("write", path))
            }
            Err(error) => Err(failed("look at", path)(error)),
        }
    }

    fn rename(&self) -> Result<(), PlaceError> {
        let make = failed("make", &self.target);
        if !self.replaces {
            let unless_it_exists = RenameFlags::RENAME_NOREPLACE;
            let appeared = || PlaceError::Appeared { path: self.target.clone(), part: self.part_path.clone() };
            match renameat2(AT_FDCWD, &self.part_path, AT_FDCWD, &self.target, unless_it_exists) {
                Ok(()) => return Ok(()),
                Err(nix::Error::EEXIST) => return Err(appeared()),
                // A file system that does not know the flag.
                Err(nix::Error::EINVAL | nix::Error::ENOSYS) if self.target.symlink_metadata().is_ok() => {
                    return Err(appeared());
                }
                Err(nix::Error::EINVAL | nix::Error::ENOSYS) => {}
                Err(error) => return Err(make(error.into())),
            }
        }
        fs::rename(&self.part_path, &self.target).map_err(make)
    }

    /// What was fetched is known to be wrong.
    pub(crate) fn discard(self) {
        for path in [&self.part_path, &self.journal_path] {
            if let Err(error) = fs::remove_file(path) {
                tracing::debug!(%error, "cannot remove {}", path.display());
            }
        }
    }

    /// Leaves nothing behind if nothing is lost with it: what was written may be of use even before it is recorded, where
    /// there are hashes. Returns how many bytes are recorded.
    pub(crate) fn leave(self, has_written: bool) -> u64 {
        let recorded = recorded(&self.journal_path);
        if recorded == 0 && !has_written && self.is_fresh {
            self.discard();
        }
        recorded
    }
}

/// A file under its final name, whose journal is still there.
struct Named {
    target: PathBuf,
    journal_path: PathBuf,
}

impl Named {
    /// The name is durable: nobody needs the journal any more.
    fn end(self) -> PathBuf {
        // Left behind, it would speak of a part file that is gone; nobody would be harmed.
        let _ = fs::remove_file(&self.journal_path);
        self.target
    }
}

/// The target behind symbolic links, and whether it is there.
pub(crate) fn look(target: &Path) -> Result<(PathBuf, bool), PlaceError> {
    let not_a_file = |kind| PlaceError::NotAFile { path: target.to_owned(), kind };
    let Ok(named) = target.symlink_metadata() else {
        // `folder/` and `..` name no file to make.
        let ends_in_folder = target.as_os_str().as_encoded_bytes().ends_with(b"/") || target.file_name().is_none();
        return if ends_in_folder {
            Err(not_a_file("a folder that does not exist"))
        } else {
            Ok((target.to_owned(), false))
        };
    };
    let target = match fs::canonicalize(target) {
        Ok(real) if named.is_symlink() => real,
        Err(_) if named.is_symlink() => return Err(not_a_file("a symbolic link to nothing")),
        _ => target.to_owned(),
    };
    let found = fs::metadata(&target).map_err(failed("look at", &target))?;
    kind_of(&found).map_or(Ok((target.clone(), true)), |kind| Err(PlaceError::NotAFile { path: target, kind }))
}

/// What something is that is no file, with its article.
fn kind_of(metadata: &Metadata) -> Option<&'static str> {
    let kind = metadata.file_type();
    match () {
        () if kind.is_file() => None,
        () if kind.is_dir() => Some("a folder"),
        () if kind.is_fifo() => Some("a pipe"),
        () if kind.is_socket() => Some("a socket"),
        () => Some("a device"),
    }
}

/// Opens the part file and locks it. Another download may give it its final name in between: then this is not it any more.
fn lock(path: &Path) -> Result<Flock<File>, PlaceError> {
    loop {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        // Nobody may lead the download elsewhere, nor make it wait for the other end of a pipe.
        options.custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK);
        let part = options.open(path).map_err(failed("create", path))?;
        let opened = part.metadata().map_err(failed("look at", path))?;
        if let Some(kind) = kind_of(&opened) {
            return Err(PlaceError::NotAFile { path: path.to_owned(), kind });
        }
        let part = Flock::lock(part, FlockArg::LockExclusiveNonblock).map_err(|(_, error)| match error {
            nix::Error::EWOULDBLOCK => PlaceError::Locked { path: path.to_owned() },
            error => failed("lock", path)(error.into()),
        })?;
        if fs::symlink_metadata(path).is_ok_and(|now| (now.dev(), now.ino()) == (opened.dev(), opened.ino())) {
            return Ok(part);
        }
    }
}

/// The bytes that a journal records.
fn recorded(journal: &Path) -> u64 {
    let Ok(replay) = journal::replay(&read_journal(journal)) else { return 0 };
    let pieces = replay.header.pieces;
    pieces.iter().filter(|piece| replay.recorded.contains(*piece)).map(|piece| pieces.range(piece).len()).sum()
}

/// Whether anything was ever written to a file, as far as its file system can tell; space that is only reserved is not.
fn has_data(file: &File) -> bool {
    let is_empty = file.metadata().is_ok_and(|metadata| metadata.len() == 0);
    !is_empty && lseek(file, 0, Whence::SeekData) != Err(nix::Error::ENXIO)
}

/// Whether something was never written, or cut off again, as far as the file system can tell.
fn has_hole(file: &File, length: u64) -> bool {
    lseek(file, 0, Whence::SeekHole).is_ok_and(|at| u64::try_from(at).is_ok_and(|at| at < length))
}

fn copy(mut from: &File, mut to: &File) -> io::Result<u64> {
    io::Seek::rewind(&mut from)?;
    io::copy(&mut from, &mut to)
}

pub(crate) fn beside(target: &Path, suffix: &str) -> PathBuf {
    let mut name = target.to_owned().into_os_string();
    name.push(suffix);
    PathBuf::from(name)
}

fn failed(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> PlaceError + use<> {
    let path = path.to_owned();
    move |source| PlaceError::Io { doing, path, source }
}

/// The folder in which a file is, or would be.
pub(crate) fn folder(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Makes a rename in the folder of `path` durable.
pub(crate) fn sync_folder(path: &Path) -> io::Result<()> {
    let folder = folder(path);
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

/// What there is of a journal; nothing if it cannot be read, which costs a rehash.
pub(crate) fn read_journal(path: &Path) -> Bytes {
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
    fn a_target_is_not_replaced_unasked_and_a_part_file_has_one_writer() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("f");
        let (place, remains) = Place::prepare(&target, Existing::Refuse).unwrap();
        assert!(remains.is_none());
        assert!(matches!(Place::prepare(&target, Existing::Resume), Err(PlaceError::Locked { .. })));
        fs::write(&target, "made by somebody else meanwhile").unwrap();
        assert!(matches!(place.complete(0, false), Err(PlaceError::Appeared { .. })));
        assert!(matches!(Place::prepare(&target, Existing::Refuse), Err(PlaceError::Exists { .. })));
        let (_place, remains) = Place::prepare(&target, Existing::Resume).unwrap();
        assert_eq!(remains.unwrap().part_length, 31, "a finished file is checked like a part file");
    }

    #[test]
    fn what_an_earlier_run_left_is_not_lost_unasked() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("f");
        fs::write(folder.path().join("f.part"), "20 GiB").unwrap();
        let refused = Place::prepare(&target, Existing::Refuse).unwrap_err().to_string();
        assert!(refused.contains("f.part is left of an earlier download, 6 bytes; --continue"), "{refused}");
        assert!(Place::prepare(&target, Existing::Resume).unwrap().1.is_some());
        assert!(Place::prepare(&target, Existing::Overwrite).unwrap().1.is_none());
    }

    #[test]
    fn what_is_no_file_is_never_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        nix::unistd::mkfifo(&at("pipe"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        nix::unistd::mkfifo(&at("f.part"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        std::os::unix::fs::symlink("nowhere", at("link")).unwrap();
        std::os::unix::fs::symlink(at("elsewhere"), at("g.part")).unwrap();
        for (target, kind) in [
            (PathBuf::from("/dev/null"), "a device"),
            (at("pipe"), "a pipe"),
            (at("f"), "a pipe"),
            (at("link"), "a symbolic link to nothing"),
            (folder.path().to_owned(), "a folder"),
            (at("new/"), "a folder that does not exist"),
        ] {
            let error = Place::prepare(&target, Existing::Overwrite).unwrap_err();
            assert!(matches!(error, PlaceError::NotAFile { kind: found, .. } if found == kind), "{error}");
        }
        assert!(
            matches!(Place::prepare(&at("g"), Existing::Overwrite), Err(PlaceError::Io { .. })),
            "a part file led away"
        );
    }

    #[test]
    fn a_link_to_a_file_stays_a_link() {
        let folder = tempfile::tempdir().unwrap();
        let (real, link) = (folder.path().join("real"), folder.path().join("link"));
        fs::write(&real, "old").unwrap();
        std::os::unix::fs::symlink(&real, &link).unwrap();
        let (place, _) = Place::prepare(&link, Existing::Overwrite).unwrap();
        io::Write::write_all(&mut place.part().unwrap(), b"new!").unwrap();
        place.complete(4, false).unwrap();
        assert!(link.is_symlink());
        assert_eq!(fs::read(real).unwrap(), b"new!");
    }

    #[test]
    fn only_what_was_written_gets_the_name() {
        let folder = tempfile::tempdir().unwrap();
        let (target, part) = (folder.path().join("f"), folder.path().join("f.part"));
        let written = |bytes: &[u8]| {
            let (place, _) = Place::prepare(&target, Existing::Overwrite).unwrap();
            io::Write::write_all(&mut place.part().unwrap(), bytes).unwrap();
            place
        };
        let place = written(b"whole");
        fs::remove_file(&part).unwrap();
        fs::write(&part, "other").unwrap();
        assert!(matches!(place.complete(5, false), Err(PlaceError::Replaced { .. })));
        fs::remove_file(&part).unwrap();

        let place = written(b"whole");
        place.part().unwrap().set_len(3).unwrap();
        assert!(matches!(place.complete(5, false), Err(PlaceError::Changed { .. })));
        assert!(!target.exists());
        fs::remove_file(&part).unwrap();

        let place = written(b"whole");
        fs::remove_file(&part).unwrap();
        place.complete(5, false).unwrap();
        assert_eq!(fs::read(&target).unwrap(), b"whole", "a name that was removed is made again");
    }
}
