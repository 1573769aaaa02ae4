//! What is on the disk for good: files are synced beside everything else, and their journals say how far.

use std::fs::File;
use std::io::{self, Write as _};
use std::sync::Arc;
use std::sync::mpsc::{self, TryRecvError};
use std::thread::JoinHandle;

use fetch::Pieces;
use fetch::journal::Writer;
use machine::{Span, Time};

use super::blocks::Part;
use super::worker::{Source, Work, WorkError};
use crate::clock;
use crate::downloader::disk::DiskError;
use crate::downloader::place::sync_folder;

/// Between two syncs.
pub(super) const SYNC_EVERY: Span = Span::from_secs(1);

/// The journal of a file, open at its end.
#[derive(Debug)]
pub(super) struct Journal {
    pub(super) file: Arc<File>,
    pub(super) writer: Writer,
    pub(super) pieces: Pieces,
    /// Blocks recorded since it was opened, and how many of them are known to be durable.
    pub(super) recorded: u32,
    pub(super) durable: u32,
    /// How it begins, for when the file comes again.
    pub(super) beginning: (Writer, Vec<u8>),
}

/// Syncing beside everything else.
pub(super) struct Syncer {
    jobs: mpsc::SyncSender<SyncJob>,
    synced: mpsc::Receiver<Result<SyncJob, DiskError>>,
    due: Time,
    is_busy: bool,
    thread: JoinHandle<()>,
}

struct SyncJob {
    file: usize,
    part: Part,
    journal: Arc<File>,
    records: u32,
    recorded: u32,
    /// Of this file.
    is_first: bool,
}

impl Journal {
    pub(super) fn append(&mut self, index: u32, part: &Part) -> Result<(), DiskError> {
        let piece = self.pieces.get(index).expect("as many pieces as blocks");
        let record = self.writer.piece(piece);
        self.recorded += 1;
        self.write(&record, part)
    }

    fn write(&self, record: &[u8], part: &Part) -> Result<(), DiskError> {
        self.file.as_ref().write_all(record).map_err(|error| part.failed("write the journal of", error))
    }
}

impl Syncer {
    pub(super) fn start() -> io::Result<Self> {
        let (jobs, received) = mpsc::sync_channel::<SyncJob>(1);
        let (told, synced) = mpsc::channel();
        let sync = move || {
            while let Ok(job) = received.recv() {
                // The data first: a record must not outlive what it speaks of.
                let done = job.part.file.sync_data().and_then(|()| job.journal.sync_data());
                // Nor may it be without a name: nothing made that durable yet.
                let done = done.and_then(|()| if job.is_first { sync_folder(&job.part.path) } else { Ok(()) });
                let done = done.map_err(|error| job.part.failed("sync", error)).map(|()| job);
                if told.send(done).is_err() {
                    return;
                }
            }
        };
        let thread = std::thread::Builder::new().name("disk-sync".into()).spawn(sync)?;
        let due = clock::now() + SYNC_EVERY;
        Ok(Syncer { jobs, synced, due, is_busy: false, thread })
    }

    /// Starts a sync if one is due, and records what is durable when one is over.
    pub(super) fn step(&mut self, files: &mut [Work]) -> Result<(), WorkError> {
        loop {
            let synced = match self.synced.try_recv() {
                Ok(synced) => synced,
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Disconnected) => return Err(WorkError::BrokeOff("syncs files")),
            };
            self.is_busy = false;
            let SyncJob { file, records, recorded, .. } = synced?;
            if let Source::Part { part, journal: Some(journal), .. } = &mut files[file].source {
                let record = journal.writer.checkpoint(records);
                journal.write(&record, part)?;
                journal.durable = recorded;
            }
        }
        let now = clock::now();
        if self.is_busy || now < self.due {
            return Ok(());
        }
        self.due = now + SYNC_EVERY;
        // One file at a time, the one with most to lose first.
        let unsynced = files.iter().enumerate().filter_map(|(file, work)| match &work.source {
            Source::Part { part, journal: Some(journal), .. } if journal.recorded > journal.durable => {
                let (records, recorded) = (journal.writer.records(), journal.recorded);
                let (part, is_first) = (part.clone(), journal.durable == 0);
                Some(SyncJob { file, part, journal: Arc::clone(&journal.file), records, recorded, is_first })
            }
            _ => None,
        });
        if let Some(job) = unsynced.max_by_key(|job| job.recorded) {
            self.is_busy = self.jobs.try_send(job).is_ok();
        }
        Ok(())
    }

    /// Ends it, after what it was given.
    pub(super) fn end(self) {
        drop(self.jobs);
        if self.thread.join().is_err() {
            tracing::error!("the thread that syncs panicked");
        }
    }
}
