//! The published stop-and-wait: a segment goes to every receiver, and the next one when all have acknowledged it.
//!
//! * [`sender`]: [`Sender`], the machine that paces and repeats; [`rto`]: how long it waits for an acknowledgement; [`rounds`]:
//!   what its time goes to.
//! * [`receiver`]: [`Receiver`], the machine that acknowledges and puts in order what one sender sends.
//! * [`dialect`]: what the two say on the wire; [`published`] and [`text`] are its two forms.
//! * [`prediction`]: how long a transfer takes in theory.
//!
//! A file is `⌈length / MSS⌉` data segments, whose sequence numbers are byte offsets, and the end: one segment without
//! data at the sequence number that is the length. So a file whose length is a multiple of the MSS ends no differently,
//! and an empty file is the end alone.

pub mod dialect;
pub mod prediction;
pub mod published;
pub mod receiver;
pub mod rounds;
pub mod rto;
pub mod sender;
pub mod text;

pub use dialect::{Acknowledgement, Dialect, Segment};
pub use prediction::StopAndWait;
pub use receiver::Receiver;
pub use rounds::Rounds;
pub use sender::{Sender, SenderConfig, Summary, Timeout};

/// Segments that carry data: those of a file of `length` bytes, `mss` bytes each (at least 1).
pub fn data_segments(length: u64, mss: u32) -> u64 {
    length.div_ceil(u64::from(mss))
}
