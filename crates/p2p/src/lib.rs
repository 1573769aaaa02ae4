//! The csp2p protocol (UMass CS453) without I/O: a tracker over UDP that names peers, and peers over TCP that serve blocks.
//!
//! * [`downloader`]: fetches a file from the peers that a tracker names.
//! * [`layout`]: a file in blocks, as the protocol counts them.
//! * [`tracker_text`], [`peer_text`]: what goes over the wire, both ways.
//! * [`announcement`]: how a peer tells our tracker of itself.
//! * [`tracker`]: who is told of whom, and how often.
//! * [`admission`]: how often a client may connect.
//! * [`serving`]: one connection of a peer: requests in, and the moments at which bytes leave.
//! * [`ports`]: the ports of a peer that pretends to be many: how slow each is, and when it comes and goes.

pub mod admission;
mod announced;
pub mod announcement;
pub mod downloader;
pub mod layout;
pub mod peer_text;
pub mod ports;
pub mod serving;
pub mod tracker;
pub mod tracker_text;

pub use downloader::Downloader;
pub use layout::Layout;
