//! What the bench and the ends of its links say to each other: JSON lines over a node's control socket.

use std::io::{self, BufRead, Write};
use std::net::SocketAddr;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// The UDP port of senders, and the one that they send to, which nobody reads.
pub(super) const PORTS: (u16, u16) = (7735, 7736);

/// What an end is to do. Each command is answered once, when it is done.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Command {
    /// See what arrives from now on, on so many interfaces.
    Watch { interfaces: usize, flows: Vec<Header> },
    /// Send these, from `begin` on (nanoseconds of the monotonic clock).
    Send { begin: u64, flows: Vec<Flow> },
    /// Watch no more, and say what arrived.
    Collect,
    /// Cut TCP's trains before they leave this interface.
    CutTrains { interface: String },
    /// Take in what one TCP connection brings, in the background.
    Sink { at: SocketAddr },
    /// Send by TCP as much as it takes, in the background.
    Pour { to: SocketAddr },
    /// Say how much the connection has brought, and what that took.
    Meter,
}

/// What packets of a flow have in common.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Header {
    pub(super) id: u32,
    /// Ethernet bytes without FCS.
    pub(super) bytes: u32,
    /// Ethernet addresses.
    pub(super) source: [u8; 6],
    pub(super) destination: [u8; 6],
}

/// Packets to be sent.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Flow {
    pub(super) id: u32,
    /// The sender's, …
    pub(super) interface: String,
    pub(super) from: SocketAddr,
    pub(super) to: SocketAddr,
    /// … and the Ethernet address of the receiver's.
    pub(super) mac: [u8; 6],
    pub(super) bytes: u32,
    pub(super) packets: u32,
    /// So many at a time, …
    pub(super) turn: u32,
    /// … once in so many nanoseconds, …
    pub(super) interval: u64,
    /// … so many after the beginning.
    pub(super) offset: u64,
    /// How long a packet takes the line, in nanoseconds; 0 where nobody asks whether it is idle.
    pub(super) line: u64,
}

/// What an end answers.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Answer {
    Done,
    /// For how long the line of each flow had nothing to send, in nanoseconds.
    Sent {
        idle: Vec<(u32, u64)>,
    },
    Collected {
        packets: Vec<Seen>,
        unseen: u64,
    },
    Metered {
        bytes: u64,
        at: u64,
        cpu: u64,
    },
    Failed(String),
}

/// A packet that arrived: flow, number, when the first of its turn was sent and when it arrived (nanoseconds), and whether
/// it is damaged.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) struct Seen(pub(super) u32, pub(super) u32, pub(super) u64, pub(super) u64, pub(super) bool);

pub(super) fn write(mut to: impl Write, message: &impl Serialize) -> io::Result<()> {
    let mut line = serde_json::to_vec(message)?;
    line.push(b'\n');
    to.write_all(&line)
}

/// The next message; `None` when the other end is gone.
pub(super) fn read<T: DeserializeOwned>(mut from: impl BufRead) -> io::Result<Option<T>> {
    let mut line = String::new();
    if from.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    Ok(Some(serde_json::from_str(&line)?))
}
