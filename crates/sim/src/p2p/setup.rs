//! What a world is made of.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use machine::{Ratio, Seed, Span};
use p2p::downloader::{CONNECTIONS, Config};
use p2p::{Layout, layout, ports};

/// The name of the file.
pub(super) const FILE: &str = "redsox.jpg";

/// The least time between two events of a connection: a pace of 0 would leave all at once.
pub const LEAST_PACE: Span = Span::from_micros(1);

/// A tracker, a peer, a network and downloaders.
#[derive(Clone, Debug)]
pub struct Setup {
    /// Decides ports, paces, whom the tracker names, what is lost, and the content of the file.
    pub seed: u64,
    /// Of the file, in bytes.
    pub size: u64,
    /// Of a block, in bytes.
    pub block: u64,
    /// The ports of the peer.
    pub ports: ports::Knobs,
    /// From a request's arrival until the first byte of its answer may leave.
    pub pre_delay: Span,
    /// Bytes that leave at each event.
    pub bytes_per_event: u64,
    /// A connection on which nothing happens for so long ends.
    pub idle: Span,
    /// Connections that the peer serves a client at once; it closes the next one.
    pub served_at_once: usize,
    /// The tracker answers a client once in this time.
    pub answers_every: Span,
    /// Whether the tracker tells the file's SHA-256; the published one does not.
    pub digest: bool,
    /// Of the network, one way.
    pub delay: Span,
    /// The chance that a datagram is lost, each way.
    pub datagram_loss: Ratio,
    /// Clients, each with an address of its own, that begin at the same time.
    pub downloaders: usize,
}

impl Setup {
    /// The published server in test mode, on a network of 1 ms, and one client.
    pub fn published(seed: u64) -> Setup {
        Setup {
            seed,
            size: 805_975,
            block: layout::BLOCK,
            ports: ports::Knobs { stretch: Span::from_millis(200), ports: 31, churn: Some(Span::from_secs(30)) },
            pre_delay: Span::from_secs(1),
            bytes_per_event: 1000,
            idle: Span::from_secs(60),
            served_at_once: CONNECTIONS,
            answers_every: Span::from_secs(2),
            digest: false,
            delay: Span::from_millis(1),
            datagram_loss: Ratio::ZERO,
            downloaders: 1,
        }
    }

    /// From the wish to connect to a peer until the first byte of an answer: a connection and a request each take a round
    /// trip, and the peer waits.
    pub fn first_byte(&self) -> Span {
        self.delay * 4 + self.pre_delay
    }

    pub(super) fn layout(&self) -> Layout {
        Layout::new(self.size, self.block).expect("a block has bytes")
    }

    pub(super) fn seed(&self, part: &str) -> Seed {
        Seed::new(self.seed).derive(part)
    }

    pub(super) fn config(&self) -> Config {
        Config {
            file: FILE.to_owned(),
            boot: fetch::Boot([0; 16]),
            expect: None,
            remains: None,
            connections: CONNECTIONS,
            block: self.block,
            ask_every: self.answers_every,
        }
    }
}

/// Where a port of the peer is.
pub(super) fn address(port: u16) -> SocketAddr {
    SocketAddr::from((PEER, port))
}

/// The port that `address` is, if it is one of the peer's machine.
pub(super) fn port(address: SocketAddr) -> Option<u16> {
    (address.ip() == IpAddr::V4(PEER)).then_some(address.port())
}

const PEER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);

/// A client's own address.
pub(super) fn client_address(client: usize) -> IpAddr {
    Ipv4Addr::from_bits(0x0a01_0000 + client as u32).into()
}
