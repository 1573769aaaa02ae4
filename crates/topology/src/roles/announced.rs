//! Roles whose fields the format has, so that files can be checked, and whose programs come later.

use machine::Rate;
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
