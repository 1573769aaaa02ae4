//! One line of `events.jsonl`.

use machine::{Seed, Span};
use serde::{Deserialize, Serialize};

use crate::{CalibrationSummary, LinkChange, LinkMeasurement, NodeReport, RecordedLinks, Recording, Verdict};

/// A fact and when it was known.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// Nanoseconds since the run began (not since t = 0, which [`Event::AllStarted`] marks).
    pub at_ns: u64,
    /// What happened.
    #[serde(flatten)]
    pub event: Event,
}

impl Record {
    /// The fact `event`, known `at` after the run began.
    pub fn new(at: Span, event: Event) -> Self {
        Record { at_ns: at.as_nanos(), event }
    }

    /// When it was known, since the run began.
    pub fn at(&self) -> Span {
        Span::from_nanos(self.at_ns)
    }

    /// Reads one line.
    ///
    /// # Errors
    /// When the line is not a record.
    pub fn from_line(line: &str) -> Result<Self, serde_json::Error> {
        serde_json::from_str(line)
    }

    /// Writes one line, without its end.
    pub fn to_line(&self) -> String {
        serde_json::to_string(self).expect("a record has no map keys that are not strings")
    }
}

/// Something that happened in a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Event {
    /// The first record.
    RunBegan {
        /// The topology's name.
        name: String,
        /// The file it was read from, as the user wrote it.
        file: String,
        /// The run's one seed.
        seed: Seed,
        /// `netns`, `docker`, `swarm` or `sim`.
        engine: String,
        /// Of the testbed.
        version: String,
        /// The wall clock, milliseconds since 1970 (UTC).
        unix_ms: u64,
        /// The run's wall limit.
        timeout: Span,
        /// Every node, in the order of the file.
        nodes: Vec<NodeInfo>,
        /// Every network.
        networks: Vec<NetworkInfo>,
        /// The label of every entry of `events:`.
        faults: Vec<String>,
        /// The label of every expectation.
        expectations: Vec<String>,
        /// The command that repeats the run.
        repeat: String,
    },
    /// Namespaces, links and addresses of all nodes exist.
    FabricRaised {
        /// How long that took.
        took: Span,
    },
    /// What passes on links is recorded from now on.
    RecordingBegan(RecordedLinks),
    /// What the relay carries was changed.
    LinksChanged(LinkChange),
    /// What one half link does was measured, before any node started.
    LinkMeasured(LinkMeasurement),
    /// Links were measured; they are as new afterwards.
    LinksCalibrated(CalibrationSummary),
    /// A program was started in a node.
    NodeStarted {
        /// The node.
        node: String,
        /// 1 for its first program, one more for each revival.
        incarnation: u32,
    },
    /// A program could not be started.
    NodeStartFailed {
        /// The node.
        node: String,
        /// Which start.
        incarnation: u32,
        /// What the system said.
        why: String,
    },
    /// A node does its work from now on.
    NodeReady {
        /// The node.
        node: String,
        /// Which program.
        incarnation: u32,
    },
    /// Every node has started: t = 0.
    AllStarted,
    /// A node's program reported.
    NodeReported {
        /// The node.
        node: String,
        /// Which program.
        incarnation: u32,
        /// What it said.
        report: NodeReport,
    },
    /// A node's program reported so often that these were not logged.
    ReportsLeftOut {
        /// The node.
        node: String,
        /// Which program.
        incarnation: u32,
        /// How many.
        count: u64,
    },
    /// A line of a node's output matched a pattern that the file asks for.
    OutputMatched {
        /// The node.
        node: String,
        /// The regular expression.
        pattern: String,
        /// The line.
        line: String,
    },
    /// A node's processes were frozen.
    NodePaused {
        /// The node.
        node: String,
    },
    /// A node's processes were thawed.
    NodeResumed {
        /// The node.
        node: String,
    },
    /// A node's program ended.
    NodeExited {
        /// The node.
        node: String,
        /// Which program.
        incarnation: u32,
        /// How.
        status: ExitStatus,
        /// Who ended it.
        cause: EndCause,
    },
    /// An entry of `events:` fired.
    FaultFired {
        /// Position in the file, from 0.
        entry: usize,
        /// What a person reads of it.
        label: String,
    },
    /// An entry's `for:` was over.
    FaultUndone {
        /// Position in the file, from 0.
        entry: usize,
        /// What a person reads of it.
        label: String,
    },
    /// An entry fired but could not be carried out.
    FaultFailed {
        /// Position in the file, from 0.
        entry: usize,
        /// What a person reads of it.
        label: String,
        /// Why not.
        why: String,
    },
    /// An expectation was decided.
    ExpectationChecked {
        /// Position in the plan, from 0.
        expectation: usize,
        /// What a person reads of it.
        label: String,
        /// Whether it held.
        held: bool,
        /// What was found.
        found: String,
    },
    /// What became of the packets of one half link, at the end.
    LinkCounted(LinkCount),
    /// What passed was recorded, and what there is of it, at the end.
    PacketsRecorded(Recording),
    /// How late timers were, at the end.
    LagMeasured {
        /// `relay` or `conductor`.
        of: String,
        /// How late.
        #[serde(flatten)]
        lag: Lag,
    },
    /// Somebody asked the run to stop.
    InterruptReceived {
        /// Name of the signal.
        signal: String,
    },
    /// The last record.
    RunEnded {
        /// The outcome.
        verdict: Verdict,
        /// For anything but PASS: the cause, then further ones. One line each.
        causes: Vec<String>,
        /// From t = 0 (or the beginning, if it never came) to the end.
        took: Span,
    },
}

/// What the log says of a node at the beginning.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeInfo {
    /// Its name.
    pub name: String,
    /// The entry of `nodes:` that it came from.
    pub group: String,
    /// The role's name, or the first word of its program.
    pub program: String,
    /// Its addresses, `eth0`'s first.
    pub addresses: Vec<String>,
}

/// What the log says of a network at the beginning.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkInfo {
    /// Its name.
    pub name: String,
    /// Its address block.
    pub subnet: String,
    /// `bridge`, `relay` or `netem`.
    pub medium: String,
    /// Why that.
    pub why: String,
}

/// How a program ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ExitStatus {
    /// It returned this.
    Code(i32),
    /// This signal ended it.
    Signal(i32),
}

impl ExitStatus {
    /// As a shell's `$?` would say it.
    pub fn shell(self) -> i32 {
        match self {
            ExitStatus::Code(code) => code,
            ExitStatus::Signal(signal) => 128 + signal,
        }
    }
}

impl std::fmt::Display for ExitStatus {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            ExitStatus::Code(code) => write!(f, "exit {code}"),
            ExitStatus::Signal(signal) => write!(f, "signal {signal}"),
        }
    }
}

/// Who ended a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EndCause {
    /// It ended by itself.
    Own,
    /// An entry of `events:` ended it.
    Fault,
    /// The end of the run ended it.
    RunEnd,
}

/// A half link: a direction of a node's link, seen from the node, or what lies between two nodes on top of theirs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Direction {
    /// Leaving the node.
    Up,
    /// Reaching the node.
    Down,
    /// An entry of `pairs:`, between the two nodes.
    Between,
}

/// What became of the packets of one half link: `offered` and `duplicated` together are as many as `delivered`, `lost`,
/// `queue`, `lost_or_queue`, `partition`, `cut`, `overflow` and `in_flight`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkCount {
    /// The node whose link it is; of a pair `sender -> receiver`.
    pub node: String,
    /// The network.
    pub network: String,
    /// Which half.
    pub direction: Direction,
    /// Whether the kernel's netem counted, which tells less: second packets are among `offered`, damaged ones are not told,
    /// what was in a link when a crash cut it is in no number, `offered` is the sum of what became of the packets, and
    /// `offered_bytes` are those delivered.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub by_kernel: bool,
    /// Packets that came to it.
    pub offered: u64,
    /// Ethernet bytes that came to it.
    pub offered_bytes: u64,
    /// Packets that it let through.
    pub delivered: u64,
    /// Ethernet bytes that it let through.
    pub delivered_bytes: u64,
    /// Packets that the link made itself, as second ones of others.
    #[serde(default)]
    pub duplicated: u64,
    /// Packets in which the link flipped a bit: of those delivered or under way.
    #[serde(default)]
    pub corrupted: u64,
    /// Packets lost by chance or by the list of drops.
    pub lost: u64,
    /// Packets that found the queue full.
    pub queue: u64,
    /// Packets that the kernel dropped on a link that has both reasons, and counted as one.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub lost_or_queue: u64,
    /// Packets between the sides of a partition.
    pub partition: u64,
    /// Packets on a link that a crash had cut.
    pub cut: u64,
    /// Packets for which the testbed itself had no room.
    #[serde(default)]
    pub overflow: u64,
    /// Packets still under way at the end.
    pub in_flight: u64,
}

impl LinkCount {
    /// Whether nothing is unaccounted for.
    pub fn adds_up(&self) -> bool {
        let LinkCount { delivered, lost, queue, lost_or_queue, partition, cut, overflow, in_flight, .. } = *self;
        let went = [delivered, lost, queue, lost_or_queue, partition, cut, overflow, in_flight];
        u128::from(self.offered) + u128::from(self.duplicated) == went.iter().map(|packets| u128::from(*packets)).sum()
    }
}

fn is_zero(packets: &u64) -> bool {
    *packets == 0
}

/// How late timers were.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Lag {
    /// Half of the wake-ups were no later.
    pub p50: Span,
    /// 99 % of the wake-ups were no later.
    pub p99: Span,
    /// The latest.
    pub max: Span,
    /// Time spent beyond the bound, the single longest stall left out, as a share of the run.
    pub starved_share: f64,
}
