//! What a topology file says, before anything is looked up.

mod event;
mod link;
mod node;
mod trace;
mod words;

use machine::{Size, Span};
use serde::{Deserialize, Serialize};

pub(crate) use self::event::{Disk, EventSpec, ExpectSpec, LinkOn, LinkTarget, SignalSpec};
#[cfg(test)]
pub(crate) use self::link::LinkFields;
pub(crate) use self::link::{HalfSpec, LinkRef, LinkSpec};
pub(crate) use self::node::{AttachmentSpec, CommonSpec, IpSpec, NodeSpec, ReadySpec};
pub(crate) use self::words::{Named, Names, Scalar};
use crate::diagnostic::{Diagnostic, Diagnostics};
use crate::findings::Findings;
use crate::source::{Place, Source};
use crate::yaml::{At, Content, Fault, Key, Node, Setting, apply, decode};

/// A topology file that is well formed: every field is known and every value is of its type. Whether its names refer to
/// something is for [`resolve`](fn@crate::resolve) to say.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Spec {
    pub(crate) name: At<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) seed: Option<At<u64>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) timeout: Option<At<Span>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) shaper: Option<At<Shaper>>,
    #[serde(skip_serializing_if = "Named::is_empty")]
    pub(crate) files: Named<At<FileSpec>>,
    #[serde(skip_serializing_if = "Named::is_empty")]
    pub(crate) links: Named<At<LinkSpec>>,
    #[serde(skip_serializing_if = "Named::is_empty")]
    pub(crate) networks: Named<Option<NetworkSpec>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) pairs: Vec<At<PairSpec>>,
    pub(crate) nodes: Named<NodeSpec>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) events: Vec<At<EventSpec>>,
    #[serde(skip_serializing_if = "Named::is_empty")]
    pub(crate) expect: Named<At<ExpectSpec>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) sweep: Option<At<Named<At<Vec<Scalar>>>>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) repeat: Option<At<u32>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) plot: Option<At<PlotSpec>>,
}

/// The fields of a file.
pub(crate) const FIELDS: &[&str] = &[
    "name", "seed", "timeout", "shaper", "files", "links", "networks", "pairs", "nodes", "events", "expect", "sweep",
    "repeat", "plot",
];

/// Who shapes the links.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Shaper {
    Auto,
    Netem,
    Relay,
}

/// A named file: exactly one of these.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct FileSpec {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) size: Option<At<Size>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) path: Option<At<String>>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct NetworkSpec {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) subnet: Option<At<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) mtu: Option<At<u32>>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PairSpec {
    pub(crate) from: At<Names>,
    pub(crate) to: At<Names>,
    pub(crate) link: At<HalfSpec>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PlotSpec {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) x: Option<At<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) y: Option<At<Names>>,
}

/// Reads a topology file after applying the settings in their order, and the traces that it names.
///
/// # Errors
///
/// A syntax error, or every entry with an unknown field or a value of the wrong type (of each entry the first), or what is
/// wrong with traces.
pub fn parse(source: &Source, settings: &[Setting]) -> Result<Spec, Diagnostics> {
    interpret(&tree(source, settings)?, source, settings)
}

/// The file as a tree, changed by the settings in their order.
pub(crate) fn tree(source: &Source, settings: &[Setting]) -> Result<Node, Diagnostics> {
    source.check()?;
    let mut root = Node::read(source.text())
        .map_err(|error| Diagnostics::from(Diagnostic::invalid(error.message, source.location(error.place))))?;
    let mut findings = Findings::new(source, settings);
    for (index, setting) in settings.iter().enumerate() {
        let index = index as u32;
        if let Err(message) = apply(&mut root, setting, index, FIELDS) {
            findings.invalid(Place::Setting(index), message);
        }
    }
    findings.into_result()?;
    Ok(root)
}

/// What a tree says, well formed.
pub(crate) fn interpret(root: &Node, source: &Source, settings: &[Setting]) -> Result<Spec, Diagnostics> {
    let mut findings = Findings::new(source, settings);
    let mut spec = Reader { findings: &mut findings }.file(root);
    trace::read_all(&mut spec, source, &mut findings);
    findings.into_result()?;
    Ok(spec)
}

impl Spec {
    /// A file that says the same. Comments and the order of fields are lost.
    pub fn to_yaml(&self) -> String {
        serde_yaml::to_string(self).expect("a specification holds only maps with text keys, lists, texts and numbers")
    }
}

struct Reader<'f, 'a> {
    findings: &'f mut Findings<'a>,
}

impl Reader<'_, '_> {
    fn file(&mut self, root: &Node) -> Spec {
        let mut spec = Spec::default();
        let Content::Map(entries) = &root.content else {
            let message = format!("a topology is a map with the fields {}", crate::yaml::listed(FIELDS));
            self.findings.invalid(root.place, message);
            return spec;
        };
        let (mut has_name, mut has_nodes) = (false, false);
        for (key, node) in entries {
            match key.name.as_str() {
                "name" => {
                    has_name = true;
                    spec.name = self.value(node).unwrap_or_default();
                }
                "seed" => spec.seed = self.value(node),
                "timeout" => spec.timeout = self.value(node),
                "shaper" => spec.shaper = self.value(node),
                "files" => spec.files = self.named(node, |node| decode(node)),
                "links" => spec.links = self.named(node, |node| decode(node)),
                "networks" => spec.networks = self.named(node, |node| decode(node)),
                "pairs" => spec.pairs = self.list(node),
                "nodes" => {
                    has_nodes = true;
                    spec.nodes = self.named(node, NodeSpec::read);
                }
                "events" => spec.events = self.list(node),
                "expect" => spec.expect = self.named(node, |node| decode(node)),
                "sweep" => spec.sweep = self.optional(node),
                "repeat" => spec.repeat = self.optional(node),
                "plot" => spec.plot = self.optional(node),
                unknown => self.findings.unknown(key.place, "field", unknown, FIELDS.iter().copied()),
            }
        }
        for (field, present) in [("name", has_name), ("nodes", has_nodes)] {
            if !present {
                self.findings.invalid(Place::Whole, format!("`{field}` is missing"));
            }
        }
        spec
    }

    fn value<'de, T: Deserialize<'de>>(&mut self, node: &'de Node) -> Option<T> {
        decode(node).map_err(|fault| self.findings.fault(fault, node.place)).ok()
    }

    /// A part of the file that a setting without a value takes away.
    fn optional<'de, T: Deserialize<'de>>(&mut self, node: &'de Node) -> Option<T> {
        if matches!(node.content, Content::Nothing) { None } else { self.value(node) }
    }

    /// A map from names. An entry that cannot be read is reported, and the next one read.
    fn named<T>(&mut self, node: &Node, read: fn(&Node) -> Result<T, Fault>) -> Named<T> {
        let entries: &[(Key, Node)] = match &node.content {
            Content::Map(entries) => entries,
            Content::Nothing => &[],
            _ => {
                self.findings.invalid(node.place, "expected a map from names");
                &[]
            }
        };
        let mut named = Named::default();
        for (key, entry) in entries {
            match read(entry) {
                Ok(value) => named.0.push((At { value: key.name.clone(), place: key.place }, value)),
                Err(fault) => self.findings.fault(fault, entry.place),
            }
        }
        named
    }

    fn list<'de, T: Deserialize<'de>>(&mut self, node: &'de Node) -> Vec<At<T>> {
        match &node.content {
            Content::List(items) => items.iter().filter_map(|item| self.value(item)).collect(),
            Content::Nothing => Vec::new(),
            _ => {
                self.findings.invalid(node.place, "expected a list");
                Vec::new()
            }
        }
    }
}
