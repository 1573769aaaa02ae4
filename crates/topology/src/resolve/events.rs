//! Events: one trigger, one action, and what they refer to.

use std::collections::{BTreeMap, BTreeSet};

use link::Profile;
use machine::Span;

use super::faults::{self, LinkChanges};
use super::names::Directory;
use super::patterns::parse_condition;
use crate::findings::Findings;
use crate::plan::{
    Action, Event, File, FileId, FileSource, Interface, Network, NodeId, Program, Role, TransferMode, Trigger, Ways,
};
use crate::source::Place;
use crate::spec::{EventSpec, LinkSpec, Spec};
use crate::yaml::{At, listed};

/// More entries are refused.
const MAX_EVENTS: usize = 10_000;
/// Bound of the nodes that all events together touch, groups counted by their members.
const MAX_TARGETS: usize = 1_000_000;

/// What events are resolved against.
pub(super) struct Ground<'a, 's> {
    pub(super) spec: &'s Spec,
    pub(super) names: &'a Directory<'s>,
    pub(super) files: &'a [File],
    pub(super) programs: &'a [Option<Program>],
    pub(super) networks: &'a [Network],
    pub(super) interfaces: &'a [Vec<Interface>],
    pub(super) ways: &'a Ways<'a>,
    pub(super) timeout: Span,
}

/// The events, and beside each what it changes of links.
pub(super) fn resolve_events(
    ground: &Ground<'_, '_>,
    findings: &mut Findings<'_>,
) -> (Vec<Event>, Vec<Option<LinkSpec>>) {
    let specs = &ground.spec.events;
    if let Some(first_beyond) = specs.get(MAX_EVENTS) {
        findings.invalid(first_beyond.place, format!("{} events; a topology may have {MAX_EVENTS}", specs.len()));
        return (Vec::new(), Vec::new());
    }
    let mut changes = LinkChanges { permanent: BTreeMap::new(), profiles: 0 };
    let (mut events, mut named) = (Vec::new(), Vec::new());
    let mut targets = 0;
    for (index, spec) in specs.iter().enumerate() {
        let trigger = resolve_trigger(index, spec, ground, findings);
        let action = resolve_action(spec, ground, &mut changes, findings);
        if let Some(lasts) = spec.value.lasts.as_ref().filter(|lasts| lasts.value.is_zero()) {
            findings.invalid(lasts.place, "`for: 0s` would undo it at once");
        }
        let (Some(when), Some(action)) = (trigger, action) else { continue };
        targets += targets_of(&action);
        if targets > MAX_TARGETS {
            findings.invalid(spec.place, format!("the events up to here touch more than {MAX_TARGETS} nodes"));
            break;
        }
        named.push(spec.value.set.as_ref().map(|set| set.value.clone()));
        events.push(Event {
            when,
            action,
            lasts: spec.value.lasts.as_ref().map(|lasts| lasts.value),
            optional: spec.value.optional,
            line: if let Place::File { line, .. } = spec.place { line as usize } else { 0 },
            label: label(&spec.value),
        });
    }
    (events, named)
}

fn targets_of(action: &Action) -> usize {
    match action {
        Action::Kill(nodes)
        | Action::Crash(nodes)
        | Action::Stop(nodes)
        | Action::Pause(nodes)
        | Action::Resume(nodes)
        | Action::Restart(nodes)
        | Action::Signal(nodes, _)
        | Action::Revive { nodes, .. }
        | Action::SetLink { nodes, .. } => nodes.len(),
        Action::Partition(lists) => lists.iter().map(Vec::len).sum(),
    }
}

/// Whatever of `candidates` is there must be there exactly once. Gives its position.
fn exactly_one(
    candidates: &[(&'static str, Option<Place>)],
    what: &str,
    entry: Place,
    findings: &mut Findings<'_>,
) -> Option<&'static str> {
    let present: Vec<(&str, Place)> =
        candidates.iter().filter_map(|(name, place)| place.map(|place| (*name, place))).collect();
    match present.as_slice() {
        [(name, _)] => candidates.iter().map(|(known, _)| *known).find(|known| known == name),
        [] => {
            let known: Vec<&str> = candidates.iter().map(|(name, _)| *name).collect();
            findings.invalid_but(
                entry,
                format!("the event has no {what}"),
                format!("give it one of {}", listed(&known)),
            );
            None
        }
        [first, second, ..] => {
            let names: Vec<&str> = present.iter().map(|(name, _)| *name).collect();
            let message = format!("the event has {} {what}s: {}", names.len(), listed(&names));
            let later = if later(first.1, second.1) { first.1 } else { second.1 };
            findings.invalid_but(later, message, format!("an event has one {what}; make it two events"));
            None
        }
    }
}

/// Whether `a` stands after `b` in the file.
fn later(a: Place, b: Place) -> bool {
    match (a, b) {
        (Place::File { line, column, .. }, Place::File { line: other, column: other_column, .. }) => {
            (line, column) > (other, other_column)
        }
        _ => false,
    }
}

fn place_of<T>(field: &Option<At<T>>) -> Option<Place> {
    field.as_ref().map(|field| field.place)
}

fn resolve_trigger(
    index: usize,
    entry: &At<EventSpec>,
    ground: &Ground<'_, '_>,
    findings: &mut Findings<'_>,
) -> Option<Trigger> {
    let spec = &entry.value;
    let triggers = [("at", place_of(&spec.at)), ("after", place_of(&spec.after)), ("when", place_of(&spec.when))];
    exactly_one(&triggers, "trigger", entry.place, findings)?;
    if let Some(at) = &spec.at {
        if at.value >= ground.timeout && !spec.optional {
            let message = format!("the run ends at its timeout of {}, so this never happens", ground.timeout);
            findings.invalid_but(at.place, message, "raise `timeout`, or say `optional: true`");
        }
        return Some(Trigger::At(at.value));
    }
    if let Some(after) = &spec.after {
        if index == 0 {
            findings.invalid(after.place, "there is no entry above for `after` to count from");
        }
        return Some(Trigger::AfterPrevious(after.value));
    }
    let when = spec.when.as_ref()?;
    let trigger = parse_condition(when, ground.names, findings)?;
    let (Trigger::ProgressShare(node, _) | Trigger::ProgressBytes(node, _)) = trigger else { return Some(trigger) };
    let kind = ground.names.spec(node).program.kind();
    if !kind.reports {
        let message = format!("`{}` is a {}, which reports no progress", ground.names.name(node), kind.name);
        findings.invalid(findings.narrow(when.place, ground.names.name(node)), message);
    }
    if let Trigger::ProgressShare(..) = trigger
        && has_no_share(node, ground)
    {
        let name = ground.names.name(node);
        let message = format!("`{name}` is not told how long its file is, so it never has a share of it");
        let help = "stop-and-wait has no field for that; wait for bytes, or for its sender's progress";
        findings.invalid_but(findings.narrow(when.place, name), message, help);
    }
    if let (Trigger::ProgressBytes(_, bytes), Some(total)) = (&trigger, transferred_size(node, ground))
        && *bytes > total
        && !spec.optional
    {
        let message = format!("`{}` transfers {total}, so it never has {bytes}", ground.names.name(node));
        findings.invalid(when.place, message);
    }
    Some(trigger)
}

/// Whether a node is a receiver all of whose senders speak stop-and-wait.
fn has_no_share(node: NodeId, ground: &Ground<'_, '_>) -> bool {
    let is_receiver = matches!(ground.programs[node.index()], Some(Program::Role(Role::P2mpReceiver { .. })));
    is_receiver
        && ground.programs.iter().all(|program| match program {
            Some(Program::Role(Role::P2mpSender { to, mode: TransferMode::Fast { .. }, .. })) => !to.contains(&node),
            _ => true,
        })
}

/// The size of what a node downloads, sends or receives, where the file says it.
fn transferred_size(node: NodeId, ground: &Ground<'_, '_>) -> Option<machine::Size> {
    let sizes = transferred(node, ground).into_iter().map(|file| match ground.files.get(file.index())?.source {
        FileSource::Generated { size, .. } => Some(size),
        FileSource::Existing(_) => None,
    });
    // Of several that it may be, the largest; unknown, if any is.
    sizes.collect::<Option<Vec<_>>>()?.into_iter().max()
}

/// The files that a node may transfer; several where several senders name one receiver.
pub(super) fn transferred(node: NodeId, ground: &Ground<'_, '_>) -> Vec<FileId> {
    let role = |node: NodeId| match &ground.programs[node.index()] {
        Some(Program::Role(role)) => Some(role),
        _ => None,
    };
    match role(node) {
        Some(Role::Downloader { from, .. }) => from
            .iter()
            .find_map(|server| match role(*server) {
                Some(Role::FileServer { file, .. }) => Some(*file),
                _ => None,
            })
            .into_iter()
            .collect(),
        Some(Role::P2mpSender { file, .. } | Role::P2pDownloader { file, .. }) => vec![*file],
        Some(Role::P2mpReceiver { .. }) => ground
            .names
            .ids()
            .filter_map(|sender| match role(sender) {
                Some(Role::P2mpSender { to, file, .. }) if to.contains(&node) => Some(*file),
                _ => None,
            })
            .collect(),
        _ => Vec::new(),
    }
}

fn resolve_action(
    entry: &At<EventSpec>,
    ground: &Ground<'_, '_>,
    changes: &mut LinkChanges,
    findings: &mut Findings<'_>,
) -> Option<Action> {
    let spec = &entry.value;
    let on_nodes = [
        ("kill", &spec.kill, Action::Kill as fn(Vec<NodeId>) -> Action),
        ("crash", &spec.crash, Action::Crash),
        ("stop", &spec.stop, Action::Stop),
        ("pause", &spec.pause, Action::Pause),
        ("resume", &spec.resume, Action::Resume),
        ("restart", &spec.restart, Action::Restart),
        ("revive", &spec.revive, |nodes| Action::Revive { nodes, wipe: false }),
    ];
    let mut candidates: Vec<(&'static str, Option<Place>)> =
        on_nodes.iter().map(|(name, nodes, _)| (*name, place_of(nodes))).collect();
    candidates.push(("signal", place_of(&spec.signal)));
    candidates.push(("link", place_of(&spec.link)));
    candidates.push(("partition", place_of(&spec.partition)));
    let chosen = exactly_one(&candidates, "action", entry.place, findings)?;
    if let Some(lasts) = spec.lasts.as_ref().filter(|_| ["resume", "restart", "signal", "revive"].contains(&chosen)) {
        findings.invalid(lasts.place, format!("`for` undoes an action after a while; `{chosen}` cannot be undone"));
    }
    if let Some(disk) = spec.disk.as_ref().filter(|_| chosen != "revive") {
        findings.invalid(disk.place, format!("`disk` belongs to `revive`, not to `{chosen}`"));
    }
    if let Some(set) = spec.set.as_ref().filter(|_| chosen != "link") {
        findings.invalid(set.place, format!("`set` belongs to `link`, not to `{chosen}`"));
    }
    if let Some((_, Some(nodes), action)) = on_nodes.iter().find(|(name, ..)| *name == chosen) {
        let nodes = ground.names.all(&nodes.value, nodes.place, findings)?;
        let wiped = spec.disk.as_ref().is_some_and(|disk| disk.value == crate::spec::Disk::Wipe);
        return Some(match action(nodes) {
            Action::Revive { nodes, .. } => Action::Revive { nodes, wipe: wiped },
            action => action,
        });
    }
    if let Some(signal) = &spec.signal {
        return faults::resolve_signal(signal, ground, findings);
    }
    if let Some(lists) = &spec.partition {
        return faults::resolve_partition(lists, ground, findings);
    }
    faults::resolve_link_change(spec.link.as_ref()?, spec, ground, changes, findings)
}

/// What a person reads of an event, in the file's own words.
fn label(spec: &EventSpec) -> String {
    let trigger = match (&spec.at, &spec.after, &spec.when) {
        (Some(at), _, _) => format!("at {}", at.value),
        (_, Some(after), _) => format!("after {}", after.value),
        (_, _, Some(when)) => when.value.trim().to_owned(),
        _ => String::new(),
    };
    let lasts = spec.lasts.as_ref().map_or(String::new(), |lasts| format!(" for {}", lasts.value));
    format!("{trigger}: {}{lasts}", faults::label(spec))
}

/// The interfaces that a fault on links touches: of `nodes`, on `network` or on all.
pub(super) fn touched(
    nodes: &[NodeId],
    network: Option<crate::plan::NetworkId>,
    interfaces: &[Vec<Interface>],
) -> BTreeSet<(NodeId, usize)> {
    let of_node = |node: &NodeId| {
        let node = *node;
        let mine = interfaces[node.index()].iter().enumerate();
        mine.filter(move |(_, one)| network.is_none_or(|network| one.network == network)).map(move |(at, _)| (node, at))
    };
    nodes.iter().flat_map(of_node).collect()
}

/// The link of an interface as the topology gives it.
pub(super) fn base(interfaces: &[Vec<Interface>], (node, index): (NodeId, usize)) -> &Profile {
    &interfaces[node.index()][index].link
}
