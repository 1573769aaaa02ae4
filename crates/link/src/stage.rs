//! A lane with the packets in it.

use std::collections::VecDeque;

use machine::Time;

use crate::{Cause, Decision, Fate, Flips, HalfCounters, Lane, PortId, To, WireSize};

/// A packet in a lane.
#[derive(Clone, Debug)]
pub(crate) struct Transit<P> {
    /// When it leaves the lane.
    pub(crate) at: Time,
    /// Orders packets that leave at the same instant.
    pub(crate) sequence: u64,
    pub(crate) from: PortId,
    pub(crate) to: To,
    pub(crate) size: WireSize,
    pub(crate) flips: Flips,
    /// Whether it is the second one of another.
    pub(crate) is_copy: bool,
    pub(crate) payload: P,
}

/// A lane with the packets in it.
#[derive(Debug)]
pub(crate) struct Stage<P> {
    pub(crate) lane: Lane,
    pub(crate) place: Place,
    /// Invariant: in the order of (`at`, `sequence`).
    under_way: VecDeque<Transit<P>>,
    /// `in_flight` is counted from `under_way` when asked for.
    counters: HalfCounters,
}

/// Where in the network a stage is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    Up,
    Pair { to: PortId },
    Down(PortId),
}

impl<P> Stage<P> {
    pub(crate) fn new(lane: Lane, place: Place) -> Self {
        Stage { lane, place, under_way: VecDeque::new(), counters: HalfCounters::default() }
    }

    /// A packet arrives, and perhaps becomes two. For each that is accepted the caller then calls [`Stage::take_in`] or
    /// [`Stage::pass`].
    pub(crate) fn offer(&mut self, now: Time, size: WireSize) -> Decision {
        self.counters.offered += size;
        let decision = self.lane.offer(now, size);
        self.count(decision.packet, size);
        if let Some(copy) = decision.copy {
            self.counters.duplicated += size;
            self.count(copy, size);
        }
        decision
    }

    fn count(&mut self, fate: Fate, size: WireSize) {
        match fate {
            Fate::Deliver { flip: None, .. } => {}
            Fate::Deliver { flip: Some(_), .. } => self.counters.corrupted += size,
            Fate::Drop(cause) => self.counters.dropped.add(cause, size),
        }
    }

    /// A packet arrives, but something other than the lane's own profile takes it.
    pub(crate) fn refuse(&mut self, cause: Cause, size: WireSize) {
        self.counters.offered += size;
        self.counters.dropped.add(cause, size);
    }

    /// Keeps an accepted packet until its time; whether it is the next to leave.
    pub(crate) fn take_in(&mut self, transit: Transit<P>) -> bool {
        let order = (transit.at, transit.sequence);
        if self.under_way.back().is_none_or(|last| (last.at, last.sequence) <= order) {
            self.under_way.push_back(transit);
            return self.under_way.len() == 1;
        }
        let place = self.under_way.partition_point(|other| (other.at, other.sequence) <= order);
        self.under_way.insert(place, transit);
        place == 0
    }

    /// An accepted packet leaves in the instant of its arrival.
    pub(crate) fn pass(&mut self, size: WireSize) {
        self.counters.delivered += size;
    }

    /// The next packet to leave: when, and its sequence.
    pub(crate) fn head(&self) -> Option<(Time, u64)> {
        self.under_way.front().map(|transit| (transit.at, transit.sequence))
    }

    /// The next packet leaves.
    pub(crate) fn pop(&mut self) -> Option<Transit<P>> {
        let transit = self.under_way.pop_front()?;
        self.counters.delivered += transit.size;
        Some(transit)
    }

    /// Takes out what `cause` hits.
    pub(crate) fn purge(&mut self, cause: Cause, mut hits: impl FnMut(&Transit<P>) -> bool) -> Vec<Transit<P>> {
        let mut hit = Vec::new();
        for transit in std::mem::take(&mut self.under_way) {
            if hits(&transit) {
                self.counters.dropped.add(cause, transit.size);
                hit.push(transit);
            } else {
                self.under_way.push_back(transit);
            }
        }
        hit
    }

    pub(crate) fn counters(&self) -> HalfCounters {
        let mut counters = self.counters;
        for transit in &self.under_way {
            counters.in_flight += transit.size;
        }
        counters
    }
}
