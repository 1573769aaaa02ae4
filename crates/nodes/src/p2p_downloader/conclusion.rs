//! How it ends, on the disk and in words.

use fetch::{Digest, Failure, Integrity, Outcome, Progress};
use machine::{Span, Time};

use super::P2pDownloaderError;
use crate::clock;
use crate::downloader::disk::{Disk, DiskError};
use crate::downloader::display::vouched;
use crate::downloader::place::Place;
use crate::downloader::reporter::Reporter;
use crate::exit::Exit;

/// Why the loop ended.
pub(super) enum End {
    Outcome(Outcome),
    Interrupted,
    /// Nothing came for so long.
    Silence(Span),
    Disk(DiskError),
}

/// What is known at the end.
pub(super) struct Ending {
    pub(super) end: End,
    pub(super) progress: Progress,
    pub(super) began: Time,
    /// That the file had to have, if it was known.
    pub(super) expected: Option<Digest>,
}

/// Brings the disk to rest, puts the file in its place, tells everybody.
pub(super) async fn conclude(
    ending: Ending,
    place: Place,
    disk: Disk,
    reporter: &Reporter,
) -> Result<Exit, P2pDownloaderError> {
    let Ending { end, progress, began, expected } = ending;
    match end {
        // The disk's threads may still work on a disk that fails; the lock goes with the process.
        End::Disk(DiskError::Cut { .. }) => Err(place.changed().into()),
        End::Disk(error) => {
            let has_written = disk.has_written();
            let kept = place.leave(has_written);
            if kept > 0 || has_written {
                eprintln!("{kept} bytes are kept; --resume goes on from here");
            }
            Err(error.into())
        }
        End::Interrupted => {
            let kept = leave(place, disk).await;
            eprintln!("interrupted; {kept} bytes are kept, --resume goes on from here");
            Ok(Exit::Interrupted)
        }
        End::Silence(span) => {
            let kept = leave(place, disk).await;
            eprintln!("failed: nothing has come for {span}; {kept} bytes are kept, --resume goes on from here");
            Ok(Exit::Failed)
        }
        End::Outcome(Outcome::Failed(failure)) => {
            if matches!(failure, Failure::Digest { .. }) {
                blocking(move || {
                    disk.finish();
                    place.discard();
                })
                .await;
            } else {
                leave(place, disk).await;
            }
            eprintln!("failed: {failure}");
            Ok(Exit::Failed)
        }
        End::Outcome(Outcome::Complete { integrity }) => {
            let length = progress.length.unwrap_or_default();
            let completed = blocking(move || {
                let was_written = disk.finish();
                place.complete(length, was_written)
            });
            let target = completed.await?;
            reporter.finished(length, expected.filter(|_| integrity != Integrity::Transport));
            eprintln!(
                "{}: {length} bytes in {:.2} s; {}; {} bytes received for nothing",
                target.display(),
                clock::now().since(began).as_secs_f64(),
                vouched(integrity),
                progress.wasted,
            );
            Ok(Exit::Done)
        }
    }
}

/// Keeps what is of use; how much is recorded.
async fn leave(place: Place, disk: Disk) -> u64 {
    blocking(move || {
        let has_written = disk.has_written();
        disk.finish();
        place.leave(has_written)
    })
    .await
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(work).await.expect("disk work does not panic and is not cancelled")
}
