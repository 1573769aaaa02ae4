//! The conductor's head: node lifecycle, triggers, expectations and verdict, as a state machine.
//!
//! * [`scenario`]: [`Scenario`]: start order, and what nodes tell.
//! * [`vocabulary`]: what goes in ([`Input`]) and what it wants done ([`Output`]).
//! * `faults`: firing the entries of `events:`, and undoing them.
//! * `ending`: how a run ends, and the verdict.
//! * `lifecycle`: one node, from its first start to its end for good.
//! * `schedule`: which entries of `events:` have fired, and when the others may.
//! * [`expectation`]: what was expected against what was found.
//!
//! It is given a [`Plan`](topology::Plan) and time, and it is the same on namespaces, in containers and in virtual
//! time.
#![forbid(unsafe_code)]

mod calibration;
mod ending;
pub mod expectation;
mod faults;
mod lifecycle;
pub mod scenario;
mod schedule;
pub mod vocabulary;

pub use expectation::FileFinding;
pub use scenario::Scenario;
pub use vocabulary::{About, Calibration, Input, Measurements, Output, Why, link_count, pair_counts};
