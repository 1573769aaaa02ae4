//! Which entries of `events:` have fired, and when the others may.

use machine::{Ratio, Time};
use regex::Regex;
use topology::Plan;
use topology::plan::{Action, NodeId, Trigger};

use crate::lifecycle::Progress;

/// The entries of `events:` during a run.
#[derive(Debug)]
pub(crate) struct Schedule {
    entries: Vec<Entry>,
}

#[derive(Debug)]
struct Entry {
    when: Condition,
    /// What it waits for was printed while other nodes were still starting.
    came_early: bool,
    fired: Option<Time>,
    failed: bool,
    undone: bool,
}

#[derive(Debug)]
enum Condition {
    /// A timer of the scenario's.
    Timed,
    Share(NodeId, Ratio),
    Bytes(NodeId, u64),
    Prints(NodeId, Regex),
}

impl Schedule {
    pub(crate) fn new(plan: &Plan) -> Self {
        let entries = plan.events().iter().map(|event| Entry {
            when: match &event.when {
                Trigger::At(_) | Trigger::AfterPrevious(_) => Condition::Timed,
                Trigger::ProgressShare(node, share) => Condition::Share(*node, *share),
                Trigger::ProgressBytes(node, size) => Condition::Bytes(*node, size.as_bytes()),
                Trigger::Prints(node, pattern) => Condition::Prints(
                    *node,
                    Regex::new(pattern).expect("a plan's patterns were compiled by its resolver"),
                ),
            },
            came_early: false,
            fired: None,
            failed: false,
            undone: event.lasts.is_none(),
        });
        Schedule { entries: entries.collect() }
    }

    /// The entries that `progress` of `node` makes fire.
    pub(crate) fn fired_by_progress(&self, node: NodeId, progress: Progress) -> Vec<usize> {
        self.due(|when| match when {
            Condition::Share(of, share) => {
                let reached = u128::from(progress.bytes) * 1_000_000_000;
                *of == node
                    && progress.total > 0
                    && reached >= u128::from(progress.total) * u128::from(share.as_parts_per_billion())
            }
            Condition::Bytes(of, bytes) => *of == node && progress.bytes >= *bytes,
            Condition::Timed | Condition::Prints(..) => false,
        })
    }

    /// The entries that a line of output of `node` makes fire.
    pub(crate) fn fired_by_line(&self, node: NodeId, line: &str) -> Vec<usize> {
        self.due(|when| matches!(when, Condition::Prints(of, pattern) if *of == node && pattern.is_match(line)))
    }

    /// Remembers a line of output of `node` that came before anything may fire.
    pub(crate) fn note_early_line(&mut self, node: NodeId, line: &str) {
        for entry in self.fired_by_line(node, line) {
            self.entries[entry].came_early = true;
        }
    }

    /// The entries that were waited for by such lines.
    pub(crate) fn fired_by_early_lines(&self) -> Vec<usize> {
        let waiting = self.entries.iter().enumerate().filter(|(_, entry)| entry.came_early && entry.fired.is_none());
        waiting.map(|(index, _)| index).collect()
    }

    fn due(&self, holds: impl Fn(&Condition) -> bool) -> Vec<usize> {
        let waiting = self.entries.iter().enumerate().filter(|(_, entry)| entry.fired.is_none());
        waiting.filter(|(_, entry)| holds(&entry.when)).map(|(index, _)| index).collect()
    }

    /// Marks an entry as fired; false if it had.
    pub(crate) fn fire(&mut self, entry: usize, now: Time) -> bool {
        self.entries[entry].fired.replace(now).is_none()
    }

    pub(crate) fn has_fired(&self, entry: usize) -> bool {
        self.entries[entry].fired.is_some()
    }

    pub(crate) fn fail(&mut self, entry: usize) {
        self.entries[entry].failed = true;
    }

    pub(crate) fn undo(&mut self, entry: usize) {
        self.entries[entry].undone = true;
    }

    /// Whether nothing is left to fire or undo, optional entries aside.
    pub(crate) fn is_over(&self, plan: &Plan) -> bool {
        let mut entries = self.entries.iter().zip(plan.events());
        entries.all(|(entry, event)| entry.fired.is_some() && entry.undone || entry.fired.is_none() && event.optional)
    }

    /// Entries that had to fire, did not, or could not be carried out: position and what is wrong.
    pub(crate) fn shortcomings(&self, plan: &Plan) -> Vec<(usize, &'static str)> {
        let mut shortcomings = Vec::new();
        for (index, (entry, event)) in self.entries.iter().zip(plan.events()).enumerate() {
            if event.optional {
                continue;
            }
            if entry.fired.is_none() {
                shortcomings.push((index, "never fired"));
            } else if entry.failed {
                shortcomings.push((index, "fired, but could not be carried out"));
            }
        }
        shortcomings
    }

    /// Whether something that is still to come can start `node` again.
    pub(crate) fn may_revive(&self, plan: &Plan, node: NodeId) -> bool {
        self.entries.iter().zip(plan.events()).any(|(entry, event)| match &event.action {
            Action::Revive { nodes, .. } => entry.fired.is_none() && nodes.contains(&node),
            Action::Restart(nodes) => entry.fired.is_none() && nodes.contains(&node),
            Action::Kill(nodes) | Action::Crash(nodes) | Action::Stop(nodes) => {
                entry.fired.is_some() && !entry.undone && !entry.failed && nodes.contains(&node)
            }
            _ => false,
        })
    }
}
