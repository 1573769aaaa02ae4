//! Who may connect: each client so many times at once, over all ports of a peer.

use std::collections::BTreeMap;
use std::net::IpAddr;

use machine::{Seed, Stream};
use rand::seq::IndexedRandom;

/// Connections that the published peer allows a client.
pub const PUBLISHED: usize = 5;

/// Which connection of a client that opens one too many ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Excess {
    /// The new one, as at older peers.
    Newcomer,
    /// Any open one, as at newer peers.
    RandomOpen,
}

/// One connection; a number is never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Visitor(u64);

/// What becomes of a new connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is served.
    Welcome(Visitor),
    /// It is closed.
    Refused,
    /// It is served, and another one of the same client is closed.
    Instead {
        /// The new one.
        of: Visitor,
        /// The one to close, which is forgotten already.
        closed: Visitor,
    },
}

/// Counts connections by client. Memory is that of the open connections.
#[derive(Debug)]
pub struct Admission {
    most: usize,
    excess: Excess,
    open: BTreeMap<IpAddr, Vec<Visitor>>,
    next: u64,
    draws: Stream,
}

impl Admission {
    /// Allows each client `most` connections; 0 refuses all.
    pub fn new(most: usize, excess: Excess, seed: Seed) -> Admission {
        Admission { most, excess, open: BTreeMap::new(), next: 0, draws: seed.derive("admission").stream() }
    }

    /// A client connects.
    pub fn enter(&mut self, client: IpAddr) -> Verdict {
        let open = self.open.get(&client).map_or(&[][..], Vec::as_slice);
        let closed = match (open.len() < self.most, self.excess) {
            (true, _) => None,
            (false, Excess::Newcomer) => return Verdict::Refused,
            (false, Excess::RandomOpen) => match open.choose(&mut self.draws) {
                Some(closed) => Some(*closed),
                None => return Verdict::Refused,
            },
        };
        if let Some(closed) = closed {
            self.leave(client, closed);
        }
        let visitor = Visitor(self.next);
        self.next += 1;
        self.open.entry(client).or_default().push(visitor);
        closed.map_or(Verdict::Welcome(visitor), |closed| Verdict::Instead { of: visitor, closed })
    }

    /// A connection is over. Harmless where that is known.
    pub fn leave(&mut self, client: IpAddr, visitor: Visitor) {
        if let Some(open) = self.open.get_mut(&client) {
            open.retain(|one| *one != visitor);
            if open.is_empty() {
                self.open.remove(&client);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(last: u8) -> IpAddr {
        [10, 0, 0, last].into()
    }

    fn full(excess: Excess) -> (Admission, Vec<Visitor>) {
        let mut admission = Admission::new(PUBLISHED, excess, Seed::new(3));
        let visitors = (0..5).map(|_| match admission.enter(client(1)) {
            Verdict::Welcome(visitor) => visitor,
            other => panic!("{other:?}"),
        });
        let visitors = visitors.collect();
        (admission, visitors)
    }

    #[test]
    fn the_sixth_of_a_client_is_refused_and_others_are_not() {
        let (mut admission, visitors) = full(Excess::Newcomer);
        assert_eq!(admission.enter(client(1)), Verdict::Refused);
        assert!(matches!(admission.enter(client(2)), Verdict::Welcome(_)));
        admission.leave(client(1), visitors[2]);
        assert!(matches!(admission.enter(client(1)), Verdict::Welcome(_)));
        assert_eq!(admission.enter(client(1)), Verdict::Refused);
    }

    #[test]
    fn or_it_takes_the_place_of_any_other() {
        let (mut admission, mut visitors) = full(Excess::RandomOpen);
        let mut closed_places = std::collections::BTreeSet::new();
        for _ in 0..100 {
            let Verdict::Instead { of, closed } = admission.enter(client(1)) else { panic!() };
            let place = visitors.iter().position(|one| *one == closed).expect("it was open");
            closed_places.insert(place);
            visitors[place] = of;
            // That its connection ends is told, too, and changes nothing.
            admission.leave(client(1), closed);
            assert_eq!(admission.open[&client(1)].len(), PUBLISHED);
        }
        assert_eq!(closed_places.len(), PUBLISHED, "any of them");
    }

    #[test]
    fn who_has_left_is_forgotten() {
        let (mut admission, visitors) = full(Excess::Newcomer);
        visitors.into_iter().for_each(|visitor| admission.leave(client(1), visitor));
        assert!(admission.open.is_empty());
        let mut closed = Admission::new(0, Excess::RandomOpen, Seed::new(3));
        assert_eq!(closed.enter(client(1)), Verdict::Refused);
    }
}
