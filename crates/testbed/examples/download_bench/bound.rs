//! The least time in which servers can bring a file, as a fluid through their lines. Headers count: a full frame carries
//! 1448 of its 1514 bytes (Ethernet without FCS, IPv4, TCP with timestamps).

use crate::case::{Case, Fault, Line, VICTIM};

/// Ethernet bytes to a byte of the file.
pub(crate) const FRAME: f64 = 1514.0 / 1448.0;

/// Megabit per second from one moment to another, in seconds.
struct Part {
    from: f64,
    until: f64,
    rate: f64,
}

/// Seconds; `faults` are the moments, counted from the client's start, at which the faults of the case took place.
/// `None` where nothing is shaped.
pub(crate) fn least_time(case: &Case, faults: &[f64]) -> Option<f64> {
    let mut parts = Vec::new();
    for (server, line) in case.lines.iter().enumerate() {
        for part in growth((*line)?, case.slow_start) {
            parts.extend(
                presence(case, server, faults).into_iter().filter_map(|(from, until)| part.within(from, until)),
            );
        }
    }
    Some(fluid(&parts, case.length as f64 * FRAME * 8.0 / 1e6))
}

impl Part {
    fn within(&self, from: f64, until: f64) -> Option<Part> {
        let (from, until) = (self.from.max(from), self.until.min(until));
        (from < until).then_some(Part { from, until, rate: self.rate })
    }
}

/// What a line carries from the client's start on. With slow start: nothing for two round trips, and then ten segments in
/// the first (RFC 6928), twice as many in each further one, up to its rate.
fn growth(line: Line, slow_start: bool) -> Vec<Part> {
    let (rate, trip) = (f64::from(line.rate), f64::from(line.round_trip) / 1e3);
    let mut parts = Vec::new();
    let mut from = 0.0;
    if slow_start {
        from = 2.0 * trip;
        let mut window = 10.0 * 1514.0 * 8.0 / trip / 1e6;
        while window < rate {
            parts.push(Part { from, until: from + trip, rate: window });
            from += trip;
            window *= 2.0;
        }
    }
    parts.push(Part { from, until: f64::MAX, rate });
    parts
}

/// From when until when a server lives.
fn presence(case: &Case, server: usize, faults: &[f64]) -> Vec<(f64, f64)> {
    let mut spans = vec![(0.0, f64::MAX)];
    if server == VICTIM {
        for ((_, fault), at) in case.faults.iter().zip(faults) {
            if *fault == Fault::Revive {
                spans.push((*at, f64::MAX));
            } else if let Some(last) = spans.last_mut() {
                last.1 = *at;
            }
        }
    }
    spans
}

/// When the parts have brought this many megabits.
fn fluid(parts: &[Part], megabits: f64) -> f64 {
    let brought =
        |when: f64| parts.iter().map(|part| (when.min(part.until) - part.from).max(0.0) * part.rate).sum::<f64>();
    let (mut low, mut high) = (0.0, 1e6);
    for _ in 0..80 {
        let middle = (low + high) / 2.0;
        if brought(middle) < megabits { low = middle } else { high = middle }
    }
    high
}
