//! What was expected against what was found.

use event::ExitStatus;
use machine::{Rate, Size, Time};
use regex::Regex;
use topology::plan::{Expectation, Expected, NodeState};

use crate::lifecycle::{Lifecycle, Phase};

/// What a comparison of a node's output file with the file it should equal has shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FileFinding {
    /// Every byte is the same.
    Identical {
        /// Of both.
        bytes: u64,
    },
    /// They differ, first at this byte.
    Differs {
        /// Offset of the first byte that differs.
        at: u64,
    },
    /// One is a beginning of the other.
    Length {
        /// What is there.
        found: u64,
        /// What should be there.
        expected: u64,
    },
    /// It could not be read.
    Unreadable {
        /// What the system said.
        why: String,
    },
}

/// An expectation's outcome.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Finding {
    pub(crate) held: bool,
    pub(crate) found: String,
}

impl Finding {
    fn new(held: bool, found: impl Into<String>) -> Self {
        Finding { held, found: found.into() }
    }
}

/// Lines of output that expectations ask for.
#[derive(Debug)]
pub(crate) struct Watch {
    pattern: Regex,
    matched: Option<String>,
}

impl Watch {
    pub(crate) fn new(pattern: &str) -> Self {
        Watch { pattern: Regex::new(pattern).expect("a plan's patterns were compiled by its resolver"), matched: None }
    }

    /// Whether this line is the first that matches.
    pub(crate) fn observe(&mut self, line: &str) -> bool {
        if self.matched.is_some() || !self.pattern.is_match(line) {
            return false;
        }
        self.matched = Some(line.to_owned());
        true
    }

    pub(crate) fn pattern(&self) -> &str {
        self.pattern.as_str()
    }

    pub(crate) fn has_matched(&self) -> bool {
        self.matched.is_some()
    }
}

/// Whether a node with this expectation must end before the run may.
pub(crate) fn awaits_exit(expected: &Expected) -> bool {
    matches!(expected, Expected::Exit(_) | Expected::Within(_) | Expected::State(NodeState::Exited))
}

/// Everything that an expectation is decided on.
pub(crate) struct Evidence<'a> {
    pub(crate) node: &'a Lifecycle,
    pub(crate) started: Option<Time>,
    pub(crate) watch: Option<&'a Watch>,
    pub(crate) file: Option<&'a FileFinding>,
}

/// Decides one expectation.
pub(crate) fn decide(expectation: &Expectation, evidence: &Evidence<'_>) -> Finding {
    let node = evidence.node;
    match &expectation.what {
        Expected::Exit(code) => match node.phase {
            Phase::Ended(status, _) => Finding::new(status == ExitStatus::Code(*code), status.to_string()),
            _ => Finding::new(false, phase_in_words(node)),
        },
        Expected::State(state) => Finding::new(node.state() == Some(*state), phase_in_words(node)),
        Expected::Within(limit) => match (node.phase, node.ended_at, evidence.started) {
            (Phase::Ended(..), Some(ended), Some(started)) => {
                let took = ended.since(started);
                Finding::new(took <= *limit, format!("{:.3} s", took.as_secs_f64()))
            }
            _ => Finding::new(false, phase_in_words(node)),
        },
        Expected::File { out, .. } => match evidence.file {
            Some(FileFinding::Identical { bytes }) => Finding::new(true, format!("identical, {bytes} bytes")),
            Some(FileFinding::Differs { at }) => Finding::new(false, format!("{} differs at byte {at}", out.display())),
            Some(FileFinding::Length { found, expected }) => {
                Finding::new(false, format!("{} has {found} bytes instead of {expected}", out.display()))
            }
            Some(FileFinding::Unreadable { why }) => Finding::new(false, format!("{}: {why}", out.display())),
            None => Finding::new(false, "not compared"),
        },
        Expected::Wasted(comparison, bound) => match node.progress {
            Some(progress) if progress.total > 0 => {
                let share = (node.received() as f64 - progress.total as f64) / progress.total as f64;
                Finding::new(comparison.holds(share, bound.as_f64()), format!("{:.2}%", share * 100.0))
            }
            _ => Finding::new(false, "no progress was reported"),
        },
        Expected::Prints(_) => match evidence.watch.and_then(|watch| watch.matched.as_deref()) {
            Some(line) => Finding::new(true, format!("`{line}`")),
            None => Finding::new(false, "no such line"),
        },
        Expected::NeverPrints(_) => match evidence.watch.and_then(|watch| watch.matched.as_deref()) {
            Some(line) => Finding::new(false, format!("`{line}`")),
            None => Finding::new(true, "no such line"),
        },
        Expected::Throughput(comparison, bound) => throughput(evidence, *comparison, *bound),
    }
}

fn throughput(evidence: &Evidence<'_>, comparison: topology::plan::Comparison, bound: Rate) -> Finding {
    let node = evidence.node;
    let bytes = match (evidence.file, node.progress) {
        (Some(FileFinding::Identical { bytes }), _) => *bytes,
        (_, Some(progress)) => progress.bytes,
        _ => return Finding::new(false, "no progress was reported"),
    };
    match (node.phase, node.ended_at, evidence.started) {
        (Phase::Ended(..), Some(ended), Some(started)) if ended > started => {
            let rate = Rate::over(Size::from_bytes(bytes), ended.since(started));
            let found = format!("{:.2} Mbit/s", rate.as_bits_per_sec() as f64 / 1e6);
            Finding::new(comparison.holds(rate, bound), found)
        }
        _ => Finding::new(false, phase_in_words(node)),
    }
}

/// What a person reads of a node's state.
pub(crate) fn phase_in_words(node: &Lifecycle) -> String {
    let state = match node.phase {
        Phase::Waiting => "never started".to_owned(),
        Phase::Unstartable => "could not be started".to_owned(),
        Phase::Starting => "still starting".to_owned(),
        Phase::Running => "still running".to_owned(),
        Phase::Paused => "paused".to_owned(),
        Phase::Ended(status, event::EndCause::Own) => status.to_string(),
        Phase::Ended(status, _) => format!("killed ({status})"),
    };
    match node.progress {
        Some(progress) if node.is_alive() && progress.total > 0 => {
            format!("{state} at {:.0} %", progress.bytes as f64 * 100.0 / progress.total as f64)
        }
        _ => state,
    }
}
