//! What the benchmarks of transfer programs have in common.
//!
//! * `usage`: starts a program inside its node and tells what it took.
//! * `random`: files to transfer.
//! * `raw`: each run for programs, beside the table for people.
//! * `figures`: medians, and how a table shows them.
//! * `yaml`: pieces of topologies.
#![allow(dead_code, reason = "each benchmark uses a part of this")]

pub(crate) mod figures;
pub(crate) mod random;
pub(crate) mod raw;
pub(crate) mod usage;
pub(crate) mod yaml;
