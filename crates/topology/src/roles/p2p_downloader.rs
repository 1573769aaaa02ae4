//! `role: p2p-downloader`: downloads one file from the peers that a tracker names.

use serde::{Deserialize, Serialize};

use super::check_path;
use super::peer::one_tracker;
use crate::findings::Findings;
use crate::plan::Role;
use crate::resolve::names::Directory;
use crate::yaml::At;

const DEFAULT_OUT: &str = "download";

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct P2pDownloader {
    file: At<String>,
    tracker: At<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    out: Option<At<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    resume: Option<At<bool>>,
}

impl P2pDownloader {
    pub(super) fn out_name(&self) -> &str {
        self.out.as_ref().map_or(DEFAULT_OUT, |out| &out.value)
    }

    pub(super) fn resolve(&self, names: &Directory<'_>, findings: &mut Findings<'_>) -> Option<Role> {
        let file = names.file(&self.file, findings);
        let tracker = one_tracker(&self.tracker, names, findings);
        let path_is_good = self.out.as_ref().is_none_or(|out| check_path(out, findings));
        let resume = self.resume.as_ref().is_none_or(|resume| resume.value);
        let (file, tracker) = (file?, tracker?);
        path_is_good.then(|| Role::P2pDownloader { file, tracker, out: self.out_name().to_owned(), resume })
    }
}
