//! What can become of a packet.

use machine::Time;
use serde::{Deserialize, Serialize};

/// What a lane decides about a packet at its arrival.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It leaves the lane at this instant.
    Deliver {
        /// Never before its arrival, never before its predecessor.
        at: Time,
    },
    /// It is gone.
    Drop(Cause),
}

/// Why a packet is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Cause {
    /// The profile's `loss`.
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

impl WireSize {
    /// One packet of `bytes` Ethernet bytes without FCS.
    pub const fn packet(bytes: u32) -> Self {
        WireSize { bytes, packets: 1 }
    }
}
