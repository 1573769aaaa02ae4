//! Writing, hashing and syncing, each on a thread of its own beside the data path.
//!
//! The writer carries out what must keep its order: `Prepare`, `Write`, `Append`. It hands a `Sync` on when everything
//! before it is done, so that a slow disk holds up neither later writes nor hashing.

use std::fs::{self, File, OpenOptions};
use std::io::{self, IoSlice, Write as _};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;

use bytes::Bytes;
use fetch::{ByteRange, Digest, Generation, Input, Output, PieceIndex};
use nix::fcntl::{FallocateFlags, fallocate};
use nix::sys::statfs::{TMPFS_MAGIC, fstatfs};
use nix::sys::uio::pwritev;
use sha2::{Digest as _, Sha256};
use tokio::sync::mpsc::UnboundedSender;

use super::place::{Place, beside, sync_folder};
use crate::page_buffer::PageBuffer;

/// Read at once for hashing, in bytes.
const READ: usize = 256 << 10;

/// The most buffers that one write gathers.
const MOST_GATHERED: usize = 64;

/// What comes of disk work: inputs for the engine, or the end.
pub(crate) type Answer = Result<Input, DiskError>;

/// Why the disk failed.
#[derive(Debug, thiserror::Error)]
pub enum DiskError {
    /// The kernel says no.
    #[error("cannot {doing} {}", path.display())]
    Io {
        /// A verb.
        doing: &'static str,
        /// What it was done to.
        path: PathBuf,
        /// What the kernel says.
        source: io::Error,
    },
    /// What was written is not there any more.
    #[error("somebody else cut {} short", path.display())]
    Cut {
        /// The part file.
        path: PathBuf,
    },
}

/// The three threads.
#[derive(Debug)]
pub(crate) struct Disk {
    to_writer: mpsc::Sender<(Output, Option<mpsc::Sender<()>>)>,
    to_hasher: mpsc::Sender<HashJob>,
    /// Of the file, as it was last prepared.
    length: u64,
    found: Arc<Found>,
    threads: Vec<JoinHandle<()>>,
}

/// What the writer found out.
#[derive(Debug, Default)]
struct Found {
    /// Whether all of the file is written here, on space that was reserved for it.
    is_reserved: AtomicBool,
    /// Whether any byte was written.
    has_written: AtomicBool,
}

enum HashJob {
    Piece(Generation, PieceIndex, ByteRange),
    Whole(Generation, u64),
    /// What follows is about a file that is made ready first.
    After(mpsc::Receiver<()>),
}

struct SyncJob {
    generation: Generation,
    journal: Option<Arc<File>>,
}

impl Disk {
    /// Starts the threads on the files of `place`; what they do is answered on `answers`.
    pub(crate) fn start(place: &Place, answers: UnboundedSender<Answer>) -> Result<Self, DiskError> {
        let handle = || {
            place.part().map_err(|source| DiskError::Io { doing: "open", path: place.part_path().to_owned(), source })
        };
        let (to_writer, outputs) = mpsc::channel();
        let (to_hasher, hash_jobs) = mpsc::channel();
        let (to_syncer, sync_jobs) = mpsc::channel();
        let part_path = place.part_path().to_owned();
        let journal_path = place.journal_path().to_owned();
        let found = Arc::new(Found::default());
        let writer =
            Writer { part: handle()?, part_path, journal_path, journal: None, found: Arc::clone(&found), to_syncer };
        let (hashed, synced) = (handle()?, handle()?);
        let (part_path, journal_path) = (writer.part_path.clone(), writer.journal_path.clone());
        let hashed_path = part_path.clone();
        let (for_hasher, for_syncer) = (answers.clone(), answers.clone());
        let threads = vec![
            spawn("disk-write", move || writer.run(&outputs, &answers)),
            spawn("disk-hash", move || hash_all(&hashed, &hashed_path, &hash_jobs, &for_hasher)),
            spawn("disk-sync", move || sync_all(&synced, &part_path, &journal_path, &sync_jobs, &for_syncer)),
        ];
        Ok(Disk { to_writer, to_hasher, length: 0, found, threads })
    }

    /// Takes an output that concerns the disk; gives back any other.
    pub(crate) fn carry_out(&mut self, output: Output) -> Option<Output> {
        match output {
            Output::Hash { generation, piece, range } => self.hash(HashJob::Piece(generation, piece, range)),
            Output::HashFile { generation } => self.hash(HashJob::Whole(generation, self.length)),
            Output::Prepare { length, .. } => {
                self.length = length;
                let (done, after) = mpsc::channel();
                self.hash(HashJob::After(after));
                let _ = self.to_writer.send((output, Some(done)));
            }
            Output::Write { .. } | Output::Append { .. } | Output::Sync { .. } => {
                // It ends only after telling why, and the reader of that stops.
                let _ = self.to_writer.send((output, None));
            }
            other => return Some(other),
        }
        None
    }

    /// Whether any byte was written, be it of a write that failed later.
    pub(crate) fn has_written(&self) -> bool {
        self.found.has_written.load(Ordering::Relaxed)
    }

    /// Waits until everything that was given is done. Whether all of the file was written here, on reserved space.
    pub(crate) fn finish(self) -> bool {
        drop((self.to_writer, self.to_hasher));
        for thread in self.threads {
            if thread.join().is_err() {
                tracing::error!("a disk thread panicked");
            }
        }
        self.found.is_reserved.load(Ordering::Relaxed)
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
    found: Arc<Found>,
    to_syncer: mpsc::Sender<SyncJob>,
}

impl Writer {
    fn run(mut self, outputs: &mpsc::Receiver<(Output, Option<mpsc::Sender<()>>)>, answers: &UnboundedSender<Answer>) {
        let mut held = None;
        while let Some((output, ready)) = held.take().or_else(|| outputs.recv().ok()) {
            let done = match output {
                Output::Write { generation, offset, bytes } => {
                    let mut gathered = vec![bytes];
                    let mut end = offset + gathered[0].len() as u64;
                    while gathered.len() < MOST_GATHERED {
                        match outputs.try_recv() {
                            Ok((Output::Write { generation: same, offset, bytes }, _))
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
            drop(ready);
            if let Err(error) = done {
                self.salvage(held.into_iter().chain(outputs.try_iter()).map(|(output, _)| output));
                let _ = answers.send(Err(error));
                return;
            }
        }
    }

    /// The disk took something no more, but what is recorded is on it: the records may yet fit.
    fn salvage(&self, outputs: impl Iterator<Item = Output>) {
        for output in outputs {
            match output {
                Output::Append { record } if self.append(&record).is_ok() => {}
                Output::Append { .. } | Output::Prepare { .. } => return,
                _ => {}
            }
        }
    }

    fn write(&self, offset: u64, gathered: &[Bytes]) -> Result<(), DiskError> {
        let mut slices: Vec<IoSlice<'_>> = gathered.iter().map(|bytes| IoSlice::new(bytes)).collect();
        let noted = || self.found.has_written.store(true, Ordering::Relaxed);
        write_gathered(&self.part, offset, &mut slices, noted).map_err(|error| self.failed("write", error))
    }

    fn append(&self, record: &[u8]) -> Result<(), DiskError> {
        let journal = self.journal.as_ref().expect("the engine prepares before it appends");
        journal.as_ref().write_all(record).map_err(|source| self.journal_failed("write", source))
    }

    fn prepare(&mut self, length: u64, fresh: bool, journal: &[u8]) -> Result<(), DiskError> {
        self.journal =
            Some(Arc::new(replace_journal(&self.journal_path, journal).map_err(|e| self.journal_failed("create", e))?));
        if fresh {
            self.part.set_len(0).map_err(|error| self.failed("empty", error))?;
            self.found.is_reserved.store(true, Ordering::Relaxed);
        }
        self.part.set_len(length).map_err(|error| self.failed("size", error))?;
        if length == 0 {
            return Ok(());
        }
        let is_reserved = reserve(&self.part, length).map_err(|error| self.failed("reserve space for", error))?;
        if !is_reserved {
            self.found.is_reserved.store(false, Ordering::Relaxed);
        }
        Ok(())
    }

    fn failed(&self, doing: &'static str, source: io::Error) -> DiskError {
        DiskError::Io { doing, path: self.part_path.clone(), source }
    }

    fn journal_failed(&self, doing: &'static str, source: io::Error) -> DiskError {
        DiskError::Io { doing, path: self.journal_path.clone(), source }
    }
}

/// Writes all of `slices`, one after the other, from `offset` on. Tells `written` whenever something was.
pub(crate) fn write_gathered(
    file: &File,
    mut offset: u64,
    slices: &mut [IoSlice<'_>],
    written: impl Fn(),
) -> io::Result<()> {
    let mut rest = slices;
    while !rest.is_empty() {
        let at = i64::try_from(offset).map_err(|_| io::ErrorKind::FileTooLarge)?;
        match pwritev(file, rest, at) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(length) => {
                written();
                offset += length as u64;
                IoSlice::advance_slices(&mut rest, length);
            }
            Err(nix::Error::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Makes sure of the space for `length` bytes, as far as the file system lets it. Whether all of it is reserved.
pub(crate) fn reserve(file: &File, length: u64) -> io::Result<bool> {
    let reach = i64::try_from(length).map_err(|_| io::ErrorKind::FileTooLarge)?;
    // One that does not even say what it is may still reserve.
    let tmpfs = fstatfs(file).ok().filter(|system| system.filesystem_type() == TMPFS_MAGIC);
    if let Some(system) = tmpfs {
        // Reserving would fill every page with zeros, seconds for a large file, while nothing can be written.
        let taken = file.metadata().map_or(0, |metadata| metadata.blocks().saturating_mul(512));
        let free = system.blocks_available().saturating_mul(system.block_size().unsigned_abs());
        let is_bounded = system.blocks() > 0;
        if is_bounded && length.saturating_sub(taken) > free {
            return Err(nix::Error::ENOSPC.into());
        }
    } else {
        match fallocate(file.as_fd(), FallocateFlags::empty(), 0, reach) {
            Ok(()) => {}
            // A file system that cannot: then a full disk shows when it is written.
            Err(nix::Error::EOPNOTSUPP | nix::Error::ENOSYS) => return Ok(false),
            Err(error) => return Err(error.into()),
        }
    }
    // Some only promise, and leave out what is all zeros.
    Ok(file.metadata().is_ok_and(|metadata| metadata.blocks().saturating_mul(512) >= length))
}

/// Makes a journal that appears whole or not at all; records are appended to what is returned.
pub(crate) fn replace_journal(journal: &Path, content: &[u8]) -> io::Result<File> {
    let path = beside(journal, ".new");
    let file = begin_journal(&path, content)?;
    file.sync_all()?;
    fs::rename(&path, journal)?;
    sync_folder(journal)?;
    Ok(file)
}

/// Begins a journal where none is to be kept: what a power failure leaves of it may be nothing.
pub(crate) fn begin_journal(journal: &Path, content: &[u8]) -> io::Result<File> {
    let mut options = OpenOptions::new();
    // Nobody may lead it elsewhere.
    let mut file = options.write(true).create(true).truncate(true).custom_flags(libc::O_NOFOLLOW).open(journal)?;
    file.write_all(content)?;
    Ok(file)
}

fn hash_all(part: &File, path: &Path, jobs: &mpsc::Receiver<HashJob>, answers: &UnboundedSender<Answer>) {
    let mut buffer = PageBuffer::new(READ);
    while let Ok(job) = jobs.recv() {
        let answer = match job {
            HashJob::Piece(generation, piece, range) => {
                hash(part, path, range, &mut buffer).map(|digest| Input::Hashed { generation, piece, digest })
            }
            HashJob::Whole(generation, length) => hash(part, path, ByteRange::new(0, length), &mut buffer)
                .map(|digest| Input::FileHashed { generation, digest }),
            HashJob::After(ready) => {
                // Nothing is ever sent: it ends when the file is ready, or will never be.
                let _ = ready.recv();
                continue;
            }
        };
        if answers.send(answer).is_err() {
            return;
        }
    }
}

/// The hash of `range`. The file was brought to its length before: where it ends early, somebody cut it.
fn hash(part: &File, path: &Path, range: ByteRange, buffer: &mut [u8]) -> Result<Digest, DiskError> {
    let mut sha = Sha256::new();
    let mut at = range.start;
    while at < range.end {
        let want = buffer.len().min(usize::try_from(range.end - at).unwrap_or(READ));
        match part.read_at(&mut buffer[..want], at) {
            Ok(0) => return Err(DiskError::Cut { path: path.to_owned() }),
            Ok(read) => {
                sha.update(&buffer[..read]);
                at += read as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(source) => return Err(DiskError::Io { doing: "read back", path: path.to_owned(), source }),
        }
    }
    Ok(Digest(sha.finalize().into()))
}

/// The length of the file at `path`, if there is one that has this hash.
pub(crate) fn length_if_it_has(path: &Path, expected: Digest) -> Option<u64> {
    let file = File::open(path).ok()?;
    let metadata = file.metadata().ok().filter(fs::Metadata::is_file)?;
    let all = ByteRange::new(0, metadata.len());
    let found = hash(&file, path, all, &mut PageBuffer::new(READ)).ok()?;
    (found == expected).then_some(metadata.len())
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
            .map_err(|source| DiskError::Io { doing: "sync", path: part_path.to_owned(), source })
            .and_then(|()| match &journal {
                Some(journal) => journal.sync_data().map_err(|source| DiskError::Io {
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
