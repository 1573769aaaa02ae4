//! When a program that does not say so itself is ready.

use std::path::PathBuf;

use machine::{Span, Time};

use super::listening::is_listening;
use super::protocol::{Ready, Start};

/// The first looks come quickly, as most programs are ready within milliseconds, later ones cost next to nothing.
const FIRST_PAUSE: Span = Span::from_millis(1);
const LONGEST_PAUSE: Span = Span::from_millis(20);

/// Looks again and again for a fact outside the program.
#[derive(Debug)]
pub(super) struct Lookout {
    fact: Fact,
    next_look: Time,
    pause: Span,
}

#[derive(Debug)]
enum Fact {
    Listening(u16),
    Exists(PathBuf),
}

impl Lookout {
    /// For the fact that makes the program of `start` ready, if it is one that has to be looked for. The first look is
    /// due at `now`.
    pub(super) fn new(start: &Start, now: Time) -> Option<Self> {
        let fact = match &start.ready {
            Ready::Tcp(port) => Fact::Listening(*port),
            Ready::File(path) => Fact::Exists(start.cwd.join(path)),
            Ready::Event | Ready::Started | Ready::Elsewhere => return None,
        };
        Some(Lookout { fact, next_look: now, pause: FIRST_PAUSE })
    }

    /// When to look.
    pub(super) fn next_look(&self) -> Time {
        self.next_look
    }

    /// Looks, if it is time; whether the fact holds.
    pub(super) fn look(&mut self, now: Time) -> bool {
        if now < self.next_look {
            return false;
        }
        self.next_look = now + self.pause;
        self.pause = (self.pause + self.pause / 2).min(LONGEST_PAUSE);
        match &self.fact {
            Fact::Listening(port) => is_listening(*port),
            Fact::Exists(path) => path.exists(),
        }
    }
}
