//! `role: p2mp-receiver`: receives one file from a sender, by whichever mode it is spoken to.

use machine::Ratio;
use serde::{Deserialize, Serialize};

use super::check_path;
use crate::findings::Findings;
use crate::plan::Role;
use crate::yaml::At;

const DEFAULT_OUT: &str = "received";

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct P2mpReceiver {
    #[serde(skip_serializing_if = "Option::is_none")]
    p: Option<At<Ratio>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    out: Option<At<String>>,
}

impl P2mpReceiver {
    pub(super) fn out_name(&self) -> &str {
        self.out.as_ref().map_or(DEFAULT_OUT, |out| &out.value)
    }

    pub(super) fn resolve(&self, findings: &mut Findings<'_>) -> Option<Role> {
        if let Some(p) = self.p.as_ref().filter(|p| p.value == Ratio::ONE) {
            findings.invalid(p.place, "a receiver with p = 1 never receives anything");
        }
        let path_is_good = self.out.as_ref().is_none_or(|out| check_path(out, findings));
        let p = self.p.as_ref().map_or(Ratio::ZERO, |p| p.value);
        path_is_good.then(|| Role::P2mpReceiver { p, out: self.out_name().to_owned() })
    }
}
