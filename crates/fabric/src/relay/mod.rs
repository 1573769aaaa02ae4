//! The user-space switch: one thread drives the link model on a packet socket over the hub's veth ends.
//!
//! * [`config`]: what it carries; [`handle`]: how to start it, change it, ask it and stop it; [`change`]: what can change.
//! * `worker`: the thread: take in what arrived, send what is due, sleep until the next deadline.
//! * `corrupt`: flipping a bit, and completing checksums before.
//! * `switch`, `domain`: where a frame goes; they hold the [`link::Network`]s and do no I/O.
//! * `ethernet`, `neighbour`, `segment`, `join`: hostile bytes: headers, ARP and neighbour discovery, trains of segmentation
//!   offload cut into packets and packets joined into trains.
//! * `frame`: buffers that are used again and again, within a bound, and trains that stay in the ring for a while.
//! * `receiver`, `ring`, `filter`, `socket`, `transmit`: packet(7): what arrives, in shared memory, chosen before it is
//!   copied; opening; sending.
//! * `capture`, `recorder`, `pcapng`: what passes is copied into batches, which a thread of its own writes to files.
//! * [`lateness`]: how well the thread kept the model's times.
//!
//! Invariant: whatever the relay loses by itself, and not because the model says so, is counted in
//! [`RelaySnapshot::own_losses`]; a run in which that is not zero proves nothing.

pub mod change;
pub mod config;
pub mod handle;
pub mod lateness;
pub mod snapshot;

mod capture;
mod corrupt;
mod domain;
mod ethernet;
mod filter;
mod frame;
mod join;
pub(crate) mod neighbour;
mod pcapng;
mod receiver;
mod recorder;
mod ring;
mod segment;
mod socket;
mod switch;
mod transmit;
mod worker;

pub use capture::{CaptureEnding, CaptureSummary};
pub use change::{Applied, Change};
pub use config::{NetworkConfig, PairConfig, PortConfig, ProbePort, RelayConfig, RelayPort};
pub use handle::{Relay, RelayError, RelayHandle, RelayStopped, StartedCapture};
pub use lateness::Lateness;
pub use recorder::CaptureError;
pub(crate) use ring::{RxRing, Slots};
pub use snapshot::{PortRefusals, RelaySnapshot};
pub(crate) use socket::PacketSocket;
