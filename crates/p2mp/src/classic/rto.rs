//! How long to wait for an acknowledgement (RFC 6298).

use machine::Span;

/// The estimator of one receiver's retransmission timeout.
///
/// As RFC 6298 has it, but for its constants: the floor is 2 ms instead of a second, for what waits here is a program on
/// a network of this century and not every host of the Internet at once; the first timeout is 200 ms, since a segment
/// that is sent again too early costs one datagram; and the ceiling is two seconds, so that a receiver which starts late
/// is soon found. A timeout that was doubled stays so until a segment that was sent once is acknowledged (Karn).
#[derive(Clone, Copy, Debug)]
pub struct Estimator {
    smoothed: Option<Smoothed>,
    timeout: Span,
}

#[derive(Clone, Copy, Debug)]
struct Smoothed {
    round_trip: Span,
    variation: Span,
}

/// Before anything was measured.
pub const FIRST: Span = Span::from_millis(200);
/// Never shorter: scheduling alone takes a millisecond on a busy machine.
pub const FLOOR: Span = Span::from_millis(2);
/// Never longer.
pub const CEILING: Span = Span::from_secs(2);

impl Default for Estimator {
    fn default() -> Self {
        Estimator { smoothed: None, timeout: FIRST }
    }
}

impl Estimator {
    /// How long to wait now.
    pub fn timeout(&self) -> Span {
        self.timeout
    }

    /// A segment that was sent once was acknowledged after `round_trip`. Those sent more than once tell nothing: the
    /// answer may be to any of them.
    pub fn measured(&mut self, round_trip: Span) {
        let now = match self.smoothed {
            // (2.2)
            None => Smoothed { round_trip, variation: round_trip / 2 },
            // (2.3), with α = 1/8 and β = 1/4
            Some(Smoothed { round_trip: mean, variation }) => {
                let error = if mean > round_trip { mean - round_trip } else { round_trip - mean };
                Smoothed { round_trip: (mean * 7 + round_trip) / 8, variation: (variation * 3 + error) / 4 }
            }
        };
        self.smoothed = Some(now);
        self.timeout = (now.round_trip + now.variation * 4).clamp(FLOOR, CEILING);
    }

    /// Nothing was acknowledged in time: the next wait is twice as long. (5.5)
    pub fn expired(&mut self) {
        self.timeout = (self.timeout * 2).min(CEILING);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_measurement_gives_three_round_trips() {
        let mut estimator = Estimator::default();
        assert_eq!(estimator.timeout(), FIRST);
        estimator.measured(Span::from_millis(40));
        assert_eq!(estimator.timeout(), Span::from_millis(120));
        // 40 + (60 − 40)/8 = 42.5; 20·3/4 + 20/4 = 20; 42.5 + 80
        estimator.measured(Span::from_millis(60));
        assert_eq!(estimator.timeout(), Span::from_micros(122_500));
    }

    #[test]
    fn a_steady_round_trip_brings_it_to_the_round_trip_or_the_floor() {
        for (round_trip, timeout) in [(Span::from_micros(50), FLOOR), (Span::from_millis(40), Span::from_millis(40))] {
            let mut estimator = Estimator::default();
            (0..100).for_each(|_| estimator.measured(round_trip));
            assert!(estimator.timeout() >= timeout && estimator.timeout() <= timeout + Span::from_micros(10));
        }
    }

    #[test]
    fn it_doubles_up_to_the_ceiling_until_something_is_measured() {
        let mut estimator = Estimator::default();
        estimator.measured(Span::from_micros(10));
        let mut expected = FLOOR;
        for _ in 0..20 {
            assert_eq!(estimator.timeout(), expected);
            estimator.expired();
            expected = (expected * 2).min(CEILING);
        }
        assert_eq!(estimator.timeout(), CEILING);
        estimator.measured(Span::from_micros(10));
        assert_eq!(estimator.timeout(), FLOOR);
    }
}
