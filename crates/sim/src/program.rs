//! What runs in a node in virtual time: datagrams in and out, a deadline, reports.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;

use event::NodeReport;
use machine::Time;
use p2mp::fast::{DataHeader, Identity, SessionId};
use p2mp::{LossService, LossTally};
use topology::plan::FileId;

/// A node's program without sockets and files.
///
/// After its start and after every call, [`poll`](Program::poll) until `None`; then nothing until a datagram comes or
/// the [`deadline`](Program::deadline). After [`Act::Exit`] nothing is called any more. A program that is killed is
/// dropped; what it kept is what it has stored by [`Act::Keep`].
pub trait Program {
    /// A datagram has come to one of the node's addresses or to a group; whether it is for a port that this program
    /// listens on is for the program to say.
    fn receive(&mut self, now: Time, datagram: Datagram);

    /// Lets every deadline up to `now` fire.
    fn advance(&mut self, now: Time);

    /// When [`advance`](Program::advance) must be called at the latest.
    fn deadline(&self) -> Option<Time>;

    /// The next thing that it wants done.
    fn poll(&mut self) -> Option<Act>;

    /// Somebody asks it to end; the exit status, which by default is the one of an interrupted transfer.
    fn terminate(&mut self) -> i32 {
        130
    }
}

/// What a program wants done.
#[derive(Clone, Debug, PartialEq)]
pub enum Act {
    /// Send a datagram to an address of a node or to a group.
    Send {
        /// The port it comes from; the address is the node's own on the network that leads there.
        from_port: u16,
        /// Where to.
        to: SocketAddr,
        /// What.
        content: Content,
    },
    /// Print a line.
    Print(String),
    /// Tell the testbed.
    Report(NodeReport),
    /// Give a file its final name in the node's disk.
    Keep {
        /// The name.
        name: String,
        /// The file.
        kept: Kept,
    },
    /// Write down which blocks of a transfer are restored, in the place of what was written before.
    Record(Journal),
    /// End with this status.
    Exit(i32),
}

/// What a receiver tells of its loss service, if that does anything.
pub(crate) fn discarded(loss: &LossService) -> Option<Act> {
    let LossTally { arrived, discarded } = loss.tally()?;
    Some(Act::Report(NodeReport::Discarded { arrived, discarded }))
}

/// A datagram under way.
#[derive(Clone, Debug, PartialEq)]
pub struct Datagram {
    /// Its sender.
    pub from: SocketAddr,
    /// A node's address or a group's.
    pub to: SocketAddr,
    /// What it carries.
    pub content: Content,
}

/// What a datagram carries. File data is symbolic: which bytes of which file it would be.
#[derive(Clone, Debug, PartialEq)]
pub enum Content {
    /// These bytes.
    Bytes(Arc<[u8]>),
    /// A classic segment.
    Segment {
        /// Where its data begins in the file.
        sequence: u32,
        /// Bytes of data.
        length: u32,
        /// Whose data.
        file: FileId,
    },
    /// The answer to a classic segment.
    Acknowledgement {
        /// Of which.
        sequence: u32,
    },
    /// A data packet of the fast mode.
    Symbol {
        /// Of which session.
        session: SessionId,
        /// Which symbol.
        header: DataHeader,
        /// Bytes of it.
        length: u16,
    },
}

impl Content {
    /// Whether it goes in one packet or not at all (the fast mode forbids fragments, and probes what passes).
    pub fn is_never_cut(&self) -> bool {
        matches!(self, Content::Bytes(_) | Content::Symbol { .. })
    }

    /// Bytes of UDP payload.
    pub fn length(&self) -> u32 {
        match self {
            Content::Bytes(bytes) => bytes.len() as u32,
            Content::Segment { length, .. } => p2mp::classic::published::HEADER as u32 + length,
            Content::Acknowledgement { .. } => p2mp::classic::published::HEADER as u32,
            Content::Symbol { length, .. } => p2mp::fast::packet::DATA_HEADER as u32 + u32::from(*length),
        }
    }
}

/// A file in a node's disk: the first bytes of a file of the topology, as far as they are right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kept {
    /// The file whose bytes these are.
    pub file: FileId,
    /// How many.
    pub bytes: u64,
    /// The first byte that is another one than in `file`.
    pub differs_at: Option<u64>,
}

/// What a receiver in fast mode knows of an unfinished file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Journal {
    /// Which transfer.
    pub identity: Identity,
    /// Bytes of its symbols.
    pub payload: u16,
    /// The blocks that are there.
    pub blocks: BTreeSet<u32>,
}

/// What survives the death of a node's program.
#[derive(Debug, Default)]
pub struct Disk {
    files: BTreeMap<String, Kept>,
    journal: Option<Journal>,
}

impl Disk {
    /// The file of this name.
    pub fn file(&self, name: &str) -> Option<Kept> {
        self.files.get(name).copied()
    }

    /// Gives a file its final name, in the place of what was there.
    pub fn keep(&mut self, name: String, kept: Kept) {
        self.files.insert(name, kept);
    }

    /// The journal that was written last.
    pub fn journal(&self) -> Option<&Journal> {
        self.journal.as_ref()
    }

    /// Writes a journal in the place of the last.
    pub fn record(&mut self, journal: Journal) {
        self.journal = Some(journal);
    }

    /// Forgets everything.
    pub fn wipe(&mut self) {
        *self = Disk::default();
    }
}
