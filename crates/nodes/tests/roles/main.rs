//! The role programs as processes, on loopback: what they promise to any HTTP program and to each other.
#![allow(clippy::unwrap_used, reason = "what cannot go on has failed; clippy does not see that helpers are tests, too")]

mod check;
mod download;
mod hostile;
mod process;
mod resume;
mod serve;
mod wire;
