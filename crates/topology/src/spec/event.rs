//! Events and expectations as a file writes them.

use std::fmt;

use machine::Span;
use serde::de::value::MapAccessDeserializer;
use serde::de::{self, Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize as DeriveDeserialize, Serialize};

use super::link::LinkSpec;
use super::words::{Names, Scalar};
use crate::plan::NodeState;
use crate::yaml::At;

/// One entry of `events:`. A right one has one trigger and one action.
#[derive(Clone, Debug, Default, PartialEq, Serialize, DeriveDeserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct EventSpec {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) at: Option<At<Span>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) after: Option<At<Span>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) when: Option<At<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) kill: Option<At<Names>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) crash: Option<At<Names>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) stop: Option<At<Names>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) pause: Option<At<Names>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) resume: Option<At<Names>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) restart: Option<At<Names>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) signal: Option<At<SignalSpec>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) revive: Option<At<Names>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) disk: Option<At<Disk>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) link: Option<At<LinkTarget>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) set: Option<At<LinkSpec>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) partition: Option<At<Vec<Names>>>,
    #[serde(rename = "for", skip_serializing_if = "Option::is_none")]
    pub(crate) lasts: Option<At<Span>>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) optional: bool,
}

/// Which signal goes to whom.
#[derive(Clone, Debug, Default, PartialEq, Serialize, DeriveDeserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SignalSpec {
    pub(crate) node: Names,
    pub(crate) signal: At<Scalar>,
}

/// What becomes of a revived node's disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, DeriveDeserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Disk {
    Keep,
    Wipe,
}

/// Whose link: `node`, `[node, node]`, or `{node, network}`.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub(crate) enum LinkTarget {
    One(String),
    Many(Vec<At<String>>),
    On(LinkOn),
}

/// The link to one of a node's networks.
#[derive(Clone, Debug, PartialEq, Serialize, DeriveDeserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct LinkOn {
    pub(crate) node: Names,
    pub(crate) network: At<String>,
}

impl<'de> Deserialize<'de> for LinkTarget {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct LinkTargetVisitor;

        impl<'de> Visitor<'de> for LinkTargetVisitor {
            type Value = LinkTarget;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a node, a list of nodes, or {node: …, network: …}")
            }

            fn visit_str<E: de::Error>(self, node: &str) -> Result<LinkTarget, E> {
                Ok(LinkTarget::One(node.to_owned()))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<LinkTarget, A::Error> {
                let mut nodes = Vec::new();
                while let Some(node) = items.next_element()? {
                    nodes.push(node);
                }
                Ok(LinkTarget::Many(nodes))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<LinkTarget, A::Error> {
                LinkOn::deserialize(MapAccessDeserializer::new(map)).map(LinkTarget::On)
            }
        }

        deserializer.deserialize_any(LinkTargetVisitor)
    }
}

/// What is expected of a node.
#[derive(Clone, Debug, Default, PartialEq, Serialize, DeriveDeserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct ExpectSpec {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) exit: Option<At<i32>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) state: Option<At<NodeState>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) within: Option<At<Span>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) file: Option<At<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) wasted: Option<At<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) throughput: Option<At<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) prints: Option<Names>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) never_prints: Option<Names>,
}
