//! The files that nodes share, and whether an output equals one.

use std::fs::{self, File};
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use event::run_directory as names;
use machine::{Seed, Size};
use rand::Rng;
use scenario::FileFinding;
use topology::Plan;
use topology::plan::{FileId, FileSource};

const BLOCK: usize = 1 << 20;
/// The kernel copies by itself, and looks for no flag of ours meanwhile.
const COPIED_AT_ONCE: u64 = 16 << 20;

/// Where the plan's files are on this machine.
#[derive(Clone, Debug)]
pub struct SharedFiles {
    paths: Vec<PathBuf>,
}

/// Why a file that nodes share is not to be had.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The file system refused.
    #[error("file `{name}`: cannot {action} {path}")]
    Refused {
        /// The file's name in the topology.
        name: String,
        /// What was tried.
        action: &'static str,
        /// On which path.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Somebody asked the run to stop.
    #[error("{signal} came while files were being made")]
    Interrupted {
        /// How.
        signal: &'static str,
    },
}

impl SharedFiles {
    /// Whether every file that the user names can be read: to be asked before anything is created.
    ///
    /// # Errors
    /// For the first that cannot.
    pub fn check(plan: &Plan) -> Result<(), FileError> {
        for file in plan.files() {
            if let FileSource::Existing(path) = &file.source {
                let readable = File::open(path).and_then(|opened| opened.metadata()).and_then(|metadata| {
                    if metadata.is_file() { Ok(()) } else { Err(io::ErrorKind::IsADirectory.into()) }
                });
                let failed =
                    |source| FileError::Refused { name: file.name.clone(), action: "read", path: path.clone(), source };
                readable.map_err(failed)?;
            }
        }
        Ok(())
    }

    /// Generates what is to be generated into the run directory, and puts into each node's disk what the plan says.
    ///
    /// # Errors
    /// When a file cannot be read, or there is no space; and soon after `stop` was set.
    pub fn prepare(plan: &Plan, run: &Path, stop: &AtomicBool) -> Result<Self, FileError> {
        let mut paths = Vec::new();
        for file in plan.files() {
            let failed = |action: &'static str, path: &Path| {
                let (name, path) = (file.name.clone(), path.to_owned());
                move |source| FileError::Refused { name, action, path, source }
            };
            paths.push(match &file.source {
                FileSource::Generated { size, seed } => {
                    let folder = run.join(names::FILES);
                    let path = folder.join(&file.name);
                    let written = fs::create_dir_all(&folder).and_then(|()| generate(&path, *size, *seed, stop));
                    written.map_err(failed("write", &path))?;
                    path
                }
                FileSource::Existing(path) => path.canonicalize().map_err(failed("read", path))?,
            });
        }
        let files = SharedFiles { paths };
        for node in plan.nodes() {
            for (name, file) in &node.files {
                let target = names::disk(run, &node.name).join(name);
                let copied = target.parent().map_or(Ok(()), fs::create_dir_all);
                let copied = copied.and_then(|()| copy(files.path(*file), &target, stop));
                let name = plan.file(*file).name.clone();
                copied.map_err(|source| FileError::Refused {
                    name,
                    action: "copy to",
                    path: target.clone(),
                    source,
                })?;
            }
        }
        Ok(files)
    }

    /// Where all of them are; absolute.
    pub fn paths(&self) -> &[PathBuf] {
        &self.paths
    }

    /// Where a file is; absolute.
    pub fn path(&self, file: FileId) -> &Path {
        &self.paths[file.index()]
    }
}

/// Writes the file that a topology with this seed would have for `name` under `files: {name: {size}}`, unless one of that
/// size is at `path`.
///
/// # Errors
/// When it cannot be written.
pub fn make(path: &Path, name: &str, size: Size, seed: Seed) -> io::Result<()> {
    if fs::metadata(path).is_ok_and(|found| found.is_file() && found.len() == size.as_bytes()) {
        return Ok(());
    }
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    // Several containers may share a folder, and each finds a whole file or none. All of them may be process 1.
    let host = nix::unistd::gethostname().unwrap_or_default();
    let under_way = path.with_extension(format!("{}.{}.part", host.to_string_lossy(), std::process::id()));
    let made = generate(&under_way, size, topology::plan::file_seed(seed, name), &AtomicBool::new(false));
    let placed = made.and_then(|()| fs::rename(&under_way, path));
    if placed.is_err() {
        let _ = fs::remove_file(&under_way);
    }
    placed
}

fn proceed(stop: &AtomicBool) -> io::Result<()> {
    if stop.load(Ordering::Relaxed) { Err(io::ErrorKind::Interrupted.into()) } else { Ok(()) }
}

/// As `fs::copy`, in pieces.
fn copy(from: &Path, to: &Path, stop: &AtomicBool) -> io::Result<()> {
    let source = File::open(from)?;
    let mut target = File::create(to)?;
    target.set_permissions(source.metadata()?.permissions())?;
    loop {
        proceed(stop)?;
        if io::copy(&mut (&source).take(COPIED_AT_ONCE), &mut target)? == 0 {
            return Ok(());
        }
    }
}

/// Writes the first `size` bytes of the seed's stream.
fn generate(path: &Path, size: Size, seed: Seed, stop: &AtomicBool) -> io::Result<()> {
    let mut stream = seed.stream();
    let mut file = BufWriter::with_capacity(BLOCK, File::create_new(path)?);
    let mut block = vec![0; BLOCK];
    let mut left = size.as_bytes();
    while left > 0 {
        proceed(stop)?;
        // Whole blocks are drawn, so a shorter file is a beginning of a longer one with the same seed.
        stream.fill_bytes(&mut block);
        let length = usize::try_from(left).unwrap_or(BLOCK).min(BLOCK);
        file.write_all(&block[..length])?;
        left -= length as u64;
    }
    file.flush()
}

/// Compares two files byte by byte.
pub fn compare(found: &Path, expected: &Path) -> FileFinding {
    compared(found, expected).unwrap_or_else(|error| FileFinding::Unreadable { why: error.to_string() })
}

fn compared(found: &Path, expected: &Path) -> io::Result<FileFinding> {
    // The output was made by a program under test: a fifo or a device there must not hang the run.
    if !fs::symlink_metadata(found)?.is_file() {
        return Ok(FileFinding::Unreadable { why: "not a regular file".to_owned() });
    }
    let (found, expected) = (File::open(found)?, File::open(expected)?);
    let lengths = (found.metadata()?.len(), expected.metadata()?.len());
    if lengths.0 != lengths.1 {
        return Ok(FileFinding::Length { found: lengths.0, expected: lengths.1 });
    }
    let (mut found, mut expected) = (BufReader::new(found), BufReader::new(expected));
    let (mut left, mut right) = (vec![0; BLOCK], vec![0; BLOCK]);
    let mut at = 0;
    while at < lengths.0 {
        let length = usize::try_from(lengths.0 - at).unwrap_or(BLOCK).min(BLOCK);
        found.read_exact(&mut left[..length])?;
        expected.read_exact(&mut right[..length])?;
        if let Some(difference) = left[..length].iter().zip(&right[..length]).position(|(a, b)| a != b) {
            return Ok(FileFinding::Differs { at: at + difference as u64 });
        }
        at += length as u64;
    }
    Ok(FileFinding::Identical { bytes: lengths.0 })
}

#[cfg(test)]
mod tests {
    use super::*;

    static GO: AtomicBool = AtomicBool::new(false);

    #[test]
    fn a_difference_is_found_where_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let (left, right) = (folder.path().join("left"), folder.path().join("right"));
        let size = BLOCK as u64 + 5;
        generate(&left, Size::from_bytes(size), Seed::new(3), &GO).unwrap();
        generate(&right, Size::from_bytes(size), Seed::new(3), &GO).unwrap();
        assert_eq!(compare(&left, &right), FileFinding::Identical { bytes: size });

        let mut bytes = fs::read(&right).unwrap();
        bytes[BLOCK + 2] ^= 1;
        fs::write(&right, &bytes).unwrap();
        assert_eq!(compare(&left, &right), FileFinding::Differs { at: BLOCK as u64 + 2 });

        bytes.pop();
        fs::write(&right, &bytes).unwrap();
        assert_eq!(compare(&left, &right), FileFinding::Length { found: size, expected: size - 1 });
        assert!(matches!(compare(&folder.path().join("absent"), &right), FileFinding::Unreadable { .. }));
    }

    #[test]
    fn a_fifo_in_place_of_the_output_does_not_hang_the_run() {
        let folder = tempfile::tempdir().unwrap();
        let (fifo, right) = (folder.path().join("fifo"), folder.path().join("right"));
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
        fs::write(&right, b"x").unwrap();
        assert!(matches!(compare(&fifo, &right), FileFinding::Unreadable { .. }));
    }

    #[test]
    fn whoever_asks_to_stop_does_not_wait_for_the_whole_file() {
        let folder = tempfile::tempdir().unwrap();
        let (made, copied) = (folder.path().join("made"), folder.path().join("copied"));
        let stop = AtomicBool::new(true);
        let endless = Size::from_bytes(u64::MAX);
        let stopped = generate(&made, endless, Seed::new(1), &stop).unwrap_err();
        assert_eq!(stopped.kind(), io::ErrorKind::Interrupted);
        assert_eq!(copy(Path::new("/dev/zero"), &copied, &stop).unwrap_err().kind(), io::ErrorKind::Interrupted);
    }

    #[test]
    fn a_copy_is_the_same_to_the_last_byte() {
        let folder = tempfile::tempdir().unwrap();
        let (made, copied) = (folder.path().join("made"), folder.path().join("copied"));
        let size = COPIED_AT_ONCE + 7;
        generate(&made, Size::from_bytes(size), Seed::new(1), &GO).unwrap();
        copy(&made, &copied, &GO).unwrap();
        assert_eq!(compare(&copied, &made), FileFinding::Identical { bytes: size });
    }

    #[test]
    fn a_shorter_generated_file_is_a_beginning_of_a_longer_one() {
        let folder = tempfile::tempdir().unwrap();
        let (short, long) = (folder.path().join("short"), folder.path().join("long"));
        generate(&short, Size::from_bytes(1000), Seed::new(1), &GO).unwrap();
        generate(&long, Size::from_bytes(2_000_000), Seed::new(1), &GO).unwrap();
        assert_eq!(fs::read(&short).unwrap(), fs::read(&long).unwrap()[..1000]);
    }
}
