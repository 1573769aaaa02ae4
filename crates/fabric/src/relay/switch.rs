//! Where a frame goes: from a port through the model of its network to other ports. No I/O.

use std::rc::Rc;

use link::{Delivery, HalfLink, Network, PartitionKey, PortId, Profile, To};
use machine::{Seed, Span, Time};

use super::ethernet::{Header, Mac, is_group};
use super::frame::{Frame, Shelf};
use super::neighbour::{Neighbours, Reaction};
use super::segment::{Train, VNET};
use super::{NetworkConfig, PortRefusals, RelayConfig, RelayPort};

/// All networks of a relay.
#[derive(Debug)]
pub(super) struct Switch {
    domains: Vec<Domain>,
    /// (interface, domain, port), sorted by interface.
    interfaces: Vec<(u32, usize, PortId)>,
    shelf: Rc<Shelf>,
    shortest_way: Span,
}

/// A frame that is due at an interface, at this time of the model.
#[derive(Debug)]
pub(super) struct Due {
    pub(super) at: Time,
    /// Position among all ports of the relay, in the order of the configuration.
    pub(super) slot: usize,
    pub(super) frame: Frame,
}

#[derive(Debug)]
struct Domain {
    network: Network<Frame>,
    ports: Vec<Port>,
    /// Sorted by address.
    by_mac: Vec<(Mac, PortId)>,
    neighbours: Neighbours,
    pairs: Vec<(usize, bool)>,
    first_slot: usize,
}

#[derive(Debug)]
struct Port {
    mac: Mac,
    profile: Profile,
    is_cut: bool,
    /// Whether trains from here pass whole: no half on any way from here would show it.
    passes_trains: bool,
    refusals: PortRefusals,
}

impl Switch {
    pub(super) fn new(config: &RelayConfig) -> Self {
        let mut interfaces = Vec::new();
        let mut domains = Vec::new();
        let mut slots = 0;
        for (index, network) in config.networks.iter().enumerate() {
            let domain = Domain::new(network, config.seed, slots);
            interfaces
                .extend(network.ports.iter().zip(domain.network.ports()).map(|(port, id)| (port.ifindex, index, id)));
            slots += network.ports.len();
            domains.push(domain);
        }
        interfaces.sort_unstable_by_key(|(ifindex, ..)| *ifindex);
        let shortest_way = shortest_way(&domains);
        Switch { domains, interfaces, shelf: Shelf::new(config.memory.as_bytes() as usize), shortest_way }
    }

    /// A packet (`virtio_net_hdr` and frame) has arrived from a node. Returns the relay's own answer, if it has one: the
    /// slot to send it to, and the packet.
    pub(super) fn receive(&mut self, now: Time, ifindex: u32, packet: &[u8]) -> Option<(usize, Frame)> {
        // Interfaces that are not ours share the namespace: they are none of our business.
        let found = self.interfaces.binary_search_by_key(&ifindex, |(ifindex, ..)| *ifindex).ok()?;
        let (_, domain, from) = self.interfaces[found];
        self.domains[domain].receive(now, from, packet, &self.shelf)
    }

    /// Counts a frame that arrived from a node in a form that no network has.
    pub(super) fn refuse_malformed(&mut self, ifindex: u32) {
        if let Ok(found) = self.interfaces.binary_search_by_key(&ifindex, |(ifindex, ..)| *ifindex) {
            let (_, domain, port) = self.interfaces[found];
            self.domains[domain].ports[port.index()].refusals.malformed += 1;
        }
    }

    /// The next frame that is due by `now`. In the order of time within each network.
    pub(super) fn poll(&mut self, now: Time) -> Option<Due> {
        self.domains.iter_mut().find_map(|domain| {
            let Delivery { at, to, payload, .. } = domain.network.poll(now)?;
            Some(Due { at, slot: domain.first_slot + to.index(), frame: payload })
        })
    }

    pub(super) fn deadline(&self) -> Option<Time> {
        self.domains.iter().filter_map(|domain| domain.network.deadline()).min()
    }

    /// The least time that any packet takes from its arrival to its deadline.
    pub(super) fn shortest_way(&self) -> Span {
        self.shortest_way
    }

    pub(super) fn set_profile(&mut self, now: Time, port: RelayPort, profile: Profile) {
        let domain = &mut self.domains[port.network];
        let id = domain.id(port);
        domain.network.set_profile(now, id, &profile);
        domain.ports[port.port].profile = profile;
        domain.judge_trains();
        self.shortest_way = shortest_way(&self.domains);
    }

    pub(super) fn partition(&mut self, now: Time, key: PartitionKey, lists: &[Vec<RelayPort>]) {
        for (index, domain) in self.domains.iter_mut().enumerate() {
            let here = |list: &Vec<RelayPort>| -> Vec<PortId> {
                list.iter().filter(|port| port.network == index).map(|port| domain.id(*port)).collect()
            };
            let lists: Vec<Vec<PortId>> = lists.iter().map(here).collect();
            domain.network.partition(now, key, &lists);
        }
    }

    pub(super) fn heal(&mut self, now: Time, key: PartitionKey) {
        for domain in &mut self.domains {
            domain.network.heal(now, key);
        }
    }

    pub(super) fn cut(&mut self, now: Time, port: RelayPort) {
        let domain = &mut self.domains[port.network];
        domain.ports[port.port].is_cut = true;
        domain.network.cut(now, domain.id(port));
    }

    pub(super) fn restore(&mut self, now: Time, port: RelayPort) {
        let domain = &mut self.domains[port.network];
        domain.ports[port.port].is_cut = false;
        domain.network.restore(now, domain.id(port));
    }

    pub(super) fn counters(&self) -> Vec<link::NetworkCounters> {
        self.domains.iter().map(|domain| domain.network.counters()).collect()
    }

    pub(super) fn refusals(&self) -> Vec<Vec<PortRefusals>> {
        self.domains.iter().map(|domain| domain.ports.iter().map(|port| port.refusals).collect()).collect()
    }
}

impl Domain {
    fn new(config: &NetworkConfig, seed: Seed, first_slot: usize) -> Self {
        let mut network = Network::new(&config.name, seed);
        let mut neighbours = Neighbours::default();
        let mut by_mac = Vec::new();
        let mut ports = Vec::new();
        for port in &config.ports {
            let id = network.add_port(&port.label, &port.profile);
            neighbours.add(port.mac, &port.addresses);
            by_mac.push((port.mac, id));
            let profile = port.profile.clone();
            let refusals = PortRefusals::default();
            ports.push(Port { mac: port.mac, profile, is_cut: false, passes_trains: false, refusals });
        }
        by_mac.sort_unstable();
        let ids: Vec<PortId> = network.ports().collect();
        for pair in &config.pairs {
            network.set_pair(ids[pair.from], ids[pair.to], &pair.half);
        }
        let pairs = config.pairs.iter().map(|pair| (pair.from, pair.half.allows_offload())).collect();
        let mut domain = Domain { network, ports, by_mac, neighbours, pairs, first_slot };
        domain.judge_trains();
        domain
    }

    fn id(&self, port: RelayPort) -> PortId {
        self.network.ports().nth(port.port).expect("the handle checked the port")
    }

    fn judge_trains(&mut self) {
        let showing_down = self.ports.iter().filter(|port| !port.profile.down.allows_offload()).count();
        for (index, port) in self.ports.iter_mut().enumerate() {
            let others_showing = showing_down - usize::from(!port.profile.down.allows_offload());
            let pairs_pass = self.pairs.iter().all(|(from, passes)| *from != index || *passes);
            port.passes_trains = port.profile.up.allows_offload() && others_showing == 0 && pairs_pass;
        }
    }

    fn receive(&mut self, now: Time, from: PortId, packet: &[u8], shelf: &Rc<Shelf>) -> Option<(usize, Frame)> {
        let frame = packet.get(VNET..).unwrap_or_default();
        let port = &mut self.ports[from.index()];
        let Some(header) = Header::of(frame) else {
            port.refusals.malformed += 1;
            return None;
        };
        if header.source != port.mac {
            port.refusals.foreign_source += 1;
            return None;
        }
        if !port.is_cut {
            match self.neighbours.react(port.mac, &header, frame) {
                Reaction::Forward => {}
                Reaction::Swallow => {
                    port.refusals.answered += 1;
                    return None;
                }
                Reaction::Answer(answer) => {
                    port.refusals.answered += 1;
                    let write = |packet: &mut [u8]| {
                        packet[..VNET].fill(0);
                        packet[VNET..].copy_from_slice(&answer);
                    };
                    let packet = shelf.take(VNET + answer.len(), write)?;
                    return Some((self.first_slot + from.index(), packet));
                }
            }
        }
        let to = if is_group(&header.destination) {
            To::Flood
        } else {
            match self.by_mac.binary_search_by_key(&header.destination, |(mac, _)| *mac) {
                Ok(found) => To::Port(self.by_mac[found].1),
                Err(_) => {
                    port.refusals.unknown_destination += 1;
                    return None;
                }
            }
        };
        match Train::of(packet) {
            Some(train) if !port.passes_trains => {
                for index in 0..train.packets(packet) {
                    let length = train.length_of(packet, index);
                    self.send(now, from, to, None, length, |out| train.cut(packet, index, out), shelf);
                }
            }
            train => self.send(now, from, to, train, packet.len(), |out| out.copy_from_slice(packet), shelf),
        }
        None
    }

    #[expect(clippy::too_many_arguments, reason = "what a packet is, and how to write it only if there is room")]
    fn send(
        &mut self,
        now: Time,
        from: PortId,
        to: To,
        train: Option<Train>,
        length: usize,
        write: impl FnOnce(&mut [u8]),
        shelf: &Rc<Shelf>,
    ) {
        match shelf.take(length, write) {
            Some(frame) => {
                let size = Train::wire_size(train, frame.bytes());
                self.network.send(now, from, to, size, frame);
            }
            None => self.network.refuse(from, link::WireSize::packet((length - VNET) as u32)),
        }
    }
}

fn shortest_way(domains: &[Domain]) -> Span {
    let least = |half: &HalfLink| half.delay.saturating_sub(half.jitter);
    let ways = domains.iter().filter_map(|domain| {
        let up = domain.ports.iter().map(|port| least(&port.profile.up)).min()?;
        let down = domain.ports.iter().map(|port| least(&port.profile.down)).min()?;
        Some(up + down)
    });
    ways.min().unwrap_or(Span::ZERO)
}

#[cfg(test)]
mod tests {

    use super::*;
    use crate::relay::PortConfig;

    const MACS: [Mac; 3] = [[2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2], [2, 0, 0, 0, 0, 3]];

    fn switch() -> Switch {
        let delay = HalfLink { delay: Span::from_millis(1), ..HalfLink::default() };
        let port = |index: usize| PortConfig {
            label: format!("node-{index}"),
            ifindex: 10 + index as u32,
            mac: MACS[index],
            addresses: Vec::new(),
            profile: Profile { up: delay.clone(), down: HalfLink::default() },
            offload: true,
        };
        let network = |name: &str, ports: std::ops::Range<usize>| NetworkConfig {
            name: name.to_owned(),
            mtu: 1500,
            ports: ports.map(port).collect(),
            pairs: Vec::new(),
        };
        let networks = vec![network("one", 0..2), network("two", 2..3)];
        Switch::new(&RelayConfig { networks, seed: Seed::new(1), memory: RelayConfig::DEFAULT_MEMORY })
    }

    fn packet(source: Mac, destination: Mac) -> Vec<u8> {
        [&[0; VNET][..], &destination, &source, &[8, 0], &[0x45; 50]].concat()
    }

    fn slots(switch: &mut Switch) -> Vec<usize> {
        std::iter::from_fn(|| switch.poll(Time::MAX)).map(|due| due.slot).collect()
    }

    #[test]
    fn unicast_reaches_its_owner_and_floods_stay_in_their_network() {
        let mut switch = switch();
        switch.receive(Time::ZERO, 10, &packet(MACS[0], MACS[1]));
        assert_eq!(switch.deadline(), Some(Time::ZERO + Span::from_millis(1)));
        assert_eq!(slots(&mut switch), [1]);
        switch.receive(Time::ZERO, 11, &packet(MACS[1], [0xff; 6]));
        assert_eq!(slots(&mut switch), [0]);
        switch.receive(Time::ZERO, 12, &packet(MACS[2], [0xff; 6]));
        assert_eq!(slots(&mut switch), [0usize; 0], "alone in its network");
    }

    #[test]
    fn strangers_are_dropped_and_counted() {
        let mut switch = switch();
        switch.receive(Time::ZERO, 10, &packet(MACS[1], MACS[0]));
        switch.receive(Time::ZERO, 10, &packet(MACS[0], MACS[2]));
        switch.receive(Time::ZERO, 10, &[0; 15]);
        switch.receive(Time::ZERO, 10, &[]);
        switch.receive(Time::ZERO, 99, &packet(MACS[0], MACS[1]));
        assert_eq!(slots(&mut switch), [0usize; 0]);
        let expected = PortRefusals { answered: 0, unknown_destination: 1, foreign_source: 1, malformed: 2 };
        assert_eq!(switch.refusals(), [vec![expected, PortRefusals::default()], vec![PortRefusals::default()]]);
    }

    #[test]
    fn trains_pass_whole_only_where_no_half_on_the_way_shows_it() {
        let mut switch = switch();
        assert!(switch.domains[0].ports.iter().all(|port| port.passes_trains));
        let lossy = HalfLink { loss: "1%".parse().expect("a share"), ..HalfLink::default() };
        let profile = Profile { up: HalfLink::default(), down: lossy };
        switch.set_profile(Time::ZERO, RelayPort { network: 0, port: 1 }, profile);
        let passes = |port: usize| switch.domains[0].ports[port].passes_trains;
        assert_eq!([passes(0), passes(1)], [false, true], "what goes down to node-1 is lossy, what it sends is not");
    }
}
