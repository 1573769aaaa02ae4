//! The fast mode: one paced stream of numbered datagrams to many receivers, and parity for whatever each of them lost.
//!
//! A transfer is a *session* of one or more files. Each file is cut into symbols of one datagram's payload, and these into
//! blocks; a block of `k` originals has recovery symbols as well, and any `k` of all of them restore it. So a receiver
//! never names what it lost: it says how many symbols of each block it lacks, and one recovery symbol makes up for a
//! different loss at each receiver.
//!
//! * [`packet`]: the datagrams, bytes to values and back; hostile bytes.
//! * [`manifest`]: which files, and their names made safe.
//! * [`layout`]: files cut into blocks and symbols.
//! * [`report`]: what a receiver has; state, not changes, so that a lost report costs nothing.
//! * [`protocol`]: what the two machines hear and say; start here to write a driver.
//! * [`receiver`]: [`Receiver`], the machine. [`holdings`]: which symbols it has.
//! * [`sender`]: [`Sender`], the machine. [`ledger`]: what was sent of each block and is still to be sent; [`member`]: what
//!   is known of one receiver.
//! * [`path`], [`rate`]: how fast to send, from delivery and delay.
//! * [`tuning`]: every constant with its unit and its reason.

pub mod holdings;
pub mod layout;
pub mod ledger;
pub mod manifest;
pub mod member;
pub mod packet;
pub mod path;
pub mod protocol;
pub mod rate;
pub mod receiver;
pub mod report;
pub mod sender;
pub mod tuning;

pub use layout::{Block, Layout, LayoutError};
pub use manifest::{FileEntry, Identity, Manifest, ManifestError};
pub use packet::{Announce, DataHeader, Malformed, MemberId, Packet, Poll, Release, SessionId};
pub use protocol::{
    Fate, ReceiverConfig, ReceiverInput, ReceiverOutput, ReceiverWhy, SenderConfig, SenderInput, SenderOutput,
    SenderWhy, Train,
};
pub use receiver::Receiver;
pub use report::{Report, Run};
pub use sender::Sender;
