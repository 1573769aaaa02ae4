//! The names of a run directory's files, in one place.
//!
//! ```text
//! runs/<name>/<stamp>/          and a link `latest` beside it
//!   plan.yaml                   what was built
//!   events.jsonl                what happened; locked while the run lives
//!   result.json junit.xml summary.md
//!   pcap/<node>.<interface>.pcapng   what passed, if it was recorded
//!   hosts/<node>                the names as a node sees them, where nodes are on several networks
//!   files/                      generated inputs, removed at the end
//!   nodes/<node>/stdout.log
//!   nodes/<node>/stderr.log
//!   nodes/<node>/disk/          the node's working directory
//! ```

use std::path::{Path, PathBuf};

/// Where runs are kept unless told otherwise.
pub const RUNS: &str = "runs";
/// The link to the newest run of a topology.
pub const LATEST: &str = "latest";
/// The resolved plan.
pub const PLAN: &str = "plan.yaml";
/// One [`Record`](crate::Record) a line.
pub const EVENTS: &str = "events.jsonl";
/// The verdict and the figures, for programs.
pub const RESULT: &str = "result.json";
/// The expectations as test cases, for CI.
pub const JUNIT: &str = "junit.xml";
/// The summary for people, as Markdown.
pub const SUMMARY: &str = "summary.md";
/// Generated input files.
pub const FILES: &str = "files";
/// One folder a node.
pub const NODES: &str = "nodes";
/// One file for each set of nodes that see the same names.
pub const HOSTS: &str = "hosts";
/// One pcapng file an interface.
pub const PCAP: &str = "pcap";
/// A node's standard output, all incarnations.
pub const STDOUT: &str = "stdout.log";
/// A node's standard error, all incarnations.
pub const STDERR: &str = "stderr.log";
/// A node's working directory.
pub const DISK: &str = "disk";

/// The folder of `node` in the run directory `run`.
pub fn node(run: &Path, node: &str) -> PathBuf {
    run.join(NODES).join(node)
}

/// The disk of `node` in the run directory `run`.
pub fn disk(run: &Path, node: &str) -> PathBuf {
    self::node(run, node).join(DISK)
}

/// What was recorded of `node`'s interface in the run directory `run`.
pub fn capture(run: &Path, node: &str, interface: &str) -> PathBuf {
    run.join(PCAP).join(format!("{node}.{interface}.pcapng"))
}
