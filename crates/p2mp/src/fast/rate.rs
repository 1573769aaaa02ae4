//! How fast to send to all: the group's rate, from the paths of its receivers.
//!
//! The states and gains are those of BBR (draft-ietf-ccwg-bbr, section 5): the rate is doubled until delivery no longer
//! grows, what queued up meanwhile is drained, and from then on a little more and a little less than what arrives is sent
//! in turn; now and then the way is emptied to see how long it is. What differs is what a sample is ([`super::path`]: loss
//! that is not from sending is made good), that many receivers are served at one rate, that of the slowest but for
//! stragglers, and that a full queue is answered as TCP does: with less in flight ([`Control::flight`]), and then a packet
//! more each round trip.

use machine::{Span, Time};

use super::path::{Phase, PhaseKind};
use super::tuning::{FIRST_WINDOW, PHASE, SAMPLE, SPARE_FLIGHT};

/// Doubles the rate each round trip (2 / ln 2).
const STARTUP_GAIN: f64 = 2.885;
/// Gains of the phases that follow each other once the rate is known.
const CYCLE: [(PhaseKind, f64); 8] = [
    (PhaseKind::Up, 1.25),
    (PhaseKind::Down, 0.75),
    (PhaseKind::Cruise, 1.0),
    (PhaseKind::Cruise, 1.0),
    (PhaseKind::Cruise, 1.0),
    (PhaseKind::Cruise, 1.0),
    (PhaseKind::Cruise, 1.0),
    (PhaseKind::Cruise, 1.0),
];
const DRAIN_GAIN: f64 = 0.5;
/// How often the way is emptied (draft-ietf-ccwg-bbr, section 2.10: 5 s).
const PROBE_EVERY: Span = Span::from_secs(5);
/// Delivery that grows by less than a quarter in three rounds grows no more.
const STILL_GROWS: f64 = 1.25;
const ROUNDS_WITHOUT_GROWTH: u32 = 3;

/// What all paths together say.
#[derive(Clone, Copy, Debug, Default)]
pub struct Group {
    /// Packets a second that all but stragglers can take.
    pub capacity: Option<f64>,
    /// The longest of their least round trips.
    pub round_trip: Option<Span>,
    /// The queue that most of them see.
    pub queue: Span,
    /// The same, told sooner and not as surely.
    pub rising: Span,
    /// Where half of them or more have lately lost packets to a full queue: these were sent from then on.
    pub congested: Option<Time>,
}

/// The pace of sending.
#[derive(Clone, Debug)]
pub struct Control {
    fixed: Option<f64>,
    state: State,
    phase_index: u32,
    phase_since: Time,
    group: Group,
    /// What may be in flight since a queue was full.
    ceiling: Option<Ceiling>,
    /// From when on full queues count: when the rate was found and what that cost is over.
    shares_from: Option<Time>,
    /// When the way was empty of our packets last.
    probed: Time,
}

/// A bound on what is in flight.
#[derive(Clone, Copy, Debug)]
struct Ceiling {
    packets: f64,
    /// When it was lowered and raised last.
    lowered: Time,
    raised: Time,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum State {
    Startup {
        best: f64,
        rounds_without_growth: u32,
        /// The round ends when this packet has arrived.
        until_number: u64,
    },
    Drain,
    Cycle {
        step: usize,
    },
    /// Little is in flight, to see how fast packets are when none waits.
    Probe {
        until: Time,
    },
}

impl Control {
    /// Finds the rate by itself, or keeps to `fixed` packets a second.
    pub fn new(now: Time, fixed: Option<f64>) -> Self {
        let state = State::Startup { best: 0.0, rounds_without_growth: 0, until_number: 0 };
        Control {
            fixed,
            state,
            phase_index: 0,
            phase_since: now,
            group: Group::default(),
            ceiling: None,
            shares_from: None,
            probed: now,
        }
    }

    /// Finds the rate by itself, but from one that is known to be too high: first the queue empties that it has made.
    pub fn drained(now: Time) -> Self {
        Control { state: State::Drain, ..Control::new(now, None) }
    }

    /// Takes what the paths say. `sent` is the last packet's number, `arrived` the highest that has arrived everywhere.
    pub fn update(&mut self, now: Time, group: Group, sent: u64, arrived: u64) {
        self.group = group;
        let Some(capacity) = group.capacity else { return };
        let round_trip = group.round_trip.unwrap_or(Span::ZERO);
        self.share(now, capacity, sent.saturating_sub(arrived) as f64);
        let elapsed = now.since(self.phase_since);
        let lasts = self.phase_lasts();
        match &mut self.state {
            State::Startup { best, rounds_without_growth, until_number } => {
                // What is doubled each round trip must not wait to be sure.
                let queue_is_long = group.rising > (round_trip / 4).max(Span::from_millis(4));
                if arrived >= *until_number && elapsed >= SAMPLE {
                    *until_number = sent + 1;
                    if capacity >= *best * STILL_GROWS {
                        (*best, *rounds_without_growth) = (capacity, 0);
                    } else {
                        *rounds_without_growth += 1;
                    }
                    let is_over = *rounds_without_growth >= ROUNDS_WITHOUT_GROWTH;
                    self.enter(now, if is_over { State::Drain } else { self.state });
                }
                if queue_is_long && matches!(self.state, State::Startup { .. }) {
                    self.enter(now, State::Drain);
                }
            }
            State::Drain => {
                let is_short = group.queue < round_trip / 8 + Span::from_millis(1);
                if (is_short && elapsed >= round_trip) || elapsed >= lasts * 3 {
                    self.shares_from = Some(now + round_trip * 2 + PHASE * 2);
                    self.enter(now, State::Cycle { step: 2 });
                }
            }
            State::Cycle { step } => {
                if elapsed >= lasts {
                    let step = (*step + 1) % CYCLE.len();
                    if step == 0 && now.since(self.probed) >= PROBE_EVERY {
                        // What is in flight arrives, and then what is sent behind it.
                        let until = now + (round_trip + group.queue) + round_trip.max(PHASE);
                        return self.enter(now, State::Probe { until });
                    }
                    self.enter(now, State::Cycle { step });
                }
            }
            State::Probe { until } => {
                if *until <= now {
                    self.probed = now;
                    self.enter(now, State::Cycle { step: 2 });
                }
            }
        }
    }

    /// The phase that packets are sent in now.
    pub fn phase(&self) -> Phase {
        let kind = match self.state {
            State::Startup { .. } => PhaseKind::Startup,
            State::Drain | State::Probe { .. } => PhaseKind::Down,
            State::Cycle { step } => CYCLE[step].0,
        };
        Phase { index: self.phase_index, kind, lasts: self.phase_lasts() }
    }

    /// A round trip, and long enough that what is lost of it says something.
    fn phase_lasts(&self) -> Span {
        let packets = Span::from_secs_f64(PACKETS_A_PHASE / self.group.capacity.unwrap_or(f64::INFINITY));
        self.group.round_trip.unwrap_or(Span::ZERO).max(PHASE).max(packets)
    }

    /// Packets a second.
    pub fn rate(&self) -> f64 {
        if let Some(fixed) = self.fixed {
            return fixed;
        }
        let gain = match self.state {
            State::Startup { .. } => STARTUP_GAIN,
            State::Drain | State::Probe { .. } => DRAIN_GAIN,
            State::Cycle { step } => CYCLE[step].1,
        };
        match self.group.capacity {
            Some(capacity) => {
                let round_trip = self.group.round_trip.unwrap_or(Span::from_secs(1)).as_secs_f64();
                (gain * capacity).max(LEAST_WINDOW / round_trip.clamp(0.001, 1.0))
            }
            None => {
                let round_trip = self.group.round_trip.unwrap_or(Span::from_millis(100)).max(Span::from_micros(100));
                f64::from(FIRST_WINDOW) / round_trip.as_secs_f64()
            }
        }
    }

    /// How many packets may be in flight beyond what the receivers' sockets hold: `None` is without bound.
    pub fn flight(&self) -> Option<f64> {
        if self.fixed.is_some() {
            return None;
        }
        let Some(capacity) = self.group.capacity else { return Some(f64::from(FIRST_WINDOW)) };
        let round_trip = self.group.round_trip.unwrap_or(Span::ZERO).as_secs_f64();
        let gain = match self.state {
            State::Startup { .. } => STARTUP_GAIN,
            State::Probe { .. } => return Some(capacity * round_trip * DRAIN_GAIN + LEAST_WINDOW),
            State::Drain | State::Cycle { .. } => 2.0,
        };
        let flight = capacity * (gain * round_trip + SPARE_FLIGHT.as_secs_f64()) + f64::from(2 * FIRST_WINDOW);
        Some(self.ceiling.map_or(flight, |ceiling| flight.min(ceiling.packets)))
    }

    /// Leaves room for others where a queue was filled: less is in flight at once, and then a little more each round trip.
    /// Who has the line for himself fills no queue, and so yields nothing.
    fn share(&mut self, now: Time, capacity: f64, flying: f64) {
        let least = self.group.round_trip.unwrap_or(Span::ZERO);
        let round_trip = (least + self.group.queue).max(Span::from_millis(1));
        let flying = flying.max(capacity * round_trip.as_secs_f64());
        // Less than what fits onto the way would leave it idle.
        let fits = capacity * least.as_secs_f64() + LEAST_WINDOW;
        // What was overrun in search of the rate is drained already.
        let counts = self.group.congested.filter(|_| self.shares_from.is_some_and(|from| from <= now));
        match &mut self.ceiling {
            // What was sent before tells nothing of what it has done.
            Some(ceiling) if counts.is_some_and(|sent_from| sent_from >= ceiling.lowered) => {
                ceiling.packets = (ceiling.packets.min(flying) * YIELD).max(fits);
                (ceiling.lowered, ceiling.raised) = (now, now);
            }
            None if counts.is_some() => {
                let packets = (flying * YIELD).max(fits);
                self.ceiling = Some(Ceiling { packets, lowered: now, raised: now });
            }
            Some(ceiling) if ceiling.packets > 4.0 * flying + f64::from(4 * FIRST_WINDOW) => self.ceiling = None,
            Some(ceiling) if now.since(ceiling.raised) >= round_trip => {
                ceiling.packets += GROWTH;
                ceiling.raised = now;
            }
            _ => {}
        }
    }

    /// Packets a second that are known to arrive.
    pub fn capacity(&self) -> Option<f64> {
        self.fixed.or(self.group.capacity)
    }

    fn enter(&mut self, now: Time, state: State) {
        self.state = state;
        self.phase_index += 1;
        self.phase_since = now;
    }
}

/// What remains in flight after a queue was full (RFC 9438, section 4.6), and packets more for each round trip after that
/// (RFC 5681, section 3.1). Together they would take more than Reno, but pacing leaves some of what may be in flight unused.
const YIELD: f64 = 0.7;
const GROWTH: f64 = 1.0;
/// Packets a round trip: however bad the way, something must go out to learn of its recovery (draft-ietf-ccwg-bbr has the
/// same four).
const LEAST_WINDOW: f64 = 4.0;
/// The share lost of fewer packets is chance.
const PACKETS_A_PHASE: f64 = 32.0;

/// The capacity that a group is served at: that of its slowest, but for *stragglers*, which have less than half of what the
/// middle one has, and in a large group for the slowest tenth, whose measurements are partly chance.
pub fn of_group(capacities: &mut [f64]) -> Option<f64> {
    capacities.sort_by(f64::total_cmp);
    let straggles = straggling(capacities);
    let first = capacities.partition_point(|capacity| *capacity < straggles);
    let able = &capacities[first..];
    able.get(if able.len() > 10 { able.len() / 10 } else { 0 }).copied()
}

/// Who has less is a straggler, of capacities that rise.
pub fn straggling(capacities: &[f64]) -> f64 {
    capacities.get(capacities.len() / 2).map_or(0.0, |middle| middle / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_queue_is_answered_once_a_round_trip() {
        let mut control = Control::new(Time::ZERO, None);
        let mut update = |millis, is_congested: bool| {
            let round_trip = Some(Span::from_millis(20));
            let now = Time::ZERO + Span::from_millis(millis);
            let congested = is_congested.then(|| now - Span::from_millis(20));
            let group = Group { capacity: Some(1000.0), round_trip, queue: Span::ZERO, rising: Span::ZERO, congested };
            control.update(now, group, millis + 60, millis);
            control.flight().expect("the rate is not fixed")
        };
        let before = (0..1000).map(|millis| update(millis, false)).last();
        assert_eq!(before, Some(2.0 * 20.0 + 15.0 + 64.0), "alone it is bound by the way");
        let all = (1000..1020).map(|millis| update(millis, true)).collect::<Vec<_>>();
        assert_eq!(all, [42.0; 20], "seven tenths of sixty");
        let after = (1020..1060).map(|millis| update(millis, false)).collect::<Vec<_>>();
        assert_eq!((after[0], after[20], after[39]), (43.0, 44.0, 44.0), "one more each round trip");
        assert_eq!(update(1060, true), 44.0 * 0.7);
    }

    #[test]
    fn stragglers_do_not_set_the_rate() {
        assert_eq!(of_group(&mut []), None);
        assert_eq!(of_group(&mut [7.0]), Some(7.0));
        assert_eq!(of_group(&mut [90.0, 100.0, 5.0, 95.0]), Some(90.0));
        assert_eq!(of_group(&mut [60.0, 100.0]), Some(60.0));
        let mut many: Vec<_> = (0..1000).map(|index| 1000.0 + f64::from(index)).collect();
        assert_eq!(of_group(&mut many), Some(1100.0));
    }
}
