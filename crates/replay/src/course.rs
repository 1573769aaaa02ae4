//! A network of a recording as a model, and what happens to its links.

use std::collections::BTreeMap;

use event::{Changed, LinkChange, RecordedNetwork};
use link::{Network, PartitionKey, PortId, Profile};
use machine::Time;

use crate::log::{NotReplayable, Recorded};

/// A packet in the model.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ticket {
    pub(crate) id: u64,
    /// Bytes of its frame.
    pub(crate) length: u32,
}

/// The model of a network, as new.
pub(crate) fn model(recorded: &Recorded, network: &RecordedNetwork) -> Result<Network<Ticket>, NotReplayable> {
    let unknown = |error: link::UnknownTrace| NotReplayable::Contradiction(error.to_string());
    let mut model = Network::new(&network.name, recorded.seed);
    for port in &network.ports {
        model.add_port(&port.node, &port.link.read(&recorded.traces).map_err(unknown)?);
    }
    let ports: Vec<PortId> = model.ports().collect();
    for pair in &network.pairs {
        model.set_pair(ports[pair.from], ports[pair.to], &pair.link.read(&recorded.traces).map_err(unknown)?);
    }
    model.keep_losses();
    Ok(model)
}

/// What happens to the links of a network, in order.
pub(crate) struct Course {
    steps: std::iter::Peekable<std::vec::IntoIter<Step>>,
}

struct Step {
    at: Time,
    /// Packets that enter the network before it.
    entered: u64,
    action: Action,
}

enum Action {
    SetProfile(PortId, Box<Profile>),
    Partition(PartitionKey, Vec<Vec<PortId>>),
    Heal(PartitionKey),
    Cut(PortId),
    Restore(PortId),
    BeginTraces,
}

impl Course {
    /// Of the network at this position, whose ports are these.
    pub(crate) fn of(recorded: &Recorded, index: usize, ports: &[PortId]) -> Result<Self, NotReplayable> {
        let network = &recorded.links.networks[index];
        let by_name: BTreeMap<&str, PortId> =
            network.ports.iter().map(|port| port.node.as_str()).zip(ports.iter().copied()).collect();
        let mut steps = Vec::new();
        for change in &recorded.changes {
            if let Some(action) = action(recorded, &network.name, &by_name, change)? {
                let at = Time::from_nanos(change.relay_ns);
                // What comes after the end of the recording is not in it.
                if at <= recorded.ended {
                    steps.push(Step { at, entered: change.entered[index], action });
                }
            }
        }
        Ok(Course { steps: steps.into_iter().peekable() })
    }

    /// Does to the model what happens before the packet `id` enters it; whether that was anything.
    pub(crate) fn before(&mut self, id: u64, model: &mut Network<Ticket>) -> bool {
        let mut any = false;
        while let Some(step) = self.steps.next_if(|step| step.entered < id) {
            step.action.apply(step.at, model);
            any = true;
        }
        any
    }
}

/// What a change does to the network called so; nothing if it is another's.
fn action(
    recorded: &Recorded,
    name: &str,
    ports: &BTreeMap<&str, PortId>,
    change: &LinkChange,
) -> Result<Option<Action>, NotReplayable> {
    let port = |node: &String, network: &String| {
        let stranger = || NotReplayable::Contradiction(format!("a change of {node} on {network}, where it is not"));
        if network == name { ports.get(node.as_str()).copied().map(Some).ok_or_else(stranger) } else { Ok(None) }
    };
    Ok(match &change.change {
        Changed::Link { node, network, link } => match port(node, network)? {
            Some(port) => {
                let unknown = |error: link::UnknownTrace| NotReplayable::Contradiction(error.to_string());
                Some(Action::SetProfile(port, Box::new(link.read(&recorded.traces).map_err(unknown)?)))
            }
            None => None,
        },
        Changed::Partitioned { key, lists } => {
            // Nodes without a port here are on other networks.
            let here = |list: &Vec<String>| list.iter().filter_map(|node| ports.get(node.as_str()).copied()).collect();
            Some(Action::Partition(PartitionKey(*key), lists.iter().map(here).collect()))
        }
        Changed::Healed { key } => Some(Action::Heal(PartitionKey(*key))),
        Changed::Cut { node, network } => port(node, network)?.map(Action::Cut),
        Changed::Restored { node, network } => port(node, network)?.map(Action::Restore),
        Changed::TracesBegan => Some(Action::BeginTraces),
    })
}

impl Action {
    fn apply(&self, at: Time, model: &mut Network<Ticket>) {
        match self {
            Action::SetProfile(port, profile) => model.set_profile(at, *port, profile),
            Action::Partition(key, lists) => model.partition(at, *key, lists),
            Action::Heal(key) => model.heal(at, *key),
            Action::Cut(port) => model.cut(at, *port),
            Action::Restore(port) => model.restore(at, *port),
            Action::BeginTraces => model.begin_traces(at),
        }
    }
}
