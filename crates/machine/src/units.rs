//! Rates, sizes and ratios as types; what they print they parse.

use std::fmt;
use std::marker::PhantomData;
use std::str::FromStr;

use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::Span;

/// What was wrong with a quantity that somebody wrote.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UnitError {
    /// Not a number followed by a known unit.
    #[error("`{text}` is not {what} ({examples})")]
    Malformed {
        /// What was written.
        text: String,
        /// What was wanted, with its article.
        what: &'static str,
        /// How it may be written.
        examples: &'static str,
    },
    /// Less than nothing.
    #[error("`{text}` is negative, which {what} cannot be")]
    Negative {
        /// What was written.
        text: String,
        /// What was wanted, with its article.
        what: &'static str,
    },
    /// A fraction below the smallest unit, which would be lost.
    #[error("`{text}` is finer than {what} can be")]
    TooFine {
        /// What was written.
        text: String,
        /// What was wanted, with its article.
        what: &'static str,
    },
    /// Beyond the range of the type.
    #[error("`{text}` is too large for {what}")]
    TooLarge {
        /// What was written.
        text: String,
        /// What was wanted, with its article.
        what: &'static str,
    },
}

/// A data rate in bits per second. Written `56kbit`, `100Mbit`, `1.5Gbit` (powers of ten) or `bit`; zero is allowed to
/// be written, its meaning is the user's.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Rate(u64);

const RATE_UNITS: &[(&str, u64)] =
    &[("Tbit", 1_000_000_000_000), ("Gbit", 1_000_000_000), ("Mbit", 1_000_000), ("kbit", 1_000), ("bit", 1)];

impl Rate {
    /// `n` bits per second.
    pub const fn from_bits_per_sec(n: u64) -> Self {
        Rate(n)
    }

    /// `n` · 10⁶ bits per second.
    pub const fn from_mbit(n: u64) -> Self {
        Rate(n * 1_000_000)
    }

    /// Bits per second.
    pub const fn as_bits_per_sec(self) -> u64 {
        self.0
    }

    /// Bytes per second, rounded down.
    pub const fn as_bytes_per_sec(self) -> u64 {
        self.0 / 8
    }

    /// How long `size` takes at this rate, rounded up to the nanosecond; [`Span::MAX`] at rate zero.
    pub fn time_for(self, size: Size) -> Span {
        if self.0 == 0 {
            return Span::MAX;
        }
        let nanos = (u128::from(size.0) * 8 * 1_000_000_000).div_ceil(u128::from(self.0));
        Span::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }

    /// How much passes in `span` at this rate, rounded down to the byte.
    pub fn size_in(self, span: Span) -> Size {
        let bytes = u128::from(self.0) * u128::from(span.as_nanos()) / 8_000_000_000;
        Size(u64::try_from(bytes).unwrap_or(u64::MAX))
    }

    /// The rate at which `size` passes in `span`; zero if the span is.
    pub fn over(size: Size, span: Span) -> Rate {
        if span.is_zero() {
            return Rate(0);
        }
        let bits = u128::from(size.0) * 8_000_000_000 / u128::from(span.as_nanos());
        Rate(u64::try_from(bits).unwrap_or(u64::MAX))
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (unit, scale) = largest_exact(self.0, RATE_UNITS);
        f.pad(&format!("{}{unit}", self.0 / scale))
    }
}

impl FromStr for Rate {
    type Err = UnitError;
    fn from_str(text: &str) -> Result<Self, UnitError> {
        parse_scaled(text, "a rate", "such as 56kbit, 100Mbit or 1Gbit", RATE_UNITS).map(Rate)
    }
}

/// A size in bytes. Written `10kB`, `10MB`, `10GB` (powers of ten), `64KiB`, `256MiB`, `20GiB` (powers of two), `B`, or
/// a bare whole number of bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Size(u64);

const SIZE_UNITS: &[(&str, u64)] = &[
    ("TiB", 1 << 40),
    ("TB", 1_000_000_000_000),
    ("GiB", 1 << 30),
    ("GB", 1_000_000_000),
    ("MiB", 1 << 20),
    ("MB", 1_000_000),
    ("KiB", 1 << 10),
    ("kB", 1_000),
    ("B", 1),
];

impl Size {
    /// Nothing.
    pub const ZERO: Size = Size(0);

    /// `n` bytes.
    pub const fn from_bytes(n: u64) -> Self {
        Size(n)
    }

    /// `n` · 2²⁰ bytes.
    pub const fn from_mib(n: u64) -> Self {
        Size(n << 20)
    }

    /// Bytes.
    pub const fn as_bytes(self) -> u64 {
        self.0
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (unit, scale) = largest_exact(self.0, SIZE_UNITS);
        f.pad(&format!("{}{unit}", self.0 / scale))
    }
}

impl FromStr for Size {
    type Err = UnitError;
    fn from_str(text: &str) -> Result<Self, UnitError> {
        if let Ok(bytes) = text.trim().parse() {
            return Ok(Size(bytes));
        }
        parse_scaled(text, "a size", "such as 64KiB, 10MB or 4096", SIZE_UNITS).map(Size)
    }
}

/// A share between 0 and 1, exact to 10⁻⁹. Written `2%`, `0.1%` or `0.02`; prints as per cent.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Ratio(u32);

const RATIO_ONE: u64 = 1_000_000_000;

impl Ratio {
    /// Never.
    pub const ZERO: Ratio = Ratio(0);
    /// Always.
    pub const ONE: Ratio = Ratio(RATIO_ONE as u32);

    /// `parts` in 10⁹; `None` above one.
    pub const fn from_parts_per_billion(parts: u32) -> Option<Self> {
        if parts as u64 <= RATIO_ONE { Some(Ratio(parts)) } else { None }
    }

    /// Parts in 10⁹.
    pub const fn as_parts_per_billion(self) -> u32 {
        self.0
    }

    /// As a number between 0 and 1.
    pub fn as_f64(self) -> f64 {
        f64::from(self.0) / RATIO_ONE as f64
    }

    /// Whether a uniformly drawn `u32` falls into this share: with `Ratio::ONE` always, with `Ratio::ZERO` never.
    pub fn holds(self, draw: u32) -> bool {
        u64::from(draw) * RATIO_ONE < u64::from(self.0) << 32
    }
}

impl fmt::Display for Ratio {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, fraction) = (self.0 / 10_000_000, self.0 % 10_000_000);
        if fraction == 0 {
            return f.pad(&format!("{whole}%"));
        }
        let digits = format!("{fraction:07}");
        f.pad(&format!("{whole}.{}%", digits.trim_end_matches('0')))
    }
}

impl FromStr for Ratio {
    type Err = UnitError;
    fn from_str(text: &str) -> Result<Self, UnitError> {
        let what = "a share between 0 and 1";
        let units: &[(&str, u64)] =
            if text.trim_end().ends_with('%') { &[("%", 10_000_000)] } else { &[("", RATIO_ONE)] };
        let parts = parse_scaled(text, what, "such as 2% or 0.02", units)?;
        if parts > RATIO_ONE {
            return Err(UnitError::TooLarge { text: text.to_owned(), what });
        }
        Ok(Ratio(parts as u32))
    }
}

/// The unit to print `value` in: the largest that divides it.
pub(crate) fn largest_exact(value: u64, units: &[(&'static str, u64)]) -> (&'static str, u64) {
    let smallest = *units.last().expect("a unit table is never empty");
    if value == 0 {
        return smallest;
    }
    units.iter().copied().find(|(_, scale)| value.is_multiple_of(*scale)).unwrap_or(smallest)
}

/// Parses a decimal number and a unit into the count of smallest units, exactly or not at all.
pub(crate) fn parse_scaled(
    text: &str,
    what: &'static str,
    examples: &'static str,
    units: &[(&str, u64)],
) -> Result<u64, UnitError> {
    match text.trim().strip_prefix('-') {
        Some(rest) if parse_positive(rest, what, examples, units).is_ok() => {
            Err(UnitError::Negative { text: text.to_owned(), what })
        }
        _ => parse_positive(text, what, examples, units),
    }
}

fn parse_positive(
    text: &str,
    what: &'static str,
    examples: &'static str,
    units: &[(&str, u64)],
) -> Result<u64, UnitError> {
    let malformed = || UnitError::Malformed { text: text.to_owned(), what, examples };
    let too_large = || UnitError::TooLarge { text: text.to_owned(), what };
    let trimmed = text.trim();
    let split = trimmed.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(trimmed.len());
    let (number, unit) = trimmed.split_at(split);
    let scale =
        units.iter().find(|(name, _)| *name == unit.trim_start()).map(|(_, scale)| *scale).ok_or_else(malformed)?;
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    if whole.is_empty() || fraction.is_empty() || fraction.contains('.') {
        return Err(malformed());
    }
    let whole: u64 = whole.parse().map_err(|_| too_large())?;
    let fraction = fraction.trim_end_matches('0');
    let mut value = u128::from(whole) * u128::from(scale);
    if !fraction.is_empty() {
        if fraction.len() > 18 {
            return Err(UnitError::TooFine { text: text.to_owned(), what });
        }
        let digits: u128 = fraction.parse().map_err(|_| malformed())?;
        let divisor = 10u128.pow(fraction.len() as u32);
        let scaled = digits * u128::from(scale);
        if !scaled.is_multiple_of(divisor) {
            return Err(UnitError::TooFine { text: text.to_owned(), what });
        }
        value += scaled / divisor;
    }
    u64::try_from(value).map_err(|_| too_large())
}

/// Reads a quantity from a string, or from a bare number where its type takes one.
pub(crate) struct TextVisitor<T> {
    expecting: &'static str,
    quantity: PhantomData<T>,
}

impl<T> TextVisitor<T> {
    pub(crate) fn new(expecting: &'static str) -> Self {
        TextVisitor { expecting, quantity: PhantomData }
    }
}

impl<T: FromStr<Err = UnitError>> Visitor<'_> for TextVisitor<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.expecting)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
        text.parse().map_err(E::custom)
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<T, E> {
        self.visit_str(&number.to_string())
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<T, E> {
        self.visit_str(&number.to_string())
    }

    fn visit_f64<E: de::Error>(self, number: f64) -> Result<T, E> {
        self.visit_str(&number.to_string())
    }
}

macro_rules! serde_as_text {
    ($type:ty, $expecting:literal) => {
        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                deserializer.deserialize_any(TextVisitor::<$type>::new($expecting))
            }
        }
    };
}

serde_as_text!(Rate, "a rate such as 100Mbit");
serde_as_text!(Size, "a size such as 256MiB");
serde_as_text!(Ratio, "a share such as 2% or 0.02");

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_forms_of_the_file_format_parse() {
        assert_eq!("100Mbit".parse(), Ok(Rate::from_mbit(100)));
        assert_eq!("1.5Gbit".parse(), Ok(Rate::from_mbit(1500)));
        assert_eq!("256MiB".parse(), Ok(Size::from_mib(256)));
        assert_eq!("4096".parse(), Ok(Size::from_bytes(4096)));
        assert_eq!("0.1%".parse::<Ratio>().map(Ratio::as_parts_per_billion), Ok(1_000_000));
        assert_eq!("0.02".parse::<Ratio>(), "2%".parse());
        assert_eq!("1.5s".parse(), Ok(Span::from_millis(1500)));
        assert_eq!("200us".parse(), Ok(Span::from_micros(200)));
    }

    #[test]
    fn what_cannot_be_kept_exactly_is_refused() {
        for wrong in ["", "ms", "5", "5 parsecs", "-1ms", "1..5s", ".5s", "1.s", "0.1ns", "99999999999h"] {
            assert!(wrong.parse::<Span>().is_err(), "{wrong:?} parsed as a duration");
        }
        for wrong in ["150%", "1.1", "x", "-0.1", "0.0000000001"] {
            assert!(wrong.parse::<Ratio>().is_err(), "{wrong:?} parsed as a share");
        }
        assert!("1.5".parse::<Size>().is_err(), "half a byte");
    }

    #[test]
    fn what_is_less_than_nothing_is_told_from_what_is_no_number() {
        let said = |text: &str| text.parse::<Span>().unwrap_err().to_string();
        assert_eq!(said("-5ms"), "`-5ms` is negative, which a duration cannot be");
        for malformed in ["-5", "--5ms", "-", "- -5ms"] {
            assert!(said(malformed).contains("is not a duration"), "{malformed}");
        }
        assert!(said(&"-".repeat(1 << 20)).ends_with("is not a duration (such as 250us, 5ms, 1.5s or 2min)"));
    }

    #[test]
    fn a_share_of_one_always_holds_and_of_zero_never() {
        for draw in [0, 1, u32::MAX / 2, u32::MAX] {
            assert!(Ratio::ONE.holds(draw));
            assert!(!Ratio::ZERO.holds(draw));
        }
    }

    proptest! {
        #[test]
        fn what_is_printed_is_parsed(n: u64, parts in 0..=1_000_000_000u32) {
            prop_assert_eq!(Rate::from_bits_per_sec(n).to_string().parse(), Ok(Rate::from_bits_per_sec(n)));
            prop_assert_eq!(Size::from_bytes(n).to_string().parse(), Ok(Size::from_bytes(n)));
            prop_assert_eq!(Span::from_nanos(n).to_string().parse(), Ok(Span::from_nanos(n)));
            let ratio = Ratio::from_parts_per_billion(parts).expect("in range");
            prop_assert_eq!(ratio.to_string().parse(), Ok(ratio));
        }

        #[test]
        fn no_text_panics(text: String) {
            let _ = (text.parse::<Rate>(), text.parse::<Size>(), text.parse::<Span>(), text.parse::<Ratio>());
        }
    }
}
