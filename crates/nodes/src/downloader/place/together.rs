//! Many files made durable together: a sync of each takes milliseconds on a disk, longer than to fetch a small one.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::unistd::syncfs;

use super::{Named, Place, PlaceError, failed, folder, sync_folder};

/// More files than this are synced with all else of their file systems.
const MOST_SYNCED_SINGLY: usize = 8;

impl Place {
    /// As [`Place::complete`], for files that are whole and right, each with its length. After an error some of them have
    /// their names.
    pub(crate) fn complete_all(places: Vec<(Place, u64)>) -> Result<Vec<PathBuf>, PlaceError> {
        let parts: Vec<_> = places.iter().map(|(place, _)| (&*place.part_path, &*place.part)).collect();
        sync_files(&parts).map_err(|(path, error)| failed("sync", &path)(error))?;
        let named: Vec<Named> =
            places.into_iter().map(|(place, length)| place.take_name(length, false)).collect::<Result<_, _>>()?;
        // Links may lead to files in other folders.
        let folders: BTreeMap<_, _> = named.iter().map(|named| (folder(&named.target), &named.target)).collect();
        for target in folders.into_values() {
            sync_folder(target).map_err(failed("sync the folder of", target))?;
        }
        Ok(named.into_iter().map(Named::end).collect())
    }
}

/// Makes files durable: which one could not be, and why.
pub(crate) fn sync_files(files: &[(&Path, &File)]) -> Result<(), (PathBuf, io::Error)> {
    let told = |path: &Path| {
        let path = path.to_owned();
        move |error| (path, error)
    };
    if files.len() <= MOST_SYNCED_SINGLY {
        return files.iter().try_for_each(|(path, file)| file.sync_all().map_err(told(path)));
    }
    let mut systems = BTreeMap::new();
    for (path, file) in files {
        let system = file.metadata().map_err(told(path))?.dev();
        systems.entry(system).or_insert((*path, *file));
    }
    systems.into_values().try_for_each(|(path, file)| syncfs(file).map_err(|error| told(path)(error.into())))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Write as _;

    use super::super::Existing;
    use super::*;

    #[test]
    fn many_files_get_their_names_and_none_that_is_not_whole_does() {
        let folder = tempfile::tempdir().unwrap();
        let place = |index: usize, content: &[u8]| {
            let target = folder.path().join(index.to_string());
            let (place, _) = Place::prepare(&target, Existing::Refuse).unwrap();
            place.part().unwrap().write_all(content).unwrap();
            place
        };
        for count in [0, 1, MOST_SYNCED_SINGLY, 3 * MOST_SYNCED_SINGLY] {
            let indices = 100 * count..100 * count + count;
            let paths =
                Place::complete_all(indices.clone().map(|index| (place(index, b"whole"), 5)).collect()).unwrap();
            assert_eq!(paths, indices.map(|index| folder.path().join(index.to_string())).collect::<Vec<_>>());
            assert!(paths.iter().all(|path| fs::read(path).unwrap() == b"whole"));
        }
        let cut = vec![(place(1, b"whole"), 5), (place(2, b"who"), 5)];
        assert!(matches!(Place::complete_all(cut), Err(PlaceError::Changed { .. })));
        assert!(!folder.path().join("2").exists());
    }
}
