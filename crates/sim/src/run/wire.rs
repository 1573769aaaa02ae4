//! The networks of a plan as link models: which way a datagram goes, what it weighs, what becomes of it.

use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;

use event::{Direction, LinkCount};
use link::{Network, PartitionKey, PortId, Profile, To, WireSize};
use machine::Time;
use topology::Plan;
use topology::plan::NodeId;

use crate::program::{Content, Datagram};

/// Ethernet without FCS.
const ETHERNET: u32 = 14;
const IPV4: u32 = 20;
const IPV6: u32 = 40;
/// The extension header of a fragment (RFC 8200, section 4.5).
const IPV6_FRAGMENT: u32 = 8;
const UDP: u32 = 8;

/// Datagrams in fragments that a node puts together at once; the oldest makes place, as in a kernel.
const REASSEMBLIES: usize = 256;

pub(super) struct Wire {
    segments: Vec<Segment>,
    /// For each node its ports, in the order of its interfaces: (network, port).
    ports: Vec<Vec<(usize, PortId)>>,
    places: BTreeMap<IpAddr, (NodeId, usize)>,
    /// By node: whether it forwards what is for others.
    forwards: Vec<bool>,
    fragmented: u64,
    reassembling: Vec<VecDeque<(u64, u32)>>,
}

/// One broadcast domain.
struct Segment {
    network: Network<Packet>,
    mtu: u32,
    /// By the port's index: the node and which of its interfaces.
    nodes: Vec<(NodeId, usize)>,
}

#[derive(Clone, Debug)]
enum Packet {
    Whole(Datagram),
    /// One of `of` fragments of the datagram numbered `number`.
    Fragment {
        number: u64,
        of: u32,
        datagram: Rc<Datagram>,
    },
}

impl Packet {
    /// Whom it is for.
    fn to(&self) -> SocketAddr {
        match self {
            Packet::Whole(datagram) => datagram.to,
            Packet::Fragment { datagram, .. } => datagram.to,
        }
    }
}

/// The packets that a datagram of so many bytes of payload becomes, and their Ethernet bytes together.
pub(crate) fn weigh(payload: u32, is_ipv4: bool, mtu: u32) -> (u32, u32) {
    let carried = UDP + payload;
    let ip = if is_ipv4 { IPV4 } else { IPV6 };
    if ip + carried <= mtu {
        return (1, ETHERNET + ip + carried);
    }
    let (ip, room) = fragment(is_ipv4, mtu);
    let packets = carried.div_ceil(room);
    (packets, packets * (ETHERNET + ip) + carried)
}

/// Bytes of the headers of IP in a fragment, and what it carries: all but the last a multiple of eight (RFC 791, section
/// 3.2).
fn fragment(is_ipv4: bool, mtu: u32) -> (u32, u32) {
    let ip = if is_ipv4 { IPV4 } else { IPV6 + IPV6_FRAGMENT };
    (ip, (mtu.saturating_sub(ip) & !7).max(8))
}

impl Wire {
    pub(super) fn new(plan: &Plan) -> Self {
        let networks = plan.networks().iter();
        let mut segments: Vec<Segment> = networks
            .map(|network| Segment {
                network: Network::new(&network.name, plan.seed()),
                mtu: network.mtu,
                nodes: Vec::new(),
            })
            .collect();
        let mut ports = Vec::new();
        let mut places = BTreeMap::new();
        for id in plan.node_ids() {
            let node = plan.node(id);
            let mut own = Vec::new();
            for (index, interface) in node.interfaces.iter().enumerate() {
                let segment = &mut segments[interface.network.index()];
                own.push((interface.network.index(), segment.network.add_port(&node.name, &interface.link)));
                segment.nodes.push((id, index));
                places.insert(interface.address, (id, index));
            }
            ports.push(own);
        }
        let (forwards, reassembling) = (vec![false; ports.len()], vec![VecDeque::new(); ports.len()]);
        let mut wire = Wire { segments, forwards, fragmented: 0, reassembling, ports, places };
        for pair in plan.pairs() {
            for (from, to) in wire.shared(pair.from, pair.to) {
                wire.segments[from.0].network.set_pair(from.1, to, &pair.link);
            }
        }
        wire
    }

    /// The ports of two nodes on each network that both are on.
    fn shared(&self, from: NodeId, to: NodeId) -> Vec<((usize, PortId), PortId)> {
        let other = &self.ports[to.index()];
        let own = self.ports[from.index()].iter();
        let both = own.flat_map(|from| other.iter().filter(|to| to.0 == from.0).map(|to| (*from, to.1)));
        both.collect()
    }

    /// A node sends a datagram. What leads nowhere is gone.
    pub(super) fn send(
        &mut self,
        now: Time,
        plan: &Plan,
        node: NodeId,
        from_port: u16,
        to: SocketAddr,
        content: Content,
    ) {
        let own = &self.ports[node.index()];
        if to.ip().is_multicast() {
            let Some((interface, (segment, port))) = own.iter().copied().enumerate().next() else { return };
            let from = SocketAddr::new(plan.node(node).interfaces[interface].address, from_port);
            return self.emit(now, segment, port, To::Flood, Datagram { from, to, content });
        }
        let Some((interface, next)) = self.next(plan, node, to.ip()) else { return };
        let (segment, port) = own[interface];
        let from = SocketAddr::new(plan.node(node).interfaces[interface].address, from_port);
        self.emit(now, segment, port, To::Port(next), Datagram { from, to, content });
    }

    /// By which of its interfaces a node sends what is for `address`, and to which port of that network.
    fn next(&self, plan: &Plan, node: NodeId, address: IpAddr) -> Option<(usize, PortId)> {
        let (target, interface) = self.places.get(&address).copied()?;
        let (segment, target_port) = self.ports[target.index()][interface];
        let own = &self.ports[node.index()];
        if let Some(interface) = own.iter().position(|(other, _)| *other == segment) {
            return Some((interface, target_port));
        }
        let route = plan.node(node).routes.iter().find(|route| route.to.index() == segment)?;
        let (network, _) = own[route.interface];
        let (_, gateway) = self.ports[route.via.index()].iter().find(|(other, _)| *other == network)?;
        Some((route.interface, *gateway))
    }

    /// From now on a node forwards what is for others, or drops it.
    pub(super) fn set_forwarding(&mut self, node: NodeId, on: bool) {
        self.forwards[node.index()] = on;
    }

    /// A node has got a packet that is for another one.
    fn forward(&mut self, now: Time, plan: &Plan, node: NodeId, size: WireSize, packet: Packet) {
        if !self.forwards[node.index()] {
            return;
        }
        let Some((interface, next)) = self.next(plan, node, packet.to().ip()) else { return };
        let (segment, port) = self.ports[node.index()][interface];
        self.segments[segment].network.send(now, port, To::Port(next), size, packet);
    }

    fn emit(&mut self, now: Time, segment: usize, port: PortId, to: To, datagram: Datagram) {
        let Segment { network, mtu, .. } = &mut self.segments[segment];
        let is_ipv4 = datagram.to.is_ipv4();
        let payload = datagram.content.length();
        let (of, bytes) = weigh(payload, is_ipv4, *mtu);
        if of == 1 {
            network.send(now, port, to, WireSize::packet(bytes), Packet::Whole(datagram));
            return;
        }
        if datagram.content.is_never_cut() {
            return;
        }
        let (ip, room) = fragment(is_ipv4, *mtu);
        let datagram = Rc::new(datagram);
        self.fragmented += 1;
        for index in 0..of {
            let part = room.min(UDP + payload - index * room);
            let packet = Packet::Fragment { number: self.fragmented, of, datagram: Rc::clone(&datagram) };
            network.send(now, port, to, WireSize::packet(ETHERNET + ip + part), packet);
        }
    }

    /// When the next packet moves.
    pub(super) fn deadline(&self) -> Option<Time> {
        self.segments.iter().filter_map(|segment| segment.network.deadline()).min()
    }

    /// The next datagram that has reached a node by `now`.
    pub(super) fn poll(&mut self, now: Time, plan: &Plan) -> Option<(NodeId, Datagram)> {
        loop {
            let due = |segment: &Segment| segment.network.deadline().filter(|at| *at <= now);
            let (_, index) = self.segments.iter().enumerate().filter_map(|(at, one)| Some((due(one)?, at))).min()?;
            let segment = &mut self.segments[index];
            let Some(delivery) = segment.network.poll(now) else { continue };
            // One wrong bit never escapes a checksum of IP or UDP, and the kernel drops the packet.
            if !delivery.flips.is_empty() {
                continue;
            }
            let (node, _) = segment.nodes[delivery.to.index()];
            if !self.is_own(node, delivery.payload.to().ip()) {
                self.forward(now, plan, node, delivery.size, delivery.payload);
                continue;
            }
            match delivery.payload {
                Packet::Whole(datagram) => return Some((node, datagram)),
                Packet::Fragment { number, of, datagram } => {
                    if self.completes(node, number, of) {
                        return Some((node, Datagram::clone(&datagram)));
                    }
                }
            }
        }
    }

    /// Whether this fragment is the last that was missing.
    fn completes(&mut self, node: NodeId, number: u64, of: u32) -> bool {
        let partial = &mut self.reassembling[node.index()];
        let Some(at) = partial.iter().position(|(other, _)| *other == number) else {
            if partial.len() == REASSEMBLIES {
                partial.pop_front();
            }
            partial.push_back((number, of - 1));
            return false;
        };
        partial[at].1 -= 1;
        if partial[at].1 == 0 {
            partial.remove(at);
            return true;
        }
        false
    }

    /// Whether the node's own address is `address`.
    pub(super) fn is_own(&self, node: NodeId, address: IpAddr) -> bool {
        address.is_multicast() || self.places.get(&address).is_some_and(|(owner, _)| *owner == node)
    }

    /// This is t = 0: traces of links are at their beginning.
    pub(super) fn begin_traces(&mut self, now: Time) {
        for segment in &mut self.segments {
            segment.network.begin_traces(now);
        }
    }

    // Faults.

    pub(super) fn cut(&mut self, now: Time, node: NodeId) {
        for (segment, port) in &self.ports[node.index()] {
            self.segments[*segment].network.cut(now, *port);
        }
    }

    pub(super) fn restore(&mut self, now: Time, node: NodeId) {
        for (segment, port) in &self.ports[node.index()] {
            self.segments[*segment].network.restore(now, *port);
        }
    }

    pub(super) fn set_link(&mut self, now: Time, node: NodeId, interface: usize, profile: &Profile) {
        let (segment, port) = self.ports[node.index()][interface];
        self.segments[segment].network.set_profile(now, port, profile);
    }

    pub(super) fn partition(&mut self, now: Time, key: usize, lists: &[Vec<NodeId>]) {
        for index in 0..self.segments.len() {
            let on_it = |node: &NodeId| {
                let port = self.ports[node.index()].iter().find(|(segment, _)| *segment == index);
                port.map(|(_, port)| *port)
            };
            let lists: Vec<Vec<PortId>> = lists.iter().map(|list| list.iter().filter_map(on_it).collect()).collect();
            self.segments[index].network.partition(now, PartitionKey(key as u64), &lists);
        }
    }

    pub(super) fn heal(&mut self, now: Time, key: usize) {
        for segment in &mut self.segments {
            segment.network.heal(now, PartitionKey(key as u64));
        }
    }

    // Accounts.

    /// What became of the packets on each half link, and how many the model had no room for.
    pub(super) fn counts(&self, plan: &Plan) -> (Vec<LinkCount>, u64) {
        let counters: Vec<_> = self.segments.iter().map(|segment| segment.network.counters()).collect();
        let mut counts = Vec::new();
        let mut overflowed = 0;
        for (node, ports) in plan.nodes().iter().zip(&self.ports) {
            for (segment, port) in ports {
                let network = &counters[*segment];
                let port = &network.ports[port.index()];
                for (direction, half) in [(Direction::Up, &port.up), (Direction::Down, &port.down)] {
                    overflowed += half.dropped.overflow.packets;
                    counts.push(scenario::link_count(&node.name, &network.name, direction, half));
                }
            }
        }
        for network in &counters {
            overflowed += network.pairs.iter().map(|pair| pair.half.dropped.overflow.packets).sum::<u64>();
            counts.extend(scenario::pair_counts(network));
        }
        (counts, overflowed)
    }
}
