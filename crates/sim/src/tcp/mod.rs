//! A bulk transfer over TCP, as a competitor on a line: its congestion control and loss recovery, segment by segment.
//!
//! * [`congestion`]: Reno and CUBIC windows.
//! * [`sender`]: what is in flight, what is lost, and when to send.
//! * [`receiver`]: what has arrived, and when to acknowledge.
//!
//! Segments are numbered, not bytes; connections stand already, and receive windows have no end.

pub mod congestion;
pub mod receiver;
pub mod sender;

pub use congestion::{Congestion, Kind};
pub use receiver::{Ack, Receiver};
pub use sender::Sender;

/// Bytes of payload in a segment with timestamps, on Ethernet.
pub const PAYLOAD: u32 = 1448;
/// Ethernet bytes of a full segment, without FCS.
pub const SEGMENT: u32 = 1514;
/// Ethernet bytes of an acknowledgement with timestamps.
pub const ACK: u32 = 66;
