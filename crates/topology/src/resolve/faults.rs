//! The actions of events that are more than a list of nodes: signals, partitions, changes of links.

use std::collections::BTreeMap;

use link::Profile;

use super::events::{Ground, base, touched};
use super::links::{check_change, check_complete};
use super::routes::way_around;
use crate::findings::Findings;
use crate::plan::{Action, NetworkId, NodeId, Program, Role};
use crate::spec::{EventSpec, LinkOn, LinkSpec, LinkTarget, Names, SignalSpec};
use crate::yaml::{At, listed};

/// What the links are by the changes without `for:` of the entries above.
pub(super) struct LinkChanges {
    pub(super) permanent: BTreeMap<(NodeId, usize), Profile>,
    /// How many profiles all events together made.
    pub(super) profiles: usize,
}

/// Bound of the profiles that all changes together make.
const MAX_PROFILES: usize = 65_536;

/// Linux numbers them alike on every architecture that Rust's standard library supports with glibc, MIPS and SPARC
/// aside. KILL, STOP and CONT are missing on purpose: they are `kill`, `pause` and `resume`.
const SIGNALS: &[(&str, i32)] = &[
    ("HUP", 1),
    ("INT", 2),
    ("QUIT", 3),
    ("ABRT", 6),
    ("USR1", 10),
    ("SEGV", 11),
    ("USR2", 12),
    ("PIPE", 13),
    ("ALRM", 14),
    ("TERM", 15),
    ("CHLD", 17),
    ("WINCH", 28),
];
/// The same, with what to write instead.
const FAULTS: &[(&str, i32, &str)] = &[("KILL", 9, "kill"), ("CONT", 18, "resume"), ("STOP", 19, "pause")];
const LAST_SIGNAL: i32 = 64;

pub(super) fn resolve_signal(
    signal: &At<SignalSpec>,
    ground: &Ground<'_, '_>,
    findings: &mut Findings<'_>,
) -> Option<Action> {
    let SignalSpec { node, signal: word } = &signal.value;
    let nodes = ground.names.all(node, signal.place, findings);
    let text = word.value.0.trim();
    let name = text.strip_prefix("SIG").unwrap_or(text);
    let number: Option<i32> = name.parse().ok();
    if let Some((name, _, action)) = FAULTS.iter().find(|(known, value, _)| *known == name || number == Some(*value)) {
        let message = format!("{name} is a fault of its own");
        findings.invalid_but(word.place, message, format!("write `{action}: …`, so that the run knows of it"));
        return None;
    }
    let by_name = SIGNALS.iter().find(|(known, _)| *known == name).map(|(_, value)| *value);
    let Some(number) = by_name.or(number.filter(|number| (1..=LAST_SIGNAL).contains(number))) else {
        let known: Vec<&str> = SIGNALS.iter().map(|(name, _)| *name).collect();
        let help = format!("one of {}, or a number from 1 to {LAST_SIGNAL}", listed(&known));
        findings.invalid_but(word.place, format!("`{text}` is not a signal"), help);
        return None;
    };
    Some(Action::Signal(nodes?, number))
}

pub(super) fn resolve_partition(
    lists: &At<Vec<Names>>,
    ground: &Ground<'_, '_>,
    findings: &mut Findings<'_>,
) -> Option<Action> {
    if lists.value.len() < 2 {
        let help = "write `[[client], [server-1, server-2]]`; nodes in different lists cannot reach each other";
        findings.invalid_but(lists.place, "a partition has two lists of nodes at least", help);
        return None;
    }
    let mut listed_in: BTreeMap<NodeId, usize> = BTreeMap::new();
    let mut parts = Vec::new();
    for (index, list) in lists.value.iter().enumerate() {
        let place = list.0.first().map_or(lists.place, |name| name.place);
        let nodes = ground.names.all(list, place, findings)?;
        for node in &nodes {
            if listed_in.insert(*node, index).is_some() {
                findings.invalid(place, format!("`{}` is in two lists of the partition", ground.names.name(*node)));
                return None;
            }
        }
        parts.push(nodes);
    }
    let is_router = |node: NodeId| matches!(ground.programs[node.index()], Some(Program::Role(Role::Router)));
    if let Some((from, to, over)) = way_around(&parts, ground.ways, ground.interfaces, is_router) {
        let name = |node: NodeId| ground.names.name(node);
        let over: Vec<&str> = over.into_iter().map(name).collect();
        let message =
            format!("`{}` still reaches `{}` over {}, which the lists leave out", name(from), name(to), listed(&over));
        let help = "a partition acts between neighbours: put the routers into the lists, each on its side";
        findings.invalid_but(lists.place, message, help);
        return None;
    }
    Some(Action::Partition(parts))
}

pub(super) fn resolve_link_change(
    target: &At<LinkTarget>,
    spec: &EventSpec,
    ground: &Ground<'_, '_>,
    changes: &mut LinkChanges,
    findings: &mut Findings<'_>,
) -> Option<Action> {
    let Some(set) = &spec.set else {
        findings.invalid_but(target.place, "`link` does not say what changes", "add `set: {…}`");
        return None;
    };
    check_change(&set.value, findings);
    let names = match &target.value {
        LinkTarget::One(name) => Names(vec![At { value: name.clone(), place: target.place }]),
        LinkTarget::Many(names) => Names(names.clone()),
        LinkTarget::On(on) => on.node.clone(),
    };
    let nodes = ground.names.all(&names, target.place, findings);
    let network = match &target.value {
        LinkTarget::On(LinkOn { network, .. }) => {
            let position = ground.networks.iter().position(|known| known.name == network.value);
            if position.is_none() {
                let known = ground.networks.iter().map(|network| network.name.as_str());
                findings.unknown(network.place, "network", &network.value, known);
            }
            Some(NetworkId(position? as u32))
        }
        _ => None,
    };
    let nodes = nodes?;
    let interfaces = touched(&nodes, network, ground.interfaces);
    if let Some(absent) = nodes.iter().find(|node| !interfaces.iter().any(|(touched, _)| touched == *node)) {
        findings.invalid(target.place, format!("`{}` is not on that network", ground.names.name(*absent)));
        return None;
    }
    changes.profiles += interfaces.len();
    if changes.profiles > MAX_PROFILES {
        findings.invalid(target.place, format!("the events up to here change more than {MAX_PROFILES} links"));
        return None;
    }
    let mut profiles = Vec::with_capacity(interfaces.len());
    let mut sensible = true;
    for interface in interfaces {
        let before = changes.permanent.get(&interface).unwrap_or_else(|| base(ground.interfaces, interface));
        let mut profile = before.clone();
        set.value.apply(&mut profile);
        // One message is enough for a change that makes no sense on many links.
        sensible = sensible && is_sensible(set, &profile, findings);
        if spec.lasts.is_none() {
            changes.permanent.insert(interface, profile.clone());
        }
        profiles.push((interface.0, interface.1, profile));
    }
    Some(Action::SetLink { nodes, network, profiles })
}

fn is_sensible(set: &At<LinkSpec>, profile: &Profile, findings: &mut Findings<'_>) -> bool {
    let mut halves = set.value.halves();
    match &set.value {
        LinkSpec::Alike(half) => {
            check_complete(&profile.up, half, set.place, findings)
                && (profile.up == profile.down || check_complete(&profile.down, half, set.place, findings))
        }
        LinkSpec::Halves { up, .. } => {
            let up = up.as_ref().and_then(|_| halves.next());
            up.is_none_or(|half| check_complete(&profile.up, half, set.place, findings))
                && halves.next().is_none_or(|half| check_complete(&profile.down, half, set.place, findings))
        }
    }
}

/// What a person reads of the action, in the file's own words.
pub(super) fn label(spec: &EventSpec) -> String {
    let on_nodes = [
        ("kill", &spec.kill),
        ("crash", &spec.crash),
        ("stop", &spec.stop),
        ("pause", &spec.pause),
        ("resume", &spec.resume),
        ("restart", &spec.restart),
        ("revive", &spec.revive),
    ];
    if let Some((name, Some(nodes))) = on_nodes.iter().find(|(_, nodes)| nodes.is_some()) {
        let wiped = if spec.disk.as_ref().is_some_and(|disk| disk.value == crate::spec::Disk::Wipe) {
            " with an empty disk"
        } else {
            ""
        };
        return format!("{name} {}{wiped}", joined(&nodes.value));
    }
    if let Some(At { value: SignalSpec { node, signal }, .. }) = &spec.signal {
        return format!("signal {} to {}", signal.value.0, joined(node));
    }
    if let Some(lists) = &spec.partition {
        return format!("partition {}", lists.value.iter().map(joined).collect::<Vec<_>>().join(" | "));
    }
    let target = spec.link.as_ref().map_or(String::new(), |target| match &target.value {
        LinkTarget::One(name) => name.clone(),
        LinkTarget::Many(names) => joined(&Names(names.clone())),
        LinkTarget::On(on) => format!("{} on {}", joined(&on.node), on.network.value),
    });
    let set = spec.set.as_ref().and_then(|set| serde_json::to_string(&set.value).ok()).unwrap_or_default();
    format!("link {target} {}", set.replace('"', "").replace(':', ": ").replace(',', ", "))
}

fn joined(names: &Names) -> String {
    names.iter().map(|name| name.value.as_str()).collect::<Vec<_>>().join(", ")
}
