//! Hashing the file in the background: pieces first, since they are what a downloader needs, then the whole.
#![allow(unsafe_code, reason = "lowers the priority of one thread, which no safe wrapper offers")]

use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::Duration;

use fetch::{ByteRange, Digest, Manifest};
use tokio::sync::watch;

use super::content::{Identity, READ, Snapshot};
use crate::page_buffer::PageBuffer;
use crate::{clock, metalink};

/// A request for the hashes waits this long for them before it is told to come back.
const PATIENCE: Duration = Duration::from_millis(500);

/// The hashes of the file's latest state, once they are known.
#[derive(Debug)]
pub(crate) struct Hashes {
    known: watch::Receiver<Option<Known>>,
    jobs: Mutex<Jobs>,
}

#[derive(Debug)]
struct Jobs {
    /// What was given to the hasher last.
    wanted: Identity,
    to_hasher: mpsc::Sender<Arc<Snapshot>>,
}

#[derive(Clone, Debug)]
struct Known {
    of: Identity,
    /// Empty for a file that cannot be cut into pieces, or went away while it was read.
    manifest: Option<Arc<Manifest>>,
}

impl Hashes {
    /// Begins to hash `snapshot` on a thread of low priority.
    pub(crate) fn start(snapshot: Arc<Snapshot>) -> Self {
        let (to_hasher, jobs) = mpsc::channel::<Arc<Snapshot>>();
        let (publish, known) = watch::channel(None);
        let wanted = snapshot.identity;
        to_hasher.send(snapshot).expect("its receiver is at hand");
        std::thread::Builder::new()
            .name("hashes".into())
            .spawn(move || {
                yield_to_others();
                while let Ok(mut snapshot) = jobs.recv() {
                    // Only the latest state is worth the work.
                    snapshot = jobs.try_iter().last().unwrap_or(snapshot);
                    hash(&snapshot, |manifest| {
                        let manifest = manifest.map(Arc::new);
                        publish.send_replace(Some(Known { of: snapshot.identity, manifest }));
                    });
                }
            })
            .expect("a program that serves can start one thread");
        Hashes { known, jobs: Mutex::new(Jobs { wanted, to_hasher }) }
    }

    /// The Metalink of this state of the file, called `name` (percent-encoded) and found at `url`; waits a little for the hashes. `None` if
    /// they take longer.
    pub(crate) async fn metalink(&self, snapshot: &Arc<Snapshot>, name: &str, url: &str) -> Option<String> {
        self.want(snapshot);
        let mut known = self.known.clone();
        let deadline = clock::instant(clock::now()) + PATIENCE;
        let of = snapshot.identity;
        let ready = known.wait_for(|known| known.as_ref().is_some_and(|known| known.of == of));
        let known = tokio::time::timeout_at(deadline, ready).await.ok()?.ok()?.clone()?;
        let plain = String::from_utf8_lossy(&crate::http::url::decode(name)).into_owned();
        known.manifest.map(|manifest| metalink::write(&plain, url, &manifest))
    }

    fn want(&self, snapshot: &Arc<Snapshot>) {
        let mut jobs = self.jobs.lock().unwrap_or_else(PoisonError::into_inner);
        if jobs.wanted != snapshot.identity {
            jobs.wanted = snapshot.identity;
            jobs.to_hasher.send(Arc::clone(snapshot)).expect("the hasher lives as long as its sender");
        }
    }
}

/// Powers of two from 256 KiB, so that a file has at most 4096 pieces: its Metalink stays below 400 kB.
fn piece_size(length: u64) -> Option<u32> {
    const MOST: u64 = 4096;
    (18..32).map(|bits| 1u32 << bits).find(|size| length.div_ceil(u64::from(*size)) <= MOST)
}

/// Publishes the hashes of the pieces as soon as they are known, then the same with the hash of the whole.
fn hash(snapshot: &Snapshot, mut publish: impl FnMut(Option<Manifest>)) {
    let length = snapshot.identity.length;
    let Some(piece_size) = piece_size(length) else { return publish(None) };
    let count = length.div_ceil(u64::from(piece_size));
    let mut buffer = PageBuffer::new(READ);
    let mut digest = |start: u64, end: u64| snapshot.digest(ByteRange::new(start, end), &mut buffer);
    let hashes: Option<Vec<Digest>> = (0..count)
        .map(|piece| piece * u64::from(piece_size))
        .map(|start| digest(start, (start + u64::from(piece_size)).min(length)))
        .collect();
    let Some(hashes) = hashes.filter(|_| snapshot.is_unchanged()) else { return publish(None) };
    // One piece is the whole.
    let only = if let [only] = hashes[..] { Some(only) } else { None };
    let manifest = |whole| Manifest::of_pieces(length, piece_size, hashes.clone(), whole).ok();
    if only.is_some() || length == 0 {
        return publish(manifest(only.or(Some(Digest::of(b"")))));
    }
    publish(manifest(None));
    if let Some(whole) = digest(0, length).filter(|_| snapshot.is_unchanged()) {
        publish(manifest(Some(whole)));
    }
}

/// Serving comes first, and so does whatever else runs on this machine.
pub(crate) fn yield_to_others() {
    // SAFETY: takes numbers only; on Linux "this process" (0) is the calling thread.
    let lowered = unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, 10) };
    if lowered != 0 {
        tracing::debug!("hashing at normal priority");
    }
}

#[cfg(test)]
mod tests {
    use super::super::content::Content;
    use super::*;

    #[test]
    fn pieces_are_few_and_powers_of_two() {
        for length in [0, 1, 256 << 10, 1 << 30, (1 << 30) + 1, 20 << 30, 1 << 43] {
            let size = u64::from(piece_size(length).unwrap());
            assert!(size.is_power_of_two() && length.div_ceil(size) <= 4096, "{length}");
        }
        assert_eq!(piece_size(u64::MAX), None);
    }

    #[tokio::test]
    async fn hashes_are_those_of_the_bytes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("f");
        let bytes: Vec<u8> = (0..700_000u32).map(|n| (n % 251) as u8).collect();
        for length in [0, 5, 700_000] {
            std::fs::write(&path, &bytes[..length]).unwrap();
            let content = Content::at(path.clone()).unwrap();
            let hashes = Hashes::start(content.open().unwrap());
            let complete = |known: &Option<Known>| {
                known.as_ref().and_then(|k| k.manifest.as_ref()).is_some_and(|manifest| manifest.whole().is_some())
            };
            let known = hashes.known.clone().wait_for(complete).await.unwrap().clone().unwrap();
            let manifest = known.manifest.unwrap();
            assert_eq!(manifest.whole(), Some(Digest::of(&bytes[..length])));
            for piece in manifest.pieces().iter() {
                let range = manifest.pieces().range(piece);
                let expected = Digest::of(&bytes[range.start as usize..range.end as usize]);
                assert_eq!(manifest.hash(piece), Some(expected));
            }
        }
    }
}
