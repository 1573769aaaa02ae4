//! The role programs as processes, on loopback: what they promise to any HTTP program and to each other.
#![allow(clippy::unwrap_used, reason = "what cannot go on has failed; clippy does not see that helpers are tests, too")]

mod check;
mod disk;
mod download;
mod hostile;
mod https;
mod memory;
mod multiserver;
mod p2mp_hostile;
mod p2p;
mod ports;
mod process;
mod programs;
mod reply;
mod resume;
mod running;
mod serve;
mod target;
mod wire;
