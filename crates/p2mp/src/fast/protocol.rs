//! What the machines of the fast mode hear and say.
//!
//! Neither sees a payload: a driver that hears [`SenderOutput::Train`] reads or codes the symbols that it names, and one
//! that is told [`ReceiverOutput::Store`] keeps payloads of the datagrams that it has just handed in.

use std::net::SocketAddr;
use std::sync::Arc;

use machine::{Rate, Span, Time};

use super::layout::Layout;
use super::manifest::{Identity, Manifest};
use super::packet::{Announce, DataHeader, MemberId, Poll, Release, SessionId};
use super::report::Report;

/// How a sender behaves.
#[derive(Clone, Debug)]
pub struct SenderConfig {
    /// Random, so that nobody can guess it.
    pub session: SessionId,
    /// What the transfer is known by.
    pub identity: Identity,
    /// The files.
    pub manifest: Manifest,
    /// Where receivers are expected.
    pub receivers: Vec<SocketAddr>,
    /// The multicast group to try, if any.
    pub group: Option<SocketAddr>,
    /// Sizes of datagrams (UDP payload) to try, those that the own interface takes; the largest that reaches all is used.
    pub sizes: Vec<u16>,
    /// The rate on the wire (Ethernet bytes without FCS, of one copy), or found out by itself.
    pub rate: Option<Rate>,
    /// Bytes that each datagram has on the wire beside its UDP payload: 42 over IPv4 and Ethernet, 62 over IPv6.
    pub overhead: u16,
    /// The most datagrams of a train.
    pub longest_train: u16,
    /// How long to wait for receivers before the rest begins.
    pub gather: Span,
    /// How long a receiver may bring nothing new before it is given up.
    pub give_up: Span,
}

/// What can happen to a sender.
#[derive(Clone, Debug)]
pub enum SenderInput {
    /// A report came.
    Report {
        /// From where.
        from: SocketAddr,
        /// For which session.
        session: SessionId,
        /// What it says.
        report: Report,
    },
    /// The digest of a file is known.
    Digest {
        /// Its position in the manifest.
        file: usize,
        /// BLAKE3 over the whole.
        digest: [u8; 32],
    },
}

/// What a sender wants done, or tells.
#[derive(Clone, Debug, PartialEq)]
pub enum SenderOutput {
    /// Send this.
    Datagram {
        /// To whom: a receiver or the group.
        to: SocketAddr,
        /// The whole of it.
        bytes: Vec<u8>,
    },
    /// Send these symbols.
    Train(Train),
    /// The receiver is there. Receivers are counted from 0 in the order of the configuration.
    Joined {
        /// Which.
        receiver: usize,
    },
    /// Data begin to flow.
    Started {
        /// How the files are cut.
        layout: Arc<Layout>,
        /// Whether they go to the group; else to each receiver by itself.
        by_multicast: bool,
    },
    /// The receiver has all files, checked.
    Completed {
        /// Which.
        receiver: usize,
    },
    /// The receiver says that it cannot go on.
    Failed {
        /// Which.
        receiver: usize,
        /// Its words.
        why: String,
    },
    /// The receiver was never there, fell silent, or got nowhere.
    GaveUp {
        /// Which.
        receiver: usize,
    },
    /// Somebody waits for a digest that is not known: it is to be found out soon, and be handed in. May be said again.
    Hash,
    /// Nobody is waited for any more.
    Finished,
}

/// Data packets that go out back to back: symbols beside each other of one block, with packet numbers beside each other.
#[derive(Clone, Debug, PartialEq)]
pub struct Train {
    /// To whom each of them goes, as one copy each.
    pub to: Arc<[SocketAddr]>,
    /// The first packet's header; the others count on.
    pub first: DataHeader,
    /// How many, at least one.
    pub count: u16,
    /// Whom the last packet asks for a report; the others ask nobody.
    pub poll: Poll,
}

impl Train {
    /// The header of the packet at `index`.
    pub fn header(&self, index: u16) -> DataHeader {
        let poll = if index + 1 == self.count { self.poll } else { Poll::Nobody };
        DataHeader {
            number: self.first.number + u64::from(index),
            block: self.first.block,
            symbol: self.first.symbol + index,
            poll,
        }
    }
}

/// Why a sender wants to be woken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SenderWhy {
    /// To announce the session again.
    Announce,
    /// The next train may go.
    Pace,
    /// Reports are overdue.
    Probe,
    /// Somebody may have to be given up, or the wait for receivers is over.
    Patience,
}

/// How a receiver behaves.
#[derive(Clone, Debug)]
pub struct ReceiverConfig {
    /// Who it is.
    pub member: MemberId,
    /// How many full datagrams its socket holds while it is not looking.
    pub window: u32,
    /// How long to answer a sender that has not heard of the end.
    pub linger: Span,
}

/// What can happen to a receiver.
#[derive(Clone, Debug)]
pub enum ReceiverInput {
    /// An announcement came.
    Announce {
        /// From where.
        from: SocketAddr,
        /// Of which session.
        session: SessionId,
        /// What it says.
        announce: Announce,
        /// The size of its datagram (UDP payload).
        size: u16,
    },
    /// Data packets came together: symbols beside each other of one block, with packet numbers beside each other.
    Data {
        /// Of which session.
        session: SessionId,
        /// The first packet's header, but for the poll: that is of whichever asks; the others count on.
        first: DataHeader,
        /// How many.
        count: u16,
        /// When the last of them reached this machine. A busy one takes them later.
        arrived: Time,
    },
    /// The sender is done.
    Release {
        /// With which session.
        session: SessionId,
        /// Whom it is done with.
        release: Release,
    },
    /// The answer to [`ReceiverOutput::Open`]: the files are open.
    Opened {
        /// The blocks that are there already.
        held: Vec<u32>,
        /// The files, by their positions, under whose final names others of the same length are that may be replaced: perhaps
        /// they are those that are sent.
        there: Vec<usize>,
    },
    /// The answer to [`ReceiverOutput::Compare`].
    Compared {
        /// Which file.
        file: usize,
        /// Whether what is there has the digest.
        is_right: bool,
    },
    /// The answer to [`ReceiverOutput::Verify`].
    Verified {
        /// Which file.
        file: usize,
        /// Whether it has the digest, and is under its final name.
        is_right: bool,
    },
    /// It cannot go on: the disk, or the user.
    Failed {
        /// Why, in a few words for the sender's user.
        why: String,
    },
}

/// What a receiver wants done, or tells.
#[derive(Clone, Debug, PartialEq)]
pub enum ReceiverOutput {
    /// Send this.
    Datagram {
        /// To the sender.
        to: SocketAddr,
        /// The whole of it.
        bytes: Vec<u8>,
    },
    /// Listen to this multicast group.
    Join {
        /// Its address.
        group: SocketAddr,
    },
    /// Open the files, and look what of them is there already. Answered by [`ReceiverInput::Opened`] or
    /// [`ReceiverInput::Failed`]; what is open of this transfer is closed first.
    Open {
        /// The files.
        manifest: Arc<Manifest>,
        /// How they are cut.
        layout: Arc<Layout>,
        /// What the transfer is known by.
        identity: Identity,
    },
    /// Keep these payloads of the data packets that were handed in last.
    Store {
        /// Their block.
        block: u32,
        /// The first one's symbol; the others count on.
        symbol: u16,
        /// How many.
        count: u16,
    },
    /// The block has as many symbols as it has originals: restore those that are missing.
    Restore {
        /// Which.
        block: u32,
    },
    /// Every block of the file is restored: compare, sync, and give it its final name. Answered by
    /// [`ReceiverInput::Verified`].
    Verify {
        /// Which.
        file: usize,
        /// BLAKE3 over the whole.
        digest: [u8; 32],
    },
    /// Compare what is under the final name already. Answered by [`ReceiverInput::Compared`].
    Compare {
        /// Which file.
        file: usize,
        /// BLAKE3 over the whole.
        digest: [u8; 32],
    },
    /// What is under the final name already is right: forget what was received of the file.
    Keep {
        /// Which.
        file: usize,
    },
    /// The file has not the digest: forget all of it; it comes again.
    Discard {
        /// Which.
        file: usize,
    },
    /// It is over.
    Finished(Fate),
}

/// How a session ended for a receiver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It has all files, checked.
    Complete,
    /// The sender gave it up.
    GivenUp,
    /// It could not go on, and why.
    Failed(String),
}

/// Why a receiver wants to be woken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReceiverWhy {
    /// To report.
    Report,
    /// It has waited long enough for what is there to be compared.
    Open,
    /// It has answered long enough.
    Linger,
}
