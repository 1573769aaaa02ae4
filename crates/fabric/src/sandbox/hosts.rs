//! A private `/etc/hosts`: seen by everything that is started in the sandbox afterwards, by nothing outside.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};

use super::Sandbox;
use crate::namespace;

/// Why the nodes' names cannot be resolved.
#[derive(Debug, thiserror::Error)]
pub enum HostsError {
    /// A mount failed.
    #[error("mount over {}: {errno}", path.display())]
    Mount {
        /// Over this.
        path: PathBuf,
        /// The kernel's answer.
        errno: Errno,
    },
    /// The text could not be stored in memory.
    #[error("write the private {}", path.display())]
    Write {
        /// Where.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

const ETC: &str = "/etc";
const HOSTS: &str = "/etc/hosts";

impl Sandbox {
    /// Makes `content` the `/etc/hosts` of the processes that are started from now on. Works where the machine has none
    /// and where it is a symbolic link, and writes nothing to the machine's files.
    pub fn hosts(&self, content: &str) -> Result<(), HostsError> {
        if !Path::new(HOSTS).exists() {
            shadow_etc()?;
        }
        // The text lives in a file system in memory that has a name only while its file is bound into place: over a
        // folder that nobody in this mount namespace looks into at that moment.
        let stage = ["/sys", "/mnt", "/tmp"].map(Path::new).into_iter().find(|stage| stage.is_dir());
        let stage = stage.unwrap_or(Path::new("/"));
        mount_tmpfs(stage)?;
        let file = stage.join("hosts");
        let bound = fs::write(&file, content)
            .map_err(|source| HostsError::Write { path: HOSTS.into(), source })
            .and_then(|()| bind(&file, Path::new(HOSTS)))
            // All nodes share it, and the file is their user's own.
            .and_then(|()| {
                let failed = |errno| HostsError::Mount { path: HOSTS.into(), errno };
                namespace::make_read_only(HOSTS, false).map_err(failed)
            });
        // The bound file keeps the file system alive.
        let unstaged =
            umount2(stage, MntFlags::MNT_DETACH).map_err(|errno| HostsError::Mount { path: stage.to_owned(), errno });
        bound.and(unstaged)
    }
}

/// Makes a file the `/etc/hosts` of the calling process's mount namespace, which has one. Nobody can write to it there.
pub fn bind_hosts(file: &Path) -> io::Result<()> {
    bind(file, Path::new(HOSTS)).map_err(|error| match error {
        HostsError::Mount { errno, .. } => io::Error::from(errno),
        HostsError::Write { source, .. } => source,
    })?;
    namespace::make_read_only(HOSTS, false).map_err(io::Error::from)
}

/// Puts a folder in memory over `/etc` that shows all the same entries, and an empty `hosts`.
fn shadow_etc() -> Result<(), HostsError> {
    let write = |path: &Path| {
        let path = path.to_owned();
        move |source| HostsError::Write { path, source }
    };
    let etc = Path::new(ETC);
    let original = File::open(etc).map_err(write(etc))?;
    let names: Vec<OsString> =
        fs::read_dir(etc).map_err(write(etc))?.filter_map(|entry| Some(entry.ok()?.file_name())).collect();
    mount_tmpfs(etc)?;
    let kept = etc.join(".outer");
    fs::create_dir(&kept).map_err(write(&kept))?;
    bind(Path::new(&format!("/proc/self/fd/{}", original.as_raw_fd())), &kept)?;
    for name in names.iter().filter(|name| *name != "hosts" && *name != ".outer") {
        let entry = etc.join(name);
        symlink(Path::new(".outer").join(name), &entry).map_err(write(&entry))?;
    }
    File::create(HOSTS).and_then(|mut file| file.write_all(b"")).map_err(write(Path::new(HOSTS)))
}

fn mount_tmpfs(over: &Path) -> Result<(), HostsError> {
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    mount(Some("tmpfs"), over, Some("tmpfs"), flags, Some("mode=755"))
        .map_err(|errno| HostsError::Mount { path: over.to_owned(), errno })
}

fn bind(from: &Path, over: &Path) -> Result<(), HostsError> {
    mount(Some(from), over, None::<&str>, MsFlags::MS_BIND | MsFlags::MS_REC, None::<&str>)
        .map_err(|errno| HostsError::Mount { path: over.to_owned(), errno })
}
