//! The run directory and its log.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use event::{Record, run_directory as names};
use nix::fcntl::{Flock, FlockArg};
use topology::Plan;

/// The folder of one run.
#[derive(Debug)]
pub struct RunDirectory {
    path: PathBuf,
}

/// Why a run directory could not be made or written.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} {path}")]
pub struct DirectoryError {
    action: &'static str,
    path: PathBuf,
    source: io::Error,
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> DirectoryError {
    let path = path.to_owned();
    move |source| DirectoryError { action, path, source }
}

impl RunDirectory {
    /// Makes `<root>/<name>/<stamp>` with a folder for each node, and points `latest` at it. Runs that begin in the
    /// same second get folders of their own.
    ///
    /// # Errors
    /// When the file system refuses.
    pub fn create(root: &Path, plan: &Plan, stamp: &str) -> Result<Self, DirectoryError> {
        let parent = root.join(plan.name());
        fs::create_dir_all(&parent).map_err(failed("create", &parent))?;
        // Programs run with the disk as working directory and get absolute paths of their files.
        let parent = parent.canonicalize().map_err(failed("find", &parent))?;
        let path = create_unused(&parent, stamp)?;
        for node in plan.nodes() {
            let disk = names::disk(&path, &node.name);
            fs::create_dir_all(&disk).map_err(failed("create", &disk))?;
        }
        let plan_file = path.join(names::PLAN);
        fs::write(&plan_file, plan.to_yaml()).map_err(failed("write", &plan_file))?;
        point_latest(&parent, &path)?;
        Ok(RunDirectory { path })
    }

    /// Where it is; absolute.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Opens the log; it stays locked while the run lives, which is how others tell a live run from a dead one.
    ///
    /// # Errors
    /// When the file system refuses.
    pub fn open_log(&self) -> Result<Log, DirectoryError> {
        let path = self.path.join(names::EVENTS);
        let file = OpenOptions::new().create(true).append(true).open(&path).map_err(failed("create", &path))?;
        let lock = Flock::lock(file.try_clone().map_err(failed("open", &path))?, FlockArg::LockExclusiveNonblock)
            .map_err(|(_, errno)| failed("lock", &path)(errno.into()))?;
        Ok(Log { writer: BufWriter::new(file), path, _lock: lock })
    }

    /// Removes the generated inputs: the seed in `plan.yaml` makes them again.
    pub fn remove_generated_files(&self) {
        let path = self.path.join(names::FILES);
        if let Err(error) = fs::remove_dir_all(&path)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(path = %path.display(), %error, "could not remove generated files");
        }
    }
}

fn create_unused(parent: &Path, stamp: &str) -> Result<PathBuf, DirectoryError> {
    for attempt in 1..=1000 {
        let name = if attempt == 1 { stamp.to_owned() } else { format!("{stamp}-{attempt}") };
        let path = parent.join(name);
        match fs::create_dir(&path) {
            Ok(()) => return Ok(path),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(failed("create", &path)(error)),
        }
    }
    Err(failed("create", &parent.join(stamp))(io::ErrorKind::AlreadyExists.into()))
}

/// Replaces the link in one step, so that a run beside this one never sees it missing.
fn point_latest(parent: &Path, run: &Path) -> Result<(), DirectoryError> {
    let link = parent.join(names::LATEST);
    let name = run.file_name().expect("a run directory has a name");
    let fresh = parent.join(format!(".latest-{}", name.to_string_lossy()));
    symlink(name, &fresh).map_err(failed("create", &fresh))?;
    fs::rename(&fresh, &link).map_err(failed("create", &link))
}

/// `events.jsonl`, open.
#[derive(Debug)]
pub struct Log {
    writer: BufWriter<File>,
    path: PathBuf,
    _lock: Flock<File>,
}

impl Log {
    /// Adds a record.
    ///
    /// # Errors
    /// When the disk does not take it.
    pub fn write(&mut self, record: &Record) -> Result<(), DirectoryError> {
        let mut line = record.to_line();
        line.push('\n');
        self.writer.write_all(line.as_bytes()).map_err(failed("write", &self.path))
    }

    /// Hands what was written to the kernel, so that it survives the death of this process.
    ///
    /// # Errors
    /// When the disk does not take it.
    pub fn flush(&mut self) -> Result<(), DirectoryError> {
        self.writer.flush().map_err(failed("write", &self.path))
    }
}
