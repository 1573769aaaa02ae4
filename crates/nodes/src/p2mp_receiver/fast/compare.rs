//! Files that are under their final names already, compared with those that are sent: on a thread of its own, for what is
//! received meanwhile must not wait.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::mpsc;
use std::sync::{Arc, Weak};

use nix::sys::eventfd::EventFd;

use super::prefix;
use crate::file_server::hashes::yield_to_others;

/// Compares files; dropped, it ends without an answer.
#[derive(Debug)]
pub(super) struct Comparer {
    /// Of each file whether there is something to compare.
    there: Vec<Option<File>>,
    jobs: mpsc::Sender<(usize, File, [u8; 32])>,
    answers: mpsc::Receiver<(usize, bool)>,
    /// The thread ends when this has gone.
    _wanted: Arc<()>,
}

impl Comparer {
    /// Starts it with what is there of each file; `wake` is written to with every answer.
    pub(super) fn start(there: Vec<Option<File>>, wake: Arc<EventFd>) -> io::Result<Self> {
        let (jobs, received) = mpsc::channel::<(usize, File, [u8; 32])>();
        let (told, answers) = mpsc::channel();
        let wanted = Arc::new(());
        let is_wanted = Arc::downgrade(&wanted);
        let compare = move || {
            yield_to_others();
            let mut buffer = prefix::buffer();
            for (index, file, digest) in received {
                // What cannot be read is not the file.
                let is_right = hash(&file, &mut buffer, &is_wanted).is_ok_and(|found| found == digest);
                if told.send((index, is_right)).is_err() {
                    return;
                }
                let _ = wake.write(1);
            }
        };
        std::thread::Builder::new().name("disk-compare".into()).spawn(compare)?;
        Ok(Comparer { there, jobs, answers, _wanted: wanted })
    }

    /// The files to compare, by their positions.
    pub(super) fn files(&self) -> Vec<usize> {
        self.there.iter().enumerate().filter_map(|(index, there)| there.as_ref().map(|_| index)).collect()
    }

    /// Compares a file; each once.
    pub(super) fn give(&mut self, index: usize, digest: [u8; 32]) {
        if let Some(file) = self.there.get_mut(index).and_then(Option::take) {
            // Only a defect ends it before; then the file is received like any other.
            let _ = self.jobs.send((index, file, digest));
        }
    }

    /// A file, and whether it has the digest.
    pub(super) fn answer(&self) -> Option<(usize, bool)> {
        self.answers.try_recv().ok()
    }
}

fn hash(file: &File, buffer: &mut [u8], is_wanted: &Weak<()>) -> io::Result<[u8; 32]> {
    let mut hasher = blake3::Hasher::new();
    let mut at = 0;
    loop {
        match file.read_at(buffer, at) {
            Ok(0) => return Ok(*hasher.finalize().as_bytes()),
            Ok(_) if is_wanted.strong_count() == 0 => return Err(io::ErrorKind::Interrupted.into()),
            Ok(read) => {
                hasher.update(&buffer[..read]);
                at += read as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}
