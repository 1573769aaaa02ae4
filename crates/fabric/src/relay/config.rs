//! What a relay carries.

use std::net::IpAddr;
use std::path::PathBuf;

use link::{HalfLink, Profile};
use machine::{Seed, Size};

use super::ring::Slots;

/// Everything that one relay thread carries.
#[derive(Clone, Debug)]
pub struct RelayConfig {
    /// Broadcast domains that know nothing of each other.
    pub networks: Vec<NetworkConfig>,
    /// The run's seed; the streams of the lanes are derived from it by names.
    pub seed: Seed,
    /// Bound on the memory for packets under way. What finds no room is dropped as [`link::Cause::Overflow`].
    pub memory: Size,
    /// Where a pcapng file is made for each port, `<label>.<interface>.pcapng`, with everything that its node sends and
    /// that reaches it or should have. Then the relay cuts up all trains, so that each packet is there for itself.
    pub capture: Option<PathBuf>,
    /// Ports for measuring links before nodes start. As long as there are any, packets meet links of the same profiles whose
    /// chances come from another seed, and nothing is recorded; [`end_calibration`](super::RelayHandle::end_calibration)
    /// puts the links themselves in their place, untouched.
    pub probes: Vec<ProbePort>,
}

/// A port that is there for a while.
#[derive(Clone, Debug)]
pub struct ProbePort {
    /// Index into [`RelayConfig::networks`].
    pub network: usize,
    /// Its interface. Its label is no node's.
    pub port: PortConfig,
}

impl RelayConfig {
    /// Enough for 10 Gbit/s over 400 ms.
    pub const DEFAULT_MEMORY: Size = link::offload::BOUNDLESS_QUEUE;

    /// Memory of the kernel in which arrivals wait, beside [`memory`](RelayConfig::memory): of a relay for packets up to `mtu` bytes
    /// and, with `offload`, for trains.
    pub fn rings(mtu: u32, offload: bool) -> Size {
        let trains = offload.then(Slots::for_trains).map_or(0, |slots| slots.memory());
        Size::from_bytes((Slots::for_packets(mtu).memory() + trains) as u64)
    }

    /// The same links with ports for measuring them, and chances of their own.
    pub(super) fn for_calibration(&self) -> RelayConfig {
        let mut config =
            RelayConfig { seed: self.seed.derive("calibration"), capture: None, probes: Vec::new(), ..self.clone() };
        for ProbePort { network, port } in &self.probes {
            // Behind all others, whose places stay the same.
            config.networks[*network].ports.push(port.clone());
        }
        config
    }
}

/// One broadcast domain.
#[derive(Clone, Debug)]
pub struct NetworkConfig {
    /// As the topology names it; part of the names of random streams.
    pub name: String,
    /// Bytes of IP packet, of every interface on it.
    pub mtu: u32,
    /// The interfaces on it.
    pub ports: Vec<PortConfig>,
    /// Impairments between pairs of ports on top of their own.
    pub pairs: Vec<PairConfig>,
    /// The port, by position, behind which are all hosts that no port has: the rest of a network that others made. What is for
    /// a stranger goes there, and what strangers say comes from there, under whatever Ethernet addresses. There is nobody
    /// to answer their questions for addresses (ARP, neighbour discovery), so these pass, unimpaired in both directions.
    /// Such a network has one port more, the node's.
    pub uplink: Option<usize>,
}

/// An interface on a network.
#[derive(Clone, Debug)]
pub struct PortConfig {
    /// The node's name; unique in its network, part of the names of random streams.
    pub label: String,
    /// The name of the node's end, in the node.
    pub interface: String,
    /// The hub's end of the veth pair, in the namespace of the thread that starts the relay.
    pub ifindex: u32,
    /// Ethernet address of the node's end. Frames with another source are dropped.
    pub mac: [u8; 6],
    /// The node's addresses, for which the relay answers ARP and neighbour solicitations. The link-local address made
    /// from the MAC (RFC 4291, appendix A) is added by itself.
    pub addresses: Vec<IpAddr>,
    /// The node's link.
    pub profile: Profile,
    /// Whether the node's end may hand over packets larger than the MTU (segmentation offload). Where the model could be
    /// told apart by it ([`link::offload_allowed`]), the relay cuts them up, and joins what is due together for the
    /// receiver, as a network card does. That carries several times what `IFLA_GSO_MAX_SEGS` 1 leaves, which makes TCP
    /// itself send packet by packet. Before Linux 6.2 packet sockets drop such packets of UDP (`UDP_SEGMENT`), counted as
    /// kernel drops.
    pub offload: bool,
}

/// An impairment from one port to another; both are indices into [`NetworkConfig::ports`].
#[derive(Clone, Debug)]
pub struct PairConfig {
    /// Sender.
    pub from: usize,
    /// Receiver.
    pub to: usize,
    /// What happens on the way.
    pub half: HalfLink,
}

/// Names a port of a running relay by its position in the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RelayPort {
    /// Index into [`RelayConfig::networks`].
    pub network: usize,
    /// Index into [`NetworkConfig::ports`].
    pub port: usize,
}
