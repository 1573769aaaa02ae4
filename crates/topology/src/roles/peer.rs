//! `role: peer`: serves one file by the csp2p protocol, at the published model's pace.

use machine::{Size, Span};
use serde::{Deserialize, Serialize};

use super::RoleSpec;
use crate::findings::Findings;
use crate::plan::{PeerKnobs, Role};
use crate::resolve::names::Directory;
use crate::yaml::At;

/// Of the published server; in its test mode `stretch` is 200 ms.
const PUBLISHED: PeerKnobs = PeerKnobs {
    ports: 31,
    churn: Span::from_secs(30),
    block_size: Size::from_bytes(10_000),
    pre_delay: Span::from_secs(1),
    bytes_per_event: Size::from_bytes(1000),
    stretch: Span::from_millis(10),
    max_connections: 5,
    close_random: false,
    idle: Span::from_secs(60),
};

/// As the program has it: an announcement holds no more, and one is needed while a port is exchanged.
const MOST_PORTS: u32 = 99;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Peer {
    pub(super) file: At<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tracker: Option<At<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ports: Option<At<u32>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    churn: Option<At<Span>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    block_size: Option<At<Size>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pre_delay: Option<At<Span>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes_per_event: Option<At<Size>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stretch: Option<At<Span>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_connections: Option<At<u32>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    close_random: Option<At<bool>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    idle: Option<At<Span>>,
}

impl Peer {
    pub(super) fn resolve(&self, names: &Directory<'_>, findings: &mut Findings<'_>) -> Option<Role> {
        let file = names.file(&self.file, findings);
        let tracker = self.tracker.as_ref().map(|name| one_tracker(name, names, findings));
        if let Some(ports) = self.ports.as_ref().filter(|ports| ports.value > MOST_PORTS) {
            findings.invalid(ports.place, format!("a peer has at most {MOST_PORTS} ports beside its fixed one"));
        }
        if let Some(size) = self.block_size.as_ref().filter(|size| size.value == Size::default()) {
            findings.invalid(size.place, "a file cannot be divided into blocks of 0 bytes");
        }
        if let Some(bytes) = self.bytes_per_event.as_ref().filter(|bytes| bytes.value == Size::default()) {
            findings.invalid(bytes.place, "a peer that sends 0 bytes at once sends nothing");
        }
        if let Some(most) = self.max_connections.as_ref().filter(|most| most.value == 0) {
            findings.invalid(most.place, "a peer that takes no connection serves nothing");
        }
        if let Some(idle) = self.idle.as_ref().filter(|idle| idle.value.is_zero()) {
            findings.invalid(idle.place, "after no time at all every connection would be closed");
        }
        let tracker = match tracker {
            Some(found) => Some(found?),
            None => None,
        };
        Some(Role::Peer { file: file?, tracker, knobs: self.knobs() })
    }

    fn knobs(&self) -> PeerKnobs {
        fn value<T: Copy>(given: &Option<At<T>>, default: T) -> T {
            given.as_ref().map_or(default, |at| at.value)
        }
        PeerKnobs {
            ports: value(&self.ports, PUBLISHED.ports),
            churn: value(&self.churn, PUBLISHED.churn),
            block_size: value(&self.block_size, PUBLISHED.block_size),
            pre_delay: value(&self.pre_delay, PUBLISHED.pre_delay),
            bytes_per_event: value(&self.bytes_per_event, PUBLISHED.bytes_per_event),
            stretch: value(&self.stretch, PUBLISHED.stretch),
            max_connections: value(&self.max_connections, PUBLISHED.max_connections),
            close_random: value(&self.close_random, PUBLISHED.close_random),
            idle: value(&self.idle, PUBLISHED.idle),
        }
    }
}

/// The tracker called so; `None` after a finding.
pub(super) fn one_tracker(
    name: &At<String>,
    names: &Directory<'_>,
    findings: &mut Findings<'_>,
) -> Option<crate::plan::NodeId> {
    let node = names.node(name, findings)?;
    let program = &names.spec(node).program;
    if !matches!(program, RoleSpec::Tracker(_)) {
        findings.invalid(name.place, format!("`{}` is not a tracker", name.value));
        return None;
    }
    Some(node)
}
