//! Who cannot reach whom.

use std::collections::BTreeMap;

/// Names a partition, so that several can stand at once and each be healed alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PartitionKey(pub u64);

/// All partitions that stand.
#[derive(Clone, Debug, Default)]
pub(crate) struct Partitions {
    /// For each, the list that each port (by index) is in, counted from 1; 0 or absent is in none.
    sides: BTreeMap<PartitionKey, Vec<u32>>,
}

impl Partitions {
    /// Ports in different lists no longer reach each other. A port in several lists counts to the last.
    pub(crate) fn set(&mut self, key: PartitionKey, lists: impl IntoIterator<Item = impl IntoIterator<Item = usize>>) {
        let mut sides = Vec::new();
        for (side, list) in (1..).zip(lists) {
            for port in list {
                if sides.len() <= port {
                    sides.resize(port + 1, 0);
                }
                sides[port] = side;
            }
        }
        self.sides.insert(key, sides);
    }

    pub(crate) fn heal(&mut self, key: PartitionKey) {
        self.sides.remove(&key);
    }

    pub(crate) fn separate(&self, one: usize, other: usize) -> bool {
        self.sides.values().any(|sides| {
            let side_of = |port: usize| sides.get(port).copied().unwrap_or(0);
            let (one, other) = (side_of(one), side_of(other));
            one != 0 && other != 0 && one != other
        })
    }
}
