//! Delay, rate and loss out of times of sending and arrival.

use std::collections::BTreeSet;

use machine::{Rate, Size, Span, Time};

use super::fit::lower_envelope;
use super::train::Train;
use super::way::Way;

/// What was seen of a train.
#[derive(Clone, Debug, Default)]
pub struct Passage {
    /// For each frame that was sent, in their order: the last instant that was certainly before it went.
    pub sent: Vec<Time>,
    /// Frames as they arrived: which, counted from 0, and when. One that came twice is here twice.
    pub arrived: Vec<(u32, Time)>,
    /// Whether the way itself held the sender back, by taking no more frames for a while.
    pub was_held_back: bool,
}

/// What a passage says of its way.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Estimate {
    /// From sending to arrival, without what the rate takes.
    pub delay: Option<Span>,
    /// At which the frames came. It is the way's if the sender was faster.
    pub rate: Option<Rate>,
    /// Frames sent.
    pub sent: u32,
    /// Of those, how many came, once or more often.
    pub arrived: u32,
}

impl Passage {
    /// Whether every frame was sent before a line of this way's rate was through with those before.
    pub fn kept_line_busy(&self, train: &Train, way: &Way) -> bool {
        let (Some(rate), Some(first)) = (way.rate(), self.sent.first()) else { return true };
        let frame = rate.time_for(Size::from_bytes(u64::from(train.bytes)));
        self.sent.iter().zip(0u64..).all(|(sent, before)| sent.since(*first) <= frame * before)
    }

    /// What it says of `way`. The rate is looked at only if `rated`.
    pub fn estimate(&self, train: &Train, way: &Way, rated: bool) -> Estimate {
        let distinct: BTreeSet<u32> = self.arrived.iter().map(|(ordinal, _)| *ordinal).collect();
        let mut estimate =
            Estimate { sent: self.sent.len() as u32, arrived: distinct.len() as u32, ..Estimate::default() };
        let Some(&first_sent) = self.sent.first() else { return estimate };
        // The k-th that was not lost was the k-th on the line: what is lost takes no time there, and what comes twice takes it
        // twice.
        let mut arrived = self.arrived.clone();
        arrived.sort_unstable();
        let mut frames: Vec<(u32, u32, Time)> =
            arrived.iter().zip(0..).map(|(&(ordinal, at), k)| (k, ordinal, at)).collect();
        if way.may_reorder() {
            leave_out_overtakers(&mut frames, first_sent, way, train);
        }
        let own = way.serialisation(train.bytes);
        if rated {
            let nanos = |at: Time| at.as_nanos() as f64 - first_sent.as_nanos() as f64;
            let points: Vec<(f64, f64)> = frames.iter().map(|&(k, _, at)| (f64::from(k), nanos(at))).collect();
            let Some(line) = lower_envelope(&points) else { return estimate };
            let per_frame = line.slope.max(1.0);
            let bits = f64::from(train.bytes) * 8.0;
            estimate.rate = Some(Rate::from_bits_per_sec((bits * 1e9 / per_frame).round() as u64));
            // The slowest half is the one whose time for a frame was measured; others are believed.
            let slowest = way.rate().map_or(0.0, |rate| bits * 1e9 / rate.as_bits_per_sec().max(1) as f64);
            let others = (own.as_nanos() as f64 - slowest).max(0.0);
            let delay = (line.at_zero - per_frame - others).max(0.0);
            estimate.delay = Some(Span::from_nanos(delay.round() as u64));
        } else {
            let took = |(_, ordinal, at): &(u32, u32, Time)| Some(at.since(*self.sent.get(*ordinal as usize)?));
            let least = frames.iter().filter_map(took).min();
            estimate.delay = least.map(|least| least.saturating_sub(own));
        }
        estimate
    }
}

/// Keeps those that took at least half of the delay: what overtakes takes none of it. If most took less, the way is another
/// than was thought, and all are kept.
fn leave_out_overtakers(frames: &mut Vec<(u32, u32, Time)>, first_sent: Time, way: &Way, train: &Train) {
    let frame = way.rate().map_or(Span::ZERO, |rate| rate.time_for(Size::from_bytes(u64::from(train.bytes))));
    let took_its_time =
        |&(k, _, at): &(u32, u32, Time)| at.since(first_sent) >= way.delay() / 2 + frame * (u64::from(k) + 1);
    if frames.iter().filter(|frame| took_its_time(frame)).count() * 2 >= frames.len() {
        frames.retain(took_its_time);
    }
}
