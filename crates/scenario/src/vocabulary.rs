//! What goes into a scenario and what it wants done.

use event::{
    CalibrationSummary, Direction, ExitStatus, Lag, LinkChange, LinkCount, LinkMeasurement, NodeReport, Record,
    RecordedLinks, Recording, Verdict,
};
use link::{HalfCounters, NetworkCounters, Profile};
use machine::Span;
use topology::plan::{FileId, NodeId};

use crate::expectation::FileFinding;

/// What the first record of the log says of a run, beside its plan.
#[derive(Clone, Debug)]
pub struct About {
    /// The topology's file, as the user wrote it.
    pub file: String,
    /// `netns`, `docker`, `swarm` or `sim`.
    pub engine: String,
    /// Of the testbed.
    pub version: String,
    /// The wall clock, milliseconds since 1970 (UTC).
    pub unix_ms: u64,
    /// The command that repeats the run.
    pub repeat: String,
}

/// What can happen to a run.
#[derive(Clone, Debug)]
pub enum Input {
    /// Namespaces, links and addresses of all nodes exist, and every node takes commands.
    Raised {
        /// How long that took.
        took: Span,
    },
    /// What passes on links is recorded.
    RecordingBegan(Box<RecordedLinks>),
    /// What the relay carries was changed, as an output wanted it or because this is t = 0.
    LinksChanged(Vec<LinkChange>),
    /// The answer to [`Output::Calibrate`].
    Calibrated(Calibration),
    /// The program runs.
    Started {
        /// Where.
        node: NodeId,
    },
    /// The program could not be started.
    StartFailed {
        /// Where.
        node: NodeId,
        /// What the system said.
        why: String,
    },
    /// The program does its work from now on.
    Ready {
        /// Where.
        node: NodeId,
    },
    /// The program reported.
    Reported {
        /// Which node's.
        node: NodeId,
        /// What.
        report: NodeReport,
    },
    /// The program printed a line. Needed only of nodes for which [`Scenario::follows`](crate::Scenario::follows) is true.
    Printed {
        /// Which node's.
        node: NodeId,
        /// The line, without its end.
        line: String,
    },
    /// The program and all its children are gone.
    Exited {
        /// Which node's.
        node: NodeId,
        /// How the program itself ended.
        status: ExitStatus,
    },
    /// An action on a node could not be carried out.
    ActionFailed {
        /// Where.
        node: NodeId,
        /// What the system said.
        why: String,
    },
    /// A node takes no more commands although nobody ended it.
    NodeLost {
        /// Which.
        node: NodeId,
        /// What was seen.
        why: String,
    },
    /// The answer to [`Output::CompareFile`].
    FileCompared {
        /// Position of the expectation in the plan.
        expectation: usize,
        /// What was found.
        finding: FileFinding,
    },
    /// The answer to [`Output::Settle`].
    Measured(Measurements),
    /// Somebody asks the run to stop.
    Interrupted {
        /// Name of the signal.
        signal: String,
    },
}

/// What measuring links before the start of any node has found.
#[derive(Clone, Debug)]
pub struct Calibration {
    /// Each half link that impairs anything, and each pair.
    pub links: Vec<LinkMeasurement>,
    /// How that was done.
    pub summary: CalibrationSummary,
}

/// What the engine has measured of itself in the run.
#[derive(Clone, Debug, Default)]
pub struct Measurements {
    /// What became of the packets.
    pub links: Vec<LinkCount>,
    /// What was recorded of them, if anything was.
    pub recording: Option<Recording>,
    /// How late timers were, and whose.
    pub lags: Vec<(String, Lag)>,
    /// Why the result means nothing, if it does.
    pub invalidities: Vec<String>,
}

/// A half link's counters as the log has them.
pub fn link_count(node: &str, network: &str, direction: Direction, half: &HalfCounters) -> LinkCount {
    LinkCount {
        node: node.to_owned(),
        network: network.to_owned(),
        direction,
        by_kernel: false,
        offered: half.offered.packets,
        offered_bytes: half.offered.bytes,
        delivered: half.delivered.packets,
        delivered_bytes: half.delivered.bytes,
        duplicated: half.duplicated.packets,
        corrupted: half.corrupted.packets,
        lost: half.dropped.loss.packets,
        queue: half.dropped.queue.packets,
        lost_or_queue: 0,
        partition: half.dropped.partition.packets,
        cut: half.dropped.cut.packets,
        overflow: half.dropped.overflow.packets,
        in_flight: half.in_flight.packets,
    }
}

/// The counters of a network's pairs as the log has them.
pub fn pair_counts(network: &NetworkCounters) -> impl Iterator<Item = LinkCount> {
    network.pairs.iter().map(|pair| {
        let between = format!("{} -> {}", pair.from, pair.to);
        link_count(&between, &network.name, Direction::Between, &pair.half)
    })
}

/// What a run wants done.
#[derive(Clone, Debug, PartialEq)]
pub enum Output {
    /// Measure what links do, and make them as new afterwards. Nothing is started before the answer.
    Calibrate,
    /// Start the node's program.
    Start {
        /// Where.
        node: NodeId,
        /// 1 for the first.
        incarnation: u32,
    },
    /// TERM, grace, KILL.
    Stop {
        /// Where.
        node: NodeId,
        /// Between TERM and KILL.
        grace: Span,
    },
    /// KILL.
    Kill {
        /// Where.
        node: NodeId,
    },
    /// Send a signal to the program.
    Signal {
        /// Where.
        node: NodeId,
        /// Its number.
        number: i32,
    },
    /// Freeze the processes.
    Pause {
        /// Where.
        node: NodeId,
    },
    /// Thaw the processes.
    Resume {
        /// Where.
        node: NodeId,
    },
    /// Empty the disk.
    Wipe {
        /// Where.
        node: NodeId,
    },
    /// Destroy what is left of the sockets of a crashed program.
    PurgeSockets {
        /// Where.
        node: NodeId,
    },
    /// Let nothing through the node's links any more.
    Cut {
        /// Whose.
        node: NodeId,
    },
    /// Undo [`Output::Cut`].
    Restore {
        /// Whose.
        node: NodeId,
    },
    /// Give a link another profile.
    SetLink {
        /// Whose.
        node: NodeId,
        /// Position in the node's interfaces.
        interface: usize,
        /// All of it.
        profile: Profile,
    },
    /// Let nodes in different lists not reach each other.
    Partition {
        /// Names the partition.
        key: usize,
        /// The lists.
        lists: Vec<Vec<NodeId>>,
    },
    /// Undo [`Output::Partition`].
    Heal {
        /// Names the partition.
        key: usize,
    },
    /// Compare a node's output with the file it should equal.
    CompareFile {
        /// Position of the expectation in the plan.
        expectation: usize,
        /// Whose.
        node: NodeId,
        /// Path relative to the node's disk.
        out: std::path::PathBuf,
        /// What it should equal.
        file: FileId,
    },
    /// Write to the log.
    Record(Record),
    /// End every program and measure.
    Settle,
    /// The run is over.
    Finished(Verdict),
}

/// Why a scenario wants to be woken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Why {
    /// The run's wall limit.
    Timeout,
    /// This entry of `events:` is due.
    Fire(usize),
    /// The `for:` of this entry is over.
    Undo(usize),
}
