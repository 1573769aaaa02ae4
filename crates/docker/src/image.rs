//! Images: this executable as one, and those that others made.
//!
//! The image of this executable is named after its content, so that it is made once for each build of it. It holds the
//! executable and, where that is not static, the libraries that it runs with; there is no file system below.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use bollard::Docker;
use bollard::errors::Error;
use bollard::query_parameters::{CreateImageOptionsBuilder, ListImagesOptionsBuilder, RemoveImageOptionsBuilder};
use bytes::Bytes;
use futures_util::StreamExt;

use crate::LABEL_IMAGE;
use crate::daemon::{Daemon, DockerError, refused};

/// Where the executable is in its own image, and where it goes in others.
pub const EXECUTABLE: &str = "/.testbed/testbed";

/// The folder of its libraries in images that are not its own.
const LIBRARIES: &str = "/.testbed/lib";

const REPOSITORY: &str = "testbed-node";

/// This executable, as it is brought into containers.
#[derive(Clone, Debug)]
pub struct Executable {
    path: PathBuf,
    /// The dynamic loader that it asks for; absent where it is static.
    loader: Option<PathBuf>,
    /// What it runs with beside that.
    libraries: Vec<PathBuf>,
}

/// An image that somebody else made, as far as it matters.
#[derive(Clone, Debug, Default)]
pub struct ForeignImage {
    /// The environment that its programs expect.
    pub env: BTreeMap<String, String>,
}

impl Executable {
    /// The one that runs.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn of_this_process() -> Result<Executable, DockerError> {
        let own = PathBuf::from("/proc/self/exe");
        let path = fs::read_link(&own).unwrap_or_else(|_| own.clone());
        let failed = |source| DockerError::Executable { path: path.clone(), source };
        let loader = interpreter(&own).map_err(failed)?;
        let libraries = if loader.is_some() { mapped_libraries().map_err(failed)? } else { Vec::new() };
        Ok(Executable { path, loader, libraries })
    }

    /// Files of this machine and where they go in an image that is not its own.
    pub fn mounts(&self) -> Vec<(PathBuf, PathBuf)> {
        let place = |path: &Path| {
            let name = path.file_name().unwrap_or_default();
            (path.to_owned(), Path::new(LIBRARIES).join(name))
        };
        let own = (self.path.clone(), PathBuf::from(EXECUTABLE));
        [own].into_iter().chain(self.loader.iter().chain(&self.libraries).map(|path| place(path))).collect()
    }

    /// How it is started there: with its own loader, as the image's may be another or none.
    pub fn command_in_foreign_image(&self) -> Vec<String> {
        let loader = self.loader.as_deref().and_then(Path::file_name).map(|name| name.to_string_lossy());
        let loader = loader.map(|name| vec![format!("{LIBRARIES}/{name}"), "--library-path".into(), LIBRARIES.into()]);
        loader.unwrap_or_default().into_iter().chain([EXECUTABLE.to_owned()]).collect()
    }

    /// A file system with nothing but it, and its name, which says what is in it.
    fn pack(&self) -> io::Result<(String, Vec<u8>)> {
        let mut archive = tar::Builder::new(Vec::new());
        for folder in [".testbed", "tmp", "etc", "proc", "sys", "dev"] {
            let mode = if folder == "tmp" { 0o1777 } else { 0o755 };
            append(&mut archive, Path::new(folder), tar::EntryType::Directory, mode, &[])?;
        }
        append(&mut archive, Path::new("etc/nsswitch.conf"), tar::EntryType::Regular, 0o644, b"hosts: files dns\n")?;
        let files = [(PathBuf::from("/proc/self/exe"), PathBuf::from(EXECUTABLE))].into_iter();
        let here = |path: &PathBuf| (path.clone(), path.clone());
        for (from, to) in files.chain(self.loader.iter().chain(&self.libraries).map(here)) {
            let to = to.strip_prefix("/").unwrap_or(&to).to_owned();
            append(&mut archive, &to, tar::EntryType::Regular, 0o755, &fs::read(from)?)?;
        }
        let packed = archive.into_inner()?;
        let name = blake3::hash(&packed).to_hex();
        Ok((format!("{REPOSITORY}:{}", &name[..16]), packed))
    }
}

fn append(
    archive: &mut tar::Builder<Vec<u8>>,
    path: &Path,
    kind: tar::EntryType,
    mode: u32,
    content: &[u8],
) -> io::Result<()> {
    // No times and no owners: the same program makes the same image.
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(content.len() as u64);
    archive.append_data(&mut header, path, content)
}

/// The name of the image of `executable`, which is there afterwards. Older ones, of other builds, are removed where no
/// container needs them.
///
/// # Errors
/// When the daemon refuses it.
pub async fn provide_own(daemon: &Daemon, executable: &Executable) -> Result<String, DockerError> {
    let failed = |source| DockerError::Executable { path: executable.path.clone(), source };
    let (name, packed) = executable.pack().map_err(failed)?;
    let client = &daemon.client;
    if is_there(client, &name).await? {
        return Ok(name);
    }
    let (_, tag) = name.split_once(':').unwrap_or((REPOSITORY, "latest"));
    let label = format!("LABEL {LABEL_IMAGE}={}", env!("CARGO_PKG_VERSION"));
    let options =
        CreateImageOptionsBuilder::default().from_src("-").repo(REPOSITORY).tag(tag).changes(vec![label]).build();
    let body = bollard::body_full(Bytes::from(packed));
    let mut steps = Box::pin(client.create_image(Some(options), Some(body), None));
    while let Some(step) = steps.next().await {
        step.map_err(refused(format!("make the image {name}")))?;
    }
    for old in own_images(client).await.unwrap_or_default().into_iter().filter(|old| *old != name) {
        // One that another run uses stays.
        let _in_use = remove(client, &old).await;
    }
    Ok(name)
}

/// What of an image that others made matters; it is fetched if it is not there, which `fetching` is told before.
///
/// # Errors
/// When it is neither here nor to be had.
pub async fn provide_foreign(
    daemon: &Daemon,
    name: &str,
    fetching: impl FnOnce(),
) -> Result<ForeignImage, DockerError> {
    let client = &daemon.client;
    if !is_there(client, name).await? {
        fetching();
        // Without a tag the daemon would fetch all that there are.
        let has_tag = name.rsplit('/').next().is_some_and(|last| last.contains([':', '@']));
        let wanted = if has_tag { name.to_owned() } else { format!("{name}:latest") };
        let options = CreateImageOptionsBuilder::default().from_image(&wanted).build();
        let mut steps = Box::pin(client.create_image(Some(options), None, None));
        while let Some(step) = steps.next().await {
            let why = format!("fetch the image {name}, which this daemon does not have");
            step.map_err(refused(why))?;
        }
    }
    let found = client.inspect_image(name).await.map_err(refused(format!("look at the image {name}")))?;
    let env = found.config.and_then(|config| config.env).unwrap_or_default();
    let env = env.iter().filter_map(|entry| entry.split_once('=')).map(|(k, v)| (k.to_owned(), v.to_owned()));
    Ok(ForeignImage { env: env.collect() })
}

/// Removes all images of this program that no container uses; their names.
///
/// # Errors
/// When the daemon does not tell which there are.
pub async fn remove_own(daemon: &Daemon) -> Result<Vec<String>, DockerError> {
    let mut removed = Vec::new();
    for name in own_images(&daemon.client).await.map_err(refused("list images"))? {
        if remove(&daemon.client, &name).await.is_ok() {
            removed.push(name);
        }
    }
    Ok(removed)
}

async fn is_there(client: &Docker, name: &str) -> Result<bool, DockerError> {
    match client.inspect_image(name).await {
        Ok(_) => Ok(true),
        Err(Error::DockerResponseServerError { status_code: 404, .. }) => Ok(false),
        Err(error) => Err(refused(format!("look for the image {name}"))(error)),
    }
}

async fn own_images(client: &Docker) -> Result<Vec<String>, Error> {
    let filters = [("label", vec![LABEL_IMAGE])].into();
    let options = ListImagesOptionsBuilder::default().all(true).filters(&filters).build();
    let images = client.list_images(Some(options)).await?;
    Ok(images.into_iter().map(|image| image.repo_tags.into_iter().next().unwrap_or(image.id)).collect())
}

async fn remove(client: &Docker, name: &str) -> Result<(), Error> {
    let options = RemoveImageOptionsBuilder::default().build();
    client.remove_image(name, Some(options), None).await.map(drop)
}

/// `PT_INTERP` of a 64-bit ELF file of this machine's byte order: its dynamic loader. `None` where it has none.
fn interpreter(path: &Path) -> io::Result<Option<PathBuf>> {
    const PT_INTERP: u32 = 3;
    /// `PATH_MAX`
    const LONGEST: u64 = 4096;
    let invalid = || io::Error::from(io::ErrorKind::InvalidData);
    let mut file = File::open(path)?;
    let mut head = [0; 64];
    file.read_exact(&mut head)?;
    let half = |at: usize| head.get(at..at + 2).and_then(|b| b.try_into().ok()).map(u16::from_ne_bytes);
    let (offset, size, count) = (long(&head, 32), half(54), half(56));
    if &head[..5] != b"\x7fELF\x02" {
        return Err(invalid());
    }
    let (offset, size, count) = (offset.ok_or_else(invalid)?, size.ok_or_else(invalid)?, count.ok_or_else(invalid)?);
    for nth in 0..u64::from(count) {
        let mut entry = [0; 56];
        file.seek(SeekFrom::Start(offset + nth * u64::from(size)))?;
        file.read_exact(&mut entry)?;
        if entry[..4] == PT_INTERP.to_ne_bytes() {
            let (at, length) = (long(&entry, 8).ok_or_else(invalid)?, long(&entry, 32).ok_or_else(invalid)?);
            let mut name = Vec::new();
            file.seek(SeekFrom::Start(at))?;
            file.take(length.min(LONGEST)).read_to_end(&mut name)?;
            let name = String::from_utf8(name).map_err(|_| invalid())?;
            return Ok(Some(PathBuf::from(name.trim_end_matches('\0'))));
        }
    }
    Ok(None)
}

fn long(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..at + 8).and_then(|b| b.try_into().ok()).map(u64::from_ne_bytes)
}

/// The shared libraries that this process runs with.
fn mapped_libraries() -> io::Result<Vec<PathBuf>> {
    let maps = fs::read_to_string("/proc/self/maps")?;
    let mut found: Vec<PathBuf> = maps
        .lines()
        .filter(|line| line.split_whitespace().nth(1).is_some_and(|mode| mode.contains('x')))
        .filter_map(|line| line.find('/').map(|at| PathBuf::from(&line[at..])))
        .filter(|path| path.file_name().is_some_and(|name| name.to_string_lossy().contains(".so")))
        .collect();
    found.sort();
    found.dedup();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_test_runs_with_the_loader_and_libraries_that_are_found() {
        let own = Executable::of_this_process().unwrap();
        let Some(loader) = &own.loader else { return assert!(own.libraries.is_empty()) };
        assert!(loader.exists());
        assert!(own.libraries.iter().any(|path| path.to_string_lossy().contains("libc.so")), "{:?}", own.libraries);
        let command = own.command_in_foreign_image();
        let mounts = own.mounts();
        for word in [command.first(), command.last()].into_iter().flatten() {
            assert!(mounts.iter().any(|(_, place)| place == Path::new(word)), "{word} is not among {mounts:?}");
        }
    }

    #[test]
    fn what_is_no_elf_has_no_interpreter() {
        assert!(interpreter(Path::new("/dev/null")).is_err());
        assert!(interpreter(Path::new("/proc/self/maps")).is_err());
    }
}
