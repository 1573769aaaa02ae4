//! What is to be made for a plan, worked out before anything is: interfaces and their numbers, the requests of every node,
//! and the relay's configuration. Does no I/O.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::os::fd::RawFd;

use link::Profile;
use topology::Plan;
use topology::plan::{Action, Interface, Medium, Network, NetworkId, Node, Subnet};

use super::joint::{Joint, add_neighbours};
use super::kernel::Kernel;
use super::shapers::{ShapedHalves, Shapers, ever_shaped};
use crate::calibration::Probe;
use crate::netlink::{Batch, VethEnd};
use crate::relay::neighbour::link_local;
use crate::relay::{NetworkConfig, PairConfig, PortConfig, ProbePort, RelayConfig, RelayPort};
use crate::spawner::order::Order;

/// Everything that raising a plan makes.
pub(super) struct Layout {
    /// Bridges, to be made before any node.
    pub bridges: Vec<Bridge>,
    /// One per node, in the plan's order.
    pub orders: Vec<Order>,
    /// For each node, one per interface.
    pub ports: Vec<Vec<Port>>,
    /// The networks that the relay carries; none where it has nothing to do.
    pub relay: RelayConfig,
    /// The netems that the orders make.
    pub shapers: Shapers,
    /// Interfaces for measuring links.
    pub probes: Vec<Probe>,
}

/// A bridge in the hub.
pub(super) struct Bridge {
    pub name: String,
    pub index: u32,
}

/// The hub's side of a node's interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Port {
    /// The network that it is on.
    pub network: NetworkId,
    /// In the hub.
    pub index: u32,
    /// Its place in the relay; absent on a bridge.
    pub relay: Option<RelayPort>,
    /// Its netems, on a network that they shape.
    pub netem: Option<ShapedHalves>,
}

/// The loopback interface of every namespace.
const LOOPBACK: u32 = 1;
/// The first number that is free in a new namespace. Some kernels make tunnel interfaces in each, so leave room.
const FIRST: u32 = 32;

/// The number of a node's interface number `nth`, in the node.
pub(crate) const fn near_index(nth: usize) -> u32 {
    FIRST + nth as u32
}

impl Layout {
    /// Lays out `plan`; `hub` is the descriptor under which the spawners know the hub's network namespace.
    pub(super) fn of(plan: &Plan, hub: RawFd, kernel: Kernel, probes: bool) -> Self {
        let mut layout = Layout {
            bridges: Vec::new(),
            orders: Vec::new(),
            ports: Vec::new(),
            relay: RelayConfig {
                networks: Vec::new(),
                seed: plan.seed(),
                memory: RelayConfig::DEFAULT_MEMORY,
                capture: None,
                probes: Vec::new(),
            },
            shapers: Shapers::default(),
            probes: Vec::new(),
        };
        let mut next = FIRST;
        let mut index = || {
            next += 1;
            next - 1
        };
        let carriers: Vec<Carrier> = plan
            .networks()
            .iter()
            .enumerate()
            .map(|(at, network)| match network.medium {
                Medium::Bridge => {
                    let index = index();
                    layout.bridges.push(Bridge { name: format!("br{at}"), index });
                    Carrier::Bridge(index)
                }
                Medium::Netem => {
                    let index = index();
                    layout.bridges.push(Bridge { name: format!("br{at}"), index });
                    Carrier::Netem(index, Trains::on(plan, at))
                }
                Medium::Relay => {
                    layout.relay.networks.push(NetworkConfig {
                        name: network.name.clone(),
                        mtu: network.mtu,
                        ports: Vec::new(),
                        pairs: Vec::new(),
                        uplink: None,
                    });
                    Carrier::Relay(layout.relay.networks.len() - 1, Trains::on(plan, at))
                }
            })
            .collect();

        for (at, node) in plan.nodes().iter().enumerate() {
            let routed = plan.is_routed();
            let mut order = Order { name: node.name.clone(), root: node.root, routed, ..Order::default() };
            order.inside.set_up(LOOPBACK);
            let mut ports = Vec::with_capacity(node.interfaces.len());
            for (nth, interface) in node.interfaces.iter().enumerate() {
                let network = plan.network(interface.network);
                let (near, far) = (near_index(nth), index());
                let carrier = &carriers[interface.network.index()];
                let offload = carrier.offload(at, nth, kernel) != Offload::Off;
                let far_name = format!("n{at}-{nth}");
                let end =
                    |name, index, mac| VethEnd { name, index, mac, mtu: network.mtu, segmentation_offload: offload };
                let ends = (end(&interface.name, near, Some(interface.mac)), end(&far_name, far, None));
                order.inside.add_veth(&ends.0, &ends.1, hub);
                if kernel.ipv6 {
                    order.inside.forgo_link_local(near);
                }
                order.inside.add_address(near, interface.address, network.subnet.prefix);
                if kernel.ipv6 && node.is_router() && interface.address.is_ipv6() {
                    // A router asks for its neighbours from there (RFC 4861, section 7.2.2).
                    order.inside.add_address(near, IpAddr::V6(link_local(interface.mac)), 64);
                }
                if nth == 0 && interface.address.is_ipv4() {
                    order.inside.add_multicast_route(near);
                }
                order.near.push(near);
                order.far.push(far);
                let mut netem = None;
                let relay = match carrier {
                    Carrier::Bridge(bridge) => {
                        order.hub.attach(far, *bridge);
                        None
                    }
                    Carrier::Netem(bridge, _) => {
                        add_neighbours(plan, interface, near, &mut order.inside);
                        let (id, node, bridge) = ((at, nth), node.name.as_str(), *bridge);
                        let joint = Joint { id, node, network, interface, far, bridge, hub, offload };
                        let halves = ever_shaped(plan, at, nth);
                        let shapers = &mut layout.shapers;
                        netem = Some(joint.connect(halves, &mut order, shapers, plan.seed(), &mut index));
                        None
                    }
                    Carrier::Relay(network, _) => {
                        order.hub.set_up(far);
                        let ports = &mut layout.relay.networks[*network].ports;
                        ports.push(PortConfig {
                            label: node.name.clone(),
                            interface: interface.name.clone(),
                            ifindex: far,
                            mac: interface.mac,
                            addresses: vec![interface.address],
                            profile: interface.link.clone(),
                            offload,
                        });
                        Some(RelayPort { network: *network, port: ports.len() - 1 })
                    }
                };
                ports.push(Port { network: interface.network, index: far, relay, netem });
            }
            for route in &node.routes {
                let Subnet { base, prefix } = plan.network(route.to).subnet;
                order.inside.add_route(FIRST + route.interface as u32, base, prefix, route.gateway);
            }
            layout.orders.push(order);
            layout.ports.push(ports);
        }
        layout.add_pairs(plan);
        if probes {
            layout.add_probes(plan, &carriers, index);
        }
        layout
    }

    /// An interface on every network that has anything to measure.
    fn add_probes(&mut self, plan: &Plan, carriers: &[Carrier], mut index: impl FnMut() -> u32) {
        for (at, carrier) in carriers.iter().enumerate() {
            let interfaces = plan.nodes().iter().flat_map(|node| &node.interfaces);
            let mut here = interfaces.filter(|interface| interface.network.index() == at).peekable();
            let Some(network) = here.peek().map(|interface| interface.network) else { continue };
            if !here.any(|interface| !interface.link.is_transparent()) && plan.pairs().is_empty() {
                continue;
            }
            let nth = self.probes.len();
            let [.., high, low] = (nth as u32).to_be_bytes();
            let probe = |far, bridge| Probe {
                network,
                near: near_index(nth),
                far,
                // Locally administered, and no node's.
                mac: [0x06, 0, 0, 0, high, low],
                mtu: plan.network(network).mtu,
                bridge,
            };
            match *carrier {
                Carrier::Bridge(_) => {}
                Carrier::Netem(bridge, _) => self.probes.push(probe(index(), Some(bridge))),
                Carrier::Relay(relayed, _) => {
                    let probe = probe(index(), None);
                    let port = PortConfig {
                        // No node has such a name.
                        label: "(probes)".to_owned(),
                        interface: "probe".to_owned(),
                        ifindex: probe.far,
                        mac: probe.mac,
                        addresses: Vec::new(),
                        profile: Profile::default(),
                        offload: false,
                    };
                    self.relay.probes.push(ProbePort { network: relayed, port });
                    self.probes.push(probe);
                }
            }
        }
    }

    /// A pair's impairment acts on every relayed network that both are on.
    fn add_pairs(&mut self, plan: &Plan) {
        for pair in plan.pairs() {
            for from in self.ports[pair.from.index()].iter().filter_map(|port| port.relay) {
                for to in self.ports[pair.to.index()].iter().filter_map(|port| port.relay) {
                    if from.network == to.network {
                        let pairs = &mut self.relay.networks[from.network].pairs;
                        pairs.push(PairConfig { from: from.port, to: to.port, half: pair.link.clone() });
                    }
                }
            }
        }
    }
}

/// What carries a network: a bridge by its number, with or without netem, or a network of the relay.
enum Carrier {
    Bridge(u32),
    Netem(u32, Trains),
    Relay(usize, Trains),
}

impl Carrier {
    fn offload(&self, node: usize, interface: usize, kernel: Kernel) -> Offload {
        match self {
            Carrier::Bridge(_) => Offload::Whole,
            Carrier::Relay(_, trains) | Carrier::Netem(_, trains) if trains.may_leave(node, interface) => {
                Offload::Whole
            }
            Carrier::Relay(..) if kernel.relays_trains => Offload::Relay,
            Carrier::Relay(..) | Carrier::Netem(..) => Offload::Off,
        }
    }
}

/// What becomes of the trains of packets that segmentation offload makes of what a node sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Offload {
    /// They travel whole: no receiver could tell.
    Whole,
    /// The relay cuts them up.
    Relay,
    /// The node's own kernel does, before they leave it.
    Off,
}

/// Where on a network packets may travel in trains (segmentation offload) from end to end, because no receiver could tell at
/// any time of the run.
#[derive(Default)]
struct Trains {
    /// (Node, interface) whose `up` shows them.
    shown_up: BTreeSet<(usize, usize)>,
    /// Those whose `down` does.
    shown_down: BTreeSet<(usize, usize)>,
    /// Nodes with a pair's impairment towards another.
    shown_from: BTreeSet<usize>,
}

impl Trains {
    fn on(plan: &Plan, network: usize) -> Self {
        let mut trains = Trains::default();
        let here = |interface: &Interface| interface.network.index() == network;
        for (at, node) in plan.nodes().iter().enumerate() {
            for (nth, interface) in node.interfaces.iter().enumerate().filter(|(_, interface)| here(interface)) {
                trains.note(at, nth, &interface.link);
            }
        }
        for event in plan.events() {
            if let Action::SetLink { profiles, .. } = &event.action {
                for (node, nth, profile) in
                    profiles.iter().filter(|(id, nth, _)| here(&plan.node(*id).interfaces[*nth]))
                {
                    trains.note(node.index(), *nth, profile);
                }
            }
        }
        let shown = plan.pairs().iter().filter(|pair| !pair.link.allows_offload());
        trains.shown_from = shown.map(|pair| pair.from.index()).collect();
        trains
    }

    fn note(&mut self, node: usize, nth: usize, profile: &Profile) {
        if !profile.up.allows_offload() {
            self.shown_up.insert((node, nth));
        }
        if !profile.down.allows_offload() {
            self.shown_down.insert((node, nth));
        }
    }

    /// Its own `up`, every other interface's `down` and every pair from it must not show them.
    fn may_leave(&self, node: usize, nth: usize) -> bool {
        let own = usize::from(self.shown_down.contains(&(node, nth)));
        !self.shown_up.contains(&(node, nth)) && self.shown_down.len() == own && !self.shown_from.contains(&node)
    }
}

/// What becomes of the trains of each node's interfaces, in the plan's order.
pub(super) fn offloads(plan: &Plan, kernel: Kernel) -> Vec<Vec<Offload>> {
    let carrier = |(at, network): (usize, &Network)| match network.medium {
        Medium::Bridge => Carrier::Bridge(0),
        Medium::Netem => Carrier::Netem(0, Trains::on(plan, at)),
        Medium::Relay => Carrier::Relay(0, Trains::on(plan, at)),
    };
    let carriers: Vec<Carrier> = plan.networks().iter().enumerate().map(carrier).collect();
    let of_node = |(at, node): (usize, &Node)| {
        let interfaces = node.interfaces.iter().enumerate();
        interfaces.map(|(nth, interface)| carriers[interface.network.index()].offload(at, nth, kernel)).collect()
    };
    plan.nodes().iter().enumerate().map(of_node).collect()
}

/// The requests that make the bridges, and those that delete them.
pub(super) fn bridge_batches(bridges: &[Bridge]) -> (Batch, Batch) {
    let (mut make, mut delete) = (Batch::default(), Batch::default());
    for bridge in bridges {
        make.add_bridge(&bridge.name, bridge.index);
    }
    for bridge in bridges.iter().rev() {
        delete.delete(bridge.index);
    }
    (make, delete)
}
