//! Both classic machines against each other in virtual time, over a network that loses, delays, repeats and damages.
#![allow(clippy::unwrap_used, reason = "in a test a panic is the report")]

use std::collections::BTreeMap;

use machine::{Machine, Ratio, Seed, Span, Stream, Time};
use p2mp::LossService;
use p2mp::classic::receiver::{self, Arrived};
use p2mp::classic::sender::{self, Acknowledged};
use p2mp::classic::{Receiver, Rounds, Sender, SenderConfig, StopAndWait, Summary, Timeout};
use proptest::prelude::*;
use rand::Rng;

/// What the network does to each datagram, in either direction.
#[derive(Clone, Copy, Debug)]
struct Weather {
    loss: f64,
    repeated: f64,
    damaged: f64,
    delay: Span,
    /// Up to this much on top, so datagrams overtake each other.
    jitter: Span,
}

const FAIR: Weather =
    Weather { loss: 0.0, repeated: 0.0, damaged: 0.0, delay: Span::from_micros(500), jitter: Span::ZERO };

#[derive(Clone, Copy, Debug)]
enum Datagram {
    Segment { to: usize, arrived: Arrived },
    Acknowledgement { from: usize, sequence: u32 },
}

struct World {
    now: Time,
    weather: Weather,
    dice: Stream,
    sender: Sender,
    receivers: Vec<Seat>,
    /// What is on its way, by arrival.
    flying: BTreeMap<(Time, u64), Datagram>,
    sent: u64,
    summary: Option<Summary>,
}

/// A receiver and what it wrote.
struct Seat {
    machine: Receiver,
    loss: LossService,
    /// Hears nothing before, and nothing from the second on.
    alive: (Time, Time),
    written: u64,
    finished: Option<u32>,
}

impl World {
    fn new(config: SenderConfig, weather: Weather, p: Ratio, seed: Seed) -> Self {
        let seat = |index: usize| Seat {
            machine: Receiver::new(),
            loss: LossService::new(p, seed.derive(&format!("receiver {index}"))),
            alive: (Time::ZERO, Time::MAX),
            written: 0,
            finished: None,
        };
        World {
            now: Time::ZERO,
            weather,
            dice: seed.derive("weather").stream(),
            sender: Sender::new(config, Time::ZERO).unwrap(),
            receivers: (0..config.receivers).map(seat).collect(),
            flying: BTreeMap::new(),
            sent: 0,
            summary: None,
        }
    }

    fn chance(&mut self, share: f64) -> bool {
        (self.dice.next_u32() as f64) < share * 2_f64.powi(32)
    }

    fn throw(&mut self, datagram: Datagram) {
        let copies = 1 + usize::from(self.chance(self.weather.repeated));
        for _ in 0..copies {
            if self.chance(self.weather.loss) {
                continue;
            }
            let jitter = Span::from_nanos(self.dice.next_u64() % (self.weather.jitter.as_nanos() + 1));
            let mut datagram = datagram;
            if self.chance(self.weather.damaged) {
                match &mut datagram {
                    Datagram::Segment { arrived, .. } => arrived.sound = false,
                    // An acknowledgement has no checksum: it may say anything that was ever sent.
                    Datagram::Acknowledgement { .. } => continue,
                }
            }
            self.sent += 1;
            self.flying.insert((self.now + self.weather.delay + jitter, self.sent), datagram);
        }
    }

    fn carry_out(&mut self) {
        while let Some(output) = self.sender.poll() {
            match output {
                sender::Output::Send { receiver, sequence, length } => {
                    self.throw(Datagram::Segment { to: receiver, arrived: Arrived { sequence, length, sound: true } });
                }
                sender::Output::TimedOut { .. } | sender::Output::GaveUp { .. } => {}
                sender::Output::Finished(summary) => {
                    assert!(self.summary.replace(summary).is_none(), "it finished twice");
                }
            }
        }
    }

    fn deliver(&mut self, datagram: Datagram) {
        match datagram {
            Datagram::Acknowledgement { from, sequence } => {
                self.sender.handle(self.now, Acknowledged { receiver: from, sequence });
            }
            Datagram::Segment { to, arrived } => {
                let seat = &mut self.receivers[to];
                let (from, until) = seat.alive;
                if self.now < from || self.now >= until || seat.loss.discards() {
                    return;
                }
                seat.machine.handle(self.now, arrived);
                while let Some(output) = self.receivers[to].machine.poll() {
                    let seat = &mut self.receivers[to];
                    match output {
                        receiver::Output::Acknowledge { sequence } => {
                            self.throw(Datagram::Acknowledgement { from: to, sequence });
                        }
                        receiver::Output::Write { offset, length } => {
                            assert_eq!(u64::from(offset), seat.written, "written out of order");
                            assert_eq!((offset, length), (arrived.sequence, arrived.length));
                            seat.written += u64::from(length);
                        }
                        receiver::Output::Finished { length } => {
                            assert_eq!(u64::from(length), seat.written);
                            assert!(seat.finished.replace(length).is_none(), "it finished twice");
                        }
                    }
                }
            }
        }
    }

    /// Runs until the sender is finished.
    fn run(&mut self, most_steps: u64) -> Summary {
        for _ in 0..most_steps {
            self.carry_out();
            if let Some(summary) = self.summary.take() {
                assert_eq!(self.sender.deadline(), None, "it is finished, but wants to be woken");
                return summary;
            }
            let (due, _) = self.sender.deadline().expect("until it is finished it has a deadline");
            match self.flying.first_key_value().map(|(key, datagram)| (*key, *datagram)) {
                Some(((at, ordinal), datagram)) if at <= due => {
                    self.now = at;
                    self.flying.remove(&(at, ordinal));
                    self.deliver(datagram);
                }
                _ => {
                    self.now = due;
                    self.sender.advance(due);
                }
            }
        }
        panic!("not finished after {most_steps} steps, at {:?}", self.now);
    }
}

const LONG: Span = Span::from_secs(3600);

fn config(length: u64, mss: u32, receivers: usize, timeout: Timeout) -> SenderConfig {
    SenderConfig { length, mss, receivers, timeout, give_up: LONG }
}

fn timeouts() -> impl Strategy<Value = Timeout> {
    prop_oneof![
        Just(Timeout::Adaptive),
        (1_u64..50).prop_map(|ms| Timeout::Fixed(Span::from_millis(ms))),
        (1_u64..50).prop_map(|ms| Timeout::Shared(Span::from_millis(ms))),
    ]
}

fn weathers() -> impl Strategy<Value = Weather> {
    (0.0..0.6, 0.0..0.5, 0.0..0.3, 0_u64..5_000, 0_u64..50_000).prop_map(|(loss, repeated, damaged, delay, jitter)| {
        Weather { loss, repeated, damaged, delay: Span::from_micros(delay), jitter: Span::from_micros(jitter) }
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn whatever_the_weather_everybody_gets_the_file(
        weather in weathers(), timeout in timeouts(), receivers in 1_usize..6, length in 0_u64..6_000, mss in 1_u32..800,
        p in 0_u32..400_000_000, seed: u64,
    ) {
        // A byte a segment is a lot of them.
        let length = length.min(u64::from(mss) * 60);
        let p = Ratio::from_parts_per_billion(p).unwrap();
        let mut world = World::new(config(length, mss, receivers, timeout), weather, p, Seed::new(seed));
        let summary = world.run(2_000_000);
        prop_assert!(summary.is_complete());
        prop_assert_eq!((summary.bytes, summary.segments), (length, length.div_ceil(u64::from(mss))));
        for (seat, delivery) in world.receivers.iter().zip(&summary.receivers) {
            prop_assert_eq!((seat.written, seat.finished.map(u64::from)), (length, Some(length)));
            prop_assert_eq!(delivery.acknowledged, length);
        }
    }

    #[test]
    fn who_dies_is_given_up_and_the_rest_gets_the_file(
        weather in weathers(), timeout in timeouts(), receivers in 1_usize..6, length in 0_u64..6_000,
        lives in prop::collection::vec(prop::option::of(0_u64..2_000), 6), seed: u64,
    ) {
        // In the worst weather a try succeeds in one of nine cases: two thousand in vain are no chance.
        let slowest = match timeout {
            Timeout::Adaptive => p2mp::classic::rto::CEILING,
            Timeout::Fixed(timeout) | Timeout::Shared(timeout) => timeout,
        };
        let give_up = slowest * 2000;
        let config = SenderConfig { give_up, ..config(length, 100, receivers, timeout) };
        let mut world = World::new(config, weather, Ratio::ZERO, Seed::new(seed));
        for (seat, death) in world.receivers.iter_mut().zip(&lives) {
            seat.alive.1 = death.map_or(Time::MAX, |ms| Time::ZERO + Span::from_millis(ms));
        }
        let summary = world.run(2_000_000);
        for ((seat, delivery), death) in world.receivers.iter().zip(&summary.receivers).zip(&lives) {
            if delivery.complete || death.is_none() {
                prop_assert_eq!((delivery.complete, seat.written, seat.finished.map(u64::from)), (true, length, Some(length)));
            } else {
                prop_assert!(seat.written >= delivery.acknowledged);
            }
        }
    }

    #[test]
    fn forged_acknowledgements_neither_panic_nor_finish_a_file_early(
        forged in prop::collection::vec((0_usize..5, any::<u32>(), 0_u64..100), 0..200), length in 1_u64..5_000,
    ) {
        let mut sender = Sender::new(config(length, 100, 3, Timeout::Adaptive), Time::ZERO).unwrap();
        let mut now = Time::ZERO;
        for (receiver, sequence, ms) in forged {
            now += Span::from_millis(ms);
            // Any sequence but the one under way, or any receiver that does not exist.
            let harmless = receiver >= 3 || sequence != 0;
            if harmless {
                sender.handle(now, Acknowledged { receiver, sequence });
            }
            sender.advance(now);
            while let Some(output) = sender.poll() {
                prop_assert!(!matches!(output, sender::Output::Finished(_)));
            }
        }
        prop_assert_eq!(sender.acknowledged(), 0);
    }
}

#[test]
fn a_receiver_that_starts_late_gets_the_file() {
    for timeout in [Timeout::Adaptive, Timeout::Fixed(Span::from_secs(1)), Timeout::Shared(Span::from_secs(1))] {
        let mut world = World::new(config(5_000, 500, 3, timeout), FAIR, Ratio::ZERO, Seed::new(1));
        let start = Time::ZERO + Span::from_secs(10);
        world.receivers[1].alive.0 = start;
        let summary = world.run(100_000);
        assert!(summary.is_complete(), "{timeout:?}");
        assert_eq!((summary.receivers[0].retransmissions, summary.receivers[2].retransmissions), (0, 0), "{timeout:?}");
        // The longest wait between two attempts is the estimator's ceiling.
        assert!(summary.elapsed < Span::from_secs(13), "{timeout:?}: {}", summary.elapsed);
    }
}

#[test]
fn one_who_is_silent_is_given_up_when_that_was_promised() {
    let config = SenderConfig { give_up: Span::from_secs(30), ..config(5_000, 500, 2, Timeout::Adaptive) };
    let mut world = World::new(config, FAIR, Ratio::ZERO, Seed::new(1));
    world.receivers[0].alive = (Time::MAX, Time::MAX);
    let summary = world.run(100_000);
    assert_eq!(summary.receivers.iter().map(|receiver| receiver.complete).collect::<Vec<_>>(), [false, true]);
    // The other segments and the end, a millisecond each.
    assert_eq!(summary.elapsed, Span::from_secs(30) + Span::from_millis(10));
    assert_eq!((summary.segments, summary.bytes), (10, 5_000));
}

/// Who was stopped for a while must not blame those who could not be heard meanwhile.
#[test]
fn a_sender_that_was_asleep_gives_nobody_up_for_that() {
    let config = SenderConfig { give_up: Span::from_secs(30), ..config(10, 10, 1, Timeout::Adaptive) };
    let mut sender = Sender::new(config, Time::ZERO).unwrap();
    let outputs = |sender: &mut Sender| std::iter::from_fn(|| sender.poll()).collect::<Vec<_>>();
    let send = sender::Output::Send { receiver: 0, sequence: 0, length: 10 };
    assert_eq!(outputs(&mut sender).first(), Some(&send));
    let awake = Time::ZERO + Span::from_secs(60);
    sender.advance(awake);
    let late = sender::Output::TimedOut { receiver: Some(0), sequence: 0 };
    assert_eq!(outputs(&mut sender), [late, send], "it asks again");
    // From now on as if it had just begun.
    let mut gave_up = None;
    while let Some((due, _)) = sender.deadline() {
        sender.advance(due);
        gave_up = outputs(&mut sender)
            .into_iter()
            .any(|output| matches!(output, sender::Output::GaveUp { .. }))
            .then_some(due);
    }
    assert_eq!(gave_up, Some(awake + Span::from_secs(30)));
}

#[test]
fn with_nobody_left_it_ends() {
    let config = SenderConfig { give_up: Span::from_secs(30), ..config(5_000, 500, 2, Timeout::Adaptive) };
    let mut world = World::new(config, FAIR, Ratio::ZERO, Seed::new(1));
    world.receivers.iter_mut().for_each(|seat| seat.alive.1 = Time::ZERO + Span::from_millis(4));
    let summary = world.run(100_000);
    // The receivers hear at 0.5, 1.5, 2.5 and 3.5 ms.
    assert_eq!((summary.segments, summary.bytes, summary.is_complete()), (4, 2_000, false));
    assert_eq!(summary.elapsed, Span::from_secs(30) + Span::from_millis(4));
}

#[test]
fn the_longest_file_ends_at_the_last_sequence_number() {
    let length = u64::from(u32::MAX);
    let mut world = World::new(config(length, 65_000, 2, Timeout::Adaptive), FAIR, Ratio::ZERO, Seed::new(1));
    let summary = world.run(10_000_000);
    assert!(summary.is_complete());
    assert_eq!(world.receivers[1].finished, Some(u32::MAX));
    let too_long = Sender::new(config(length + 1, 65_000, 2, Timeout::Adaptive), Time::ZERO).unwrap_err();
    let says = "a file of 4294967296 bytes is too long for 32-bit sequence numbers, which end at 4294967295";
    assert_eq!(too_long.to_string(), says);
}

/// What a fixed timeout takes on average is what theory says, whichever way datagrams are lost.
#[test]
fn the_time_is_the_predicted_one() {
    for (receivers, p, acknowledgement_loss) in
        [(1_u32, "0.05", "0"), (3, "0.1", "0"), (5, "0.05", "0"), (3, "0.05", "0.1")]
    {
        let (p, a): (Ratio, Ratio) = (p.parse().unwrap(), acknowledgement_loss.parse().unwrap());
        // The network loses in both directions alike, the loss service only segments.
        let weather = Weather { loss: a.as_f64(), ..FAIR };
        let lost = 1.0 - (1.0 - p.as_f64()) * (1.0 - a.as_f64());
        let theory = StopAndWait {
            segments: 2_001,
            receivers,
            loss: Ratio::from_parts_per_billion((lost * 1e9).round() as u32).unwrap(),
            acknowledgement_loss: a,
            timeout: Span::from_secs(1),
            round_trip: Span::from_millis(1),
            sending: Span::ZERO,
        };
        const TRANSFERS: u32 = 20;
        let fixed = Timeout::Fixed(theory.timeout);
        let total: f64 = (0..u64::from(TRANSFERS))
            .map(|seed| {
                let config = config(1_000_000, 500, receivers as usize, fixed);
                let summary = World::new(config, weather, p, Seed::new(seed)).run(10_000_000);
                // Each round of a segment but its last one cost a timeout, and nothing else did.
                let Rounds { count, needless, waited } = summary.rounds;
                assert_eq!(needless, 0);
                assert_eq!(waited, theory.timeout * (count - theory.segments));
                assert_eq!(summary.elapsed - waited, theory.round_trip * theory.segments);
                summary.elapsed.as_secs_f64()
            })
            .sum();
        let (mean, expected) = (total / f64::from(TRANSFERS), theory.expected_seconds());
        let error = theory.standard_error_seconds(TRANSFERS);
        assert!((mean - expected).abs() <= 3.0 * error, "{theory:?}: {mean} s, not {expected} ± {error} s");
    }
}

/// The estimator is worth it: on a network whose round trip is a millisecond it is far faster than the fixed second.
#[test]
fn adapting_is_at_least_a_hundred_times_faster_than_a_second() {
    let p = "0.05".parse().unwrap();
    let elapsed =
        |timeout| World::new(config(1_000_000, 500, 5, timeout), FAIR, p, Seed::new(1)).run(10_000_000).elapsed;
    let (fixed, adaptive) = (elapsed(Timeout::Fixed(Span::from_secs(1))), elapsed(Timeout::Adaptive));
    assert!(adaptive * 100 < fixed, "{adaptive} against {fixed}");
}

/// Without losses, one timer for the round and one for each receiver are the same; with them, who is late is told once.
#[test]
fn a_shared_timer_is_told_once_a_round() {
    let mut sender = Sender::new(config(10, 10, 3, Timeout::Shared(Span::from_secs(1))), Time::ZERO).unwrap();
    let outputs = |sender: &mut Sender| std::iter::from_fn(|| sender.poll()).collect::<Vec<_>>();
    let send = |receiver| sender::Output::Send { receiver, sequence: 0, length: 10 };
    assert_eq!(outputs(&mut sender), [send(0), send(1), send(2)]);
    sender.handle(Time::ZERO + Span::from_millis(600), Acknowledged { receiver: 1, sequence: 0 });
    // What is left of the round is what the others have.
    assert_eq!(sender.deadline().unwrap().0, Time::ZERO + Span::from_secs(1));
    sender.advance(Time::ZERO + Span::from_secs(1));
    let late = sender::Output::TimedOut { receiver: None, sequence: 0 };
    assert_eq!(outputs(&mut sender), [late, send(0), send(2)]);
}
