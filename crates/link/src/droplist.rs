//! Which packets of a half link are lost for certain.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::de::{self, Deserialize, Deserializer};
use serde::{Serialize, Serializer};

/// Ordinals of packets, counted from 1, that never arrive. A file writes them as a list of numbers and ranges:
/// `[3, 7-9]`. Cheap to clone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DropList(
    /// Invariant: in order, apart from each other, none empty, none from 0.
    Arc<[Ordinals]>,
);

/// A number, or a range with both its ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ordinals {
    first: u64,
    last: u64,
}

/// Why a text is no [`Ordinals`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("neither a packet's number, counted from 1, nor a range such as 7-9")]
pub struct NotOrdinals;

impl DropList {
    /// Whether it loses nothing.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether the packet of this ordinal, counted from 1, is lost.
    pub fn contains(&self, ordinal: u64) -> bool {
        let after = self.0.partition_point(|range| range.first <= ordinal);
        after > 0 && ordinal <= self.0[after - 1].last
    }
}

impl FromIterator<Ordinals> for DropList {
    fn from_iter<I: IntoIterator<Item = Ordinals>>(ranges: I) -> Self {
        let mut ranges: Vec<Ordinals> = ranges.into_iter().collect();
        ranges.sort_unstable();
        ranges.dedup_by(|next, last| {
            let joins = next.first <= last.last.saturating_add(1);
            if joins {
                last.last = last.last.max(next.last);
            }
            joins
        });
        DropList(ranges.into())
    }
}

impl FromStr for Ordinals {
    type Err = NotOrdinals;

    fn from_str(text: &str) -> Result<Self, NotOrdinals> {
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let number = |text: &str| text.trim().parse::<u64>().map_err(|_| NotOrdinals);
        let (first, last) = (number(first)?, number(last)?);
        if 1 <= first && first <= last { Ok(Ordinals { first, last }) } else { Err(NotOrdinals) }
    }
}

impl fmt::Display for Ordinals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Ordinals { first, last } if first == last => write!(f, "{first}"),
            Ordinals { first, last } => write!(f, "{first}-{last}"),
        }
    }
}

impl fmt::Display for DropList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, range) in self.0.iter().enumerate() {
            write!(f, "{}{range}", if index == 0 { "" } else { ", " })?;
        }
        Ok(())
    }
}

impl Serialize for DropList {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter().map(ToString::to_string))
    }
}

impl<'de> Deserialize<'de> for DropList {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let texts = Vec::<String>::deserialize(deserializer)?;
        texts.iter().map(|text| text.parse().map_err(de::Error::custom)).collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn ranges_are_joined_and_written_as_they_are_read() {
        let list: DropList =
            ["9", "3", "7-8", "20-30", "22-25", "31"].map(|text| text.parse().unwrap()).into_iter().collect();
        assert_eq!(serde_json::to_string(&list).unwrap(), r#"["3","7-9","20-31"]"#);
        assert_eq!(list.to_string(), "3, 7-9, 20-31");
        assert_eq!(serde_json::from_str::<DropList>(r#"["20-31","3","7-9"]"#).unwrap(), list);
        for wrong in ["", "0", "0-3", "9-7", "-", "3-", "x", "1-2-3", "-1", "18446744073709551616"] {
            assert_eq!(wrong.parse::<Ordinals>(), Err(NotOrdinals), "{wrong:?}");
        }
    }

    proptest! {
        #[test]
        fn it_holds_what_one_of_its_ranges_holds(ranges in prop::collection::vec((1..60u64, 0..9u64), 0..12)) {
            let ranges: Vec<Ordinals> = ranges.iter().map(|(first, more)| Ordinals { first: *first, last: first + more }).collect();
            let list: DropList = ranges.iter().copied().collect();
            for ordinal in 0..80 {
                let expected = ranges.iter().any(|range| (range.first..=range.last).contains(&ordinal));
                prop_assert_eq!(list.contains(ordinal), expected, "{}", ordinal);
            }
        }
    }
}
