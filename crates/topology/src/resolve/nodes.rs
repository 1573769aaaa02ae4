//! Nodes: programs, readiness, disks, environment.

use std::collections::BTreeMap;

use machine::{Seed, Span};

use super::names::Directory;
use super::order::referred;
use super::patterns::{check_regex, parse_pattern};
use super::{Programs, speaks_for_entry};
use crate::findings::Findings;
use crate::plan::{FileId, Interface, Node, NodeId, Program, Ready, Role, Route, TransferMode, Ways};
use crate::roles::check_path;
use crate::spec::{CommonSpec, ReadySpec};
use crate::yaml::At;

const DEFAULT_GRACE: Span = Span::from_secs(5);
const MAX_GRACE: Span = Span::from_secs(600);
/// Of all variables of a node together.
const MAX_ENV_BYTES: usize = 32 << 10;
const MAX_DISK_FILES: usize = 256;
/// The environment that the testbed itself gives.
const RESERVED_PREFIX: &str = "TESTBED_";

/// What each node runs. `None` after a finding.
pub(super) fn resolve_programs(names: &Directory<'_>, findings: &mut Findings<'_>) -> Programs {
    let mut programs: Programs = Vec::with_capacity(names.len());
    for node in names.ids() {
        let program = if speaks_for_entry(node, names) {
            names.spec(node).program.resolve(names.entry(node).place, names, findings)
        } else {
            programs.last().cloned().flatten()
        };
        programs.push(program);
    }
    programs
}

/// Whether two nodes have a network in common.
pub(super) fn share_a_network(a: NodeId, b: NodeId, interfaces: &[Vec<Interface>]) -> bool {
    let (a, b) = (&interfaces[a.index()], &interfaces[b.index()]);
    a.iter().any(|one| b.iter().any(|other| other.network == one.network))
}

/// Refuses roles that refer to nodes which they cannot reach, or not in the way that they are told to.
pub(super) fn check_reachable(
    names: &Directory<'_>,
    programs: &[Option<Program>],
    interfaces: &[Vec<Interface>],
    ways: &Ways<'_>,
    findings: &mut Findings<'_>,
) {
    for (node, program) in names.ids().zip(programs).filter(|(node, _)| speaks_for_entry(*node, names)) {
        let others = program.iter().flat_map(referred);
        let placed = |node: &NodeId| !interfaces[node.index()].is_empty();
        let others: Vec<NodeId> = others.filter(placed).filter(|_| placed(&node)).collect();
        let (entry, name) = (names.entry(node), names.name(node));
        if let Some(far) = others.iter().find(|other| ways.nearest(node, **other).is_none()) {
            let far = names.name(*far);
            let message = format!("`{name}` and `{far}` are on no network together, and no router joins theirs");
            findings.invalid_but(entry.place, message, "add a node with `role: router` that is on both networks");
            continue;
        }
        let beyond = others.iter().find(|other| !share_a_network(node, **other, interfaces));
        if let (Some(beyond), true) = (beyond, program.as_ref().is_some_and(insists_on_multicast)) {
            let message =
                format!("`{name}` sends to a group, and a router is between it and `{}`", names.name(*beyond));
            findings.invalid_but(entry.place, message, "routers forward no multicast; leave `multicast` out");
        }
    }
}

fn insists_on_multicast(program: &Program) -> bool {
    matches!(program, Program::Role(Role::P2mpSender { mode: TransferMode::Fast { multicast: Some(true), .. }, .. }))
}

/// Puts the nodes together. `None` after a finding about a program.
pub(super) fn assemble(
    seed: Seed,
    names: &Directory<'_>,
    programs: Programs,
    order: Vec<Vec<NodeId>>,
    places: impl Iterator<Item = (Vec<Interface>, Vec<Route>)>,
    findings: &mut Findings<'_>,
) -> Option<Vec<Node>> {
    let mut nodes: Vec<Node> = Vec::with_capacity(programs.len());
    let mut complete = true;
    for (((id, program), after), (interfaces, routes)) in names.ids().zip(programs).zip(order).zip(places) {
        let name = names.name(id).to_owned();
        let common = &names.spec(id).common;
        let mut silent = Findings::silent();
        let findings = if speaks_for_entry(id, names) { &mut *findings } else { &mut silent };
        let is_role = names.spec(id).program.role_name().is_some();
        let ready = resolve_ready(common.ready.as_ref(), is_role, findings);
        let env = resolve_env(common, findings);
        let files = resolve_disk(common, names, findings);
        let root = resolve_user(common, findings);
        let stop_grace = resolve_grace(common, findings);
        if let Some(place) = &common.place {
            findings.not_yet(place.place, "`place`");
        }
        let Some(program) = program else {
            complete = false;
            continue;
        };
        nodes.push(Node {
            seed: seed.derive(&format!("node/{name}")),
            group: names.entry(id).value.clone(),
            name,
            program,
            after,
            ready,
            interfaces,
            routes,
            env,
            files,
            root,
            stop_grace,
        });
    }
    complete.then_some(nodes)
}

fn resolve_ready(ready: Option<&At<ReadySpec>>, is_role: bool, findings: &mut Findings<'_>) -> Ready {
    let default = if is_role { Ready::Event } else { Ready::Started };
    let Some(ready) = ready else { return default };
    let ReadySpec { tcp, log, file } = &ready.value;
    match (tcp, log, file) {
        (Some(port), None, None) => match u16::try_from(port.value) {
            Ok(number) if number > 0 => Ready::Tcp(number),
            _ => {
                findings.invalid(port.place, format!("a TCP port is 1 to 65535, not {}", port.value));
                default
            }
        },
        (None, Some(log), None) => {
            let between_slashes = log.value.len() > 1 && log.value.starts_with('/') && log.value.ends_with('/');
            let pattern = if between_slashes {
                parse_pattern(log, findings)
            } else {
                check_regex(&log.value, log.place, findings)
            };
            pattern.map_or(default, Ready::Log)
        }
        (None, None, Some(file)) => {
            check_path(file, findings);
            Ready::File(file.value.clone().into())
        }
        _ => {
            findings.invalid(ready.place, "`ready` is one of `tcp`, `log`, `file`");
            default
        }
    }
}

fn resolve_env(common: &CommonSpec, findings: &mut Findings<'_>) -> BTreeMap<String, String> {
    let mut env = BTreeMap::new();
    let Some(specs) = &common.env else { return env };
    let bytes: usize = specs.value.iter().map(|(name, value)| name.value.len() + value.0.len()).sum();
    if bytes > MAX_ENV_BYTES {
        findings.invalid(specs.place, format!("the variables of a node have at most {MAX_ENV_BYTES} bytes"));
        return env;
    }
    for (name, value) in specs.value.iter() {
        if name.value.is_empty() || name.value.contains(['=', '\0']) {
            findings.invalid(name.place, format!("`{}` is not the name of a variable", name.value));
        } else if name.value.starts_with(RESERVED_PREFIX) {
            findings.invalid(
                name.place,
                format!("`{}` is the testbed's own; it sets all `{RESERVED_PREFIX}…`", name.value),
            );
        }
        if value.0.contains('\0') {
            findings.invalid(name.place, "the value of a variable cannot contain NUL");
        }
        env.insert(name.value.clone(), value.0.clone());
    }
    env
}

fn resolve_disk(common: &CommonSpec, names: &Directory<'_>, findings: &mut Findings<'_>) -> BTreeMap<String, FileId> {
    let mut files = BTreeMap::new();
    let Some(specs) = &common.files else { return files };
    if specs.value.0.len() > MAX_DISK_FILES {
        findings.invalid(specs.place, format!("a node's disk begins with at most {MAX_DISK_FILES} files"));
        return files;
    }
    for (path, file) in &specs.value.0 {
        check_path(&At { value: path.clone(), place: file.place }, findings);
        if let Some(id) = names.file(file, findings) {
            files.insert(path.clone(), id);
        }
    }
    files
}

fn resolve_user(common: &CommonSpec, findings: &mut Findings<'_>) -> bool {
    let Some(user) = &common.user else { return false };
    if user.value != "root" {
        let message = format!("`user` can only be `root`, not `{}`", user.value);
        findings.invalid_but(
            user.place,
            message,
            "without `user` the program keeps your own uid, without capabilities",
        );
    }
    true
}

fn resolve_grace(common: &CommonSpec, findings: &mut Findings<'_>) -> Span {
    let Some(grace) = &common.stop_grace else { return DEFAULT_GRACE };
    if grace.value > MAX_GRACE {
        findings.invalid(grace.place, format!("a grace is at most {MAX_GRACE}"));
    }
    grace.value
}
