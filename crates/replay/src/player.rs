//! Driving the model by what was recorded.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::io::{self, Read};

use event::{Direction, RecordedNetwork, RecordedPort};
use link::{Flips, HalfCounters, Network, PortId, To, WireSize, Within};
use machine::Time;

use crate::account::{Dropped, Fate, Half, Ledger, Stray};
use crate::capture::{Capture, CaptureFault, Packet};
use crate::course::{self, Course, Ticket};
use crate::log::{NotReplayable, Recorded};

/// What the model decided about the packets of a network, and whether the relay had decided the same.
#[derive(Clone, Debug)]
pub struct NetworkAccount {
    /// The network's name.
    pub name: String,
    /// Whose the ports are.
    pub nodes: Vec<String>,
    /// Packets that entered it.
    pub packets: u64,
    /// Ends of packets' ways that are the same in both accounts: one for each packet and receiver, and for each second one.
    pub alike: u64,
    /// Each half link in the order of the ports, then the pairs.
    pub halves: Vec<HalfAccount>,
    /// The first of those that are not the same.
    pub difference: Option<Difference>,
    /// How many of the model's and of the relay's are not the other's; at least so many if the comparison `stopped`.
    pub different: u64,
    /// Whether the two had parted so far that nothing more was compared.
    pub stopped: bool,
}

/// What the model decided about the packets of a half link until the end of the recording.
#[derive(Clone, Debug)]
pub struct HalfAccount {
    /// The node; of a pair `sender -> receiver`.
    pub node: String,
    /// Which half.
    pub direction: Direction,
    /// By the model. What is still in it has been decided, too, but the captures do not have it yet.
    pub counters: HalfCounters,
    /// Of the ways that ended in it, so many did so in one account only.
    pub different: u64,
}

impl HalfAccount {
    /// Packets that it let through or dropped.
    pub fn decided(&self) -> u64 {
        self.counters.delivered.packets + self.counters.dropped.total().packets
    }
}

/// The end of a packet's way in two accounts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// The packet.
    pub packet: SentPacket,
    /// What the captures say; absent where it has no such end.
    pub recorded: Option<Fate>,
    /// What the model says.
    pub decided: Option<Fate>,
}

/// A packet that entered a network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SentPacket {
    /// Counted from 1.
    pub id: u64,
    /// When, in nanoseconds of the relay's clock.
    pub at: u64,
    /// Position of the sender's port.
    pub from: usize,
    /// Position of the receiver's port; absent if it went to all.
    pub to: Option<usize>,
    /// Bytes of its frame.
    pub length: u32,
}

/// Why the packets cannot be decided again.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// The log does not say enough.
    #[error(transparent)]
    Log(#[from] NotReplayable),
    /// A capture is not there.
    #[error("cannot open the capture of {node}'s {interface}")]
    Open {
        /// Whose it is.
        node: String,
        /// Of which interface.
        interface: String,
        /// What the system said.
        source: io::Error,
    },
    /// A capture cannot be read.
    #[error("cannot use the capture of {node}'s {interface}")]
    Capture {
        /// Whose it is.
        node: String,
        /// Of which interface.
        interface: String,
        /// What is wrong with it.
        source: CaptureFault,
    },
    /// A packet that entered the model is in no capture, or not where it must be.
    #[error("the captures of network {network} are not of one recording: {what}")]
    Mismatch {
        /// The network.
        network: String,
        /// What does not fit.
        what: String,
    },
}

/// Decides again about every packet that was recorded; `open` opens the capture of a port.
///
/// # Errors
///
/// When a capture is missing, damaged, or of another run.
pub fn replay<R: Read>(
    recorded: &Recorded,
    mut open: impl FnMut(&RecordedPort) -> io::Result<R>,
) -> Result<Vec<NetworkAccount>, ReplayError> {
    let indices = 0..recorded.links.networks.len();
    indices.map(|index| Player::open(recorded, index, &mut open)?.play(&mut open)).collect()
}

/// What waits for the other account at most: as much as can be under way in a network. Two that part by more do not meet
/// again.
const MOST_WAITING: usize = Network::<Ticket>::CAPACITY;

/// A network while it is replayed.
struct Player<'a, R> {
    recorded: &'a Recorded,
    network: &'a RecordedNetwork,
    model: Network<Ticket>,
    ports: Vec<PortId>,
    by_mac: BTreeMap<[u8; 6], usize>,
    course: Course,
    tapes: Tapes<'a, R>,
    ledger: Ledger,
    packets: u64,
    stopped: bool,
}

impl<'a, R: Read> Player<'a, R> {
    fn open(
        recorded: &'a Recorded,
        index: usize,
        open: &mut impl FnMut(&RecordedPort) -> io::Result<R>,
    ) -> Result<Self, ReplayError> {
        let network = &recorded.links.networks[index];
        let model = course::model(recorded, network)?;
        let ports: Vec<PortId> = model.ports().collect();
        let course = Course::of(recorded, index, &ports)?;
        let tapes = Tapes::open(network, recorded.links.epoch_ns, open)?;
        let by_mac = network.ports.iter().enumerate().map(|(at, port)| (port.mac, at)).collect();
        let (ledger, packets, stopped) = (Ledger::default(), 0, false);
        Ok(Player { recorded, network, model, ports, by_mac, course, tapes, ledger, packets, stopped })
    }

    fn play(mut self, open: &mut impl FnMut(&RecordedPort) -> io::Result<R>) -> Result<NetworkAccount, ReplayError> {
        while let Some(entry) = self.tapes.next()? {
            match entry {
                Entry::Sent { at, id, from, destination, length } => {
                    if id != self.packets + 1 {
                        let what = format!("packet {} is missing, {id} is there", self.packets + 1);
                        return Err(ReplayError::Mismatch { network: self.network.name.clone(), what });
                    }
                    self.packets = id;
                    if self.course.before(id, &mut self.model) {
                        self.take_losses();
                    }
                    let to = self.receiver(destination);
                    let to = to.map_or(To::Flood, |to| To::Port(self.ports[to]));
                    let size = WireSize::packet(length);
                    self.model.send(Time::from_nanos(at), self.ports[from], to, size, Ticket { id, length });
                    self.take(Time::from_nanos(at));
                }
                Entry::Fate(fate) => self.ledger.recorded(fate),
            }
            if self.ledger.waiting() > MOST_WAITING {
                self.stopped = true;
                break;
            }
        }
        if !self.stopped {
            if self.course.before(u64::MAX, &mut self.model) {
                self.take_losses();
            }
            self.take(self.recorded.ended);
        }
        self.conclude(open)
    }

    /// Position of the port with this address; none if it is a group's.
    fn receiver(&self, destination: [u8; 6]) -> Option<usize> {
        self.by_mac.get(&destination).copied().filter(|_| destination[0] & 1 == 0)
    }

    /// Takes in what the model decides until then.
    fn take(&mut self, until: Time) {
        while let Some(delivery) = self.model.poll(until) {
            let flips = bits(delivery.flips, delivery.payload);
            self.ledger.decided(Fate {
                at: delivery.at.as_nanos(),
                id: delivery.payload.id,
                port: delivery.to.index(),
                dropped: None,
                is_copy: delivery.is_copy,
                flips,
            });
        }
        self.take_losses();
    }

    fn take_losses(&mut self) {
        while let Some(loss) = self.model.poll_loss() {
            let (port, half) = match loss.within {
                Within::Up => (loss.from, Half::Up),
                Within::Pair(to) => (to, Half::Pair),
                Within::Down(to) => (to, Half::Down),
            };
            self.ledger.decided(Fate {
                at: loss.at.as_nanos(),
                id: loss.payload.id,
                port: port.index(),
                dropped: Some(Dropped { cause: loss.cause, half }),
                is_copy: loss.is_copy,
                flips: bits(loss.flips, loss.payload),
            });
        }
    }

    fn conclude(self, open: &mut impl FnMut(&RecordedPort) -> io::Result<R>) -> Result<NetworkAccount, ReplayError> {
        let mut halves = halves(&self.model);
        let mut sides = vec![[0u64; 2]; halves.len()];
        let mut different = 0;
        for Stray { fate, is_recorded } in self.ledger.strays() {
            different += 1;
            // Of which sender's pair it is only the model knows; it counts to the receiver.
            let half = 2 * fate.port + usize::from(fate.dropped.is_none_or(|dropped| dropped.half != Half::Up));
            sides[half][usize::from(is_recorded)] += 1;
        }
        for (half, [decided, recorded]) in halves.iter_mut().zip(sides) {
            half.different = decided.max(recorded);
        }
        let difference = self.first_difference(open)?;
        let Player { network, packets, ledger, stopped, .. } = self;
        let (name, alike) = (network.name.clone(), ledger.alike());
        let nodes = network.ports.iter().map(|port| port.node.clone()).collect();
        Ok(NetworkAccount { name, nodes, packets, alike, halves, difference, different, stopped })
    }

    fn first_difference(
        &self,
        open: &mut impl FnMut(&RecordedPort) -> io::Result<R>,
    ) -> Result<Option<Difference>, ReplayError> {
        let Some(first) = self.ledger.strays().next() else { return Ok(None) };
        let id = first.fate.id;
        // What the other account says of the same packet, at the same receiver if it says something there.
        let others = self.ledger.strays().filter(|stray| stray.fate.id == id && stray.is_recorded != first.is_recorded);
        let other = others.min_by_key(|stray| stray.fate.port != first.fate.port).map(|stray| stray.fate);
        let (recorded, decided) = if first.is_recorded { (Some(first.fate), other) } else { (other, Some(first.fate)) };
        // Nothing of a packet is kept once it is in the model, so it is looked up.
        let mut tapes = Tapes::open(self.network, self.recorded.links.epoch_ns, open)?;
        while let Some(entry) = tapes.next()? {
            if let Entry::Sent { at, id: found, from, destination, length } = entry
                && found == id
            {
                let packet = SentPacket { id, at, from, to: self.receiver(destination), length };
                return Ok(Some(Difference { packet, recorded, decided }));
            }
        }
        let what = format!("packet {id} arrives, but nobody has sent it");
        Err(ReplayError::Mismatch { network: self.network.name.clone(), what })
    }
}

/// Bits of the frame: the header of Ethernet stays as it is.
fn bits(flips: Flips, ticket: Ticket) -> Vec<u64> {
    const HEADER: u32 = 14 * 8;
    let body = ticket.length.saturating_mul(8).saturating_sub(HEADER);
    flips.iter().filter_map(|flip| flip.of(body)).map(|bit| u64::from(HEADER + bit)).collect()
}

fn halves(model: &Network<Ticket>) -> Vec<HalfAccount> {
    let counters = model.counters();
    let half =
        |node: &str, direction, counters| HalfAccount { node: node.to_owned(), direction, counters, different: 0 };
    let ports = counters.ports.iter();
    let ports = ports
        .flat_map(|port| [half(&port.label, Direction::Up, port.up), half(&port.label, Direction::Down, port.down)]);
    let pairs = counters.pairs.iter();
    let pairs = pairs.map(|pair| half(&format!("{} -> {}", pair.from, pair.to), Direction::Between, pair.half));
    ports.chain(pairs).collect()
}

/// What a capture says next.
enum Entry {
    /// A packet enters the network.
    Sent { at: u64, id: u64, from: usize, destination: [u8; 6], length: u32 },
    /// A way ends.
    Fate(Fate),
}

/// The captures of a network, merged.
///
/// Each tells packets in the order in which the relay dealt with them. When it did, its clock had come to the packet's
/// time, so nobody sends anything at an earlier time after that: by time, and among those of the same time by number, packets
/// come in the order in which they entered.
struct Tapes<'a, R> {
    network: &'a RecordedNetwork,
    epoch: u64,
    captures: Vec<Tape<R>>,
    /// The head of each that has one: its time, its number if it is sent, and whose it is.
    heads: BinaryHeap<Reverse<(u64, u64, usize)>>,
}

struct Tape<R> {
    capture: Capture<R>,
    /// Of the packets that its node has sent, the last.
    last_sent: u64,
    head: Option<Packet>,
    /// What became of the packet told last, which was dropped at once.
    also: Option<Fate>,
}

impl<'a, R: Read> Tapes<'a, R> {
    fn open(
        network: &'a RecordedNetwork,
        epoch: u64,
        open: &mut impl FnMut(&RecordedPort) -> io::Result<R>,
    ) -> Result<Self, ReplayError> {
        let mut captures = Vec::with_capacity(network.ports.len());
        for port in &network.ports {
            let (node, interface) = (port.node.clone(), port.interface.clone());
            let input = open(port).map_err(|source| ReplayError::Open { node, interface, source })?;
            captures.push(Tape { capture: Capture::new(input), last_sent: 0, head: None, also: None });
        }
        let mut tapes = Tapes { network, epoch, captures, heads: BinaryHeap::new() };
        for index in 0..tapes.captures.len() {
            tapes.wind(index)?;
        }
        Ok(tapes)
    }

    fn next(&mut self) -> Result<Option<Entry>, ReplayError> {
        let Some(Reverse((at, _, from))) = self.heads.pop() else { return Ok(None) };
        let tape = &mut self.captures[from];
        if let Some(fate) = tape.also.take() {
            self.wind(from)?;
            return Ok(Some(Entry::Fate(fate)));
        }
        let packet = tape.head.take().expect("what is in the heap has a head");
        let id = packet.id.expect("others are not taken");
        let is_sent = packet.is_outbound && id > tape.last_sent;
        let fate = Fate { at, id, port: from, dropped: packet.dropped, is_copy: packet.is_copy, flips: packet.flips };
        if !is_sent {
            self.wind(from)?;
            return Ok(Some(Entry::Fate(fate)));
        }
        tape.last_sent = id;
        if packet.dropped.is_some() {
            tape.also = Some(fate);
            self.heads.push(Reverse((at, 0, from)));
        } else {
            self.wind(from)?;
        }
        Ok(Some(Entry::Sent { at, id, from, destination: packet.destination, length: packet.length }))
    }

    /// Reads on to the next packet that the model has decided about.
    fn wind(&mut self, index: usize) -> Result<(), ReplayError> {
        let RecordedPort { node, interface, .. } = &self.network.ports[index];
        let tape = &mut self.captures[index];
        let wrong = |source| ReplayError::Capture { node: node.clone(), interface: interface.clone(), source };
        while let Some(mut packet) = tape.capture.read().map_err(wrong)? {
            // The others are address resolution, which the relay answers, and what leads nowhere.
            let Some(id) = packet.id else { continue };
            packet.at = packet.at.checked_sub(self.epoch).ok_or_else(|| ReplayError::Mismatch {
                network: self.network.name.clone(),
                what: format!("a packet of {node} is older than the relay"),
            })?;
            let order = if packet.is_outbound && id > tape.last_sent { id } else { 0 };
            self.heads.push(Reverse((packet.at, order, index)));
            tape.head = Some(packet);
            break;
        }
        Ok(())
    }
}
