//! The fast mode of point-to-multipoint in virtual time: what it costs, and what it never does.

use std::fmt::Write as _;

use link::{HalfLink, Profile};
use machine::{Rate, Ratio, Seed, Span, Time};
use p2mp::fast::Fate;
use rand::RngExt;
use sim::multicast::{Fault, Outcome, Setup, World};

fn at(millis: u64) -> Time {
    Time::ZERO + Span::from_millis(millis)
}

fn percent(count: u32) -> Ratio {
    Ratio::from_parts_per_billion(count * 10_000_000).expect("at most a hundred")
}

fn lossy(percents: u32) -> HalfLink {
    HalfLink { loss: percent(percents), ..HalfLink::default() }
}

#[track_caller]
fn run(setup: Setup) -> Outcome {
    let seed = setup.seed;
    let outcome = World::new(setup).run(at(600_000));
    assert!(outcome.all_complete().is_some(), "seed {seed}: {outcome:?}");
    assert_eq!(outcome.wrong_files, 0, "seed {seed}");
    outcome
}

/// Two full blocks: what parity costs depends on the size of blocks, not on their number.
const TWO_BLOCKS: u64 = 2 * 1024 * 1442;

#[test]
fn sends_per_packet_are_those_of_the_table() {
    let mut table = String::from("receivers  sends a packet (mean of 20 seeds, 5 % loss)\n");
    for receivers in [1, 10, 100, 1000] {
        let sends = (0..20).map(|seed| {
            let mut setup = Setup::new(seed, TWO_BLOCKS, receivers).up(Rate::from_mbit(100));
            setup.sender_link.up.delay = Span::from_millis(5);
            setup.receiver_link = Profile { up: HalfLink::default(), down: lossy(5) };
            let outcome = run(setup);
            assert_eq!(outcome.by_multicast, receivers > 1);
            outcome.sends_per_packet()
        });
        let mean = sends.sum::<f64>() / 20.0;
        writeln!(table, "{receivers:>9}  {mean:.4}").unwrap();
    }
    let committed = include_str!("sends_per_packet.txt");
    assert_eq!(table, committed, "the table has changed; if that is meant, commit this:\n{table}");
    let targets = [("1", 1.06), ("10", 1.08), ("100", 1.09), ("1000", 1.10)];
    for (line, (receivers, most)) in committed.lines().skip(1).zip(targets) {
        let (which, sends) = line.trim().split_once("  ").unwrap();
        assert_eq!(which, receivers);
        assert!(sends.parse::<f64>().unwrap() <= most, "{line}");
    }
}

/// Ten of the receivers carry real bytes; all of them would not say more.
#[test]
fn a_thousand_receivers_of_ten_megabytes() {
    let mut setup = Setup::new(1, 10_000_000, 1000).up(Rate::from_mbit(100));
    setup.with_bytes = 10;
    setup.sender_link.up.delay = Span::from_millis(5);
    setup.receiver_link.down = lossy(5);
    let outcome = run(setup);
    assert!(outcome.sends_per_packet() <= 1.10, "{}", outcome.sends_per_packet());
    assert!(outcome.said_complete.iter().all(|said| *said));
}

#[test]
fn a_lossy_group_takes_hardly_longer_than_the_ideal() {
    let mut table =
        String::from("loss %  round trip, ms  time over the ideal F·L/(B·C·(1 − l)), 100 MiB to 5 at 200 Mbit/s\n");
    for loss in [0, 1, 5, 10] {
        for round_trip in [0, 1, 20] {
            let rate = Rate::from_mbit(200);
            let mut setup = Setup::new(1, 100 << 20, 5).up(rate);
            setup.sender_link.up.delay = Span::from_micros(round_trip * 500);
            setup.sender_link.down.delay = Span::from_micros(round_trip * 500);
            setup.receiver_link.down = lossy(loss);
            let outcome = run(setup.clone());
            let ideal = setup.ideal(rate, outcome.payload, f64::from(loss) / 100.0);
            let ratio = outcome.all_complete().unwrap().as_secs_f64() / ideal;
            writeln!(table, "{loss:>6}  {round_trip:>14}  {ratio:.4}").unwrap();
            assert!(ratio <= 1.05, "loss {loss} %, round trip {round_trip} ms: {ratio}");
        }
    }
    assert_eq!(
        table,
        include_str!("multicast_time.txt"),
        "the table has changed; if that is meant, commit this:\n{table}"
    );
}

/// A network, files and faults drawn from a seed. Every receiver that is not taken for good has everything in the end.
fn draw(seed: u64) -> (Setup, Vec<bool>) {
    let mut stream = Seed::new(seed).derive("world").stream();
    let receivers = stream.random_range(1..=6);
    let mut setup = Setup::new(seed, 0, receivers);
    let sizes = [0, 1, 1441, 1442, 20_000, 300_000, 2_500_000];
    setup.files = (0..stream.random_range(1..=3)).map(|_| sizes[stream.random_range(0..sizes.len())]).collect();
    setup.with_bytes = receivers;
    setup.multicast = stream.random_bool(0.5);
    setup.give_up = Span::from_secs(5);
    let rates = [2, 20, 200];
    let half = |stream: &mut machine::Stream| HalfLink {
        rate: stream.random_bool(0.7).then(|| Rate::from_mbit(rates[stream.random_range(0..rates.len())])),
        delay: Span::from_micros(stream.random_range(0..40_000)),
        jitter: Span::from_micros(stream.random_range(0..3000)),
        loss: percent([0, 0, 1, 10, 30][stream.random_range(0..5)]),
        duplicate: percent(stream.random_range(0..5)),
        reorder: percent(stream.random_range(0..5)),
        ..HalfLink::default()
    };
    setup.sender_link = Profile { up: half(&mut stream), down: half(&mut stream) };
    setup.receiver_link = Profile { up: half(&mut stream), down: half(&mut stream) };
    for index in 0..receivers {
        if stream.random_bool(0.3) {
            setup.other_links.push((index, Profile { up: half(&mut stream), down: half(&mut stream) }));
        }
        if stream.random_bool(0.2) {
            setup.deaf.push(index);
        }
    }
    let mut lives = vec![true; receivers];
    for (index, lives) in lives.iter_mut().enumerate() {
        let mut moment = stream.random_range(0..1500);
        for _ in 0..stream.random_range(0..3) {
            let dies = if stream.random_bool(0.8) { Fault::KillReceiver(index) } else { Fault::WipeReceiver(index) };
            setup.faults.push((at(moment), dies));
            *lives = receivers == 1 || stream.random_bool(0.85);
            if !*lives {
                break;
            }
            moment += stream.random_range(1..1500);
            setup.faults.push((at(moment), Fault::ReviveReceiver(index)));
            moment += stream.random_range(1..1500);
        }
    }
    if stream.random_bool(0.3) {
        let moment = stream.random_range(0..1500);
        setup.faults.push((at(moment), Fault::KillSender));
        setup.faults.push((at(moment + stream.random_range(1..3000)), Fault::ReviveSender));
    }
    (setup, lives)
}

fn check(seed: u64) {
    let (setup, lives) = draw(seed);
    let outcome = World::new(setup.clone()).run(at(3_600_000));
    let told = || format!("seed {seed}; repeat with MULTICAST_SEED={seed}\n{setup:?}\n{outcome:?}");
    assert_eq!(outcome.wrong_files, 0, "a wrong file: {}", told());
    assert!(outcome.sender_finished.is_some(), "the sender never ends: {}", told());
    for (index, lives) in lives.into_iter().enumerate() {
        let is_complete = outcome.complete_at[index].is_some();
        assert!(is_complete || !lives, "receiver {index} has not everything: {}", told());
        assert!(is_complete || !outcome.said_complete[index], "receiver {index} is said to be complete: {}", told());
        let fate = &outcome.fates[index];
        assert!(!is_complete || matches!(fate, None | Some(Fate::Complete)), "receiver {index}: {}", told());
    }
}

#[test]
fn random_worlds_end_with_the_right_files() {
    if let Ok(seed) = std::env::var("MULTICAST_SEED") {
        return check(seed.parse().expect("MULTICAST_SEED is a number"));
    }
    (0..300).for_each(check);
}
