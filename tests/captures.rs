//! What passes on links can be recorded, and what is recorded is what the model decides.

mod support;

use std::collections::BTreeSet;
use std::process::Command;

use event::{Direction, Recording, run_directory as names};
use link::{Network, PortId, To, WireSize};
use machine::{Seed, Time};
use support::fates::{self, Fate, Sent, recorded};
use support::pcapng::{self, Capture};
use support::{Place, Run, has_program};
use topology::{Overrides, Plan, Source};

/// Two senders to two receivers each, over links that do everything that a link can do. The receivers leave loss to the
/// links.
const EVERYTHING: &str = r#"
name: everything
seed: 11
timeout: 60s
files: { data: { size: 300kB } }
links:
  all:
    up: { rate: 20Mbit, delay: 2ms, loss: 1%, duplicate: 2%, corrupt: 1% }
    down: { rate: 10Mbit, delay: 3ms, jitter: 1ms, burst: { p: 1%, r: 30% }, reorder: 3%, duplicate: 1%, corrupt: 2%, queue: 20 }
pairs:
  - { from: sender-2, to: receiver-2, link: { delay: 4ms, loss: 2%, drop: [5, 20-22] } }
nodes:
  sender: { count: 2, role: p2mp-sender, to: [receiver-1, receiver-2], file: data, mss: 1000, timeout: 60ms, give-up: 20s, link: all }
  receiver: { count: 2, role: p2mp-receiver, out: data, link: all }
expect:
  receiver-1: { exit: 0 }
"#;

/// A quiet network, which without `--pcap` would be a bridge.
const QUIET: &str = r#"
name: quiet
seed: 3
files: { data: { size: 200kB } }
nodes:
  sender: { role: p2mp-sender, to: receiver, file: data }
  receiver: { role: p2mp-receiver, out: data }
expect: { sender: { exit: 0 }, receiver: { exit: 0, file: data } }
"#;

/// Runs a topology of this text and records it.
fn record(place: &Place, name: &str, text: &str) -> Run {
    let file = place.write(&format!("{name}.yaml"), text);
    let run = place.run(&file, &["--pcap"]);
    run.expect_status(0);
    run
}

fn plan(text: &str) -> Plan {
    topology::load(&Source::new("t.yaml", text), &Overrides::new(Seed::new(1)))
        .unwrap_or_else(|wrong| panic!("{wrong}"))
}

fn recording(run: &Run) -> Recording {
    run.state().recording.expect("the run tells what it has recorded")
}

/// The file of each node, in the plan's order.
fn captures(run: &Run, plan: &Plan) -> Vec<Capture> {
    let folder = run.directory.join(names::PCAP);
    let nodes = plan.nodes().iter();
    nodes.map(|node| pcapng::read(&folder.join(format!("{}.eth0.pcapng", node.name)))).collect()
}

/// The fates that the model of the plan, with the plan's seed, decides for the packets that were sent.
fn decided(plan: &Plan, sent: &Sent) -> BTreeSet<Fate> {
    let mut network: Network<u64> = Network::new(&plan.networks()[0].name, plan.seed());
    let ports: Vec<PortId> =
        plan.nodes().iter().map(|node| network.add_port(&node.name, &node.interfaces[0].link)).collect();
    for pair in plan.pairs() {
        network.set_pair(ports[pair.from.index()], ports[pair.to.index()], &pair.link);
    }
    network.keep_losses();
    let owner = |frame: &[u8]| plan.nodes().iter().position(|node| node.interfaces[0].mac == frame[..6]);
    let mut fates = BTreeSet::new();
    for (id, (from, packet)) in sent {
        let at = Time::from_nanos(packet.at);
        let to = owner(&packet.frame).map_or(To::Flood, |to| To::Port(ports[to]));
        network.send(at, ports[*from], to, WireSize::packet(packet.frame.len() as u32), *id);
        fates::collect(&mut network, at, sent, &mut fates);
    }
    fates::collect(&mut network, Time::MAX, sent, &mut fates);
    fates
}

/// Given the arrivals that the relay has recorded, the model with the same seed decides what the relay did: for every packet
/// when it arrived, where and why it was dropped, which of its bits were flipped, and whether it came twice. And so although
/// links were measured before: probes take no draws from those that come later.
#[test]
fn the_model_decides_again_what_the_relay_has_recorded() {
    let place = Place::new();
    let run = record(&place, "everything", EVERYTHING);
    let plan = plan(EVERYTHING);
    let measured = run.state().measurements;
    assert!(measured.len() >= 3 && measured.iter().any(|link| link.sent > 0), "{measured:#?}");
    let (sent, mut recorded) = recorded(&captures(&run, &plan));
    assert_eq!(recording(&run).unrecorded, 0, "{:?}", recording(&run));
    let mut decided = decided(&plan, &sent);
    // At the end packets were under way, whose fates the model knows and the relay had not come to.
    let end = recorded.iter().map(|fate| fate.at).max().expect("something was recorded");
    for fates in [&mut recorded, &mut decided] {
        fates.retain(|fate| fate.at < end);
    }
    let (missing, surplus): (Vec<_>, Vec<_>) =
        (decided.difference(&recorded).collect(), recorded.difference(&decided).collect());
    assert!(missing.is_empty() && surplus.is_empty(), "decided only: {missing:#?}\nrecorded only: {surplus:#?}");

    // It says something only if everything happened.
    let count = |is: &dyn Fn(&Fate) -> bool| recorded.iter().filter(|fate| is(fate)).count();
    assert!(sent.len() > 600 && count(&|fate| fate.dropped.is_none()) > 600, "{} sent", sent.len());
    for cause in ["loss (up)", "loss (pair)", "loss (down)"] {
        assert!(count(&|fate| fate.dropped.as_deref() == Some(cause)) > 0, "no {cause}");
    }
    assert!(count(&|fate| fate.is_copy) > 10 && count(&|fate| !fate.flips.is_empty()) > 10);
}

/// The bytes of a packet that arrives are those of the one that was sent, but for the bits that are said to be flipped; its
/// checksums are those of a finished packet wherever nothing was flipped.
#[test]
fn what_arrives_is_what_was_sent_but_for_the_flipped_bits() {
    let place = Place::new();
    let run = record(&place, "everything", EVERYTHING);
    let captures = captures(&run, &plan(EVERYTHING));
    let (sent, _) = recorded(&captures);
    let (mut flipped, mut checked) = (0, 0);
    for packet in captures.iter().flat_map(|capture| &capture.packets) {
        let Some((_, original)) = packet.id.and_then(|id| sent.get(&id)) else { continue };
        let mut expected = original.frame.clone();
        for words in packet.said("corrupted: ") {
            let numbers: Vec<usize> = words.split(' ').filter_map(|word| word.parse().ok()).collect();
            expected[numbers[1]] ^= 1 << numbers[0];
            flipped += 1;
        }
        assert_eq!(packet.frame, expected, "{:?}", packet.comments);
        if packet.said("corrupted: ").is_empty() && udp_checksum_of(&packet.frame).is_some_and(|sum| sum == 0) {
            checked += 1;
        }
    }
    assert!(flipped > 10 && checked > 1000, "{flipped} flipped, {checked} with a right checksum");
    let wrong = sent.values().filter(|(_, packet)| udp_checksum_of(&packet.frame).is_some_and(|sum| sum != 0)).count();
    assert_eq!(wrong, 0, "checksums are completed before a packet is recorded");
}

/// The folded sum over an IPv4 UDP datagram and its pseudo header (RFC 768), complemented: 0 where the checksum is right.
fn udp_checksum_of(frame: &[u8]) -> Option<u16> {
    let is_udp = frame.get(12..14)? == [8, 0] && frame.get(14)? == &0x45 && frame.get(23)? == &17;
    let length = u16::from_be_bytes(frame.get(38..40)?.try_into().ok()?);
    let datagram = frame.get(34..34 + usize::from(length)).filter(|_| is_udp)?;
    let words = frame[26..34].chunks(2).chain(datagram.chunks(2));
    let word = |bytes: &[u8]| u64::from(bytes[0]) << 8 | u64::from(*bytes.get(1).unwrap_or(&0));
    let mut sum = words.map(word).sum::<u64>() + 17 + u64::from(length);
    while sum >> 16 != 0 {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    Some(!(sum as u16))
}

/// A recording is as complete as the counters of the links: they are two accounts of the same packets.
#[test]
fn files_and_counters_tell_the_same() {
    let place = Place::new();
    let run = record(&place, "everything", EVERYTHING);
    let plan = plan(EVERYTHING);
    let state = run.state();
    assert!(state.links.iter().all(event::LinkCount::adds_up), "{:#?}", state.links);
    let captures = captures(&run, &plan);
    let counted = recording(&run);
    assert_eq!(counted.packets, captures.iter().map(|capture| capture.packets.len() as u64).sum::<u64>());
    assert_eq!((counted.files, counted.failed), (4, None));
    let told = run.ended.stdout();
    assert!(told.contains("recorded (pcap)") && told.contains("corrupted") && told.contains("duplicated"), "{told}");
    let pair = state.links.iter().find(|count| count.direction == Direction::Between).expect("the pair is counted");
    assert_eq!(pair.node, "sender-2 -> receiver-2");
    // Packets 5 and 20 to 22 at least.
    assert!(pair.lost >= 4 && told.contains(&pair.node), "{pair:?}\n{told}");
    for (node, capture) in plan.nodes().iter().zip(&captures) {
        assert_eq!(capture.interface, "eth0");
        let said = |words: &str| capture.packets.iter().filter(|packet| !packet.said(words).is_empty()).count() as u64;
        let of = |direction| {
            let found = state.links.iter().find(|count| count.node == node.name && count.direction == direction);
            found.expect("every link is counted")
        };
        // What came after the counters were read is in the files only.
        assert!(
            said("dropped: loss (up)") >= of(Direction::Up).lost && of(Direction::Up).lost > 0
                || node.name.starts_with('r')
        );
        assert!(said("dropped: loss (down)") >= of(Direction::Down).lost, "{}", node.name);
    }
}

#[test]
fn a_quiet_network_is_recorded_by_a_relay_and_the_plan_says_so() {
    let place = Place::new();
    let run = record(&place, "quiet", QUIET);
    let state = run.state();
    assert_eq!(state.networks[0].medium, "relay");
    assert!(state.networks[0].why.contains("--pcap"), "{}", state.networks[0].why);
    assert!(state.repeat.ends_with(" --pcap"), "{}", state.repeat);
    let plan = place.testbed(["plan", "quiet.yaml", "--pcap"]);
    plan.expect_status(0);
    assert!(plan.stdout().contains("`--pcap` records what passes"), "{}", plan.told());
    assert!(place.testbed(["plan", "quiet.yaml"]).stdout().contains("kernel bridge"));

    let captures = captures(&run, &self::plan(QUIET));
    let data = |capture: &Capture| capture.packets.iter().filter(|packet| packet.frame.len() > 500).count();
    assert!(data(&captures[0]) >= 200_000 / 1472 && data(&captures[0]) == data(&captures[1]), "all of the file");
    assert!(captures[0].packets.iter().any(|packet| !packet.said("answered by the relay").is_empty()), "ARP");

    if has_program("tshark") {
        let file = run.directory.join(names::PCAP).join("sender.eth0.pcapng");
        let output = Command::new("tshark")
            .args(["-n", "-o", "udp.check_checksum:TRUE", "-o", "ip.check_checksum:TRUE", "-r"])
            .arg(&file)
            .args(["-T", "fields", "-e", "frame.number", "-e", "udp.checksum.status", "-e", "frame.comment"])
            .env("HOME", place.path())
            .output()
            .expect("tshark can be started");
        let (said, complaints) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success() && !complaints.to_lowercase().contains("damaged"), "{complaints}");
        assert_eq!(said.lines().count(), captures[0].packets.len(), "{complaints}");
        let right = said.lines().filter(|line| line.split('\t').nth(1) == Some("1")).count();
        assert!(right >= 200, "tshark finds {right} right checksums\n{said}");
    }
}

#[test]
fn virtual_time_has_nothing_to_record() {
    let place = Place::new();
    place.write("quiet.yaml", QUIET);
    let ended = place.testbed(["run", "quiet.yaml", "--engine", "sim", "--pcap"]);
    ended.expect_status(3);
    assert!(ended.stderr().contains("packets have no bytes in virtual time"), "{}", ended.told());
    assert_eq!(place.entries(), ["quiet.yaml"], "nothing was made");
}
