//! What people and programs read of a run, made from its events alone; nothing here runs anything.
//!
//! * [`live`]: the view while it runs, on a terminal, as plain lines, or as the records themselves.
//! * [`mod@table`]: the final tables and the verdict.
//! * [`mod@markdown`]: the same for a CI summary.
//! * [`result`]: the same for programs.
//! * [`mod@junit`]: the expectations as test cases.
//! * [`replay`](mod@replay): what the model decides again about the packets of a run.
//! * [`sweep`]: many runs of one topology: table, JSON, CSV and drawings.
//! * [`files`]: all of them into a run directory.
//! * [`stamp`]: when a run began, for people and for file names.
//! * `chart`, `section`, `columns`, `figure`, `paint`, `escape`: what a report is made of, from rows down to characters.
//!
//! Names, program output and causes come out of a log, which is hostile: whatever leaves this crate for a terminal,
//! for Markdown or for XML has its control characters escaped.
//!
//! ```
//! let state = event::RunState::from_log(r#"{"at_ns":0,"event":"run-ended","verdict":"pass","causes":[],"took":"6210ms"}"#);
//! assert_eq!(report::verdict_line(&state), "PASS a run without a name in 6.21 s");
//! ```
#![forbid(unsafe_code)]

pub mod files;
pub mod junit;
pub mod live;
pub mod markdown;
pub mod replay;
pub mod result;
pub mod stamp;
pub mod sweep;
pub mod table;

mod chart;
mod columns;
mod escape;
mod figure;
mod paint;
mod section;

pub use files::{WriteError, write_all};
pub use junit::{junit, junit_of_all};
pub use live::{LiveView, Output, panel, say};
pub use markdown::markdown;
pub use result::result_json;
pub use table::{table, verdict_line};
