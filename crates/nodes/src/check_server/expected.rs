//! The SHA-256 that the file of all servers should have, computed from a copy of it.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use fetch::ByteRange;

use super::board::{Board, FileView};
use crate::file_server::content::{Content, ContentError, READ, Snapshot};
use crate::file_server::hashes::yield_to_others;
use crate::page_buffer::PageBuffer;

/// Between two looks at whether the file changed.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// Why there is nothing to hash.
#[derive(Debug, thiserror::Error)]
#[error("cannot hash {}", path.display())]
pub struct ExpectedError {
    /// The file.
    path: PathBuf,
    /// What is wrong with it.
    source: ContentError,
}

/// Hashes the file at `path` on a thread of low priority, and again whenever it changes; tells `board`.
pub(crate) fn follow(path: PathBuf, board: Arc<Board>) -> Result<(), ExpectedError> {
    let content = Content::at(path.clone());
    let (content, mut latest) = content
        .and_then(|content| content.open().map(|snapshot| (content, snapshot)))
        .map_err(|source| ExpectedError { path, source })?;
    // Known before the first downloader asks: a digest is to be waited for.
    board.set_file(being_hashed(&latest));
    std::thread::Builder::new()
        .name("hash".into())
        .spawn(move || {
            yield_to_others();
            let mut buffer = PageBuffer::new(READ);
            loop {
                let length = latest.identity.length;
                let sha256 = latest.digest(ByteRange::new(0, length), &mut buffer);
                if latest.is_unchanged() {
                    board.set_file(FileView::new(sha256, sha256.map(|_| length)));
                }
                latest = await_change(&content, latest);
                board.set_file(being_hashed(&latest));
            }
        })
        .expect("a program that serves can start one thread");
    Ok(())
}

fn being_hashed(snapshot: &Snapshot) -> FileView {
    FileView::new(None, Some(snapshot.identity.length))
}

/// The file in another state than `known`. What was known holds while there is no such file at all.
#[expect(clippy::disallowed_methods, reason = "a thread of its own, which does nothing but look now and then")]
fn await_change(content: &Content, known: Arc<Snapshot>) -> Arc<Snapshot> {
    loop {
        std::thread::sleep(LOOK_EVERY);
        match content.open() {
            Ok(now) if now.identity != known.identity => return now,
            _ => {}
        }
    }
}
