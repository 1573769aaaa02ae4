//! The last step of a classic file, on a thread of its own: a disk may take seconds to sync, and other senders' timers run
//! meanwhile.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc;
use std::thread::JoinHandle;

use nix::sys::eventfd::{EfdFlags, EventFd};

use crate::downloader::PlaceError;
use crate::downloader::place::Place;

/// Gives whole files their names, one after the other. Dropped, it ends once all that it was given have theirs.
#[derive(Debug)]
pub(super) struct Finisher {
    jobs: Option<mpsc::Sender<Job>>,
    finished: mpsc::Receiver<Finished>,
    wake: Arc<EventFd>,
    thread: Option<JoinHandle<()>>,
}

/// A file whose end came.
struct Job {
    sender: SocketAddr,
    place: Place,
    length: u64,
}

/// What became of it.
#[derive(Debug)]
pub(super) struct Finished {
    /// Whose it is.
    pub(super) sender: SocketAddr,
    /// In bytes.
    pub(super) length: u64,
    /// Its name.
    pub(super) path: Result<PathBuf, PlaceError>,
}

impl Finisher {
    /// # Errors
    /// When the kernel has no descriptor or no thread left.
    pub(super) fn start() -> io::Result<Self> {
        let wake = Arc::new(EventFd::from_flags(EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC)?);
        let (jobs, given) = mpsc::channel::<Job>();
        let (told, finished) = mpsc::channel();
        let woken = Arc::clone(&wake);
        let finish = move || {
            for Job { sender, place, length } in given {
                let path = place.complete(length, false);
                if told.send(Finished { sender, length, path }).is_err() {
                    return;
                }
                // It can only be full of earlier calls.
                let _ = woken.write(1);
            }
        };
        let thread = std::thread::Builder::new().name("disk-finish".into()).spawn(finish)?;
        Ok(Finisher { jobs: Some(jobs), finished, wake, thread: Some(thread) })
    }

    /// Readable when a file is finished; then [`next`](Finisher::next) until there is none.
    pub(super) fn wake(&self) -> BorrowedFd<'_> {
        self.wake.as_fd()
    }

    /// The file of `sender` is whole, `length` bytes.
    pub(super) fn give(&self, sender: SocketAddr, place: Place, length: u64) {
        // The thread ends after this only.
        let _ = self.jobs.as_ref().map(|jobs| jobs.send(Job { sender, place, length }));
    }

    /// A file that is finished. From now on the descriptor is for what follows.
    pub(super) fn next(&self) -> Option<Finished> {
        let _ = self.wake.read();
        self.finished.try_recv().ok()
    }

    /// Waits for all that it was given.
    pub(super) fn end(&mut self) -> impl Iterator<Item = Finished> {
        self.join();
        self.finished.try_iter()
    }

    fn join(&mut self) {
        self.jobs.take();
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the thread that finishes files panicked");
        }
    }
}

impl Drop for Finisher {
    fn drop(&mut self) {
        self.join();
    }
}
