//! Each impairment by itself: as often as it is asked for, and exactly what it says.
//!
//! Shares are held to four standard deviations over packets of many seeds: a right model leaves that for one set of draws
//! in 16 000, and the seeds are fixed.

use link::{Burst, Cause, Decision, Fate, Flip, HalfLink, Lane, Network, Profile, Queue, To, WireSize};
use machine::{Rate, Ratio, Seed, Span, Time};

const PACKET: WireSize = WireSize::packet(1000);
const SEEDS: u64 = 50;
const PACKETS: u64 = 4000;

fn share(text: &str) -> Ratio {
    text.parse().expect("a share")
}

fn ms(n: u64) -> Time {
    Time::ZERO + Span::from_millis(n)
}

/// What becomes of packets that arrive a millisecond after each other, over all seeds.
fn decisions(half: &HalfLink) -> Vec<Vec<(Time, Decision)>> {
    let of = |seed| {
        let mut lane = Lane::new(half, Seed::new(seed));
        (0..PACKETS).map(ms).map(|now| (now, lane.offer(now, PACKET))).collect()
    };
    (0..SEEDS).map(of).collect()
}

fn leaves(fate: Fate) -> Option<(Time, Option<Flip>)> {
    match fate {
        Fate::Deliver { at, flip } => Some((at, flip)),
        Fate::Drop(_) => None,
    }
}

/// That `hits` of `trials` is what independent draws of chance `share` give.
fn assert_share(what: &str, hits: usize, trials: usize, share: f64) {
    let (mean, sigma) = (trials as f64 * share, (trials as f64 * share * (1.0 - share)).sqrt());
    assert!((hits as f64 - mean).abs() <= 4.0 * sigma, "{what}: {hits} of {trials}, expected {mean:.0} ± {sigma:.0}");
}

#[test]
fn bursts_are_as_frequent_and_as_long_as_gilbert_and_elliott_have_it() {
    let (p, r, good, bad): (f64, f64, f64, f64) = (0.01, 0.2, 0.001, 0.9);
    let burst = Burst { p: share("1%"), r: share("20%"), good: share("0.1%"), bad: share("90%") };
    let all = decisions(&HalfLink { burst: Some(burst), ..HalfLink::default() });
    let is_lost = |decision: &Decision| leaves(decision.packet).is_none();
    let lost: usize = all.iter().flatten().filter(|(_, decision)| is_lost(decision)).count();
    let packets = (SEEDS * PACKETS) as f64;
    // The share of packets that find the bad state, and the variance of a mean over a two-state chain, whose states
    // remember each other by λ = 1 − p − r a packet.
    let in_bad = p / (p + r);
    let memory = 1.0 - p - r;
    let expected = in_bad * bad + (1.0 - in_bad) * good;
    let of_states = in_bad * (1.0 - in_bad) * (bad - good).powi(2) * (1.0 + memory) / (1.0 - memory);
    let of_draws = in_bad * bad * (1.0 - bad) + (1.0 - in_bad) * good * (1.0 - good);
    let sigma = ((of_states + of_draws) / packets).sqrt();
    let found = lost as f64 / packets;
    assert!((found - expected).abs() <= 4.0 * sigma, "{found} lost, expected {expected} ± {sigma}");

    // A loss is followed by another one with the chance that the state it was lost in, or the next, loses that as well.
    let pairs: Vec<bool> = all
        .iter()
        .flat_map(|one| one.windows(2))
        .filter(|two| is_lost(&two[0].1))
        .map(|two| is_lost(&two[1].1))
        .collect();
    let was_bad = in_bad * bad / expected;
    let is_bad = was_bad * (1.0 - r) + (1.0 - was_bad) * p;
    let again = is_bad * bad + (1.0 - is_bad) * good;
    assert_share("a loss after a loss", pairs.iter().filter(|again| **again).count(), pairs.len(), again);
}

#[test]
fn a_burst_goes_on_when_something_else_of_the_link_changes() {
    let burst = Burst { p: Ratio::ONE, r: Ratio::ZERO, good: Ratio::ZERO, bad: Ratio::ONE };
    let forever = HalfLink { burst: Some(burst), ..HalfLink::default() };
    let mut lane = Lane::new(&forever, Seed::new(1));
    let is_lost = |lane: &mut Lane| leaves(lane.offer(ms(1), PACKET).packet).is_none();
    assert_eq!([is_lost(&mut lane), is_lost(&mut lane)], [false, true]);
    lane.set(ms(1), &HalfLink { delay: Span::from_millis(1), ..forever.clone() });
    assert!(is_lost(&mut lane));
    lane.set(ms(1), &HalfLink::default());
    assert!(!is_lost(&mut lane));
    lane.set(ms(1), &forever);
    assert_eq!([is_lost(&mut lane), is_lost(&mut lane)], [false, true], "bursts begin anew");
}

#[test]
fn exactly_the_listed_packets_are_lost() {
    let drop = ["3", "7-9"].map(|text| text.parse().expect("ordinals")).into_iter().collect();
    let half = HalfLink { drop, jitter: Span::from_millis(1), delay: Span::from_millis(2), ..HalfLink::default() };
    let lost = |one: Vec<(Time, Decision)>| {
        let lost = (1..).zip(one).filter(|(_, (_, decision))| decision.packet == Fate::Drop(Cause::Loss));
        lost.map(|(ordinal, _)| ordinal).collect::<Vec<u64>>()
    };
    assert!(decisions(&half).into_iter().map(lost).all(|lost| lost == [3, 7, 8, 9]));
}

#[test]
fn those_that_overtake_leave_out_the_delay_and_the_others_do_not() {
    let delay = Span::from_millis(10);
    let all = decisions(&HalfLink { delay, reorder: share("5%"), ..HalfLink::default() });
    let ways: Vec<Span> =
        all.into_iter().flatten().filter_map(|(now, one)| Some(leaves(one.packet)?.0.since(now))).collect();
    assert!(ways.iter().all(|way| *way == delay || way.is_zero()));
    assert_share("overtaking", ways.iter().filter(|way| way.is_zero()).count(), ways.len(), 0.05);
}

#[test]
fn none_overtakes_the_rate() {
    // 1000 bytes take 8 ms at 1 Mbit/s, and come every millisecond.
    let half = HalfLink {
        rate: Some(Rate::from_mbit(1)),
        queue: Some(Queue::Packets(10_000)),
        reorder: Ratio::ONE,
        delay: Span::from_millis(10),
        ..HalfLink::default()
    };
    for (k, (_, decision)) in (1..).zip(&decisions(&half)[0]) {
        assert_eq!(leaves(decision.packet).map(|(at, _)| at), Some(ms(8 * k)));
    }
}

#[test]
fn seconds_follow_their_packets_and_pay_for_the_rate() {
    let half = HalfLink { duplicate: share("10%"), rate: Some(Rate::from_mbit(80)), ..HalfLink::default() };
    let all: Vec<(Time, Decision)> = decisions(&half).into_iter().flatten().collect();
    let line = Span::from_micros(100); // 1000 bytes at 80 Mbit/s
    for (now, decision) in &all {
        assert_eq!(leaves(decision.packet).map(|(at, _)| at), Some(*now + line));
        if let Some(copy) = decision.copy {
            assert_eq!(leaves(copy).map(|(at, _)| at), Some(*now + line * 2));
        }
    }
    assert_share("seconds", all.iter().filter(|(_, decision)| decision.copy.is_some()).count(), all.len(), 0.1);
}

#[test]
fn every_bit_of_a_corrupted_packet_is_as_likely_as_the_others() {
    let all = decisions(&HalfLink { corrupt: share("20%"), ..HalfLink::default() });
    let packets: Vec<Option<Flip>> =
        all.into_iter().flatten().filter_map(|(_, one)| Some(leaves(one.packet)?.1)).collect();
    let flips: Vec<u32> = packets.iter().filter_map(|flip| flip.and_then(|flip| flip.of(8))).collect();
    assert_share("corrupted", flips.len(), packets.len(), 0.2);
    for bit in 0..8 {
        assert_share("bit", flips.iter().filter(|flip| **flip == bit).count(), flips.len(), 1.0 / 8.0);
    }
    assert_eq!(packets.iter().flatten().next().and_then(|flip| flip.of(0)), None);
}

#[test]
fn a_network_delivers_seconds_and_tells_of_flips() {
    let mangled = HalfLink { corrupt: Ratio::ONE, duplicate: Ratio::ONE, ..HalfLink::default() };
    let mut network = Network::new("net", Seed::new(5));
    let [a, b] = ["a", "b"].map(|name| network.add_port(name, &Profile::symmetric(mangled.clone())));
    network.send(ms(1), a, To::Port(b), PACKET, 'x');
    let delivered: Vec<_> = std::iter::from_fn(|| network.poll(ms(1))).collect();
    assert_eq!(delivered.len(), 4, "a second one of each of two");
    assert!(delivered.iter().all(|one| one.flips.iter().count() == 2 && one.payload == 'x'));
    let counters = network.counters();
    let [up, down] = [&counters.ports[a.index()].up, &counters.ports[b.index()].down];
    assert!(up.adds_up() && down.adds_up());
    assert_eq!((up.offered.packets, up.duplicated.packets, up.corrupted.packets), (1, 1, 2));
    assert_eq!((down.offered.packets, down.duplicated.packets, down.delivered.packets), (2, 2, 4));
}
