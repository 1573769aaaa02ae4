//! Where a frame goes: from a port through the model of its network to other ports. No I/O.

use std::rc::Rc;

use link::{PartitionKey, PortId, Profile};
use machine::{Span, Time};

use super::capture::{Capture, CaptureEnding};
use super::change::Change;
use super::domain::Domain;
use super::frame::{Frame, Shelf};
use super::ring::Slot;
use super::{PortRefusals, RelayConfig, RelayPort};

/// All networks of a relay.
#[derive(Debug)]
pub(super) struct Switch {
    domains: Vec<Domain>,
    /// (interface, domain, port), sorted by interface.
    interfaces: Vec<(u32, usize, PortId)>,
    shelf: Rc<Shelf>,
    shortest_loop: Span,
    capture: Option<Capture>,
}

/// A frame that is due at an interface, at this time of the model.
#[derive(Debug)]
pub(super) struct Due {
    pub(super) at: Time,
    /// Position among all ports of the relay, in the order of the configuration.
    pub(super) slot: usize,
    pub(super) frame: Frame,
}

impl Switch {
    pub(super) fn new(config: &RelayConfig, capture: Option<Capture>) -> Self {
        let mut interfaces = Vec::new();
        let mut domains = Vec::new();
        let mut slots = 0;
        for (index, network) in config.networks.iter().enumerate() {
            let domain = Domain::new(network, config.seed, slots, capture.is_some());
            interfaces
                .extend(network.ports.iter().zip(domain.network.ports()).map(|(port, id)| (port.ifindex, index, id)));
            slots += network.ports.len();
            domains.push(domain);
        }
        interfaces.sort_unstable_by_key(|(ifindex, ..)| *ifindex);
        let shortest_loop = shortest_loop(&domains);
        let shelf = Shelf::new(config.memory.as_bytes() as usize);
        Switch { domains, interfaces, shelf, shortest_loop, capture }
    }

    /// A packet (`virtio_net_hdr` and frame) has arrived from a node. Returns the relay's own answer, if it has one: the
    /// slot to send it to, and the packet. The model may leave the packet where it is, by `keep`.
    pub(super) fn receive(
        &mut self,
        now: Time,
        ifindex: u32,
        packet: &[u8],
        keep: impl FnOnce() -> Option<Slot>,
    ) -> Option<(usize, Frame)> {
        // Interfaces that are not ours share the namespace: they are none of our business.
        let found = self.interfaces.binary_search_by_key(&ifindex, |(ifindex, ..)| *ifindex).ok()?;
        let (_, domain, from) = self.interfaces[found];
        self.domains[domain].receive(now, from, packet, keep, &self.shelf, self.capture.as_mut())
    }

    /// So many frames have been taken from the ring that keeps some: those that are in the way of others leave it.
    pub(super) fn clear_ring(&mut self, taken: u64) {
        self.shelf.clear_ring(taken);
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
        let Switch { domains, capture, .. } = self;
        domains.iter_mut().find_map(|domain| domain.poll(now, capture.as_mut()))
    }

    /// There is nothing to do for a while.
    pub(super) fn rest(&mut self) {
        if let Some(capture) = &mut self.capture {
            capture.rest();
        }
    }

    /// Of each network how many packets have entered it.
    pub(super) fn entered(&self) -> Vec<u64> {
        self.domains.iter().map(|domain| domain.entered).collect()
    }

    /// Records nothing more: everything that the model decides until `now` is recorded.
    pub(super) fn end_capture(&mut self, now: Time) -> Option<CaptureEnding> {
        for domain in &mut self.domains {
            domain.is_recorded = false;
            domain.network.forget_losses();
            domain.judge_trains();
        }
        self.capture.take().map(|capture| capture.finish(now))
    }

    /// Records what a change has taken out of the model.
    fn record_losses(&mut self) {
        for domain in &mut self.domains {
            domain.record_losses(self.capture.as_mut());
        }
    }

    pub(super) fn deadline(&self) -> Option<Time> {
        self.domains.iter().filter_map(|domain| domain.network.deadline()).min()
    }

    /// The least time through a port and back, or over a pair, of those that delay anything; zero if none does.
    pub(super) fn shortest_loop(&self) -> Span {
        self.shortest_loop
    }

    pub(super) fn change(&mut self, now: Time, change: &Change) {
        match change {
            Change::SetProfile(port, profile) => self.set_profile(now, *port, (**profile).clone()),
            Change::Partition(key, lists) => self.partition(now, *key, lists),
            Change::Heal(key) => self.heal(now, *key),
            Change::Cut(port) => self.cut(now, *port),
            Change::Restore(port) => self.restore(now, *port),
            Change::BeginTraces => self.begin_traces(now),
        }
        self.record_losses();
    }

    fn set_profile(&mut self, now: Time, port: RelayPort, profile: Profile) {
        let domain = &mut self.domains[port.network];
        let id = domain.id(port);
        domain.network.set_profile(now, id, &profile);
        domain.ports[port.port].profile = profile;
        domain.judge_trains();
        self.shortest_loop = shortest_loop(&self.domains);
    }

    fn partition(&mut self, now: Time, key: PartitionKey, lists: &[Vec<RelayPort>]) {
        for (index, domain) in self.domains.iter_mut().enumerate() {
            let here = |list: &Vec<RelayPort>| -> Vec<PortId> {
                list.iter().filter(|port| port.network == index).map(|port| domain.id(*port)).collect()
            };
            let lists: Vec<Vec<PortId>> = lists.iter().map(here).collect();
            domain.network.partition(now, key, &lists);
        }
    }

    fn heal(&mut self, now: Time, key: PartitionKey) {
        for domain in &mut self.domains {
            domain.network.heal(now, key);
        }
    }

    fn cut(&mut self, now: Time, port: RelayPort) {
        let domain = &mut self.domains[port.network];
        domain.ports[port.port].is_cut = true;
        domain.network.cut(now, domain.id(port));
    }

    fn restore(&mut self, now: Time, port: RelayPort) {
        let domain = &mut self.domains[port.network];
        domain.ports[port.port].is_cut = false;
        domain.network.restore(now, domain.id(port));
    }

    fn begin_traces(&mut self, now: Time) {
        for domain in &mut self.domains {
            domain.network.begin_traces(now);
        }
    }

    pub(super) fn counters(&self) -> Vec<link::NetworkCounters> {
        self.domains.iter().map(|domain| domain.network.counters()).collect()
    }

    pub(super) fn refusals(&self) -> Vec<Vec<PortRefusals>> {
        self.domains.iter().map(|domain| domain.ports.iter().map(|port| port.refusals).collect()).collect()
    }
}

fn shortest_loop(domains: &[Domain]) -> Span {
    let ports = domains.iter().flat_map(|domain| &domain.ports);
    let loops = ports.map(|port| port.profile.up.shortest_way() + port.profile.down.shortest_way());
    let pairs = domains.iter().flat_map(|domain| &domain.pairs).map(|pair| pair.shortest_way);
    loops.chain(pairs).filter(|span| !span.is_zero()).min().unwrap_or(Span::ZERO)
}

#[cfg(test)]
mod tests {
    use link::HalfLink;
    use machine::Seed;

    use super::*;
    use crate::relay::ethernet::Mac;
    use crate::relay::segment::VNET;
    use crate::relay::{NetworkConfig, PairConfig, PortConfig};

    const MACS: [Mac; 3] = [[2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2], [2, 0, 0, 0, 0, 3]];

    fn config() -> RelayConfig {
        let delay = HalfLink { delay: Span::from_millis(1), ..HalfLink::default() };
        let port = |index: usize| PortConfig {
            label: format!("node-{index}"),
            ifindex: 10 + index as u32,
            mac: MACS[index],
            interface: "eth0".to_owned(),
            addresses: Vec::new(),
            profile: Profile { up: delay.clone(), down: HalfLink::default() },
            offload: true,
        };
        let network = |name: &str, ports: std::ops::Range<usize>| NetworkConfig {
            name: name.to_owned(),
            mtu: 1500,
            ports: ports.map(port).collect(),
            pairs: Vec::new(),
            uplink: None,
        };
        let networks = vec![network("one", 0..2), network("two", 2..3)];
        let memory = RelayConfig::DEFAULT_MEMORY;
        RelayConfig { networks, seed: Seed::new(1), memory, capture: None, probes: Vec::new() }
    }

    fn switch() -> Switch {
        Switch::new(&config(), None)
    }

    fn packet(source: Mac, destination: Mac) -> Vec<u8> {
        [&[0; VNET][..], &destination, &source, &[8, 0], &[0x45; 50]].concat()
    }

    fn receive(switch: &mut Switch, ifindex: u32, packet: &[u8]) {
        switch.receive(Time::ZERO, ifindex, packet, || None);
    }

    fn slots(switch: &mut Switch) -> Vec<usize> {
        std::iter::from_fn(|| switch.poll(Time::MAX)).map(|due| due.slot).collect()
    }

    #[test]
    fn unicast_reaches_its_owner_and_floods_stay_in_their_network() {
        let mut switch = switch();
        receive(&mut switch, 10, &packet(MACS[0], MACS[1]));
        assert_eq!(switch.deadline(), Some(Time::ZERO + Span::from_millis(1)));
        assert_eq!(slots(&mut switch), [1]);
        receive(&mut switch, 11, &packet(MACS[1], [0xff; 6]));
        assert_eq!(slots(&mut switch), [0]);
        receive(&mut switch, 12, &packet(MACS[2], [0xff; 6]));
        assert_eq!(slots(&mut switch), [0usize; 0], "alone in its network");
    }

    #[test]
    fn strangers_are_dropped_and_counted() {
        let mut switch = switch();
        receive(&mut switch, 10, &packet(MACS[1], MACS[0]));
        receive(&mut switch, 10, &packet(MACS[0], MACS[2]));
        receive(&mut switch, 10, &[0; 15]);
        receive(&mut switch, 10, &[]);
        receive(&mut switch, 99, &packet(MACS[0], MACS[1]));
        assert_eq!(slots(&mut switch), [0usize; 0]);
        let expected = PortRefusals { answered: 0, unknown_destination: 1, foreign_source: 1, malformed: 2 };
        assert_eq!(switch.refusals(), [vec![expected, PortRefusals::default()], vec![PortRefusals::default()]]);
    }

    #[test]
    fn behind_an_uplink_is_everybody_who_is_not_known() {
        let mut config = config();
        config.networks.truncate(1);
        config.networks[0].uplink = Some(1);
        let mut switch = Switch::new(&config, None);
        let (node, other, third) = (MACS[0], [2, 9, 9, 9, 9, 1], [2, 9, 9, 9, 9, 2]);
        receive(&mut switch, 10, &packet(node, other));
        receive(&mut switch, 11, &packet(other, node));
        // A bridge floods what it has not learnt; it is neither for the node nor from it.
        receive(&mut switch, 11, &packet(other, third));
        receive(&mut switch, 10, &packet(third, other));
        assert_eq!(slots(&mut switch), [1, 0]);
        let refusals = switch.refusals();
        assert_eq!((refusals[0][0].foreign_source, refusals[0][1].unknown_destination), (1, 1));

        let mut question = packet(node, [0xff; 6]);
        question[VNET + 12..VNET + 14].copy_from_slice(&[0x08, 0x06]);
        let asked =
            switch.receive(Time::ZERO, 10, &question, || None).map(|(slot, frame)| (slot, frame.bytes().to_vec()));
        assert_eq!(asked, Some((1, question.clone())), "questions for addresses pass at once");
        question[VNET + 6..VNET + 12].copy_from_slice(&other);
        assert_eq!(switch.receive(Time::ZERO, 11, &question, || None).map(|(slot, _)| slot), Some(0));
        assert_eq!(slots(&mut switch), [0usize; 0]);
    }

    #[test]
    fn the_shortest_loop_is_that_of_what_delays_anything() {
        let mut config = config();
        config.networks.truncate(1);
        let mut switch = Switch::new(&config, None);
        assert_eq!(switch.shortest_loop(), Span::from_millis(1), "through one direction of each port");
        let mut set = |port: usize, up: u64, down: u64| {
            let half = |count| HalfLink { delay: Span::from_millis(count), ..HalfLink::default() };
            let profile = Profile { up: half(up), down: half(down) };
            switch.set_profile(Time::ZERO, RelayPort { network: 0, port }, profile);
            switch.shortest_loop()
        };
        assert_eq!(set(0, 3, 4), Span::from_millis(1), "the other port's");
        assert_eq!(set(1, 0, 0), Span::from_millis(7), "what delays nothing does not count");
        assert_eq!(set(0, 0, 0), Span::ZERO);
        let half = HalfLink { delay: Span::from_millis(2), ..HalfLink::default() };
        config.networks[0].pairs.push(PairConfig { from: 0, to: 1, half });
        config.networks[0].ports[0].profile.up.delay = Span::from_millis(9);
        config.networks[0].ports[1].profile.up.delay = Span::from_millis(9);
        assert_eq!(Switch::new(&config, None).shortest_loop(), Span::from_millis(2), "a pair's own");
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
