//! The tracker: who is told of whom, and how often.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use machine::{Seed, Span, Stream, Time};
use rand::RngExt;

use crate::announced::Announced;
use crate::announcement::Announcement;
use crate::layout::Layout;
use crate::tracker_text::{self, Answer, BAD_FORMAT, requested_file};

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

/// Answers requests, seldom, and hears announcements.
#[derive(Debug)]
pub struct Tracker {
    swarms: BTreeMap<String, Swarm>,
    announced: Announced,
    /// No more than one answer to an address in this time; the published one waits 2 s.
    interval: Span,
    answered: BTreeMap<IpAddr, Time>,
    draws: Stream,
}

impl Tracker {
    /// A tracker of no file.
    pub fn new(interval: Span, seed: Seed) -> Tracker {
        let draws = seed.derive("tracker").stream();
        Tracker { swarms: BTreeMap::new(), announced: Announced::default(), interval, answered: BTreeMap::new(), draws }
    }

    /// The peers of `file`, of which there are none unless it was told of.
    pub fn swarm(&mut self, file: &str) -> Option<&mut Swarm> {
        self.swarms.get_mut(file)
    }

    /// Tells of a file, or of it again.
    pub fn track(&mut self, file: String, swarm: Swarm) {
        self.swarms.insert(file, swarm);
    }

    /// Takes a datagram of any kind, and says what to send back, if anything.
    pub fn hear(&mut self, now: Time, from: SocketAddr, datagram: &[u8]) -> Option<String> {
        match Announcement::decode(datagram) {
            Some(told) => {
                self.announce(now, from, told);
                None
            }
            None => self.handle(now, from.ip(), datagram),
        }
    }

    /// Takes what a peer says of itself; ignored where it is of another file under the same name than this tracker was told,
    /// or than those say who announced themselves before.
    pub fn announce(&mut self, now: Time, from: SocketAddr, told: Announcement) {
        let given = self.swarms.get(&told.file).map(|swarm| (swarm.layout, swarm.digest));
        let known = given.or_else(|| self.announced.file(now, &told.file));
        let agrees = known.is_none_or(|(layout, digest)| {
            layout == told.layout && digest.is_none_or(|known| told.digest.is_none_or(|digest| digest == known))
        });
        // Who goes may go, whatever it was.
        if agrees || told.ports.is_empty() {
            self.announced.hear(now, from, told);
        }
    }

    /// What to send back for a request from `from`, if anything.
    pub fn handle(&mut self, now: Time, from: IpAddr, datagram: &[u8]) -> Option<String> {
        if !self.may_answer(now, from) {
            return None;
        }
        let answer = match requested_file(datagram).and_then(|file| self.found(now, file)) {
            Some(found) if !found.peers.is_empty() => found.encode(),
            // Whoever has to ask again later hears nothing, as from the published one between two answers.
            Some(_) => return None,
            None => BAD_FORMAT.to_owned(),
        };
        debug_assert!(answer.len() <= tracker_text::LONGEST, "two peers and a digest are short");
        self.answered.insert(from, now);
        Some(answer)
    }

    /// The answer for `file`, with up to two different peers; `None` where it is unknown.
    fn found(&mut self, now: Time, file: &str) -> Option<Answer> {
        let (given, announced) = (self.swarms.get(file), self.announced.file(now, file));
        let (layout, digest) = match (given, announced) {
            (Some(swarm), told) => (swarm.layout, swarm.digest.or(told.and_then(|(_, digest)| digest))),
            (None, Some(told)) => told,
            (None, None) => return None,
        };
        let given = given.map_or(&[][..], |swarm| &swarm.peers);
        let all = || given.iter().copied().chain(self.announced.peers(now, file));
        let draws = &mut self.draws;
        let first = one_of(all, draws);
        let second = first.and_then(|first| one_of(|| all().filter(|peer| *peer != first), draws));
        let peers = first.into_iter().chain(second).collect();
        Some(Answer { blocks: layout.blocks(), size: layout.size, peers, digest })
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

/// Any of them, without a list of all.
fn one_of<I: Iterator>(all: impl Fn() -> I, draws: &mut Stream) -> Option<I::Item> {
    let count = all().count();
    if count == 0 { None } else { all().nth(draws.random_range(0..count)) }
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

    fn told(layout: Layout, ports: &[u16], digest: Option<[u8; 32]>) -> Announcement {
        Announcement { file: "f".into(), layout, ports: ports.to_vec(), digest }
    }

    fn answer(tracker: &mut Tracker, nth: u32) -> Answer {
        let text = tracker.handle(Time::ZERO, client(nth), ASK).expect("it has a peer");
        Answer::decode(text.as_bytes()).expect("it is one")
    }

    #[test]
    fn a_peer_that_announces_itself_is_named() {
        let mut tracker = Tracker::new(Span::from_secs(2), Seed::new(7));
        assert_eq!(tracker.handle(Time::ZERO, client(1), ASK).as_deref(), Some(BAD_FORMAT), "nobody told of it");
        let from = SocketAddr::from(([10, 0, 0, 9], 50_000));
        let announcement = told(Layout::published(20_000), &[18_765], Some([3; 32]));
        assert_eq!(tracker.hear(Time::ZERO, from, announcement.encode().as_bytes()), None, "nobody answers it");
        let found = answer(&mut tracker, 2);
        assert_eq!((found.blocks, found.size, found.digest), (3, 20_000, Some([3; 32])));
        assert_eq!(found.peers, [SocketAddr::from(([10, 0, 0, 9], 18_765))]);
        let other = told(Layout::published(20_000), &[18_765, 20_001], Some([3; 32]));
        tracker.announce(Time::ZERO, SocketAddr::from(([10, 0, 0, 8], 50_000)), other);
        let mut seen = std::collections::BTreeSet::new();
        for nth in 3..100 {
            let found = answer(&mut tracker, nth);
            assert_ne!(found.peers[0], found.peers[1]);
            seen.extend(found.peers);
        }
        assert_eq!(seen.len(), 3);
    }

    #[test]
    fn an_announcement_of_another_file_under_the_name_is_ignored() {
        let right = Layout::published(805_975);
        let from = |last| SocketAddr::from(([10, 0, 0, last], 50_000));
        let (mut given, mut announced) = (tracker(0), Tracker::new(Span::from_secs(2), Seed::new(7)));
        announced.announce(Time::ZERO, from(1), told(right, &[1], Some([3; 32])));
        given.announce(Time::ZERO, from(1), told(right, &[1], None));
        for tracker in [&mut given, &mut announced] {
            tracker.announce(Time::ZERO, from(2), told(Layout::published(805_976), &[2], None));
            tracker.announce(Time::ZERO, from(3), told(Layout::new(805_975, 5).expect("it can be"), &[3], None));
            assert_eq!(answer(tracker, 1).peers, [SocketAddr::from(([10, 0, 0, 1], 1))]);
        }
        announced.announce(Time::ZERO, from(4), told(right, &[4], Some([4; 32])));
        assert_eq!(answer(&mut announced, 2).peers.len(), 1);
        // When nobody who agreed with each other lives any more, others may say what it is.
        announced.announce(Time::ZERO, from(1), told(right, &[], None));
        announced.announce(Time::ZERO, from(2), told(Layout::published(805_976), &[2], None));
        assert_eq!(answer(&mut announced, 3).size, 805_976);
    }
}
