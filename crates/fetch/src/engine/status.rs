//! What goes into an engine at its start, and what can be read off it at any time.

use bytes::Bytes;

use crate::manifest::Digest;
use crate::protocol::{Boot, SourceState};

/// What an engine is told at its start.
#[derive(Clone, Debug)]
pub struct Config {
    /// The machine's current boot.
    pub boot: Boot,
    /// The SHA-256 that the whole file must have, if the user gave one.
    pub expect: Option<Digest>,
    /// What an earlier run left.
    pub remains: Option<Remains>,
    /// In how many ranges to fetch the file at least: none is longer than its length divided by this, rounded up, but for
    /// a piece that failed its hash. Absent: as measured speeds suggest.
    pub segments: Option<u32>,
    /// How sources serve that know nothing smaller than a block. Absent: any range of bytes.
    pub blocks: Option<Blocks>,
}

/// Sources that serve whole blocks, at a pace of their own, and come and go: the channels of a peer-to-peer protocol.
///
/// Ranges end where blocks end, and are asked for ahead as far as the delay of an answer reaches. A lack of sources is no
/// failure, for there may be others soon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Blocks {
    /// Of a block, in bytes; not 0.
    pub size: u32,
    /// How many sources there will be at once.
    pub sources: u32,
}

impl Config {
    /// A fresh download without any demands.
    pub fn new(boot: Boot) -> Self {
        Config { boot, expect: None, remains: None, segments: None, blocks: None }
    }
}

/// What an earlier run left on the disk.
///
/// Where there are hashes, all that the journal does not vouch for is rehashed: a driver that knows of holes in the part
/// file may answer for them without reading.
#[derive(Clone, Debug)]
pub struct Remains {
    /// The content of the journal; empty if it is missing.
    pub journal: Bytes,
    /// Length of the part file in bytes. (If there is none, there are no remains.)
    pub part_length: u64,
}

/// How far a download is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Length of the file in bytes, once known.
    pub length: Option<u64>,
    /// Bytes of the file that are here, checked or about to be, those of earlier runs included.
    pub here: u64,
    /// Bytes in pieces that are verified and recorded.
    pub recorded: u64,
    /// Body bytes received by this engine.
    pub received: u64,
    /// Of those, bytes that were of no use: fetched twice, too late, or corrupt.
    pub wasted: u64,
    /// Bytes given to the disk and not yet reported written.
    pub unwritten: u64,
}

/// How a source stands and what it did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceStatus {
    /// Its state.
    pub state: SourceState,
    /// Body bytes received from it.
    pub received: u64,
    /// Bytes asked of it and not taken back: received and still to come.
    pub assigned: u64,
    /// Measured speed in bytes per second; zero when nothing is being received.
    pub rate: u64,
}
