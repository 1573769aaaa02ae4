//! Where the files of a session go: FILE, or a folder, where each gets the name that the sender says, made harmless.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use p2mp::fast::{Manifest, MemberId};

use super::journal;
use crate::downloader::name::safe;
use crate::downloader::place::{beside, read_journal};

/// So many files of a folder are looked at for unfinished work.
const MOST_LOOKED_AT: usize = 1000;

/// Why the files of a session cannot be put there.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum TargetError {
    /// Several files, one name.
    #[error("the sender has {count} files, and {} is not a folder", path.display())]
    Several {
        /// How many it has.
        count: usize,
        /// What the user named.
        path: PathBuf,
    },
    /// Nothing is left of a name once it is harmless.
    #[error("the sender calls a file `{name}`, which is no name")]
    Name {
        /// What it is called.
        name: String,
    },
    /// Names that differ only in what is left out.
    #[error("two of the sender's files would be {}", path.display())]
    Twice {
        /// Where both would be.
        path: PathBuf,
    },
}

/// The path of each file of the manifest.
pub(super) fn paths(target: &Path, manifest: &Manifest) -> Result<Vec<PathBuf>, TargetError> {
    let files = manifest.files();
    if !target.is_dir() {
        return match files {
            [_] => Ok(vec![target.to_owned()]),
            _ => Err(TargetError::Several { count: files.len(), path: target.to_owned() }),
        };
    }
    let mut taken = BTreeSet::new();
    let path = |name: &str| {
        let name = safe(name).ok_or_else(|| TargetError::Name { name: name.escape_debug().to_string() })?;
        let path = target.join(&name);
        // Upper and lower case are the same to some file systems.
        if taken.insert(name.to_lowercase()) { Ok(path) } else { Err(TargetError::Twice { path }) }
    };
    files.iter().map(|file| &file.name[..]).map(path).collect()
}

/// Who this receiver was when it left unfinished work at `target`.
pub(super) fn earlier_member(target: &Path) -> Option<MemberId> {
    if !target.is_dir() {
        return journal::member(&read_journal(&beside(target, ".journal")));
    }
    let found = fs::read_dir(target).ok()?.take(MOST_LOOKED_AT).flatten().map(|entry| entry.path());
    let mut journals: Vec<_> = found.filter(|path| path.extension().is_some_and(|end| end == "journal")).collect();
    journals.sort_unstable();
    journals.iter().find_map(|path| journal::member(&read_journal(path)))
}

#[cfg(test)]
mod tests {
    use p2mp::fast::FileEntry;

    use super::*;

    fn manifest(names: &[&str]) -> Manifest {
        Manifest::new(names.iter().map(|name| FileEntry::new(name, 1)).collect()).unwrap()
    }

    #[test]
    fn a_folder_holds_what_a_sender_names_and_nothing_lies_elsewhere() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let found = paths(folder.path(), &manifest(&["a", "-rf", "x.part", "ü b"]));
        assert_eq!(found, Ok(vec![at("a"), at("_rf"), at("x.part_"), at("ü b")]));
        assert_eq!(paths(folder.path(), &manifest(&["-a", "_a"])), Err(TargetError::Twice { path: at("_a") }));
        assert_eq!(paths(folder.path(), &manifest(&["A", "a"])), Err(TargetError::Twice { path: at("a") }));
        assert_eq!(
            paths(folder.path(), &manifest(&["\u{202e}"])).unwrap_err().to_string(),
            "the sender calls a file `\\u{202e}`, which is no name"
        );
        assert_eq!(paths(&at("f"), &manifest(&["a"])), Ok(vec![at("f")]));
        assert_eq!(paths(&at("f"), &manifest(&["a", "b"])), Err(TargetError::Several { count: 2, path: at("f") }));
    }
}
