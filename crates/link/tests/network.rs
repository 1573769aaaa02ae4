//! The network as a whole: paths, partitions, cuts, and counters that add up.

use std::collections::BTreeMap;

use link::{
    Burst, Cause, Delivery, HalfLink, Loss, Network, PartitionKey, PortId, Profile, Queue, To, Trace, WireSize, Within,
};
use machine::{Rate, Ratio, Seed, Span, Time};
use proptest::prelude::*;

const PACKET: WireSize = WireSize::packet(1000);

fn ms(n: u64) -> Time {
    Time::ZERO + Span::from_millis(n)
}

fn delayed(up: u64, down: u64) -> Profile {
    let half = |delay| HalfLink { delay: Span::from_millis(delay), ..HalfLink::default() };
    Profile { up: half(up), down: half(down) }
}

fn three() -> (Network<u32>, [PortId; 3]) {
    let mut network = Network::new("net", Seed::new(1));
    let ports =
        [("a", 1, 2), ("b", 3, 4), ("c", 5, 6)].map(|(name, up, down)| network.add_port(name, &delayed(up, down)));
    (network, ports)
}

fn drain(network: &mut Network<u32>, now: Time) -> Vec<(Time, PortId, u32)> {
    std::iter::from_fn(|| network.poll(now)).map(|Delivery { at, to, payload, .. }| (at, to, payload)).collect()
}

#[test]
fn a_packet_passes_up_pair_and_down_at_the_models_times() {
    let (mut network, [a, b, _]) = three();
    network.send(ms(0), a, To::Port(b), PACKET, 1);
    assert_eq!(network.deadline(), Some(ms(1)), "it leaves the up half");
    assert_eq!(drain(&mut network, ms(100)), [(ms(5), b, 1)], "however late the poll");
    network.set_pair(a, b, &delayed(80, 0).up);
    network.send(ms(100), a, To::Port(b), PACKET, 2);
    network.send(ms(100), b, To::Port(a), PACKET, 3);
    assert_eq!(drain(&mut network, ms(200)), [(ms(105), a, 3), (ms(185), b, 2)], "a pair has one direction");
    assert_eq!(network.deadline(), None);
}

#[test]
fn a_flood_passes_the_up_half_once_and_reaches_all_others() {
    let (mut network, [a, b, c]) = three();
    network.send(ms(0), a, To::Flood, PACKET, 7);
    assert_eq!(drain(&mut network, ms(100)), [(ms(5), b, 7), (ms(7), c, 7)]);
    let counters = network.counters();
    assert_eq!(counters.ports[a.index()].up.offered.packets, 1);
    assert_eq!(counters.ports[a.index()].down.offered.packets, 0);
}

#[test]
fn partitions_stand_side_by_side_and_leave_those_in_no_list_alone() {
    let (mut network, [a, b, c]) = three();
    network.partition(ms(0), PartitionKey(1), &[vec![a], vec![b]]);
    network.partition(ms(0), PartitionKey(2), &[vec![b], vec![c]]);
    let reached = |network: &mut Network<u32>, now: u64| {
        for (payload, (from, to)) in (0..).zip([(a, b), (b, a), (a, c), (c, b), (c, a)]) {
            network.send(ms(now), from, To::Port(to), PACKET, payload);
        }
        let mut reached: Vec<u32> = drain(network, ms(now + 50)).into_iter().map(|(.., payload)| payload).collect();
        reached.sort();
        reached
    };
    assert_eq!(reached(&mut network, 0), [2, 4]);
    network.heal(ms(50), PartitionKey(1));
    assert_eq!(reached(&mut network, 50), [0, 1, 2, 4]);
    network.heal(ms(100), PartitionKey(2));
    assert_eq!(reached(&mut network, 100), [0, 1, 2, 3, 4]);
}

#[test]
fn a_partition_takes_what_is_beyond_the_up_half_and_spares_what_is_healed_in_time() {
    let (mut network, [a, b, _]) = three();
    network.send(ms(0), a, To::Port(b), PACKET, 1); // in b's down half from 1 to 5 ms
    network.send(ms(1), a, To::Port(b), PACKET, 2); // leaves a's up half at 2 ms
    network.partition(ms(1), PartitionKey(0), &[vec![a], vec![b]]);
    network.heal(ms(2) - Span::from_nanos(1), PartitionKey(0));
    assert_eq!(drain(&mut network, ms(50)), [(ms(6), b, 2)]);
    assert_eq!(network.counters().ports[b.index()].down.dropped.by(Cause::Partition).packets, 1);
}

#[test]
fn a_cut_port_neither_sends_nor_receives_until_it_is_restored() {
    let (mut network, [a, b, c]) = three();
    network.send(ms(0), a, To::Port(c), PACKET, 1); // has left a's link at 1 ms
    network.send(ms(1), a, To::Port(c), PACKET, 2); // would leave it at 2 ms
    network.send(ms(0), b, To::Port(a), PACKET, 3); // reaches a's link at 3 ms
    network.cut(ms(1), a);
    network.send(ms(2), a, To::Flood, PACKET, 4);
    assert_eq!(drain(&mut network, ms(50)), [(ms(7), c, 1)]);
    let counters = network.counters();
    let port = &counters.ports[a.index()];
    assert_eq!((port.up.dropped.cut.packets, port.down.dropped.cut.packets), (2, 1));
    network.restore(ms(50), a);
    network.send(ms(50), a, To::Port(c), PACKET, 5);
    assert_eq!(drain(&mut network, ms(100)), [(ms(57), c, 5)]);
}

#[derive(Clone, Debug)]
enum Step {
    Send { from: usize, to: Option<usize>, bytes: u32 },
    Profile { port: usize, half: HalfLink },
    Partition { key: u64, sides: Vec<usize> },
    Heal { key: u64 },
    Cut { port: usize },
    Restore { port: usize },
    Poll,
}

const PORTS: usize = 4;

fn half() -> impl Strategy<Value = HalfLink> {
    let rate = prop::option::of((1..1000u64).prop_map(Rate::from_mbit));
    let share = || (0..300_000_000u32).prop_map(|parts| Ratio::from_parts_per_billion(parts).expect("below one"));
    let queue = prop::option::of((0..5u32).prop_map(Queue::Packets));
    let trace = prop::option::of(prop::collection::vec(1..4u32, 1..9).prop_map(|mut instants| {
        instants.sort_unstable();
        let lines: String = instants.iter().map(|instant| format!("{instant}\n")).collect();
        Trace::parse("t", &lines).expect("a trace")
    }));
    let burst = (share(), share(), share(), share()).prop_map(|(p, r, good, bad)| Burst { p, r, good, bad });
    let drop = prop::collection::vec((1..40u64).prop_map(|first| format!("{first}-{}", first + 2)), 0..3);
    let lost = (share(), prop::option::of(burst), drop);
    let mangled = (share(), share(), share());
    let speed = (rate, trace);
    (speed, 0..3000u64, 0..1000u64, queue, lost, mangled).prop_map(|(speed, delay, jitter, queue, lost, mangled)| {
        HalfLink {
            rate: speed.0,
            trace: speed.1,
            delay: Span::from_micros(delay),
            jitter: Span::from_micros(jitter),
            loss: lost.0,
            burst: lost.1,
            drop: lost.2.iter().map(|range| range.parse().expect("a range")).collect(),
            reorder: mangled.0,
            duplicate: mangled.1,
            corrupt: mangled.2,
            queue,
        }
    })
}

fn step() -> impl Strategy<Value = Step> {
    let port = || 0..PORTS;
    prop_oneof![
        12 => (port(), prop::option::of(port()), 60..1514u32).prop_map(|(from, to, bytes)| Step::Send { from, to, bytes }),
        1 => (port(), half()).prop_map(|(port, half)| Step::Profile { port, half }),
        1 => (0..3u64, prop::collection::vec(0..3usize, PORTS)).prop_map(|(key, sides)| Step::Partition { key, sides }),
        1 => (0..3u64).prop_map(|key| Step::Heal { key }),
        1 => port().prop_map(|port| Step::Cut { port }),
        1 => port().prop_map(|port| Step::Restore { port }),
        4 => Just(Step::Poll),
    ]
}

/// Names a half link of the test's network, which has one pair.
fn place(within: Within, from: PortId) -> [usize; 2] {
    match within {
        Within::Up => [0, from.index()],
        Within::Pair(_) => [1, 0],
        Within::Down(to) => [2, to.index()],
    }
}

proptest! {
    /// Whatever happens, every half's counters add up at every step and are what is told of each packet that is dropped, deliveries come in the order of their times and
    /// within them each way keeps its order unless a half reorders or duplicates, nothing crosses a standing partition or reaches a cut port, and in the end
    /// nothing is left.
    #[test]
    fn counters_add_up_and_barriers_hold(
        seed: u64, in_order: bool, halves in prop::collection::vec(half(), PORTS), steps in prop::collection::vec((step(), 0..500u64), 1..300),
    ) {
        let settle = |half: HalfLink| match in_order {
            true => HalfLink { reorder: Ratio::ZERO, duplicate: Ratio::ZERO, ..half },
            false => half,
        };
        let halves: Vec<HalfLink> = halves.into_iter().map(settle).collect();
        let mut network = Network::new("net", Seed::new(seed));
        network.keep_losses();
        let mut lost: BTreeMap<(Cause, [usize; 2]), u64> = BTreeMap::new();
        let ports: Vec<PortId> =
            halves.iter().enumerate().map(|(k, half)| network.add_port(&k.to_string(), &Profile::symmetric(half.clone()))).collect();
        network.set_pair(ports[0], ports[1], &halves[2]);
        let (mut sides, mut cut) = (vec![vec![0; PORTS]; 3], [false; PORTS]);
        let (mut now, mut latest, mut newest, mut sent) = (Time::ZERO, Time::ZERO, [[0; PORTS]; PORTS], 0u32);
        for (step, pause) in steps {
            now += Span::from_micros(pause);
            // What came before this step was still under the old barriers.
            for delivery in std::iter::from_fn(|| network.poll(now)) {
                let (from, to) = (delivery.from.index(), delivery.to.index());
                prop_assert!(delivery.at >= latest && delivery.at <= now);
                latest = delivery.at;
                prop_assert!(!cut[to], "a delivery to a cut port");
                let is_apart = |sides: &Vec<usize>| sides[from] != 0 && sides[to] != 0 && sides[from] != sides[to];
                prop_assert!(!sides.iter().any(is_apart), "a delivery across a partition");
                prop_assert!(!in_order || delivery.payload > newest[from][to], "overtaken");
                newest[from][to] = delivery.payload;
            }
            match step {
                Step::Send { from, to, bytes } => {
                    sent += 1;
                    let to = to.map_or(To::Flood, |to| To::Port(ports[to]));
                    network.send(now, ports[from], to, WireSize::packet(bytes), sent);
                }
                Step::Profile { port, half } => network.set_profile(now, ports[port], &Profile::symmetric(settle(half))),
                Step::Partition { key, sides: new } => {
                    let list = |side| (0..PORTS).filter(|port| new[*port] == side).map(|port| ports[port]).collect();
                    network.partition(now, PartitionKey(key), &[list(1), list(2)]);
                    sides[key as usize] = new;
                }
                Step::Heal { key } => {
                    network.heal(now, PartitionKey(key));
                    sides[key as usize] = vec![0; PORTS];
                }
                Step::Cut { port } => {
                    network.cut(now, ports[port]);
                    cut[port] = true;
                }
                Step::Restore { port } => {
                    network.restore(now, ports[port]);
                    cut[port] = false;
                }
                Step::Poll => {}
            }
            for half in network.counters().halves() {
                prop_assert!(half.adds_up(), "{half:?}");
            }
            while let Some(Loss { at, cause, within, from, .. }) = network.poll_loss() {
                prop_assert!(at <= now);
                *lost.entry((cause, place(within, from))).or_default() += 1;
            }
        }
        while network.poll(Time::MAX).is_some() {}
        prop_assert_eq!(network.deadline(), None);
        while let Some(Loss { cause, within, from, .. }) = network.poll_loss() {
            *lost.entry((cause, place(within, from))).or_default() += 1;
        }
        let counters = network.counters();
        let halves = counters.ports.iter().enumerate().flat_map(|(k, port)| [([0, k], &port.up), ([2, k], &port.down)]);
        for (place, half) in halves.chain([([1, 0], &counters.pairs[0].half)]) {
            for cause in [Cause::Loss, Cause::Queue, Cause::Partition, Cause::Cut, Cause::Overflow] {
                let told = lost.get(&(cause, place)).copied().unwrap_or(0);
                prop_assert_eq!(told, half.dropped.by(cause).packets, "{:?} in {:?}", cause, place);
            }
        }
        for half in counters.halves() {
            prop_assert!(half.adds_up() && half.in_flight.packets == 0, "{half:?}");
        }
    }
}
