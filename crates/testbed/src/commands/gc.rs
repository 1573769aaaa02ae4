//! `testbed gc`: what is left of runs that were killed.
//!
//! On namespaces nothing but files can be left: everything else dies with the run's own process. What is removed are
//! generated inputs, which the seed in `plan.yaml` makes again; logs and disks stay. Containers end and remove themselves; what
//! is left of them after the daemon itself was killed, and images of this program, are found by their labels.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::Context;
use docker::Daemon;
use event::run_directory as names;
use nix::fcntl::{Flock, FlockArg};

use crate::cli::GcArguments;
use crate::status::Status;

pub(crate) fn gc(arguments: &GcArguments) -> anyhow::Result<Status> {
    let mut removed = 0;
    for run in runs(&arguments.out)? {
        let files = run.join(names::FILES);
        if !files.is_dir() || is_live(&run) {
            continue;
        }
        fs::remove_dir_all(&files).with_context(|| format!("cannot remove {}", files.display()))?;
        report::say(&format!("removed {}\n", files.display()));
        removed += 1;
    }
    for line in gc_docker()? {
        report::say(&line);
        removed += 1;
    }
    if removed == 0 {
        report::say(&format!("nothing to clean up in {}\n", arguments.out.display()));
    }
    Ok(Status::OK)
}

/// Removes containers of runs that are over, wherever these had their directories, and images that no container needs.
fn gc_docker() -> anyhow::Result<Vec<String>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        // Who has no daemon, or may not use it, has nothing there.
        let Ok(daemon) = Daemon::connect().await else { return Ok(Vec::new()) };
        let left = daemon.containers(None).await?;
        let left: Vec<_> = left.into_iter().filter(|container| !is_live(Path::new(&container.run))).collect();
        let ids: Vec<String> = left.iter().map(|container| container.id.clone()).collect();
        daemon.remove_all(&ids).await;
        let containers = left.iter().map(|container| format!("removed container {}\n", container.name));
        let images = docker::image::remove_own(&daemon).await?;
        Ok(containers.chain(images.into_iter().map(|name| format!("removed image {name}\n"))).collect())
    })
}

/// Every run directory below `root`, links left out.
fn runs(root: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut runs = Vec::new();
    for topology in folders(root)? {
        runs.extend(folders(&topology)?);
    }
    Ok(runs)
}

fn folders(path: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.with_context(|| format!("cannot read {}", path.display()))?,
    };
    let mut folders = Vec::new();
    for entry in entries {
        let entry = entry.with_context(|| format!("cannot read {}", path.display()))?;
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            folders.push(entry.path());
        }
    }
    folders.sort();
    Ok(folders)
}

/// A live run holds a lock on its log. Between making the folder and the log there is a moment without one: a folder
/// without a log counts as live, and where there is no folder any more there is no run. What this user may not look at is
/// somebody else's to clean up.
fn is_live(run: &Path) -> bool {
    match File::open(run.join(names::EVENTS)) {
        Ok(log) => Flock::lock(log, FlockArg::LockSharedNonblock).is_err(),
        Err(error) if error.kind() == ErrorKind::NotFound => run.try_exists().unwrap_or(true),
        Err(_) => true,
    }
}
