//! The fold: a log in, the state of the run out. Reports know nothing else of a run.

use std::collections::BTreeMap;

use machine::{Rate, Seed, Span};

use crate::account::Discards;
use crate::{
    CalibrationSummary, EndCause, Event, ExitStatus, Lag, LinkCount, LinkMeasurement, NetworkInfo, NodeInfo,
    NodeReport, Record, Recording, SourceState, Verdict,
};

/// What is known of a run after some of its log.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RunState {
    /// The topology's name.
    pub name: String,
    /// The topology's file.
    pub file: String,
    /// The run's one seed.
    pub seed: Option<Seed>,
    /// The engine.
    pub engine: String,
    /// The testbed's version.
    pub version: String,
    /// Milliseconds since 1970 (UTC) at the beginning.
    pub unix_ms: u64,
    /// The run's wall limit.
    pub timeout: Span,
    /// The command that repeats the run.
    pub repeat: String,
    /// How long building took.
    pub raised_in: Option<Span>,
    /// What was measured of links before nodes started.
    pub measurements: Vec<LinkMeasurement>,
    /// How that was done; absent where links were not measured.
    pub calibration: Option<CalibrationSummary>,
    /// Of the newest record, since the run began.
    pub now: Span,
    /// t = 0, since the run began.
    pub started_at: Option<Span>,
    /// Every node, in the order of the file.
    pub nodes: Vec<NodeState>,
    /// Every network.
    pub networks: Vec<NetworkInfo>,
    /// Every entry of `events:`.
    pub faults: Vec<FaultState>,
    /// Every expectation.
    pub expectations: Vec<ExpectationState>,
    /// What became of the packets.
    pub links: Vec<LinkCount>,
    /// How late timers were, by whose they are.
    pub lags: BTreeMap<String, Lag>,
    /// What was recorded of the packets, if anything was.
    pub recording: Option<Recording>,
    /// The signal that interrupted the run.
    pub interrupted_by: Option<String>,
    /// The outcome, at the end.
    pub verdict: Option<Verdict>,
    /// Why it is not PASS.
    pub causes: Vec<String>,
    /// From t = 0 to the end.
    pub took: Option<Span>,
}

/// A node in the fold.
#[derive(Clone, Debug, PartialEq)]
pub struct NodeState {
    /// Its name.
    pub name: String,
    /// The entry of `nodes:` that it came from.
    pub group: String,
    /// The role's name, or the first word of its program.
    pub program: String,
    /// Its addresses.
    pub addresses: Vec<String>,
    /// What it is doing.
    pub phase: NodePhase,
    /// How many programs were started in it.
    pub incarnation: u32,
    /// Of its own task.
    pub progress: Option<Progress>,
    /// What it receives or sends now; zero when it does not run.
    pub rate: Rate,
    /// Body bytes that it has sent, all incarnations.
    pub served: u64,
    /// What its program threw away on purpose, if it is one that does.
    pub discards: Option<Discards>,
    /// Its sources, as it sees them.
    pub sources: BTreeMap<String, SourceView>,
    /// Since the run began.
    pub exited_at: Option<Span>,
    /// Counters of incarnations that have ended.
    ended: Ended,
    /// For the speed of a node that reports progress alone: the sample that the speed is measured from.
    sample: Option<(Span, u64)>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Ended {
    received: u64,
    served: u64,
    discards: Discards,
}

/// What a node is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NodePhase {
    /// Nothing was started in it yet.
    Waiting,
    /// Its program runs and is not ready yet.
    Starting,
    /// Its program does its work.
    Ready,
    /// Its processes are frozen.
    Paused,
    /// Its program ended by itself.
    Exited(ExitStatus),
    /// A fault ended its program.
    Killed(ExitStatus),
    /// The end of the run ended its program.
    Stopped,
    /// Its program could not be started.
    Unstartable,
}

impl NodePhase {
    /// In one word or two.
    pub fn label(self) -> String {
        match self {
            NodePhase::Waiting => "waiting".to_owned(),
            NodePhase::Starting => "starting".to_owned(),
            NodePhase::Ready => "running".to_owned(),
            NodePhase::Paused => "paused".to_owned(),
            NodePhase::Exited(status) => status.to_string(),
            NodePhase::Killed(_) => "killed".to_owned(),
            NodePhase::Stopped => "stopped".to_owned(),
            NodePhase::Unstartable => "not started".to_owned(),
        }
    }

    /// Whether a program runs in the node.
    pub fn is_alive(self) -> bool {
        matches!(self, NodePhase::Starting | NodePhase::Ready | NodePhase::Paused)
    }
}

/// How far a node's own task is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Bytes in hand for good.
    pub bytes: u64,
    /// Bytes of the whole.
    pub total: u64,
    /// Body bytes received, all incarnations.
    pub received: u64,
}

/// A source as a downloader sees it.
#[derive(Clone, Debug, PartialEq)]
pub struct SourceView {
    /// What it thinks of it.
    pub state: SourceState,
    /// Body bytes received from it by this incarnation.
    pub received: u64,
    /// Its speed now.
    pub rate: Rate,
    /// Why it is in this state.
    pub why: Option<String>,
}

/// An entry of `events:` in the fold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FaultState {
    /// What a person reads of it.
    pub label: String,
    /// Since the run began.
    pub fired_at: Option<Span>,
    /// Since the run began.
    pub undone_at: Option<Span>,
    /// Why it could not be carried out.
    pub failed: Option<String>,
}

/// An expectation in the fold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExpectationState {
    /// What a person reads of it.
    pub label: String,
    /// Whether it held, once decided.
    pub held: Option<bool>,
    /// What was found.
    pub found: String,
}

/// Below this a speed measured from two progress reports is noise.
const SHORTEST_SAMPLE: Span = Span::from_millis(250);

/// A program that reports more sources than this is not believed: the fold's size is bounded by the plan's.
const MOST_SOURCES: usize = 4096;

impl RunState {
    /// The state after a whole log; lines that are not records are skipped, as a log may end in half a line.
    pub fn from_log(log: &str) -> Self {
        let mut state = RunState::default();
        for record in log.lines().filter_map(|line| Record::from_line(line).ok()) {
            state.apply(&record);
        }
        state
    }

    /// The node called `name`.
    pub fn node(&self, name: &str) -> Option<&NodeState> {
        self.nodes.iter().find(|node| node.name == name)
    }

    /// `at` counted from t = 0; negative before it.
    pub fn since_start(&self, at: Span) -> f64 {
        at.as_secs_f64() - self.started_at.unwrap_or(Span::ZERO).as_secs_f64()
    }

    /// Takes the next record of the log. Facts about nodes, faults and expectations that the first record did not name
    /// are ignored.
    pub fn apply(&mut self, record: &Record) {
        let at = record.at();
        self.now = self.now.max(at);
        match &record.event {
            Event::RunBegan {
                name,
                file,
                seed,
                engine,
                version,
                unix_ms,
                timeout,
                nodes,
                networks,
                faults,
                expectations,
                repeat,
            } => {
                self.name.clone_from(name);
                self.file.clone_from(file);
                self.seed = Some(*seed);
                self.engine.clone_from(engine);
                self.version.clone_from(version);
                self.unix_ms = *unix_ms;
                self.timeout = *timeout;
                self.repeat.clone_from(repeat);
                self.nodes = nodes.iter().map(NodeState::new).collect();
                self.networks.clone_from(networks);
                self.faults =
                    faults.iter().map(|label| FaultState { label: label.clone(), ..FaultState::default() }).collect();
                self.expectations = expectations
                    .iter()
                    .map(|label| ExpectationState { label: label.clone(), ..ExpectationState::default() })
                    .collect();
            }
            Event::FabricRaised { took } => self.raised_in = Some(*took),
            Event::LinkMeasured(measurement) => self.measurements.push(measurement.clone()),
            Event::LinksCalibrated(summary) => self.calibration = Some(summary.clone()),
            Event::AllStarted => self.started_at = Some(at),
            Event::NodeStarted { node, incarnation } => self.with_node(node, |node| node.start(*incarnation)),
            Event::NodeStartFailed { node, .. } => {
                self.with_node(node, |node| node.phase = NodePhase::Unstartable);
            }
            Event::NodeReady { node, .. } => self.with_node(node, |node| {
                if node.phase == NodePhase::Starting {
                    node.phase = NodePhase::Ready;
                }
            }),
            Event::NodeReported { node, report, .. } => self.with_node(node, |node| node.report(at, report)),
            Event::NodePaused { node } => self.with_node(node, |node| {
                node.phase = NodePhase::Paused;
                node.rate = Rate::default();
            }),
            Event::NodeResumed { node } => self.with_node(node, |node| node.phase = NodePhase::Ready),
            Event::NodeExited { node, status, cause, .. } => {
                self.with_node(node, |node| node.exit(at, *status, *cause));
            }
            Event::FaultFired { entry, .. } => self.with_fault(*entry, |fault| fault.fired_at = Some(at)),
            Event::FaultUndone { entry, .. } => self.with_fault(*entry, |fault| fault.undone_at = Some(at)),
            Event::FaultFailed { entry, why, .. } => {
                self.with_fault(*entry, |fault| fault.failed = Some(why.clone()));
            }
            Event::ExpectationChecked { expectation, held, found, .. } => {
                if let Some(state) = self.expectations.get_mut(*expectation) {
                    state.held = Some(*held);
                    state.found.clone_from(found);
                }
            }
            Event::LinkCounted(count) => self.links.push(count.clone()),
            Event::PacketsRecorded(recording) => self.recording = Some(recording.clone()),
            Event::LagMeasured { of, lag } => {
                self.lags.insert(of.clone(), *lag);
            }
            Event::InterruptReceived { signal } => self.interrupted_by = Some(signal.clone()),
            Event::RunEnded { verdict, causes, took } => {
                self.verdict = Some(*verdict);
                self.causes.clone_from(causes);
                self.took = Some(*took);
            }
            // Of use to who decides about the packets again.
            Event::RecordingBegan(_) | Event::LinksChanged(_) => {}
            Event::OutputMatched { .. } | Event::ReportsLeftOut { .. } => {}
        }
    }

    fn with_node(&mut self, name: &str, change: impl FnOnce(&mut NodeState)) {
        if let Some(node) = self.nodes.iter_mut().find(|node| node.name == name) {
            change(node);
        }
    }

    fn with_fault(&mut self, entry: usize, change: impl FnOnce(&mut FaultState)) {
        if let Some(fault) = self.faults.get_mut(entry) {
            change(fault);
        }
    }
}

impl NodeState {
    fn new(info: &NodeInfo) -> Self {
        NodeState {
            name: info.name.clone(),
            group: info.group.clone(),
            program: info.program.clone(),
            addresses: info.addresses.clone(),
            phase: NodePhase::Waiting,
            incarnation: 0,
            progress: None,
            rate: Rate::default(),
            served: 0,
            discards: None,
            sources: BTreeMap::new(),
            exited_at: None,
            ended: Ended::default(),
            sample: None,
        }
    }

    fn start(&mut self, incarnation: u32) {
        self.phase = NodePhase::Starting;
        self.incarnation = incarnation;
        self.exited_at = None;
        self.sources.clear();
        self.sample = None;
    }

    fn report(&mut self, at: Span, report: &NodeReport) {
        match report {
            NodeReport::Progress { bytes, total, received } => {
                let received = self.ended.received.saturating_add(*received);
                self.progress = Some(Progress { bytes: *bytes, total: *total, received });
                self.sample_rate(at, received.max(*bytes));
            }
            NodeReport::Source { source, .. }
                if self.sources.len() >= MOST_SOURCES && !self.sources.contains_key(source) => {}
            NodeReport::Source { source, state, received, rate, why } => {
                let view = SourceView { state: *state, received: *received, rate: *rate, why: why.clone() };
                self.sources.insert(source.clone(), view);
            }
            NodeReport::Served { bytes, rate, .. } => {
                self.served = self.ended.served.saturating_add(*bytes);
                self.rate = *rate;
            }
            NodeReport::Discarded { arrived, discarded } => {
                self.discards = Some(Discards {
                    arrived: self.ended.discards.arrived.saturating_add(*arrived),
                    discarded: self.ended.discards.discarded.saturating_add(*discarded),
                });
            }
            NodeReport::Finished { .. } | NodeReport::Transferred(_) => self.rate = Rate::default(),
            NodeReport::Ready | NodeReport::Watched { .. } | NodeReport::Other(_) => {}
        }
    }

    fn sample_rate(&mut self, at: Span, bytes: u64) {
        match self.sample {
            Some((then, _)) if at.saturating_sub(then) < SHORTEST_SAMPLE => {}
            Some((then, before)) => {
                let size = machine::Size::from_bytes(bytes.saturating_sub(before));
                self.rate = Rate::over(size, at.saturating_sub(then));
                self.sample = Some((at, bytes));
            }
            None => self.sample = Some((at, bytes)),
        }
    }

    fn exit(&mut self, at: Span, status: ExitStatus, cause: EndCause) {
        self.phase = match cause {
            EndCause::Own => NodePhase::Exited(status),
            EndCause::Fault => NodePhase::Killed(status),
            EndCause::RunEnd => NodePhase::Stopped,
        };
        self.rate = Rate::default();
        self.exited_at = Some(at);
        self.ended.served = self.served;
        self.ended.discards = self.discards.unwrap_or_default();
        self.ended.received = self.progress.map_or(0, |progress| progress.received);
        for source in self.sources.values_mut() {
            source.rate = Rate::default();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn began() -> Record {
        let node = |name: &str| NodeInfo {
            name: name.into(),
            group: name.into(),
            program: "downloader".into(),
            addresses: vec![],
        };
        Record::new(
            Span::ZERO,
            Event::RunBegan {
                name: "t".into(),
                file: "t.yaml".into(),
                seed: Seed::new(1),
                engine: "netns".into(),
                version: "0".into(),
                unix_ms: 0,
                timeout: Span::from_secs(1),
                nodes: vec![node("client")],
                networks: vec![],
                faults: vec!["kill".into()],
                expectations: vec!["client: exit 0".into()],
                repeat: "testbed run t.yaml".into(),
            },
        )
    }

    fn progress(bytes: u64, received: u64, incarnation: u32) -> Event {
        let report = NodeReport::Progress { bytes, total: 100, received };
        Event::NodeReported { node: "client".into(), incarnation, report }
    }

    #[test]
    fn received_bytes_add_up_over_incarnations() {
        let mut state = RunState::default();
        state.apply(&began());
        let mut at = Span::ZERO;
        for event in [
            Event::NodeStarted { node: "client".into(), incarnation: 1 },
            progress(50, 55, 1),
            Event::NodeExited {
                node: "client".into(),
                incarnation: 1,
                status: ExitStatus::Signal(9),
                cause: EndCause::Fault,
            },
            Event::NodeStarted { node: "client".into(), incarnation: 2 },
            progress(100, 52, 2),
        ] {
            at += Span::from_millis(1);
            state.apply(&Record::new(at, event));
        }
        let client = state.node("client").unwrap();
        assert_eq!(client.progress, Some(Progress { bytes: 100, total: 100, received: 107 }));
        assert_eq!(client.phase, NodePhase::Starting);
    }

    #[test]
    fn a_log_cut_in_the_middle_of_a_line_is_read_up_to_there() {
        let log = format!("{}\n{{\"at_ns\":5,\"eve", began().to_line());
        let state = RunState::from_log(&log);
        assert_eq!((state.name.as_str(), state.nodes.len(), state.verdict), ("t", 1, None));
    }

    #[test]
    fn unknown_names_are_ignored() {
        let mut state = RunState::default();
        state.apply(&Record::new(Span::ZERO, Event::NodeReady { node: "ghost".into(), incarnation: 1 }));
        state.apply(&Record::new(Span::ZERO, Event::FaultFired { entry: 7, label: String::new() }));
        assert!(state.nodes.is_empty());
    }
}
