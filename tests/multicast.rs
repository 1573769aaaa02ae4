//! Multicast on the testbed's networks: a bridge and the relay flood it, each receiver meets losses of its own, and trains of
//! datagrams (`UDP_SEGMENT`) arrive as the datagrams that they stand for.

mod support;

use std::collections::BTreeSet;

use support::{Place, Run, has_program, skip};

/// Datagrams that the sender sends, in trains of [`TRAIN`]. All of them fit into a socket's buffer of any system: a busy
/// machine may let a receiver wait until the last has come.
const SENT: u32 = 64;
const TRAIN: u32 = 32;

/// Joins a group and prints the number in each datagram until one says "end"; says on stderr how large the largest was that
/// it was handed. With `trains` it takes trains whole, and tells their datagrams apart by their size.
const RECEIVER: &str = r#"
import socket, struct, sys
group, trains = sys.argv[1], sys.argv[2] == "trains"
six = ":" in group
s = socket.socket(socket.AF_INET6 if six else socket.AF_INET, socket.SOCK_DGRAM)
s.bind(("", 5000))
if six:
    s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, socket.inet_pton(socket.AF_INET6, group) + struct.pack("@I", 0))
else:
    s.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, socket.inet_aton(group) + bytes(4))
if trains:
    s.setsockopt(17, 104, 1)
open("ready", "w").close()
largest = 0
while True:
    data = s.recv(65535)
    if data[:3] == b"end":
        break
    largest = max(largest, len(data))
    assert len(data) == 1000 or trains, len(data)
    for at in range(0, len(data) - 999, 1000):
        print(struct.unpack("!I", data[at:at + 4])[0])
    # A train's last datagram may be shorter.
    rest = data[len(data) // 1000 * 1000:]
    assert rest in (b"", b"end"), rest
    if rest:
        break
print("largest", largest, file=sys.stderr)
"#;

/// Sends trains of numbered datagrams, and then "end" so often that nobody loses them all.
const SENDER: &str = r#"
import socket, struct, sys, time
group, sent, train = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
s = socket.socket(socket.AF_INET6 if ":" in group else socket.AF_INET, socket.SOCK_DGRAM)
s.setsockopt(17, 103, 1000)
for first in range(0, sent, train):
    s.sendto(b"".join(struct.pack("!I", k) + bytes(996) for k in range(first, first + train)), (group, 5000))
for _ in range(60):
    s.sendto(b"end", (group, 5000))
    time.sleep(0.02)
"#;

/// Three receivers, the third of which takes trains whole.
fn flood(place: &Place, group: &str, network: &str, receivers: &str) -> Run {
    let receiver = place.write("receiver.py", RECEIVER);
    let sender = place.write("sender.py", SENDER);
    let node =
        |how: &str| format!("run: [python3, {receiver:?}, \"{group}\", {how}], ready: {{ file: ready }}{receivers}");
    let text = format!(
        r#"
name: flood
seed: 7
timeout: 60s
{network}
nodes:
  receiver: {{ count: 2, {} }}
  receiver-3: {{ {} }}
  stranger: {{ run: ["sleep", "60"] }}
  sender: {{ run: [python3, {sender:?}, "{group}", {SENT}, {TRAIN}], after: [receiver, receiver-3] }}
expect:
  receiver: {{ exit: 0 }}
  receiver-3: {{ exit: 0 }}
  sender: {{ exit: 0 }}
"#,
        node("datagrams"),
        node("trains")
    );
    let run = place.run_text("flood", &text);
    run.expect_status(0);
    run
}

/// The numbers that each receiver has, each at most once.
fn arrived(run: &Run) -> Vec<BTreeSet<u32>> {
    let names = ["receiver-1", "receiver-2", "receiver-3"];
    let of = |name: &&str| {
        let said = run.stdout_of(name);
        let numbers: Vec<u32> = said.lines().map(|line| line.parse().expect("a number")).collect();
        let distinct: BTreeSet<u32> = numbers.iter().copied().collect();
        assert_eq!(numbers.len(), distinct.len(), "{name} has some twice");
        distinct
    };
    names.iter().map(of).collect()
}

fn no_python() -> bool {
    if has_program("python3") {
        return false;
    }
    skip("python3 is not installed");
    true
}

#[test]
fn a_bridge_floods_what_is_sent_to_a_group() {
    if no_python() {
        return;
    }
    let place = Place::new();
    for (group, network) in [("239.7.7.7", ""), ("ff15::77", "networks: { six: { subnet: \"fd00:7::/64\" } }")] {
        let run = flood(&place, group, network, "");
        assert_eq!(run.state().networks[0].medium, "bridge");
        for numbers in arrived(&run) {
            assert_eq!(numbers.len() as u32, SENT, "{group}");
        }
    }
}

#[test]
fn the_relay_floods_and_each_receiver_loses_others() {
    if no_python() {
        return;
    }
    let place = Place::new();
    let six = "networks: { six: { subnet: \"fd00:7::/64\" } }";
    for (group, network) in [("239.7.7.7", ""), ("ff15::77", six)] {
        let rest = format!("shaper: relay\n{network}");
        let run = flood(&place, group, &rest, ", link: { down: { loss: 30% } }");
        assert_eq!(run.state().networks[0].medium, "relay");
        let arrived = arrived(&run);
        for numbers in &arrived {
            // Five standard deviations of 64 draws with the chance 0.7: 18.
            let count = numbers.len() as i64;
            assert!((count - 45).abs() <= 18, "{count} of {SENT} arrived, 45 expected");
        }
        assert!(arrived[0] != arrived[1] && arrived[1] != arrived[2], "losses are not the receivers' own");
    }
}

#[test]
fn datagrams_that_are_due_together_arrive_as_trains() {
    if no_python() {
        return;
    }
    let place = Place::new();
    let run = flood(&place, "239.7.7.7", "", ", link: { down: { loss: 10%, delay: 5ms } }");
    let told = std::fs::read_to_string(event::run_directory::node(&run.directory, "receiver-3").join("stderr.log"));
    let told = told.expect("the node has a log");
    let largest: u32 = told.trim().strip_prefix("largest ").expect(&told).parse().expect("a number");
    assert!(largest > 1003, "every datagram came by itself");
    assert!(arrived(&run)[2].len() as u32 > SENT / 2);
}
