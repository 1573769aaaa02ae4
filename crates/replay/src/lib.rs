//! Decides again, by the link model, what a relay decided about every packet that it recorded.
//!
//! A run that recorded its packets says in its log what the relay carried and at which instants that changed, and in its
//! captures when each packet entered a network and what became of it. Given the arrivals, the model with the same seed must
//! decide the same: when a packet arrives and where, why it is dropped, which of its bits are flipped, and whether it comes
//! twice.
//!
//! * [`log`]: what a log says of a recording.
//! * [`capture`]: a capture as the relay writes it, read packet by packet from hostile bytes.
//! * [`player`]: driving the model by what was recorded; what came of it.
//! * `account`, `course`: what the two say of a packet, and where they differ; what happens to the links of a network.
//!
//! Memory: captures are read as streams, merged by the time of their packets; what one account says and the other has not
//! come to is kept, up to a bound beyond which the two have parted for good.
#![forbid(unsafe_code)]

pub mod capture;
pub mod log;
pub mod player;

mod account;
mod course;

pub use account::{Dropped, Fate, Half};
pub use capture::{Capture, CaptureFault, Packet};
pub use log::{NotReplayable, Recorded};
pub use player::{Difference, HalfAccount, NetworkAccount, ReplayError, SentPacket, replay};
