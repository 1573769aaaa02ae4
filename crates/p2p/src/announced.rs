//! Who has announced itself to the tracker: soft state, which is gone unless it is told again and again.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use machine::Time;

use crate::announcement::{Announcement, FORGET};
use crate::layout::Layout;

/// Peers that are remembered at most. Each has at most [`MOST_PORTS`](crate::announcement::MOST_PORTS) ports and one file.
const MOST: usize = 4096;

/// Of one address: it may run several, and no more than its share.
const MOST_OF_ONE: usize = 64;

/// The peers that have announced themselves of late, by where they do so from.
#[derive(Debug, Default)]
pub(crate) struct Announced {
    peers: BTreeMap<SocketAddr, Peer>,
}

#[derive(Debug)]
struct Peer {
    heard: Time,
    told: Announcement,
}

impl Announced {
    /// What `file` is, as those say who live: the first of them decides, and with whom the others agree.
    pub(crate) fn file(&self, now: Time, file: &str) -> Option<(Layout, Option<[u8; 32]>)> {
        let mut alive = self.alive(now, file).map(|(_, told)| told);
        let first = alive.next()?;
        Some((first.layout, first.digest.or_else(|| alive.find_map(|told| told.digest))))
    }

    /// Where it is to be had.
    pub(crate) fn peers(&self, now: Time, file: &str) -> impl Iterator<Item = SocketAddr> {
        self.alive(now, file)
            .flat_map(|(from, told)| told.ports.iter().map(move |port| SocketAddr::new(from.ip(), *port)))
    }

    fn alive(&self, now: Time, file: &str) -> impl Iterator<Item = (&SocketAddr, &Announcement)> {
        let is_alive = move |peer: &Peer| now.since(peer.heard) < FORGET && peer.told.file == file;
        self.peers.iter().filter(move |(_, peer)| is_alive(peer)).map(|(from, peer)| (from, &peer.told))
    }

    /// Takes what a peer says of itself, in place of what it said before. Ignored where there is no more room.
    pub(crate) fn hear(&mut self, now: Time, from: SocketAddr, told: Announcement) {
        if told.ports.is_empty() {
            self.peers.remove(&from);
            return;
        }
        if !self.peers.contains_key(&from) && !self.has_room(now, from.ip()) {
            return;
        }
        // A port has one owner: whoever had it before is dead, and its other ports are, too.
        let dead: Vec<SocketAddr> = self
            .of(from.ip())
            .filter(|(other, peer)| **other != from && peer.told.ports.iter().any(|port| told.ports.contains(port)))
            .map(|(other, _)| *other)
            .collect();
        dead.iter().for_each(|other| _ = self.peers.remove(other));
        self.peers.insert(from, Peer { heard: now, told });
    }

    fn has_room(&mut self, now: Time, address: IpAddr) -> bool {
        if self.peers.len() >= MOST || self.of(address).count() >= MOST_OF_ONE {
            self.peers.retain(|_, peer| now.since(peer.heard) < FORGET);
        }
        self.peers.len() < MOST && self.of(address).count() < MOST_OF_ONE
    }

    fn of(&self, address: IpAddr) -> impl Iterator<Item = (&SocketAddr, &Peer)> {
        // IPv6 addresses order by scope and flow, too, which are beyond the port.
        self.peers.range(SocketAddr::new(address, 0)..).take_while(move |(from, _)| from.ip() == address)
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use machine::Span;

    use super::*;

    fn told(ports: &[u16]) -> Announcement {
        let layout = Layout::published(805_975);
        Announcement { file: "f".into(), layout, ports: ports.to_vec(), digest: None }
    }

    fn from(address: u32, port: u16) -> SocketAddr {
        SocketAddr::new(Ipv4Addr::from_bits(0x0a00_0000 + address).into(), port)
    }

    fn at(millis: u64) -> Time {
        Time::ZERO + Span::from_millis(millis)
    }

    fn ports(announced: &Announced, now: Time) -> Vec<u16> {
        announced.peers(now, "f").map(|peer| peer.port()).collect()
    }

    #[test]
    fn what_is_told_replaces_what_was_told_and_is_forgotten() {
        let mut announced = Announced::default();
        announced.hear(at(0), from(1, 50_000), told(&[18_765, 20_001]));
        assert_eq!(ports(&announced, at(0)), [18_765, 20_001]);
        announced.hear(at(3_000), from(1, 50_000), told(&[18_765, 20_002]));
        assert_eq!(ports(&announced, at(12_999)), [18_765, 20_002]);
        assert_eq!(ports(&announced, at(13_000)), [0_u16; 0]);
        assert_eq!(announced.file(at(13_000), "f"), None);
        announced.hear(at(14_000), from(1, 50_000), told(&[18_765]));
        announced.hear(at(14_001), from(1, 50_000), told(&[]));
        assert_eq!(ports(&announced, at(14_001)), [0_u16; 0], "it said that it goes");
    }

    #[test]
    fn a_revived_peer_takes_its_ports_over() {
        let mut announced = Announced::default();
        announced.hear(at(0), from(1, 50_000), told(&[18_765, 20_001]));
        announced.hear(at(1), from(1, 50_001), told(&[18_765, 20_002]));
        announced.hear(at(1), from(2, 50_001), told(&[18_765]));
        assert_eq!(ports(&announced, at(2)), [18_765, 20_002, 18_765]);
    }

    #[test]
    fn a_digest_counts_as_soon_as_one_knows_it() {
        let mut announced = Announced::default();
        announced.hear(at(0), from(1, 1), told(&[1]));
        assert_eq!(announced.file(at(0), "f"), Some((Layout::published(805_975), None)));
        announced.hear(at(0), from(2, 1), Announcement { digest: Some([1; 32]), ..told(&[1]) });
        assert_eq!(announced.file(at(0), "f"), Some((Layout::published(805_975), Some([1; 32]))));
    }

    #[test]
    fn floods_fill_no_memory_and_lock_nobody_out_for_good() {
        let mut announced = Announced::default();
        for port in 1..1000 {
            announced.hear(at(0), from(1, port), told(&[port]));
        }
        assert_eq!(announced.peers.len(), MOST_OF_ONE);
        announced.hear(at(0), from(2, 1), told(&[1]));
        assert_eq!(announced.peers.len(), MOST_OF_ONE + 1, "others have room");
        for address in 0..2 * MOST as u32 {
            announced.hear(at(0), from(10 + address, 1), told(&[1]));
        }
        assert_eq!(announced.peers.len(), MOST);
        announced.hear(at(10_000), from(3, 1), told(&[7]));
        assert_eq!(ports(&announced, at(10_000)), [7]);
    }
}
