//! A wall-clock instant in words, UTC.

/// `unix_ms` milliseconds after 1970 as `20260321-120000-250`: sorts by time and suits a file's name.
pub fn compact(unix_ms: u64) -> String {
    let digits: String = utc(unix_ms).chars().filter(char::is_ascii_digit).collect();
    // The year may have more than four digits, so the split counts from the end: six of time, three of fraction.
    let (date, time) = digits.split_at(digits.len() - 9);
    let (time, fraction) = time.split_at(6);
    format!("{date}-{time}-{fraction}")
}

/// `unix_ms` milliseconds after 1970 as `2026-03-21T12:00:00.250Z` (ISO 8601).
pub fn utc(unix_ms: u64) -> String {
    let (days, of_day) = (unix_ms / 86_400_000, unix_ms % 86_400_000);
    let (year, month, day) = civil(days);
    let (hours, minutes, seconds) = (of_day / 3_600_000, of_day / 60_000 % 60, of_day / 1000 % 60);
    format!("{year:04}-{month:02}-{day:02}T{hours:02}:{minutes:02}:{seconds:02}.{:03}Z", of_day % 1000)
}

/// The Gregorian date `days` after 1970-01-01, counted in eras of 400 years that begin in March
/// (Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms", `civil_from_days`).
fn civil(days: u64) -> (u64, u64, u64) {
    let shifted = days + 719_468;
    let (era, of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let day_of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_agree_with_the_calendar() {
        assert_eq!(utc(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(utc(951_782_400_000), "2000-02-29T00:00:00.000Z");
        assert_eq!(compact(951_782_400_250), "20000229-000000-250");
        assert_eq!(compact(u64::MAX).split('-').count(), 3);
        assert_eq!(utc(1_767_225_599_999), "2025-12-31T23:59:59.999Z");
    }
}
