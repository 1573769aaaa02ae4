//! The classic point-to-multipoint programs as processes, on loopback: byte for byte on the wire, with programs that
//! nobody here wrote the protocol of twice, and in every case that the assignment leaves open.
#![allow(clippy::unwrap_used, reason = "what cannot go on has failed; clippy does not see that helpers are tests, too")]

mod edges;
mod peers;
mod ports;
mod programs;
mod transcripts;
mod trouble;
