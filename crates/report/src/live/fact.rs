//! Records as facts that a person follows.

use std::collections::{BTreeMap, BTreeSet};

use event::{
    CalibrationSummary, EndCause, Event, MeasuredOutcome, NodeReport, NodeState, Record, RunState, SourceState,
};

use crate::paint::Tone;
use crate::section::{source_state, tally};
use crate::{escape, figure};

/// Sources and servers whose last state is remembered; beyond it, changes are no longer told. A program may name
/// as many as it likes.
const MOST_REMEMBERED: usize = 4096;

/// One line.
pub(super) struct Fact {
    /// Seconds since t = 0, `None` before it.
    at: Option<f64>,
    kind: &'static str,
    tone: Tone,
    text: String,
}

impl Fact {
    pub(super) fn to_line(&self, colour: bool) -> String {
        let at = self.at.map_or_else(|| "setup ".to_owned(), |at| format!("{at:.3}s"));
        let kind = self.tone.paint(&format!("{:<8}", self.kind), colour);
        format!("{} {kind} {}", Tone::Faint.paint(&format!("{at:>9}"), colour), self.text)
    }
}

/// What measuring links has found; nothing where there were none.
fn calibration_words(summary: &CalibrationSummary, state: &RunState) -> Option<(&'static str, Tone, String)> {
    if let Some(why) = &summary.failed {
        return Some(("links", Tone::Bad, format!("could not be measured: {}", escape::line(why))));
    }
    if summary.links == 0 {
        return None;
    }
    let count = |outcome| state.measurements.iter().filter(|link| link.outcome == outcome).count();
    let (outside, starved) = (count(MeasuredOutcome::Outside), count(MeasuredOutcome::Starved));
    let (tone, said) = match (outside, starved) {
        (0, 0) => (Tone::Plain, "as asked for".to_owned()),
        (0, _) => (Tone::Notice, format!("this machine was too busy for {starved}")),
        _ => (Tone::Bad, format!("{outside} not as asked for")),
    };
    let halves = figure::count(state.measurements.len(), "half link");
    Some(("measured", tone, format!("{halves} in {}, {said}", figure::span(summary.took))))
}

/// Tells of each record what is new in it.
#[derive(Default)]
pub(super) struct Narrator {
    /// Sources by (downloader, source) that were last told to be in trouble.
    troubled: BTreeMap<(String, String), SourceState>,
    /// Servers by (observer, server) that were last told to be dead.
    dead: BTreeSet<(String, String)>,
}

impl Narrator {
    /// The fact in `record`, if a person wants to know it; `state` has taken it already.
    pub(super) fn tell(&mut self, record: &Record, state: &RunState) -> Option<Fact> {
        let (kind, tone, text) = self.words(&record.event, state)?;
        let at = state.started_at.map(|_| state.since_start(record.at()));
        Some(Fact { at, kind, tone, text })
    }

    fn words(&mut self, event: &Event, state: &RunState) -> Option<(&'static str, Tone, String)> {
        let line = escape::line;
        Some(match event {
            Event::RunBegan { name, seed, engine, timeout, nodes, .. } => {
                let nodes = figure::count(nodes.len(), "node");
                let text = format!("{} with seed {seed}, {nodes}, {}, at most {timeout}", line(name), line(engine));
                ("run", Tone::Strong, text)
            }
            Event::FabricRaised { took } => ("built", Tone::Plain, format!("links in {}", figure::span(*took))),
            Event::LinkMeasured(_) => return None,
            Event::LinksCalibrated(summary) => return calibration_words(summary, state),
            Event::AllStarted => ("started", Tone::Good, figure::count(state.nodes.len(), "node")),
            Event::NodeStarted { node, incarnation } if *incarnation > 1 => {
                ("revived", Tone::Good, format!("{}, incarnation {incarnation}", line(node)))
            }
            Event::NodeStartFailed { node, why, .. } => {
                ("error", Tone::Bad, format!("{} could not be started: {}", line(node), line(why)))
            }
            Event::NodeReported { node, report, .. } => return self.report_words(node, report),
            Event::OutputMatched { node, pattern, line: text } => {
                ("output", Tone::Plain, format!("{} printed /{}/: {}", line(node), line(pattern), line(text)))
            }
            Event::ReportsLeftOut { node, count, .. } => {
                ("reports", Tone::Notice, format!("{}: {count} were not logged, it makes too many", line(node)))
            }
            Event::NodePaused { node } => ("paused", Tone::Notice, line(node)),
            Event::NodeResumed { node } => ("resumed", Tone::Good, line(node)),
            Event::NodeExited { cause: EndCause::RunEnd, .. } => return None,
            Event::NodeExited { node, status, cause: EndCause::Fault, .. } => {
                ("killed", Tone::Notice, format!("{}: {status}", line(node)))
            }
            Event::NodeExited { node, status, .. } => {
                let tone = if status.shell() == 0 { Tone::Good } else { Tone::Bad };
                ("exited", tone, format!("{}: {status}", line(node)))
            }
            Event::FaultFired { label, .. } => ("fault", Tone::Notice, line(label) + &trigger(label, state)),
            Event::FaultUndone { label, .. } => ("undone", Tone::Notice, line(label)),
            Event::FaultFailed { label, why, .. } => {
                ("error", Tone::Bad, format!("{} could not be carried out: {}", line(label), line(why)))
            }
            Event::ExpectationChecked { label, held, found, .. } => {
                let (word, tone) = if *held { ("ok", Tone::Good) } else { ("FAILED", Tone::Bad) };
                (word, tone, format!("{} (found {})", line(label), line(found)))
            }
            Event::InterruptReceived { signal } => ("stop", Tone::Notice, format!("{} received", line(signal))),
            // The verdict is the last line of the tables that follow the run.
            Event::RunEnded { .. } => return None,
            Event::RecordingBegan(_)
            | Event::LinksChanged(_)
            | Event::NodeStarted { .. }
            | Event::NodeReady { .. }
            | Event::LinkCounted(_)
            | Event::PacketsRecorded(_)
            | Event::LagMeasured { .. } => {
                return None;
            }
        })
    }

    fn report_words(&mut self, node: &str, report: &NodeReport) -> Option<(&'static str, Tone, String)> {
        let line = escape::line;
        match report {
            NodeReport::Source { source, state, why, .. } => {
                if !self.source_changed(node, source, *state) {
                    return None;
                }
                let (word, tone) = source_state(*state);
                let why = why.as_ref().map(|why| format!(" ({})", line(why))).unwrap_or_default();
                Some(("source", tone, format!("{} sees {} {word}{why}", line(node), line(source))))
            }
            NodeReport::Watched { server, alive } => {
                let key = (node.to_owned(), server.clone());
                let changed = if *alive { self.dead.remove(&key) } else { self.has_room() && self.dead.insert(key) };
                let (word, tone) = if *alive { ("alive", Tone::Good) } else { ("dead", Tone::Bad) };
                changed.then(|| ("watch", tone, format!("{} sees {} {word}", line(node), line(server))))
            }
            NodeReport::Finished { bytes, sha256 } => {
                let hash: String = sha256.as_deref().unwrap_or_default().chars().take(12).collect();
                let hash = if hash.is_empty() { hash } else { format!(", SHA-256 {}…", line(&hash)) };
                Some(("finished", Tone::Good, format!("{}: {}{hash}", line(node), figure::size(*bytes))))
            }
            NodeReport::Transferred(transfer) => {
                let whole = transfer.receivers.iter().filter(|receiver| receiver.complete).count();
                let repeats = transfer.receivers.iter().fold(0_u64, |sum, one| sum.saturating_add(one.retransmissions));
                let all = transfer.receivers.len();
                let tone = if whole == all { Tone::Good } else { Tone::Bad };
                let size = figure::size(transfer.bytes);
                let words = format!("{}: {size} to {whole} of {all} receivers, {repeats} repeats", line(node));
                Some(("sent", tone, words))
            }
            NodeReport::Ready
            | NodeReport::Progress { .. }
            | NodeReport::Served { .. }
            | NodeReport::Discarded { .. }
            | NodeReport::Other(_) => None,
        }
    }

    /// Whether a source came into trouble, or out of it: its way there through `connecting` is of no interest.
    fn source_changed(&mut self, node: &str, source: &str, state: SourceState) -> bool {
        let key = (node.to_owned(), source.to_owned());
        match state {
            SourceState::Connecting => false,
            SourceState::Alive => self.troubled.remove(&key).is_some(),
            SourceState::Stalled | SourceState::Dead | SourceState::Rejected => {
                let known = self.troubled.get(&key).copied();
                if known == Some(state) || (known.is_none() && !self.has_room()) {
                    return false;
                }
                self.troubled.insert(key, state);
                true
            }
        }
    }

    fn has_room(&self) -> bool {
        self.troubled.len() + self.dead.len() < MOST_REMEMBERED
    }
}

/// Where the progress stood that an entry such as `client >= 40%: kill server-2` waited for.
fn trigger(label: &str, state: &RunState) -> String {
    let mut words = label.split_whitespace();
    let (Some(name), Some(">=" | ">")) = (words.next(), words.next()) else { return String::new() };
    let share = state.node(name).and_then(share);
    share.map(|share| format!(" ({} at {share:.1} %)", escape::line(name))).unwrap_or_default()
}

fn share(node: &NodeState) -> Option<f64> {
    let progress = node.progress?;
    figure::percent_of(progress.bytes, progress.total)
}

/// How far a node is.
pub(super) fn node_progress(node: &NodeState, state: &RunState) -> Fact {
    let progress = node.progress.unwrap_or_default();
    let share = share(node).map(|share| format!("{share:.1} %, ")).unwrap_or_default();
    let amount = figure::amount(progress.bytes, progress.total);
    let text = format!("{}: {share}{amount}, {}", escape::line(&node.name), figure::rate(node.rate));
    Fact { at: state.started_at.map(|_| state.since_start(state.now)), kind: "progress", tone: Tone::Plain, text }
}

/// How far the nodes of a large group are, all together.
pub(super) fn group_progress(members: &[&NodeState], state: &RunState) -> Fact {
    let sum = |of: &dyn Fn(&NodeState) -> u64| members.iter().fold(0u64, |sum, node| sum.saturating_add(of(node)));
    let bytes = sum(&|node| node.progress.unwrap_or_default().bytes);
    let total = sum(&|node| node.progress.unwrap_or_default().total);
    let rate = machine::Rate::from_bits_per_sec(sum(&|node| node.rate.as_bits_per_sec()));
    let group = members.first().map(|node| escape::line(&node.group)).unwrap_or_default();
    let share = figure::percent_of(bytes, total).map_or_else(|| figure::size(bytes), |share| format!("{share:.1} %"));
    let text = format!("{group} ×{}: {share}, {} ({})", members.len(), figure::rate(rate), tally(members).0);
    Fact { at: state.started_at.map(|_| state.since_start(state.now)), kind: "progress", tone: Tone::Plain, text }
}
