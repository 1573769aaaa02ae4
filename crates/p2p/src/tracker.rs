//! The tracker: who is told of whom, and how often.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use machine::{Seed, Span, Stream, Time};
use rand::seq::IndexedRandom;

use crate::layout::Layout;
use crate::tracker_text::{self, Answer, BAD_FORMAT, requested_file};

/// Peers in an answer, as published.
const NAMED: usize = 2;

/// Addresses that are remembered for having had an answer. More than that within one interval get none: a tracker is no
/// amplifier.
const REMEMBERED: usize = 65_536;

/// A file and who has something of it.
#[derive(Clone, Debug)]
pub struct Swarm {
    /// How it is divided.
    pub layout: Layout,
    /// SHA-256, where it is told.
    pub digest: Option<[u8; 32]>,
    /// In the order in which they came.
    pub peers: Vec<SocketAddr>,
}

/// Answers requests, seldom.
#[derive(Debug)]
pub struct Tracker {
    swarms: BTreeMap<String, Swarm>,
    /// No more than one answer to an address in this time; the published one waits 2 s.
    interval: Span,
    answered: BTreeMap<IpAddr, Time>,
    draws: Stream,
}

impl Tracker {
    /// A tracker of no file.
    pub fn new(interval: Span, seed: Seed) -> Tracker {
        let draws = seed.derive("tracker").stream();
        Tracker { swarms: BTreeMap::new(), interval, answered: BTreeMap::new(), draws }
    }

    /// The peers of `file`, of which there are none unless it was told of.
    pub fn swarm(&mut self, file: &str) -> Option<&mut Swarm> {
        self.swarms.get_mut(file)
    }

    /// Tells of a file, or of it again.
    pub fn track(&mut self, file: String, swarm: Swarm) {
        self.swarms.insert(file, swarm);
    }

    /// What to send back for a datagram from `from`, if anything.
    pub fn handle(&mut self, now: Time, from: IpAddr, datagram: &[u8]) -> Option<String> {
        if !self.may_answer(now, from) {
            return None;
        }
        let swarm = requested_file(datagram).and_then(|file| self.swarms.get(file));
        let answer = match swarm {
            Some(swarm) if !swarm.peers.is_empty() => {
                let peers = swarm.peers.sample(&mut self.draws, NAMED).copied().collect();
                Answer { blocks: swarm.layout.blocks(), size: swarm.layout.size, peers, digest: swarm.digest }.encode()
            }
            // Whoever has to ask again later hears nothing, as from the published one between two answers.
            Some(_) => return None,
            None => BAD_FORMAT.to_owned(),
        };
        debug_assert!(answer.len() <= tracker_text::LONGEST, "two peers and a digest are short");
        self.answered.insert(from, now);
        Some(answer)
    }

    fn may_answer(&mut self, now: Time, from: IpAddr) -> bool {
        let interval = self.interval;
        let is_over = |at: &Time| now.since(*at) >= interval;
        if let Some(last) = self.answered.get(&from) {
            return is_over(last);
        }
        if self.answered.len() >= REMEMBERED {
            self.answered.retain(|_, at| !is_over(at));
        }
        self.answered.len() < REMEMBERED
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    const ASK: &[u8] = b"GET f.torrent\n";

    fn tracker(peers: usize) -> Tracker {
        let peers = (0..peers).map(|nth| SocketAddr::from(([10, 0, 0, 1], 20_000 + nth as u16))).collect();
        let mut tracker = Tracker::new(Span::from_secs(2), Seed::new(7));
        tracker.track("f".into(), Swarm { layout: Layout::published(805_975), digest: None, peers });
        tracker
    }

    fn client(nth: u32) -> IpAddr {
        Ipv4Addr::from_bits(0x0a00_0000 + nth).into()
    }

    #[test]
    fn two_distinct_peers_are_named_and_each_in_turn() {
        let mut tracker = tracker(31);
        let mut seen = std::collections::BTreeSet::new();
        for nth in 0..200 {
            let text = tracker.handle(Time::ZERO, client(nth), ASK).expect("it is the first of this client");
            let answer = Answer::decode(text.as_bytes()).expect("it is one");
            assert_eq!((answer.blocks, answer.size, answer.peers.len()), (81, 805_975, 2));
            assert_ne!(answer.peers[0], answer.peers[1]);
            seen.extend(answer.peers);
        }
        assert_eq!(seen.len(), 31);
    }

    #[test]
    fn a_client_is_answered_once_in_two_seconds_and_others_meanwhile() {
        let mut tracker = tracker(3);
        let at = |millis| Time::ZERO + Span::from_millis(millis);
        assert!(tracker.handle(at(0), client(1), ASK).is_some());
        assert!(tracker.handle(at(1_999), client(1), ASK).is_none());
        assert!(tracker.handle(at(1_999), client(2), b"nonsense").is_some_and(|text| text == BAD_FORMAT));
        assert!(tracker.handle(at(2_000), client(1), ASK).is_some());
        assert!(tracker.handle(at(3_000), client(2), ASK).is_none(), "a refusal is an answer");
    }

    #[test]
    fn a_flood_of_addresses_fills_no_memory_and_ends() {
        let mut tracker = tracker(3);
        for nth in 0..REMEMBERED as u32 + 100 {
            tracker.handle(Time::ZERO, client(nth), ASK);
        }
        assert!(tracker.answered.len() <= REMEMBERED);
        assert!(tracker.handle(Time::ZERO, client(u32::MAX >> 8), ASK).is_none());
        let later = Time::ZERO + Span::from_secs(2);
        assert!(tracker.handle(later, client(u32::MAX >> 8), ASK).is_some());
    }

    #[test]
    fn the_only_peer_is_named_alone() {
        let text = tracker(1).handle(Time::ZERO, client(1), ASK).expect("there is one");
        assert_eq!(Answer::decode(text.as_bytes()).expect("it is one").peers.len(), 1);
        assert!(tracker(0).handle(Time::ZERO, client(1), ASK).is_none());
    }
}
