//! One token bucket for all that a server sends, or for all that a downloader takes.

use machine::{Rate, Size, Span, Time};
use tokio::sync::Mutex;

use crate::clock;

/// Unused allowance is kept for this long: what a late wake-up of a busy machine may catch up.
const MEMORY: Span = Span::from_millis(20);

/// The most that is granted at once, in bytes, so that connections take turns.
const GRANT: u64 = 64 << 10;

/// Grants bytes no faster than a rate. Those who wait are served in their order.
#[derive(Debug)]
pub(crate) struct Throttle {
    rate: Rate,
    /// When all that was granted will have been paid for.
    paid_until: Mutex<Time>,
}

impl Throttle {
    /// Grants `rate` in all.
    pub(crate) fn new(rate: Rate) -> Self {
        Throttle { rate, paid_until: Mutex::new(Time::ZERO) }
    }

    /// Waits until some bytes may pass, and tells how many of the `wanted`.
    pub(crate) async fn grant(&self, wanted: u64) -> u64 {
        // Held while waiting: tokio's mutex is first come, first served.
        let mut paid_until = self.paid_until.lock().await;
        let now = clock::now();
        if *paid_until > now {
            tokio::time::sleep_until(clock::instant(*paid_until)).await;
        }
        // A grant lasts at most 10 ms, so that a slow server sends evenly.
        let even = self.rate.size_in(Span::from_millis(10)).as_bytes().max(1460);
        let granted = wanted.min(GRANT).min(even);
        *paid_until = (*paid_until).max(clock::now() - MEMORY) + self.rate.time_for(Size::from_bytes(granted));
        granted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn no_more_is_granted_than_the_rate_allows() {
        let throttle = Throttle::new(Rate::from_mbit(80));
        let began = clock::now();
        let mut granted = 0;
        while granted < 1_000_000 {
            granted += throttle.grant(1 << 20).await;
        }
        // 1 MB at 10 MB/s, less what the bucket holds and the last grant, which is paid afterwards.
        let bound = Span::from_millis(100).saturating_sub(MEMORY + MEMORY);
        assert!(clock::now().since(began) >= bound, "{:?}", clock::now().since(began));
    }
}
