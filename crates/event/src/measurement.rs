//! What was measured of links before nodes started, beside what was asked for.

use machine::{Rate, Span};
use serde::{Deserialize, Serialize};

use crate::Direction;

/// A half link, or the whole way of a pair: what was asked for and what was measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LinkMeasurement {
    /// The node whose link it is; of a pair `sender -> receiver`.
    pub node: String,
    /// The network.
    pub network: String,
    /// Which half. Of a pair everything from the sender to the receiver, their own links included.
    pub direction: Direction,
    /// Whether it is what was asked for.
    pub outcome: MeasuredOutcome,
    /// One way, as asked for.
    pub delay: Span,
    /// As measured, without what the rate takes; absent where nothing arrived or could.
    #[serde(default)]
    pub delay_measured: Option<Span>,
    /// How far apart the two may be.
    pub delay_tolerance: Span,
    /// As asked for; absent is unlimited, or a trace.
    #[serde(default)]
    pub rate: Option<Rate>,
    /// As measured; absent where it was not.
    #[serde(default)]
    pub rate_measured: Option<Rate>,
    /// How far apart the two may be, as a share of what was asked for; absent where it was not measured.
    #[serde(default)]
    pub rate_tolerance: Option<f64>,
    /// Share lost in the long run, as asked for.
    pub loss: f64,
    /// Share lost of the probes; absent where losses were not counted, as they are with `--calibrate full` alone.
    #[serde(default)]
    pub loss_measured: Option<f64>,
    /// The true share is between these.
    #[serde(default)]
    pub loss_interval: Option<(f64, f64)>,
    /// Probes of the train that decided: sent, …
    pub sent: u64,
    /// … and arrived.
    pub arrived: u64,
    /// Trains that were sent.
    pub attempts: u64,
    /// What was not measured, and why; one line each.
    #[serde(default)]
    pub unmeasured: Vec<String>,
    /// How it differs from what was asked for; one line each.
    #[serde(default)]
    pub deviations: Vec<String>,
}

/// What became of measuring a half link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MeasuredOutcome {
    /// What was measured is what was asked for.
    Within,
    /// It is not, again and again: the run is invalid.
    Outside,
    /// It seems not to be, but this machine was too busy each time: the run is invalid.
    Starved,
    /// Nothing can be measured of it.
    Unmeasured,
}

/// How links were measured.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CalibrationSummary {
    /// `quick` or `full`.
    pub depth: String,
    /// How long it took, in which no node had started.
    pub took: Span,
    /// Half links and pairs that were measured.
    pub links: u64,
    /// Batches of probes.
    pub batches: u64,
    /// Full frames a second that this machine was found to carry.
    pub capacity: u64,
    /// Why it failed, if it did: the run is invalid.
    #[serde(default)]
    pub failed: Option<String>,
    /// What disturbed it last, if anything did.
    #[serde(default)]
    pub disturbance: Option<String>,
}
