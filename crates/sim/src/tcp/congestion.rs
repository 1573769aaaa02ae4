//! How many segments may be in flight.

use machine::{Span, Time};

/// Which congestion control.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Additive increase, multiplicative decrease (RFC 5681).
    Reno,
    /// RFC 9438.
    Cubic,
}

/// RFC 6928.
const INITIAL_WINDOW: f64 = 10.0;
const LEAST_WINDOW: f64 = 2.0;
const RENO_BETA: f64 = 0.5;
/// RFC 9438, sections 4.6 and 5.
const CUBIC_BETA: f64 = 0.7;
const CUBIC_C: f64 = 0.4;

/// A congestion window, in segments.
#[derive(Clone, Debug)]
pub struct Congestion {
    kind: Kind,
    window: f64,
    slow_start_until: f64,
    /// The window when it was last reduced, with fast convergence.
    most: f64,
    /// The window just before that.
    prior: f64,
    /// When CUBIC's curve began.
    epoch: Option<Epoch>,
}

#[derive(Clone, Copy, Debug)]
struct Epoch {
    began: Time,
    /// Seconds from there to the curve's inflection.
    inflection: f64,
    /// The window of a Reno flow in the same place.
    estimate: f64,
}

impl Congestion {
    /// As a connection begins.
    pub fn new(kind: Kind) -> Self {
        let window = INITIAL_WINDOW;
        Congestion { kind, window, slow_start_until: f64::INFINITY, most: 0.0, prior: 0.0, epoch: None }
    }

    /// Segments that may be in flight.
    pub fn window(&self) -> f64 {
        self.window
    }

    /// So many segments were acknowledged, none having been lost of late.
    pub fn on_acknowledged(&mut self, now: Time, round_trip: Span, segments: f64) {
        if self.window < self.slow_start_until {
            self.window += segments;
            return;
        }
        match self.kind {
            Kind::Reno => self.window += segments / self.window,
            Kind::Cubic => self.follow_curve(now, round_trip, segments),
        }
    }

    /// RFC 9438, sections 4.2 to 4.5.
    fn follow_curve(&mut self, now: Time, round_trip: Span, segments: f64) {
        let (window, most) = (self.window, self.most);
        let epoch = self.epoch.get_or_insert_with(|| Epoch {
            began: now,
            inflection: cube_root((most - window).max(0.0) / CUBIC_C),
            estimate: window,
        });
        let alpha = if epoch.estimate < self.prior { 3.0 * (1.0 - CUBIC_BETA) / (1.0 + CUBIC_BETA) } else { 1.0 };
        epoch.estimate += alpha * segments / window;
        let curve = |at: f64| {
            let from_inflection = at - epoch.inflection;
            CUBIC_C * from_inflection * from_inflection * from_inflection + most
        };
        let elapsed = now.since(epoch.began).as_secs_f64();
        if curve(elapsed) < epoch.estimate {
            self.window = window.max(epoch.estimate);
            return;
        }
        let target = curve(elapsed + round_trip.as_secs_f64()).clamp(window, 1.5 * window);
        self.window += (target - window) / window * segments;
    }

    /// Something was lost that was sent after the last reduction.
    pub fn on_loss(&mut self) {
        self.prior = self.window;
        let beta = match self.kind {
            Kind::Reno => RENO_BETA,
            Kind::Cubic => {
                // Fast convergence (section 4.7).
                let shrinks = self.window < self.most;
                self.most = if shrinks { self.window * (1.0 + CUBIC_BETA) / 2.0 } else { self.window };
                self.epoch = None;
                CUBIC_BETA
            }
        };
        self.window = (self.window * beta).max(LEAST_WINDOW);
        self.slow_start_until = self.window;
    }

    /// Nothing was acknowledged for too long (RFC 5681, section 3.1).
    pub fn on_timeout(&mut self) {
        self.on_loss();
        self.window = 1.0;
    }
}

/// Newton's method, as the kernel does it. A mathematical library's may differ in the last bit from one machine to the next,
/// and that bit would change a whole world.
fn cube_root(of: f64) -> f64 {
    let mut root = of.max(1.0);
    for _ in 0..64 {
        root -= (root * root * root - of) / (3.0 * root * root);
    }
    root
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROUND_TRIP: Span = Span::from_millis(100);

    /// Acknowledges a window in each of so many round trips.
    fn grow(congestion: &mut Congestion, from: Time, rounds: u64) -> f64 {
        for round in 1..=rounds {
            let segments = congestion.window();
            congestion.on_acknowledged(from + ROUND_TRIP * round, ROUND_TRIP, segments);
        }
        congestion.window()
    }

    #[test]
    fn slow_start_doubles_and_reno_adds_one() {
        let mut reno = Congestion::new(Kind::Reno);
        assert_eq!(grow(&mut reno, Time::ZERO, 3), 80.0);
        reno.on_loss();
        assert_eq!(reno.window(), 40.0);
        assert_eq!(grow(&mut reno, Time::ZERO, 5), 45.0);
        reno.on_timeout();
        assert_eq!((reno.window(), reno.slow_start_until), (1.0, 22.5));
    }

    #[test]
    fn cube_roots_are_those_of_cubes() {
        for root in [0.0, 0.5, 1.0, 9.0, 250.0] {
            let found = cube_root(root * root * root);
            assert!((found - root).abs() < 1e-9, "{found} for {root}");
        }
    }

    #[test]
    fn cubic_is_back_where_it_lost_after_k() {
        let mut cubic = Congestion::new(Kind::Cubic);
        cubic.window = 1000.0;
        cubic.on_loss();
        assert_eq!(cubic.window(), 700.0);
        // K = cbrt(1000 · 0.3 / 0.4) = 9.09 s (RFC 9438, figure 2).
        let before = grow(&mut cubic, Time::ZERO, 45);
        let at_inflection = grow(&mut cubic, Time::ZERO + ROUND_TRIP * 45, 46);
        let after = grow(&mut cubic, Time::ZERO + ROUND_TRIP * 91, 45);
        assert!((940.0..980.0).contains(&before), "steep at first: {before}");
        assert!((995.0..1005.0).contains(&at_inflection), "level where it lost: {at_inflection}");
        assert!((1020.0..1060.0).contains(&after), "and steep again: {after}");
    }

    #[test]
    fn cubic_is_no_slower_than_reno_where_windows_are_small() {
        let mut cubic = Congestion::new(Kind::Cubic);
        cubic.window = 10.0;
        cubic.on_loss();
        let short = Span::from_millis(5);
        for round in 1..=20 {
            let segments = cubic.window();
            cubic.on_acknowledged(Time::ZERO + short * round, short, segments);
        }
        // The curve alone would have grown by less than 0.1.
        assert!(cubic.window() > 7.0 + 8.0, "{}", cubic.window());
    }
}
