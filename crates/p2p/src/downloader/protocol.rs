//! What the downloader hears and says: the contract with its driver.
//!
//! * **Channels** are TCP connections, named by a [`ChannelId`] that is never used twice. Each begins with
//!   [`Output::Connect`], and ends with [`Input::Closed`] or with [`Output::Close`]; after either nothing more is said of
//!   it, and what is said is ignored. No more than [`Config::connections`] are open or being opened at a time: carry out a
//!   `Close` before the `Connect` that follows it.
//! * **Disk outputs** are those of the [`fetch`] crate, and their rules: write, hash and sync as [`fetch::protocol`] says,
//!   and return the answers as [`Input::Disk`].
//! * **Backpressure**: read no channel while [`Downloader::wants_body`](super::Downloader::wants_body) is false.

use std::net::SocketAddr;

use bytes::Bytes;
use fetch::{Boot, CloseReason, Digest, Outcome, Remains};
use machine::Span as Duration;

/// What a downloader is told at its start.
#[derive(Clone, Debug)]
pub struct Config {
    /// The name of the file, as the tracker knows it.
    pub file: String,
    /// The machine's current boot.
    pub boot: Boot,
    /// The SHA-256 that the file must have, if the user gave one; else the tracker's counts, if it tells one.
    pub expect: Option<Digest>,
    /// What an earlier run left.
    pub remains: Option<Remains>,
    /// Connections at once; the published protocol allows [`CONNECTIONS`].
    pub connections: usize,
    /// The size of a block, in bytes; the published one is [`BLOCK`](crate::layout::BLOCK).
    pub block: u64,
    /// The least time between two questions to the tracker; the published one answers once in 2 s.
    pub ask_every: Duration,
}

/// Connections that the published protocol allows a client.
pub const CONNECTIONS: usize = 5;

/// One connection to a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChannelId(pub u64);

/// How a connection does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChannelStatus {
    /// Which.
    pub channel: ChannelId,
    /// Whom to.
    pub peer: SocketAddr,
    /// Bytes of answers on it.
    pub received: u64,
    /// What is known of its peer's pace, in bytes per second; 0 where nothing is.
    pub rate: u64,
}

/// What can happen to a downloader.
#[derive(Clone, Debug)]
pub enum Input {
    /// A datagram came from the tracker.
    Tracker(Bytes),
    /// A connection stands.
    Connected(ChannelId),
    /// Bytes came on it.
    Received {
        /// Which.
        channel: ChannelId,
        /// At least one byte.
        bytes: Bytes,
    },
    /// It is over, or could not be made.
    Closed {
        /// Which.
        channel: ChannelId,
        /// Why; [`CloseReason::Complete`] where the peer ended it in order.
        why: CloseReason,
    },
    /// The answer to an [`Output::Disk`]: `Written`, `Hashed`, `FileHashed` or `Synced`.
    Disk(fetch::Input),
}

/// What a downloader wants done.
#[derive(Clone, Debug)]
pub enum Output {
    /// Send the tracker this datagram.
    AskTracker(Bytes),
    /// Connect to a peer; answer `Connected` or `Closed`.
    Connect {
        /// The new channel.
        channel: ChannelId,
        /// Whom to.
        peer: SocketAddr,
    },
    /// Write this to a channel; it is at most a few kilobytes, and may wait for the connection to stand.
    Send {
        /// Which.
        channel: ChannelId,
        /// Whole lines.
        bytes: Bytes,
    },
    /// Close a channel at once, whatever is still to come on it.
    Close {
        /// Which.
        channel: ChannelId,
    },
    /// `Prepare`, `Write`, `Append`, `Sync`, `Hash` or `HashFile`; nothing else.
    Disk(fetch::Output),
    /// Something a person would like to know; nothing need be done.
    Note(Note),
    /// The end; nothing follows. As with [`fetch::Output::Finished`]: if complete, sync, rename and remove the journal; if
    /// failed for its digest, remove part file and journal.
    Finished(Outcome),
}

/// What happened, for status lines and events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Note {
    /// The tracker's first answer: there is such a file.
    Found {
        /// Its size, in bytes.
        size: u64,
        /// In how many blocks.
        blocks: u64,
    },
    /// The tracker names a peer that was not known.
    Peer(SocketAddr),
    /// The tracker said something that is no answer, or of another file.
    TrackerOdd(String),
    /// A channel stands.
    Opened {
        /// Which.
        channel: ChannelId,
        /// Whom to.
        peer: SocketAddr,
    },
    /// A channel was given up for a better peer.
    Moved {
        /// Which ends.
        channel: ChannelId,
        /// Whom from.
        from: SocketAddr,
        /// Whom to.
        to: SocketAddr,
    },
    /// A channel broke, or could not be made.
    Lost {
        /// Whom to.
        peer: SocketAddr,
        /// Why.
        why: CloseReason,
    },
    /// A peer said what no peer may say; nothing more is asked of it.
    Banned {
        /// Whom.
        peer: SocketAddr,
        /// What it said.
        why: String,
    },
    /// Nobody is known who has the file; the tracker is asked on.
    Alone,
    /// From the engine: resumed, restarted, corrupt.
    Engine(fetch::Note),
}

/// Why a downloader wants to be woken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Why {
    /// To ask the tracker.
    Ask,
    /// To weigh where channels bring most.
    Place,
    /// For its engine.
    Engine(fetch::Why),
}
