//! Nodes as a file writes them: what every node may say, and what its role or program adds.

use std::fmt;
use std::net::IpAddr;

use machine::Span;
use serde::de::{self, Deserialize, Deserializer, SeqAccess, Visitor};
use serde::ser::Error as _;
use serde::{Deserialize as DeriveDeserialize, Serialize, Serializer};

use super::link::LinkRef;
use super::words::{Named, Names, Scalar};
use crate::roles::{self, RoleSpec};
use crate::yaml::{At, Content, Fault, Node, Reason, decode, fields_of};

/// One entry of `nodes:`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct NodeSpec {
    pub(crate) common: CommonSpec,
    pub(crate) program: RoleSpec,
}

/// What every node may say.
#[derive(Clone, Debug, Default, PartialEq, Serialize, DeriveDeserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct CommonSpec {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) count: Option<At<u32>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) link: Option<At<LinkRef>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) ip: Option<At<IpSpec>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) networks: Option<At<Named<At<Option<AttachmentSpec>>>>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) env: Option<At<Named<Scalar>>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) files: Option<At<FilesSpec>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) ready: Option<At<ReadySpec>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) after: Option<Names>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) user: Option<At<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) place: Option<At<Scalar>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) stop_grace: Option<At<Span>>,
}

impl NodeSpec {
    /// Reads an entry. Its role decides which fields it may have.
    pub(crate) fn read(node: &Node) -> Result<NodeSpec, Fault> {
        let Content::Map(entries) = &node.content else {
            return Err(Fault::said("a node is a map with `role` or `run`"));
        };
        let chosen = |name: &str| entries.iter().find(|(key, _)| key.name == name);
        let kind = match (chosen("role"), chosen("run")) {
            (None, None) => {
                // A misspelt `run` or `role` is told as what it is.
                let common = fields_of::<CommonSpec>();
                let known_to_a_role = |name: &str| roles::ROLES.iter().any(|kind| (kind.fields)().contains(&name));
                let stranger = entries
                    .iter()
                    .map(|(key, _)| key)
                    .find(|key| !common.contains(&key.name.as_str()) && !known_to_a_role(&key.name));
                if let Some(key) = stranger {
                    return Err(unknown_field(&key.name, common, &["run"]).or_at(key.place));
                }
                return Err(Fault::said("a node needs a `role` or a program to `run`; this one has neither"));
            }
            (Some(_), Some((run, _))) => {
                return Err(Fault::said("a node has a `role` or a program to `run`, not both").or_at(run.place));
            }
            (None, Some(_)) => &roles::RUN,
            (Some((_, role)), None) => {
                let name: String = decode(role)?;
                roles::ROLES
                    .iter()
                    .find(|kind| kind.name == name)
                    .ok_or(Fault { place: Some(role.place), reason: Reason::UnknownRole { found: name } })?
            }
        };
        let common_fields = fields_of::<CommonSpec>();
        let own_fields = (kind.fields)();
        let (mut common, mut own) = (Vec::new(), Vec::new());
        for (key, value) in entries.iter().filter(|(key, _)| key.name != "role") {
            if common_fields.contains(&key.name.as_str()) {
                common.push((key.clone(), value.clone()));
            } else if own_fields.contains(&key.name.as_str()) {
                own.push((key.clone(), value.clone()));
            } else {
                return Err(unknown_field(&key.name, common_fields, own_fields).or_at(key.place));
            }
        }
        let part = |entries| Node { content: Content::Map(entries), place: node.place };
        Ok(NodeSpec { common: decode(&part(common))?, program: (kind.read)(&part(own))? })
    }
}

fn unknown_field(found: &str, common: &[&'static str], own: &[&'static str]) -> Fault {
    let owners: Vec<&str> = roles::ROLES
        .iter()
        .chain([&roles::RUN])
        .filter(|kind| (kind.fields)().contains(&found))
        .map(|kind| kind.name)
        .collect();
    if !owners.is_empty() {
        return Fault::said(format!("`{found}` is a field of {}, not of this node", crate::yaml::listed(&owners)));
    }
    let known = ["role"].into_iter().chain(own.iter().copied()).chain(common.iter().copied()).collect();
    Fault { place: None, reason: Reason::UnknownField { found: found.to_owned(), known } }
}

impl Serialize for NodeSpec {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serde_yaml::Mapping::new();
        if let Some(role) = self.program.role_name() {
            map.insert("role".into(), role.into());
        }
        for part in [serde_yaml::to_value(&self.program), serde_yaml::to_value(&self.common)] {
            if let serde_yaml::Value::Mapping(part) = part.map_err(S::Error::custom)? {
                map.extend(part);
            }
        }
        map.serialize(serializer)
    }
}

/// A node's place on a network.
#[derive(Clone, Debug, Default, PartialEq, Serialize, DeriveDeserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct AttachmentSpec {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) link: Option<At<LinkRef>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) ip: Option<At<IpSpec>>,
}

/// An address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub(crate) struct IpSpec(pub(crate) IpAddr);

impl<'de> Deserialize<'de> for IpSpec {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Scalar::deserialize(deserializer)?.0;
        let wrong = |_| de::Error::custom(format!("`{text}` is not an address (such as 10.50.0.7 or fd00::7)"));
        text.parse().map(IpSpec).map_err(wrong)
    }
}

/// When a node counts as ready: exactly one of these.
#[derive(Clone, Debug, Default, PartialEq, Serialize, DeriveDeserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ReadySpec {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) tcp: Option<At<u32>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) log: Option<At<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) file: Option<At<String>>,
}

/// Files put into a disk: `[movie]`, or `{name-there: movie}`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct FilesSpec(pub(crate) Vec<(String, At<String>)>);

impl<'de> Deserialize<'de> for FilesSpec {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct FilesVisitor;

        impl<'de> Visitor<'de> for FilesVisitor {
            type Value = FilesSpec;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of files, or a map from the name in the disk to the file")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<FilesSpec, A::Error> {
                let mut files: Vec<(String, At<String>)> = Vec::new();
                while let Some(file) = items.next_element::<At<String>>()? {
                    files.push((file.value.clone(), file));
                }
                Ok(FilesSpec(files))
            }

            fn visit_map<A: de::MapAccess<'de>>(self, mut map: A) -> Result<FilesSpec, A::Error> {
                let mut files = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    files.push(entry);
                }
                Ok(FilesSpec(files))
            }
        }

        deserializer.deserialize_any(FilesVisitor)
    }
}

impl Serialize for FilesSpec {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(name, file)| (name, file)))
    }
}
