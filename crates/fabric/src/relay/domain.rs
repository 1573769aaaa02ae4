//! One network of a relay: what a node sends enters the model, is answered, or leads nowhere.

use std::rc::Rc;

use link::{Delivery, Loss, Network, PortId, Profile, To, Within};
use machine::{Seed, Span, Time};

use super::capture::{Capture, Remark, Unusual};
use super::corrupt::corrupt;
use super::ethernet::{Header, Mac, is_group};
use super::frame::{Frame, Shelf};
use super::neighbour::{Neighbours, Reaction, is_about_neighbours};
use super::pcapng::Direction;
use super::ring::Slot;
use super::segment::{Train, VNET};
use super::switch::Due;
use super::{NetworkConfig, PortRefusals, RelayPort};

/// A broadcast domain.
#[derive(Debug)]
pub(super) struct Domain {
    pub(super) network: Network<Carried>,
    /// Packets that have entered the model.
    pub(super) entered: u64,
    pub(super) ports: Vec<Port>,
    /// Sorted by address.
    pub(super) by_mac: Vec<(Mac, PortId)>,
    pub(super) neighbours: Neighbours,
    /// Behind which are all others.
    pub(super) uplink: Option<PortId>,
    pub(super) pairs: Vec<Pair>,
    pub(super) first_slot: usize,
    pub(super) is_recorded: bool,
}

/// A port of a domain.
#[derive(Debug)]
pub(super) struct Port {
    pub(super) mac: Mac,
    pub(super) profile: Profile,
    pub(super) is_cut: bool,
    /// Whether trains from here pass whole: no half on any way from here would show it, and nobody records them.
    pub(super) passes_trains: bool,
    pub(super) refusals: PortRefusals,
}

/// What one port's packets meet in addition on their way to another.
#[derive(Debug)]
pub(super) struct Pair {
    from: usize,
    passes_trains: bool,
    pub(super) shortest_way: Span,
}

/// A packet in the model.
#[derive(Clone, Debug)]
pub(super) struct Carried {
    /// Counted from 1 over all packets of the network that enter the model.
    pub(super) id: u64,
    pub(super) frame: Frame,
}

impl Domain {
    pub(super) fn new(config: &NetworkConfig, seed: Seed, first_slot: usize, is_recorded: bool) -> Self {
        let mut network = Network::new(&config.name, seed);
        let mut neighbours = Neighbours::default();
        let mut by_mac = Vec::new();
        let mut ports = Vec::new();
        let mut uplink = None;
        for (index, port) in config.ports.iter().enumerate() {
            let id = network.add_port(&port.label, &port.profile);
            if config.uplink == Some(index) {
                uplink = Some(id);
            } else {
                neighbours.add(port.mac, &port.addresses);
                by_mac.push((port.mac, id));
            }
            let profile = port.profile.clone();
            let refusals = PortRefusals::default();
            ports.push(Port { mac: port.mac, profile, is_cut: false, passes_trains: false, refusals });
        }
        by_mac.sort_unstable();
        let ids: Vec<PortId> = network.ports().collect();
        for pair in &config.pairs {
            network.set_pair(ids[pair.from], ids[pair.to], &pair.half);
        }
        let pairs = config.pairs.iter().map(|pair| Pair {
            from: pair.from,
            passes_trains: pair.half.allows_offload(),
            shortest_way: pair.half.shortest_way(),
        });
        let pairs = pairs.collect();
        if is_recorded {
            network.keep_losses();
        }
        let mut domain =
            Domain { network, entered: 0, ports, by_mac, neighbours, uplink, pairs, first_slot, is_recorded };
        domain.judge_trains();
        domain
    }

    pub(super) fn id(&self, port: RelayPort) -> PortId {
        self.network.ports().nth(port.port).expect("the handle checked the port")
    }

    pub(super) fn slot(&self, port: PortId) -> usize {
        self.first_slot + port.index()
    }

    /// The next frame that is due by `now`.
    pub(super) fn poll(&mut self, now: Time, mut capture: Option<&mut Capture>) -> Option<Due> {
        loop {
            let delivery = self.network.poll(now);
            self.record_losses(capture.as_deref_mut());
            let Delivery { at, from, to, size, flips, is_copy, payload: Carried { id, frame } } = delivery?;
            let slot = self.slot(to);
            let arrived = if flips.is_empty() { Some(frame) } else { frame.altered(|packet| corrupt(packet, flips)) };
            let Some(frame) = arrived else {
                self.network.refuse(from, size);
                continue;
            };
            if let Some(capture) = capture {
                let remark = Remark { fate: None, flips, is_copy };
                capture.record(slot, at, Direction::Inbound, Some(id), remark, &frame.bytes());
            }
            return Some(Due { at, slot, frame });
        }
    }

    pub(super) fn judge_trains(&mut self) {
        let showing_down = self.ports.iter().filter(|port| !port.profile.down.allows_offload()).count();
        for (index, port) in self.ports.iter_mut().enumerate() {
            let others_showing = showing_down - usize::from(!port.profile.down.allows_offload());
            let pairs_pass = self.pairs.iter().all(|pair| pair.from != index || pair.passes_trains);
            let is_seen = self.is_recorded || !port.profile.up.allows_offload() || others_showing > 0 || !pairs_pass;
            port.passes_trains = !is_seen;
        }
    }

    /// A packet has arrived from a port. It may be left where it is by `keep`, see [`Shelf::adopt`].
    pub(super) fn receive(
        &mut self,
        now: Time,
        from: PortId,
        packet: &[u8],
        keep: impl FnOnce() -> Option<Slot>,
        shelf: &Rc<Shelf>,
        mut capture: Option<&mut Capture>,
    ) -> Option<(usize, Frame)> {
        let frame = packet.get(VNET..).unwrap_or_default();
        let slot = self.slot(from);
        let mut record = |direction, fate, packet: &[u8]| {
            if let Some(capture) = &mut capture {
                let remark = Remark { fate: Some(fate), ..Remark::default() };
                capture.record(slot, now, direction, None, remark, packet);
            }
        };
        let port = &mut self.ports[from.index()];
        let Some(header) = Header::of(frame) else {
            port.refusals.malformed += 1;
            return None;
        };
        if header.source != port.mac && self.uplink != Some(from) {
            port.refusals.foreign_source += 1;
            record(Direction::Outbound, Unusual::ForeignSource, packet);
            return None;
        }
        if let Some(uplink) = self.uplink.filter(|_| is_about_neighbours(&header, frame)) {
            record(Direction::Outbound, Unusual::Neighbour, packet);
            let other = if from == uplink { self.by_mac.first().map(|(_, node)| *node) } else { Some(uplink) };
            let passed = shelf.take(packet.len(), |out| out.copy_from_slice(packet))?;
            return Some((self.slot(other?), passed));
        }
        if !port.is_cut && self.uplink.is_none() {
            match self.neighbours.react(port.mac, &header, frame) {
                Reaction::Forward => {}
                Reaction::Swallow => {
                    port.refusals.answered += 1;
                    record(Direction::Outbound, Unusual::Neighbour, packet);
                    return None;
                }
                Reaction::Answer(answer) => {
                    port.refusals.answered += 1;
                    record(Direction::Outbound, Unusual::Neighbour, packet);
                    let write = |packet: &mut [u8]| {
                        packet[..VNET].fill(0);
                        packet[VNET..].copy_from_slice(&answer);
                    };
                    let answer = shelf.take(VNET + answer.len(), write)?;
                    record(Direction::Inbound, Unusual::Neighbour, &answer.bytes());
                    return Some((slot, answer));
                }
            }
        }
        let to = if is_group(&header.destination) {
            To::Flood
        } else {
            match self.by_mac.binary_search_by_key(&header.destination, |(mac, _)| *mac) {
                Ok(found) => To::Port(self.by_mac[found].1),
                Err(_) => match self.uplink.filter(|uplink| *uplink != from) {
                    Some(uplink) => To::Port(uplink),
                    None => {
                        port.refusals.unknown_destination += 1;
                        record(Direction::Outbound, Unusual::UnknownDestination, packet);
                        return None;
                    }
                },
            }
        };
        match Train::of(packet) {
            Some(train) if !port.passes_trains => {
                for index in 0..train.packets(packet) {
                    let cut = shelf.take(train.length_of(packet, index), |out| train.cut(packet, index, out));
                    let length = train.length_of(packet, index);
                    self.send(now, from, to, None, cut.ok_or(length), capture.as_deref_mut());
                }
            }
            train => {
                let frame = shelf.adopt(packet, keep);
                self.send(now, from, to, train, frame.ok_or(packet.len()), capture);
            }
        }
        None
    }

    /// Lets a packet enter the model, or counts it if there was no room for one of its length.
    fn send(
        &mut self,
        now: Time,
        from: PortId,
        to: To,
        train: Option<Train>,
        frame: Result<Frame, usize>,
        capture: Option<&mut Capture>,
    ) {
        let frame = match frame {
            Ok(frame) => frame,
            Err(length) => {
                return self.network.refuse(from, link::WireSize::packet((length - VNET) as u32));
            }
        };
        let size = Train::wire_size(train, &frame.bytes());
        self.entered += 1;
        let id = self.entered;
        let Some(capture) = capture else {
            return self.network.send(now, from, to, size, Carried { id, frame });
        };
        let sent = frame.clone();
        self.network.send(now, from, to, size, Carried { id, frame });
        let losses: Vec<Loss<Carried>> = std::iter::from_fn(|| self.network.poll_loss()).collect();
        // What the sender's half does with a packet is known at once; the others of its fates are others' records.
        let is_own = |loss: &Loss<Carried>| loss.payload.id == id && loss.within == Within::Up && !loss.is_copy;
        let fate = losses.iter().find(|loss| is_own(loss)).map(|loss| Unusual::Dropped(loss.cause, loss.within));
        let remark = Remark { fate, ..Remark::default() };
        let entered = self.network.now();
        capture.record(self.slot(from), entered, Direction::Outbound, Some(id), remark, &sent.bytes());
        losses.into_iter().filter(|loss| !is_own(loss)).for_each(|loss| self.record_loss(loss, capture));
    }

    pub(super) fn record_losses(&mut self, capture: Option<&mut Capture>) {
        let Some(capture) = capture else { return };
        while let Some(loss) = self.network.poll_loss() {
            self.record_loss(loss, capture);
        }
    }

    /// A packet that was dropped on its way is recorded where it should have arrived, or, if it had not left its sender's
    /// half, once more there.
    fn record_loss(&self, loss: Loss<Carried>, capture: &mut Capture) {
        let Loss { at, cause, within, from, flips, is_copy, payload: Carried { id, frame } } = loss;
        let (port, direction) = match within {
            Within::Up => (from, Direction::Outbound),
            Within::Pair(to) | Within::Down(to) => (to, Direction::Inbound),
        };
        let remark = Remark { fate: Some(Unusual::Dropped(cause, within)), flips, is_copy };
        // A packet that finds no room for its damage is recorded without it.
        let frame = if flips.is_empty() {
            frame
        } else {
            frame.clone().altered(|packet| corrupt(packet, flips)).unwrap_or(frame)
        };
        capture.record(self.slot(port), at, direction, Some(id), remark, &frame.bytes());
    }
}
