//! What a relay tells about itself.

use link::{NetworkCounters, Tally};
use machine::Time;

use super::Lateness;

/// What became of everything up to an instant.
#[derive(Clone, Debug, Default)]
pub struct RelaySnapshot {
    /// When it was taken.
    pub at: Time,
    /// In the order of the configuration; the counters of the model.
    pub networks: Vec<NetworkCounters>,
    /// What did not enter the model, by network and port in the order of the configuration.
    pub refusals: Vec<Vec<PortRefusals>>,
    /// How well the model's times were kept.
    pub lateness: Lateness,
    /// Frames that the kernel dropped because the relay did not read fast enough (`PACKET_STATISTICS`).
    pub kernel_drops: u64,
    /// Frames longer than a slot of the receive ring.
    pub truncated: u64,
    /// Frames that the kernel did not take, for instance because the interface was down.
    pub unsendable: u64,
    /// Frames that the kernel called invalid: the relay made them wrong, however much time it had.
    pub invalid: u64,
}

/// Frames of one node that do not enter the model.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PortRefusals {
    /// ARP and neighbour discovery that the relay dealt with itself.
    pub answered: u64,
    /// Unicast to an Ethernet address that nobody on the network has.
    pub unknown_destination: u64,
    /// Not from the node's Ethernet address.
    pub foreign_source: u64,
    /// Shorter than an Ethernet header, or with a VLAN tag, which the networks do not have.
    pub malformed: u64,
}

impl RelaySnapshot {
    /// Packets that the relay lost by itself and not because the model says so. Not zero: the run is invalid.
    pub fn own_losses(&self) -> u64 {
        let overflow: u64 =
            self.networks.iter().flat_map(NetworkCounters::halves).map(|half| half.dropped.overflow.packets).sum();
        self.kernel_drops + self.truncated + self.unsendable + self.invalid + overflow
    }

    /// What all halves of all networks delivered to nodes.
    pub fn delivered(&self) -> Tally {
        let ports = self.networks.iter().flat_map(|network| &network.ports);
        ports.fold(Tally::default(), |sum, port| sum + port.down.delivered)
    }
}
