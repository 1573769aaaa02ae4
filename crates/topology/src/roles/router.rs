//! `role: router`: forwards between its networks.

use serde::{Deserialize, Serialize};

use crate::plan::Role;

/// It has no field of its own: which networks it joins says its `networks`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Router {}

impl Router {
    pub(super) fn resolve(&self) -> Role {
        Role::Router
    }
}
