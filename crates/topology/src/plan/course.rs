//! The course of a run: what is done to the nodes, and what must hold of them.

use std::path::PathBuf;

use link::Profile;
use machine::{Rate, Ratio, Size, Span};
use serde::{Deserialize, Serialize};

use super::{FileId, NetworkId, NodeId};

/// An entry of `events:`: fires once, when its condition first holds.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Event {
    /// When it fires.
    pub when: Trigger,
    /// What it does.
    pub action: Action,
    /// Undoes it after this long.
    pub lasts: Option<Span>,
    /// Whether the run may end without it.
    pub optional: bool,
    /// Where the file says it, for messages: 1-based line.
    pub line: usize,
    /// What a person reads of it: `client >= 40%: kill server-2`.
    pub label: String,
}

/// When an event fires.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Trigger {
    /// This long after all nodes have started.
    At(Span),
    /// This long after the entry above fired.
    AfterPrevious(Span),
    /// When a node's progress reaches a share of its total.
    ProgressShare(NodeId, Ratio),
    /// When a node's progress reaches a size.
    ProgressBytes(NodeId, Size),
    /// When a line of a node's output matches.
    Prints(NodeId, String),
}

/// What an event does.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    /// KILL; the kernel still closes the sockets.
    Kill(Vec<NodeId>),
    /// Links cut first, so nothing leaks out: a dead machine.
    Crash(Vec<NodeId>),
    /// TERM, grace, KILL.
    Stop(Vec<NodeId>),
    /// Freezes the processes.
    Pause(Vec<NodeId>),
    /// Thaws them.
    Resume(Vec<NodeId>),
    /// Stop, then start again.
    Restart(Vec<NodeId>),
    /// Sends a signal to the program.
    Signal(Vec<NodeId>, i32),
    /// Starts the program again with the same namespaces, address and links.
    Revive {
        /// Who.
        nodes: Vec<NodeId>,
        /// Empties the disk first.
        wipe: bool,
    },
    /// Changes what it names of the nodes' links. How changes that overlap in time combine:
    /// [`Plan::link_during`](super::Plan::link_during).
    SetLink {
        /// Whose.
        nodes: Vec<NodeId>,
        /// On which network; absent is on all of theirs.
        network: Option<NetworkId>,
        /// For each node the profile of each changed interface, complete: (node, index of the interface, profile). It
        /// lies over the link of the topology and over the changes without `for:` of the entries above.
        profiles: Vec<(NodeId, usize, Profile)>,
    },
    /// Nodes in different lists cannot reach each other; those in no list reach all.
    Partition(Vec<Vec<NodeId>>),
}

/// An expectation on one node.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Expectation {
    /// The node.
    pub node: NodeId,
    /// What must hold.
    pub what: Expected,
    /// What a person reads of it: `client: exit 0`.
    pub label: String,
}

/// What must hold of a node at the end of the run.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Expected {
    /// Exit status of the last incarnation.
    Exit(i32),
    /// State of the last incarnation.
    State(NodeState),
    /// The exit came within this long of t = 0.
    Within(Span),
    /// The node's output file has the bytes of this file.
    File {
        /// Path relative to the node's disk.
        out: PathBuf,
        /// What it must equal.
        file: FileId,
    },
    /// (body bytes received in all incarnations − size) / size compares so.
    Wasted(Comparison, Ratio),
    /// A line of output matches this regular expression.
    Prints(String),
    /// No line of output matches it.
    NeverPrints(String),
    /// Size / (exit − t0) compares so.
    Throughput(Comparison, Rate),
}

/// The state of a node's program that an expectation may ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NodeState {
    /// It runs.
    Running,
    /// It is frozen.
    Paused,
    /// It ended by itself.
    Exited,
    /// A fault ended it.
    Killed,
}

/// How a measured value is compared with the expected one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Comparison {
    /// `<`
    #[serde(rename = "<")]
    Less,
    /// `<=`
    #[serde(rename = "<=")]
    LessOrEqual,
    /// `>`
    #[serde(rename = ">")]
    Greater,
    /// `>=`
    #[serde(rename = ">=")]
    GreaterOrEqual,
}

impl Comparison {
    /// Whether `found` compares so with `bound`.
    pub fn holds<T: PartialOrd>(self, found: T, bound: T) -> bool {
        match self {
            Comparison::Less => found < bound,
            Comparison::LessOrEqual => found <= bound,
            Comparison::Greater => found > bound,
            Comparison::GreaterOrEqual => found >= bound,
        }
    }

    /// As the file writes it.
    pub fn symbol(self) -> &'static str {
        match self {
            Comparison::Less => "<",
            Comparison::LessOrEqual => "<=",
            Comparison::Greater => ">",
            Comparison::GreaterOrEqual => ">=",
        }
    }
}
