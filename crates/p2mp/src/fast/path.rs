//! What is known of the way to one receiver, from its reports: delay, queue, delivery and loss.

use std::cmp::Reverse;
use std::collections::VecDeque;

use machine::{Span, Time};

use super::report::Report;
use super::tuning::{LEAST_DELAY_COUNTS, REPORTS_A_ROUND, SAMPLE};

/// Measurements of one way, taken from reports.
///
/// **Delivery** is how many packets arrived, over the longer of the times in which they were sent and in which they
/// arrived (as in draft-ietf-ccwg-bbr, section 4.1). **Loss** that does not come from sending too fast is told by the
/// phases in which less was sent than arrives: what is lost even then is the way's own, and delivery is divided by what
/// remains of it. A rate that followed delivery alone would shrink with each loss of radio, one that followed loss as well
/// would collapse (RFC 5348: 4.3 Mbit/s at 5 % and 10 ms).
///
/// **Congestion** is loss beyond that behind a queue that is long: a queue drops when it is full, so at least half as long as
/// the longest of late. What stands in a queue is the least of a few reports, as a busy machine makes single ones late.
#[derive(Clone, Debug, Default)]
pub struct Path {
    round_trip: Least<u64>,
    smoothed: Option<u64>,
    one_way: Least<i64>,
    /// The receiver's clock minus ours at the first measurement, in wrapping microseconds.
    clock_offset_us: Option<u32>,
    /// How long packets took by the last reports, oldest first, in microseconds beyond the first one.
    delays: VecDeque<(Time, i64)>,
    /// What stands of them.
    queue: Span,
    /// What stands of the last two.
    rising: Span,
    /// The longest queue since the anchor.
    longest_queue: Span,
    /// The longest of late.
    fullest: Least<Reverse<Span>>,
    anchor: Option<Anchor>,
    delivered: Greatest,
    /// The share that did not arrive, last.
    missed: f64,
    congestion: Option<Congestion>,
    loss: Loss,
    /// The least one-way delay when loss was begun to be measured.
    loss_since: Option<i64>,
}

/// Packets were lost because a queue was full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Congestion {
    /// When that was told.
    pub told: Time,
    /// They were sent from then on.
    pub sent_from: Time,
}

/// When and how a packet was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sent {
    /// When.
    pub at: Time,
    /// In which phase of probing.
    pub phase: Phase,
}

/// A stretch of sending at one gain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Phase {
    /// Counts phases.
    pub index: u32,
    /// What it does.
    pub kind: PhaseKind,
    /// How long such a phase lasts.
    pub lasts: Span,
}

/// What a phase of sending is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PhaseKind {
    /// The rate is not known yet.
    Startup,
    /// More is sent than arrives.
    Up,
    /// Less is sent than arrives, so that a queue empties.
    Down,
    /// As much is sent as arrives.
    Cruise,
}

/// From where the next measurement begins.
#[derive(Clone, Copy, Debug)]
struct Anchor {
    number: u64,
    received: u64,
    sent: Sent,
    arrived_us: u32,
}

impl Path {
    /// The least round trip of late; `None` before the first measurement.
    pub fn least_round_trip(&self) -> Option<Span> {
        self.round_trip.get().map(Span::from_nanos)
    }

    /// The round trip as it is now.
    pub fn round_trip(&self) -> Option<Span> {
        self.smoothed.map(Span::from_nanos)
    }

    /// How much longer packets take now than the fastest of late: the least of the last few, as a busy machine only ever
    /// adds to what the network does.
    pub fn queue(&self) -> Span {
        self.queue
    }

    /// As [`queue`](Path::queue), but of the last two reports only: sooner, and not as sure.
    pub fn rising(&self) -> Span {
        self.rising
    }

    /// Packets a second that can be sent so that none waits for long, loss made good; `None` before the first
    /// measurement.
    pub fn capacity(&self) -> Option<f64> {
        self.delivered.get()
    }

    /// The share of packets that the way loses by itself.
    pub fn loss(&self) -> f64 {
        self.loss.share()
    }

    /// The share of the packets sent lately that arrived, whatever the reason for the others.
    pub fn arrived(&self) -> f64 {
        1.0 - self.missed
    }

    /// When more was last lost than the way loses by itself, behind a long queue: it was full, and others feel that, too.
    pub fn congestion(&self) -> Option<Congestion> {
        self.congestion
    }

    /// Forgets where it was: the receiver has begun to count anew.
    pub fn reset_counters(&mut self) {
        self.anchor = None;
        self.clock_offset_us = None;
        self.one_way = Least::default();
        self.delays.clear();
        self.loss_since = None;
        (self.queue, self.rising) = (Span::ZERO, Span::ZERO);
    }

    /// Takes the answer to an announcement, or to a packet whose sending is not remembered.
    pub fn on_echo(&mut self, now: Time, round_trip: Span) {
        self.round_trip.take(now, round_trip.as_nanos());
        let smoothed = self.smoothed.unwrap_or(round_trip.as_nanos());
        self.smoothed = Some((smoothed * 7 + round_trip.as_nanos()) / 8);
    }

    /// Takes a report; `sent` is when its highest packet was.
    pub fn on_report(&mut self, now: Time, report: &Report, sent: Sent) {
        let held = Span::from_micros(u64::from(report.held_us));
        self.on_echo(now, now.since(sent.at).saturating_sub(held));
        self.on_one_way(now, report.arrived_us, sent.at);

        let Some(anchor) = self.anchor else {
            return self.restart(report, sent);
        };
        if report.highest <= anchor.number || report.received < anchor.received {
            if report.received < anchor.received {
                self.restart(report, sent);
            }
            return;
        }
        let least = self.least_round_trip().unwrap_or(Span::ZERO);
        let sending = sent.at.since(anchor.sent.at);
        let changed = sent.phase.index != anchor.sent.phase.index;
        if sending < SAMPLE.max(least / 2) && !(changed && sending >= SAMPLE / 2) {
            return;
        }
        let numbered = (report.highest - anchor.number) as f64;
        let arrived = ((report.received - anchor.received) as f64).min(numbered);
        let arriving = Span::from_micros(u64::from(report.arrived_us.wrapping_sub(anchor.arrived_us)));
        self.fullest.take(now, Reverse(self.longest_queue));
        let fullest = self.fullest.get().map_or(Span::ZERO, |Reverse(fullest)| fullest);
        let queue_is_short = self.longest_queue <= (least / 8).max(SHORT_QUEUE).max(fullest / 4);
        if !changed && queue_is_short {
            self.loss.take(anchor.sent.phase, numbered, numbered - arrived);
        }
        let own = self.loss.share();
        // What is lost by chance varies: three standard deviations of that are no sign. Where nothing is, each loss is one.
        let chance = if own < CLEAN { 0.0 } else { 3.0 * (own * (1.0 - own) / numbered).sqrt() + CONGESTED };
        let is_long = self.longest_queue >= SHORT_QUEUE.max(fullest / 2);
        if is_long && 1.0 - arrived / numbered > own + chance {
            self.congestion = Some(Congestion { told: now, sent_from: anchor.sent.at });
        }
        if numbered >= Loss::SOMETHING {
            self.missed = 1.0 - arrived / numbered;
        }
        let seconds = sending.max(arriving).as_secs_f64();
        let window = sent.phase.lasts * 10;
        self.delivered.take(now, window, arrived / (1.0 - self.loss.share()) / seconds);
        self.restart(report, sent);
    }

    fn restart(&mut self, report: &Report, sent: Sent) {
        let Report { highest: number, received, arrived_us, .. } = *report;
        self.longest_queue = self.queue;
        self.anchor = Some(Anchor { number, received, sent, arrived_us });
    }

    fn on_one_way(&mut self, now: Time, arrived_us: u32, sent: Time) {
        let took = arrived_us.wrapping_sub((sent.as_nanos() / 1000) as u32);
        let offset = *self.clock_offset_us.get_or_insert(took);
        let took = i64::from(took.wrapping_sub(offset) as i32);
        if self.delays.len() == REPORTS_A_ROUND as usize {
            self.delays.pop_front();
        }
        self.delays.push_back((now, took));
        // A packet that overtakes others does not show how long the way is; several in a row do.
        let slowest = self.delays.iter().rev().take(IN_A_ROW).map(|(_, took)| *took).max().unwrap_or(took);
        self.one_way.take(now, slowest);
        let least = self.one_way.get().unwrap_or(slowest);
        let beyond = |took: i64, least: i64| Span::from_micros(u64::try_from(took - least).unwrap_or(0));
        let known = self.loss_since.unwrap_or(least);
        if beyond(known, least) > SHORT_QUEUE {
            // There was a queue all the time: what was lost behind it was not the way's own.
            self.loss = Loss::default();
            self.loss_since = Some(least);
        } else {
            self.loss_since = Some(known.max(least));
        }
        let lately = self.delays.iter().filter(|(at, _)| now.since(*at) <= TOGETHER);
        self.queue = lately.map(|(_, took)| beyond(*took, least)).min().unwrap_or(Span::ZERO);
        self.longest_queue = self.longest_queue.max(self.queue);
        let last = self.delays.iter().rev().take(2);
        self.rising = last.map(|(_, took)| beyond(*took, least)).min().unwrap_or(Span::ZERO);
    }
}

/// Loss behind a queue of at most this is the way's own, that behind a longer one may be the queue's.
const SHORT_QUEUE: Span = Span::from_millis(4);
/// Reports that count together: most pauses of a busy machine are shorter, and growing queues are seen in time.
const TOGETHER: Span = Span::from_millis(10);
/// The way is as short as so many reports in a row say.
const IN_A_ROW: usize = 3;
/// So much more than chance is a sign (draft-ietf-ccwg-bbr has the same 2 % a round trip),
const CONGESTED: f64 = 0.02;
/// but on a way that loses less than this by itself any loss is.
const CLEAN: f64 = 0.002;

/// The least value of the last [`LEAST_DELAY_COUNTS`], to within half of that.
#[derive(Clone, Copy, Debug)]
struct Least<T> {
    now: Option<(Time, T)>,
    before: Option<T>,
}

impl<T> Default for Least<T> {
    fn default() -> Self {
        Least { now: None, before: None }
    }
}

impl<T: Copy + Ord> Least<T> {
    fn take(&mut self, now: Time, value: T) {
        match self.now {
            Some((since, least)) if now.since(since) < LEAST_DELAY_COUNTS / 2 => {
                self.now = Some((since, least.min(value)));
            }
            former => {
                self.before = former.map(|(_, least)| least);
                self.now = Some((now, value));
            }
        }
    }

    fn get(&self) -> Option<T> {
        let now = self.now.map(|(_, least)| least);
        [now, self.before].into_iter().flatten().min()
    }
}

/// The greatest value of a window. Values fall and times rise from front to back, so the front is the greatest.
#[derive(Clone, Debug, Default)]
struct Greatest(VecDeque<(Time, f64)>);

impl Greatest {
    fn take(&mut self, now: Time, window: Span, value: f64) {
        while self.0.back().is_some_and(|(_, last)| *last <= value) {
            self.0.pop_back();
        }
        self.0.push_back((now, value));
        while self.0.len() > 1 && self.0.front().is_some_and(|(at, _)| now.since(*at) > window) {
            self.0.pop_front();
        }
    }

    fn get(&self) -> Option<f64> {
        self.0.front().map(|(_, value)| *value)
    }
}

/// The loss that does not come from sending too fast.
#[derive(Clone, Copy, Debug, Default)]
struct Loss {
    /// Packets sent in down phases and lost of them, older ones counting less.
    sent: f64,
    lost: f64,
    /// In startup: what was sent and lost since the last share was taken, and the least of the shares.
    startup: (f64, f64),
    least: Option<f64>,
}

impl Loss {
    /// So many packets are remembered: enough to know a share of 5 % to within 0.4 %.
    const MEMORY: f64 = 3000.0;
    /// Fewer say little,
    const ENOUGH: f64 = 100.0;
    /// and fewer than this nothing.
    const SOMETHING: f64 = 30.0;
    /// No way loses more by itself and is still one.
    const MOST: f64 = 0.5;

    fn take(&mut self, phase: Phase, sent: f64, lost: f64) {
        match phase.kind {
            PhaseKind::Down => {
                let keep = (1.0 - sent / Self::MEMORY).clamp(0.0, 1.0);
                self.sent = self.sent * keep + sent;
                self.lost = self.lost * keep + lost;
            }
            PhaseKind::Startup => {
                let (all, gone) = (self.startup.0 + sent, self.startup.1 + lost);
                self.startup = (all, gone);
                if all >= Self::ENOUGH {
                    self.least = Some(self.least.map_or(gone / all, |least| least.min(gone / all)));
                    self.startup = (0.0, 0.0);
                }
            }
            PhaseKind::Up | PhaseKind::Cruise => {}
        }
    }

    fn share(&self) -> f64 {
        let (sent, lost) = (self.sent + self.startup.0, self.lost + self.startup.1);
        let share = match self.least {
            _ if self.sent >= Self::ENOUGH => self.lost / self.sent,
            Some(least) => least,
            None if sent >= Self::SOMETHING => lost / sent,
            None => 0.0,
        };
        share.min(Self::MOST)
    }
}

#[cfg(test)]
mod tests {
    use super::super::report::tests::empty;
    use super::*;

    fn report(number: u64, arrived: Time) -> Report {
        let arrived_us = (arrived.as_nanos() / 1000) as u32;
        Report { highest: number, arrived_us, held_us: 0, received: number, symbols: number, ..empty() }
    }

    /// One packet a millisecond, each of which is reported: what a way of 5 ms looks like with such delays beyond that.
    fn queues(delays: impl IntoIterator<Item = u64>) -> Vec<u64> {
        let mut path = Path::default();
        let phase = Phase { index: 0, kind: PhaseKind::Cruise, lasts: Span::from_millis(10) };
        let told = (1..).zip(delays).map(|(number, delay)| {
            let at = Time::ZERO + Span::from_millis(number);
            let arrived = at + Span::from_millis(5 + delay);
            path.on_report(arrived + Span::from_millis(5), &report(number, arrived), Sent { at, phase });
            path.queue().as_nanos() / 1_000_000
        });
        told.collect()
    }

    #[test]
    fn what_is_late_once_does_not_stand_in_a_queue() {
        assert_eq!(queues([0, 0, 0, 0, 8, 7, 0, 0, 3]), [0; 9]);
        assert_eq!(queues([9, 9, 9, 0, 9, 9, 9, 9]), [0; 8], "one that is early does not make a queue of the others");
        assert_eq!(queues([0, 0, 8, 8, 8, 8, 9, 9]), [0, 0, 0, 0, 8, 8, 8, 8], "what is late for long does");
    }
}
