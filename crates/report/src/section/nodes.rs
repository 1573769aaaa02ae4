//! Nodes as rows, and large groups of them as one.

use std::collections::BTreeMap;

use event::{ExitStatus, NodePhase, NodeState, RunState};
use machine::{Rate, Size, Span};

use super::{LARGEST_LISTED_GROUP, Section};
use crate::columns::{Align, Cell};
use crate::paint::Tone;
use crate::{escape, figure};

/// Of a group told in one row, this many nodes that ended badly are named all the same.
const MOST_CULPRITS: usize = 5;

/// The nodes that came from one entry of the file.
pub(crate) struct Group<'a> {
    pub(crate) name: &'a str,
    pub(crate) nodes: Vec<&'a NodeState>,
}

/// The nodes by group, groups and nodes in the order of the file.
pub(crate) fn groups(state: &RunState) -> Vec<Group<'_>> {
    let mut groups: Vec<Group<'_>> = Vec::new();
    let mut position: BTreeMap<&str, usize> = BTreeMap::new();
    for node in &state.nodes {
        let at = *position.entry(&node.group).or_insert_with(|| {
            groups.push(Group { name: &node.group, nodes: Vec::new() });
            groups.len() - 1
        });
        groups[at].nodes.push(node);
    }
    groups
}

pub(super) fn section(state: &RunState) -> Section {
    let rows = groups(state).into_iter().flat_map(|group| {
        if group.nodes.len() <= LARGEST_LISTED_GROUP {
            return group.nodes.into_iter().map(|node| node_row(state, node)).collect::<Vec<_>>();
        }
        let mut rows = vec![group_row(state, &group)];
        rows.extend(
            group
                .nodes
                .into_iter()
                .filter(|node| phase_tone(node.phase) == Tone::Bad)
                .take(MOST_CULPRITS)
                .map(|node| node_row(state, node)),
        );
        rows
    });
    Section::new(
        "nodes",
        &["node", "program", "starts", "state", "received", "sent", "mean speed"],
        &[Align::Left, Align::Left, Align::Right, Align::Left, Align::Right, Align::Right, Align::Right],
        rows,
    )
}

fn node_row(state: &RunState, node: &NodeState) -> Vec<Cell> {
    let progress = match node.progress {
        Some(_) => Cell::new(figure::size(received(node))),
        None => none(),
    };
    let sent = if node.served > 0 { Cell::new(figure::size(node.served)) } else { none() };
    vec![
        Cell::new(escape::line(&node.name)),
        Cell::new(escape::line(&node.program)),
        Cell::new(node.incarnation.to_string()),
        Cell::toned(node.phase.label(), phase_tone(node.phase)),
        progress,
        sent,
        rate(mean_rate(state, node)),
    ]
}

fn group_row(state: &RunState, group: &Group<'_>) -> Vec<Cell> {
    let sum = |of: &dyn Fn(&NodeState) -> u64| group.nodes.iter().fold(0u64, |sum, node| sum.saturating_add(of(node)));
    let size = |bytes| if bytes > 0 { Cell::new(figure::size(bytes)) } else { none() };
    let (words, tone) = tally(&group.nodes);
    let mean = sum(&|node| mean_rate(state, node).as_bits_per_sec());
    vec![
        Cell::new(format!("{} ×{}", escape::line(group.name), group.nodes.len())),
        Cell::new(group.nodes.first().map(|node| escape::line(&node.program)).unwrap_or_default()),
        Cell::new(sum(&|node| u64::from(node.incarnation)).to_string()),
        Cell::toned(words, tone),
        size(sum(&received)),
        size(sum(&|node| node.served)),
        rate(Rate::from_bits_per_sec(mean)),
    ]
}

fn none() -> Cell {
    Cell::toned("-", Tone::Faint)
}

fn rate(rate: Rate) -> Cell {
    if rate == Rate::default() { none() } else { Cell::new(figure::rate(rate)) }
}

/// Bytes that a node has received. A program that reports its progress alone has received at least that.
pub(crate) fn received(node: &NodeState) -> u64 {
    node.progress.map_or(0, |progress| progress.received.max(progress.bytes))
}

/// What a node has received, or else sent, over the time from t = 0 to its own end or the run's; the time in which it
/// was dead counts.
pub(crate) fn mean_rate(state: &RunState, node: &NodeState) -> Rate {
    let begin = state.started_at.unwrap_or(Span::ZERO);
    let end = state.took.map_or(state.now, |took| (begin + took).min(state.now));
    let end = match node.phase {
        NodePhase::Exited(_) => node.exited_at.unwrap_or(end).min(end),
        _ => end,
    };
    let bytes = if node.progress.is_some() { received(node) } else { node.served };
    Rate::over(Size::from_bytes(bytes), end.saturating_sub(begin))
}

/// How many nodes are in which state, and the gravest of their tones.
pub(crate) fn tally(nodes: &[&NodeState]) -> (String, Tone) {
    let mut counts: BTreeMap<String, (usize, Tone)> = BTreeMap::new();
    for node in nodes {
        counts.entry(node.phase.label()).or_insert((0, phase_tone(node.phase))).0 += 1;
    }
    let has = |tone| counts.values().any(|(_, other)| *other == tone);
    let gravest = [Tone::Bad, Tone::Notice, Tone::Good].into_iter().find(|tone| has(*tone)).unwrap_or(Tone::Faint);
    let words: Vec<String> = counts.iter().map(|(label, (count, _))| format!("{count} {label}")).collect();
    (words.join(", "), gravest)
}

/// What a node is doing, and in its which life if not the first.
pub(crate) fn state_label(node: &NodeState) -> String {
    match node.incarnation {
        0 | 1 => node.phase.label(),
        n => format!("{} #{n}", node.phase.label()),
    }
}

/// The tone of what a node is doing.
pub(crate) fn phase_tone(phase: NodePhase) -> Tone {
    match phase {
        NodePhase::Waiting | NodePhase::Stopped => Tone::Faint,
        NodePhase::Starting | NodePhase::Paused => Tone::Notice,
        NodePhase::Ready | NodePhase::Exited(ExitStatus::Code(0)) => Tone::Good,
        NodePhase::Exited(_) | NodePhase::Killed(_) | NodePhase::Unstartable => Tone::Bad,
    }
}
