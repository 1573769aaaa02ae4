//! Traces of links: named by the topology, read beside it.

use std::collections::BTreeMap;

use link::{Trace, TraceError};
use machine::Size;
use serde::de::{Deserialize, Deserializer};
use serde::{Serialize, Serializer};

use super::{LinkRef, Spec};
use crate::diagnostic::Location;
use crate::findings::Findings;
use crate::source::{Place, Source};
use crate::spec::HalfSpec;
use crate::yaml::At;

/// The longest trace file: lines of seven digits.
const MAX_BYTES: Size = Size::from_mib(8);
/// Different traces of one topology.
const MAX_TRACES: usize = 64;

/// A trace as a half link names it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct TraceSpec {
    /// As written.
    path: String,
    /// What is there; `None` before it was read, and where a finding says why it cannot be.
    pub(crate) trace: Option<Trace>,
}

impl<'de> Deserialize<'de> for TraceSpec {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(|path| TraceSpec { path, trace: None })
    }
}

impl Serialize for TraceSpec {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.path)
    }
}

/// Reads every trace that the file names, each once.
pub(super) fn read_all(spec: &mut Spec, source: &Source, findings: &mut Findings<'_>) {
    let mut read: BTreeMap<String, Option<Trace>> = BTreeMap::new();
    for half in halves(spec) {
        let Some(At { value: named, place }) = &mut half.trace else { continue };
        if !read.contains_key(&named.path) {
            if read.len() == MAX_TRACES {
                findings.invalid(*place, format!("more than {MAX_TRACES} different traces"));
                return;
            }
            read.insert(named.path.clone(), read_one(&named.path, *place, source, findings));
        }
        named.trace = read[&named.path].clone();
    }
}

fn read_one(path: &str, place: Place, source: &Source, findings: &mut Findings<'_>) -> Option<Trace> {
    if path.is_empty() || path.contains('\0') {
        findings.invalid(place, "a path cannot be empty or contain NUL");
        return None;
    }
    let bytes = match source.beside(path, MAX_BYTES) {
        Ok(bytes) => bytes,
        Err(why) => {
            let help = "paths are relative to the topology file";
            findings.invalid_but(place, format!("cannot read the trace `{path}`: {why}"), help);
            return None;
        }
    };
    if bytes.len() as u64 > MAX_BYTES.as_bytes() {
        findings.invalid(place, format!("the trace `{path}` has more than {MAX_BYTES}"));
        return None;
    }
    // What is not UTF-8 is no number either, and is told as that.
    let text = String::from_utf8_lossy(&bytes);
    match Trace::parse(path, &text) {
        Ok(trace) => Some(trace),
        Err(error) => {
            let location = match error.line() {
                Some(line) => in_trace(path, &text, line),
                None => Location::Whole { file: path.to_owned() },
            };
            let help = matches!(error, TraceError::NotAnInstant { .. } | TraceError::Empty).then_some(
                "one line for each full packet that could be delivered: its milliseconds from the beginning",
            );
            findings.elsewhere(location, error.to_string(), help);
            None
        }
    }
}

fn in_trace(path: &str, text: &str, line: usize) -> Location {
    /// Of a line that is no number.
    const SHOWN: usize = 60;
    let shown = |c: char| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c };
    let excerpt: String = text.lines().nth(line - 1).unwrap_or_default().chars().take(SHOWN).map(shown).collect();
    Location::File { file: path.to_owned(), line, column: 1, length: excerpt.chars().count().max(1), excerpt }
}

/// Every half link of the file, wherever it is written.
fn halves(spec: &mut Spec) -> impl Iterator<Item = &mut HalfSpec> {
    let Spec { links, pairs, nodes, events, .. } = spec;
    let profiles = links.0.iter_mut().map(|(_, link)| &mut link.value);
    let on_nodes = nodes.0.iter_mut().flat_map(|(_, node)| {
        let networks = node.common.networks.iter_mut().flat_map(|networks| networks.value.0.iter_mut());
        let on_networks = networks.filter_map(|(_, attachment)| attachment.value.as_mut()?.link.as_mut());
        node.common.link.iter_mut().chain(on_networks)
    });
    let own = on_nodes.filter_map(|link| match &mut link.value {
        LinkRef::Own(own) => Some(own.as_mut()),
        LinkRef::Name(_) => None,
    });
    let changes = events.iter_mut().filter_map(|event| Some(&mut event.value.set.as_mut()?.value));
    let of_pairs = pairs.iter_mut().map(|pair| &mut pair.value.link.value);
    profiles.chain(own).chain(changes).flat_map(super::LinkSpec::halves_mut).chain(of_pairs)
}
