//! `role: file-server`: serves one file over HTTP with ranges.

use machine::{Rate, Ratio};
use serde::{Deserialize, Serialize};

use crate::findings::Findings;
use crate::plan::Role;
use crate::resolve::names::Directory;
use crate::yaml::At;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct FileServer {
    pub(crate) file: At<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rate: Option<At<Rate>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    corrupt: Option<At<Ratio>>,
}

impl FileServer {
    pub(super) fn resolve(&self, names: &Directory<'_>, findings: &mut Findings<'_>) -> Option<Role> {
        if let Some(rate) = self.rate.as_ref().filter(|rate| rate.value == Rate::default()) {
            findings.invalid_but(rate.place, "a rate of 0 serves nothing", "leave `rate` out for no limit");
        }
        let file = names.file(&self.file, findings)?;
        Some(Role::FileServer {
            file,
            rate: self.rate.as_ref().map(|rate| rate.value),
            corrupt: self.corrupt.as_ref().map(|share| share.value).filter(|share| *share != Ratio::ZERO),
        })
    }
}
