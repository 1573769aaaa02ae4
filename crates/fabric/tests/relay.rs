//! The relay between real namespaces, made as an ordinary user would: in a user namespace.

mod lab;

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::mpsc;
use std::time::Duration;

use fabric::clock;
use fabric::relay::{NetworkConfig, Relay, RelayConfig, RelayHandle, RelayPort, RelayStopped};
use lab::Node;
use link::{HalfLink, PartitionKey, Profile};
use machine::{Seed, Span, Time};

const A: RelayPort = RelayPort { network: 0, port: 0 };
const B: RelayPort = RelayPort { network: 0, port: 1 };

/// Runs the body of the test called `name` in a process with namespaces of its own.
fn in_lab(name: &str, body: impl FnOnce()) {
    if lab::is_inside() {
        return body();
    }
    assert!(lab::enter(&[name, "--exact", "--nocapture", "--test-threads=1"], true).success());
}

fn start(nodes: &[&Node], up: HalfLink, offload: bool) -> RelayHandle {
    let profile = Profile { up, down: HalfLink::default() };
    let ports = nodes.iter().map(|node| node.port(profile.clone(), offload)).collect();
    let networks = vec![NetworkConfig { name: "net".to_owned(), mtu: 1500, ports, pairs: Vec::new(), uplink: None }];
    let config = RelayConfig {
        networks,
        seed: Seed::new(1),
        memory: RelayConfig::DEFAULT_MEMORY,
        capture: None,
        probes: Vec::new(),
    };
    Relay::start(config).expect("packet sockets are open in a namespace of one's own")
}

fn delayed(millis: u64) -> HalfLink {
    HalfLink { delay: Span::from_millis(millis), ..HalfLink::default() }
}

fn socket(node: &Node, address: IpAddr) -> UdpSocket {
    let socket = node
        .spawn(move || UdpSocket::bind(SocketAddr::new(address, 7)).expect("a free port"))
        .join()
        .expect("it is bound");
    // Only so that a broken relay makes a failure and not a hang.
    socket.set_read_timeout(Some(Duration::from_secs(20))).expect("a valid time");
    socket
}

fn receive(socket: &UdpSocket) -> Vec<u8> {
    let mut buffer = [0; 2000];
    let (length, _) = socket.recv_from(&mut buffer).expect("a packet arrives");
    buffer[..length].to_vec()
}

#[test]
fn packets_of_both_families_take_the_delay_and_are_counted() {
    in_lab("packets_of_both_families_take_the_delay_and_are_counted", || {
        let nodes = [1, 2].map(|number| Node::new(number, false));
        let relay = start(&[&nodes[0], &nodes[1]], delayed(20), false);
        for (from, to) in nodes[0].addresses().into_iter().zip(nodes[1].addresses()) {
            let (sender, receiver) = (socket(&nodes[0], from), socket(&nodes[1], to));
            let sent = clock::now();
            sender.send_to(b"there", receiver.local_addr().unwrap()).unwrap();
            assert_eq!(receive(&receiver), b"there");
            let took = clock::now() - sent;
            // ARP and discovery, which come first, are answered at once.
            assert!(took >= Span::from_millis(20), "{from} to {to} took {took} of at least 20 ms");
        }
        let snapshot = relay.stop().expect("the relay ran to its end");
        assert_eq!(snapshot.own_losses(), 0);
        let port = &snapshot.networks[0].ports[1];
        assert!(port.down.delivered.packets >= 2 && snapshot.refusals[0][0].answered >= 2, "{snapshot:?}");
        assert!(snapshot.networks[0].halves().all(|half| half.adds_up()));
    });
}

/// Whoever changes its CPU may overtake itself in the kernel's queues, before the relay and behind it.
fn stay_on_this_cpu() {
    let mut here = nix::sched::CpuSet::new();
    here.set(nix::sched::sched_getcpu().expect("a CPU")).expect("one that a set can hold");
    nix::sched::sched_setaffinity(nix::unistd::Pid::from_raw(0), &here).expect("a CPU that is allowed");
}

#[test]
fn what_is_lost_is_what_the_counters_say() {
    in_lab("what_is_lost_is_what_the_counters_say", || {
        let nodes = [1, 2].map(|number| Node::new(number, false));
        // The relay's thread, too.
        stay_on_this_cpu();
        let relay = start(&[&nodes[0], &nodes[1]], HalfLink::default(), false);
        let (sender, receiver) =
            (socket(&nodes[0], nodes[0].addresses()[0]), socket(&nodes[1], nodes[1].addresses()[0]));
        let send = |bytes: &[u8]| sender.send_to(bytes, receiver.local_addr().unwrap()).unwrap();
        let up = || relay.snapshot().expect("the relay runs").networks[0].ports[0].up;
        // What waits for the first answer to ARP may be overtaken, before the relay, by what is sent after that.
        send(b"hello");
        assert_eq!(receive(&receiver), b"hello");
        let lossy =
            HalfLink { loss: "20%".parse().expect("a share"), delay: Span::from_millis(1), ..HalfLink::default() };
        relay.set_profile(A, Profile { up: lossy, down: HalfLink::default() }).expect("the relay runs");
        let before = up().offered.bytes;
        let count = 200u32; // fits into the receiver's buffer, which counts 768 bytes for each
        (0..count).for_each(|k| assert_eq!(send(&k.to_ne_bytes()), 4));
        while up().offered.bytes < before + u64::from(count) * (14 + 20 + 8 + 4) {
            std::thread::yield_now();
        }
        relay.set_profile(A, Profile::default()).expect("the relay runs");
        send(b"the end");
        let received: Vec<Vec<u8>> =
            std::iter::from_fn(|| Some(receive(&receiver)).filter(|bytes| bytes != b"the end")).collect();
        let numbers: Vec<u32> =
            received.iter().map(|bytes| u32::from_ne_bytes(bytes[..].try_into().unwrap())).collect();
        assert!(numbers.is_sorted(), "order is kept");
        let snapshot = relay.stop().expect("the relay ran to its end");
        let lost = snapshot.networks[0].ports[0].up.dropped.loss.packets;
        // 200 at 20 %: 40 ± 5 σ of 5.7; the same each time, as the seed is.
        assert!((12..=68).contains(&lost), "{lost} of {count}");
        // Other packets that nodes send by themselves (MLD, router solicitations) may be among the lost.
        let missing = u64::from(count) - numbers.len() as u64;
        assert!(missing <= lost && lost <= missing + 20, "{missing} missing, {lost} lost");
        assert_eq!(snapshot.own_losses(), 0);
    });
}

#[test]
fn cuts_and_partitions_hold_from_their_acknowledgement_until_undone() {
    in_lab("cuts_and_partitions_hold_from_their_acknowledgement_until_undone", || {
        let nodes = [1, 2].map(|number| Node::new(number, false));
        let relay = start(&[&nodes[0], &nodes[1]], HalfLink::default(), false);
        let (sender, receiver) =
            (socket(&nodes[0], nodes[0].addresses()[0]), socket(&nodes[1], nodes[1].addresses()[0]));
        let send = |text: &str| sender.send_to(text.as_bytes(), receiver.local_addr().unwrap()).unwrap();
        send("before");
        assert_eq!(receive(&receiver), b"before");
        let key = PartitionKey(3);
        type Command<'a> = &'a dyn Fn() -> Result<Time, RelayStopped>;
        let barriers: [(Command<'_>, Command<'_>); 3] = [
            (&|| relay.cut(A), &|| relay.restore(A)),
            (&|| relay.cut(B), &|| relay.restore(B)),
            (&|| relay.partition(key, vec![vec![A], vec![B]]), &|| relay.heal(key)),
        ];
        let lost = || {
            let snapshot = relay.snapshot().expect("the relay runs");
            let [a, b] = [0, 1].map(|port| &snapshot.networks[0].ports[port]);
            a.up.dropped.cut.bytes + b.down.dropped.cut.bytes + b.down.dropped.partition.bytes
        };
        for (raise, lower) in barriers {
            raise().expect("the relay runs");
            let before = lost();
            // Larger than all that a node might send by itself.
            send(&"never".repeat(280));
            while lost() < before + 1400 {
                std::thread::yield_now();
            }
            lower().expect("the relay runs");
            send("after");
            assert_eq!(receive(&receiver), b"after");
        }
        let snapshot = relay.stop().expect("the relay ran to its end");
        let [a, b] = [0, 1].map(|port| &snapshot.networks[0].ports[port]);
        assert!(
            a.up.dropped.cut.packets >= 1 && b.down.dropped.cut.packets >= 1 && b.down.dropped.partition.packets >= 1
        );
    });
}

/// Sends 24 MB from the first node to the second and compares them.
fn transfer(nodes: &[Node; 2]) {
    let address = SocketAddr::new(nodes[1].addresses()[1], 80);
    let block: Vec<u8> = (0..1 << 20).map(|k: u32| (k.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let expected = block.repeat(24);
    let (listening, is_listening) = mpsc::channel();
    let receiver = nodes[1].spawn(move || {
        let listener = TcpListener::bind(address).expect("a free port");
        listening.send(()).expect("the test waits");
        let mut received = Vec::new();
        listener.accept().expect("the sender connects").0.read_to_end(&mut received).expect("to the end");
        received == expected
    });
    is_listening.recv().expect("the receiver lives");
    let sender = nodes[0].spawn(move || {
        let mut stream = TcpStream::connect(address).expect("the receiver listens");
        (0..24).for_each(|_| stream.write_all(&block).expect("the receiver reads"));
    });
    sender.join().expect("all is sent");
    assert!(receiver.join().expect("the receiver ends"), "the bytes differ");
}

#[test]
fn trains_pass_whole_where_nothing_shows_them() {
    in_lab("trains_pass_whole_where_nothing_shows_them", || {
        let nodes = [1, 2].map(|number| Node::new(number, true));
        let relay = start(&[&nodes[0], &nodes[1]], delayed(1), true);
        transfer(&nodes);
        let snapshot = relay.stop().expect("the relay ran to its end");
        let delivered = snapshot.networks[0].ports[1].down.delivered;
        assert!(delivered.packets > snapshot.lateness.count(), "no train among {} frames", snapshot.lateness.count());
        // 24 MiB in segments of 1440 or 1428 bytes, each with headers of 74 or 86.
        assert!(delivered.bytes > 26_400_000, "{delivered:?}");
        assert_eq!(snapshot.own_losses(), 0);
    });
}

#[test]
fn trains_are_cut_where_each_packet_has_a_fate_of_its_own() {
    in_lab("trains_are_cut_where_each_packet_has_a_fate_of_its_own", || {
        let nodes = [1, 2].map(|number| Node::new(number, true));
        let lossy = HalfLink { loss: "0.1%".parse().expect("a share"), ..delayed(1) };
        let relay = start(&[&nodes[0], &nodes[1]], lossy, true);
        transfer(&nodes);
        let snapshot = relay.stop().expect("the relay ran to its end");
        assert_eq!(snapshot.delivered().packets, snapshot.lateness.count(), "a train got through");
        assert!(snapshot.networks[0].ports[0].up.dropped.loss.packets > 0);
        assert_eq!(snapshot.own_losses(), 0);
    });
}
