//! Bounds on how fast any client can be, from what it was told and when.

use machine::{Span, Time};
use p2p::downloader::CONNECTIONS;

use super::peer::PortLife;
use super::setup::Setup;

/// An answer of the tracker that reached a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// When it came.
    pub at: Time,
    /// The ports that it names.
    pub ports: Vec<u16>,
}

/// A port as a client may use it.
#[derive(Clone, Copy, Debug)]
struct Known {
    /// When the client was first told of it, in seconds.
    told: f64,
    /// When the last byte from it can come.
    until: f64,
    /// Bytes a second of one connection.
    rate: f64,
}

/// The time in which the file passes when all five connections are always on the best port known that is still open: one
/// pays from `Setup::first_byte` after its being told on, until its last byte comes after its retirement, and changing
/// over costs nothing. In seconds; infinite if what was told never brings the file.
///
/// A client that were told every pace with every name, and had connections to spare, would be as fast. Bytes are a fluid
/// here: the first 1000 of each connection, which leave a pace earlier than that, are not counted as such.
pub fn fluid(setup: &Setup, answers: &[Answer], lives: &[PortLife]) -> f64 {
    let known = known(setup, answers, lives);
    let silent = setup.first_byte().as_secs_f64();
    let mut turns: Vec<f64> = known.iter().flat_map(|port| [port.told + silent, port.until]).collect();
    turns.retain(|turn| turn.is_finite());
    turns.sort_by(f64::total_cmp);
    turns.push(f64::INFINITY);
    let (mut now, mut left) = (0.0, setup.size as f64);
    for turn in turns {
        let pays = |port: &&Known| port.told + silent <= now && port.until > now;
        let best = known.iter().filter(pays).map(|port| port.rate).fold(0.0, f64::max) * CONNECTIONS as f64;
        if best * (turn - now) >= left {
            return now + left / best;
        }
        if best > 0.0 {
            left -= best * (turn - now);
        }
        now = turn;
    }
    f64::INFINITY
}

/// The same for a client that knows everything in advance, but has five connections and no more: each change of port
/// costs it the connection for `Setup::first_byte`. What no client can be better than, whatever it measures (but for the
/// first 1000 bytes of each connection).
pub fn foresight(setup: &Setup, answers: &[Answer], lives: &[PortLife]) -> f64 {
    let known = known(setup, answers, lives);
    let silent = setup.first_byte().as_secs_f64();
    // A change pays most as soon as it can be made: when a port is told of, or another one is gone.
    let mut starts: Vec<f64> = known.iter().flat_map(|port| [port.told, port.until]).collect();
    starts.retain(|start| start.is_finite());
    starts.sort_by(f64::total_cmp);
    starts.dedup();
    // What one connection brings until `end` if it begins anew with that port at `start`.
    let leg = |port: &Known, start: f64, end: f64| (end.min(port.until) - start - silent).max(0.0) * port.rate;
    let best_leg = |start: f64, end: f64| {
        known.iter().filter(|port| port.told <= start).map(|port| leg(port, start, end)).fold(0.0, f64::max)
    };
    // What one connection has brought at most by each start, if it is free there.
    let mut brought: Vec<f64> = Vec::new();
    for (nth, end) in starts.iter().enumerate() {
        brought.push((0..nth).map(|from| brought[from] + best_leg(starts[from], *end)).fold(0.0, f64::max));
    }
    let by = |end: f64| {
        let legs = starts.iter().zip(&brought).filter(|(start, _)| **start < end);
        legs.map(|(start, brought)| brought + best_leg(*start, end)).fold(0.0, f64::max) * CONNECTIONS as f64
    };
    let (mut low, mut high) = (0.0, 1e6);
    if by(high) < setup.size as f64 {
        return f64::INFINITY;
    }
    for _ in 0..60 {
        let middle = (low + high) / 2.0;
        if by(middle) < setup.size as f64 { low = middle } else { high = middle }
    }
    high
}

fn known(setup: &Setup, answers: &[Answer], lives: &[PortLife]) -> Vec<Known> {
    let on_the_way = setup.delay;
    let known = lives.iter().filter_map(|life| {
        // A number that comes again is another port.
        let is_meant = |at: Time| at >= life.opened && life.retired.is_none_or(|retired| at <= retired + on_the_way);
        let told = answers.iter().filter(|answer| is_meant(answer.at) && answer.ports.contains(&life.port));
        let told = told.map(|answer| answer.at).min()?.as_secs_f64();
        let until = life.retired.map_or(f64::INFINITY, |retired| (retired + on_the_way).as_secs_f64());
        Some(Known { told, until, rate: rate(setup, life.pace) })
    });
    known.collect()
}

/// Bytes a second of a connection at that pace.
fn rate(setup: &Setup, pace: Span) -> f64 {
    setup.bytes_per_event as f64 / pace.as_secs_f64()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Time {
        Time::ZERO + Span::from_millis(millis)
    }

    fn life(port: u16, pace: u64, retired: Option<u64>) -> PortLife {
        PortLife { port, pace: Span::from_millis(pace), opened: at(0), retired: retired.map(at) }
    }

    /// 100 000 bytes at 50 000 bytes a second and pace of 100 ms; no trips, for round figures.
    fn setup() -> Setup {
        Setup { size: 100_000, delay: Span::ZERO, ..Setup::published(0) }
    }

    fn close(found: f64, expected: f64) {
        assert!((found - expected).abs() < 1e-6, "{found}, not {expected}");
    }

    #[test]
    fn one_port_is_silent_for_the_pre_delay_and_then_brings_all() {
        let answers = [Answer { at: at(500), ports: vec![1] }];
        for bound in [fluid, foresight] {
            close(bound(&setup(), &answers, &[life(1, 100, None)]), 3.5);
            assert!(bound(&setup(), &answers, &[life(2, 100, None)]).is_infinite());
            assert!(bound(&setup(), &answers, &[life(1, 100, Some(3000))]).is_infinite());
        }
    }

    #[test]
    fn a_better_port_pays_when_its_pre_delay_is_over() {
        let answers = [Answer { at: at(0), ports: vec![1] }, Answer { at: at(1000), ports: vec![2] }];
        let lives = [life(1, 100, None), life(2, 25, None)];
        // From 1 s to 2 s at 50 000, then at 200 000; or nothing until then.
        close(fluid(&setup(), &answers, &lives), 2.25);
        close(foresight(&setup(), &answers, &lives), 2.5);
    }

    #[test]
    fn a_port_that_goes_is_replaced_by_the_best_that_stays() {
        let answers = [Answer { at: at(0), ports: vec![1, 2] }];
        let lives = [life(1, 50, Some(1500)), life(2, 100, None)];
        // Half a second at 100 000; then 50 000 are left for the slower one, which is begun at once or from there.
        close(fluid(&setup(), &answers, &lives), 2.5);
        close(foresight(&setup(), &answers, &lives), 3.0);
    }
}
