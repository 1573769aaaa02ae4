//! What became of packets from a sender's link to a receiver's program; it always adds up.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::{Direction, LinkCount, RunState};

/// What a program did with the datagrams that reached it: it kept those that it did not throw away.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Discards {
    /// Datagrams that reached it, all incarnations. Of an incarnation that was killed: as it told last.
    pub arrived: u64,
    /// Those of them that it threw away on purpose: its `p`.
    pub discarded: u64,
}

impl Discards {
    /// Datagrams that it worked on.
    pub fn kept(&self) -> u64 {
        self.arrived.saturating_sub(self.discarded)
    }
}

/// A half link with what followed behind it: the whole way of its packets, each counted once.
///
/// What came to the link is delivered, lost or still in it ([`LinkCount::adds_up`]). Of what a `down` half delivered, the
/// node's program got its datagrams; the rest was for the node's kernel: what announces groups (RFC 3376, RFC 3810), other
/// programs, fragments but one of each datagram. Of the datagrams, the program threw some away and kept the others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkAccount<'a> {
    /// The link's part.
    pub count: &'a LinkCount,
    /// The program's, for the `down` half of a node whose program throws away on purpose.
    pub program: Option<Discards>,
}

impl LinkAccount<'_> {
    /// Whether nothing is unaccounted for.
    pub fn adds_up(&self) -> bool {
        let program =
            |discards: Discards| discards.discarded <= discards.arrived && discards.arrived <= self.count.delivered;
        self.count.adds_up() && self.program.is_none_or(program)
    }
}

impl RunState {
    /// Every half link of the log with what its node's program did. A node on several networks does not tell by which a
    /// datagram came: what it threw away is in [`unplaced_discards`](RunState::unplaced_discards).
    pub fn accounts(&self) -> impl Iterator<Item = LinkAccount<'_>> {
        let ways = self.ways();
        let discards: BTreeMap<&str, Discards> = self.discards().collect();
        self.links.iter().map(move |count| {
            let name = count.node.as_str();
            let is_last = count.direction == Direction::Down && ways.get(name) == Some(&1);
            LinkAccount { count, program: discards.get(name).copied().filter(|_| is_last) }
        })
    }

    /// What nodes threw away that no one half link leads to, with their names: nodes on several networks, or on one whose
    /// packets nobody counts.
    pub fn unplaced_discards(&self) -> impl Iterator<Item = (&str, Discards)> {
        let ways = self.ways();
        self.discards().filter(move |(node, _)| ways.get(node) != Some(&1))
    }

    fn discards(&self) -> impl Iterator<Item = (&str, Discards)> {
        self.nodes.iter().filter_map(|node| Some((node.name.as_str(), node.discards?)))
    }

    /// How many half links that were counted lead to each node.
    fn ways(&self) -> BTreeMap<&str, usize> {
        let mut ways = BTreeMap::new();
        for count in self.links.iter().filter(|count| count.direction == Direction::Down) {
            *ways.entry(count.node.as_str()).or_default() += 1;
        }
        ways
    }
}
