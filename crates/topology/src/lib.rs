//! Topology files: parsed, validated, resolved into a plan.
//!
//! * [`plan`]: what is to be built and run, with nothing left to look up.
#![forbid(unsafe_code)]

pub mod plan;

pub use plan::Plan;
