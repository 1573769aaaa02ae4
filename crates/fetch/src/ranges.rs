//! A set of bytes of a file, as few ranges as possible.

use std::collections::BTreeMap;

use crate::pieces::ByteRange;

/// A set of bytes. Costs memory per gap, not per byte.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RangeSet {
    /// Start to end. Invariant: ranges are not empty, and neither overlap nor touch.
    ranges: BTreeMap<u64, u64>,
    bytes: u64,
}

impl RangeSet {
    /// Adds the bytes of `range`.
    pub fn insert(&mut self, range: ByteRange) {
        if range.is_empty() {
            return;
        }
        let (mut start, mut end) = (range.start, range.end);
        while let Some((&s, &e)) = self.ranges.range(..=end).next_back().filter(|(_, e)| **e >= start) {
            self.ranges.remove(&s);
            self.bytes -= e - s;
            (start, end) = (start.min(s), end.max(e));
        }
        self.ranges.insert(start, end);
        self.bytes += end - start;
    }

    /// Takes the bytes of `range` out.
    pub fn remove(&mut self, range: ByteRange) {
        if range.is_empty() {
            return;
        }
        while let Some((&s, &e)) = self.ranges.range(..range.end).next_back().filter(|(_, e)| **e > range.start) {
            self.ranges.remove(&s);
            self.bytes -= e - s;
            for rest in [ByteRange::new(s, range.start.min(e)), ByteRange::new(range.end.max(s), e)] {
                if !rest.is_empty() {
                    self.ranges.insert(rest.start, rest.end);
                    self.bytes += rest.len();
                }
            }
        }
    }

    /// Whether every byte of `range` is in the set.
    pub fn contains(&self, range: ByteRange) -> bool {
        range.is_empty() || self.ranges.range(..=range.start).next_back().is_some_and(|(_, end)| *end >= range.end)
    }

    /// The ranges of the set, in order.
    pub fn iter(&self) -> impl Iterator<Item = ByteRange> {
        self.ranges.iter().map(|(start, end)| ByteRange::new(*start, *end))
    }

    /// The parts of `range` that are not in the set, in order.
    pub fn gaps(&self, range: ByteRange) -> Vec<ByteRange> {
        let mut gaps = Vec::new();
        let mut at = range.start;
        let before = self.ranges.range(..=range.start).next_back();
        let within = self.ranges.range(range.start.saturating_add(1)..range.end.max(range.start.saturating_add(1)));
        for (&start, &end) in before.into_iter().chain(within) {
            if start > at {
                gaps.push(ByteRange::new(at, start.min(range.end)));
            }
            at = at.max(end);
        }
        if at < range.end {
            gaps.push(ByteRange::new(at, range.end));
        }
        gaps
    }

    /// How many bytes are in the set.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_is_a_set_of_bytes(steps in prop::collection::vec((any::<bool>(), 0..60u64, 0..20u64), 0..40), from in 0..60u64, len in 0..30u64) {
            let (mut set, mut model) = (RangeSet::default(), BTreeSet::new());
            for (add, start, len) in steps {
                let range = ByteRange::new(start, start + len);
                if add {
                    set.insert(range);
                    model.extend(start..start + len);
                } else {
                    set.remove(range);
                    model.retain(|byte| !(start..start + len).contains(byte));
                }
                prop_assert_eq!(set.bytes(), model.len() as u64);
                let ranges: Vec<_> = set.iter().collect();
                prop_assert!(ranges.windows(2).all(|pair| pair[0].end < pair[1].start), "ranges touch: {:?}", ranges);
            }
            let query = ByteRange::new(from, from + len);
            let missing: Vec<u64> = (from..from + len).filter(|byte| !model.contains(byte)).collect();
            prop_assert_eq!(set.gaps(query).into_iter().flat_map(|gap| gap.start..gap.end).collect::<Vec<_>>(), missing.clone());
            prop_assert_eq!(set.contains(query), missing.is_empty());
        }
    }
}
