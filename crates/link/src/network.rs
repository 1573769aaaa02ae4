//! Ports joined by lanes, with pairs, partitions and cut ports.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};

use machine::{Seed, Time};

use crate::partition::Partitions;
use crate::stage::{Place, Stage, Transit};
use crate::{
    Cause, Fate, Flips, HalfLink, Lane, NetworkCounters, PairCounters, PartitionKey, PortCounters, Profile, WireSize,
};

/// One broadcast domain in which every port has a link of its own.
///
/// A packet passes the `up` half of its sender, the half of the pair if the two ends have one, and the `down` half of its
/// receiver. It enters each at the model's time of leaving the former, however late the caller calls, so that errors do
/// not add up. A flood passes the sender's `up` half once and then, as one copy each, the way to every other port.
///
/// **Partitions** stand between the `up` halves and the rest: from the moment that one takes effect until it is healed
/// nothing is delivered across it. What is already on the far side is lost at that moment; what is still in an `up` half
/// meets the partition when it leaves that, and passes if it has been healed by then. **A cut** empties both halves of its port and takes
/// all that its node sends and all that reaches it until it is restored; what had left its `up` half before goes on.
///
/// The order of calls: [`send`](Network::send), and the changes, as things happen; [`poll`](Network::poll) until `None`
/// when [`deadline`](Network::deadline) has come. Invariant: time never goes back; an earlier `now` counts as the latest
/// one seen.
///
/// Memory: at most [`CAPACITY`](Network::CAPACITY) packets are under way; beyond, they are dropped as
/// [`Cause::Overflow`].
#[derive(Debug)]
pub struct Network<P> {
    name: String,
    seed: Seed,
    ports: Vec<Port>,
    pairs: BTreeMap<(PortId, PortId), usize>,
    stages: Vec<Stage<P>>,
    partitions: Partitions,
    /// The head of every stage that has one, as (at, sequence, stage). Others may be stale. Invariant: the top is not.
    schedule: BinaryHeap<Reverse<(Time, u64, usize)>>,
    ready: VecDeque<Delivery<P>>,
    /// What was dropped and not asked for yet; `None` where nobody will ask.
    losses: Option<VecDeque<Loss<P>>>,
    clock: Time,
    sequence: u64,
    under_way: usize,
}

/// A port of a [`Network`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PortId(u32);

/// Where a packet goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum To {
    /// To one port.
    Port(PortId),
    /// To all but the sender.
    Flood,
}

/// A packet that reaches a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery<P> {
    /// The model's time of it, at most the `now` of the call.
    pub at: Time,
    /// Its sender.
    pub from: PortId,
    /// Its receiver.
    pub to: PortId,
    /// What it counted for.
    pub size: WireSize,
    /// The bits of it that its links have flipped: for the caller to do, who knows what its bits are.
    pub flips: Flips,
    /// Whether it is the second one of another.
    pub is_copy: bool,
    /// What it carries, as it was sent.
    pub payload: P,
}

/// A packet that was dropped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loss<P> {
    /// When, by the model.
    pub at: Time,
    /// Why.
    pub cause: Cause,
    /// Where.
    pub within: Within,
    /// Its sender.
    pub from: PortId,
    /// What had been damaged of it.
    pub flips: Flips,
    /// Whether it is the second of a packet delivered twice.
    pub is_copy: bool,
    /// What it carried.
    pub payload: P,
}

/// A half link of a network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Within {
    /// The sender's.
    Up,
    /// From the sender to this port, on top of their own.
    Pair(PortId),
    /// This receiver's. Partitions and dead machines take packets here, too.
    Down(PortId),
}

#[derive(Clone, Debug)]
struct Port {
    label: String,
    up: usize,
    down: usize,
    is_cut: bool,
}

impl PortId {
    /// Position in the order in which the ports were added.
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

impl<P: Clone> Network<P> {
    /// How many packets may be under way in one network. An entry takes less than 100 bytes beside its payload, so a
    /// network takes at most 100 MB for them.
    pub const CAPACITY: usize = 1 << 20;

    /// A network without ports, whose lanes draw from streams of `seed` (the run's own) named by network and node.
    pub fn new(name: &str, seed: Seed) -> Self {
        Network {
            name: name.to_owned(),
            seed,
            ports: Vec::new(),
            pairs: BTreeMap::new(),
            stages: Vec::new(),
            partitions: Partitions::default(),
            schedule: BinaryHeap::new(),
            ready: VecDeque::new(),
            losses: None,
            clock: Time::ZERO,
            sequence: 0,
            under_way: 0,
        }
    }

    /// Adds the port of the node called `label`.
    pub fn add_port(&mut self, label: &str, profile: &Profile) -> PortId {
        let id = PortId(u32::try_from(self.ports.len()).expect("fewer than 2³² ports"));
        let up = self.add_stage(&format!("{label}/up"), &profile.up, Place::Up);
        let down = self.add_stage(&format!("{label}/down"), &profile.down, Place::Down(id));
        self.ports.push(Port { label: label.to_owned(), up, down, is_cut: false });
        id
    }

    /// Impairs the way from one port to another on top of the links of both; replaces what was set before.
    pub fn set_pair(&mut self, from: PortId, to: PortId, half: &HalfLink) {
        if let Some(stage) = self.pairs.get(&(from, to)) {
            self.stages[*stage].lane.set(self.clock, half);
            return;
        }
        let name = format!("{}/{}", self.ports[from.index()].label, self.ports[to.index()].label);
        let stage = self.add_stage(&name, half, Place::Pair { to });
        self.pairs.insert((from, to), stage);
    }

    /// Impairs a port's link from `now` on so; see [`Lane::set`] for what is under way.
    pub fn set_profile(&mut self, now: Time, port: PortId, profile: &Profile) {
        self.advance(now);
        let Port { up, down, .. } = self.ports[port.index()];
        let now = self.clock;
        self.stages[up].lane.set(now, &profile.up);
        self.stages[down].lane.set(now, &profile.down);
    }

    /// All traces of the network begin `now`. Before that they count from [`Time::ZERO`], and one that is
    /// [set](Network::set_profile) later from then.
    pub fn begin_traces(&mut self, now: Time) {
        self.advance(now);
        for stage in &mut self.stages {
            stage.lane.begin_trace(self.clock);
        }
    }

    /// From `now` on ports in different lists cannot reach each other; those in no list reach all. Replaces the lists
    /// that `key` had before.
    pub fn partition(&mut self, now: Time, key: PartitionKey, lists: &[Vec<PortId>]) {
        self.advance(now);
        self.partitions.set(key, lists.iter().map(|list| list.iter().map(|port| port.index())));
        for stage in 0..self.stages.len() {
            let to = match self.stages[stage].place {
                Place::Up => continue,
                Place::Pair { to } | Place::Down(to) => to,
            };
            let partitions = &self.partitions;
            let hits = |transit: &Transit<P>| partitions.separate(transit.from.index(), to.index());
            let purged = self.stages[stage].purge(Cause::Partition, hits);
            self.forget(stage, Cause::Partition, purged);
            self.schedule_head(stage);
        }
        self.discard_stale();
    }

    /// From `now` on the partition `key` no longer stands.
    pub fn heal(&mut self, now: Time, key: PartitionKey) {
        self.advance(now);
        self.partitions.heal(key);
    }

    /// From `now` on nothing leaves or reaches the port, as if its machine had died.
    pub fn cut(&mut self, now: Time, port: PortId) {
        self.advance(now);
        let port = &mut self.ports[port.index()];
        port.is_cut = true;
        for stage in [port.up, port.down] {
            let purged = self.stages[stage].purge(Cause::Cut, |_| true);
            self.forget(stage, Cause::Cut, purged);
            self.stages[stage].lane.clear();
        }
        self.discard_stale();
    }

    /// From `now` on the port is connected again.
    pub fn restore(&mut self, now: Time, port: PortId) {
        self.advance(now);
        self.ports[port.index()].is_cut = false;
    }

    /// A node sends a packet. One to its own port passes both halves and comes back to it.
    pub fn send(&mut self, now: Time, from: PortId, to: To, size: WireSize, payload: P) {
        self.advance(now);
        let Port { up, is_cut, .. } = self.ports[from.index()];
        let (at, flips) = (self.clock, Flips::default());
        let transit = Transit { at, sequence: 0, from, to, size, flips, is_copy: false, payload };
        if is_cut { self.refuse_at(up, Cause::Cut, transit) } else { self.enter(up, transit) }
    }

    /// From now on what is dropped is kept, until [`poll_loss`](Network::poll_loss) takes it: to be asked for after each
    /// other call, or it takes memory.
    pub fn keep_losses(&mut self) {
        self.losses.get_or_insert_default();
    }

    /// From now on nobody will ask.
    pub fn forget_losses(&mut self) {
        self.losses = None;
    }

    /// The next packet that was dropped since [`keep_losses`](Network::keep_losses).
    pub fn poll_loss(&mut self) -> Option<Loss<P>> {
        self.losses.as_mut()?.pop_front()
    }

    /// Counts a packet that a node sent, but that the caller has no room for.
    pub fn refuse(&mut self, from: PortId, size: WireSize) {
        let up = self.ports[from.index()].up;
        self.stages[up].refuse(Cause::Overflow, size);
    }

    /// The next packet that has reached its node by `now`, in the order of their times.
    pub fn poll(&mut self, now: Time) -> Option<Delivery<P>> {
        while self.ready.is_empty() && self.step(now) {}
        if self.ready.is_empty() {
            self.clock = self.clock.max(now);
        }
        self.ready.pop_front()
    }

    /// The latest instant that it has seen: that of a [`send`](Network::send) just made, whatever `now` it was given.
    pub fn now(&self) -> Time {
        self.clock
    }

    /// When [`poll`](Network::poll) must be called at the latest: the next packet leaves a lane.
    pub fn deadline(&self) -> Option<Time> {
        match self.ready.front() {
            Some(delivery) => Some(delivery.at),
            None => self.schedule.peek().map(|Reverse((at, ..))| *at),
        }
    }

    /// What became of all packets so far.
    pub fn counters(&self) -> NetworkCounters {
        let half = |stage: usize| self.stages[stage].counters();
        let label = |port: PortId| self.ports[port.index()].label.clone();
        let ports = self.ports.iter();
        let pairs = self.pairs.iter();
        NetworkCounters {
            name: self.name.clone(),
            ports: ports
                .map(|port| PortCounters { label: port.label.clone(), up: half(port.up), down: half(port.down) })
                .collect(),
            pairs: pairs
                .map(|(&(from, to), &stage)| PairCounters { from: label(from), to: label(to), half: half(stage) })
                .collect(),
        }
    }

    /// The ports, in the order in which they were added.
    pub fn ports(&self) -> impl Iterator<Item = PortId> + use<P> {
        (0..self.ports.len() as u32).map(PortId)
    }

    fn add_stage(&mut self, name: &str, half: &HalfLink, place: Place) -> usize {
        let lane = Lane::new(half, self.seed.derive(&format!("{}/{name}", self.name)));
        self.stages.push(Stage::new(lane, place));
        self.stages.len() - 1
    }

    /// Lets everything happen that happens up to `now`.
    fn advance(&mut self, now: Time) {
        while self.step(now) {}
        self.clock = self.clock.max(now);
    }

    /// Lets the next packet leave its lane, if that is due by `now`.
    fn step(&mut self, now: Time) -> bool {
        let Some(&Reverse((at, _, stage))) = self.schedule.peek().filter(|Reverse((at, ..))| *at <= now) else {
            return false;
        };
        self.schedule.pop();
        self.clock = self.clock.max(at);
        if let Some(transit) = self.stages[stage].pop() {
            self.under_way -= 1;
            self.schedule_head(stage);
            self.leave(stage, transit);
        }
        self.discard_stale();
        true
    }

    /// A packet, at the time `transit.at`, arrives at a lane.
    fn enter(&mut self, stage: usize, transit: Transit<P>) {
        let now = transit.at;
        // Room for it and for a second one.
        if self.under_way + 2 > Self::CAPACITY {
            return self.refuse_at(stage, Cause::Overflow, transit);
        }
        let decision = self.stages[stage].offer(now, transit.size);
        let copy = decision.copy.map(|fate| (fate, Transit { is_copy: true, ..transit.clone() }));
        self.proceed(now, stage, decision.packet, transit);
        if let Some((fate, copy)) = copy {
            self.proceed(now, stage, fate, copy);
        }
    }

    /// Something other than the stage's own profile takes a packet that arrives there.
    fn refuse_at(&mut self, stage: usize, cause: Cause, transit: Transit<P>) {
        self.stages[stage].refuse(cause, transit.size);
        self.lose(stage, transit.at, cause, transit);
    }

    /// Packets were taken out of a stage.
    fn forget(&mut self, stage: usize, cause: Cause, purged: Vec<Transit<P>>) {
        self.under_way -= purged.len();
        for transit in purged {
            self.lose(stage, self.clock, cause, transit);
        }
    }

    /// Keeps a packet that was dropped and counted, if somebody will ask for it.
    fn lose(&mut self, stage: usize, at: Time, cause: Cause, transit: Transit<P>) {
        let Some(losses) = &mut self.losses else { return };
        let within = match self.stages[stage].place {
            Place::Up => Within::Up,
            Place::Pair { to } => Within::Pair(to),
            Place::Down(to) => Within::Down(to),
        };
        let Transit { from, flips, is_copy, payload, .. } = transit;
        losses.push_back(Loss { at, cause, within, from, flips, is_copy, payload });
    }

    /// A packet meets its fate in the lane where it arrived `now`.
    fn proceed(&mut self, now: Time, stage: usize, fate: Fate, mut transit: Transit<P>) {
        let (at, flip) = match fate {
            Fate::Deliver { at, flip } => (at, flip),
            Fate::Drop(cause) => return self.lose(stage, now, cause, transit),
        };
        transit.at = at;
        transit.flips.add(flip);
        // What leaves at once need not wait its turn, unless a predecessor in this lane is due at this very instant.
        if at <= now && self.stages[stage].head().is_none() {
            self.stages[stage].pass(transit.size);
            self.leave(stage, transit);
            return;
        }
        transit.sequence = self.sequence;
        self.sequence += 1;
        self.under_way += 1;
        if self.stages[stage].take_in(transit) {
            self.schedule_head(stage);
        }
    }

    /// A packet, at the time `transit.at`, has left a lane.
    fn leave(&mut self, stage: usize, transit: Transit<P>) {
        match (self.stages[stage].place, transit.to) {
            (Place::Up, To::Port(to)) => self.cross(to, transit),
            (Place::Up, To::Flood) => {
                for to in (0..self.ports.len() as u32).map(PortId).filter(|to| *to != transit.from) {
                    self.cross(to, transit.clone());
                }
            }
            (Place::Pair { to }, _) => self.reach(to, transit),
            (Place::Down(to), _) => {
                let Transit { at, from, size, flips, is_copy, payload, .. } = transit;
                self.ready.push_back(Delivery { at, from, to, size, flips, is_copy, payload });
            }
        }
    }

    /// A packet goes from the sender's half towards the port `to`.
    fn cross(&mut self, to: PortId, transit: Transit<P>) {
        let from = transit.from;
        if self.partitions.separate(from.index(), to.index()) {
            self.refuse_at(self.ports[to.index()].down, Cause::Partition, transit);
        } else if let Some(pair) = self.pairs.get(&(from, to)) {
            self.enter(*pair, transit);
        } else {
            self.reach(to, transit);
        }
    }

    fn reach(&mut self, to: PortId, transit: Transit<P>) {
        let Port { down, is_cut, .. } = self.ports[to.index()];
        if is_cut { self.refuse_at(down, Cause::Cut, transit) } else { self.enter(down, transit) }
    }

    fn schedule_head(&mut self, stage: usize) {
        if let Some((at, sequence)) = self.stages[stage].head() {
            self.schedule.push(Reverse((at, sequence, stage)));
        }
    }

    fn discard_stale(&mut self) {
        while let Some(&Reverse((at, sequence, stage))) = self.schedule.peek() {
            if self.stages[stage].head() == Some((at, sequence)) {
                return;
            }
            self.schedule.pop();
        }
    }
}
