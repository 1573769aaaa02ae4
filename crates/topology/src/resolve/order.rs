//! Which nodes wait for which at the start.

use std::collections::BTreeSet;

use super::names::Directory;
use super::speaks_for_entry;
use crate::findings::Findings;
use crate::plan::{NodeId, Program, Role};
use crate::yaml::At;

/// For each node those that must be ready before it: what its role refers to, and its `after`.
pub(super) fn resolve_order(
    programs: &[Option<Program>],
    names: &Directory<'_>,
    findings: &mut Findings<'_>,
) -> Vec<Vec<NodeId>> {
    let mut order: Vec<Vec<NodeId>> = Vec::with_capacity(programs.len());
    for (node, program) in names.ids().zip(programs) {
        let mut before: BTreeSet<NodeId> = program.iter().flat_map(referred).collect();
        let entry = names.entry(node);
        let mut silent = Findings::silent();
        if let Some(after) = &names.spec(node).common.after {
            let place = after.0.first().map_or(entry.place, |name| name.place);
            let findings = if speaks_for_entry(node, names) { &mut *findings } else { &mut silent };
            before.extend(names.all(after, place, findings).into_iter().flatten());
        }
        order.push(before.into_iter().collect());
    }
    if let Some(cycle) = find_cycle(&order) {
        let path: Vec<&str> = cycle.iter().chain(cycle.first()).map(|node| names.name(*node)).collect();
        let At { place, .. } = names.entry(cycle[0]);
        let message = format!("nodes wait for each other to be ready: {}", path.join(" → "));
        let help = "each waits for what its role refers to and for its `after`; one of them must go";
        findings.invalid_but(*place, message, help);
    }
    order
}

/// The nodes that a role talks to from its start.
pub(super) fn referred(program: &Program) -> Vec<NodeId> {
    match program {
        Program::Run { .. }
        | Program::Role(Role::FileServer { .. } | Role::P2mpReceiver { .. } | Role::Tracker { .. } | Role::Router) => {
            Vec::new()
        }
        Program::Role(Role::CheckServer { watch, .. }) => watch.clone(),
        Program::Role(Role::Downloader { from, check, .. }) => from.iter().chain(check).copied().collect(),
        Program::Role(Role::P2mpSender { to, .. }) => to.clone(),
        Program::Role(Role::Peer { tracker, .. }) => tracker.iter().copied().collect(),
        Program::Role(Role::P2pDownloader { tracker, .. }) => vec![*tracker],
    }
}

/// Some cycle, beginning at its first node in the file; each waits for the one after it.
fn find_cycle(order: &[Vec<NodeId>]) -> Option<Vec<NodeId>> {
    let mut waits: Vec<usize> = order.iter().map(Vec::len).collect();
    let mut waiters: Vec<Vec<usize>> = vec![Vec::new(); order.len()];
    for (node, before) in order.iter().enumerate() {
        for other in before {
            waiters[other.index()].push(node);
        }
    }
    let mut ready: Vec<usize> = (0..order.len()).filter(|node| waits[*node] == 0).collect();
    while let Some(node) = ready.pop() {
        for waiter in &waiters[node] {
            waits[*waiter] -= 1;
            if waits[*waiter] == 0 {
                ready.push(*waiter);
            }
        }
    }
    // What still waits waits for something that still waits: walking there must come back to a node seen before.
    let mut node = waits.iter().position(|waits| *waits > 0)?;
    let mut path: Vec<usize> = Vec::new();
    while !path.contains(&node) {
        path.push(node);
        node = order[node].iter().map(|other| other.index()).find(|other| waits[*other] > 0)?;
    }
    let start = path.iter().position(|seen| *seen == node)?;
    let mut cycle = path.split_off(start);
    let first = cycle.iter().enumerate().min_by_key(|(_, node)| **node).map_or(0, |(index, _)| index);
    cycle.rotate_left(first);
    Some(cycle.into_iter().map(|node| NodeId(node as u32)).collect())
}
