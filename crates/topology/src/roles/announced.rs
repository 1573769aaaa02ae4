//! A role whose fields the format has, so that files can be checked, and whose program comes later.

use serde::{Deserialize, Serialize};

use super::check_path;
use super::peer::one_tracker;
use crate::findings::Findings;
use crate::plan::Program;
use crate::resolve::names::Directory;
use crate::source::Place;
use crate::yaml::At;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct P2pDownloader {
    tracker: At<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) out: Option<At<String>>,
}

impl P2pDownloader {
    pub(super) fn announce(&self, place: Place, names: &Directory<'_>, findings: &mut Findings<'_>) -> Option<Program> {
        let _ = one_tracker(&self.tracker, names, findings);
        self.out.as_ref().map(|out| check_path(out, findings));
        findings.not_yet(place, "role `p2p-downloader`");
        None
    }
}
