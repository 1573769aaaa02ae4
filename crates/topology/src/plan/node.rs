//! Nodes: what runs in them, where they are attached, when they count as ready.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;

use link::{HalfLink, Profile};
use machine::{Rate, Ratio, Seed, Size, Span};
use serde::{Serialize, Serializer};

use super::{FileId, NetworkId, NodeId, Route};

/// One node: a program in namespaces of its own.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Node {
    /// Unique: `client`, or `server-3` for the third of `count: 4`.
    pub name: String,
    /// The entry of `nodes:` that it came from: `server` for `server-3`.
    pub group: String,
    /// What runs in it.
    pub program: Program,
    /// Those that must be ready before it starts.
    pub after: Vec<NodeId>,
    /// When it counts as ready.
    pub ready: Ready,
    /// Its interfaces, `eth0` first.
    pub interfaces: Vec<Interface>,
    /// The ways to networks that it is not on.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub routes: Vec<Route>,
    /// Extra environment of the program.
    pub env: BTreeMap<String, String>,
    /// Files put into its disk before its first start: name there → file.
    pub files: BTreeMap<String, FileId>,
    /// Runs as root of its own namespaces instead of the caller without capabilities.
    pub root: bool,
    /// Between TERM and KILL.
    pub stop_grace: Span,
    /// The node's own seed, `TESTBED_SEED`.
    pub seed: Seed,
}

/// What runs in a node.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Program {
    /// One of the transfer programs.
    Role(Role),
    /// Any other program.
    Run {
        /// Its words.
        words: Vec<String>,
        /// In containers, the image that it is in; absent, it is the machine's.
        #[serde(skip_serializing_if = "Option::is_none")]
        image: Option<String>,
    },
}

/// A transfer program and what the topology says of it.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "role", rename_all = "kebab-case", rename_all_fields = "kebab-case")]
pub enum Role {
    /// Serves one file over HTTP with ranges.
    FileServer {
        /// The file.
        file: FileId,
        /// Sends no faster than this in all.
        #[serde(skip_serializing_if = "Option::is_none")]
        rate: Option<Rate>,
        /// Flips a bit in this share of the blocks that it sends, under true hashes.
        #[serde(skip_serializing_if = "Option::is_none")]
        corrupt: Option<Ratio>,
    },
    /// Watches file servers and tells who lives.
    CheckServer {
        /// Those watched.
        watch: Vec<NodeId>,
        /// Between two looks at a silent server.
        interval: Span,
        /// What they should serve: downloaders are told its SHA-256.
        #[serde(skip_serializing_if = "Option::is_none")]
        file: Option<FileId>,
    },
    /// Downloads one file from many servers.
    Downloader {
        /// The servers, in the order of the topology.
        from: Vec<NodeId>,
        /// The check server, if there is one.
        #[serde(skip_serializing_if = "Option::is_none")]
        check: Option<NodeId>,
        /// File name in its disk.
        out: String,
        /// Whether a revived one continues from its journal.
        resume: bool,
    },
    /// Sends one file to several receivers.
    P2mpSender {
        /// The receivers, in the order of the topology.
        to: Vec<NodeId>,
        /// The file.
        file: FileId,
        /// The most data in a segment or datagram, in bytes.
        mss: u32,
        /// How.
        mode: TransferMode,
        /// A receiver that is silent for this long is dropped.
        give_up: Span,
    },
    /// Receives one file from a sender.
    P2mpReceiver {
        /// The share of the datagrams that it throws away itself.
        p: Ratio,
        /// File name in its disk.
        out: String,
    },
    /// Tells who has a file, of those that announce themselves.
    Tracker {
        /// A client is answered at most once in this time.
        interval: Span,
    },
    /// Serves one file by the csp2p protocol.
    Peer {
        /// The file.
        file: FileId,
        /// The tracker that it announces itself to.
        #[serde(skip_serializing_if = "Option::is_none")]
        tracker: Option<NodeId>,
        /// How it serves.
        knobs: PeerKnobs,
    },
    /// Downloads one file from the peers that a tracker names.
    P2pDownloader {
        /// The file.
        file: FileId,
        /// The tracker.
        tracker: NodeId,
        /// File name in its disk.
        out: String,
        /// Whether a revived one continues from its journal.
        resume: bool,
    },
    /// Forwards between its networks, for as long as its program runs.
    Router,
}

/// How a peer serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct PeerKnobs {
    /// Ports beside the fixed one.
    pub ports: u32,
    /// How often another port appears and one is retired; 0 is never.
    pub churn: Span,
    /// The size of a block.
    pub block_size: Size,
    /// From a request until the first byte of its answer.
    pub pre_delay: Span,
    /// What leaves at once on a connection.
    pub bytes_per_event: Size,
    /// The slowest pace: a port's time between two such events is less.
    pub stretch: Span,
    /// Connections that a client may have at once.
    pub max_connections: u32,
    /// Whether one more closes any open one, and not the new one.
    pub close_random: bool,
    /// A connection on which nothing happens for so long is closed.
    pub idle: Span,
}

/// How a sender brings a file to several receivers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", rename_all_fields = "kebab-case")]
pub enum TransferMode {
    /// One segment at a time, until all have acknowledged it.
    StopAndWait {
        /// How long to wait before a segment is sent again.
        timeout: SegmentTimeout,
    },
    /// A paced stream, and parity for what was lost.
    Fast {
        /// Whether to send to a group; found out unless said.
        #[serde(skip_serializing_if = "Option::is_none")]
        multicast: Option<bool>,
        /// A rate that is kept whatever happens, instead of one that follows the network.
        #[serde(skip_serializing_if = "Option::is_none")]
        rate: Option<Rate>,
    },
}

/// How long a stop-and-wait sender waits for an acknowledgement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum SegmentTimeout {
    /// As each receiver's round trips suggest.
    Adaptive,
    /// This long for each receiver.
    Fixed(Span),
    /// This long for all of them together.
    Shared(Span),
}

impl Node {
    /// Whether it forwards between its networks.
    pub fn is_router(&self) -> bool {
        self.program == Program::Role(Role::Router)
    }
}

impl Role {
    /// The name of the role, which is also the name of its program.
    pub fn name(&self) -> &'static str {
        match self {
            Role::FileServer { .. } => "file-server",
            Role::CheckServer { .. } => "check-server",
            Role::Downloader { .. } => "downloader",
            Role::P2mpSender { .. } => "p2mp-sender",
            Role::P2mpReceiver { .. } => "p2mp-receiver",
            Role::Tracker { .. } => "tracker",
            Role::Peer { .. } => "peer",
            Role::P2pDownloader { .. } => "p2p-downloader",
            Role::Router => "router",
        }
    }
}

/// The TCP port on which every file server and check server of a topology listens.
pub const HTTP_PORT: u16 = 80;

/// The UDP port on which every point-to-multipoint receiver of a topology listens: the well-known one of the assignment.
pub const P2MP_PORT: u16 = 7735;

/// When a node counts as ready.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ready {
    /// When its program says so on `TESTBED_EVENTS_FD` (the roles do).
    Event,
    /// As soon as its program runs (a `run:` program without `ready:`).
    Started,
    /// When something in the node listens on this TCP port; looked up, never connected to.
    Tcp(u16),
    /// When its output matches this regular expression.
    Log(String),
    /// When this path, relative to its disk, exists.
    File(PathBuf),
}

/// A node's place on a network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Interface {
    /// In the node: `eth0`, `eth1`, …
    pub name: String,
    /// The network.
    pub network: NetworkId,
    /// Its address there.
    pub address: IpAddr,
    /// Locally administered, derived from the position in the plan.
    #[serde(serialize_with = "as_text")]
    pub mac: [u8; 6],
    /// The node's link to the network. `up` leaves the node.
    pub link: Profile,
}

/// An impairment for packets from one node to another, on top of the links of both.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Pair {
    /// Sender.
    pub from: NodeId,
    /// Receiver.
    pub to: NodeId,
    /// What happens on the way.
    pub link: HalfLink,
}

fn as_text<S: Serializer>(mac: &[u8; 6], serializer: S) -> Result<S::Ok, S::Error> {
    let [a, b, c, d, e, f] = mac;
    serializer.collect_str(&format_args!("{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x}"))
}
