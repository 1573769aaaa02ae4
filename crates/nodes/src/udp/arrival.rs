//! When a datagram reached this machine, as the kernel noted it: a program that could not run for a while takes it later,
//! and would take its own delay for the network's.

use std::io;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use machine::{Span, Time};

use super::socket::Socket;
use crate::clock;

impl Socket {
    /// From now on each datagram that is received says when it arrived (`SO_TIMESTAMPNS`, socket(7)).
    ///
    /// # Errors
    /// When the kernel does not know that.
    pub fn tell_arrivals(&mut self) -> io::Result<()> {
        self.set(libc::SOL_SOCKET, libc::SO_TIMESTAMPNS, 1)?;
        self.tells_arrivals = true;
        Ok(())
    }
}

/// Now, by both clocks: the kernel notes the calendar's time, which may be set meanwhile.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moment {
    now: Time,
    calendar: SystemTime,
}

impl Moment {
    pub(super) fn now() -> Self {
        Moment { now: clock::now(), calendar: clock::calendar() }
    }

    /// When it was that time by the calendar. Nothing arrives after it was taken.
    pub(super) fn when(&self, noted: libc::timespec) -> Time {
        let since_epoch = Duration::new(noted.tv_sec.try_into().unwrap_or(0), noted.tv_nsec.try_into().unwrap_or(0));
        let ago = self.calendar.duration_since(UNIX_EPOCH + since_epoch).unwrap_or_default();
        self.now - Span::from_nanos(u64::try_from(ago.as_nanos()).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_noted_is_told_by_the_monotonic_clock() {
        let calendar = UNIX_EPOCH + Duration::from_secs(1000);
        let moment = Moment { now: Time::from_nanos(5_000_000_000), calendar };
        let noted = |tv_sec, tv_nsec| libc::timespec { tv_sec, tv_nsec };
        assert_eq!(moment.when(noted(999, 999_999_000)), Time::from_nanos(4_999_999_000));
        assert_eq!(moment.when(noted(1000, 0)), Time::from_nanos(5_000_000_000));
        assert_eq!(moment.when(noted(1001, 0)), Time::from_nanos(5_000_000_000), "the calendar was set back");
        assert_eq!(moment.when(noted(1, 0)), Time::ZERO, "and forward");
        assert_eq!(moment.when(noted(-1, -1)), Time::ZERO);
    }
}
