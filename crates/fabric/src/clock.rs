//! Where this crate reads clocks.

use machine::Time;
use nix::time::{ClockId, clock_gettime};

/// The present instant of `CLOCK_MONOTONIC`, which every namespace of a run shares.
pub fn now() -> Time {
    let read = clock_gettime(ClockId::CLOCK_MONOTONIC).expect("Linux always has CLOCK_MONOTONIC");
    // Seconds since boot and nanoseconds below a second: both are never negative.
    Time::from_nanos(read.tv_sec() as u64 * 1_000_000_000 + read.tv_nsec() as u64)
}

/// Nanoseconds since 1970 by the machine's clock of the day, which somebody may set.
pub fn realtime() -> u64 {
    let read = clock_gettime(ClockId::CLOCK_REALTIME).expect("Linux always has CLOCK_REALTIME");
    read.tv_sec().max(0) as u64 * 1_000_000_000 + read.tv_nsec() as u64
}

#[cfg(test)]
mod tests {
    use super::now;

    #[test]
    fn never_goes_back() {
        let mut last = now();
        for _ in 0..1000 {
            let next = now();
            assert!(next >= last);
            last = next;
        }
    }
}
