//! Whatever happens to a network and to the programs on it, each packet is accounted for, at every instant.
#![allow(clippy::unwrap_used, reason = "in a test it is an assertion")]

use event::{Direction, Event, LinkCount, NodeInfo, NodeReport, Record, RunState};
use link::{Burst, HalfLink, Network, PartitionKey, PortId, Profile, Queue, To, WireSize};
use machine::{Rate, Ratio, Seed, Span, Time};
use p2mp::LossService;
use proptest::prelude::*;

const NODES: usize = 4;

/// What can happen next.
#[derive(Clone, Debug)]
enum Step {
    Send {
        from: usize,
        to: Option<usize>,
        bytes: u32,
        burst: u8,
    },
    Wait(Span),
    Cut(usize),
    Restore(usize),
    Partition {
        key: u64,
        sides: [u8; NODES],
    },
    Heal(u64),
    Change(usize, Box<Profile>),
    /// The program is killed; the next has a loss service of its own.
    Revive(usize),
}

fn share() -> impl Strategy<Value = Ratio> {
    prop_oneof![Just(0), 0..400_000_000u32].prop_map(|parts| Ratio::from_parts_per_billion(parts).unwrap())
}

prop_compose! {
    fn half()(
        rate in prop::option::of(100_000..50_000_000u64),
        delay in 1..20_000u64,
        jitter in prop_oneof![Just(0), 0..20_000u64],
        loss in share(),
        bursts in any::<bool>(),
        reorder in share(),
        duplicate in share(),
        corrupt in share(),
        queue in prop::option::of(1..20u32),
    ) -> HalfLink {
        let burst = bursts.then(|| Burst {
            p: "5%".parse().unwrap(),
            r: "30%".parse().unwrap(),
            good: Ratio::ZERO,
            bad: Ratio::ONE,
        });
        HalfLink {
            rate: rate.map(Rate::from_bits_per_sec),
            delay: Span::from_micros(delay),
            jitter: Span::from_micros(jitter.min(delay)),
            loss: if bursts { Ratio::ZERO } else { loss },
            burst,
            reorder,
            duplicate,
            corrupt,
            queue: queue.map(Queue::Packets),
            ..HalfLink::default()
        }
    }
}

fn profile() -> impl Strategy<Value = Profile> {
    (half(), half()).prop_map(|(up, down)| Profile { up, down })
}

fn step() -> impl Strategy<Value = Step> {
    let node = || 0..NODES;
    prop_oneof![
        12 => (node(), prop::option::of(node()), 60..1514u32, 1..20u8)
            .prop_map(|(from, to, bytes, burst)| Step::Send { from, to, bytes, burst }),
        6 => (0..30_000u64).prop_map(|micros| Step::Wait(Span::from_micros(micros))),
        1 => node().prop_map(Step::Cut),
        1 => node().prop_map(Step::Restore),
        1 => (0..3u64, prop::array::uniform4(0..3u8)).prop_map(|(key, sides)| Step::Partition { key, sides }),
        1 => (0..3u64).prop_map(Step::Heal),
        1 => (node(), profile()).prop_map(|(node, profile)| Step::Change(node, Box::new(profile))),
        1 => node().prop_map(Step::Revive),
    ]
}

/// A network with a program in each node that throws a share of what reaches it away.
struct World {
    now: Time,
    network: Network<()>,
    ports: Vec<PortId>,
    programs: Vec<LossService>,
    log: Vec<Event>,
}

impl World {
    fn new(profiles: &[Profile], pair: &HalfLink) -> Self {
        let mut network = Network::new("net", Seed::new(3));
        let ports: Vec<PortId> =
            profiles.iter().enumerate().map(|(at, profile)| network.add_port(&name(at), profile)).collect();
        network.set_pair(ports[0], ports[1], pair);
        let programs = (0..NODES as u64).map(|at| LossService::new("20%".parse().unwrap(), Seed::new(at))).collect();
        let nodes = (0..NODES).map(|at| NodeInfo {
            name: name(at),
            group: name(at),
            program: "p2mp-receiver".into(),
            addresses: vec![],
        });
        let began = Event::RunBegan {
            name: "t".into(),
            file: "t.yaml".into(),
            seed: Seed::new(3),
            engine: "sim".into(),
            version: "0".into(),
            unix_ms: 0,
            timeout: Span::from_secs(1),
            nodes: nodes.collect(),
            networks: vec![],
            faults: vec![],
            expectations: vec![],
            repeat: String::new(),
        };
        World { now: Time::ZERO, network, ports, programs, log: vec![began] }
    }

    fn take(&mut self, step: &Step) {
        let (now, network) = (self.now, &mut self.network);
        match step {
            Step::Send { from, to, bytes, burst } => {
                let to = to.map_or(To::Flood, |to| To::Port(self.ports[to]));
                for _ in 0..*burst {
                    network.send(now, self.ports[*from], to, WireSize::packet(*bytes), ());
                }
            }
            Step::Wait(span) => self.now += *span,
            Step::Cut(node) => network.cut(now, self.ports[*node]),
            Step::Restore(node) => network.restore(now, self.ports[*node]),
            Step::Partition { key, sides } => {
                let list = |side| (0..NODES).filter(|at| sides[*at] == side).map(|at| self.ports[at]).collect();
                let lists: Vec<Vec<PortId>> = [1, 2].map(list).to_vec();
                network.partition(now, PartitionKey(*key), &lists);
            }
            Step::Heal(key) => network.heal(now, PartitionKey(*key)),
            Step::Change(node, profile) => network.set_profile(now, self.ports[*node], profile),
            Step::Revive(node) => {
                self.report(*node);
                let (node, incarnation) = (name(*node), 1);
                let status = event::ExitStatus::Signal(9);
                let cause = event::EndCause::Fault;
                self.log.push(Event::NodeExited { node: node.clone(), incarnation, status, cause });
                self.log.push(Event::NodeStarted { node: node.clone(), incarnation: 2 });
                let seed = Seed::new(self.log.len() as u64);
                let at = self.ports.iter().position(|port| name(port.index()) == node).unwrap();
                self.programs[at] = LossService::new("20%".parse().unwrap(), seed);
            }
        }
        while let Some(delivery) = self.network.poll(self.now) {
            self.programs[delivery.to.index()].discards();
        }
    }

    fn report(&mut self, node: usize) {
        let tally = self.programs[node].tally().unwrap();
        let report = NodeReport::Discarded { arrived: tally.arrived, discarded: tally.discarded };
        self.log.push(Event::NodeReported { node: name(node), incarnation: 1, report });
    }

    /// The state that a run's log would give which ended here.
    fn state(&mut self) -> RunState {
        let kept = self.log.len();
        (0..NODES).for_each(|node| self.report(node));
        let counters = self.network.counters();
        for port in &counters.ports {
            for (direction, half) in [(Direction::Up, &port.up), (Direction::Down, &port.down)] {
                self.log.push(Event::LinkCounted(scenario::link_count(&port.label, "net", direction, half)));
            }
        }
        self.log.extend(scenario::pair_counts(&counters).map(Event::LinkCounted));
        let mut state = RunState::default();
        self.log.iter().for_each(|event| state.apply(&Record::new(Span::ZERO, event.clone())));
        self.log.truncate(kept);
        state
    }
}

fn name(at: usize) -> String {
    format!("node-{at}")
}

fn sum(state: &RunState, of: impl Fn(&LinkCount) -> u64, is: impl Fn(Direction) -> bool) -> u64 {
    state.links.iter().filter(|count| is(count.direction)).map(of).sum()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn every_packet_is_in_one_place_at_every_instant(
        profiles in prop::collection::vec(profile(), NODES),
        pair in half(),
        steps in prop::collection::vec(step(), 1..60),
    ) {
        let mut world = World::new(&profiles, &pair);
        let (mut floods, mut arrived) = (false, 0);
        for step in &steps {
            floods |= matches!(step, Step::Send { to: None, .. });
            world.take(step);
            let state = world.state();
            for account in state.accounts() {
                prop_assert!(account.adds_up(), "{account:?} after {step:?}");
                if let Some(discards) = account.program {
                    // Here every packet is a datagram for the program, so not one may be missing.
                    prop_assert_eq!(discards.arrived, account.count.delivered);
                    prop_assert_eq!(discards.kept() + discards.discarded, discards.arrived);
                }
            }
            prop_assert_eq!(state.unplaced_discards().count(), 0);
            // What leaves a half enters the next, but that floods are as many as there are others.
            let left = sum(&state, |count| count.delivered, |half| half != Direction::Down);
            let entered = sum(&state, |count| count.offered, |half| half != Direction::Up);
            prop_assert!(left == entered || floods && left < entered, "{left} left, {entered} entered");
            let now = sum(&state, |count| count.delivered, |half| half == Direction::Down);
            prop_assert!(now >= arrived, "what has arrived stays so");
            arrived = now;
        }
    }
}
