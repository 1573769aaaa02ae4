//! What can become of a packet.

use machine::Time;
use serde::{Deserialize, Serialize};

/// What a lane decides about a packet at its arrival.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision {
    /// What becomes of the packet.
    pub packet: Fate,
    /// What becomes of the second one like it, where there is one.
    pub copy: Option<Fate>,
}

/// What can become of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It leaves the lane.
    Deliver {
        /// Never before its arrival, and never before its predecessor unless the lane reorders.
        at: Time,
        /// A bit of it is wrong from here on.
        flip: Option<Flip>,
    },
    /// It is gone.
    Drop(Cause),
}

/// A bit that a link flips.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flip(u32);

/// The bits that the links on a packet's way have flipped: at most one for each half link of a network, an `up`, a pair's
/// and a `down`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flips([Option<Flip>; 3]);

/// Why a packet is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Cause {
    /// The profile's `loss`, `burst` or `drop`.
    Loss,
    /// The rate's queue was full, or the rate is zero.
    Queue,
    /// Sender and receiver are in different lists of a partition.
    Partition,
    /// The port is cut: its machine is dead.
    Cut,
    /// The bound on what may be in flight was reached: not an impairment but a failure of the testbed, which makes a
    /// run invalid.
    Overflow,
}

/// What a packet counts for on the wire.
///
/// A packet with segmentation offload stands for several: then `packets` are its segments and `bytes` includes the
/// headers that each of them will carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WireSize {
    /// Ethernet bytes without FCS.
    pub bytes: u32,
    /// Packets of at most the MTU.
    pub packets: u32,
}

impl Decision {
    /// A packet of which there is but one.
    pub const fn single(packet: Fate) -> Self {
        Decision { packet, copy: None }
    }
}

impl Flip {
    /// The bit that a uniform draw stands for.
    pub(crate) const fn drawn(draw: u32) -> Self {
        Flip(draw)
    }

    /// Which of `bits` bits it is, each as likely as the others; none of none.
    pub fn of(self, bits: u32) -> Option<u32> {
        (bits > 0).then_some(((u64::from(self.0) * u64::from(bits)) >> 32) as u32)
    }
}

impl Flips {
    /// Whether the packet is as it was sent. (Two flips of the same bit are not told from two of different ones.)
    pub fn is_empty(&self) -> bool {
        self.0[0].is_none()
    }

    /// Each flip, in the order of the packet's way.
    pub fn iter(&self) -> impl Iterator<Item = Flip> {
        self.0.into_iter().flatten()
    }

    pub(crate) fn add(&mut self, flip: Option<Flip>) {
        if let (Some(flip), Some(free)) = (flip, self.0.iter_mut().find(|place| place.is_none())) {
            *free = Some(flip);
        }
    }
}

impl WireSize {
    /// One packet of `bytes` Ethernet bytes without FCS.
    pub const fn packet(bytes: u32) -> Self {
        WireSize { bytes, packets: 1 }
    }
}
