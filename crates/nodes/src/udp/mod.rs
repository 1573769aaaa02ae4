//! UDP for file transfer: few system calls for many datagrams, multicast, and waiting to the nanosecond.
//!
//! * [`Socket`]: one bound socket of IPv4, IPv6 or both, its buffers and its groups.
//! * [`Batch`]: what one [`Socket::receive`] brings; trains that the kernel joined (`UDP_GRO`) are taken apart.
//! * [`Train`]: datagrams of one length to one destination, which the kernel cuts up (`UDP_SEGMENT`) where it can;
//!   [`Socket::send_trains`] sends many with one call.
//! * [`Socket::send_from`]: an answer from the address that was asked.
//! * [`Interface`]: the way that multicast takes.
//! * [`Socket::tell_arrivals`]: when a datagram reached this machine, which is before it is taken.
//! * [`wait`]: until something arrives, or an instant.
//!
//! Nothing here blocks but [`wait`].

mod address;
mod answer;
mod arrival;
mod interface;
mod receive;
mod send;
mod socket;
mod wait;

pub use interface::{Interface, InterfaceError, path_mtu};
pub use receive::{Batch, Datagram};
pub use send::{Refusal, Sent, Train};
pub use socket::{Buffers, Socket};
pub use wait::{Interest, Ready, precise_timers, wait};

/// The most datagrams in a train: the kernel's bound since it knows trains (`UDP_MAX_SEGMENTS`; 128 in newer ones).
pub const MOST_IN_TRAIN: usize = 64;

/// The most bytes in a train, as its headers go into one IP packet of 65 535 bytes first.
pub const LONGEST_TRAIN: usize = 65_535 - 60 - 8;

#[cfg(test)]
mod tests;
