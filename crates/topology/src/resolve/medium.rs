//! What carries each network, and why.

use crate::findings::Findings;
use crate::plan::{Action, Event, Interface, Medium, Network, NetworkId, NodeId, Pair};
use crate::spec::{Shaper, Spec};

/// A kernel bridge has 1024 port numbers, of which 0 is none.
const BRIDGE_PORTS: usize = 1023;

pub(super) fn choose_media(
    spec: &Spec,
    networks: &mut [Network],
    node_names: &[String],
    interfaces: &[Vec<Interface>],
    pairs: &[Pair],
    events: &[Event],
    findings: &mut Findings<'_>,
) {
    let shaper = spec.shaper.as_ref();
    if let Some(netem) = shaper.filter(|shaper| shaper.value == Shaper::Netem) {
        findings.not_yet(netem.place, "`shaper: netem`");
    }
    for (index, network) in networks.iter_mut().enumerate() {
        let id = NetworkId(index as u32);
        let why = if shaper.is_some_and(|shaper| shaper.value == Shaper::Relay) {
            Some("`shaper: relay` asks for it".to_owned())
        } else {
            reason(id, node_names, interfaces, pairs, events)
        };
        network.medium = if why.is_some() { Medium::Relay } else { Medium::Bridge };
        network.why = why.unwrap_or_else(|| "no link on it is impaired and no fault touches it".to_owned());
    }
}

/// Why the network needs the relay, if it does.
fn reason(
    id: NetworkId,
    node_names: &[String],
    interfaces: &[Vec<Interface>],
    pairs: &[Pair],
    events: &[Event],
) -> Option<String> {
    let is_on = |node: NodeId| interfaces[node.index()].iter().any(|interface| interface.network == id);
    let on_it = || interfaces.iter().zip(node_names).flat_map(|(all, name)| all.iter().map(move |one| (one, name)));
    if let Some((_, node)) = on_it().find(|(one, _)| one.network == id && !one.link.is_transparent()) {
        return Some(format!("the link of `{node}` is impaired"));
    }
    if let Some(pair) = pairs.iter().find(|pair| is_on(pair.from) && is_on(pair.to)) {
        let (from, to) = (&node_names[pair.from.index()], &node_names[pair.to.index()]);
        return Some(format!("the way from `{from}` to `{to}` is impaired"));
    }
    let fault = events.iter().find(|event| match &event.action {
        Action::SetLink { nodes, network, .. } => {
            network.is_none_or(|network| network == id) && nodes.iter().any(|node| is_on(*node))
        }
        Action::Crash(nodes) => nodes.iter().any(|node| is_on(*node)),
        Action::Partition(lists) => lists.iter().flatten().any(|node| is_on(*node)),
        _ => false,
    });
    if let Some(event) = fault {
        return Some(format!("an event touches its links: {}", event.label));
    }
    let ports = on_it().filter(|(one, _)| one.network == id).count();
    (ports > BRIDGE_PORTS).then(|| format!("{ports} nodes are on it, and a kernel bridge has {BRIDGE_PORTS} ports"))
}
