//! How long to let arrive what streams in: each wake-up costs as much as many datagrams, and a program that is woken for
//! each of them takes the processor from the one that should send the next.

use machine::{Span, Time};

/// What arrives meanwhile is received at once. Less than a sender's train takes or a report may be late.
const LONGEST: Span = Span::from_millis(1);

/// Shorter rests are not worth a timer.
const SHORTEST: Span = Span::from_micros(200);

/// Fewer datagrams in the longest rest are no stream: whoever asks and waits for the answer gets it at once.
const LEAST: u32 = 4;

/// What arrives in a rest takes at most this part of the socket's buffer.
const PART_OF_BUFFER: u32 = 4;

/// The stream of datagrams that a socket receives.
#[derive(Clone, Debug)]
pub(super) struct Stream {
    /// How many datagrams the socket's buffer takes.
    buffer: u32,
    /// What arrived from then on.
    since: Time,
    count: u32,
    rests_until: Option<Time>,
}

impl Stream {
    pub(super) fn new(now: Time, buffer: u32) -> Self {
        Stream { buffer, since: now, count: 0, rests_until: None }
    }

    /// Until when the socket is left alone.
    pub(super) fn rests_until(&self) -> Option<Time> {
        self.rests_until
    }

    /// So many datagrams were received. There is time for a rest if none is left and nobody `waits` for an answer.
    pub(super) fn received(&mut self, now: Time, count: usize, is_drained: bool, waits: bool) {
        self.rests_until = None;
        self.count = self.count.saturating_add(u32::try_from(count).unwrap_or(u32::MAX));
        let elapsed = now.since(self.since);
        if elapsed < LONGEST {
            return;
        }
        let a_second = f64::from(self.count) / elapsed.as_secs_f64();
        (self.since, self.count) = (now, 0);
        if waits || !is_drained || a_second * LONGEST.as_secs_f64() < f64::from(LEAST) {
            return;
        }
        let fills = Span::from_secs_f64(f64::from(self.buffer / PART_OF_BUFFER) / a_second);
        self.rests_until = (fills >= SHORTEST).then(|| now + fills.min(LONGEST));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How long it rests after so many datagrams in a millisecond.
    fn rest(buffer: u32, count: usize, is_drained: bool, waits: bool) -> Option<Span> {
        let mut stream = Stream::new(Time::ZERO, buffer);
        let now = Time::ZERO + Span::from_millis(1);
        stream.received(now, count, is_drained, waits);
        stream.rests_until().map(|until| until.since(now))
    }

    #[test]
    fn it_rests_while_much_arrives_and_fits() {
        assert_eq!(rest(3640, 17, true, false), Some(LONGEST));
        assert_eq!(rest(3640, 3, true, false), None, "no stream");
        assert_eq!(rest(3640, 17, false, false), None, "there is more already");
        assert_eq!(rest(3640, 17, true, true), None, "somebody waits");
        assert_eq!(rest(92, 46, true, false), Some(LONGEST / 2), "a quarter of the buffer");
        assert_eq!(rest(92, 230, true, false), None, "it would overflow");
    }

    #[test]
    fn each_rest_is_measured_anew() {
        let mut stream = Stream::new(Time::ZERO, 3640);
        let at = |millis| Time::ZERO + Span::from_millis(millis);
        stream.received(at(1), 100, true, false);
        assert_eq!(stream.rests_until(), Some(at(2)));
        stream.received(at(2), 0, true, false);
        assert_eq!(stream.rests_until(), None, "the stream has ended");
    }
}
