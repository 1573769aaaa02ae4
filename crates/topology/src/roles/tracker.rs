//! `role: tracker`: tells who has a file; peers announce themselves to it.

use machine::Span;
use serde::{Deserialize, Serialize};

use crate::plan::Role;
use crate::yaml::At;

/// As published.
const DEFAULT_INTERVAL: Span = Span::from_secs(2);

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Tracker {
    #[serde(skip_serializing_if = "Option::is_none")]
    interval: Option<At<Span>>,
}

impl Tracker {
    pub(super) fn resolve(&self) -> Role {
        Role::Tracker { interval: self.interval.as_ref().map_or(DEFAULT_INTERVAL, |at| at.value) }
    }
}
