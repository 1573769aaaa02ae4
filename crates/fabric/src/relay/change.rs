//! Changes of what a running relay carries, and when they took effect.

use link::{PartitionKey, Profile};
use machine::Time;

use super::RelayPort;

/// A change of what the relay carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// A port's link is impaired so.
    SetProfile(RelayPort, Box<Profile>),
    /// Ports in different lists cannot reach each other.
    Partition(PartitionKey, Vec<Vec<RelayPort>>),
    /// That is over.
    Heal(PartitionKey),
    /// Nothing leaves or reaches the port.
    Cut(RelayPort),
    /// That is over.
    Restore(RelayPort),
    /// All traces are at their beginning.
    BeginTraces,
}

/// A change that has taken effect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Applied {
    /// When, by the relay's clock.
    pub at: Time,
    /// Of each network how many packets had entered it: those went before the change, although they may have entered in the
    /// same nanosecond.
    pub entered: Vec<u64>,
    /// What.
    pub change: Change,
}
