//! The sending end of a bulk transfer without end.

use std::collections::VecDeque;

use machine::{Span, Time};

use super::congestion::{Congestion, Kind};
use super::receiver::Ack;

/// Sends as much as its window allows, and again what was lost.
///
/// A transmission is lost when one that was made three later has arrived: RFC 6675's DupThresh, for retransmissions, too
/// (as RFC 8985 and RFC 9002, section 6.1.1, count). The window is reduced once for all that was in flight then.
#[derive(Clone, Debug)]
pub struct Sender {
    congestion: Congestion,
    /// The first segment that is not acknowledged.
    first: u64,
    /// That and those after it.
    segments: VecDeque<Segment>,
    /// Transmissions that are neither lost nor acknowledged, as far as the front goes: (transmission, segment).
    transmissions: VecDeque<(u64, u64)>,
    next_transmission: u64,
    flying: u64,
    lost: u64,
    /// Losses of earlier transmissions belong to the last reduction.
    reduced_at: u64,
    /// The window grows again once everything below is acknowledged (RFC 6675: RecoveryPoint).
    recovers_until: u64,
    smoothed: Option<(Span, Span)>,
    backoff: u32,
    deadline: Option<Time>,
}

#[derive(Clone, Copy, Debug)]
struct Segment {
    transmission: u64,
    at: Time,
    is_again: bool,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Flying,
    Arrived,
    Lost,
}

const DUPLICATES: u64 = 3;
/// Linux's least; RFC 6298 has a second.
const LEAST_TIMEOUT: Span = Span::from_millis(200);
const FIRST_TIMEOUT: Span = Span::from_secs(1);

impl Sender {
    /// A sender with this congestion control.
    pub fn new(kind: Kind) -> Self {
        Sender {
            congestion: Congestion::new(kind),
            first: 0,
            segments: VecDeque::new(),
            transmissions: VecDeque::new(),
            next_transmission: 0,
            flying: 0,
            lost: 0,
            reduced_at: 0,
            recovers_until: 0,
            smoothed: None,
            backoff: 0,
            deadline: None,
        }
    }

    /// The number of a segment that may go now, and goes.
    pub fn poll(&mut self, now: Time) -> Option<u64> {
        if self.flying as f64 >= self.congestion.window().floor().max(1.0) {
            return None;
        }
        let lost = if self.lost > 0 { self.segments.iter().position(|one| one.state == State::Lost) } else { None };
        let transmission = self.next_transmission;
        let sent = Segment { transmission, at: now, is_again: lost.is_some(), state: State::Flying };
        let index = match lost {
            Some(index) => {
                self.lost -= 1;
                self.segments[index] = sent;
                index
            }
            None => {
                self.segments.push_back(sent);
                self.segments.len() - 1
            }
        };
        let number = self.first + index as u64;
        self.transmissions.push_back((transmission, number));
        self.next_transmission += 1;
        self.flying += 1;
        if self.deadline.is_none() {
            self.arm(now);
        }
        Some(number)
    }

    /// An acknowledgement has come.
    pub fn on_ack(&mut self, now: Time, ack: &Ack) {
        let (mut arrived, mut latest, mut round_trip) = (0, None, None);
        let mut take = |segment: &mut Segment, flying: &mut u64, lost: &mut u64| {
            match segment.state {
                State::Arrived => return,
                State::Flying => *flying -= 1,
                State::Lost => *lost -= 1,
            }
            segment.state = State::Arrived;
            arrived += 1;
            latest = latest.max(Some(segment.transmission));
            if !segment.is_again {
                round_trip = Some(now.since(segment.at));
            }
        };
        let advances = ack.below > self.first;
        while self.first < ack.below
            && let Some(mut segment) = self.segments.pop_front()
        {
            take(&mut segment, &mut self.flying, &mut self.lost);
            self.first += 1;
        }
        for number in ack.block.clone().into_iter().flatten() {
            let index = number.checked_sub(self.first).and_then(|index| usize::try_from(index).ok());
            if let Some(segment) = index.and_then(|index| self.segments.get_mut(index)) {
                take(segment, &mut self.flying, &mut self.lost);
            }
        }
        if let Some(round_trip) = round_trip {
            self.measure(round_trip);
        }
        let has_lost = latest.is_some_and(|latest| self.find_lost(latest));
        let recovers = self.first < self.recovers_until;
        if has_lost {
            self.congestion.on_loss();
            self.reduced_at = self.next_transmission;
            self.recovers_until = self.first + self.segments.len() as u64;
        } else if !recovers && arrived > 0 {
            let round_trip = self.smoothed.map_or(Span::ZERO, |(smoothed, _)| smoothed);
            self.congestion.on_acknowledged(now, round_trip, f64::from(arrived));
        }
        if advances {
            self.backoff = 0;
            self.arm(now);
        }
    }

    /// When it loses patience.
    pub fn deadline(&self) -> Option<Time> {
        self.deadline
    }

    /// Nothing was acknowledged for too long: all that is in flight is lost (RFC 6298, section 5).
    pub fn on_deadline(&mut self, now: Time) {
        for segment in self.segments.iter_mut().filter(|segment| segment.state == State::Flying) {
            segment.state = State::Lost;
            self.lost += 1;
        }
        self.flying = 0;
        self.transmissions.clear();
        self.congestion.on_timeout();
        self.reduced_at = self.next_transmission;
        self.recovers_until = self.first;
        self.backoff += 1;
        self.arm(now);
    }

    /// Marks what is lost now that `latest` has arrived; whether the window has to be reduced for any of it.
    fn find_lost(&mut self, latest: u64) -> bool {
        let mut reduces = false;
        while let Some((transmission, number)) = self.transmissions.front().copied()
            && transmission + DUPLICATES <= latest
        {
            self.transmissions.pop_front();
            let Some(index) = number.checked_sub(self.first) else { continue };
            let segment = &mut self.segments[index as usize];
            if segment.state == State::Flying && segment.transmission == transmission {
                segment.state = State::Lost;
                (self.flying, self.lost) = (self.flying - 1, self.lost + 1);
                reduces |= transmission >= self.reduced_at;
            }
        }
        reduces
    }

    /// RFC 6298, section 2.
    fn measure(&mut self, round_trip: Span) {
        self.smoothed = Some(match self.smoothed {
            None => (round_trip, round_trip / 2),
            Some((smoothed, variation)) => {
                let off = round_trip.saturating_sub(smoothed).max(smoothed.saturating_sub(round_trip));
                ((smoothed * 7 + round_trip) / 8, (variation * 3 + off) / 4)
            }
        });
    }

    fn arm(&mut self, now: Time) {
        let timeout = self.smoothed.map_or(FIRST_TIMEOUT, |(smoothed, variation)| smoothed + variation * 4);
        let timeout = timeout.max(LEAST_TIMEOUT) * (1 << self.backoff.min(6));
        self.deadline = (!self.segments.is_empty()).then_some(now + timeout);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(sender: &mut Sender, now: Time) -> Vec<u64> {
        std::iter::from_fn(|| sender.poll(now)).collect()
    }

    #[test]
    fn what_is_lost_is_found_by_three_later_ones_and_goes_first() {
        let at = |millis| Time::ZERO + Span::from_millis(millis);
        let mut sender = Sender::new(Kind::Reno);
        assert_eq!(sent(&mut sender, at(0)), (0..10).collect::<Vec<_>>());
        for end in 3..=4 {
            sender.on_ack(at(20), &Ack { below: 1, block: Some(2..end) });
        }
        // Two acknowledged after one more in slow start: nothing is lost yet.
        assert_eq!(sent(&mut sender, at(20)), (10..16).collect::<Vec<_>>());
        sender.on_ack(at(21), &Ack { below: 1, block: Some(2..5) });
        assert_eq!(sender.congestion.window(), 6.5, "half of thirteen");
        assert!(sent(&mut sender, at(21)).is_empty(), "as much as that is in flight");
        sender.on_ack(at(40), &Ack { below: 1, block: Some(2..14) });
        assert_eq!(sent(&mut sender, at(40)), [1, 16, 17, 18], "what was lost goes first");
        sender.on_ack(at(60), &Ack { below: 17, block: None });
        assert_eq!(sender.congestion.window(), 6.5 + 4.0 / 6.5, "what arrives from then on counts");
    }

    #[test]
    fn silence_loses_everything_and_begins_again_with_one() {
        let mut sender = Sender::new(Kind::Cubic);
        sent(&mut sender, Time::ZERO);
        let due = sender.deadline().expect("segments are in flight");
        assert_eq!(due, Time::ZERO + FIRST_TIMEOUT);
        sender.on_deadline(due);
        assert_eq!(sent(&mut sender, due), [0]);
        assert_eq!(sender.deadline(), Some(due + FIRST_TIMEOUT * 2));
        sender.on_ack(due, &Ack { below: 1, block: None });
        assert_eq!(sent(&mut sender, due), [1, 2], "slow start");
    }
}
