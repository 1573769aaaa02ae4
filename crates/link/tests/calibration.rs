//! Calibration against the model, in virtual time: links that are what they should be are found to be, and others are not,
//! whatever makes some arrivals late.

use link::calibration::{
    Batch, Calibration, Capacity, Depth, Deviation, Disturbance, Outcome, Passage, Seen, Train, Unmeasured, Way,
};
use link::{Burst, HalfLink, Network, Profile, Queue, To, WireSize};
use machine::{Rate, Ratio, Seed, Span, Stream, Time};
use proptest::prelude::*;
use rand::Rng;

/// Frames a second: 3.6 Gbit/s of full ones.
const CAPACITY: Capacity = Capacity(300_000);

/// Where frames pass: the links as they are, and a machine that carries them.
struct World {
    /// As they are, whatever they should be.
    halves: Vec<HalfLink>,
    random: Stream,
    /// Arrivals are late by less than this, and now and then by more.
    lateness: Span,
    now: Time,
    batches: u64,
}

impl World {
    fn new(halves: Vec<HalfLink>, seed: u64, lateness: Span) -> Self {
        World { halves, random: Seed::new(seed).stream(), lateness, now: Time::ZERO, batches: 0 }
    }

    /// Sends the trains of a batch, each through a network of its own whose one link is `up` of the sender.
    fn carry_out(&mut self, batch: &Batch) -> Seen {
        self.batches += 1;
        let mut seen = Seen::default();
        for (way, train) in &batch.trains {
            let seed = Seed::new(self.random.next_u64());
            let mut network = Network::new("net", seed);
            let up = Profile { up: self.halves[*way].clone(), down: HalfLink::default() };
            let (from, to) = (network.add_port("a", &up), network.add_port("b", &Profile::default()));
            let mut passage = Passage::default();
            for ordinal in 0..train.frames {
                passage.sent.push(self.now);
                // A frame goes a little after the clock was read.
                let sent = self.now + Span::from_nanos(u64::from(self.random.next_u32() % 3000));
                network.send(sent, from, To::Port(to), WireSize::packet(train.bytes), ordinal);
                self.now += Span::from_nanos(u64::from(self.random.next_u32() % 2500));
                if (ordinal + 1) % train.burst == 0 {
                    self.now += train.gap;
                }
            }
            let end = self.now + batch.patience;
            let mut latest = Time::ZERO;
            while let Some(delivery) = network.poll(end) {
                // Frames wait for each other where one is late.
                latest = latest.max(delivery.at + self.late());
                passage.arrived.push((delivery.payload, latest));
            }
            self.now = end;
            seen.passages.push((*way, passage));
        }
        seen
    }

    /// Two of three within the usual, one late, one in fifty late by a stall.
    fn late(&mut self) -> Span {
        let usual = self.lateness.as_nanos().max(1);
        let draw = u64::from(self.random.next_u32());
        Span::from_nanos(match self.random.next_u32() % 50 {
            0 => draw % (usual * 40),
            n if n % 3 == 0 => draw % (usual * 3),
            _ => draw % usual,
        })
    }
}

/// What is found of links that should be `asked` and are what `world` has.
fn findings(asked: &[HalfLink], depth: Depth, world: &mut World) -> Vec<link::calibration::Finding> {
    let ways = asked.iter().map(|half| Way::new(vec![half.clone()], 1500)).collect();
    let mut calibration = Calibration::new(ways, CAPACITY, depth);
    while let Some(batch) = calibration.next_batch() {
        let seen = world.carry_out(&batch);
        calibration.handle(seen);
        assert!(calibration.batches() < 1000, "it comes to an end");
    }
    calibration.findings()
}

prop_compose! {
    fn half()(
        rate in prop::option::of(300_000..1_000_000_000u64),
        delay in 0..120_000u64,
        jitter in prop::option::weighted(0.3, 0..4_000u64),
        loss in prop::option::weighted(0.4, 0..300_000_000u32),
        burst in prop::option::weighted(0.2, (1_000_000..50_000_000u32, 100_000_000..900_000_000u32)),
        duplicate in prop::option::weighted(0.2, 0..200_000_000u32),
        reorder in prop::option::weighted(0.2, 0..300_000_000u32),
        queue in prop::option::weighted(0.2, 1..400u32),
    ) -> HalfLink {
        let share = |parts| Ratio::from_parts_per_billion(parts).expect("below one");
        let delay = Span::from_micros(delay);
        HalfLink {
            rate: rate.map(Rate::from_bits_per_sec),
            delay,
            jitter: jitter.map_or(Span::ZERO, Span::from_micros).min(delay),
            loss: loss.map_or(Ratio::ZERO, share),
            burst: burst.map(|(p, r)| Burst { p: share(p), r: share(r), good: Ratio::ZERO, bad: Ratio::ONE }),
            duplicate: duplicate.map_or(Ratio::ZERO, share),
            reorder: reorder.map_or(Ratio::ZERO, share),
            queue: queue.map(Queue::Packets),
            ..HalfLink::default()
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn links_that_are_what_was_asked_for_are_found_to_be(
        halves in prop::collection::vec(half(), 1..6), seed: u64, late in 0..40u64,
    ) {
        let mut world = World::new(halves.clone(), seed, Span::from_micros(late));
        for (half, finding) in halves.iter().zip(findings(&halves, Depth::Full, &mut world)) {
            let allowed = [Outcome::Within, Outcome::Unmeasured];
            prop_assert!(allowed.contains(&finding.outcome), "{half:?}\n{finding:?}");
        }
    }

    #[test]
    fn a_link_of_another_delay_is_found_out(
        rate in prop::option::of(300_000..300_000_000u64), delay in 1..100_000u64, off in 3_000..50_000u64, seed: u64, late in 0..40u64,
    ) {
        let rate = rate.map(Rate::from_bits_per_sec);
        let with = |micros| HalfLink { rate, delay: Span::from_micros(micros), ..HalfLink::default() };
        let off = off + delay / 10;
        for (asked, actual) in [(delay, delay + off), (delay + off, delay)] {
            let mut world = World::new(vec![with(actual)], seed, Span::from_micros(late));
            let finding = &findings(&[with(asked)], Depth::Quick, &mut world)[0];
            prop_assert_eq!(finding.outcome, Outcome::Outside, "{:?}", finding);
            let is_it = |deviation: &Deviation| matches!(deviation, Deviation::Delay { .. });
            prop_assert!(finding.deviations.iter().any(is_it), "{:?}", finding);
        }
    }

    #[test]
    fn a_link_of_another_rate_is_found_out(
        rate in 300_000..300_000_000u64, delay in 0..100_000u64, part in 0.1..0.85f64, seed: u64, late in 0..40u64,
    ) {
        let with = |bits| HalfLink {
            rate: Some(Rate::from_bits_per_sec(bits)),
            delay: Span::from_micros(delay),
            queue: Some(Queue::Packets(2000)),
            ..HalfLink::default()
        };
        let slower = (rate as f64 * part) as u64;
        for (asked, actual) in [(rate, slower), (slower, rate)] {
            let mut world = World::new(vec![with(actual)], seed, Span::from_micros(late));
            let finding = &findings(&[with(asked)], Depth::Quick, &mut world)[0];
            prop_assert_eq!(finding.outcome, Outcome::Outside, "{:?}", finding);
            let is_it = |deviation: &Deviation| matches!(deviation, Deviation::Rate { .. });
            prop_assert!(finding.deviations.iter().any(is_it), "{:?}", finding);
        }
    }

    #[test]
    fn a_link_of_another_loss_is_found_out_in_full_depth(seed: u64, percent in 0..20u32, more in 8..30u32) {
        let with = |percent: u32| HalfLink {
            rate: Some(Rate::from_mbit(50)),
            loss: Ratio::from_parts_per_billion(percent * 10_000_000).expect("below one"),
            ..HalfLink::default()
        };
        let mut world = World::new(vec![with(percent + more)], seed, Span::ZERO);
        let finding = &findings(&[with(percent)], Depth::Full, &mut world)[0];
        prop_assert_eq!(finding.outcome, Outcome::Outside, "{:?}", finding);
        let is_it = |deviation: &Deviation| matches!(deviation, Deviation::Loss { .. });
        prop_assert!(finding.deviations.iter().any(is_it), "{:?}", finding);
    }
}

fn rated(mbit: u64, millis: u64) -> HalfLink {
    HalfLink { rate: Some(Rate::from_mbit(mbit)), delay: Span::from_millis(millis), ..HalfLink::default() }
}

#[test]
fn a_silent_link_is_found_out() {
    let gone = HalfLink { loss: Ratio::ONE, ..rated(10, 1) };
    let finding = &findings(&[rated(10, 1)], Depth::Quick, &mut World::new(vec![gone], 1, Span::ZERO))[0];
    assert_eq!((finding.outcome, finding.attempts), (Outcome::Outside, 3));
    let sent = finding.estimate.sent;
    assert_eq!(finding.deviations, [Deviation::Silent { sent, arrived: 0 }]);
}

#[test]
fn who_was_disturbed_each_time_blames_no_link() {
    // Every frame comes a second late, and whoever carries them says so.
    let mut world = World::new(vec![rated(10, 1000)], 1, Span::ZERO);
    let mut calibration = Calibration::new(vec![Way::new(vec![rated(10, 1)], 1500)], CAPACITY, Depth::Quick);
    let mut pauses = Span::ZERO;
    while let Some(batch) = calibration.next_batch() {
        pauses += batch.pause;
        let disturbance = Some(Disturbance::Carrier(Span::from_secs(1)));
        let late = Batch { patience: Span::from_secs(3), ..batch };
        let seen = Seen { disturbance, ..world.carry_out(&late) };
        calibration.handle(seen);
    }
    let finding = &calibration.findings()[0];
    assert_eq!((finding.outcome, finding.attempts), (Outcome::Starved, 8));
    assert!(pauses < Span::from_millis(1500), "{pauses}");
    // A batch in time among them clears it.
    let mut calibration = Calibration::new(vec![Way::new(vec![rated(10, 1)], 1500)], CAPACITY, Depth::Quick);
    for late in [true, true, false] {
        let batch = calibration.next_batch().expect("undecided");
        let mut world = World::new(vec![rated(10, if late { 100 } else { 1 })], 1, Span::ZERO);
        let disturbance = late.then_some(Disturbance::Carrier(Span::from_millis(99)));
        calibration.handle(Seen { disturbance, ..world.carry_out(&batch) });
    }
    assert_eq!((calibration.next_batch(), calibration.findings()[0].outcome), (None, Outcome::Within));
}

#[test]
fn batches_fit_the_machine_and_take_the_longest_first() {
    let mut halves = vec![rated(50, 5); 40];
    halves.push(rated(1, 300));
    let mut world = World::new(halves.clone(), 3, Span::ZERO);
    let ways = halves.iter().map(|half| Way::new(vec![half.clone()], 1500)).collect();
    let mut calibration = Calibration::new(ways, CAPACITY, Depth::Quick);
    let mut sizes = Vec::new();
    while let Some(batch) = calibration.next_batch() {
        let bits: u64 = batch.trains.iter().filter_map(|(way, _)| halves[*way].rate).map(Rate::as_bits_per_sec).sum();
        assert!(bits <= CAPACITY.rate(1514).as_bits_per_sec() / 4, "{bits} bit/s at once");
        assert!(batch.trains.iter().map(|(_, train)| train.frames).sum::<u32>() <= 2048);
        // At most max(0.5 s, 4 × (delay + 20 full frames)).
        assert!(batch.patience <= Span::from_micros((300_000 + 20 * 12_112) * 4), "{}", batch.patience);
        sizes.push(batch.trains.len());
        calibration.handle(world.carry_out(&batch));
    }
    assert_eq!(sizes, [1, 18, 18, 4]);
    assert!(calibration.findings().iter().all(|finding| finding.outcome == Outcome::Within));
}

#[test]
fn who_was_disturbed_and_found_everything_right_goes_on_at_once() {
    let mut calibration = Calibration::new(vec![Way::new(vec![rated(10, 1)], 1500)], CAPACITY, Depth::Full);
    let mut world = World::new(vec![rated(10, 1)], 1, Span::ZERO);
    let disturbance = Some(Disturbance::Prober(Span::from_millis(7)));
    while let Some(batch) = calibration.next_batch() {
        assert_eq!(batch.pause, Span::ZERO);
        calibration.handle(Seen { disturbance, ..world.carry_out(&batch) });
    }
    assert_eq!((calibration.batches(), calibration.findings()[0].outcome), (2, Outcome::Within));
}

/// Two hundred ways take little longer to count than the machine takes for their frames.
#[test]
fn losses_of_many_links_are_counted_at_once() {
    for (ways, frames, most) in [(10, 4000, 600), (200, 800, 2000)] {
        let halves = vec![rated(50, 5); ways];
        let mut world = World::new(halves.clone(), 3, Span::ZERO);
        let asked = halves.iter().map(|half| Way::new(vec![half.clone()], 1500)).collect();
        let mut calibration = Calibration::new(asked, CAPACITY, Depth::Full);
        let (mut counted, mut took) = (0, Span::ZERO);
        while let Some(batch) = calibration.next_batch() {
            let counts = |train: &Train| !train.gap.is_zero();
            let counting = batch.trains.iter().filter(|(_, train)| counts(train)).count();
            assert!([0, batch.trains.len()].contains(&counting), "nothing is timed beside what is counted");
            if counting > 0 {
                let load: u64 = batch.trains.iter().map(|(way, train)| load(train, &halves[*way])).sum();
                assert!(load <= CAPACITY.0 / 2, "{load} frames a second at once");
                assert!(batch.trains.iter().map(|(_, train)| train.waiting()).sum::<u32>() <= 2048);
                assert!(batch.trains.iter().all(|(_, train)| train.frames == frames), "{:?}", batch.trains);
                counted += counting;
                let longest = batch.trains.iter().map(|(_, train)| train.sending()).max().unwrap_or_default();
                took += longest + Span::from_millis(5);
            }
            calibration.handle(world.carry_out(&batch));
        }
        assert_eq!(counted, ways);
        assert!(took <= Span::from_millis(most), "{ways} ways: {took}");
        assert!(calibration.findings().iter().all(|finding| finding.outcome == Outcome::Within));
    }
}

fn load(train: &Train, half: &HalfLink) -> u64 {
    train.load(&Way::new(vec![half.clone()], 1500))
}

#[test]
fn what_loses_everything_or_nothing_needs_no_probe() {
    let halves = [HalfLink::default(), HalfLink { loss: Ratio::ONE, ..HalfLink::default() }];
    let mut world = World::new(halves.to_vec(), 1, Span::ZERO);
    let found = findings(&halves, Depth::Full, &mut world);
    assert_eq!((world.batches, found[1].unmeasured.as_slice()), (0, &[Unmeasured::LosesEverything][..]));
}
