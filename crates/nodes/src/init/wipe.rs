//! Empties a disk that its program may have filled with anything.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, RenameFlags, ResolveFlag, open, openat2, renameat2};
use nix::sys::stat::Mode;
use nix::unistd::{UnlinkatFlags, unlinkat};
use thiserror::Error;

/// Why a disk is not empty.
#[derive(Debug, Error)]
pub(super) enum WipeError {
    #[error("{}: only an absolute path other than / is emptied", path.display())]
    NotADisk { path: PathBuf },
    #[error("cannot open {}: {}", path.display(), errno.desc())]
    Open { path: PathBuf, errno: Errno },
    #[error("cannot delete {name:?} and {others} others in {}: {}", path.display(), errno.desc())]
    Delete { path: PathBuf, name: CString, others: u64, errno: Errno },
}

/// Deletes everything in `path`, that directory excepted. Links are deleted, not followed; what is mounted in it is left
/// alone, and is an error.
///
/// Invariant: nothing outside of `path` is touched, and however deep a tree is, a few descriptors are open.
pub(super) fn wipe(path: &Path) -> Result<(), WipeError> {
    if !path.is_absolute() || path.parent().is_none() {
        return Err(WipeError::NotADisk { path: path.to_owned() });
    }
    let failed = |errno| WipeError::Open { path: path.to_owned(), errno };
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let disk =
        Disk { folder: open(path, flags, Mode::empty()).map_err(failed)?, moved: 0, failures: Failures::default() };
    disk.empty().map_err(failed)?.into_result(path)
}

struct Disk {
    folder: OwnedFd,
    /// Directories that were moved up, for their new names.
    moved: u64,
    failures: Failures,
}

#[derive(Default)]
struct Failures {
    first: Option<(CString, Errno)>,
    count: u64,
}

impl Disk {
    /// A directory that is not empty gives its subdirectories to the top and is then deleted: so the tree becomes flat
    /// instead of the walk deep.
    fn empty(mut self) -> Result<Failures, Errno> {
        loop {
            let before = self.moved;
            self.failures = Failures::default();
            for name in names(self.folder.as_fd())? {
                if let Err(errno) = self.delete(&name) {
                    self.failures.note(name, errno);
                }
            }
            if self.moved == before {
                return Ok(self.failures);
            }
        }
    }

    fn delete(&mut self, name: &CStr) -> Result<(), Errno> {
        match remove(self.folder.as_fd(), name) {
            Err(Errno::ENOTEMPTY | Errno::EEXIST) => {}
            result => return result,
        }
        let beneath = OpenHow::new()
            .flags(OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC)
            .resolve(ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_SYMLINKS | ResolveFlag::RESOLVE_NO_XDEV);
        let folder = openat2(&self.folder, name, beneath)?;
        for inner in names(folder.as_fd())? {
            match remove(folder.as_fd(), &inner) {
                Err(Errno::ENOTEMPTY | Errno::EEXIST) => self.move_up(folder.as_fd(), &inner)?,
                result => result?,
            }
        }
        remove(self.folder.as_fd(), name)
    }

    fn move_up(&mut self, folder: BorrowedFd<'_>, name: &CStr) -> Result<(), Errno> {
        loop {
            self.moved += 1;
            let new = CString::new(format!(".wipe-{}", self.moved)).expect("digits are not NUL");
            match renameat2(folder, name, &self.folder, new.as_c_str(), RenameFlags::RENAME_NOREPLACE) {
                Err(Errno::EEXIST) => {}
                result => return result,
            }
        }
    }
}

fn names(folder: BorrowedFd<'_>) -> Result<Vec<CString>, Errno> {
    // A descriptor of its own: a duplicate would go on where the last listing ended.
    let mut listing =
        Dir::openat(folder, c".", OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())?;
    let mut names = Vec::new();
    for entry in listing.iter() {
        let name = entry?.file_name().to_owned();
        if name.as_c_str() != c"." && name.as_c_str() != c".." {
            names.push(name);
        }
    }
    Ok(names)
}

/// Deletes anything but a directory with something in it.
fn remove(folder: BorrowedFd<'_>, name: &CStr) -> Result<(), Errno> {
    match unlinkat(folder, name, UnlinkatFlags::NoRemoveDir) {
        Err(Errno::EISDIR | Errno::EPERM) => unlinkat(folder, name, UnlinkatFlags::RemoveDir),
        result => result,
    }
}

impl Failures {
    fn note(&mut self, name: CString, errno: Errno) {
        self.first.get_or_insert((name, errno));
        self.count += 1;
    }

    fn into_result(self, path: &Path) -> Result<(), WipeError> {
        match self.first {
            None => Ok(()),
            Some((name, errno)) => {
                Err(WipeError::Delete { path: path.to_owned(), name, others: self.count - 1, errno })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn links_are_deleted_and_what_they_point_to_stays() {
        let folder = tempfile::tempdir().unwrap();
        let (disk, outside) = (folder.path().join("disk"), folder.path().join("outside"));
        for path in [disk.join("a/b/c"), disk.join(".wipe-1/x"), outside.clone()] {
            fs::create_dir_all(path).unwrap();
        }
        fs::write(outside.join("precious"), "1").unwrap();
        fs::write(disk.join("a/b/file"), "2").unwrap();
        symlink(&outside, disk.join("to-folder")).unwrap();
        symlink(&outside, disk.join("a/b/c/to-folder")).unwrap();
        symlink("../outside/precious", disk.join("to-file")).unwrap();
        symlink("nowhere", disk.join("dangling")).unwrap();
        wipe(&disk).unwrap();
        assert_eq!(fs::read_dir(&disk).unwrap().count(), 0);
        assert_eq!(fs::read_to_string(outside.join("precious")).unwrap(), "1");
        wipe(&disk).unwrap();
    }

    #[test]
    fn a_deep_tree_needs_few_descriptors_and_no_stack() {
        let folder = tempfile::tempdir().unwrap();
        let mut inner = open(folder.path(), OFlag::O_DIRECTORY, Mode::empty()).unwrap();
        // More levels than a process may have descriptors.
        for _ in 0..1_500 {
            nix::sys::stat::mkdirat(&inner, "deeper", Mode::S_IRWXU).unwrap();
            inner = nix::fcntl::openat(&inner, "deeper", OFlag::O_DIRECTORY, Mode::empty()).unwrap();
        }
        wipe(folder.path()).unwrap();
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_disk_is_named_by_an_absolute_path_and_is_no_link() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("file"), "1").unwrap();
        let link = folder.path().with_extension("link");
        symlink(folder.path(), &link).unwrap();
        assert!(matches!(wipe(&link), Err(WipeError::Open { errno: Errno::ENOTDIR | Errno::ELOOP, .. })));
        fs::remove_file(&link).unwrap();
        assert!(matches!(wipe(Path::new("/")), Err(WipeError::NotADisk { .. })));
        assert!(matches!(wipe(Path::new("disk")), Err(WipeError::NotADisk { .. })));
        assert!(folder.path().join("file").exists());
    }
}
