//! What goes to a spawner and what comes back: one message each on a socket that keeps messages whole.
//!
//! Both ends are the same program, so the encoding is private and has no version; reading it never panics all the same.

use std::io::IoSliceMut;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};

use crate::netlink::Batch;

/// A node that is to be made.
#[derive(Clone, Debug, Default)]
pub(crate) struct Order {
    /// Also its host name.
    pub name: String,
    /// Whether programs in it are root over its namespaces.
    pub root: bool,
    /// Whether packets may come to it by another way than its own lead back.
    pub routed: bool,
    /// What is to be done in its own network namespace.
    pub inside: Batch,
    /// And then in the hub.
    pub hub: Batch,
    /// Interfaces in its namespace that must carry packets before it counts as made.
    pub near: Vec<u32>,
    /// Those in the hub.
    pub far: Vec<u32>,
}

/// An [`Order`] as the spawner reads it.
#[derive(Debug)]
pub(crate) struct ReceivedOrder {
    pub index: u32,
    pub name: String,
    pub root: bool,
    pub routed: bool,
    pub inside: Requests,
    pub hub: Requests,
    pub near: Vec<u32>,
    pub far: Vec<u32>,
}

/// A batch, without the words for people.
#[derive(Debug)]
pub(crate) struct Requests {
    pub count: u32,
    pub bytes: Vec<u8>,
}

impl Order {
    pub(crate) fn encode(&self, index: u32) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.inside.bytes().len() + self.hub.bytes().len() + 128);
        put(&mut out, index);
        put_bytes(&mut out, self.name.as_bytes());
        put(&mut out, u32::from(self.root));
        put(&mut out, u32::from(self.routed));
        for batch in [&self.inside, &self.hub] {
            put(&mut out, batch.len());
            put_bytes(&mut out, batch.bytes());
        }
        for list in [&self.near, &self.far] {
            put(&mut out, list.len() as u32);
            list.iter().for_each(|&index| put(&mut out, index));
        }
        out
    }
}

impl ReceivedOrder {
    /// Reads an order; `None` where it is none.
    pub(crate) fn decode(mut from: &[u8]) -> Option<Self> {
        let from = &mut from;
        Some(ReceivedOrder {
            index: take(from)?,
            name: String::from_utf8(take_bytes(from)?.to_vec()).ok()?,
            root: take(from)? != 0,
            routed: take(from)? != 0,
            inside: Requests { count: take(from)?, bytes: take_bytes(from)?.to_vec() },
            hub: Requests { count: take(from)?, bytes: take_bytes(from)?.to_vec() },
            near: take_list(from)?,
            far: take_list(from)?,
        })
    }
}

/// What a spawner, or a child of it, says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Report {
    /// The spawner has made the process; its control socket comes with it.
    Cloned { index: u32, pid: i32 },
    /// Its links are made; their far ends may be attached.
    Wired { index: u32 },
    /// The network is up and `node_main` begins.
    Ready { index: u32 },
    /// It is not going to be.
    Failed { index: u32, stage: Stage, sequence: u32, errno: i32 },
}

/// How far a node came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// The spawner itself is gone.
    Spawner,
    /// New namespaces, or the process in them.
    Clone,
    /// Its user ids.
    Users,
    /// A setting under `/proc/sys`.
    Settings,
    /// Its host name.
    HostName,
    /// A socket to the kernel's network configuration.
    Netlink,
    /// A request in its own network namespace.
    Inside,
    /// A request in the hub.
    Hub,
    /// Waiting for its interfaces to carry packets.
    Carrier,
    /// Packet sockets for measuring its links.
    Sockets,
    /// It ended without a word.
    Died,
}

const STAGES: [Stage; 11] = [
    Stage::Spawner,
    Stage::Clone,
    Stage::Users,
    Stage::Settings,
    Stage::HostName,
    Stage::Netlink,
    Stage::Inside,
    Stage::Hub,
    Stage::Carrier,
    Stage::Sockets,
    Stage::Died,
];

impl Report {
    /// Five words: kind, index, and three that depend on the kind.
    pub(crate) const BYTES: usize = 20;

    pub(crate) fn index(self) -> u32 {
        match self {
            Report::Cloned { index, .. }
            | Report::Wired { index }
            | Report::Ready { index }
            | Report::Failed { index, .. } => index,
        }
    }

    pub(crate) fn encode(self) -> [u8; Report::BYTES] {
        let words = match self {
            Report::Cloned { index, pid } => [0, index, pid as u32, 0, 0],
            Report::Ready { index } => [1, index, 0, 0, 0],
            Report::Wired { index } => [3, index, 0, 0, 0],
            Report::Failed { index, stage, sequence, errno } => [2, index, stage as u32, sequence, errno as u32],
        };
        let mut out = [0; Report::BYTES];
        for (place, word) in out.chunks_exact_mut(4).zip(words) {
            place.copy_from_slice(&word.to_ne_bytes());
        }
        out
    }

    pub(crate) fn decode(mut from: &[u8]) -> Option<Self> {
        let from = &mut from;
        let (kind, index) = (take(from)?, take(from)?);
        let (first, second, third) = (take(from)?, take(from)?, take(from)?);
        Some(match kind {
            0 => Report::Cloned { index, pid: first as i32 },
            1 => Report::Ready { index },
            2 => {
                let stage = *STAGES.get(first as usize)?;
                Report::Failed { index, stage, sequence: second, errno: third as i32 }
            }
            3 => Report::Wired { index },
            _ => return None,
        })
    }
}

/// The next report and the descriptor that came with it; `None` when there is none at the moment.
pub(super) fn receive(socket: &OwnedFd) -> Result<Option<(Report, Option<OwnedFd>)>, Errno> {
    let mut bytes = [0; Report::BYTES];
    let mut space = nix::cmsg_space!([i32; 1]);
    let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_CMSG_CLOEXEC;
    let (length, descriptor) = {
        let mut parts = [IoSliceMut::new(&mut bytes)];
        let message = match recvmsg::<()>(socket.as_raw_fd(), &mut parts, Some(&mut space), flags) {
            Err(Errno::EAGAIN) => return Ok(None),
            Err(Errno::EINTR) => return receive(socket),
            other => other?,
        };
        (message.bytes, message.cmsgs()?.find_map(first_descriptor))
    };
    if length == 0 {
        return Err(Errno::EPIPE);
    }
    Report::decode(&bytes[..length]).map(|report| Some((report, descriptor))).ok_or(Errno::EPROTO)
}

/// Takes ownership of the descriptor that a message carries.
#[allow(unsafe_code, reason = "a received descriptor has no owner yet")]
pub(super) fn first_descriptor(message: ControlMessageOwned) -> Option<OwnedFd> {
    match message {
        // SAFETY: the kernel has just installed it in this process, and nobody else knows of it.
        ControlMessageOwned::ScmRights(list) => list.first().map(|&fd| unsafe { OwnedFd::from_raw_fd(fd) }),
        _ => None,
    }
}

fn put(out: &mut Vec<u8>, word: u32) {
    out.extend_from_slice(&word.to_ne_bytes());
}

fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put(out, bytes.len() as u32);
    out.extend_from_slice(bytes);
}

fn take(from: &mut &[u8]) -> Option<u32> {
    let (word, rest) = from.split_first_chunk::<4>()?;
    *from = rest;
    Some(u32::from_ne_bytes(*word))
}

fn take_bytes<'a>(from: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = take(from)? as usize;
    let (bytes, rest) = from.split_at_checked(length)?;
    *from = rest;
    Some(bytes)
}

fn take_list(from: &mut &[u8]) -> Option<Vec<u32>> {
    let length = take(from)?;
    (0..length).map(|_| take(from)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_ordered_arrives() {
        let mut order =
            Order { name: "server-1".into(), root: true, near: vec![2, 3], far: vec![1000], ..Order::default() };
        order.inside.set_up(1);
        order.inside.set_up(2);
        let received = ReceivedOrder::decode(&order.encode(7)).unwrap();
        assert_eq!((received.index, received.name.as_str(), received.root), (7, "server-1", true));
        assert_eq!((received.inside.count, received.hub.count), (2, 0));
        assert_eq!(received.inside.bytes, order.inside.bytes());
        assert_eq!((received.near, received.far), (vec![2, 3], vec![1000]));
    }

    #[test]
    fn a_cut_order_is_none() {
        let order = Order { name: "n".into(), near: vec![2], ..Order::default() }.encode(0);
        for length in 0..order.len() {
            assert!(ReceivedOrder::decode(&order[..length]).is_none(), "{length} bytes");
        }
    }

    #[test]
    fn every_report_survives_the_way() {
        for stage in STAGES {
            let report = Report::Failed { index: 9, stage, sequence: 3, errno: 17 };
            assert_eq!(Report::decode(&report.encode()), Some(report));
        }
        for report in [Report::Cloned { index: 1, pid: 77 }, Report::Wired { index: 3 }, Report::Ready { index: 2 }] {
            assert_eq!(Report::decode(&report.encode()), Some(report));
        }
    }
}
