//! The ports of a peer that pretends to be many: how slow each is, and when it comes and goes.
//!
//! As published: 31 of them, each with a pace of its own that its number decides; every 30 s another one appears and one is
//! retired. One port is fixed: it stays, at four fifths of the slowest pace.

use std::collections::VecDeque;

use machine::{Machine, Seed, Span, Stream, Time};
use rand::seq::IndexedRandom;
use rand::{Rng, RngExt};

/// The fixed port's share of the slowest pace.
const FIXED_SHARE: (u64, u64) = (4, 5);

/// Ports that the churning ones are drawn from: nobody's by convention, below those that clients are given.
const RANGE: std::ops::Range<u16> = 20_000..32_768;

/// How the ports of a peer are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Knobs {
    /// The slowest pace between two events of sending; the published one is 10 ms, in test mode 200 ms.
    pub stretch: Span,
    /// How many ports there are beside the fixed one.
    pub ports: usize,
    /// Between two changes; absent, they stay.
    pub churn: Option<Span>,
}

/// What becomes of ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// It takes connections, at this pace.
    Open {
        /// Its number.
        port: u16,
        /// Between two events of sending.
        pace: Span,
    },
    /// It takes no more, and those that it has end.
    Retire {
        /// Its number.
        port: u16,
    },
}

/// The pace of a port: `|seed XOR port| mod stretch`, in whole milliseconds.
pub fn pace(seed: Seed, port: u16, stretch: Span) -> Span {
    let millis = stretch.as_nanos() / 1_000_000;
    if millis == 0 {
        return Span::ZERO;
    }
    Span::from_millis((seed.value() ^ u64::from(port)) % millis)
}

/// The pace of the fixed port.
pub fn fixed_pace(stretch: Span) -> Span {
    let (of, in_all) = FIXED_SHARE;
    Span::from_nanos(stretch.as_nanos() / in_all * of)
}

/// What can happen to a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Input {
    /// Another program has it already; another one is drawn.
    Taken(u16),
}

/// Opens and retires ports.
#[derive(Debug)]
pub struct Ports {
    knobs: Knobs,
    seed: Seed,
    open: Vec<u16>,
    changes: VecDeque<Change>,
    next: Option<Time>,
    draws: Stream,
}

impl Ports {
    /// Opens the first ones; `fixed` is the one that stays.
    pub fn new(now: Time, knobs: Knobs, fixed: u16, seed: Seed) -> Ports {
        let mut ports = Ports {
            knobs,
            seed,
            open: Vec::new(),
            changes: [Change::Open { port: fixed, pace: fixed_pace(knobs.stretch) }].into(),
            next: knobs.churn.map(|churn| now + churn),
            draws: seed.derive("ports").stream(),
        };
        for _ in 0..knobs.ports.min(RANGE.len() / 2) {
            ports.open_one();
        }
        ports
    }

    fn open_one(&mut self) {
        let port = loop {
            let port = self.draws.random_range(RANGE);
            if !self.open.contains(&port) {
                break port;
            }
        };
        self.open.push(port);
        self.changes.push_back(Change::Open { port, pace: pace(self.seed, port, self.knobs.stretch) });
    }
}

impl Machine for Ports {
    type Input = Input;
    type Output = Change;
    type Why = Churn;

    fn handle(&mut self, _now: Time, Input::Taken(port): Input) {
        if let Some(index) = self.open.iter().position(|open| *open == port) {
            self.open_one();
            self.open.swap_remove(index);
        }
    }

    fn advance(&mut self, now: Time) {
        let Some(churn) = self.knobs.churn else { return };
        while let Some(at) = self.next.filter(|at| *at <= now) {
            // The newest is not the one that goes.
            let oldest: Vec<u16> = self.open.clone();
            self.open_one();
            if let Some(&port) = oldest.choose(&mut self.draws) {
                self.open.retain(|open| *open != port);
                self.changes.push_back(Change::Retire { port });
            }
            self.next = Some(at + churn);
        }
    }

    fn poll(&mut self) -> Option<Change> {
        self.changes.pop_front()
    }

    fn deadline(&self) -> Option<(Time, Churn)> {
        self.next.map(|at| (at, Churn))
    }
}

/// One port comes and one goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Churn;

/// A block number for `GET f:*`.
pub fn any_block(blocks: u64, draws: &mut impl Rng) -> u64 {
    draws.random_range(0..blocks.max(1))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    const KNOBS: Knobs = Knobs { stretch: Span::from_millis(200), ports: 31, churn: Some(Span::from_secs(30)) };

    fn take_all(ports: &mut Ports) -> Vec<Change> {
        std::iter::from_fn(|| ports.poll()).collect()
    }

    #[test]
    fn paces_are_those_of_the_published_formula() {
        assert_eq!(pace(Seed::new(0), 20_013, Span::from_millis(200)), Span::from_millis(13));
        assert_eq!(pace(Seed::new(0xffff), 20_013, Span::from_millis(10)), Span::from_millis((0xffff ^ 20_013) % 10));
        assert_eq!(pace(Seed::new(1), 1, Span::ZERO), Span::ZERO);
        assert_eq!(fixed_pace(Span::from_millis(200)), Span::from_millis(160));
    }

    #[test]
    fn thirty_one_distinct_ports_are_open_and_one_of_them_goes_every_thirty_seconds() {
        let mut ports = Ports::new(Time::ZERO, KNOBS, 18_765, Seed::new(5));
        let mut open = BTreeSet::new();
        for change in take_all(&mut ports) {
            let Change::Open { port, pace } = change else { panic!("{change:?}") };
            assert!(open.insert(port) && pace < KNOBS.stretch);
        }
        assert_eq!(open.len(), 32, "the fixed one is there, too");
        for round in 1..=100_u64 {
            assert_eq!(ports.deadline(), Some((Time::ZERO + Span::from_secs(30 * round), Churn)));
            ports.advance(Time::ZERO + Span::from_secs(30 * round));
            let changes = take_all(&mut ports);
            let [Change::Open { port: new, .. }, Change::Retire { port: old }] = changes[..] else {
                panic!("{changes:?}")
            };
            assert!(open.insert(new) && open.remove(&old) && old != 18_765 && old != new);
        }
    }

    #[test]
    fn a_port_that_another_program_has_is_replaced() {
        let knobs = Knobs { ports: 1, churn: None, ..KNOBS };
        let mut ports = Ports::new(Time::ZERO, knobs, 18_765, Seed::new(5));
        let [Change::Open { .. }, Change::Open { port: taken, .. }] = take_all(&mut ports)[..] else { panic!() };
        ports.handle(Time::ZERO, Input::Taken(taken));
        let [Change::Open { port, .. }] = take_all(&mut ports)[..] else { panic!() };
        assert_ne!(port, taken);
        ports.handle(Time::ZERO, Input::Taken(taken));
        assert_eq!((take_all(&mut ports), &ports.open), (vec![], &vec![port]));
    }

    #[test]
    fn without_churn_nothing_changes_and_the_same_seed_opens_the_same_ports() {
        let knobs = Knobs { churn: None, ..KNOBS };
        let opened = |seed| take_all(&mut Ports::new(Time::ZERO, knobs, 1, Seed::new(seed)));
        assert_eq!(opened(1), opened(1));
        assert_ne!(opened(1), opened(2));
        assert_eq!(Ports::new(Time::ZERO, knobs, 1, Seed::new(1)).deadline(), None);
    }
}
