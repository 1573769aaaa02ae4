//! The decisions of a file server, RFC 9110: which bytes to send, and with what status.
//!
//! * [`select`]: `Range` and `If-Range` to 200, 206 or 416.
//! * [`entity_tag`]: the tag of a file.

use crate::manifest::Validator;
use crate::pieces::ByteRange;

/// What to answer to a GET or HEAD.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Selection {
    /// 200 with everything.
    Whole,
    /// 206 with these bytes and a `Content-Range`.
    Part(ByteRange),
    /// 416 with `Content-Range: bytes */length`.
    Unsatisfiable,
}

impl Selection {
    /// The status code.
    pub const fn status(self) -> u16 {
        match self {
            Selection::Whole => 200,
            Selection::Part(_) => 206,
            Selection::Unsatisfiable => 416,
        }
    }

    /// The bytes of the body for a file of `length`; none with a 416.
    pub fn body(self, length: u64) -> ByteRange {
        match self {
            Selection::Whole => ByteRange::new(0, length),
            Selection::Part(range) => range,
            Selection::Unsatisfiable => ByteRange::new(0, 0),
        }
    }

    /// The value of `Content-Range`, where the answer has one (RFC 9110 §14.4).
    pub fn content_range(self, length: u64) -> Option<String> {
        match self {
            Selection::Whole => None,
            Selection::Part(range) => Some(format!("bytes {}-{}/{length}", range.start, range.end - 1)),
            Selection::Unsatisfiable => Some(format!("bytes */{length}")),
        }
    }
}

/// Decides a GET for a file of `length` bytes with entity tag `tag`, from the values of `Range` and `If-Range`.
///
/// A `Range` that is malformed, in another unit or asks for several ranges is ignored (RFC 9110 §14.2 allows it), and
/// so is one whose `If-Range` does not name `tag` strongly (§13.1.5).
pub fn select(length: u64, tag: &Validator, range: Option<&str>, if_range: Option<&str>) -> Selection {
    let current = if_range.is_none_or(|condition| tag.is_strong() && condition.trim() == tag.as_str());
    let Some(spec) = range.filter(|_| current).and_then(RangeSpec::parse) else { return Selection::Whole };
    let selected = match spec {
        RangeSpec::From { first, last } => {
            ByteRange::new(first, last.map_or(length, |last| last.saturating_add(1).min(length)))
        }
        RangeSpec::Suffix(count) => ByteRange::new(length.saturating_sub(count), length),
    };
    if selected.is_empty() || selected.start >= length { Selection::Unsatisfiable } else { Selection::Part(selected) }
}

/// A single range as asked for, RFC 9110 §14.1.2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum RangeSpec {
    /// `first-` or `first-last`.
    From { first: u64, last: Option<u64> },
    /// `-count`.
    Suffix(u64),
}

impl RangeSpec {
    fn parse(value: &str) -> Option<Self> {
        let (unit, set) = value.trim().split_once('=')?;
        if !unit.eq_ignore_ascii_case("bytes") || set.contains(',') {
            return None;
        }
        let (first, last) = set.trim().split_once('-')?;
        match (first, last) {
            ("", count) => Some(RangeSpec::Suffix(position(count)?)),
            (first, "") => Some(RangeSpec::From { first: position(first)?, last: None }),
            (first, last) => {
                let (first, last) = (position(first)?, position(last)?);
                (first <= last).then_some(RangeSpec::From { first, last: Some(last) })
            }
        }
    }
}

/// Digits alone: no sign, no space. A number too large for the type is as good as the largest.
fn position(digits: &str) -> Option<u64> {
    let valid = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    valid.then(|| digits.parse().unwrap_or(u64::MAX))
}

/// The entity tag of a file: from its hash where that is known (the same on every server that has the file), else from
/// length and modification time in nanoseconds, which is strong only while nobody rewrites the file within a clock tick.
pub fn entity_tag(length: u64, modified_nanos: u64, hash: Option<crate::Digest>) -> Validator {
    let text = match hash {
        Some(hash) => format!("\"{}\"", &hash.to_string()[..32]),
        None => format!("\"{length:x}-{modified_nanos:x}\""),
    };
    Validator::parse(&text).expect("hexadecimal digits make an entity tag")
}

/// Reads the value of `Content-Range` of a 206: the bytes, and the length of the whole if told. `None` if it is not one.
pub fn parse_content_range(value: &str) -> Option<(ByteRange, Option<u64>)> {
    let (unit, rest) = value.trim().split_once(' ')?;
    let (range, total) = rest.trim().split_once('/')?;
    let (first, last) = range.split_once('-')?;
    let (first, last) = (position(first)?, position(last)?);
    let total = if total == "*" { None } else { Some(position(total)?) };
    let sound = unit.eq_ignore_ascii_case("bytes") && first <= last && last < total.unwrap_or(u64::MAX);
    sound.then(|| (ByteRange::new(first, last + 1), total))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn tag() -> Validator {
        Validator::parse("\"v1\"").unwrap()
    }

    fn part(start: u64, end: u64) -> Selection {
        Selection::Part(ByteRange::new(start, end))
    }

    #[test]
    fn a_single_range_is_served() {
        for (range, expected) in [
            ("bytes=0-499", part(0, 500)),
            ("bytes=500-", part(500, 1000)),
            ("bytes=-1", part(999, 1000)),
            ("bytes=-5000", part(0, 1000)),
            ("bytes=999-99999999999999999999999", part(999, 1000)),
            ("Bytes=0-0", part(0, 1)),
            ("bytes=1000-", Selection::Unsatisfiable),
            ("bytes=-0", Selection::Unsatisfiable),
            ("bytes=18446744073709551615-", Selection::Unsatisfiable),
        ] {
            assert_eq!(select(1000, &tag(), Some(range), None), expected, "{range}");
        }
        assert_eq!(select(0, &tag(), Some("bytes=0-"), None), Selection::Unsatisfiable);
    }

    #[test]
    fn what_need_not_be_understood_is_ignored() {
        for range in
            ["bytes=0-1,4-5", "bytes=5-4", "bytes=a-b", "bytes=-", "bytes", "lines=0-1", "bytes=+1-2", "bytes=0 -1"]
        {
            assert_eq!(select(1000, &tag(), Some(range), None), Selection::Whole, "{range}");
        }
    }

    #[test]
    fn if_range_must_name_the_tag_strongly() {
        assert_eq!(select(1000, &tag(), Some("bytes=0-1"), Some("\"v1\"")), part(0, 2));
        for stale in ["\"v2\"", "W/\"v1\"", "Wed, 21 Oct 2015 07:28:00 GMT"] {
            assert_eq!(select(1000, &tag(), Some("bytes=0-1"), Some(stale)), Selection::Whole, "{stale}");
        }
        let weak = Validator::parse("W/\"v1\"").unwrap();
        assert_eq!(select(1000, &weak, Some("bytes=0-1"), Some("W/\"v1\"")), Selection::Whole);
    }

    proptest! {
        #[test]
        fn an_answer_lies_within_the_file_and_says_so(length in 0u64..2000, value: String, first in 0u64..3000, last in 0u64..3000) {
            for range in [value, format!("bytes={first}-{last}"), format!("bytes=-{last}")] {
                let selection = select(length, &tag(), Some(&range), None);
                let body = selection.body(length);
                prop_assert!(body.end <= length);
                if let Selection::Part(range) = selection {
                    prop_assert!(!range.is_empty());
                    let told = selection.content_range(length).unwrap();
                    prop_assert_eq!(parse_content_range(&told), Some((range, Some(length))));
                }
            }
        }

        #[test]
        fn no_content_range_panics(value: String) {
            if let Some((range, total)) = parse_content_range(&value) {
                prop_assert!(!range.is_empty() && range.end <= total.unwrap_or(u64::MAX));
            }
        }
    }
}
