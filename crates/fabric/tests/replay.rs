//! A relay whose links change, part and die while packets pass decides what the model decides: given the arrivals that it has
//! recorded and the instants at which it says that it changed, the model with the same seed decides the same, packet by
//! packet.

#[path = "../../../tests/support/fates.rs"]
mod fates;
mod lab;
#[allow(dead_code, reason = "what captures count is not asked for here")]
#[path = "../../../tests/support/pcapng.rs"]
mod pcapng;

use std::collections::BTreeSet;
use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use fabric::relay::{CaptureSummary, NetworkConfig, Relay, RelayConfig, RelayHandle, RelayPort};
use fates::{Fate, Sent};
use lab::Node;
use link::{HalfLink, Network, NetworkCounters, PartitionKey, PortId, Profile, To, Trace, WireSize};
use machine::{Rate, Ratio, Seed, Span, Time};
use nix::sys::time::TimeSpec;

const SEED: Seed = Seed::new(23);
const KEY: PartitionKey = PartitionKey(1);

fn share(text: &str) -> Ratio {
    text.parse().expect("a share")
}

/// A line that loses, doubles and damages, and makes packets wait.
fn rough() -> Profile {
    let up = HalfLink {
        rate: Some(Rate::from_mbit(20)),
        delay: Span::from_millis(4),
        jitter: Span::from_millis(1),
        loss: share("5%"),
        duplicate: share("3%"),
        corrupt: share("4%"),
        ..HalfLink::default()
    };
    Profile { up, down: HalfLink { delay: Span::from_millis(2), ..HalfLink::default() } }
}

/// A line that delivers by a trace, with a gap.
fn traced() -> Profile {
    let instants = (0..40).map(|at| at * 2).chain(100..140).map(|at| format!("{at}\n"));
    let trace = Trace::parse("gap", &instants.collect::<String>()).expect("a trace");
    let down = HalfLink { trace: Some(trace), delay: Span::from_millis(1), ..HalfLink::default() };
    Profile { up: HalfLink { delay: Span::from_millis(3), ..HalfLink::default() }, down }
}

fn other() -> Profile {
    let half = HalfLink { delay: Span::from_millis(30), reorder: share("10%"), ..HalfLink::default() };
    Profile { up: half, down: HalfLink { loss: share("10%"), ..HalfLink::default() } }
}

/// What happens to the links, besides packets.
#[derive(Clone, Copy, Debug)]
enum Change {
    Worsen(usize),
    Restore(usize),
    Part,
    Heal,
    Cut(usize),
    Join(usize),
    BeginTraces,
}

const CHANGES: [Change; 8] = [
    Change::BeginTraces,
    Change::Worsen(0),
    Change::Part,
    Change::Restore(0),
    Change::Heal,
    Change::Cut(1),
    Change::Worsen(2),
    Change::Join(1),
];

fn profiles() -> [Profile; 3] {
    [rough(), traced(), rough()]
}

/// Has the relay change; when it did.
fn change(relay: &RelayHandle, change: Change) -> Time {
    let port = |port| RelayPort { network: 0, port };
    let changed = match change {
        Change::Worsen(at) => relay.set_profile(port(at), other()),
        Change::Restore(at) => relay.set_profile(port(at), profiles()[at].clone()),
        Change::Part => relay.partition(KEY, vec![vec![port(0)], vec![port(1), port(2)]]),
        Change::Heal => relay.heal(KEY),
        Change::Cut(at) => relay.cut(port(at)),
        Change::Join(at) => relay.restore(port(at)),
        Change::BeginTraces => relay.begin_traces(),
    };
    changed.expect("the relay runs")
}

/// The same, of the model.
fn repeat(network: &mut Network<u64>, ports: &[PortId], at: Time, change: Change) {
    match change {
        Change::Worsen(port) => network.set_profile(at, ports[port], &other()),
        Change::Restore(port) => network.set_profile(at, ports[port], &profiles()[port]),
        Change::Part => network.partition(at, KEY, &[vec![ports[0]], vec![ports[1], ports[2]]]),
        Change::Heal => network.heal(at, KEY),
        Change::Cut(port) => network.cut(at, ports[port]),
        Change::Join(port) => network.restore(at, ports[port]),
        Change::BeginTraces => network.begin_traces(at),
    }
}

/// What a model decides about the packets that were sent, if it changes at these instants.
fn decided(sent: &Sent, nodes: &[Node], changes: &[(Time, Change)], epoch: u64) -> BTreeSet<Fate> {
    let mut network: Network<u64> = Network::new("net", SEED);
    let ports: Vec<PortId> =
        (1..).zip(profiles()).map(|(number, profile)| network.add_port(&format!("node-{number}"), &profile)).collect();
    network.keep_losses();
    let mut fates = BTreeSet::new();
    let mut changes = changes.iter().peekable();
    for (id, (from, packet)) in sent {
        let at = Time::from_nanos(packet.at - epoch);
        // What had arrived before a change went before it.
        while let Some((changed, change)) = changes.next_if(|(changed, _)| *changed <= at) {
            repeat(&mut network, &ports, *changed, *change);
            fates::collect(&mut network, *changed, sent, &mut fates);
        }
        let owner = nodes.iter().position(|node| node.mac() == packet.frame[..6]);
        let to = owner.map_or(To::Flood, |to| To::Port(ports[to]));
        network.send(at, ports[*from], to, WireSize::packet(packet.frame.len() as u32), *id);
        fates::collect(&mut network, at, sent, &mut fates);
    }
    for (at, change) in changes {
        repeat(&mut network, &ports, *at, *change);
        fates::collect(&mut network, *at, sent, &mut fates);
    }
    fates::collect(&mut network, Time::MAX, sent, &mut fates);
    fates
}

/// Sends from every node to every other, with the changes in between; when those took effect.
fn send_and_change(relay: &RelayHandle, nodes: &[Node]) -> Vec<(Time, Change)> {
    let address = |node: &Node| SocketAddr::new(node.addresses()[0], 7);
    let sockets: Vec<UdpSocket> = nodes
        .iter()
        .map(|node| {
            let at = address(node);
            node.spawn(move || UdpSocket::bind(at).expect("a free port")).join().expect("it is bound")
        })
        .collect();
    let mut changes = Vec::new();
    for round in CHANGES {
        for turn in 0..40 {
            for (from, socket) in sockets.iter().enumerate() {
                let to = address(&nodes[(from + 1 + turn % 2) % nodes.len()]);
                // Nobody reads what arrives, and nobody answers either.
                socket.send_to(&[turn as u8; 300], to).expect("the interface is up");
            }
            // A pause, so that packets are under way when links change. However long it is, the model knows.
            let pause = TimeSpec::from_duration(Duration::from_micros(300));
            let _nothing_is_waited_for = nix::poll::ppoll(&mut [], Some(pause), None);
        }
        changes.push((change(relay, round), round));
    }
    changes
}

fn await_rest(relay: &RelayHandle) {
    loop {
        let snapshot = relay.snapshot().expect("the relay runs");
        let halves = snapshot.networks.iter().flat_map(NetworkCounters::halves);
        if halves.map(|half| half.in_flight.packets).sum::<u64>() == 0 {
            return;
        }
        std::thread::yield_now();
    }
}

#[test]
fn the_model_decides_again_what_a_changing_relay_has_recorded() {
    const NAME: &str = "the_model_decides_again_what_a_changing_relay_has_recorded";
    if !lab::is_inside() {
        assert!(lab::enter(&[NAME, "--exact", "--nocapture", "--test-threads=1"], true).success());
        return;
    }
    let folder = tempfile::tempdir().expect("a temporary folder");
    let folder = folder.path().join("pcap");
    let nodes = [1, 2, 3].map(|number| Node::new(number, false));
    let ports = nodes.iter().zip(profiles()).map(|(node, profile)| node.port(profile, false)).collect();
    let networks = vec![NetworkConfig { name: "net".to_owned(), mtu: 1500, ports, pairs: Vec::new(), uplink: None }];
    let memory = RelayConfig::DEFAULT_MEMORY;
    let config = RelayConfig { networks, seed: SEED, memory, capture: Some(folder.clone()), probes: Vec::new() };
    let relay = Relay::start(config).expect("packet sockets are open in a namespace of one's own");
    let changes = send_and_change(&relay, &nodes);
    await_rest(&relay);
    let epoch = relay.capture().expect("it records").epoch;
    let ending = relay.end_capture().expect("the relay runs").expect("it records");
    let CaptureSummary { unrecorded, failed, .. } = ending.wait();
    assert_eq!((unrecorded, failed), (0, None));

    let captures: Vec<_> =
        (1..=3).map(|number| pcapng::read(&folder.join(format!("node-{number}.eth0.pcapng")))).collect();
    let (sent, recorded) = fates::recorded(&captures);
    let recorded: BTreeSet<Fate> = recorded.into_iter().map(|fate| Fate { at: fate.at - epoch, ..fate }).collect();
    let decided = decided(&sent, &nodes, &changes, epoch);
    let (missing, surplus): (Vec<_>, Vec<_>) =
        (decided.difference(&recorded).collect(), recorded.difference(&decided).collect());
    assert!(missing.is_empty() && surplus.is_empty(), "decided only: {missing:#?}\nrecorded only: {surplus:#?}");

    // It says something only if everything happened.
    assert!(sent.len() >= 900, "{} sent", sent.len());
    for cause in ["loss (up)", "loss (down)", "cut (up)", "cut (down)"] {
        let count = recorded.iter().filter(|fate| fate.dropped.as_deref() == Some(cause)).count();
        assert!(count > 0, "no {cause}");
    }
    let parted = |fate: &&Fate| fate.dropped.as_deref().is_some_and(|cause| cause.starts_with("partition"));
    assert!(recorded.iter().filter(parted).count() > 0, "no partition");
    assert!(recorded.iter().any(|fate| fate.is_copy) && recorded.iter().any(|fate| !fate.flips.is_empty()));
}
