//! What a capture and the model say of packets, and where they differ.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use link::Cause;

/// One end of a packet's way.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Fate {
    /// When, in nanoseconds of the relay's clock.
    pub at: u64,
    /// The packet, counted from 1 over all that entered the network.
    pub id: u64,
    /// Position of the port where it ended: of the sender for what was dropped in its `up` half.
    pub port: usize,
    /// Why it did not arrive there.
    pub dropped: Option<Dropped>,
    /// Whether it is the second of a packet that came twice.
    pub is_copy: bool,
    /// Bits of the frame that links have flipped, in the order of its way.
    pub flips: Vec<u64>,
}

/// Why and where a packet was dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Dropped {
    /// Why.
    pub cause: Cause,
    /// In which half link of its way.
    pub half: Half,
}

/// A half link of a packet's way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Half {
    /// The sender's.
    Up,
    /// From the sender to the receiver, on top of their own.
    Pair,
    /// The receiver's.
    Down,
}

impl Half {
    /// As captures call it.
    pub fn name(self) -> &'static str {
        match self {
            Half::Up => "up",
            Half::Pair => "pair",
            Half::Down => "down",
        }
    }
}

/// As captures call it.
pub(crate) fn cause_name(cause: Cause) -> &'static str {
    match cause {
        Cause::Loss => "loss",
        Cause::Queue => "queue",
        Cause::Partition => "partition",
        Cause::Cut => "cut",
        Cause::Overflow => "overflow",
    }
}

impl Fate {
    /// In words, without when.
    pub fn words(&self, port: &str) -> String {
        let copy = if self.is_copy { ", the second of two" } else { "" };
        let flips: String =
            self.flips.iter().map(|bit| format!(", bit {} of byte {} flipped", bit % 8, bit / 8)).collect();
        match self.dropped {
            None => format!("reached {port}{copy}{flips}"),
            Some(Dropped { cause, half: Half::Up }) => {
                format!("dropped by {port}'s up half: {}{copy}{flips}", cause_name(cause))
            }
            Some(Dropped { cause, half }) => {
                format!("dropped in the {} half to {port}: {}{copy}{flips}", half.name(), cause_name(cause))
            }
        }
    }
}

/// Fates that one account has told and the other has not come to yet.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    /// How much more often the capture tells it than the model. Invariant: never zero.
    open: BTreeMap<Fate, i64>,
    alike: u64,
}

/// A fate that only one account has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stray {
    pub(crate) fate: Fate,
    pub(crate) is_recorded: bool,
}

impl Ledger {
    pub(crate) fn recorded(&mut self, fate: Fate) {
        self.tell(fate, 1);
    }

    pub(crate) fn decided(&mut self, fate: Fate) {
        self.tell(fate, -1);
    }

    fn tell(&mut self, fate: Fate, side: i64) {
        let count = self.open.entry(fate.clone()).or_default();
        self.alike += u64::from(count.signum() == -side);
        *count += side;
        if *count == 0 {
            self.open.remove(&fate);
        }
    }

    /// How many both have told.
    pub(crate) fn alike(&self) -> u64 {
        self.alike
    }

    /// How many wait for the other account.
    pub(crate) fn waiting(&self) -> usize {
        self.open.len()
    }

    /// Those that the other account does not have, in the order of time.
    pub(crate) fn strays(&self) -> impl Iterator<Item = Stray> + '_ {
        self.open
            .iter()
            .map(|(fate, count)| Stray { fate: fate.clone(), is_recorded: count.cmp(&0) == Ordering::Greater })
    }
}
