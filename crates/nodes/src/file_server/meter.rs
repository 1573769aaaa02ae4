//! How much was sent and to how many, and the report of it.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use event::NodeReport;
use machine::{Rate, Size, Span, Time};
use tokio::sync::Notify;

use crate::clock;
use crate::events::EventSink;

/// Between two reports.
const REPORT_EVERY: Span = Span::from_millis(100);

/// Counts what all connections send.
#[derive(Debug, Default)]
pub(crate) struct Meter {
    sent: AtomicU64,
    connections: AtomicU32,
    changed: Notify,
}

/// Counts one connection for as long as it lives.
pub(crate) struct Counted<'a>(&'a Meter);

impl Meter {
    /// Counts a connection until the result is dropped.
    pub(crate) fn connection(&self) -> Counted<'_> {
        self.connections.fetch_add(1, Ordering::Relaxed);
        self.changed.notify_one();
        Counted(self)
    }

    /// Counts body bytes.
    pub(crate) fn sent(&self, bytes: u64) {
        self.sent.fetch_add(bytes, Ordering::Relaxed);
        self.changed.notify_one();
    }

    /// Reports for ever, at most every 100 ms; idle while nothing changes.
    pub(crate) async fn report_to(&self, events: &EventSink) {
        if !events.is_connected() {
            return;
        }
        let mut last: (Time, u64, Rate) = (clock::now(), 0, Rate::default());
        loop {
            if last.2 == Rate::default() {
                self.changed.notified().await;
            }
            // While bytes flow a report is due also when none came: the speed is zero then.
            tokio::time::sleep_until(clock::instant(last.0 + REPORT_EVERY)).await;
            let (now, bytes) = (clock::now(), self.sent.load(Ordering::Relaxed));
            let elapsed = now.since(last.0).max(Span::from_millis(1));
            // After a pause the time since the last report says nothing about the speed.
            let elapsed = if last.2 == Rate::default() { elapsed.min(REPORT_EVERY) } else { elapsed };
            let rate = Rate::over(Size::from_bytes(bytes - last.1), elapsed);
            let connections = self.connections.load(Ordering::Relaxed);
            if events.sample(&NodeReport::Served { bytes, connections, rate }) {
                last = (now, bytes, rate);
            } else {
                last.0 = now;
            }
        }
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Ordering::Relaxed);
        self.0.changed.notify_one();
    }
}
