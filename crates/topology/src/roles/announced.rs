//! Roles whose fields the format has, so that files can be checked, and whose programs come later.

use machine::{Rate, Ratio, Size, Span};
use serde::{Deserialize, Serialize};

use super::check_path;
use crate::findings::Findings;
use crate::plan::Program;
use crate::resolve::names::Directory;
use crate::source::Place;
use crate::spec::Names;
use crate::yaml::At;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct P2mpSender {
    to: At<Names>,
    file: At<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    mss: Option<At<Size>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    mode: Option<At<P2mpMode>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    multicast: Option<At<bool>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    timeout: Option<At<Span>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum P2mpMode {
    StopAndWait,
    Fast,
}

/// What fits into a UDP datagram over IPv4 beside the protocol's header of eight bytes.
const MAX_MSS: u64 = 65_499;

impl P2mpSender {
    pub(super) fn announce(&self, place: Place, names: &Directory<'_>, findings: &mut Findings<'_>) -> Option<Program> {
        let receivers = |spec: &super::RoleSpec| matches!(spec, super::RoleSpec::P2mpReceiver(_));
        names.nodes_that(&self.to, "is not a p2mp-receiver", receivers, findings);
        names.file(&self.file, findings);
        if let Some(mss) = self.mss.as_ref().filter(|mss| !(1..=MAX_MSS).contains(&mss.value.as_bytes())) {
            findings.invalid(mss.place, format!("a segment has 1 to {MAX_MSS} bytes"));
        }
        if let Some(timeout) = self.timeout.as_ref().filter(|timeout| timeout.value.is_zero()) {
            findings.invalid(timeout.place, "a timeout of 0 expires before any answer");
        }
        findings.not_yet(place, "role `p2mp-sender`");
        None
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct P2mpReceiver {
    #[serde(skip_serializing_if = "Option::is_none")]
    p: Option<At<Ratio>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) out: Option<At<String>>,
}

impl P2mpReceiver {
    pub(super) fn announce(&self, place: Place, findings: &mut Findings<'_>) -> Option<Program> {
        if let Some(p) = self.p.as_ref().filter(|p| p.value == Ratio::ONE) {
            findings.invalid(p.place, "a receiver with p = 1 never receives anything");
        }
        self.out.as_ref().map(|out| check_path(out, findings));
        findings.not_yet(place, "role `p2mp-receiver`");
        None
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Tracker {
    swarm: At<Names>,
}

impl Tracker {
    pub(super) fn announce(&self, place: Place, names: &Directory<'_>, findings: &mut Findings<'_>) -> Option<Program> {
        let peers = |spec: &super::RoleSpec| matches!(spec, super::RoleSpec::Peer(_));
        names.nodes_that(&self.swarm, "is not a peer", peers, findings);
        findings.not_yet(place, "role `tracker`");
        None
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Peer {
    file: At<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rate: Option<At<Rate>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_connections: Option<At<u32>>,
}

impl Peer {
    pub(super) fn announce(&self, place: Place, names: &Directory<'_>, findings: &mut Findings<'_>) -> Option<Program> {
        names.file(&self.file, findings);
        if let Some(rate) = self.rate.as_ref().filter(|rate| rate.value == Rate::default()) {
            findings.invalid_but(rate.place, "a rate of 0 serves nothing", "leave `rate` out for no limit");
        }
        if let Some(most) = self.max_connections.as_ref().filter(|most| most.value == 0) {
            findings.invalid(most.place, "a peer that takes no connection serves nothing");
        }
        findings.not_yet(place, "role `peer`");
        None
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct P2pDownloader {
    tracker: At<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) out: Option<At<String>>,
}

impl P2pDownloader {
    pub(super) fn announce(&self, place: Place, names: &Directory<'_>, findings: &mut Findings<'_>) -> Option<Program> {
        if let Some(nodes) = names.nodes(&self.tracker, findings) {
            let is_tracker = |node| matches!(names.spec(node).program, super::RoleSpec::Tracker(_));
            if nodes.len() != 1 || !is_tracker(nodes[0]) {
                findings.invalid(self.tracker.place, format!("`{}` is not one tracker", self.tracker.value));
            }
        }
        self.out.as_ref().map(|out| check_path(out, findings));
        findings.not_yet(place, "role `p2p-downloader`");
        None
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Router {}

impl Router {
    pub(super) fn announce(&self, place: Place, findings: &mut Findings<'_>) -> Option<Program> {
        findings.not_yet(place, "role `router`");
        None
    }
}
