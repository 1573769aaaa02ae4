//! How late this machine's timers are, and when that makes a result worthless.
//!
//! A virtual machine stalls for tens of milliseconds now and then; that is no reason to throw a run away. A machine
//! that is late again and again did not carry the links that the file asked for. So what counts is the time spent
//! beyond [`BOUND`], the single longest stall left out, as a share of the run from t = 0: above [`STARVED_SHARE`] it is
//! INVALID.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use event::Lag;
use machine::Span;
use nix::sys::time::TimeSpec;
use nix::time::{ClockId, ClockNanosleepFlags, clock_nanosleep};

/// A timer that is later than this counts as starved for the rest of its lateness.
pub const BOUND: Span = fabric::relay::lateness::OVERDUE;

/// The share of a run's time that may be spent starved.
pub const STARVED_SHARE: f64 = 0.05;

/// How often the probe looks.
const PERIOD: Span = Span::from_millis(5);

/// Why a run with this lag means nothing, if so.
pub fn starvation(of: &str, lag: &Lag) -> Option<String> {
    (lag.starved_share > STARVED_SHARE).then(|| {
        format!(
            "this machine was starved: timers of the {of} were more than {BOUND} late for {:.1} % of the run (bound {:.0} %; \
             p50 {:.1} ms, p99 {:.1} ms, longest {:.1} ms)",
            lag.starved_share * 100.0,
            STARVED_SHARE * 100.0,
            lag.p50.as_secs_f64() * 1e3,
            lag.p99.as_secs_f64() * 1e3,
            lag.max.as_secs_f64() * 1e3,
        )
    })
}

/// A shorter run counts as this long: two stalls in a fraction of a second are still only two stalls.
const SHORTEST_RUN: Span = Span::from_secs(2);

/// `part` of `run`.
pub(crate) fn share(part: Span, run: Span) -> f64 {
    part.as_secs_f64() / run.max(SHORTEST_RUN).as_secs_f64()
}

/// Lateness of timers, as it comes.
#[derive(Clone, Debug, Default)]
pub struct Lateness {
    /// Counts by powers of two of microseconds: below 1, 2, 4, … µs.
    buckets: [u64; 32],
    samples: u64,
    max: Span,
    excess: Span,
    largest_excess: Span,
}

impl Lateness {
    /// Takes one lateness.
    pub fn note(&mut self, late: Span) {
        let micros = late.as_nanos() / 1_000;
        let bucket = (u64::BITS - micros.leading_zeros()) as usize;
        self.buckets[bucket.min(self.buckets.len() - 1)] += 1;
        self.samples += 1;
        self.max = self.max.max(late);
        let excess = late.saturating_sub(BOUND);
        self.excess += excess;
        self.largest_excess = self.largest_excess.max(excess);
    }

    /// The figures for a run that lasted `run`.
    pub fn summary(&self, run: Span) -> Lag {
        let starved_share = share(self.excess.saturating_sub(self.largest_excess), run);
        Lag { p50: self.quantile(0.50), p99: self.quantile(0.99), max: self.max, starved_share }
    }

    fn quantile(&self, share: f64) -> Span {
        let wanted = (self.samples as f64 * share).ceil() as u64;
        let mut seen = 0;
        for (bucket, count) in self.buckets.iter().enumerate() {
            seen += count;
            if seen >= wanted {
                return Span::from_micros(1 << bucket).min(self.max);
            }
        }
        self.max
    }
}

/// A thread that sleeps and looks how late it wakes: what happens to it happens to every process of the run.
#[derive(Debug)]
pub struct Probe {
    stop: Arc<AtomicBool>,
    lateness: Arc<Mutex<Lateness>>,
    thread: Option<JoinHandle<()>>,
}

impl Probe {
    /// Starts looking.
    ///
    /// # Errors
    /// When there is no thread to be had.
    pub fn start() -> std::io::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let lateness = Arc::new(Mutex::new(Lateness::default()));
        let thread = std::thread::Builder::new().name("lag-probe".to_owned()).spawn({
            let (stop, lateness) = (Arc::clone(&stop), Arc::clone(&lateness));
            move || {
                while !stop.load(Ordering::Relaxed) {
                    let late = sleep_and_measure();
                    lateness.lock().expect("nobody panics while holding the lateness").note(late);
                }
            }
        })?;
        Ok(Probe { stop, lateness, thread: Some(thread) })
    }

    /// Forgets what was seen: the run begins.
    pub fn reset(&self) {
        *self.lateness.lock().expect("nobody panics while holding the lateness") = Lateness::default();
    }

    /// What was seen in a run that lasted `run`.
    pub fn summary(&self, run: Span) -> Lag {
        self.lateness.lock().expect("nobody panics while holding the lateness").summary(run)
    }
}

impl Drop for Probe {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _panicked = thread.join();
        }
    }
}

fn sleep_and_measure() -> Span {
    let before = fabric::clock::now();
    let period = TimeSpec::new(0, PERIOD.as_nanos() as i64);
    if clock_nanosleep(ClockId::CLOCK_MONOTONIC, ClockNanosleepFlags::empty(), &period).is_err() {
        return Span::ZERO;
    }
    fabric::clock::now().since(before).saturating_sub(PERIOD)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_stall_is_forgiven_and_many_are_not() {
        let mut lateness = Lateness::default();
        for _ in 0..1000 {
            lateness.note(Span::from_micros(80));
        }
        lateness.note(Span::from_millis(400));
        assert_eq!(lateness.summary(Span::from_secs(5)).starved_share, 0.0);
        for _ in 0..30 {
            lateness.note(Span::from_millis(30));
        }
        let lag = lateness.summary(Span::from_secs(5));
        assert!((lag.starved_share - 0.12).abs() < 1e-9, "{lag:?}");
        assert!(starvation("relay", &lag).is_some());
    }

    #[test]
    fn quantiles_are_bounds_from_above() {
        let mut lateness = Lateness::default();
        for _ in 0..99 {
            lateness.note(Span::from_micros(100));
        }
        lateness.note(Span::from_millis(3));
        let lag = lateness.summary(Span::from_secs(1));
        assert!(lag.p50 >= Span::from_micros(100) && lag.p50 < Span::from_micros(200), "{lag:?}");
        assert_eq!(lag.max, Span::from_millis(3));
    }
}
