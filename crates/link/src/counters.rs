//! What became of all packets; it always adds up.

use std::ops::{Add, AddAssign};

use serde::{Deserialize, Serialize};

use crate::{Cause, WireSize};

/// An amount of traffic.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    /// Packets of at most the MTU.
    pub packets: u64,
    /// Ethernet bytes without FCS.
    pub bytes: u64,
}

/// Dropped traffic by cause; the fields are those of [`Cause`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Drops {
    /// See [`Cause::Loss`].
    pub loss: Tally,
    /// See [`Cause::Queue`].
    pub queue: Tally,
    /// See [`Cause::Partition`].
    pub partition: Tally,
    /// See [`Cause::Cut`].
    pub cut: Tally,
    /// See [`Cause::Overflow`].
    pub overflow: Tally,
}

/// One half link's traffic. Invariant: offered + duplicated = delivered + dropped + in flight, in packets and in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HalfCounters {
    /// Reached it.
    pub offered: Tally,
    /// Came to be in it, as second ones of others.
    pub duplicated: Tally,
    /// Left it at its far end.
    pub delivered: Tally,
    /// Had a bit flipped in it; part of those delivered or in flight.
    pub corrupted: Tally,
    /// Gone, and why.
    pub dropped: Drops,
    /// Still in it.
    pub in_flight: Tally,
}

/// The traffic of one port.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortCounters {
    /// The node's name.
    pub label: String,
    /// Leaving the node.
    pub up: HalfCounters,
    /// Reaching the node.
    pub down: HalfCounters,
}

/// The traffic of one pair's half link.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PairCounters {
    /// The sending node's name.
    pub from: String,
    /// The receiving node's name.
    pub to: String,
    /// Between the two.
    pub half: HalfCounters,
}

/// The traffic of a network.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkCounters {
    /// The network's name.
    pub name: String,
    /// In the order in which the ports were added.
    pub ports: Vec<PortCounters>,
    /// In the order of their ports.
    pub pairs: Vec<PairCounters>,
}

impl Drops {
    /// The traffic that `cause` took.
    pub fn by(&self, cause: Cause) -> Tally {
        match cause {
            Cause::Loss => self.loss,
            Cause::Queue => self.queue,
            Cause::Partition => self.partition,
            Cause::Cut => self.cut,
            Cause::Overflow => self.overflow,
        }
    }

    /// All of it.
    pub fn total(&self) -> Tally {
        self.loss + self.queue + self.partition + self.cut + self.overflow
    }

    pub(crate) fn add(&mut self, cause: Cause, size: WireSize) {
        let tally = match cause {
            Cause::Loss => &mut self.loss,
            Cause::Queue => &mut self.queue,
            Cause::Partition => &mut self.partition,
            Cause::Cut => &mut self.cut,
            Cause::Overflow => &mut self.overflow,
        };
        *tally += size;
    }
}

impl HalfCounters {
    /// Whether nothing is unaccounted for.
    pub fn adds_up(&self) -> bool {
        self.offered + self.duplicated == self.delivered + self.dropped.total() + self.in_flight
    }
}

impl NetworkCounters {
    /// Every half link of it.
    pub fn halves(&self) -> impl Iterator<Item = &HalfCounters> {
        let ports = self.ports.iter().flat_map(|port| [&port.up, &port.down]);
        ports.chain(self.pairs.iter().map(|pair| &pair.half))
    }
}

impl Add for Tally {
    type Output = Tally;
    fn add(self, other: Tally) -> Tally {
        Tally { packets: self.packets + other.packets, bytes: self.bytes + other.bytes }
    }
}

impl AddAssign<WireSize> for Tally {
    fn add_assign(&mut self, size: WireSize) {
        self.packets += u64::from(size.packets);
        self.bytes += u64::from(size.bytes);
    }
}
