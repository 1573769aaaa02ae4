//! What a link does to packets, as a topology file says it.

use machine::{Rate, Ratio, Size, Span};
use serde::{Deserialize, Serialize};

/// One direction of a link. The default impairs nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct HalfLink {
    /// Ethernet bytes without FCS, per MTU segment; absent is unlimited.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<Rate>,
    /// One way.
    #[serde(default, skip_serializing_if = "is_no_time")]
    pub delay: Span,
    /// Uniform in ± this; keeps the order unless `reorder` is given.
    #[serde(default, skip_serializing_if = "is_no_time")]
    pub jitter: Span,
    /// Share of the packets (of at most the MTU) lost, each independently.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub loss: Ratio,
    /// Loss in bursts, by the Gilbert–Elliott model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub burst: Option<Burst>,
    /// Packets that are lost for certain: their ordinals, counted from 1, as `7` or `7-9`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub drop: Vec<String>,
    /// Share of the packets that overtake.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub reorder: Ratio,
    /// Share of the packets delivered twice.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub duplicate: Ratio,
    /// Share of the packets with one bit flipped.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub corrupt: Ratio,
    /// The rate's queue; absent is sized from rate × delay.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue: Option<Queue>,
    /// A delivery trace in mahimahi's format.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace: Option<String>,
}

/// Both directions of a node's link.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Profile {
    /// Leaving the node.
    #[serde(default)]
    pub up: HalfLink,
    /// Reaching the node.
    #[serde(default)]
    pub down: HalfLink,
}

/// The Gilbert–Elliott model: two states, and a loss share in each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Burst {
    /// Chance per packet of going from the good to the bad state.
    pub p: Ratio,
    /// Chance per packet of going back.
    pub r: Ratio,
    /// Share lost in the good state.
    #[serde(default)]
    pub good: Ratio,
    /// Share lost in the bad state.
    #[serde(default = "always")]
    pub bad: Ratio,
}

/// How much a rate's queue holds before it drops at the tail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Queue {
    /// Ethernet bytes without FCS.
    Bytes(Size),
    /// Packets of at most the MTU.
    Packets(u32),
}

impl HalfLink {
    /// Whether it lets everything through at once.
    pub fn is_transparent(&self) -> bool {
        *self == HalfLink::default()
    }
}

impl Profile {
    /// The same impairments both ways.
    pub fn symmetric(half: HalfLink) -> Self {
        Profile { up: half.clone(), down: half }
    }

    /// Whether it lets everything through at once, both ways.
    pub fn is_transparent(&self) -> bool {
        self.up.is_transparent() && self.down.is_transparent()
    }
}

fn is_no_time(span: &Span) -> bool {
    span.is_zero()
}

fn is_zero(ratio: &Ratio) -> bool {
    *ratio == Ratio::ZERO
}

fn always() -> Ratio {
    Ratio::ONE
}
