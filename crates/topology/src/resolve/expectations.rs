//! Expectations: what must hold of which node, and that it can.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::events::{Ground, transferred};
use super::patterns::{parse_comparison, parse_pattern};
use crate::findings::Findings;
use crate::plan::{Action, Event, Expectation, Expected, FileId, FileSource, NodeId, NodeState, Program, Role};
use crate::source::Place;
use crate::spec::ExpectSpec;
use crate::yaml::At;

/// Bound of all expectations, those of a group counted for each member.
const MAX_EXPECTATIONS: usize = 50_000;

/// What the events do to a node.
#[derive(Clone, Copy, Default)]
struct Fate {
    ended: bool,
    paused: bool,
    signalled: bool,
}

pub(super) fn resolve_expectations(
    ground: &Ground<'_, '_>,
    events: &[Event],
    findings: &mut Findings<'_>,
) -> Vec<Expectation> {
    let fates = fates(events, ground.names.len());
    let mut list: Vec<Expectation> = Vec::new();
    let mut states: BTreeMap<NodeId, NodeState> = BTreeMap::new();
    let mut exits: BTreeMap<NodeId, i32> = BTreeMap::new();
    for (name, spec) in ground.spec.expect.iter() {
        let Some(nodes) = ground.names.nodes(name, findings) else { continue };
        let Some(&first) = nodes.first() else { continue };
        let expected = resolve_one(first, name, spec, ground, findings);
        check_possible(&nodes, name, &spec.value, ground, &fates, findings);
        for node in nodes {
            let (state, exit) = (spec.value.state.as_ref(), spec.value.exit.as_ref());
            let other_state =
                state.and_then(|state| states.insert(node, state.value).filter(|old| *old != state.value));
            let other_exit = exit.and_then(|exit| exits.insert(node, exit.value).filter(|old| *old != exit.value));
            if other_state.is_some() || other_exit.is_some() {
                let node = ground.names.name(node);
                let message = format!("`{node}` is expected otherwise by another entry, for it or its group");
                findings.invalid(name.place, message);
                break;
            }
            for (what, text) in &expected {
                let label = format!("{}: {text}", ground.names.name(node));
                list.push(Expectation { node, what: what.clone(), label });
            }
            if list.len() > MAX_EXPECTATIONS {
                findings
                    .invalid(name.place, format!("more than {MAX_EXPECTATIONS} expectations, counted for each node"));
                return list;
            }
        }
    }
    list
}

fn fates(events: &[Event], nodes: usize) -> Vec<Fate> {
    let mut fates = vec![Fate::default(); nodes];
    for event in events {
        let (touched, change): (&[NodeId], fn(&mut Fate)) = match &event.action {
            Action::Kill(nodes) | Action::Crash(nodes) | Action::Stop(nodes) => (nodes, |fate| fate.ended = true),
            Action::Restart(nodes) | Action::Signal(nodes, _) => (nodes, |fate| fate.signalled = true),
            Action::Pause(nodes) => (nodes, |fate| fate.paused = true),
            _ => continue,
        };
        for node in touched {
            change(&mut fates[node.index()]);
        }
    }
    fates
}

/// What is expected of each node of the entry, with its words. All nodes of an entry are alike, so `node` stands for all.
fn resolve_one(
    node: NodeId,
    name: &At<String>,
    spec: &At<ExpectSpec>,
    ground: &Ground<'_, '_>,
    findings: &mut Findings<'_>,
) -> Vec<(Expected, String)> {
    let ExpectSpec { exit, state, within, file, wasted, throughput, prints, never_prints } = &spec.value;
    let mut expected = Vec::new();
    if let Some(exit) = exit {
        if !(0..=255).contains(&exit.value) {
            findings.invalid(exit.place, format!("an exit status is 0 to 255, not {}", exit.value));
        }
        expected.push((Expected::Exit(exit.value), format!("exit {}", exit.value)));
    }
    if let Some(state) = state {
        let word = match state.value {
            NodeState::Running => "running",
            NodeState::Paused => "paused",
            NodeState::Exited => "exited",
            NodeState::Killed => "killed",
        };
        expected.push((Expected::State(state.value), format!("state {word}")));
    }
    if let Some(within) = within {
        expected.push((Expected::Within(within.value), format!("within {}", within.value)));
    }
    if let Some(file) = file
        && let Some(id) = ground.names.file(file, findings)
    {
        match ground.names.spec(node).program.out() {
            Some(out) => {
                check_served(node, id, file, ground, findings);
                let text = format!("file {} is {}", out, file.value);
                expected.push((Expected::File { out: PathBuf::from(out), file: id }, text));
            }
            None => {
                let message = format!("`{}` has no `out` to compare with `{}`", name.value, file.value);
                findings.invalid(file.place, message);
            }
        }
    }
    if let Some(wasted) = wasted
        && let Some((comparison, bound)) = parse_comparison(wasted, "< 2%", findings)
    {
        expected.push((Expected::Wasted(comparison, bound), format!("wasted {} {bound}", comparison.symbol())));
    }
    if let Some(throughput) = throughput
        && let Some((comparison, bound)) = parse_comparison(throughput, ">= 20Mbit", findings)
    {
        expected.push((Expected::Throughput(comparison, bound), format!("throughput {} {bound}", comparison.symbol())));
    }
    for pattern in prints.iter().flat_map(|names| names.iter()) {
        if let Some(regex) = parse_pattern(pattern, findings) {
            expected.push((Expected::Prints(regex), format!("prints {}", pattern.value)));
        }
    }
    for pattern in never_prints.iter().flat_map(|names| names.iter()) {
        if let Some(regex) = parse_pattern(pattern, findings) {
            expected.push((Expected::NeverPrints(regex), format!("never prints {}", pattern.value)));
        }
    }
    if expected.is_empty() && spec.value == ExpectSpec::default() {
        findings.invalid(name.place, format!("nothing is expected of `{}`", name.value));
    }
    expected
}

/// A node cannot come to have a file that nobody brings it.
fn check_served(node: NodeId, wanted: FileId, name: &At<String>, ground: &Ground<'_, '_>, findings: &mut Findings<'_>) {
    let brought = transferred(node, ground);
    let program = &ground.programs[node.index()];
    if let (Some(Program::Role(Role::P2mpReceiver { .. })), []) = (program, &brought[..]) {
        let message = format!("no sender names `{}`, so it never has `{}`", ground.names.name(node), name.value);
        findings.invalid(name.place, message);
    }
    let generated = |file: FileId| {
        matches!(ground.files.get(file.index()).map(|file| &file.source), Some(FileSource::Generated { .. }))
    };
    let is_another = |file: &FileId| *file != wanted && generated(*file) && generated(wanted);
    if let Some(other) = brought.first().filter(|_| brought.iter().all(is_another)) {
        let other = &ground.files[other.index()].name;
        let message = match program {
            Some(Program::Role(Role::P2mpReceiver { .. })) => format!("it is sent `{other}`"),
            Some(Program::Role(Role::P2pDownloader { .. })) => format!("it downloads `{other}`"),
            _ => format!("its servers serve `{other}`"),
        };
        findings.invalid(name.place, format!("{message}, so it never has `{}`", name.value));
    }
}

/// Refuses what is certain to fail.
fn check_possible(
    nodes: &[NodeId],
    name: &At<String>,
    spec: &ExpectSpec,
    ground: &Ground<'_, '_>,
    fates: &[Fate],
    findings: &mut Findings<'_>,
) {
    let kind = ground.names.spec(nodes[0]).program.kind();
    let never = |doomed: fn(&Fate) -> bool| nodes.iter().find(|node| doomed(&fates[node.index()]));
    let mut refuse = |place: Place, node: NodeId, why: &str| {
        findings.invalid(place, format!("`{}` {why}", ground.names.name(node)));
    };
    let serves = format!("is a {}: it serves until it is ended, and no event ends it", kind.name);
    if let (Some(exit), true, Some(node)) = (&spec.exit, kind.serves, never(|fate| !fate.ended && !fate.signalled)) {
        refuse(exit.place, *node, &serves);
    }
    match &spec.state {
        Some(At { value: NodeState::Exited, place }) if kind.serves => {
            if let Some(node) = never(|fate| !fate.ended && !fate.signalled) {
                refuse(*place, *node, &serves);
            }
        }
        Some(At { value: NodeState::Killed, place }) => {
            if let Some(node) = never(|fate| !fate.ended) {
                refuse(*place, *node, "is not killed by any event");
            }
        }
        Some(At { value: NodeState::Paused, place }) => {
            if let Some(node) = never(|fate| !fate.paused) {
                refuse(*place, *node, "is not paused by any event");
            }
        }
        Some(At { value: NodeState::Running, place }) if spec.exit.is_some() => {
            refuse(*place, nodes[0], "cannot have an `exit` and be running at the end");
        }
        _ => {}
    }
    for (field, place) in [
        ("within", spec.within.as_ref().map(|at| at.place)),
        ("throughput", spec.throughput.as_ref().map(|at| at.place)),
    ] {
        if let Some(place) = place.filter(|_| spec.exit.is_none()) {
            let message = format!("`{field}` is about when `{}` exits, so it needs `exit`", name.value);
            findings.invalid_but(place, message, "add `exit: 0`; the run then waits for it");
        }
    }
    for (field, place) in [
        ("wasted", spec.wasted.as_ref().map(|at| at.place)),
        ("throughput", spec.throughput.as_ref().map(|at| at.place)),
    ] {
        if let Some(place) = place.filter(|_| !kind.reports) {
            findings.invalid(
                place,
                format!("`{}` is a {}, which fetches nothing, so it has no `{field}`", name.value, kind.name),
            );
        }
    }
}
