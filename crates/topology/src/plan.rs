//! What is to be built and run, with nothing left to look up.
//!
//! A [`Plan`] cannot be wrong: its only constructor is the resolver, every reference is an id of something that exists,
//! and it serialises to the `plan.yaml` of a run directory.

mod course;
mod node;
mod ways;

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;

use link::Profile;
use machine::{Seed, Size, Span};
use serde::{Deserialize, Serialize, Serializer};

pub use self::course::{Action, Comparison, Event, Expectation, Expected, NodeState, Trigger};
pub use self::node::{
    HTTP_PORT, Interface, Node, P2MP_PORT, Pair, PeerKnobs, Program, Ready, Role, SegmentTimeout, TransferMode,
};
pub use self::ways::{Route, Ways};
use crate::spec::LinkSpec;

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
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(crate) record: bool,
    /// Invariant: as long as `events`; what each one changes of links, if that is what it does.
    #[serde(skip)]
    pub(crate) changes: Vec<Option<LinkSpec>>,
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
    /// A file of the user's; one that the topology names by a relative path is in the topology's folder.
    Existing(PathBuf),
}

/// The seed of a generated file in a run with `seed`: so the same name is the same file, whatever else a topology has.
pub fn file_seed(seed: Seed, name: &str) -> Seed {
    seed.derive(&format!("file/{name}"))
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
    /// Whether a kernel whose netem takes a seed would carry it instead.
    #[serde(skip)]
    pub(crate) netem_may_do: bool,
    /// Whether a netem that takes no seed is to draw what becomes of packets.
    #[serde(skip)]
    pub(crate) draws_anew: bool,
}

/// An address block. Printed and serialised as `10.50.0.0/24`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subnet {
    /// Its first address.
    pub base: IpAddr,
    /// Bits of the network part.
    pub prefix: u8,
}

impl fmt::Display for Subnet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.base, self.prefix)
    }
}

impl Serialize for Subnet {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
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

impl Network {
    /// Whether what the kernel has of netem matters: it carries this network, or some kernel's would.
    pub fn concerns_netem(&self) -> bool {
        self.medium == Medium::Netem || self.netem_may_do
    }

    /// Whether what becomes of its packets is drawn from no seed of the plan, so that no run can be repeated.
    pub fn draws_anew(&self) -> bool {
        self.draws_anew
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

    /// Whether what passes on every link is to be recorded.
    pub fn is_recorded(&self) -> bool {
        self.record
    }

    /// What the link of an interface is while the events `active` hold, in the order in which they fired.
    ///
    /// This is how overlapping changes combine: each lays only what it names over the interface's link as the topology
    /// gives it and over the changes that fired before it. A change that `for:` ends is left out of `active`, and what
    /// the others named stays. Events that change no link of this interface do not matter.
    pub fn link_during(&self, node: NodeId, interface: usize, active: impl IntoIterator<Item = EventId>) -> Profile {
        let interface = &self.nodes[node.index()].interfaces[interface];
        let mut profile = interface.link.clone();
        for event in active {
            let Action::SetLink { nodes, network, .. } = &self.events[event.index()].action else { continue };
            let touched = nodes.contains(&node) && network.is_none_or(|network| network == interface.network);
            if let Some(change) = self.changes[event.index()].as_ref().filter(|_| touched) {
                change.apply(&mut profile);
            }
        }
        profile
    }

    /// The plan as `plan.yaml` of a run directory has it: ids are positions in its lists, counted from 0.
    pub fn to_yaml(&self) -> String {
        let mut text = Vec::new();
        let mut serializer = serde_yaml::Serializer::new(&mut text);
        serde_yaml::with::singleton_map_recursive::serialize(self, &mut serializer)
            .expect("a plan holds only maps with text keys, lists, texts and numbers");
        String::from_utf8(text).expect("the YAML writer writes UTF-8")
    }

    /// Which way packets go.
    pub fn ways(&self) -> Ways<'_> {
        Ways::new(self.nodes.iter().map(|node| (&node.interfaces[..], &node.routes[..])))
    }

    /// Whether packets go over routers anywhere.
    pub fn is_routed(&self) -> bool {
        self.nodes.iter().any(|node| !node.routes.is_empty())
    }

    /// One event.
    pub fn event(&self, id: EventId) -> &Event {
        &self.events[id.index()]
    }

    /// The ids of all events, in the order of the file.
    pub fn event_ids(&self) -> impl Iterator<Item = EventId> + use<> {
        (0..self.events.len() as u32).map(EventId)
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
