//! The published peer and its tracker, driven in virtual time.

use std::collections::{BTreeMap, VecDeque};

use bytes::{Bytes, BytesMut};
use machine::{Machine, Span, Time};
use p2p::downloader::ChannelId;
use p2p::ports::{Change, Ports};
use p2p::serving::{self, Connection, Knobs};
use p2p::tracker::{Swarm, Tracker};
use p2p::{peer_text, tracker_text};

use super::setup::{FILE, LEAST_PACE, Setup, address, client_address};

/// A connection as the peer knows it: whose, and which of theirs.
pub(super) type Of = (usize, ChannelId);

/// From when until when a port took connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortLife {
    /// Its number.
    pub port: u16,
    /// Between two events of each of its connections.
    pub pace: Span,
    /// Since when it is open.
    pub opened: Time,
    /// When it went, if it did.
    pub retired: Option<Time>,
}

/// Tracker and peer: everything that a client talks to.
#[derive(Debug)]
pub(super) struct Peer {
    setup: Setup,
    content: Bytes,
    ports: Ports,
    tracker: Tracker,
    pub(super) lives: Vec<PortLife>,
    connections: BTreeMap<Of, Served>,
}

#[derive(Debug)]
struct Served {
    port: u16,
    machine: Connection,
    /// What came and is not read yet.
    unread: VecDeque<Bytes>,
}

/// What leaves the peer on a connection.
#[derive(Debug)]
pub(super) enum Leaves {
    Bytes(Bytes),
    Close,
}

/// Whether a connection was accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Accepted {
    Yes,
    /// And closed at once: the client has too many.
    TooMany,
    /// Nobody listens there.
    No,
}

impl Peer {
    pub(super) fn new(setup: &Setup, content: Bytes) -> Peer {
        let mut tracker = Tracker::new(setup.answers_every, setup.seed("tracker"));
        let digest = setup.digest.then(|| fetch::Digest::of(&content).0);
        tracker.track(FILE.to_owned(), Swarm { layout: setup.layout(), digest, peers: Vec::new() });
        let ports = Ports::new(Time::ZERO, setup.ports, peer_text::PORT, setup.seed("peer"));
        let setup = setup.clone();
        let mut peer = Peer { setup, content, ports, tracker, lives: Vec::new(), connections: BTreeMap::new() };
        peer.change(Time::ZERO);
        peer
    }

    /// When the next port comes and goes.
    pub(super) fn changes_at(&self) -> Option<Time> {
        self.ports.deadline().map(|(at, _)| at)
    }

    /// Lets ports come and go; returns the connections that end by that.
    pub(super) fn change(&mut self, now: Time) -> Vec<Of> {
        self.ports.advance(now);
        let mut cut = Vec::new();
        while let Some(change) = self.ports.poll() {
            let swarm = self.tracker.swarm(FILE).expect("it is tracked");
            match change {
                Change::Open { port, pace } => {
                    self.lives.push(PortLife { port, pace: pace.max(LEAST_PACE), opened: now, retired: None });
                    swarm.peers.push(address(port));
                }
                Change::Retire { port } => {
                    swarm.peers.retain(|peer| *peer != address(port));
                    self.lives.iter_mut().filter(|life| life.port == port).for_each(|life| {
                        life.retired.get_or_insert(now);
                    });
                    cut.extend(self.connections.iter().filter(|(_, served)| served.port == port).map(|(of, _)| *of));
                }
            }
        }
        self.connections.retain(|of, _| !cut.contains(of));
        cut
    }

    /// The tracker's answer, if there is one.
    pub(super) fn ask(&mut self, now: Time, client: usize, datagram: &[u8]) -> Option<Bytes> {
        debug_assert!(datagram.len() <= tracker_text::LONGEST, "a request is short");
        self.tracker.handle(now, client_address(client), datagram).map(Bytes::from)
    }

    pub(super) fn accept(&mut self, now: Time, of: Of, port: u16) -> Accepted {
        let Some(life) = self.lives.iter().find(|life| life.port == port && life.retired.is_none()) else {
            return Accepted::No;
        };
        if self.connections.keys().filter(|(client, _)| *client == of.0).count() >= self.setup.served_at_once {
            return Accepted::TooMany;
        }
        let Setup { pre_delay, bytes_per_event, idle, .. } = self.setup;
        let knobs = Knobs { pre_delay, bytes_per_event, pace: life.pace, idle };
        let seed = self.setup.seed(&format!("connection {of:?}"));
        let machine = Connection::new(now, FILE.to_owned(), self.setup.layout(), knobs, seed);
        self.connections.insert(of, Served { port, machine, unread: VecDeque::new() });
        Accepted::Yes
    }

    /// The client's end is closed.
    pub(super) fn forget(&mut self, of: Of) {
        self.connections.remove(&of);
    }

    pub(super) fn receive(&mut self, now: Time, of: Of, bytes: Bytes) {
        if let Some(served) = self.connections.get_mut(&of) {
            served.unread.push_back(bytes);
            served.read(now);
        }
    }

    pub(super) fn advance(&mut self, now: Time, of: Of) {
        if let Some(served) = self.connections.get_mut(&of) {
            served.machine.advance(now);
            served.read(now);
        }
    }

    /// What leaves now, all that is text or body in one piece; and when the connection wants to be woken.
    pub(super) fn leaves(&mut self, of: Of) -> (Vec<Leaves>, Option<Time>) {
        let Some(served) = self.connections.get_mut(&of) else { return (Vec::new(), None) };
        let (mut leaves, mut bytes, mut closes) = (Vec::new(), BytesMut::new(), false);
        while let Some(output) = served.machine.poll() {
            match output {
                serving::Output::Text(text) => bytes.extend_from_slice(text.as_bytes()),
                serving::Output::Body(span) => {
                    bytes.extend_from_slice(&self.content[span.offset as usize..(span.offset + span.length) as usize]);
                }
                serving::Output::Close(_) => closes = true,
            }
        }
        let wakes = served.machine.deadline().map(|(at, _)| at);
        if !bytes.is_empty() {
            leaves.push(Leaves::Bytes(bytes.freeze()));
        }
        if closes {
            leaves.push(Leaves::Close);
            self.connections.remove(&of);
        }
        (leaves, wakes)
    }
}

impl Served {
    fn read(&mut self, now: Time) {
        while self.machine.wants_input()
            && let Some(bytes) = self.unread.pop_front()
        {
            self.machine.handle(now, bytes.to_vec());
        }
    }
}
