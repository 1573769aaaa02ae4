//! How long a stop-and-wait transfer takes in theory, and how far a measurement may lie from that.

use machine::{Ratio, Span};

use super::Rounds;

/// A transfer whose losses are independent and whose timeout is fixed.
///
/// A segment needs M rounds until all N receivers have acknowledged it. One receiver misses a round with probability
/// q = 1 − (1 − p)(1 − a), so P(M > m) = 1 − (1 − qᵐ)ᴺ and E\[M] is the sum of that over m ≥ 0. All rounds of a segment but
/// the last cost a timeout T, the last one a round trip R and the time to send.
///
/// ```
/// use machine::{Ratio, Span};
/// use p2mp::classic::{StopAndWait, data_segments};
///
/// let transfer = StopAndWait {
///     segments: data_segments(10_000_000, 500),
///     receivers: 5,
///     loss: "0.05".parse()?,
///     acknowledgement_loss: Ratio::ZERO,
///     timeout: Span::from_secs(1),
///     round_trip: Span::from_millis(1),
///     sending: Span::ZERO,
/// };
/// assert_eq!(transfer.expected_seconds().round(), 4806.0);
/// # Ok::<(), machine::UnitError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StopAndWait {
    /// n: how many segments must be acknowledged by all. The end of the file is one more than carry data.
    pub segments: u64,
    /// N.
    pub receivers: u32,
    /// p: the share of segments that are lost on the way to a receiver, by whatever cause. Below one.
    pub loss: Ratio,
    /// a: the share of acknowledgements that are lost. Below one.
    pub acknowledgement_loss: Ratio,
    /// T.
    pub timeout: Span,
    /// R: from sending to hearing the acknowledgement, if nothing is lost.
    pub round_trip: Span,
    /// How long it takes to send one segment to all: N·L/C.
    pub sending: Span,
}

impl StopAndWait {
    /// E\[M]: how often a segment is sent, to those that lack it, until all have it. At least 1 with any receiver;
    /// infinite where everything is lost.
    pub fn rounds(&self) -> f64 {
        self.sum_over_rounds(|_| 1.0)
    }

    /// Var\[M].
    pub fn variance_of_rounds(&self) -> f64 {
        // E[M²] = Σ (2m + 1)·P(M > m)
        self.sum_over_rounds(|m| 2.0 * m + 1.0) - self.rounds().powi(2)
    }

    /// The mean of the total time over many transfers, in seconds.
    pub fn expected_seconds(&self) -> f64 {
        let waiting = (self.rounds() - 1.0) * self.timeout.as_secs_f64();
        self.segments as f64 * (waiting + (self.round_trip + self.sending).as_secs_f64())
    }

    /// The standard error of the mean total time of `transfers` transfers, in seconds: the spread that the losses alone
    /// make. Segments are independent, so it is T·√(n·Var\[M] / transfers).
    pub fn standard_error_seconds(&self, transfers: u32) -> f64 {
        let variance = self.segments as f64 * self.variance_of_rounds() / f64::from(transfers);
        self.timeout.as_secs_f64() * variance.sqrt()
    }

    /// The same with the timeout and the round trip that `transfers` transfers took, `elapsed` long together and of so many
    /// `rounds`, instead of those that were asked for: where time passes, timers are late, and programs and kernels take
    /// some of it for every answer, more when they have something else to do. An answer that came later than the timeout
    /// counts with all its time as a round trip; the rounds that it made are none that a loss made. What is expected of
    /// transfers under those very circumstances then differs from what they took by nothing but the rounds that losses
    /// made: their mean is off by T·n·(M̄ − E\[M]), to which
    /// [`standard_error_seconds`](StopAndWait::standard_error_seconds) is exactly the measure.
    ///
    /// `None` without any segment. What no round was waited for leaves the timeout as it is.
    #[must_use]
    pub fn as_measured(self, transfers: u32, elapsed: Span, rounds: Rounds) -> Option<Self> {
        let segments = self.segments.checked_mul(u64::from(transfers)).filter(|segments| *segments > 0)?;
        let timeouts = rounds.count.saturating_sub(segments);
        let timeout = if timeouts > 0 { rounds.waited / timeouts } else { self.timeout };
        let lost = timeouts.saturating_sub(rounds.needless);
        let round_trip = elapsed.saturating_sub(timeout * lost) / segments;
        Some(StopAndWait { timeout, round_trip, sending: Span::ZERO, ..self })
    }

    /// How many datagrams go to one receiver for each segment, on average: 1 / (1 − q).
    pub fn sends_per_receiver(&self) -> f64 {
        1.0 / (1.0 - self.missed())
    }

    /// q: how likely one receiver does not acknowledge one round.
    fn missed(&self) -> f64 {
        1.0 - (1.0 - self.loss.as_f64()) * (1.0 - self.acknowledgement_loss.as_f64())
    }

    /// Σ weight(m)·P(M > m) over m ≥ 0.
    fn sum_over_rounds(&self, weight: impl Fn(f64) -> f64) -> f64 {
        let q = self.missed();
        if q >= 1.0 {
            return f64::INFINITY;
        }
        // What remains after a term falls by q from term to term; a float cannot hold what is below this.
        const NEGLIGIBLE: f64 = 1e-18;
        // Where q is so close to one that there were millions of terms, neighbours are alike: one stands for many.
        let stride = (1e-4 / (1.0 - q)).floor().max(1.0);
        let mut sum = 0.0;
        let mut m = (stride - 1.0) / 2.0;
        loop {
            // 1 − (1 − x)ᴺ without losing the digits of a small x = qᵐ.
            let beyond = match q.powf(m) {
                1.0 => f64::from(self.receivers.min(1)),
                missed_all => -(f64::from(self.receivers) * (-missed_all).ln_1p()).exp_m1(),
            };
            let term = stride * weight(m) * beyond;
            sum += term;
            if term < NEGLIGIBLE * sum.max(1.0) {
                break;
            }
            m += stride;
        }
        sum
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn assignment(mss: u32, receivers: u32, loss: &str) -> StopAndWait {
        StopAndWait {
            segments: super::super::data_segments(10_000_000, mss),
            receivers,
            loss: loss.parse().unwrap(),
            acknowledgement_loss: Ratio::ZERO,
            timeout: Span::from_secs(1),
            round_trip: Span::from_millis(1),
            sending: Span::ZERO,
        }
    }

    #[test]
    fn the_assignment_takes_as_long_as_is_known() {
        let seconds = |mss, receivers, loss| assignment(mss, receivers, loss).expected_seconds().round();
        let first: Vec<_> = (1..=5).map(|n| seconds(500, n, "0.05")).collect();
        assert_eq!(first, [1073.0, 2075.0, 3030.0, 3940.0, 4806.0]);
        assert_eq!((seconds(100, 3, "0.05"), seconds(1000, 3, "0.05")), (15_150.0, 1515.0));
        assert_eq!((seconds(500, 3, "0.01"), seconds(500, 3, "0.1")), (620.0, 6101.0));
    }

    #[test]
    fn rounds_for_many_receivers_are_those_of_repeating_to_all() {
        // Sends per packet of a multicast that repeats to everybody, at p = 5 %.
        for (receivers, sends) in [(1, 1.053), (3, 1.151), (10, 1.427), (100, 2.229), (1000, 3.042)] {
            let rounds = assignment(500, receivers, "0.05").rounds();
            assert!((rounds - sends).abs() < 0.0006, "{receivers} receivers: {rounds}");
        }
    }

    #[test]
    fn one_receiver_is_the_geometric_distribution() {
        for loss in ["0.01", "0.5", "0.99", "0.99999", "0.999999999"] {
            let transfer = assignment(500, 1, loss);
            let q = transfer.loss.as_f64();
            assert!((transfer.rounds() * (1.0 - q) - 1.0).abs() < 1e-8, "{}", transfer.rounds());
            assert!((transfer.variance_of_rounds() * (1.0 - q).powi(2) / q - 1.0).abs() < 1e-6);
            assert!((transfer.sends_per_receiver() * (1.0 - q) - 1.0).abs() < 1e-12);
        }
    }

    #[test]
    fn lost_acknowledgements_count_as_lost_segments() {
        let either = StopAndWait { acknowledgement_loss: "0.1".parse().unwrap(), ..assignment(500, 3, "0.2") };
        let both = assignment(500, 3, "0.28");
        assert!((either.rounds() - both.rounds()).abs() < 1e-12);
    }

    #[test]
    fn what_was_measured_is_off_by_its_rounds_alone() {
        let theory = assignment(500, 3, "0.05");
        // Two transfers, in which timers were 70 µs late and answers took a third longer than the links say.
        let segments = 2 * theory.segments;
        let timeout = Span::from_micros(1_000_070);
        let rounds = Rounds { count: segments + 6_100, needless: 0, waited: timeout * 6_100 };
        let elapsed = rounds.waited + Span::from_micros(1_333) * segments;
        let found = theory.as_measured(2, elapsed, rounds).unwrap();
        assert_eq!((found.timeout, found.round_trip), (timeout, Span::from_micros(1_333)));
        let off = elapsed.as_secs_f64() / 2.0 - found.expected_seconds();
        let mean = rounds.count as f64 / segments as f64;
        // Ten answers that came after the timeout add their rounds to what is expected, too.
        let (late, more) = (10, timeout * 10);
        let waited = rounds.waited + more;
        let starved = Rounds { count: rounds.count + late, needless: late, waited };
        let expected = theory.as_measured(2, elapsed + more, starved).unwrap();
        let off_as_well = (elapsed + more).as_secs_f64() / 2.0 - expected.expected_seconds();
        assert!((off - off_as_well).abs() < 1e-3, "{off} s, and starved {off_as_well} s");
        let by_rounds = 1.000_07 * theory.segments as f64 * (mean - theory.rounds());
        assert!((off - by_rounds).abs() < 1e-6, "{off} s, not {by_rounds} s");
        // Nobody waited, so nobody knows how late timers are.
        let smooth = Rounds { count: segments, ..Rounds::default() };
        assert_eq!(theory.as_measured(2, elapsed, smooth).unwrap().timeout, theory.timeout);
        assert_eq!(theory.as_measured(0, Span::ZERO, Rounds::default()), None);
    }

    #[test]
    fn the_extremes_have_no_surprises() {
        assert_eq!(assignment(500, 3, "0").rounds(), 1.0);
        assert_eq!(assignment(500, 3, "0").standard_error_seconds(1), 0.0);
        assert_eq!(assignment(500, 3, "1").rounds(), f64::INFINITY);
        assert_eq!(assignment(500, 0, "0.5").rounds(), 0.0);
    }

    #[test]
    fn the_standard_error_shrinks_with_the_root_of_the_transfers() {
        let transfer = assignment(500, 3, "0.05");
        assert!((transfer.standard_error_seconds(1) / transfer.standard_error_seconds(4) - 2.0).abs() < 1e-12);
    }
}
