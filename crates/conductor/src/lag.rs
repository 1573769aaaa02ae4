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
use fabric::relay::Lateness;
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

/// The figures of a run that lasted `run`. Of `late`, what it had in excess `before` the run does not count.
pub fn summary(late: &Lateness, before: Span, run: Span) -> Lag {
    let repeated = late.excess().saturating_sub(before).saturating_sub(late.largest_excess());
    let starved_share = share(repeated, run);
    Lag { p50: late.quantile(0.50), p99: late.quantile(0.99), max: late.largest(), starved_share }
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
                    let due = fabric::clock::now() + PERIOD;
                    sleep();
                    let woke = fabric::clock::now();
                    lateness.lock().expect("nobody panics while holding the lateness").record(due, woke);
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
        summary(&self.lateness.lock().expect("nobody panics while holding the lateness"), Span::ZERO, run)
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

fn sleep() {
    let period = TimeSpec::new(0, PERIOD.as_nanos() as i64);
    // A signal that interrupts the sleep makes it early, which is not late.
    let _interrupted = clock_nanosleep(ClockId::CLOCK_MONOTONIC, ClockNanosleepFlags::empty(), &period);
}

#[cfg(test)]
mod tests {
    use machine::Time;

    use super::*;

    /// Wake-ups every 50 ms, each as late as told.
    fn wake_ups(lateness: &mut Lateness, from: u64, late: &[Span]) {
        for (nth, late) in late.iter().enumerate() {
            let due = Time::ZERO + Span::from_millis(from + 50 * nth as u64);
            lateness.record(due, due + *late);
        }
    }

    #[test]
    fn one_stall_is_forgiven_and_many_are_not() {
        let mut lateness = Lateness::default();
        wake_ups(&mut lateness, 0, &[Span::from_micros(80); 40]);
        wake_ups(&mut lateness, 2000, &[Span::from_millis(400)]);
        let run = Span::from_secs(5);
        assert_eq!(summary(&lateness, Span::ZERO, run).starved_share, 0.0);
        wake_ups(&mut lateness, 3000, &[Span::from_millis(30); 30]);
        let lag = summary(&lateness, Span::ZERO, run);
        assert!((lag.starved_share - 0.12).abs() < 1e-9, "{lag:?}");
        assert!(starvation("relay", &lag).is_some());
        assert!(
            starvation("relay", &summary(&lateness, Span::from_millis(600), run)).is_none(),
            "it came before the run"
        );
    }

    #[test]
    fn two_stalls_in_a_short_run_are_still_only_two_stalls() {
        let mut lateness = Lateness::default();
        wake_ups(&mut lateness, 0, &[Span::from_millis(60), Span::from_millis(60)]);
        assert!(starvation("conductor", &summary(&lateness, Span::ZERO, Span::from_millis(300))).is_none());
    }
}
