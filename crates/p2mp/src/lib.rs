//! Point-to-multipoint file transfer over UDP, as machines without I/O: time, datagrams and seed come in, datagrams and
//! decisions go out.
//!
//! * [`classic`]: the published stop-and-wait: its two machines, its two wire formats, what to expect of it.
//! * [`loss`]: the [`LossService`] that stands before everything else in a receiver.
//! * [`checksum`]: the 16-bit one's complement sums that classic segments carry.
//! * [`coding`]: the erasure code of the fast mode, over bytes.
//! * [`fast`]: numbered datagrams, parity repair and rate control.
//!
//! ```
//! assert_eq!(p2mp::checksum::rfc768(b"hello"), 0xbc2d);
//! ```
#![forbid(unsafe_code)]

pub mod checksum;
pub mod classic;
pub mod coding;
pub mod fast;
pub mod loss;

pub use loss::{LossService, LossTally};
