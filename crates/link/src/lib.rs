//! The model of an impaired link, and of the network made of such links.
//!
//! * [`profile`]: what a link does to packets, as a topology file says it.
#![forbid(unsafe_code)]

pub mod profile;

pub use profile::{Burst, HalfLink, Profile, Queue};
