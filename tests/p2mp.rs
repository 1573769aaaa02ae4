//! One file to many receivers, some of which die: the topologies do what their first lines promise.

mod support;

use std::collections::BTreeMap;

use event::{Direction, Event, LinkCount, NodeReport, Transferred};
use support::{Place, Run, passed, passed_alone, topology};

/// Bytes of a full datagram on the wire, and those of the file in it.
const FRAME: (u64, u64) = (1514, 1442);

/// Bytes that a node has of the file, at each of its reports in a life.
fn progress(run: &Run, name: &str, life: u32) -> Vec<u64> {
    let records = run.records().into_iter().filter_map(|record| match record.event {
        Event::NodeReported { node, incarnation, report: NodeReport::Progress { bytes, .. } }
            if node == name && incarnation == life =>
        {
            Some(bytes)
        }
        _ => None,
    });
    records.collect()
}

/// The last thing that a sender tells: who has the file.
fn transferred(run: &Run) -> Transferred {
    let found = run.records().into_iter().rev().find_map(|record| match record.event {
        Event::NodeReported { report: NodeReport::Transferred(transferred), .. } => Some(transferred),
        _ => None,
    });
    found.unwrap_or_else(|| panic!("no sender told what became of it\n{}", run.ended.told()))
}

/// What became of the packets in a half link.
fn link_of(run: &Run, name: &str, half: Direction) -> LinkCount {
    let links = run.state().links;
    links.into_iter().find(|link| link.node == name && link.direction == half).expect("the relay counted it")
}

/// Bytes on the wire that a file of so many bytes needs.
fn wire(length: u64) -> u64 {
    length * FRAME.0 / FRAME.1
}

/// When a node ended, as a position in the log.
fn ended(run: &Run, name: &str) -> usize {
    run.position(&format!("the end of {name}"), |event| matches!(event, Event::NodeExited { node, .. } if node == name))
}

#[test]
fn five_receivers_with_losses_of_their_own_cost_hardly_more_than_one() {
    let place = Place::new();
    let run = passed(&place, "p2mp.yaml");
    let lost: Vec<u64> =
        (1..=5).map(|index| link_of(&run, &format!("receiver-{index}"), Direction::Down).lost).collect();
    assert!(lost.iter().all(|lost| *lost > 0), "{lost:?}");
    assert!(transferred(&run).receivers.iter().all(|receiver| receiver.complete));
    if run.kept_up() {
        // 5.3 % for what each loses; the bound leaves room for a queue that overflows on a busy machine. Five copies would be
        // five times the file.
        let sent = link_of(&run, "sender", Direction::Up).offered_bytes;
        assert!(sent * 100 <= wire(6 << 20) * 125, "{sent} bytes for a file of {}", 6 << 20);
    }
}

/// A group of IPv6, over the bridge and over the relay, where each receiver loses packets of its own.
#[test]
fn a_group_of_ipv6_carries_the_file_once_for_all() {
    const LENGTH: u64 = 2 << 20;
    let place = Place::new();
    let lossy = ", link: { down: { delay: 2ms, loss: 3% } }";
    for (medium, shaper, link) in [("bridge", "auto", ""), ("relay", "relay", lossy)] {
        let text = format!(
            r#"
name: group-of-ipv6
seed: 66
timeout: 60s
shaper: {shaper}
files: {{ movie: {{ size: 2MiB }} }}
networks: {{ six: {{ subnet: "fd00:7::/64" }} }}
nodes:
  sender: {{ role: p2mp-sender, to: receiver, file: movie, mode: fast }}
  receiver: {{ count: 3, role: p2mp-receiver, out: movie{link} }}
expect:
  sender: {{ exit: 0 }}
  receiver: {{ exit: 0, file: movie }}
"#
        );
        let run = passed_alone(&place, &place.write("group-of-ipv6.yaml", &text));
        assert_eq!(run.state().networks[0].medium, medium);
        let node = event::run_directory::node(&run.directory, "sender");
        let told = std::fs::read_to_string(node.join("stderr.log")).expect("the node has a log");
        // On a starved machine nobody may hear of the group before the file is begun, and each is served alone.
        assert!(told.contains("sending to ff15::7735, ") || !run.kept_up(), "{told}");
        if medium == "relay" && run.kept_up() {
            // 3.1 % for what each loses, and room for a queue that overflows. Sent to each it would be three times the file.
            let sent = link_of(&run, "sender", Direction::Up).offered_bytes;
            assert!(sent * 100 <= wire(LENGTH) * 150, "{sent} bytes for a file of {LENGTH}");
        }
    }
}

#[test]
fn a_receiver_that_comes_back_goes_on_and_one_that_does_not_holds_nobody_up() {
    let place = Place::new();
    let run = passed(&place, "p2mp-failover.yaml");
    let has: BTreeMap<String, bool> =
        transferred(&run).receivers.into_iter().map(|receiver| (receiver.name, receiver.complete)).collect();
    let expected = [("receiver-1", true), ("receiver-2", true), ("receiver-3", false), ("receiver-4", true)];
    assert_eq!(has, expected.map(|(name, complete)| (name.to_owned(), complete)).into());
    // What it had of blocks that were under way is gone. On a busy machine that may be all: their repair comes late.
    let second = progress(&run, "receiver-2", 2);
    assert!(!run.kept_up() || second.first().is_some_and(|bytes| *bytes > 0), "it began anew: {second:?}");
    for healthy in ["receiver-1", "receiver-4"] {
        assert!(ended(&run, healthy) < ended(&run, "sender"), "{healthy} waited for the dead one");
    }
}

#[test]
fn a_sender_that_comes_back_sends_what_is_lacking_and_receivers_wait_for_it() {
    let place = Place::new();
    let run = passed(&place, "p2mp-sender-restart.yaml");
    let state = run.state();
    assert_eq!(state.node("sender").expect("it is there").incarnation, 2);
    for name in ["receiver-1", "receiver-2", "receiver-3"] {
        assert_eq!(state.node(name).expect("it is there").incarnation, 1);
        let progress = progress(&run, name, 1);
        assert!(progress.is_sorted(), "{name} lost what it had: {progress:?}");
    }
    if run.kept_up() {
        let sent = link_of(&run, "sender", Direction::Up).offered_bytes;
        assert!(sent * 100 <= wire(6 << 20) * 130, "{sent} bytes for a file of {}", 6 << 20);
    }
}

#[test]
fn a_straggler_holds_nobody_up_and_gets_the_file() {
    let place = Place::new();
    let run = passed(&place, "p2mp-straggler.yaml");
    for name in ["receiver-1", "receiver-2", "receiver-3"] {
        assert!(ended(&run, name) < ended(&run, "straggler"), "{name} waited");
    }
    if run.kept_up() {
        let had = run.records().iter().take(ended(&run, "receiver-1")).rev().find_map(|record| match &record.event {
            Event::NodeReported { node, report: NodeReport::Progress { bytes, .. }, .. } if node == "straggler" => {
                Some(*bytes)
            }
            _ => None,
        });
        assert!(had.unwrap_or(0) < 1 << 20, "the others had the file when the straggler had {had:?} bytes");
    }
}

/// Without a group each line takes what it can: none waits for a slower one, nor gets what it cannot take.
#[test]
fn copies_of_its_own_reach_each_as_fast_as_its_line_takes_them() {
    const LENGTH: u64 = 3 << 20;
    let place = Place::new();
    let text = r#"
name: fan-out
seed: 68
timeout: 60s
files: { movie: { size: 3MiB } }
nodes:
  sender: { role: p2mp-sender, to: [fast, middle, slow], file: movie, mode: fast, multicast: false, link: { up: { delay: 5ms } } }
  fast: { count: 2, role: p2mp-receiver, out: movie, link: { down: { rate: 20Mbit, loss: 2% } } }
  middle: { role: p2mp-receiver, out: movie, link: { down: { rate: 12Mbit, loss: 2% } } }
  slow: { role: p2mp-receiver, out: movie, link: { down: { rate: 3Mbit } } }
expect:
  sender: { exit: 0 }
  fast: { exit: 0, file: movie }
  middle: { exit: 0, file: movie }
  slow: { exit: 0, file: movie }
"#;
    let run = passed_alone(&place, &place.write("fan-out.yaml", text));
    if !run.kept_up() {
        return;
    }
    // How much a node has when another one ends: 1.3 s, 2.2 s and 8.8 s after the beginning.
    let had = |name: &str, when: &str| {
        let had = run.records().iter().take(ended(&run, when)).rev().find_map(|record| match &record.event {
            Event::NodeReported { node, report: NodeReport::Progress { bytes, .. }, .. } if node == name => {
                Some(*bytes)
            }
            _ => None,
        });
        had.unwrap_or(0)
    };
    for name in ["fast-1", "fast-2"] {
        assert!(had("middle", name) * 100 <= LENGTH * 85, "{name} waited for the middle one: {}", had("middle", name));
    }
    assert!(had("slow", "middle") * 100 <= LENGTH * 50, "the middle one waited: {}", had("slow", "middle"));
    assert!(had("slow", "middle") * 100 >= LENGTH * 15, "the slow one was not served: {}", had("slow", "middle"));
    // 4.06 copies with what is lost; at one rate the slow line alone would be sent 6.
    let sent = link_of(&run, "sender", Direction::Up).offered_bytes;
    assert!(sent <= wire(LENGTH) * 5, "{sent} bytes for four copies of {LENGTH}");
}

#[test]
fn stop_and_wait_says_what_it_loses_and_what_it_sends_again() {
    let place = Place::new();
    let run = passed(&place, "p2mp-classic.yaml");
    let numbers = |name: &str, words: &str| {
        let said = run.stdout_of(name);
        let number = |line: &str| line.strip_prefix(words).map(str::to_owned);
        let numbers: Option<Vec<String>> = said.lines().map(number).collect();
        numbers.unwrap_or_else(|| panic!("{name} says something else: {said}"))
    };
    let lost: Vec<String> = ["receiver-1", "receiver-2", "receiver-3"]
        .iter()
        .flat_map(|name| numbers(name, "Packet loss, sequence number = "))
        .collect();
    // 600 segments at least meet 5 %: 30. Five standard deviations: 27.
    assert!(lost.len() >= 3, "{lost:?}");
    let again = numbers("sender", "Timeout, sequence number = ");
    for number in &lost {
        assert!(again.contains(number), "segment {number} was lost, and nobody noticed: {again:?}");
    }
    let sent_again: u64 = transferred(&run).receivers.iter().map(|receiver| receiver.retransmissions).sum();
    assert!(sent_again >= lost.len() as u64, "{sent_again} segments were sent again, {} lost", lost.len());
}

/// At no time does the trace let more than 440 full packets through in a second.
#[test]
fn a_trace_says_how_fast_a_line_is() {
    let place = Place::new();
    let run = passed(&place, "cellular.yaml");
    let down = link_of(&run, "phone", Direction::Down);
    assert!(down.delivered_bytes >= wire(1 << 20), "{down:?}");
    let seconds = transferred(&run).seconds;
    let soonest = wire(1 << 20) as f64 / FRAME.0 as f64 / 440.0;
    assert!(seconds >= soonest, "{seconds} s, but the fastest part of the trace takes {soonest} s");
    let plan = place.testbed(["plan", topology("cellular.yaml").to_str().unwrap()]);
    plan.expect_status(0);
    assert!(plan.stdout().contains("trace traces/cellular.trace (mean 2688kbit, repeats after 4s)"), "{}", plan.told());
}
