//! The one place of the init that reads a clock.

use machine::Time;
use nix::time::{ClockId, clock_gettime};

/// Now, on `CLOCK_MONOTONIC`, which all nodes of a machine share.
pub(super) fn now() -> Time {
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC).expect("every Linux has CLOCK_MONOTONIC");
    let seconds = u64::try_from(now.tv_sec()).expect("CLOCK_MONOTONIC does not count down");
    let nanos = u64::try_from(now.tv_nsec()).expect("nanoseconds are below a second");
    Time::from_nanos(seconds.saturating_mul(1_000_000_000).saturating_add(nanos))
}
