//! What the time of a stop-and-wait transfer goes to: rounds of sending, and the timeouts between them.

use machine::{Span, Time};

/// The rounds of a transfer: in its first one a segment goes to everybody, in each that follows to those who lack it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rounds {
    /// Of all segments, the end among them: each has as many as it was sent to the receiver that it was sent to most
    /// often.
    pub count: u64,
    /// How many of them no loss has made: the answer came, and it came later than the timeout.
    pub needless: u64,
    /// From the beginning of each segment's first round to that of its last, for all segments together. It went to
    /// timeouts; the rest of the time was spent on round trips.
    pub waited: Span,
}

/// Counts them while they happen.
///
/// A segment that was sent twice and was answered twice has arrived twice, so the second time was in vain. The network
/// keeps the order of what is sent to a receiver and of what it answers: whoever has answered a segment has answered all
/// copies of the one before.
#[derive(Debug)]
pub(super) struct Tally {
    rounds: Rounds,
    began: Time,
    /// The round that began last, from 1, and when it did.
    last: (u64, Time),
    /// By receiver, of the segment under way.
    now: Vec<Exchange>,
    /// The same of the one before, which late answers are still of.
    before: Vec<Exchange>,
}

/// Of one segment with one receiver.
#[derive(Clone, Copy, Debug, Default)]
struct Exchange {
    sent: u64,
    answered: u64,
}

/// Which segment an answer is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Of {
    TheSegmentUnderWay,
    TheOneBefore,
}

impl Tally {
    pub(super) fn new(receivers: usize, now: Time) -> Self {
        let none = vec![Exchange::default(); receivers];
        Tally { rounds: Rounds::default(), began: now, last: (0, now), now: none.clone(), before: none }
    }

    /// The next segment's turn has come.
    pub(super) fn begin(&mut self, now: Time) {
        (self.began, self.last) = (now, (0, now));
    }

    /// The segment goes to a receiver, for the so many-th time.
    pub(super) fn sent(&mut self, receiver: usize, times: u64, now: Time) {
        self.now[receiver].sent = times;
        if times > self.last.0 {
            self.last = (times, now);
        }
    }

    /// A receiver has answered, for the first time or again.
    pub(super) fn answered(&mut self, receiver: usize, of: Of) {
        let exchanges = match of {
            Of::TheSegmentUnderWay => &mut self.now,
            Of::TheOneBefore => &mut self.before,
        };
        if let Some(exchange) = exchanges.get_mut(receiver) {
            exchange.answered += 1;
        }
    }

    /// Nobody lacks the segment any more.
    pub(super) fn end(&mut self) {
        let (count, began) = self.last;
        self.rounds.count += count;
        self.rounds.waited += began.since(self.began);
        self.rounds.needless += needless(&self.before);
        std::mem::swap(&mut self.now, &mut self.before);
        self.now.fill(Exchange::default());
    }

    /// Up to and with the segment that ended last.
    pub(super) fn rounds(&self) -> Rounds {
        Rounds { needless: self.rounds.needless + needless(&self.before), ..self.rounds }
    }
}

/// How many rounds fewer would have done for everybody.
fn needless(exchanges: &[Exchange]) -> u64 {
    let most = |rounds: fn(&Exchange) -> u64| exchanges.iter().map(rounds).max().unwrap_or(0);
    let enough = most(|one| one.sent.saturating_sub(one.answered.saturating_sub(1)).max(one.sent.min(1)));
    most(|one| one.sent) - enough
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Time {
        Time::ZERO + Span::from_millis(millis)
    }

    #[test]
    fn a_round_is_for_all_who_lack_the_segment() {
        let mut tally = Tally::new(2, at(0));
        tally.begin(at(0));
        [0, 1].into_iter().for_each(|receiver| tally.sent(receiver, 1, at(0)));
        tally.answered(0, Of::TheSegmentUnderWay);
        tally.sent(1, 2, at(20));
        tally.sent(1, 3, at(40));
        tally.answered(1, Of::TheSegmentUnderWay);
        tally.end();
        assert_eq!(tally.rounds(), Rounds { count: 3, needless: 0, waited: Span::from_millis(40) });
    }

    #[test]
    fn who_answers_twice_needed_one_round_less() {
        let mut tally = Tally::new(2, at(0));
        tally.begin(at(0));
        // Both answers are late, and one receiver has lost the first copy beside that.
        for (times, when) in [(1, 0), (2, 20), (3, 40)] {
            [0, 1].into_iter().for_each(|receiver| tally.sent(receiver, times, at(when)));
        }
        (0..3).for_each(|_| tally.answered(0, Of::TheSegmentUnderWay));
        tally.answered(1, Of::TheSegmentUnderWay);
        tally.end();
        assert_eq!(tally.rounds().needless, 0, "the other may have needed them all");
        tally.begin(at(50));
        [0, 1].into_iter().for_each(|receiver| tally.sent(receiver, 1, at(50)));
        tally.answered(1, Of::TheOneBefore);
        [0, 1].into_iter().for_each(|receiver| tally.answered(receiver, Of::TheSegmentUnderWay));
        tally.end();
        assert_eq!(tally.rounds(), Rounds { count: 4, needless: 1, waited: Span::from_millis(40) });
    }

    #[test]
    fn answers_to_what_was_never_sent_save_nothing() {
        let mut tally = Tally::new(1, at(0));
        tally.begin(at(0));
        tally.sent(0, 1, at(0));
        (0..9).for_each(|_| tally.answered(0, Of::TheSegmentUnderWay));
        tally.answered(7, Of::TheOneBefore);
        tally.end();
        assert_eq!(tally.rounds(), Rounds { count: 1, ..Rounds::default() });
    }
}
