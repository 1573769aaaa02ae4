//! What a link does to packets, as a topology file says it.

use machine::{Rate, Ratio, Size, Span};
use serde::{Deserialize, Serialize};

use crate::written::WrittenHalf;
use crate::{DropList, Trace};

/// One direction of a link. The default impairs nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(into = "WrittenHalf")]
pub struct HalfLink {
    /// Ethernet bytes without FCS, per MTU segment; absent is unlimited.
    pub rate: Option<Rate>,
    /// One way.
    pub delay: Span,
    /// Uniform in ± this; keeps the order unless `reorder` is more than nothing.
    pub jitter: Span,
    /// Share of the packets (of at most the MTU) lost, each independently.
    pub loss: Ratio,
    /// Loss in bursts, by the Gilbert–Elliott model.
    pub burst: Option<Burst>,
    /// Packets that are lost for certain: their ordinals, counted from 1, as `7` or `7-9`.
    pub drop: DropList,
    /// Share of the packets that overtake others: they leave out the delay (not the rate).
    pub reorder: Ratio,
    /// Share of the packets sent twice, one right behind the other; the second takes its share of the rate and has a
    /// jitter of its own.
    pub duplicate: Ratio,
    /// Share of the packets with one bit flipped.
    pub corrupt: Ratio,
    /// The rate's queue; absent is sized from rate × delay.
    pub queue: Option<Queue>,
    /// In the place of a rate: when it could deliver.
    pub trace: Option<Trace>,
}

/// Both directions of a node's link.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Profile {
    /// Leaving the node.
    pub up: HalfLink,
    /// Reaching the node.
    pub down: HalfLink,
}

/// The Gilbert–Elliott model: two states, and a loss share in each (E. O. Elliott, "Estimates of error rates for codes on
/// burst-noise channels", Bell System Technical Journal 42, 1963). It begins in the good state. A packet is lost by the
/// share of the state that it finds; then the state may change, as in the kernel's `loss_gilb_ell` (sch_netem.c).
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

    /// Whether anything of what it does is left to chance, and so to a seed.
    pub fn is_random(&self) -> bool {
        let shares = [self.loss, self.reorder, self.duplicate, self.corrupt];
        shares.iter().any(|share| *share != Ratio::ZERO) || self.burst.is_some() || !self.jitter.is_zero()
    }

    /// Whether a packet may leave before one that came first.
    pub fn may_reorder(&self) -> bool {
        self.reorder != Ratio::ZERO
    }

    /// The least time that a packet can take.
    pub fn shortest_way(&self) -> Span {
        if self.may_reorder() { Span::ZERO } else { self.delay.saturating_sub(self.jitter) }
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

fn always() -> Ratio {
    Ratio::ONE
}
