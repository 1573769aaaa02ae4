//! Who is called what: nodes, groups of nodes, and files.

use std::collections::{BTreeMap, BTreeSet};

use crate::findings::Findings;
use crate::plan::{FileId, NodeId};
use crate::roles::RoleSpec;
use crate::source::Place;
use crate::spec::{Named, Names, NodeSpec, Spec};
use crate::yaml::At;

/// More nodes are refused: the fabric is tried with a quarter of them.
const MAX_NODES: usize = 4096;
const MAX_NAME: usize = 63;

/// The names that a file gives.
pub(crate) struct Directory<'s> {
    spec: &'s Spec,
    /// By [`NodeId`]: the node's name and the position of its entry.
    members: Vec<(String, usize)>,
    /// Nodes and groups.
    nodes: BTreeMap<String, Vec<NodeId>>,
    files: BTreeMap<&'s str, FileId>,
}

impl<'s> Directory<'s> {
    /// `None` when there are too many nodes, or none, to go on.
    pub(crate) fn new(spec: &'s Spec, findings: &mut Findings<'_>) -> Option<Directory<'s>> {
        let mut directory = Directory { spec, members: Vec::new(), nodes: BTreeMap::new(), files: BTreeMap::new() };
        directory.files = spec.files.names().zip((0..).map(FileId)).collect();
        if spec.nodes.is_empty() {
            findings.invalid(Place::Whole, "there are no nodes");
            return None;
        }
        for (entry, (name, node)) in spec.nodes.iter().enumerate() {
            check_name(name, "node", findings);
            if name.value == "localhost" {
                findings.invalid(name.place, "`localhost` is the name of every node for itself");
            }
            let Some(count) = &node.common.count else {
                directory.add(name.value.clone(), entry, name.place, findings);
                continue;
            };
            if count.value == 0 {
                findings.invalid_but(count.place, "a count of 0 makes no node", "leave the entry out");
            }
            if count.value as usize > MAX_NODES {
                findings.invalid(count.place, format!("{} nodes; a topology may have {MAX_NODES}", count.value));
                return None;
            }
            let longest = format!("{}-{}", name.value, count.value);
            if longest.len() > MAX_NAME && name.value.len() <= MAX_NAME {
                findings.invalid(name.place, format!("`{longest}` is longer than {MAX_NAME} characters"));
            }
            let first = directory.members.len();
            for number in 1..=count.value {
                directory.add(format!("{}-{number}", name.value), entry, name.place, findings);
            }
            let group = (first..directory.members.len()).map(|index| NodeId(index as u32)).collect();
            if directory.nodes.insert(name.value.clone(), group).is_some() {
                let message = format!("`{}` is also a member of another entry with `count`", name.value);
                findings.invalid(name.place, message);
            }
        }
        if directory.members.len() > MAX_NODES {
            let message = format!("{} nodes; a topology may have {MAX_NODES}", directory.members.len());
            findings.invalid(Place::Whole, message);
            return None;
        }
        Some(directory)
    }

    fn add(&mut self, name: String, entry: usize, place: Place, findings: &mut Findings<'_>) {
        let id = NodeId(self.members.len() as u32);
        if let Some(other) = self.nodes.insert(name.clone(), vec![id]) {
            let (_, other) = &self.members[other[0].index()];
            let other = &self.spec.nodes.0[*other].0.value;
            let message = format!("there are two nodes `{name}`: one is the entry `{other}`'s");
            findings.invalid(place, message);
        }
        self.members.push((name, entry));
    }

    pub(crate) fn len(&self) -> usize {
        self.members.len()
    }

    pub(crate) fn ids(&self) -> impl Iterator<Item = NodeId> + use<> {
        (0..self.members.len() as u32).map(NodeId)
    }

    pub(crate) fn name(&self, node: NodeId) -> &str {
        &self.members[node.index()].0
    }

    /// The name of its entry, with the entry's place.
    pub(crate) fn entry(&self, node: NodeId) -> &'s At<String> {
        &self.spec.nodes.0[self.members[node.index()].1].0
    }

    pub(crate) fn spec(&self, node: NodeId) -> &'s NodeSpec {
        &self.spec.nodes.0[self.members[node.index()].1].1
    }

    /// The node or the members of the group called so; `None` after a finding.
    pub(crate) fn nodes(&self, name: &At<String>, findings: &mut Findings<'_>) -> Option<Vec<NodeId>> {
        if let Some(nodes) = self.nodes.get(&name.value) {
            return Some(nodes.clone());
        }
        if let Some((group, number)) = name.value.rsplit_once('-')
            && number.parse::<u32>().is_ok()
            && let Some(count) = self.spec.nodes.get(group).and_then(|node| node.common.count.as_ref())
        {
            let message = format!("unknown node `{}`", name.value);
            let help = format!("`{group}` has {} nodes, `{group}-1` to `{group}-{}`", count.value, count.value);
            findings.invalid_but(name.place, message, help);
            return None;
        }
        findings.unknown(name.place, "node", &name.value, self.spec.nodes.names());
        None
    }

    /// One node; a group is a finding.
    pub(crate) fn node(&self, name: &At<String>, findings: &mut Findings<'_>) -> Option<NodeId> {
        match self.nodes(name, findings)?.as_slice() {
            [one] => Some(*one),
            many => {
                let message = format!("`{}` are {} nodes; one is wanted here", name.value, many.len());
                let help = format!("name one of them, such as `{}`", self.name(many[0]));
                findings.invalid_but(name.place, message, help);
                None
            }
        }
    }

    /// All nodes named, each once, in the order in which they are named. `place` is of the list.
    pub(crate) fn all(&self, names: &Names, place: Place, findings: &mut Findings<'_>) -> Option<Vec<NodeId>> {
        if names.0.is_empty() {
            findings.invalid(place, "no node is named");
            return None;
        }
        let mut complete = true;
        let (mut seen, mut read) = (BTreeSet::new(), BTreeSet::new());
        let mut nodes = Vec::new();
        for name in names.iter().filter(|name| read.insert(name.value.as_str())) {
            match self.nodes(name, findings) {
                Some(found) => nodes.extend(found.into_iter().filter(|node| seen.insert(*node))),
                None => complete = false,
            }
        }
        complete.then_some(nodes)
    }

    /// All nodes named, if each is of the wanted kind; `lacks` says of one what it is not.
    pub(crate) fn nodes_that(
        &self,
        names: &At<Names>,
        lacks: &str,
        wanted: impl Fn(&RoleSpec) -> bool,
        findings: &mut Findings<'_>,
    ) -> Option<Vec<NodeId>> {
        let mut right = true;
        for name in names.value.iter() {
            let found = self.nodes.get(&name.value).map_or(&[][..], Vec::as_slice);
            if let Some(wrong) = found.first().filter(|node| !wanted(&self.spec(**node).program)) {
                let kind = self.spec(*wrong).program.kind().name;
                findings.invalid(name.place, format!("`{}` is a {kind}, which {lacks}", name.value));
                right = false;
            }
        }
        self.all(&names.value, names.place, findings).filter(|_| right)
    }

    pub(crate) fn file(&self, name: &At<String>, findings: &mut Findings<'_>) -> Option<FileId> {
        let file = self.files.get(name.value.as_str()).copied();
        if file.is_none() {
            findings.unknown(name.place, "file", &name.value, self.spec.files.names());
        }
        file
    }
}

/// Names are `[a-z][a-z0-9-]*`: they become host names, file names and parts of paths.
pub(crate) fn check_name(name: &At<String>, what: &str, findings: &mut Findings<'_>) {
    let text = name.value.as_str();
    if text.len() > MAX_NAME {
        findings.invalid(name.place, format!("the name of a {what} has at most {MAX_NAME} characters"));
    } else if !text.starts_with(|c: char| c.is_ascii_lowercase())
        || !text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
    {
        let message = format!("`{text}` is not a name for a {what}");
        findings.invalid_but(name.place, message, "names are lower-case letters, digits and `-`, a letter first");
    }
}

pub(crate) fn check_names<T>(named: &Named<T>, what: &str, findings: &mut Findings<'_>) {
    for (name, _) in named.iter() {
        check_name(name, what, findings);
    }
}
