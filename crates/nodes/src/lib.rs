//! The role programs and the node init.
//!
//! * [`init`]: pid 1 of every node: starts and kills the node's program in place.

pub mod init;
