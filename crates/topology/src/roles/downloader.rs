//! `role: downloader`: downloads one file from many servers.

use serde::{Deserialize, Serialize};

use super::{RoleSpec, check_path};
use crate::findings::Findings;
use crate::plan::Role;
use crate::resolve::names::Directory;
use crate::spec::Names;
use crate::yaml::At;

const DEFAULT_OUT: &str = "download";

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Downloader {
    from: At<Names>,
    #[serde(skip_serializing_if = "Option::is_none")]
    check: Option<At<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    out: Option<At<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    resume: Option<At<bool>>,
}

impl Downloader {
    pub(super) fn out_name(&self) -> &str {
        self.out.as_ref().map_or(DEFAULT_OUT, |out| &out.value)
    }

    pub(super) fn resolve(&self, names: &Directory<'_>, findings: &mut Findings<'_>) -> Option<Role> {
        let servers = |spec: &RoleSpec| matches!(spec, RoleSpec::FileServer(_) | RoleSpec::Run(_));
        let from = names.nodes_that(&self.from, "serves no file to download", servers, findings);
        let check = self.check.as_ref().map(|name| self.check_server(name, names, findings));
        let path_is_good = self.out.as_ref().is_none_or(|out| check_path(out, findings));
        let from = from?;
        let mut served = from.iter().filter_map(|server| match &names.spec(*server).program {
            RoleSpec::FileServer(server) => Some(server.file.value.as_str()),
            _ => None,
        });
        if let Some(first) = served.next()
            && let Some(other) = served.find(|file| *file != first)
        {
            let message = format!("its servers serve different files, `{first}` and `{other}`");
            findings.invalid(self.from.place, message);
        }
        let check = match check {
            Some(found) => Some(found?),
            None => None,
        };
        let resume = self.resume.as_ref().is_none_or(|resume| resume.value);
        path_is_good.then(|| Role::Downloader { from, check, out: self.out_name().to_owned(), resume })
    }

    fn check_server(
        &self,
        name: &At<String>,
        names: &Directory<'_>,
        findings: &mut Findings<'_>,
    ) -> Option<crate::plan::NodeId> {
        let nodes = names.nodes(name, findings)?;
        match nodes.as_slice() {
            [one] if matches!(names.spec(*one).program, RoleSpec::CheckServer(_)) => Some(*one),
            [_] => {
                findings.invalid(name.place, format!("`{}` is not a check-server", name.value));
                None
            }
            many => {
                let message = format!("`{}` are {} nodes; a downloader asks one check server", name.value, many.len());
                findings.invalid(name.place, message);
                None
            }
        }
    }
}
