//! What happened in a run, as past-tense facts; the log of them is the only bridge between a run and its reports.
//!
//! * [`record`]: one line of `events.jsonl`.
//! * [`node_report`]: what a node's program says on `TESTBED_EVENTS_FD`.
//! * [`state`]: the fold: a log in, the state of the run out.
//! * [`account`]: what became of packets from the sender's link to the receiver's program; it always adds up.
//! * [`measurement`]: what was measured of links before nodes started, beside what was asked for.
//! * [`recording`]: what a recording of packets is of, and what happened to its links.
//! * [`verdict`]: PASS, FAIL, INVALID or interrupted, and the exit status of each.
//! * [`run_directory`]: the names of a run directory's files.
//!
//! ```
//! use event::{Event, Record, RunState};
//!
//! let line = r#"{"at_ns":1500000,"event":"node-ready","node":"client","incarnation":1}"#;
//! let mut state = RunState::default();
//! state.apply(&Record::from_line(line)?);
//! # Ok::<(), serde_json::Error>(())
//! ```
#![forbid(unsafe_code)]

pub mod account;
pub mod measurement;
pub mod node_report;
pub mod record;
pub mod recording;
pub mod run_directory;
pub mod state;
pub mod verdict;

pub use account::{Discards, LinkAccount};
pub use measurement::{CalibrationSummary, LinkMeasurement, MeasuredOutcome};
pub use node_report::{Delivery, NodeReport, Rounds, SourceState, Transferred};
pub use record::{Direction, EndCause, Event, ExitStatus, Lag, LinkCount, NetworkInfo, NodeInfo, Record};
pub use recording::{
    Changed, LinkChange, RecordedLinks, RecordedNetwork, RecordedPair, RecordedPort, RecordedTrace, Recording,
};
pub use state::{ExpectationState, FaultState, NodePhase, NodeState, Progress, RunState, SourceView};
pub use verdict::Verdict;
