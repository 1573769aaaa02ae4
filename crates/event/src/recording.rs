//! What a recording of packets is of, what happened to its links, and what there is of it at the end. With the captures
//! themselves that is enough to decide again about every packet.

use link::{WrittenHalf, WrittenProfile};
use serde::{Deserialize, Serialize};

/// What the relay carries while packets are recorded, as it was told. Ports are told by their positions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordedLinks {
    /// What the times in the captures, nanoseconds since 1970, are ahead of the relay's clock.
    pub epoch_ns: u64,
    /// Those that the relay carries.
    pub networks: Vec<RecordedNetwork>,
    /// Every trace that a link follows at some time of the run.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub traces: Vec<RecordedTrace>,
}

/// A network of [`RecordedLinks`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordedNetwork {
    /// As the topology names it.
    pub name: String,
    /// The interfaces on it.
    pub ports: Vec<RecordedPort>,
    /// Impairments between pairs of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pairs: Vec<RecordedPair>,
}

/// An interface on a [`RecordedNetwork`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordedPort {
    /// Whose.
    pub node: String,
    /// Its name in the node.
    pub interface: String,
    /// Its Ethernet address.
    pub mac: [u8; 6],
    /// The node's link at the beginning.
    pub link: WrittenProfile,
}

/// An entry of `pairs:` on a [`RecordedNetwork`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordedPair {
    /// Position of the sender's port.
    pub from: usize,
    /// Position of the receiver's.
    pub to: usize,
    /// What happens on the way.
    pub link: WrittenHalf,
}

/// A trace that links follow.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordedTrace {
    /// As links name it.
    pub name: String,
    /// Milliseconds of the opportunities to deliver a packet.
    pub instants_ms: Vec<u32>,
}

/// A change of what the relay carries.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkChange {
    /// When it took effect, in nanoseconds of the relay's clock.
    pub relay_ns: u64,
    /// For each network that the relay carries, how many packets had entered it: those went before the change, and all
    /// others after it.
    pub entered: Vec<u64>,
    /// What changed.
    pub change: Changed,
}

/// What a [`LinkChange`] changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Changed {
    /// A node's link is another one from now on.
    Link {
        /// Whose.
        node: String,
        /// On which network.
        network: String,
        /// All of it.
        link: Box<WrittenProfile>,
    },
    /// Nodes in different lists cannot reach each other any more.
    Partitioned {
        /// Tells partitions apart that stand at the same time.
        key: u64,
        /// Names of nodes.
        lists: Vec<Vec<String>>,
    },
    /// A partition is gone.
    Healed {
        /// Which.
        key: u64,
    },
    /// Nothing leaves a node on this network or reaches it any more.
    Cut {
        /// Whose link it is.
        node: String,
        /// The network.
        network: String,
    },
    /// That is over.
    Restored {
        /// Whose link it is.
        node: String,
        /// The network.
        network: String,
    },
    /// All traces began: t = 0.
    TracesBegan,
}

/// What was recorded of the packets.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recording {
    /// One an interface.
    pub files: u64,
    /// In all of them; a packet that was sent and received is in two.
    pub packets: u64,
    /// Packets that are in none, because the disk did not keep up or failed.
    pub unrecorded: u64,
    /// What could not be written, if something could not.
    pub failed: Option<String>,
    /// When it ended, in nanoseconds of the relay's clock: everything that was decided until then is recorded.
    #[serde(default)]
    pub ended_ns: u64,
}
