//! Recordings made by the model itself are decided again to the last packet, whatever happened to their links; a packet whose
//! fate somebody has changed is found; and no bytes break the reading of captures.
#![allow(clippy::unwrap_used, reason = "in a test it is an assertion")]

mod recording;

use event::{Event, Record, Recording};
use machine::Span;
use proptest::prelude::*;
use recording::World;
use replay::{Capture, CaptureFault, NotReplayable, Recorded, ReplayError, replay};

fn records(world: &World) -> Vec<Record> {
    world.events().into_iter().map(|event| Record::new(Span::ZERO, event)).collect()
}

fn recorded(world: &World) -> Recorded {
    Recorded::from_records(records(world)).unwrap()
}

/// A world in which everything happens.
fn rich() -> World {
    World::new(5, 400)
}

#[test]
fn the_model_decides_again_what_it_decided() {
    let world = rich();
    let accounts = replay(&recorded(&world), world.opener()).unwrap();
    assert_eq!(accounts.len(), 2);
    for account in &accounts {
        assert_eq!((&account.difference, account.different, account.stopped), (&None, 0, false), "{}", account.name);
        assert!(account.packets > 100 && account.alike > 100, "{account:?}");
    }
    // It says something only if everything happened.
    let halves = || accounts.iter().flat_map(|account| &account.halves);
    let sum = |of: fn(&link::HalfCounters) -> u64| halves().map(|half| of(&half.counters)).sum::<u64>();
    assert!(sum(|half| half.dropped.loss.packets) > 0 && sum(|half| half.dropped.queue.packets) > 0);
    assert!(sum(|half| half.dropped.partition.packets) > 0 && sum(|half| half.dropped.cut.packets) > 0);
    assert!(sum(|half| half.duplicated.packets) > 0 && sum(|half| half.corrupted.packets) > 0);
    assert!(sum(|half| half.in_flight.packets) > 0, "something is under way at the end, whose fate no capture has");
}

/// A difference is told with the packet and with both accounts of it.
#[test]
fn a_packet_with_another_fate_is_found() {
    let mut world = rich();
    let (port, at) = world.delay_one_delivery();
    let accounts = replay(&recorded(&world), world.opener()).unwrap();
    assert_eq!(accounts[1].difference, None, "the other network is as it was");
    let difference = accounts[0].difference.clone().unwrap();
    let (run, model) = (difference.recorded.unwrap(), difference.decided.unwrap());
    assert_eq!((run.port, run.id, run.at), (port, difference.packet.id, at + 1));
    assert_eq!((model.port, model.id, model.at), (port, difference.packet.id, at));
    assert_eq!(accounts[0].different, 2, "one in each account");
    assert_eq!(accounts[0].halves[2 * port + 1].different, 1);
}

/// Whose draws are others, or whose links, parts from the recording soon.
#[test]
fn another_seed_and_another_link_are_other_recordings() {
    let world = rich();
    let mut other = recorded(&world);
    other.seed = machine::Seed::new(6);
    assert!(replay(&other, world.opener()).unwrap()[0].different > 20);
    let mut other = recorded(&world);
    other.links.networks[0].ports[0].link.up.delay += Span::from_nanos(1);
    assert!(replay(&other, world.opener()).unwrap()[0].different > 20);
    let mut other = recorded(&world);
    other.changes.remove(1);
    assert!(replay(&other, world.opener()).unwrap()[0].different > 0);
}

/// Changes are told from packets of the same nanosecond by how many had entered.
#[test]
fn a_change_comes_between_the_packets_that_it_came_between() {
    let world = World::all_at_once(7);
    assert_eq!(replay(&recorded(&world), world.opener()).unwrap()[0].difference, None);
    let mut early = recorded(&world);
    early.changes[0].entered[0] -= 1;
    assert!(replay(&early, world.opener()).unwrap()[0].difference.is_some());
}

#[test]
fn a_log_that_does_not_say_enough_says_what_is_missing() {
    let world = rich();
    let without = |left_out: fn(&Event) -> bool| {
        let kept = records(&world).into_iter().filter(|record| !left_out(&record.event));
        Recorded::from_records(kept).unwrap_err()
    };
    assert_eq!(without(|_| true), NotReplayable::NoRun);
    assert_eq!(without(|event| matches!(event, Event::RecordingBegan(_))), NotReplayable::TooOld);
    let unrecorded = without(|event| matches!(event, Event::RecordingBegan(_) | Event::PacketsRecorded(_)));
    assert_eq!(unrecorded.to_string(), "its packets were not recorded; `testbed run x.yaml --pcap` records them");
    assert_eq!(without(|event| matches!(event, Event::PacketsRecorded(_))), NotReplayable::Unended);

    let with = |change: fn(&mut Event)| {
        let mut records = records(&world);
        records.iter_mut().for_each(|record| change(&mut record.event));
        Recorded::from_records(records).unwrap_err().to_string()
    };
    let missing = with(|event| {
        if let Event::PacketsRecorded(Recording { unrecorded, .. }) = event {
            *unrecorded = 3;
        }
    });
    assert_eq!(missing, "3 packets are in none of its captures: the disk did not keep up");
    let climbing = with(|event| {
        if let Event::RecordingBegan(links) = event {
            links.networks[0].ports[0].node = "../../etc/passwd".to_owned();
        }
    });
    assert!(climbing.contains("contradicts itself: a node called \"../../etc/passwd\""), "{climbing}");
    let strange = with(|event| {
        if let Event::LinksChanged(change) = event {
            change.entered.pop();
        }
    });
    assert!(strange.ends_with("a change tells of 1 networks, there are 2"), "{strange}");
}

#[test]
fn captures_that_are_not_of_the_run_are_refused() {
    let world = rich();
    let recorded = recorded(&world);
    let refused = |world: &World| replay(&recorded, world.opener()).unwrap_err();

    let mut other = rich();
    let capture = other.capture_mut(0);
    capture.truncate(capture.len() - 7);
    let ReplayError::Capture { node, source: CaptureFault::CutShort { packets }, .. } = refused(&other) else {
        panic!("a capture that is cut short")
    };
    assert!(node == "a" && packets > 50, "{node} {packets}");

    let mut other = rich();
    *other.capture_mut(1) = b"this is no capture at all".to_vec();
    assert!(matches!(refused(&other), ReplayError::Capture { source: CaptureFault::NotPcapng, .. }));

    // Of another run, in which a node sent other packets.
    let mut other = rich();
    *other.capture_mut(1) = World::new(5, 10).capture_mut(1).clone();
    let ReplayError::Mismatch { network, what } = refused(&other) else { panic!("captures of two runs") };
    assert!(network == "left" && what.contains("is missing"), "{what}");

    let missing = replay(&recorded, |_| Err::<&[u8], _>(std::io::ErrorKind::NotFound.into())).unwrap_err();
    assert!(matches!(missing, ReplayError::Open { node, .. } if node == "a"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn every_world_is_decided_again(seed in any::<u64>(), packets in 1..300usize) {
        let world = World::new(seed, packets);
        for account in replay(&recorded(&world), world.opener()).unwrap() {
            prop_assert_eq!(account.difference, None);
        }
    }

    /// Whatever a capture holds, reading it ends, without a panic, in a bounded block.
    #[test]
    fn no_bytes_break_a_capture(
        bytes in prop::collection::vec(any::<u8>(), 0..400),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        cut in any::<prop::sample::Index>(),
    ) {
        let read_all = |bytes: &[u8]| {
            let mut capture = Capture::new(bytes);
            let mut packets = 0;
            while let Ok(Some(_)) = capture.read() {
                packets += 1;
            }
            packets
        };
        prop_assert_eq!(read_all(&bytes), 0);
        let mut world = World::new(3, 20);
        let capture = world.capture_mut(0);
        let whole = read_all(capture);
        for (at, byte) in changes {
            let at = at.index(capture.len());
            capture[at] = byte;
        }
        capture.truncate(cut.index(capture.len() + 1));
        prop_assert!(read_all(capture) <= whole + 1);
        // The same damage in a whole recording is an error or a difference, or it is in what nobody looks at.
        let _outcome = replay(&recorded(&World::new(3, 20)), world.opener());
    }
}
