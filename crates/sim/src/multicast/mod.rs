//! One sender and many receivers of the fast mode, over links in virtual time: the real machines, and files that may be
//! real or symbolic.
//!
//! * [`setup`]: what is to happen, and how it went.
//! * [`host`]: a receiver with its disk.
//! * `busy`: a machine that has more work than processors.
//! * `beside`: a flow of TCP on the same line.

mod beside;
mod busy;
pub mod host;
pub mod setup;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use link::{Network, PortId, To, WireSize};
use machine::{Machine, Span, Time, Timers};
use p2mp::fast::packet::DATA_HEADER;
use p2mp::fast::{
    DataHeader, FileEntry, Identity, Layout, Manifest, MemberId, Packet, ReceiverConfig, ReceiverInput, Sender,
    SenderConfig, SenderInput, SenderOutput, SessionId, Train,
};
use rand::Rng;

use self::beside::Flow;
use self::busy::Busy;
use self::host::Host;
pub use self::setup::{Beside, Fault, Outcome, Setup, Stalls};
use crate::tcp;

/// What is on its way.
#[derive(Clone, Debug)]
enum Datagram {
    Data { session: SessionId, header: DataHeader, to_group: bool },
    Other { bytes: Arc<[u8]>, port: u16, to_group: bool },
    Segment(u64),
    Ack(tcp::Ack),
}

/// The whole.
#[derive(Debug)]
pub struct World {
    setup: Setup,
    network: Network<Datagram>,
    sender_port: PortId,
    ports: Vec<PortId>,
    sender: Option<Sender>,
    /// When the sender wants to be woken, as of its last turn.
    sender_deadline: Option<Time>,
    sender_busy: Busy,
    /// What came while it could not run.
    sender_inbox: Vec<SenderInput>,
    flow: Option<Flow>,
    session: SessionId,
    sender_lives: u16,
    digests_at: Option<Time>,
    hosts: Vec<Host>,
    timers: Timers<usize>,
    content: host::Content,
    now: Time,
    outcome: Outcome,
    layout: Option<Arc<Layout>>,
    packets_of_former_lives: u64,
}

const PORT: u16 = 7735;
/// Ethernet, IPv4 and UDP headers.
const OVERHEAD: u32 = 42;
/// How fast the sender hashes, bytes a second.
const HASHING: u64 = 2_000_000_000;

impl World {
    /// Everything stands; nothing has happened.
    pub fn new(setup: Setup) -> Self {
        let mut network = Network::new("net", setup.seed);
        let sender_port = network.add_port("sender", &setup.sender_link);
        let link = |index| {
            let other = setup.other_links.iter().find(|(which, _)| *which == index);
            other.map_or(&setup.receiver_link, |(_, link)| link)
        };
        let ports =
            (0..setup.receivers).map(|index| network.add_port(&format!("receiver-{index}"), link(index))).collect();
        let content = host::Content::new(setup.seed, &setup.files);
        let host = |index| Host::new(setup.seed, setup.stalls, index, index < setup.with_bytes);
        let hosts = (0..setup.receivers).map(host).collect();
        let outcome = Outcome {
            complete_at: vec![None; setup.receivers],
            fates: vec![None; setup.receivers],
            said_complete: vec![false; setup.receivers],
            sender_finished: None,
            packets: 0,
            copies: 0,
            symbols: 0,
            payload: 0,
            by_multicast: false,
            deliveries: 0,
            queue_drops: 0,
            wrong_files: 0,
            shares: (0, 0),
        };
        let mut world = World {
            network,
            sender_port,
            ports,
            sender: None,
            sender_deadline: None,
            sender_busy: Busy::new(setup.stalls, setup.seed.derive("sender")),
            sender_inbox: Vec::new(),
            flow: setup.beside.map(Flow::new),
            session: SessionId(0),
            sender_lives: 0,
            digests_at: None,
            hosts,
            timers: Timers::default(),
            content,
            now: Time::ZERO,
            outcome,
            layout: None,
            packets_of_former_lives: 0,
            setup,
        };
        world.start_sender();
        world
    }

    /// Lets it run until everybody has ended, or `until`.
    pub fn run(mut self, until: Time) -> Outcome {
        let mut faults = std::mem::take(&mut self.setup.faults);
        faults.sort_by_key(|(at, _)| std::cmp::Reverse(*at));
        while let Some(next) = self.next(faults.last().map(|(at, _)| *at)).filter(|next| *next <= until) {
            self.now = next;
            while let Some((_, fault)) = faults.pop_if(|(at, _)| *at <= next) {
                self.befall(fault);
            }
            if self.digests_at.is_some_and(|at| at <= next) {
                self.digests_at = None;
                for file in 0..self.setup.files.len() {
                    let digest = self.content.digest(file);
                    self.tell_sender(SenderInput::Digest { file, digest });
                }
            }
            while let Some(delivery) = self.network.poll(next) {
                self.outcome.deliveries += 1;
                if !delivery.flips.is_empty() {
                    // Its checksum is wrong.
                    continue;
                }
                match (self.ports.binary_search(&delivery.to), delivery.payload) {
                    (Ok(0), Datagram::Segment(number)) => {
                        let ack = self.flow.as_mut().and_then(|flow| flow.on_segment(next, number));
                        self.acknowledge(ack);
                    }
                    (Ok(index), payload) => self.arrive(index, payload),
                    (Err(_), Datagram::Ack(ack)) => {
                        if let Some(flow) = &mut self.flow {
                            flow.on_ack(next, &ack);
                        }
                    }
                    (Err(_), payload) => self.deliver_to_sender(delivery.from, payload),
                }
            }
            self.turn_flow();
            while let Some((_, index)) = self.timers.pop(next) {
                self.turn_host(index);
            }
            if self.sender_deadline.is_some_and(|at| at <= next) {
                self.turn_sender();
            }
        }
        let counters = self.network.counters();
        let drops = counters.ports.iter().flat_map(|port| [&port.up, &port.down]);
        self.outcome.queue_drops = drops.map(|half| half.dropped.queue.packets).sum();
        self.outcome.packets = self.packets_of_former_lives + self.sender.as_ref().map_or(0, Sender::packets);
        self.outcome
    }

    fn next(&self, fault: Option<Time>) -> Option<Time> {
        let timers = self.timers.next().map(|(at, _)| at);
        let flow = self.flow.as_ref().and_then(Flow::deadline);
        let times = [self.sender_deadline, timers, self.network.deadline(), fault, self.digests_at, flow];
        times.into_iter().flatten().min().map(|at| at.max(self.now))
    }

    fn befall(&mut self, fault: Fault) {
        match fault {
            Fault::KillReceiver(index) | Fault::WipeReceiver(index) => {
                let disk_stays = matches!(fault, Fault::KillReceiver(_));
                self.hosts[index].die(disk_stays);
                self.timers.cancel(index);
            }
            Fault::ReviveReceiver(index) => self.hosts[index].revive(),
            Fault::KillSender => {
                let packets = self.sender.take().map_or(0, |sender| sender.packets());
                self.packets_of_former_lives += packets;
                self.sender_deadline = None;
                self.digests_at = None;
            }
            Fault::ReviveSender => self.start_sender(),
        }
    }

    fn start_sender(&mut self) {
        self.sender_lives += 1;
        let name = format!("session {}", self.sender_lives);
        self.session = SessionId(self.setup.seed.derive(&name).stream().next_u64());
        let files = self.setup.files.iter().enumerate();
        let files = files.map(|(index, length)| FileEntry::new(&format!("file-{index}"), *length));
        let manifest = Manifest::new(files.collect()).expect("the names are plain and differ");
        let config = SenderConfig {
            session: self.session,
            identity: Identity([7; 16]),
            manifest,
            receivers: (0..self.setup.receivers).map(|index| address(index, PORT)).collect(),
            group: self.setup.multicast.then(group),
            sizes: vec![1472, 1232],
            rate: self.setup.rate,
            overhead: OVERHEAD as u16,
            longest_train: 44,
            gather: Span::from_secs(1),
            give_up: self.setup.give_up,
        };
        self.sender = Some(Sender::new(self.now, config));
        let hashing = Span::from_nanos(self.setup.files.iter().sum::<u64>() * 1_000_000_000 / HASHING);
        self.digests_at = Some(self.now + hashing);
        self.sender_deadline = Some(self.now);
    }

    fn sender_address(&self) -> SocketAddr {
        SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 255, 0, 1)), 40_000 + self.sender_lives)
    }

    fn tell_sender(&mut self, input: SenderInput) {
        self.sender_inbox.push(input);
        self.turn_sender();
    }

    /// Carries out what the sender wants.
    fn turn_sender(&mut self) {
        self.sender_deadline = None;
        let Some(sender) = self.sender.as_mut() else { return self.sender_inbox.clear() };
        if let Some(until) = self.sender_busy.until(self.now) {
            self.sender_deadline = Some(until);
            return;
        }
        for input in self.sender_inbox.drain(..) {
            sender.handle(self.now, input);
        }
        if sender.deadline().is_some_and(|(at, _)| at <= self.now) {
            sender.advance(self.now);
        }
        self.sender_deadline = sender.deadline().map(|(at, _)| at);
        while let Some(output) = self.sender.as_mut().and_then(Machine::poll) {
            match output {
                SenderOutput::Datagram { to, bytes } => {
                    let size = OVERHEAD + bytes.len() as u32;
                    let to_group = to.ip().is_multicast();
                    let datagram = Datagram::Other { bytes: bytes.into(), port: to.port(), to_group };
                    self.send(to, size, datagram);
                }
                SenderOutput::Train(train) => self.send_train(&train),
                SenderOutput::Started { layout, by_multicast } => {
                    self.outcome.symbols = layout.symbols();
                    self.outcome.payload = layout.payload();
                    self.outcome.by_multicast = by_multicast;
                    self.layout = Some(layout);
                }
                SenderOutput::Completed { receiver } => self.outcome.said_complete[receiver] = true,
                SenderOutput::Finished => self.outcome.sender_finished = Some(self.now),
                SenderOutput::Joined { .. }
                | SenderOutput::Failed { .. }
                | SenderOutput::GaveUp { .. }
                | SenderOutput::Hash => {}
            }
        }
    }

    fn send_train(&mut self, train: &Train) {
        let Some(block) = self.layout.as_ref().and_then(|layout| layout.block(train.first.block)) else { return };
        for index in 0..train.count {
            let header = train.header(index);
            let length = block.length_of(header.symbol).expect("a sender sends symbols that there are");
            let size = OVERHEAD + DATA_HEADER as u32 + u32::from(length);
            for to in train.to.iter() {
                let to_group = to.ip().is_multicast();
                self.outcome.copies += 1;
                self.send(*to, size, Datagram::Data { session: self.session, header, to_group });
            }
        }
    }

    fn send(&mut self, to: SocketAddr, size: u32, datagram: Datagram) {
        let to = if to.ip().is_multicast() {
            To::Flood
        } else {
            match index_of(to).and_then(|index| self.ports.get(index)) {
                Some(port) => To::Port(*port),
                None => return,
            }
        };
        self.network.send(self.now, self.sender_port, to, WireSize::packet(size), datagram);
    }

    fn deliver_to_sender(&mut self, from: PortId, datagram: Datagram) {
        let Datagram::Other { bytes, port, .. } = datagram else { return };
        if port != self.sender_address().port() {
            return;
        }
        let Ok(index) = self.ports.binary_search(&from) else { return };
        if let Ok((session, Packet::Report(report))) = Packet::parse(&bytes) {
            let from = address(index, self.hosts[index].port);
            self.tell_sender(SenderInput::Report { from, session, report });
        }
    }

    /// A datagram reaches a host, whose program may not be able to run.
    fn arrive(&mut self, index: usize, datagram: Datagram) {
        let host = &mut self.hosts[index];
        match host.busy.until(self.now) {
            None => self.deliver(index, self.now, datagram),
            Some(until) => {
                host.inbox.push((self.now, datagram));
                self.timers.set(index, until);
            }
        }
    }

    /// A host's program looks what there is to do.
    fn turn_host(&mut self, index: usize) {
        let host = &mut self.hosts[index];
        if let Some(until) = host.busy.until(self.now) {
            return self.timers.set(index, until);
        }
        for (arrived, datagram) in std::mem::take(&mut host.inbox) {
            self.deliver(index, arrived, datagram);
        }
        let host = &mut self.hosts[index];
        let clock = host.clock(self.now);
        if let Some(machine) = host.machine.as_mut() {
            machine.advance(clock);
            self.serve(index);
        }
    }

    /// TCP does what is due, and sends what it may.
    fn turn_flow(&mut self) {
        let Some(flow) = &mut self.flow else { return };
        if flow.deadline().is_some_and(|at| at <= self.now) {
            let symbols = self.hosts[0].machine.as_ref().map_or(0, |machine| machine.symbols().0);
            let (seen, ack) = flow.advance(self.now, symbols * u64::from(self.outcome.payload));
            self.outcome.shares = seen.unwrap_or(self.outcome.shares);
            self.acknowledge(ack);
        }
        while let Some(number) = self.flow.as_mut().and_then(|flow| flow.poll(self.now)) {
            let to = To::Port(self.ports[0]);
            let size = WireSize::packet(tcp::SEGMENT);
            self.network.send(self.now, self.sender_port, to, size, Datagram::Segment(number));
        }
    }

    fn acknowledge(&mut self, ack: Option<tcp::Ack>) {
        let Some(ack) = ack else { return };
        let to = To::Port(self.sender_port);
        self.network.send(self.now, self.ports[0], to, WireSize::packet(tcp::ACK), Datagram::Ack(ack));
    }

    fn deliver(&mut self, index: usize, arrived: Time, datagram: Datagram) {
        let (Datagram::Data { to_group, .. } | Datagram::Other { to_group, .. }) = &datagram else { return };
        let from = self.sender_address();
        let host = &mut self.hosts[index];
        // Clocks of different machines differ; nothing may depend on them.
        let clock = host.clock(self.now);
        let deaf = *to_group && (!host.in_group || self.setup.deaf.contains(&index));
        if !host.is_alive || deaf {
            return;
        }
        match datagram {
            Datagram::Data { session, header, .. } => {
                let arrived = host.clock(arrived);
                let Some(machine) = host.machine.as_mut() else { return };
                machine.handle(clock, ReceiverInput::Data { session, first: header, count: 1, arrived });
            }
            Datagram::Other { bytes, port, .. } => {
                if port != PORT && port != host.port {
                    return;
                }
                let size = bytes.len() as u16;
                match Packet::parse(&bytes) {
                    Ok((session, Packet::Announce(announce))) => {
                        host.announced(self.now, from, session, announce, size);
                    }
                    Ok((session, Packet::Release(release))) => {
                        let Some(machine) = host.machine.as_mut() else { return };
                        machine.handle(clock, ReceiverInput::Release { session, release });
                    }
                    _ => return,
                }
            }
            Datagram::Segment(_) | Datagram::Ack(_) => return,
        }
        self.serve(index);
    }

    /// Carries out what a receiver wants.
    fn serve(&mut self, index: usize) {
        let host = &mut self.hosts[index];
        let sent = host.serve(self.now, &self.content, &mut self.outcome, index);
        for bytes in sent {
            let size = OVERHEAD + bytes.len() as u32;
            let port = self.sender_address().port();
            let datagram = Datagram::Other { bytes: bytes.into(), port, to_group: false };
            let to = To::Port(self.sender_port);
            self.network.send(self.now, self.ports[index], to, WireSize::packet(size), datagram);
        }
        let host = &self.hosts[index];
        let deadline = host.machine.as_ref().and_then(|machine| Some(host.to_true(machine.deadline()?.0)));
        match deadline {
            Some(at) if self.timers.get(index) != Some(at) => self.timers.set(index, at),
            None => drop(self.timers.cancel(index)),
            Some(_) => {}
        }
    }
}

/// The standard configuration of a receiver here.
fn receiver_config(member: MemberId) -> ReceiverConfig {
    ReceiverConfig { member, window: 2000, linger: Span::from_secs(2) }
}

fn address(index: usize, port: u16) -> SocketAddr {
    SocketAddr::new(IpAddr::V4(Ipv4Addr::from(0x0a00_0000 + index as u32 + 1)), port)
}

fn index_of(address: SocketAddr) -> Option<usize> {
    match address.ip() {
        IpAddr::V4(ip) => (u32::from(ip).checked_sub(0x0a00_0001)).map(|index| index as usize),
        IpAddr::V6(_) => None,
    }
}

fn group() -> SocketAddr {
    SocketAddr::new(IpAddr::V4(Ipv4Addr::new(239, 255, 77, 35)), PORT)
}
