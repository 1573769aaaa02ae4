//! What the relay tells of itself, as the log has it: by names.

use std::collections::BTreeMap;

use event::{Changed, LinkChange, RecordedLinks, RecordedNetwork, RecordedPair, RecordedPort, RecordedTrace};
use fabric::Fabric;
use fabric::relay::{Applied, Change, NetworkConfig, RelayPort, StartedCapture};
use link::{HalfLink, Trace};
use topology::Plan;
use topology::plan::Action;

/// What the relay's ports are called.
#[derive(Debug)]
pub(crate) struct PortNames(BTreeMap<RelayPort, Name>);

#[derive(Clone, Debug)]
struct Name {
    node: String,
    network: String,
}

impl PortNames {
    pub(crate) fn of(plan: &Plan, fabric: &Fabric) -> Self {
        let mut names = BTreeMap::new();
        for id in plan.node_ids() {
            let node = plan.node(id);
            for (index, interface) in node.interfaces.iter().enumerate() {
                let Some(port) = fabric.place(id, index) else { continue };
                let network = plan.network(interface.network).name.clone();
                names.insert(port, Name { node: node.name.clone(), network });
            }
        }
        PortNames(names)
    }

    /// A change as the log has it.
    pub(crate) fn told(&self, applied: Applied) -> LinkChange {
        let name = |port: RelayPort| self.0.get(&port).cloned().expect("every port of the relay is a node's");
        let change = match applied.change {
            Change::SetProfile(port, profile) => {
                let Name { node, network } = name(port);
                Changed::Link { node, network, link: Box::new((*profile).into()) }
            }
            Change::Partition(key, lists) => Changed::Partitioned { key: key.0, lists: self.nodes(&lists) },
            Change::Heal(key) => Changed::Healed { key: key.0 },
            Change::Cut(port) => {
                let Name { node, network } = name(port);
                Changed::Cut { node, network }
            }
            Change::Restore(port) => {
                let Name { node, network } = name(port);
                Changed::Restored { node, network }
            }
            Change::BeginTraces => Changed::TracesBegan,
        };
        LinkChange { relay_ns: applied.at.as_nanos(), entered: applied.entered, change }
    }

    /// A node is in a list with all its ports.
    fn nodes(&self, lists: &[Vec<RelayPort>]) -> Vec<Vec<String>> {
        let nodes = |list: &Vec<RelayPort>| {
            let mut names: Vec<String> = Vec::new();
            for name in list.iter().filter_map(|port| self.0.get(port)) {
                if names.last() != Some(&name.node) {
                    names.push(name.node.clone());
                }
            }
            names
        };
        lists.iter().map(nodes).collect()
    }
}

/// What is recorded in a run of `plan`.
pub(crate) fn began(plan: &Plan, capture: &StartedCapture) -> RecordedLinks {
    RecordedLinks {
        epoch_ns: capture.epoch,
        networks: capture.networks.iter().map(network).collect(),
        traces: traces(plan),
    }
}

fn network(network: &NetworkConfig) -> RecordedNetwork {
    let ports = network.ports.iter().map(|port| RecordedPort {
        node: port.label.clone(),
        interface: port.interface.clone(),
        mac: port.mac,
        link: port.profile.clone().into(),
    });
    let pairs = network.pairs.iter();
    RecordedNetwork {
        name: network.name.clone(),
        ports: ports.collect(),
        pairs: pairs
            .map(|pair| RecordedPair { from: pair.from, to: pair.to, link: pair.half.clone().into() })
            .collect(),
    }
}

/// Every trace of the plan, each once.
fn traces(plan: &Plan) -> Vec<RecordedTrace> {
    let interfaces = plan.nodes().iter().flat_map(|node| &node.interfaces);
    let changes = plan.events().iter().flat_map(|event| match &event.action {
        Action::SetLink { profiles, .. } => &profiles[..],
        _ => &[],
    });
    let profiles = interfaces.map(|interface| &interface.link).chain(changes.map(|(_, _, profile)| profile));
    let pairs = plan.pairs().iter().map(|pair| &pair.link);
    let halves = profiles.flat_map(|profile| [&profile.up, &profile.down]).chain(pairs);
    let of = |half: &HalfLink| half.trace.clone().map(|trace| (trace.name().to_owned(), trace));
    let traces: BTreeMap<String, Trace> = halves.filter_map(of).collect();
    let recorded = |(name, trace): (String, Trace)| RecordedTrace { name, instants_ms: trace.instants().to_vec() };
    traces.into_iter().map(recorded).collect()
}
