//! Writing, hashing and syncing, each on a thread of its own beside the data path.
//!
//! The writer carries out what must keep its order: `Prepare`, `Write`, `Append`. It hands a `Sync` on when everything
//! before it is done, so that a slow disk holds up neither later writes nor hashing.

use std::fs::{self, File};
use std::io::{self, IoSlice, Write as _};
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;

use bytes::Bytes;
use fetch::{ByteRange, Digest, Generation, Input, Output, PieceIndex};
use nix::fcntl::{FallocateFlags, fallocate};
use nix::sys::uio::pwritev;
use sha2::{Digest as _, Sha256};
use tokio::sync::mpsc::UnboundedSender;

use super::place::{Place, sync_folder};

/// Read at once for hashing, in bytes.
const READ: usize = 256 << 10;

/// The most buffers that one write gathers.
const MOST_GATHERED: usize = 64;

/// What comes of disk work: inputs for the engine, or the end.
pub(crate) type Answer = Result<Input, DiskError>;

/// Why the disk failed.
#[derive(Debug, thiserror::Error)]
#[error("cannot {doing} {}", path.display())]
pub struct DiskError {
    /// A verb.
    pub doing: &'static str,
    /// What it was done to.
    pub path: PathBuf,
    /// What the kernel says.
    pub source: io::Error,
}

/// The three threads.
#[derive(Debug)]
pub(crate) struct Disk {
    to_writer: mpsc::Sender<Output>,
    to_hasher: mpsc::Sender<HashJob>,
    threads: Vec<JoinHandle<()>>,
}

enum HashJob {
    Piece(Generation, PieceIndex, ByteRange),
    Whole(Generation),
}

struct SyncJob {
    generation: Generation,
    journal: Option<Arc<File>>,
}

impl Disk {
    /// Starts the threads on the files of `place`; what they do is answered on `answers`.
    pub(crate) fn start(place: &Place, answers: UnboundedSender<Answer>) -> Result<Self, DiskError> {
        let handle =
            || place.part().map_err(|source| DiskError { doing: "open", path: place.part_path().to_owned(), source });
        let (to_writer, outputs) = mpsc::channel();
        let (to_hasher, hash_jobs) = mpsc::channel();
        let (to_syncer, sync_jobs) = mpsc::channel();
        let part_path = place.part_path().to_owned();
        let journal_path = place.journal_path().to_owned();
        let writer = Writer { part: handle()?, part_path, journal_path, journal: None, to_syncer };
        let (hashed, synced) = (handle()?, handle()?);
        let (part_path, journal_path) = (writer.part_path.clone(), writer.journal_path.clone());
        let (for_hasher, for_syncer) = (answers.clone(), answers.clone());
        let threads = vec![
            spawn("disk-write", move || writer.run(&outputs, &answers)),
            spawn("disk-hash", move || hash_all(&hashed, &hash_jobs, &for_hasher)),
            spawn("disk-sync", move || sync_all(&synced, &part_path, &journal_path, &sync_jobs, &for_syncer)),
        ];
        Ok(Disk { to_writer, to_hasher, threads })
    }

    /// Takes an output that concerns the disk; gives back any other.
    pub(crate) fn carry_out(&self, output: Output) -> Option<Output> {
        match output {
            Output::Hash { generation, piece, range } => self.hash(HashJob::Piece(generation, piece, range)),
            Output::HashFile { generation } => self.hash(HashJob::Whole(generation)),
            Output::Prepare { .. } | Output::Write { .. } | Output::Append { .. } | Output::Sync { .. } => {
                // It ends only after telling why, and the reader of that stops.
                let _ = self.to_writer.send(output);
            }
            other => return Some(other),
        }
        None
    }

    /// Waits until everything that was given is done.
    pub(crate) fn finish(self) {
        drop((self.to_writer, self.to_hasher));
        for thread in self.threads {
            if thread.join().is_err() {
                tracing::error!("a disk thread panicked");
            }
        }
    }

    fn hash(&self, job: HashJob) {
        let _ = self.to_hasher.send(job);
    }
}

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> JoinHandle<()> {
    std::thread::Builder::new().name(name.into()).spawn(work).expect("a program can start three threads")
}

struct Writer {
    part: File,
    part_path: PathBuf,
    journal_path: PathBuf,
    journal: Option<Arc<File>>,
    to_syncer: mpsc::Sender<SyncJob>,
}

impl Writer {
    fn run(mut self, outputs: &mpsc::Receiver<Output>, answers: &UnboundedSender<Answer>) {
        let mut held = None;
        while let Some(output) = held.take().or_else(|| outputs.recv().ok()) {
            let done = match output {
                Output::Write { generation, offset, bytes } => {
                    let mut gathered = vec![bytes];
                    let mut end = offset + gathered[0].len() as u64;
                    while gathered.len() < MOST_GATHERED {
                        match outputs.try_recv() {
                            Ok(Output::Write { generation: same, offset, bytes })
                                if same == generation && offset == end =>
                            {
                                end += bytes.len() as u64;
                                gathered.push(bytes);
                            }
                            Ok(other) => {
                                held = Some(other);
                                break;
                            }
                            Err(_) => break,
                        }
                    }
                    self.write(offset, &gathered).map(|()| {
                        let mut offset = offset;
                        for bytes in gathered {
                            let len = bytes.len() as u64;
                            let _ = answers.send(Ok(Input::Written { generation, offset, len }));
                            offset += len;
                        }
                    })
                }
                Output::Append { record } => self.append(&record),
                Output::Prepare { length, fresh, journal, .. } => self.prepare(length, fresh, &journal),
                Output::Sync { generation } => {
                    let _ = self.to_syncer.send(SyncJob { generation, journal: self.journal.clone() });
                    Ok(())
                }
                _ => Ok(()),
            };
            if let Err(error) = done {
                let _ = answers.send(Err(error));
                return;
            }
        }
    }

    fn write(&self, mut offset: u64, gathered: &[Bytes]) -> Result<(), DiskError> {
        let mut slices: Vec<IoSlice<'_>> = gathered.iter().map(|bytes| IoSlice::new(bytes)).collect();
        let mut rest = &mut slices[..];
        while !rest.is_empty() {
            let at = i64::try_from(offset).map_err(|_| self.failed("write", io::ErrorKind::FileTooLarge.into()))?;
            match pwritev(&self.part, rest, at) {
                Ok(0) => return Err(self.failed("write", io::ErrorKind::WriteZero.into())),
                Ok(written) => {
                    offset += written as u64;
                    IoSlice::advance_slices(&mut rest, written);
                }
                Err(nix::Error::EINTR) => {}
                Err(error) => return Err(self.failed("write", error.into())),
            }
        }
        Ok(())
    }

    fn append(&self, record: &[u8]) -> Result<(), DiskError> {
        let journal = self.journal.as_ref().expect("the engine prepares before it appends");
        journal.as_ref().write_all(record).map_err(|source| self.journal_failed("write", source))
    }

    fn prepare(&mut self, length: u64, fresh: bool, journal: &[u8]) -> Result<(), DiskError> {
        self.journal = Some(Arc::new(self.replace_journal(journal).map_err(|e| self.journal_failed("create", e))?));
        if fresh {
            self.part.set_len(0).map_err(|error| self.failed("empty", error))?;
        }
        self.part.set_len(length).map_err(|error| self.failed("size", error))?;
        let reach = i64::try_from(length).map_err(|_| self.failed("size", io::ErrorKind::FileTooLarge.into()))?;
        if reach == 0 {
            return Ok(());
        }
        match fallocate(self.part.as_fd(), FallocateFlags::empty(), 0, reach) {
            // A file system that cannot: then a full disk shows when it is written.
            Ok(()) | Err(nix::Error::EOPNOTSUPP | nix::Error::ENOSYS) => Ok(()),
            Err(error) => Err(self.failed("reserve space for", error.into())),
        }
    }

    /// The new journal appears whole or not at all.
    fn replace_journal(&self, content: &[u8]) -> io::Result<File> {
        let mut path = self.journal_path.clone().into_os_string();
        path.push(".new");
        let path = PathBuf::from(path);
        let mut file = File::create(&path)?;
        file.write_all(content)?;
        file.sync_all()?;
        fs::rename(&path, &self.journal_path)?;
        sync_folder(&self.journal_path)?;
        Ok(file)
    }

    fn failed(&self, doing: &'static str, source: io::Error) -> DiskError {
        DiskError { doing, path: self.part_path.clone(), source }
    }

    fn journal_failed(&self, doing: &'static str, source: io::Error) -> DiskError {
        DiskError { doing, path: self.journal_path.clone(), source }
    }
}

fn hash_all(part: &File, jobs: &mpsc::Receiver<HashJob>, answers: &UnboundedSender<Answer>) {
    let mut buffer = vec![0; READ];
    while let Ok(job) = jobs.recv() {
        let answer = match job {
            HashJob::Piece(generation, piece, range) => {
                Input::Hashed { generation, piece, digest: hash(part, range, &mut buffer) }
            }
            HashJob::Whole(generation) => {
                let all = ByteRange::new(0, u64::MAX);
                Input::FileHashed { generation, digest: hash(part, all, &mut buffer) }
            }
        };
        if answers.send(Ok(answer)).is_err() {
            return;
        }
    }
}

/// The hash of what can be read of `range`: of a file that is short or cannot be read it is a wrong one.
fn hash(part: &File, range: ByteRange, buffer: &mut [u8]) -> Digest {
    let mut sha = Sha256::new();
    let mut at = range.start;
    while at < range.end {
        let want = buffer.len().min(usize::try_from(range.end - at).unwrap_or(READ));
        match part.read_at(&mut buffer[..want], at) {
            Ok(0) => break,
            Ok(read) => {
                sha.update(&buffer[..read]);
                at += read as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => {
                tracing::warn!(%error, "cannot read the part file back");
                break;
            }
        }
    }
    Digest(sha.finalize().into())
}

fn sync_all(
    part: &File,
    part_path: &Path,
    journal_path: &Path,
    jobs: &mpsc::Receiver<SyncJob>,
    answers: &UnboundedSender<Answer>,
) {
    while let Ok(SyncJob { generation, journal }) = jobs.recv() {
        // The data first: a record must not outlive what it speaks of.
        let synced = part
            .sync_data()
            .map_err(|source| DiskError { doing: "sync", path: part_path.to_owned(), source })
            .and_then(|()| match &journal {
                Some(journal) => journal.sync_data().map_err(|source| DiskError {
                    doing: "sync",
                    path: journal_path.to_owned(),
                    source,
                }),
                None => Ok(()),
            });
        if answers.send(synced.map(|()| Input::Synced { generation })).is_err() {
            return;
        }
    }
}
