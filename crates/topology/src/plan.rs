//! What is to be built and run, with nothing left to look up.
//!
//! A [`Plan`] cannot be wrong: its only constructor is the resolver, every reference is an id of something that exists,
//! and it serialises to the `plan.yaml` of a run directory.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;

use link::{HalfLink, Profile};
use machine::{Rate, Ratio, Seed, Size, Span};
use serde::{Deserialize, Serialize};

/// A resolved topology.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Plan {
    pub(crate) name: String,
    pub(crate) seed: Seed,
    pub(crate) timeout: Span,
    pub(crate) files: Vec<File>,
    pub(crate) networks: Vec<Network>,
    pub(crate) nodes: Vec<Node>,
    pub(crate) pairs: Vec<Pair>,
    pub(crate) events: Vec<Event>,
    pub(crate) expectations: Vec<Expectation>,
}

/// Index of a node in [`Plan::nodes`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct NodeId(pub(crate) u32);

/// Index of a network in [`Plan::networks`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct NetworkId(pub(crate) u32);

/// Index of a file in [`Plan::files`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct FileId(pub(crate) u32);

/// Index of an entry of `events:` in [`Plan::events`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct EventId(pub(crate) u32);

/// A named file that nodes share.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct File {
    /// As the topology names it.
    pub name: String,
    /// Where its bytes come from.
    pub source: FileSource,
}

/// Where a file's bytes come from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum FileSource {
    /// The first `size` bytes of the seed's stream.
    Generated {
        /// How many.
        size: Size,
        /// Derived from the run's seed and the file's name.
        seed: Seed,
    },
    /// A file of the user's; relative paths are resolved against the topology file.
    Existing(PathBuf),
}

/// A network that nodes have interfaces on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Network {
    /// As the topology names it; `net` where it names none.
    pub name: String,
    /// What addresses its interfaces have.
    pub subnet: Subnet,
    /// Bytes of IP packet.
    pub mtu: u32,
    /// What carries it.
    pub medium: Medium,
    /// Why that was chosen, in words for `testbed plan`.
    pub why: String,
}

/// An address block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Subnet {
    /// Its first address.
    pub base: IpAddr,
    /// Bits of the network part.
    pub prefix: u8,
}

/// What carries a network's packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Medium {
    /// The kernel's bridge: nothing on it is impaired, and no fault touches it.
    Bridge,
    /// The user-space relay, which drives the link model.
    Relay,
    /// Kernel bridge with the kernel's netem qdisc at both ends of each link.
    Netem,
}

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
    /// Any other program: its words.
    Run(Vec<String>),
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
    },
    /// Watches file servers and tells who lives.
    CheckServer {
        /// Those watched.
        watch: Vec<NodeId>,
        /// Between two looks at a silent server.
        interval: Span,
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
}

impl Role {
    /// The name of the role, which is also the name of its program.
    pub fn name(&self) -> &'static str {
        match self {
            Role::FileServer { .. } => "file-server",
            Role::CheckServer { .. } => "check-server",
            Role::Downloader { .. } => "downloader",
        }
    }
}

/// The TCP port on which every file server and check server of a topology listens.
pub const HTTP_PORT: u16 = 80;

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

/// An entry of `events:`: fires once, when its condition first holds.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Event {
    /// When it fires.
    pub when: Trigger,
    /// What it does.
    pub action: Action,
    /// Undoes it after this long.
    pub lasts: Option<Span>,
    /// Whether the run may end without it.
    pub optional: bool,
    /// Where the file says it, for messages: 1-based line.
    pub line: usize,
    /// What a person reads of it: `client >= 40%: kill server-2`.
    pub label: String,
}

/// When an event fires.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Trigger {
    /// This long after all nodes have started.
    At(Span),
    /// This long after the entry above fired.
    AfterPrevious(Span),
    /// When a node's progress reaches a share of its total.
    ProgressShare(NodeId, Ratio),
    /// When a node's progress reaches a size.
    ProgressBytes(NodeId, Size),
    /// When a line of a node's output matches.
    Prints(NodeId, String),
}

/// What an event does.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    /// KILL; the kernel still closes the sockets.
    Kill(Vec<NodeId>),
    /// Links cut first, so nothing leaks out: a dead machine.
    Crash(Vec<NodeId>),
    /// TERM, grace, KILL.
    Stop(Vec<NodeId>),
    /// Freezes the processes.
    Pause(Vec<NodeId>),
    /// Thaws them.
    Resume(Vec<NodeId>),
    /// Stop, then start again.
    Restart(Vec<NodeId>),
    /// Sends a signal to the program.
    Signal(Vec<NodeId>, i32),
    /// Starts the program again with the same namespaces, address and links.
    Revive {
        /// Who.
        nodes: Vec<NodeId>,
        /// Empties the disk first.
        wipe: bool,
    },
    /// Changes what it names of the nodes' links.
    SetLink {
        /// Whose.
        nodes: Vec<NodeId>,
        /// On which network; absent is on all of theirs.
        network: Option<NetworkId>,
        /// For each node the profile of each changed interface, complete: (node, index of the interface, profile).
        profiles: Vec<(NodeId, usize, Profile)>,
    },
    /// Nodes in different lists cannot reach each other; those in no list reach all.
    Partition(Vec<Vec<NodeId>>),
}

/// An expectation on one node.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Expectation {
    /// The node.
    pub node: NodeId,
    /// What must hold.
    pub what: Expected,
    /// What a person reads of it: `client: exit 0`.
    pub label: String,
}

/// What must hold of a node at the end of the run.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Expected {
    /// Exit status of the last incarnation.
    Exit(i32),
    /// State of the last incarnation.
    State(NodeState),
    /// The exit came within this long of t = 0.
    Within(Span),
    /// The node's output file has the bytes of this file.
    File {
        /// Path relative to the node's disk.
        out: PathBuf,
        /// What it must equal.
        file: FileId,
    },
    /// (body bytes received in all incarnations − size) / size compares so.
    Wasted(Comparison, Ratio),
    /// A line of output matches this regular expression.
    Prints(String),
    /// No line of output matches it.
    NeverPrints(String),
    /// Size / (exit − t0) compares so.
    Throughput(Comparison, Rate),
}

/// The state of a node's program that an expectation may ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NodeState {
    /// It runs.
    Running,
    /// It is frozen.
    Paused,
    /// It ended by itself.
    Exited,
    /// A fault ended it.
    Killed,
}

/// How a measured value is compared with the expected one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Comparison {
    /// `<`
    #[serde(rename = "<")]
    Less,
    /// `<=`
    #[serde(rename = "<=")]
    LessOrEqual,
    /// `>`
    #[serde(rename = ">")]
    Greater,
    /// `>=`
    #[serde(rename = ">=")]
    GreaterOrEqual,
}

impl Comparison {
    /// Whether `found` compares so with `bound`.
    pub fn holds<T: PartialOrd>(self, found: T, bound: T) -> bool {
        match self {
            Comparison::Less => found < bound,
            Comparison::LessOrEqual => found <= bound,
            Comparison::Greater => found > bound,
            Comparison::GreaterOrEqual => found >= bound,
        }
    }

    /// As the file writes it.
    pub fn symbol(self) -> &'static str {
        match self {
            Comparison::Less => "<",
            Comparison::LessOrEqual => "<=",
            Comparison::Greater => ">",
            Comparison::GreaterOrEqual => ">=",
        }
    }
}

impl Plan {
    /// As the file names it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The run's one seed.
    pub fn seed(&self) -> Seed {
        self.seed
    }

    /// The run's wall limit.
    pub fn timeout(&self) -> Span {
        self.timeout
    }

    /// All files.
    pub fn files(&self) -> &[File] {
        &self.files
    }

    /// All networks.
    pub fn networks(&self) -> &[Network] {
        &self.networks
    }

    /// All nodes, in the order of the file.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// Impairments between pairs of nodes.
    pub fn pairs(&self) -> &[Pair] {
        &self.pairs
    }

    /// The entries of `events:`, in the order of the file.
    pub fn events(&self) -> &[Event] {
        &self.events
    }

    /// All expectations, in the order of the file.
    pub fn expectations(&self) -> &[Expectation] {
        &self.expectations
    }

    /// One node.
    pub fn node(&self, id: NodeId) -> &Node {
        &self.nodes[id.index()]
    }

    /// One file.
    pub fn file(&self, id: FileId) -> &File {
        &self.files[id.index()]
    }

    /// One network.
    pub fn network(&self, id: NetworkId) -> &Network {
        &self.networks[id.index()]
    }

    /// The ids of all nodes, in order.
    pub fn node_ids(&self) -> impl Iterator<Item = NodeId> + use<> {
        (0..self.nodes.len() as u32).map(NodeId)
    }

    /// The node called `name`.
    pub fn node_named(&self, name: &str) -> Option<NodeId> {
        self.nodes.iter().position(|node| node.name == name).map(|index| NodeId(index as u32))
    }
}

macro_rules! index {
    ($($id:ty),*) => {$(
        impl $id {
            /// Position in the plan's list.
            pub fn index(self) -> usize {
                self.0 as usize
            }
        }
    )*};
}

index!(NodeId, NetworkId, FileId, EventId);
