//! The machine.

mod status;

pub use status::{Config, Progress, Remains, SourceStatus};
