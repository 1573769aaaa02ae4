//! The role programs and the node init.
//!
//! * [`init`]: pid 1 of every node: starts and kills the node's program in place.
//! * [`roles`]: the programs by name; [`run_role`] runs one.
//! * [`file_server`], [`check_server`], [`downloader`]: the multi-server download; [`multiserver`]: its servers under one
//!   console.
//! * [`p2mp_sender`], [`p2mp_receiver`]: point-to-multipoint transfer; [`udp`]: UDP in batches.
//! * [`tracker`], [`peer`], [`p2p_downloader`]: peer-to-peer transfer; [`endpoint`]: a host and a port.
//! * [`metalink`]: the hashes that a file server publishes.
//! * [`http`]: URLs, listening, connecting.
//! * [`events`]: what a program tells the testbed.
//! * [`exit`]: the exit status of the role programs.

pub mod check_server;
mod clock;
pub mod downloader;
pub mod endpoint;
mod entropy;
pub mod events;
pub mod exit;
pub mod file_server;
pub mod http;
pub mod init;
pub mod metalink;
pub mod multiserver;
pub mod p2mp_receiver;
pub mod p2mp_sender;
pub mod p2p_downloader;
mod page_buffer;
pub mod peer;
pub mod roles;
pub mod router;
mod signals;
mod throttle;
pub mod tracker;
pub mod udp;

pub use roles::{ROLES, run_role};
