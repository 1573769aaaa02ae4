//! What is done beside the data path: blocks are restored, hashed as far as all before them are there, recorded, and in the
//! end the file gets its name.

use std::fs::File;
use std::io::{self, IoSlice};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError, TryRecvError};
use std::thread::JoinHandle;
use std::time::Duration;

use machine::{Span, Time};
use nix::sys::eventfd::EventFd;
use p2mp::coding::Coder;
use p2mp::fast::{Block, Layout};

use super::blocks::Part;
use super::prefix::{self, Prefix};
use super::sync::{Journal, SYNC_EVERY, Syncer};
use super::target::TargetError;
use crate::clock;
use crate::downloader::disk::{DiskError, replace_journal, write_gathered};
use crate::downloader::place::{Place, PlaceError};
use crate::file_server::hashes::yield_to_others;
use crate::p2mp_receiver::TargetError as FileError;
use crate::page_buffer::PageBuffer;

/// A file that is right waits for its name at most so long for others, which are synced with it.
const TOGETHER: Span = Span::from_millis(100);

/// What is to be done.
#[derive(Debug)]
pub(super) enum Job {
    /// All symbols of a block are written.
    Whole {
        block: Block,
        /// Which symbol is in which original's place; `None`: each in its own.
        holds: Option<Vec<u16>>,
    },
    /// So far a file was hashed while it was written; the rest is to be read back.
    Hashed { file: usize, prefix: Box<Prefix> },
    /// Every block of a file is whole: compare, and give it its name.
    Verify { file: usize, digest: [u8; 32] },
    /// What is under its name already is right: what was received of it is for nothing.
    Keep { file: usize },
    /// The file comes again.
    Discard { file: usize },
}

/// What came of it.
#[derive(Debug)]
pub(super) enum Answer {
    Verified {
        file: usize,
        is_right: bool,
    },
    /// The file is under its name.
    Kept {
        path: PathBuf,
        length: u64,
    },
    Failed(WorkError),
}

/// Why a file cannot be finished.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WorkError {
    #[error(transparent)]
    Disk(#[from] DiskError),
    #[error(transparent)]
    Place(FileError),
    /// The names cannot be.
    #[error(transparent)]
    Target(#[from] TargetError),
    /// A part file that this program did not leave.
    #[error("{} is left of another program's download; --overwrite begins anew", path.display())]
    Foreign { path: PathBuf },
    /// Blocks of another transfer, whose sender may come again.
    #[error("{} is left of another transfer; --overwrite begins anew", path.display())]
    Unfinished { path: PathBuf },
    /// A defect of this program; the panic's message went to stderr.
    #[error("the thread that {0} broke off")]
    BrokeOff(&'static str),
    /// A file of that name is there, and it is not the one that is sent.
    #[error("{} exists and is another file; --overwrite replaces it", path.display())]
    Another { path: PathBuf },
}

impl From<PlaceError> for WorkError {
    fn from(error: PlaceError) -> Self {
        WorkError::Place(error.into())
    }
}

impl WorkError {
    /// Whether the place belongs to work that is not this transfer's and not over.
    pub(super) fn is_anothers(&self) -> bool {
        matches!(
            self,
            WorkError::Place(FileError::Locked { .. }) | WorkError::Unfinished { .. } | WorkError::Foreign { .. }
        )
    }
}

/// One file as the worker sees it.
#[derive(Debug)]
pub(super) struct Work {
    pub(super) length: u64,
    pub(super) source: Source,
    /// Of the layout; whether each is whole.
    pub(super) first_block: u32,
    pub(super) whole: Vec<bool>,
}

/// Where the bytes of a file are.
#[derive(Debug)]
pub(super) enum Source {
    /// They are being received.
    Part { part: Part, place: Place, journal: Option<Box<Journal>> },
    /// They are under the final name already, if that is the right file.
    Present { file: File, path: PathBuf },
    /// It is finished.
    Kept,
}

impl Work {
    /// Lets go of the file; nothing stays behind if nothing of it is whole.
    pub(super) fn leave(self) {
        if let Source::Part { place, .. } = self.source {
            place.leave(self.whole.contains(&true));
        }
    }
}

/// The thread; it ends when it is dropped, after all that it was given.
#[derive(Debug)]
pub(super) struct Worker {
    jobs: Option<mpsc::Sender<Job>>,
    answers: mpsc::Receiver<Answer>,
    /// Whether it has told why it ended.
    has_failed: bool,
    thread: Option<JoinHandle<()>>,
}

impl Worker {
    /// Starts it; `wake` is written to with every answer.
    pub(super) fn start(layout: Arc<Layout>, files: Vec<Work>, wake: Arc<EventFd>) -> io::Result<Self> {
        let (jobs, received) = mpsc::channel();
        let (told, answers) = mpsc::channel();
        let prefixes = files.iter().map(|_| None).collect();
        let (slots, buffer) = (Vec::new(), prefix::buffer());
        let voice = Voice { told: Some(told), wake };
        let (coder, right) = (Coder::default(), Vec::new());
        let state = State { layout, files, prefixes, coder, slots, buffer, right, right_since: Time::ZERO, voice };
        let work = move || {
            // What has arrived can wait in the file; what is not received in time is lost and has to come again.
            yield_to_others();
            state.run(&received);
        };
        let thread = std::thread::Builder::new().name("disk-work".into()).spawn(work)?;
        Ok(Worker { jobs: Some(jobs), answers, has_failed: false, thread: Some(thread) })
    }

    pub(super) fn give(&self, job: Job) {
        // It ends early only after telling why.
        let _ = self.jobs.as_ref().map(|jobs| jobs.send(job));
    }

    pub(super) fn answer(&mut self) -> Option<Answer> {
        let answer = match self.answers.try_recv() {
            Ok(answer) => answer,
            // It lives as long as it may get jobs, or tells why not.
            Err(TryRecvError::Disconnected) if !self.has_failed => Answer::Failed(WorkError::BrokeOff("writes files")),
            Err(_) => return None,
        };
        self.has_failed |= matches!(answer, Answer::Failed(_));
        Some(answer)
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.jobs.take();
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the disk's thread panicked");
        }
    }
}

struct State {
    layout: Arc<Layout>,
    files: Vec<Work>,
    /// None of a file that is still hashed while it is written.
    prefixes: Vec<Option<Box<Prefix>>>,
    coder: Coder,
    /// Room for a block.
    slots: Vec<u8>,
    /// Room for what is hashed at once.
    buffer: PageBuffer,
    /// Files that are right and have still to get their names, and since when the first of them is.
    right: Vec<(usize, Place)>,
    right_since: Time,
    voice: Voice,
}

/// What the worker tells. Its end is heard, too, be it by a panic.
struct Voice {
    told: Option<mpsc::Sender<Answer>>,
    wake: Arc<EventFd>,
}

impl State {
    fn run(mut self, jobs: &mpsc::Receiver<Job>) {
        let mut syncer = match Syncer::start() {
            Ok(syncer) => syncer,
            Err(source) => {
                let failed = DiskError::Io { doing: "start the thread that syncs", path: PathBuf::new(), source };
                return self.voice.tell(Answer::Failed(failed.into()));
            }
        };
        let mut failure = None;
        loop {
            let job = match jobs.try_recv() {
                Ok(job) => Some(job),
                Err(_) if !self.right.is_empty() => None,
                Err(_) => match jobs.recv_timeout(Duration::from(SYNC_EVERY)) {
                    Ok(job) => Some(job),
                    Err(RecvTimeoutError::Timeout) => None,
                    Err(RecvTimeoutError::Disconnected) => break,
                },
            };
            let done = self.step(job).and_then(|()| syncer.step(&mut self.files));
            if let Err(error) = done {
                failure = Some(error);
                break;
            }
        }
        syncer.end();
        self.files.drain(..).for_each(Work::leave);
        if let Some(error) = failure {
            self.voice.tell(Answer::Failed(error));
        }
    }

    /// Does a job; without one, what waits for others.
    fn step(&mut self, job: Option<Job>) -> Result<(), WorkError> {
        let is_last = job.is_none();
        job.map_or(Ok(()), |job| self.carry_out(job))?;
        if is_last || clock::now().since(self.right_since) >= TOGETHER {
            self.name()?;
        }
        Ok(())
    }

    fn carry_out(&mut self, job: Job) -> Result<(), WorkError> {
        match job {
            Job::Whole { block, holds } => self.finish_block(&block, holds.as_deref()),
            Job::Hashed { file, prefix } => {
                self.prefixes[file] = Some(prefix);
                self.follow(file)
            }
            Job::Verify { file, digest } => self.verify(file, digest),
            Job::Keep { file } => {
                let work = &mut self.files[file];
                if let Source::Part { place, .. } = std::mem::replace(&mut work.source, Source::Kept) {
                    self.voice.tell(Answer::Kept { path: place.target().to_owned(), length: work.length });
                    place.discard();
                }
                Ok(())
            }
            Job::Discard { file } => self.discard(file),
        }
    }

    fn finish_block(&mut self, block: &Block, holds: Option<&[u16]>) -> Result<(), WorkError> {
        let work = &mut self.files[block.file];
        let Source::Part { part, journal, .. } = &mut work.source else { return Ok(()) };
        if let Some(holds) = holds {
            restore(&mut self.coder, part, block, holds, &mut self.slots)?;
        }
        let index = block.index - work.first_block;
        work.whole[index as usize] = true;
        if let Some(journal) = journal {
            journal.append(index, part)?;
        }
        if block.offset + u64::from(block.length) == work.length {
            // A recovery symbol may have been parked behind the end.
            part.file.set_len(work.length).map_err(|error| part.failed("size", error))?;
        }
        self.follow(block.file)
    }

    fn follow(&mut self, file: usize) -> Result<(), WorkError> {
        let Some(prefix) = &mut self.prefixes[file] else { return Ok(()) };
        prefix.follow(&self.files[file], &self.layout, &mut self.buffer)
    }

    fn verify(&mut self, file: usize, digest: [u8; 32]) -> Result<(), WorkError> {
        self.follow(file)?;
        let prefix = self.prefixes[file].take().unwrap_or_default();
        let work = &mut self.files[file];
        let is_right = prefix.blocks == work.whole.len() && *prefix.hasher.finalize().as_bytes() == digest;
        match &work.source {
            Source::Present { path, .. } if !is_right => return Err(WorkError::Another { path: path.clone() }),
            _ if !is_right => {}
            _ => match std::mem::replace(&mut work.source, Source::Kept) {
                Source::Part { place, .. } => {
                    if self.right.is_empty() {
                        self.right_since = clock::now();
                    }
                    self.right.push((file, place));
                    return Ok(());
                }
                Source::Present { path, .. } => self.voice.tell(Answer::Kept { path, length: work.length }),
                Source::Kept => {}
            },
        }
        self.voice.tell(Answer::Verified { file, is_right });
        Ok(())
    }

    /// Gives the files that are right their names.
    fn name(&mut self) -> Result<(), WorkError> {
        let (files, places): (Vec<_>, Vec<_>) = self.right.drain(..).unzip();
        let lengths: Vec<_> = files.iter().map(|file| self.files[*file].length).collect();
        let paths = Place::complete_all(places.into_iter().zip(lengths.iter().copied()).collect())?;
        for ((file, path), length) in files.into_iter().zip(paths).zip(lengths) {
            self.voice.tell(Answer::Kept { path, length });
            self.voice.tell(Answer::Verified { file, is_right: true });
        }
        Ok(())
    }

    fn discard(&mut self, file: usize) -> Result<(), WorkError> {
        let work = &mut self.files[file];
        work.whole.fill(false);
        self.prefixes[file] = Some(Box::default());
        if let Source::Part { part, place, journal: Some(journal) } = &mut work.source {
            let (writer, bytes) = journal.beginning.clone();
            let anew = replace_journal(place.journal_path(), &bytes).map_err(|error| part.failed("forget", error))?;
            (journal.file, journal.writer) = (Arc::new(anew), writer);
            (journal.recorded, journal.durable) = (0, 0);
        }
        Ok(())
    }
}

impl Voice {
    fn tell(&self, answer: Answer) {
        // Nobody listens any more: then nobody needs to be told.
        let _ = self.told.as_ref().map(|told| told.send(answer));
        let _ = self.wake.write(1);
    }
}

impl Drop for Voice {
    fn drop(&mut self) {
        // First that nothing more comes, then that there is something to be heard.
        self.told.take();
        let _ = self.wake.write(1);
    }
}

/// Restores the originals that other symbols stand in for.
fn restore(coder: &mut Coder, part: &Part, block: &Block, holds: &[u16], slots: &mut Vec<u8>) -> Result<(), DiskError> {
    part.read(block, holds, slots)?;
    coder
        .restore(block, slots, holds)
        .map_err(|error| part.failed("restore a block of", io::Error::new(io::ErrorKind::InvalidData, error)))?;
    let payload = usize::from(block.payload);
    let missing = |place: &usize| usize::from(holds[*place]) != *place;
    let mut place = 0;
    while let Some(start) = (place..holds.len()).find(missing) {
        let end = (start..holds.len()).find(|place| !missing(place)).unwrap_or(holds.len());
        let bytes = &slots[start * payload..(end * payload).min(block.length as usize)];
        let offset = block.offset + (start * payload) as u64;
        write_gathered(&part.file, offset, &mut [IoSlice::new(bytes)], || ())
            .map_err(|error| part.failed("write", error))?;
        place = end;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use nix::sys::eventfd::EfdFlags;
    use p2mp::fast::{FileEntry, Manifest};

    use super::*;
    use crate::udp::{Interest, wait};

    #[test]
    fn a_thread_that_panics_is_a_failure_and_not_silence() {
        let layout = Layout::new(&Manifest::new(vec![FileEntry::new("f", 1)]).unwrap(), 512).unwrap();
        let wake = Arc::new(EventFd::from_flags(EfdFlags::EFD_NONBLOCK).unwrap());
        // It has no file at all, so that what it is asked for breaks it.
        let mut worker = Worker::start(Arc::new(layout), Vec::new(), Arc::clone(&wake)).unwrap();
        assert!(worker.answer().is_none());
        worker.give(Job::Verify { file: 0, digest: [0; 32] });
        wait([(wake.as_fd(), Interest::Read)], Time::MAX).unwrap();
        assert!(matches!(worker.answer(), Some(Answer::Failed(WorkError::BrokeOff(_)))));
        assert!(worker.answer().is_none(), "it is told once");
    }
}
