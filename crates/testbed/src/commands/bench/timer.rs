//! Waiting for an instant, and how late this machine is at that.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use fabric::clock;
use machine::{Span, Time};
use nix::poll::ppoll;
use nix::sys::time::TimeSpec;

/// Has timers of the calling thread, and of those that it starts, end when they should and not up to 50 µs later.
pub(super) fn be_exact() {
    // It takes any number.
    let _granted = nix::sys::prctl::set_timerslack(1);
}

/// Returns at `due`, or late.
pub(super) fn wait_until(due: Time) {
    loop {
        let left = due.since(clock::now());
        if left.is_zero() {
            return;
        }
        // An interruption is seen by the clock.
        let _interrupted = ppoll(&mut [], Some(TimeSpec::from_duration(Duration::from(left))), None);
    }
}

/// A thread that does nothing but wait, 3 ms each time: what it is late has no link to blame.
pub(super) struct BareTimer {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Vec<f64>>,
}

impl BareTimer {
    pub(super) fn begin() -> BareTimer {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = thread::spawn(move || {
            be_exact();
            let mut late = Vec::new();
            while !stopped.load(Ordering::Relaxed) {
                let due = clock::now() + Span::from_millis(3);
                wait_until(due);
                late.push(millis(clock::now().since(due)));
            }
            late
        });
        BareTimer { stop, thread }
    }

    /// By how much it was late, in milliseconds.
    pub(super) fn end(self) -> Quantiles {
        self.stop.store(true, Ordering::Relaxed);
        Quantiles::of(self.thread.join().unwrap_or_default())
    }
}

/// Values in order.
pub(super) struct Quantiles(Vec<f64>);

impl Quantiles {
    pub(super) fn of(mut values: Vec<f64>) -> Quantiles {
        values.sort_by(f64::total_cmp);
        Quantiles(values)
    }

    /// What the share `q` of them does not exceed; 0 of nothing.
    pub(super) fn at(&self, q: f64) -> f64 {
        let last = self.0.len().saturating_sub(1);
        self.0.get((last as f64 * q) as usize).copied().unwrap_or(0.0)
    }

    /// The usual three.
    pub(super) fn json(&self) -> serde_json::Value {
        serde_json::json!({ "count": self.0.len(), "p50": self.at(0.5), "p99": self.at(0.99), "max": self.at(1.0) })
    }
}

pub(super) fn millis(span: Span) -> f64 {
    span.as_nanos() as f64 / 1e6
}
