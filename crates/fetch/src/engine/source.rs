//! What is remembered of a source.

use machine::{Span, Time};

use crate::protocol::{Aside, Description, RequestId, SourceState};
use crate::tuning;

/// A source, as the engine sees it.
#[derive(Clone, Debug)]
pub(super) struct Source {
    pub(super) stage: Stage,
    /// Whether it serves blocks at a pace of its own: its speed does not grow with time, as that of a TCP flow does.
    pub(super) is_channel: bool,
    /// What was last said about it in a note.
    pub(super) told: SourceState,
    pub(super) description: Option<Description>,
    /// Ranges being fetched, in the order of asking.
    pub(super) requests: Vec<RequestId>,
    pub(super) meter: Meter,
    /// From asking to the head of the answer.
    pub(super) latency: Option<Span>,
    /// When it last gave a sign of life, or was last given something to do while idle.
    pub(super) heard: Time,
    /// When the check server last called it dead, if it has not been refuted since.
    pub(super) suspected: Option<Time>,
    /// Until when it gets one request at a time, because a second one was refused.
    pub(super) solo_until: Time,
    /// Questions asked since it last answered.
    pub(super) asked: u32,
    /// When it was last asked because a check server called it alive.
    pub(super) asked_on_word: Option<Time>,
    /// Questions in a row that reached it one after the other, and were not answered.
    pub(super) owed: u32,
    /// Whether a question of this outage has failed.
    pub(super) failed_once: bool,
    /// Attempts in a row that delivered nothing.
    pub(super) setbacks: u32,
    pub(super) violations: u32,
    /// Questions in a row that it answered with a status that is there to stay.
    pub(super) refusals: u32,
    /// Whether it was said that it has no ranges.
    pub(super) told_no_ranges: bool,
    /// Questions for hashes in a row that broke off.
    pub(super) hashes_failed: u32,
    pub(super) corrupt: u32,
    /// Ranges that it was asked for since it was last down.
    pub(super) opens: u32,
    /// When it was asked for the first of them.
    pub(super) began: Time,
    pub(super) received: u64,
}

/// What may be done with a source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// Not known to answer: it is asked, again and again.
    Seeking,
    /// It answered, and may be given work.
    Ready,
    /// It is not used.
    Aside,
}

impl Source {
    pub(super) fn new(now: Time, is_channel: bool) -> Self {
        Source {
            stage: Stage::Seeking,
            is_channel,
            told: SourceState::Connecting,
            description: None,
            requests: Vec::new(),
            meter: Meter::default(),
            latency: None,
            heard: now,
            suspected: None,
            solo_until: Time::ZERO,
            asked: 0,
            asked_on_word: None,
            owed: 0,
            failed_once: false,
            setbacks: 0,
            violations: 0,
            refusals: 0,
            told_no_ranges: false,
            hashes_failed: 0,
            corrupt: 0,
            opens: 0,
            began: now,
            received: 0,
        }
    }

    /// Bytes per second to plan with: as measured, less the longer it has been silent. `None` if never measured.
    pub(super) fn speed(&self, now: Time) -> Option<f64> {
        let rate = self.meter.rate()?;
        let usual = Span::from_millis(100).max(self.meter.gap() * 4);
        let silent = if self.requests.is_empty() { Span::ZERO } else { now.since(self.heard) };
        let excess = silent.saturating_sub(usual.max(super::or_guess(self.latency) * 2)).as_secs_f64();
        Some((rate / (1.0 + excess / 0.02)).max(1.0))
    }

    /// For how many seconds it should have work asked for: the time that a question takes to be answered, and some for
    /// what delays either. More while TCP's window grows: what was measured is less than what comes.
    pub(super) fn lead(&self, now: Time) -> f64 {
        let latency = super::or_guess(self.latency);
        let lead = latency.as_secs_f64() * 1.25 + tuning::LEAD.as_secs_f64();
        let grows = !self.is_channel && now.since(self.began) < latency * tuning::GROWTH_ROUND_TRIPS;
        if grows { lead * tuning::GROWTH } else { lead }
    }

    /// Whether it has been silent for longer than it usually is.
    pub(super) fn is_hesitant(&self, now: Time) -> bool {
        let usual = Span::from_millis(100).max(self.meter.gap() * 4).max(super::or_guess(self.latency) * 2);
        now.since(self.heard) > usual
    }

    /// Whether it is set apart for what it offers, not for what it did.
    pub(super) fn is_apart_for_its_file(&self) -> bool {
        matches!(self.told, SourceState::SetApart(Aside::Length { .. } | Aside::Validator { .. } | Aside::Hashes))
    }

    /// Whether it is set apart because its file is known not to be the expected one.
    pub(super) fn is_apart_for_the_digest(&self) -> bool {
        matches!(self.told, SourceState::SetApart(Aside::Expected))
    }

    pub(super) fn has_ranges(&self) -> bool {
        self.description.as_ref().is_some_and(|description| description.ranges)
    }
}

/// Measures a speed by deliveries.
#[derive(Clone, Debug, Default)]
pub(super) struct Meter {
    /// Bytes per second.
    smoothed: Option<f64>,
    since: Time,
    bytes: u64,
    /// Smoothed time between deliveries.
    gap: Span,
    last: Option<Time>,
}

/// The least time that a speed is measured over.
const WINDOW: Span = Span::from_millis(40);

impl Meter {
    /// Deliveries begin, after a pause that says nothing about speed.
    pub(super) fn begin(&mut self, now: Time) {
        (self.since, self.bytes, self.last) = (now, 0, None);
    }

    pub(super) fn count(&mut self, now: Time, bytes: u64) {
        self.bytes += bytes;
        self.beat(now);
        let over = now.since(self.since);
        if over < WINDOW {
            return;
        }
        let sample = self.bytes as f64 / over.as_secs_f64();
        let weight = 1.0 - (-over.as_secs_f64() / tuning::RATE_MEMORY.as_secs_f64()).exp();
        self.smoothed = Some(self.smoothed.map_or(sample, |rate| rate + weight * (sample - rate)));
        (self.since, self.bytes) = (now, 0);
    }

    /// Something came.
    pub(super) fn beat(&mut self, now: Time) {
        if let Some(last) = self.last.replace(now) {
            self.gap = (self.gap * 7 + now.since(last)) / 8;
        }
    }

    /// What is known of the speed from elsewhere.
    pub(super) fn expect(&mut self, rate: f64) {
        self.smoothed = Some(rate);
    }

    /// Bytes per second, once measured.
    pub(super) fn rate(&self) -> Option<f64> {
        self.smoothed
    }

    /// The usual time between deliveries.
    pub(super) fn gap(&self) -> Span {
        self.gap
    }

    /// Forgets the speed: the source comes back from an outage, perhaps another one.
    pub(super) fn reset(&mut self) {
        *self = Meter::default();
    }
}
