//! Receivers that share a name: the replicas of a service, whose name has an address for each of them.
//!
//! Replicas come up one after the other and nobody says which is the last. So names are asked for again and again, until
//! as many addresses are there as are expected or none has come for a while.

use std::net::{SocketAddr, ToSocketAddrs};

use machine::{Span, Time};

use super::words::{Task, WordsError, split};
use crate::clock;

/// Without a number to expect, all have come when this long the same have been there.
const QUIET: Span = Span::from_secs(2);

/// Between two questions.
const PAUSE: Span = Span::from_millis(200);

/// Whether all are there.
#[derive(Clone, Debug)]
struct Gathering {
    expected: Option<usize>,
    deadline: Time,
    /// Sorted.
    known: Vec<SocketAddr>,
    /// Since when those.
    since: Time,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Decision {
    Complete,
    AskAgain,
    /// Nobody else is waited for.
    TooFew,
}

impl Gathering {
    fn new(now: Time, expected: Option<usize>, patience: Span) -> Self {
        Gathering { expected, deadline: now + patience, known: Vec::new(), since: now }
    }

    fn observe(&mut self, now: Time, mut found: Vec<SocketAddr>) -> Decision {
        found.sort_unstable();
        found.dedup();
        if found != self.known {
            (self.known, self.since) = (found, now);
        }
        let is_complete = match self.expected {
            Some(expected) => self.known.len() >= expected,
            None => !self.known.is_empty() && now.since(self.since) >= QUIET,
        };
        match is_complete {
            true => Decision::Complete,
            false if now >= self.deadline => Decision::TooFew,
            false => Decision::AskAgain,
        }
    }
}

impl Task {
    /// Replaces names by all their addresses, once those are `expected` or, without a number, have been the same for two
    /// seconds. Blocks for `patience` at most.
    ///
    /// # Errors
    /// When there are too few by then, with what the resolver said last of a name that has none.
    pub(crate) fn discover(
        &mut self,
        expected: Option<usize>,
        patience: Span,
        reaches: impl Fn(&SocketAddr) -> bool,
    ) -> Result<Vec<SocketAddr>, WordsError> {
        let mut gathering = Gathering::new(clock::now(), expected, patience);
        loop {
            let mut found = Vec::new();
            let mut unknown = None;
            for word in &self.receivers {
                match all_addresses(word, self.port, &reaches) {
                    Ok(addresses) => found.extend(addresses),
                    // A service that has not started has no name yet.
                    Err(error @ WordsError::Unknown { .. }) => unknown = Some(error),
                    Err(error) => return Err(error),
                }
            }
            match gathering.observe(clock::now(), found) {
                Decision::Complete => break,
                Decision::AskAgain => pause(),
                Decision::TooFew => {
                    let found = gathering.known.len();
                    return Err(match (unknown, expected) {
                        (Some(error), _) if found == 0 => error,
                        (_, expected) => WordsError::TooFewFound { found, expected: expected.unwrap_or(1), patience },
                    });
                }
            }
        }
        let named = |address: &SocketAddr| match address.port() == self.port {
            true => address.ip().to_string(),
            false => address.to_string(),
        };
        self.receivers = gathering.known.iter().map(named).collect();
        Ok(gathering.known)
    }
}

/// All addresses of a receiver, of one family: a replica that has both is still one.
fn all_addresses(word: &str, port: u16, reaches: impl Fn(&SocketAddr) -> bool) -> Result<Vec<SocketAddr>, WordsError> {
    let (host, port) = split(word, port).ok_or_else(|| WordsError::Receiver { word: word.to_owned() })?;
    let found = (host, port).to_socket_addrs();
    let found = found.map_err(|source| WordsError::Unknown { word: word.to_owned(), source })?;
    let (v4, v6): (Vec<_>, Vec<_>) = found.filter(reaches).partition(SocketAddr::is_ipv4);
    Ok(if v4.is_empty() { v6 } else { v4 })
}

#[expect(clippy::disallowed_methods, reason = "a resolver has no way to tell of a new address")]
fn pause() {
    std::thread::sleep(PAUSE.into());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(milliseconds: u64) -> Time {
        Time::ZERO + Span::from_millis(milliseconds)
    }

    fn some(count: u8) -> Vec<SocketAddr> {
        (0..count).map(|last| SocketAddr::from(([10, 0, 0, last], 7735))).collect()
    }

    #[test]
    fn replicas_are_complete_when_none_has_come_for_two_seconds() {
        let mut gathering = Gathering::new(at(0), None, Span::from_secs(30));
        for (now, found) in [(0, 0), (3000, 0), (3200, 1), (4900, 1), (5000, 3), (6999, 3)] {
            assert_eq!(gathering.observe(at(now), some(found)), Decision::AskAgain, "{now}");
        }
        // In whatever order the resolver tells them.
        assert_eq!(gathering.observe(at(7000), some(3).into_iter().rev().collect()), Decision::Complete);
        assert_eq!(gathering.known, some(3));
    }

    #[test]
    fn one_that_goes_begins_the_wait_anew() {
        let mut gathering = Gathering::new(at(0), None, Span::from_secs(30));
        gathering.observe(at(0), some(3));
        assert_eq!(gathering.observe(at(1900), some(2)), Decision::AskAgain);
        assert_eq!(gathering.observe(at(2500), some(2)), Decision::AskAgain);
        assert_eq!(gathering.observe(at(3900), some(2)), Decision::Complete);
    }

    #[test]
    fn the_expected_number_is_enough_at_once_and_fewer_are_not_for_ever() {
        let mut gathering = Gathering::new(at(0), Some(3), Span::from_secs(30));
        assert_eq!(gathering.observe(at(0), some(2)), Decision::AskAgain);
        assert_eq!(gathering.observe(at(29_999), some(2)), Decision::AskAgain);
        assert_eq!(gathering.clone().observe(at(29_999), some(4)), Decision::Complete);
        assert_eq!(gathering.observe(at(30_000), some(2)), Decision::TooFew);
    }

    #[test]
    fn names_become_the_addresses_behind_them() {
        let words = ["127.0.0.1", "127.0.0.2:9", "127.0.0.1:7735", "7735", "file", "500"];
        let mut task = Task::read(&words.map(std::ffi::OsString::from)).unwrap();
        let found = task.discover(Some(2), Span::from_secs(5), |_| true).unwrap();
        assert_eq!(task.receivers, ["127.0.0.1", "127.0.0.2:9"]);
        assert_eq!(found.len(), 2);
        let too_few = task.discover(Some(3), Span::ZERO, |_| true).unwrap_err().to_string();
        assert_eq!(too_few, "2 of 3 receivers were found in 0s");
    }
}
