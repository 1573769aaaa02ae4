//! The ground that every pure crate stands on: time, units, seeds, and what a state machine is.
//!
//! * [`time`]: [`Time`] and [`Span`], in nanoseconds.
//! * [`units`]: [`Rate`], [`Size`], [`Ratio`]; what they print they parse.
//! * [`seed`]: one seed for a run, sub-streams derived from names.
//! * [`timers`]: deadlines by key, earliest first.
//! * [`contract`]: the shape of a machine: input in, outputs out, next deadline *and why*.
//!
//! ```
//! use machine::{Rate, Seed, Size, Span};
//!
//! let rate: Rate = "50Mbit".parse()?;
//! assert_eq!(rate.time_for(Size::from_bytes(6_250_000)), Span::from_secs(1));
//! // A stream depends on its name alone: adding a node does not shift the others.
//! assert_ne!(Seed::new(7).derive("server-1"), Seed::new(7).derive("server-2"));
//! # Ok::<(), machine::UnitError>(())
//! ```
#![forbid(unsafe_code)]

pub mod contract;
pub mod seed;
pub mod time;
pub mod timers;
pub mod units;

pub use contract::Machine;
pub use seed::{Seed, Stream};
pub use time::{Span, Time};
pub use timers::Timers;
pub use units::{Rate, Ratio, Size, UnitError};
