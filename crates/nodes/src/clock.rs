//! The one place of the role programs that reads the clock.

use std::sync::OnceLock;
use std::time::{Instant, SystemTime};

use machine::Time;

/// When this process first asked for the time.
static ORIGIN: OnceLock<Instant> = OnceLock::new();

/// Now, in nanoseconds since this process first asked; monotonic.
pub(crate) fn now() -> Time {
    Time::from_nanos(u64::try_from(read().duration_since(origin()).as_nanos()).unwrap_or(u64::MAX))
}

/// The same instant for tokio's timers. Beyond 30 years it is 30 years.
pub(crate) fn instant(at: Time) -> tokio::time::Instant {
    const FOREVER: u64 = 30 * 365 * 86_400 * 1_000_000_000;
    (origin() + std::time::Duration::from_nanos(at.as_nanos().min(FOREVER))).into()
}

fn origin() -> Instant {
    *ORIGIN.get_or_init(read)
}

#[expect(clippy::disallowed_methods, reason = "programs at the edge live in real time")]
fn read() -> Instant {
    Instant::now()
}

/// The calendar's time, for `Date` headers.
#[expect(clippy::disallowed_methods, reason = "programs at the edge live in real time")]
pub(crate) fn calendar() -> SystemTime {
    SystemTime::now()
}
