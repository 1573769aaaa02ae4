//! A machine with more work than processors: a program that cannot run for a while.

use machine::{Seed, Span, Stream, Time};
use rand::RngExt;

use super::Stalls;

/// When one program cannot run.
#[derive(Debug)]
pub(super) struct Busy {
    stalls: Option<Stalls>,
    stream: Stream,
    /// The latest stall that was drawn.
    begins: Time,
    ends: Time,
}

impl Busy {
    pub(super) fn new(stalls: Option<Stalls>, seed: Seed) -> Self {
        Busy { stalls, stream: seed.derive("stalls").stream(), begins: Time::ZERO, ends: Time::ZERO }
    }

    /// When the program can run again, if it cannot `now`. Times of calls never fall.
    pub(super) fn until(&mut self, now: Time) -> Option<Time> {
        let stalls = self.stalls?;
        while self.ends <= now {
            let mut draw = |most: Span| Span::from_nanos(self.stream.random_range(0..=most.as_nanos()));
            self.begins = self.ends + draw(stalls.every * 2) + Span::from_nanos(1);
            self.ends = self.begins + draw(stalls.longest);
        }
        (self.begins <= now).then_some(self.ends)
    }
}
