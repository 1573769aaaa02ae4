//! `role: check-server`: watches file servers and tells who lives.

use machine::Span;
use serde::{Deserialize, Serialize};

use super::RoleSpec;
use crate::findings::Findings;
use crate::plan::Role;
use crate::resolve::names::Directory;
use crate::spec::Names;
use crate::yaml::At;

const DEFAULT_INTERVAL: Span = Span::from_millis(500);
/// As the program has it: questions without a pause would flood the servers.
const SHORTEST_INTERVAL: Span = Span::from_millis(10);

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct CheckServer {
    watch: At<Names>,
    #[serde(skip_serializing_if = "Option::is_none")]
    interval: Option<At<Span>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<At<String>>,
}

impl CheckServer {
    pub(super) fn resolve(&self, names: &Directory<'_>, findings: &mut Findings<'_>) -> Option<Role> {
        if let Some(interval) = self.interval.as_ref().filter(|interval| interval.value < SHORTEST_INTERVAL) {
            findings.invalid(interval.place, format!("an interval is at least {SHORTEST_INTERVAL}"));
        }
        let servers = |spec: &RoleSpec| matches!(spec, RoleSpec::FileServer(_) | RoleSpec::Run(_));
        let watch = names.nodes_that(&self.watch, "serves no file to watch", servers, findings);
        let file = match &self.file {
            Some(name) => Some(names.file(name, findings)?),
            None => None,
        };
        let watch = watch?;
        let mut served = watch.iter().filter_map(|server| match &names.spec(*server).program {
            RoleSpec::FileServer(server) => Some(server.file.value.as_str()),
            _ => None,
        });
        if let Some(ours) = &self.file
            && let Some(other) = served.find(|file| *file != ours.value)
        {
            findings.invalid(ours.place, format!("a server that it watches serves `{other}`, not `{}`", ours.value));
        }
        let interval = self.interval.as_ref().map_or(DEFAULT_INTERVAL, |at| at.value);
        Some(Role::CheckServer { watch, interval, file })
    }
}
