//! Figures as people read them: three digits and a unit.

use machine::{Rate, Span};

/// How much of how much; of something that does not know how much it will be, a total of 0, the first alone.
pub(crate) fn amount(bytes: u64, total: u64) -> String {
    if total == 0 { size(bytes) } else { format!("{} of {}", size(bytes), size(total)) }
}

/// Bytes, in powers of two.
pub(crate) fn size(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut value = bytes as f64 / 1024.0;
    let mut unit = 0;
    // 1023.95 would print as 1024.0.
    while value >= 1023.95 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    format!("{value:.1} {}", UNITS[unit])
}

/// Bits per second, in powers of ten.
pub(crate) fn rate(rate: Rate) -> String {
    let bits = rate.as_bits_per_sec() as f64;
    match bits {
        _ if bits >= 999.95e6 => format!("{:.2} Gbit/s", bits / 1e9),
        _ if bits >= 999.95e3 => format!("{:.1} Mbit/s", bits / 1e6),
        _ if bits >= 1e3 => format!("{:.1} kbit/s", bits / 1e3),
        _ => format!("{bits} bit/s"),
    }
}

/// A length of time.
pub(crate) fn span(span: Span) -> String {
    let seconds = span.as_secs_f64();
    match seconds {
        _ if span.is_zero() => "0 s".to_owned(),
        _ if seconds < 999.5e-6 => format!("{:.0} us", seconds * 1e6),
        _ if seconds < 0.9995 => format!("{:.1} ms", seconds * 1e3),
        _ if seconds < 119.995 => format!("{seconds:.2} s"),
        _ => {
            let whole = seconds.round() as u64;
            format!("{} min {} s", whole / 60, whole % 60)
        }
    }
}

/// A share of one, in per cent.
pub(crate) fn percent(share: f64) -> String {
    format!("{:.1} %", share * 100.0)
}

/// `part` of `whole`, in per cent rounded down, so that 100 means all of it; `None` of nothing.
pub(crate) fn percent_of(part: u64, whole: u64) -> Option<f64> {
    let tenths = (u128::from(part) * 1000).checked_div(u128::from(whole))?;
    Some(tenths.min(1000) as f64 / 10.0)
}

/// `n things`, with the plural's s.
pub(crate) fn count(n: usize, thing: &str) -> String {
    if n == 1 { format!("1 {thing}") } else { format!("{n} {thing}s") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_change_where_the_printed_number_would_overflow() {
        assert_eq!([size(0), size(1023), size(1 << 20), size((1 << 30) - 1)], ["0 B", "1023 B", "1.0 MiB", "1.0 GiB"]);
        assert_eq!(size(u64::MAX), "16.0 EiB");
        assert_eq!(rate(Rate::from_bits_per_sec(999_999)), "1.0 Mbit/s");
        assert_eq!(rate(Rate::from_mbit(14_200)), "14.20 Gbit/s");
        assert_eq!(span(Span::from_micros(58)), "58 us");
        assert_eq!(span(Span::from_nanos(999_960_000)), "1.00 s");
        assert_eq!(span(Span::from_secs(200)), "3 min 20 s");
    }

    #[test]
    fn a_hundred_per_cent_means_all() {
        assert_eq!(percent_of(999_999, 1_000_000), Some(99.9));
        assert_eq!(percent_of(7, 7), Some(100.0));
        assert_eq!(percent_of(u64::MAX, u64::MAX), Some(100.0));
        assert_eq!(percent_of(u64::MAX, 1), Some(100.0));
        assert_eq!(percent_of(0, 0), None);
    }
}
