//! What the engine hears and says: the contract with its driver.
//!
//! A driver feeds [`Input`]s, and carries out [`Output`]s:
//!
//! * **Requests** are named by a [`RequestId`], never used twice. Each ends with one [`Input::Described`] (a describing
//!   one that succeeded; with [`Hashes::Awaited`] it goes on until [`Input::Hashes`]) or one [`Input::Closed`], unless the engine cancelled it: then nothing more need be said of it,
//!   and what is said is ignored (late body bytes are counted as wasted).
//!   With the last byte that it wanted a range is over for the engine: it may give the next one at once, and does not
//!   wait for `Closed` with [`CloseReason::Complete`].
//! * A source may have **several open ranges at once**, at most [`RANGES_AT_ONCE`](crate::tuning::RANGES_AT_ONCE), or
//!   [`BLOCKS_AT_ONCE`](crate::tuning::BLOCKS_AT_ONCE) where it serves blocks: the engine asks for the next before the
//!   current one ends, so that the source never idles. Send them behind each other on one connection (pipelining) where the
//!   server lets you, so that they do not compete.
//! * **Disk outputs** (`Prepare`, `Write`, `Append`, `Sync`, `Hash`, `HashFile`) name what they must follow. Writes may be
//!   carried out in any order among themselves. `Prepare` is carried out after every write given before it and before
//!   every write given after it. `Append`s keep their order. A `Hash` is given when the bytes of its piece are written.
//! * **Backpressure**: read no body while [`Engine::wants_body`](crate::Engine::wants_body) is false.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;

use crate::manifest::{Digest, Manifest, Validator};
use crate::pieces::{ByteRange, PieceIndex};

/// A source, numbered from 0 in the order of [`Engine::add_source`](crate::Engine::add_source).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SourceId(pub(crate) usize);

impl SourceId {
    /// The position in the order of addition.
    pub const fn index(self) -> usize {
        self.0
    }
}

/// One request, unique in the life of an engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub(crate) u64);

impl RequestId {
    /// The number, for logs.
    pub const fn value(self) -> u64 {
        self.0
    }
}

/// Tells disk answers of an abandoned file from those of the current one: return it as it came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Generation(pub(crate) u32);

/// Identifies one boot of the machine (on Linux `/proc/sys/kernel/random/boot_id`). Within one boot what was written is
/// still there; after another one only what was synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Boot(pub [u8; 16]);

/// What a source says about its file before any of it is fetched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Description {
    /// Bytes.
    pub length: u64,
    /// The entity tag, if the source gives one.
    pub validator: Option<Validator>,
    /// Whether it serves byte ranges.
    pub ranges: bool,
    /// The hashes it publishes.
    pub hashes: Hashes,
}

/// What a source says of hashes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hashes {
    /// There are none, or nobody asked.
    Unpublished,
    /// They are on their way, or still being computed: [`Input::Hashes`] follows. Bytes are fetched meanwhile, and
    /// checked when it comes.
    Awaited,
    /// These.
    Published(Arc<Manifest>),
}

impl Description {
    /// The hashes, if they are known.
    pub fn manifest(&self) -> Option<&Arc<Manifest>> {
        if let Hashes::Published(manifest) = &self.hashes { Some(manifest) } else { None }
    }
}

/// What the head of an answer says about the body that follows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// The bytes of the file that the body holds: `Content-Range`, or the whole for a 200.
    pub range: ByteRange,
    /// Length of the whole file, if told.
    pub total: Option<u64>,
    /// The entity tag, if told.
    pub validator: Option<Validator>,
}

/// Why a request is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, thiserror::Error)]
pub enum CloseReason {
    /// The whole answer came.
    #[error("complete")]
    Complete,
    /// Nobody listens there.
    #[error("connection refused")]
    Refused,
    /// The connection broke before the answer was whole.
    #[error("connection reset")]
    Reset,
    /// The network said that it cannot be reached, or the driver gave up waiting.
    #[error("no answer")]
    TimedOut,
    /// An answer with this status, which is not one that carries the file.
    #[error("status {0}")]
    Status(u16),
    /// An answer that breaks the protocol.
    #[error("not a valid answer")]
    Violation,
    /// An answer about another length or entity tag than the source described.
    #[error("its file has changed")]
    Changed,
}

/// What can happen to an engine.
#[derive(Clone, Debug)]
pub enum Input {
    /// A [`Output::Describe`] succeeded.
    Described {
        /// The request, which is over.
        request: RequestId,
        /// What was learnt.
        description: Description,
    },
    /// The question of an [`Output::Describe`] has a connection: its source is there, however long the answer takes.
    /// May be left out, and may come again.
    Reached {
        /// The request.
        request: RequestId,
    },
    /// The hashes that a description left [`Hashes::Awaited`].
    Hashes {
        /// The describing request, which is over now.
        request: RequestId,
        /// What came; `None` if the source has none after all.
        manifest: Option<Arc<Manifest>>,
    },
    /// The head of the answer to an [`Output::Open`] came, with status 206 (or 200: the whole file follows).
    Opened {
        /// The request.
        request: RequestId,
        /// What it announces.
        head: Head,
    },
    /// Body bytes, in order from the start of the announced range.
    Body {
        /// The request.
        request: RequestId,
        /// At least one byte.
        bytes: Bytes,
    },
    /// A request is over.
    Closed {
        /// The request.
        request: RequestId,
        /// Why.
        why: CloseReason,
    },
    /// The check server's word about a source. Believed when the connection says nothing to the contrary.
    Liveness {
        /// The source.
        source: SourceId,
        /// Whether it is said to be alive.
        alive: bool,
    },
    /// Somebody who is no source, such as a check server, says what SHA-256 the whole file should have. It decides where
    /// the user gave none and no source publishes any.
    Expect(Expectation),
    /// More of an answer is here, and the driver holds it back to keep to a rate: a sign of life, and no silence.
    Held {
        /// The request.
        request: RequestId,
    },
    /// An [`Output::Write`] is done: another process would read the bytes.
    Written {
        /// As in the output.
        generation: Generation,
        /// As in the output.
        offset: u64,
        /// Length of what was written.
        len: u64,
    },
    /// The answer to [`Output::Hash`].
    Hashed {
        /// As in the output.
        generation: Generation,
        /// As in the output.
        piece: PieceIndex,
        /// Of the bytes that are on the disk; of what can be read of them if the file is short.
        digest: Digest,
    },
    /// The answer to [`Output::HashFile`].
    FileHashed {
        /// As in the output.
        generation: Generation,
        /// Of the bytes on the disk.
        digest: Digest,
    },
    /// The answer to [`Output::Sync`].
    Synced {
        /// As in the output.
        generation: Generation,
    },
}

/// What is known of the SHA-256 of the whole file by somebody who is no source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expectation {
    /// Nothing.
    Nothing,
    /// It is being computed: a file that nothing else vouches for waits for it.
    Awaited,
    /// This.
    Digest(Digest),
}

/// What an engine wants done.
#[derive(Clone, Debug)]
pub enum Output {
    /// Connect, and learn length, entity tag and range support; hashes too if `manifest`. Answer `Described` as soon as
    /// the file is known, whether the hashes are or not; or `Closed`.
    Describe {
        /// The new request.
        request: RequestId,
        /// Whom to ask.
        source: SourceId,
        /// Whether to fetch the hashes; else the description may leave them unpublished.
        manifest: bool,
    },
    /// Ask for a range, with `If-Range`/`If-Match` on `validator` as the protocol allows.
    Open {
        /// The new request.
        request: RequestId,
        /// Whom to ask.
        source: SourceId,
        /// Which bytes; never empty. The whole file from a source without ranges.
        range: ByteRange,
        /// The source's own entity tag.
        validator: Option<Validator>,
    },
    /// Stop a request at once; its connection may have to go.
    Cancel {
        /// The request.
        request: RequestId,
    },
    /// Make the part file ready. First replace the journal, atomically and durably, by `journal` (so that no old record
    /// speaks for new data); then bring the part file to `length`, emptied if `fresh`.
    Prepare {
        /// The file that disk outputs speak of from here on.
        generation: Generation,
        /// Bytes.
        length: u64,
        /// Whether what the part file holds is worthless.
        fresh: bool,
        /// The whole content of the new journal.
        journal: Bytes,
    },
    /// Write to the part file; answer `Written`.
    Write {
        /// For the answer.
        generation: Generation,
        /// Where.
        offset: u64,
        /// What; the buffer that came in with `Body`.
        bytes: Bytes,
    },
    /// Append to the journal, after every `Append` before it. Not answered.
    Append {
        /// Whole records.
        record: Bytes,
    },
    /// Make what is written durable: the part file, then the journal. Beside the data path; answer `Synced`.
    Sync {
        /// For the answer.
        generation: Generation,
    },
    /// Read a piece back and hash it, beside the data path; answer `Hashed`.
    Hash {
        /// For the answer.
        generation: Generation,
        /// Which piece.
        piece: PieceIndex,
        /// Its bytes in the file.
        range: ByteRange,
    },
    /// Hash the whole part file; answer `FileHashed`.
    HashFile {
        /// For the answer.
        generation: Generation,
    },
    /// Something a person would like to know; nothing need be done.
    Note(Note),
    /// The end; nothing follows. If complete: sync, rename, remove the journal, tell the check server. If failed with
    /// [`Failure::Digest`]: remove part file and journal, for they are known to be wrong.
    Finished(Outcome),
}

/// What happened, for status lines and events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Note {
    /// A source changed its state.
    Source {
        /// Which.
        source: SourceId,
        /// Into what.
        state: SourceState,
    },
    /// The file is known.
    Identified {
        /// Bytes.
        length: u64,
        /// Bytes that need not be fetched, as far as known before any rehash.
        resumed: u64,
        /// Number of pieces that are rehashed before they count.
        rehashed: u32,
    },
    /// Hashes of the pieces came, for a file that was begun without: what is here is checked against them.
    Hashed {
        /// Bytes that are here.
        here: u64,
    },
    /// The hashes that a source said to follow did not come in time, and are waited for no longer.
    HashesMissing {
        /// The source.
        source: SourceId,
    },
    /// The SHA-256 that was [`Expectation::Awaited`] did not come in time, and is waited for no longer.
    ExpectationMissing,
    /// A source serves no byte ranges: it can only send everything, and does so when no other source delivers.
    NoRanges {
        /// The source.
        source: SourceId,
    },
    /// What was fetched so far is of another file; it starts again from nothing.
    Restarted {
        /// Bytes given up.
        lost: u64,
    },
    /// A piece did not have its hash, and is fetched again.
    Corrupt {
        /// The piece.
        piece: PieceIndex,
        /// Who sent it; several if it came in parts, none if it lay on the disk.
        senders: Vec<SourceId>,
    },
}

/// How a source stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SourceState {
    /// Being asked; not yet answered, or not again.
    Connecting,
    /// Answers, and may be given work.
    Alive,
    /// Does not answer, for this reason; it is tried again.
    Down(CloseReason),
    /// Will not be used again, unless it turns out to be in the majority.
    SetApart(Aside),
}

/// Why a source is set apart.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Aside {
    /// Its connection is over, and it was taken away.
    #[error("it is gone")]
    Gone,
    /// It has another length.
    #[error("its file has {theirs} bytes where the others have {ours}")]
    Length {
        /// Of the file being fetched.
        ours: u64,
        /// Of this source.
        theirs: u64,
    },
    /// It has another entity tag.
    #[error("its file has entity tag {theirs} where the others have {ours}")]
    Validator {
        /// Of the file being fetched.
        ours: Validator,
        /// Of this source.
        theirs: Validator,
    },
    /// It publishes other hashes.
    #[error("it publishes other hashes than the others")]
    Hashes,
    /// It publishes another SHA-256 than the expected one, or what was fetched of this file had another.
    #[error("its file does not have the expected SHA-256")]
    Expected,
    /// It sent this many corrupt pieces.
    #[error("it sent {pieces} corrupt pieces")]
    Corrupt {
        /// How many.
        pieces: u32,
    },
    /// It broke the protocol this many times in a row.
    #[error("it broke the protocol {times} times")]
    Violations {
        /// How many.
        times: u32,
    },
}

/// How it ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The file is whole.
    Complete {
        /// What vouches for it.
        integrity: Integrity,
    },
    /// There is no right file, and why.
    Failed(Failure),
}

/// What vouches for a complete file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Integrity {
    /// Every piece has the SHA-256 of the manifest.
    Pieces,
    /// The whole has the expected SHA-256.
    Whole,
    /// Nothing but the transport: no hashes were to be had.
    Transport,
}

/// Why there is no file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// Every source is set apart, or refuses again and again.
    #[error("no source is left that could have the file")]
    NoSource,
    /// A piece never had its hash, whoever sent it.
    #[error("{piece} had a wrong hash from every source")]
    Corrupt {
        /// The piece.
        piece: PieceIndex,
    },
    /// The whole file does not have the expected hash.
    #[error("the file has SHA-256 {found}, expected {expected}")]
    Digest {
        /// Of what was fetched.
        found: Digest,
        /// What it should be.
        expected: Digest,
    },
}

/// Why the engine wants to be woken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Why {
    /// To ask a source that does not answer.
    Probe(SourceId),
    /// To give up an unanswered question.
    Unanswered(RequestId),
    /// To see whether bytes still flow from a source.
    Stall(SourceId),
    /// To give idle sources a share of what is left.
    Rebalance,
    /// To sync the journal.
    Sync,
    /// To wait no longer for hashes.
    Hashes,
}

impl fmt::Display for SourceState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SourceState::Connecting => f.write_str("connecting"),
            SourceState::Alive => f.write_str("alive"),
            SourceState::Down(why) => write!(f, "down: {why}"),
            SourceState::SetApart(why) => write!(f, "set apart: {why}"),
        }
    }
}
