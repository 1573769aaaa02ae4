//! `--set path=value`: a change to the tree before anything is read from it.

use std::str::FromStr;

use super::tree::{Content, Key, Node};
use crate::source::Place;

/// One `--set path=value`. The path's parts are joined by dots: `nodes.client.resume`, `events.0.at`; where it does not
/// begin with a field of the file, it begins with a node: `server.count`. The value is YAML.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// Dotted.
    pub path: String,
    /// YAML.
    pub value: String,
}

/// What is no setting.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not of the form path=value")]
pub struct SettingError {
    /// What was written.
    pub text: String,
}

impl FromStr for Setting {
    type Err = SettingError;

    fn from_str(text: &str) -> Result<Self, SettingError> {
        match text.split_once('=') {
            Some((path, value)) if !path.trim().is_empty() => {
                Ok(Setting { path: path.trim().to_owned(), value: value.to_owned() })
            }
            _ => Err(SettingError { text: text.to_owned() }),
        }
    }
}

impl std::fmt::Display for Setting {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}={}", self.path, self.value)
    }
}

/// A longer value is refused, like a longer file, but sooner.
const MAX_VALUE_BYTES: usize = 1 << 16;

/// No value of a topology lies deeper.
const MAX_PARTS: usize = 12;

/// Puts the value at its path, making maps on the way where there is nothing. `top` are the fields of a file.
///
/// # Errors
///
/// In words, where the path leads through something that is no map, or the value is no YAML.
pub(crate) fn apply(root: &mut Node, setting: &Setting, index: u32, top: &[&str]) -> Result<(), String> {
    let place = Place::Setting(index);
    if setting.value.len() > MAX_VALUE_BYTES {
        return Err(format!("the value is longer than {MAX_VALUE_BYTES} bytes"));
    }
    let value = if setting.value.trim().is_empty() {
        Node { content: Content::Nothing, place }
    } else {
        Node::read_setting(&setting.value, place).map_err(|error| error.message)?
    };
    put(root, &setting.path, place, value, top)
}

/// Puts a value at a dotted path, as [`apply`] does. Keys that are new get the `place` of the path.
pub(crate) fn put(root: &mut Node, path: &str, place: Place, value: Node, top: &[&str]) -> Result<(), String> {
    let parts = parts(root, path, top)?;
    let mut node = root;
    for (depth, part) in parts.iter().enumerate() {
        let walked = || if depth == 0 { "the file".to_owned() } else { format!("`{}`", parts[..depth].join(".")) };
        if matches!(node.content, Content::Nothing) {
            node.content = Content::Map(Vec::new());
        }
        node = match &mut node.content {
            Content::Map(entries) => {
                let position = entries.iter().position(|(key, _)| key.name == *part).unwrap_or_else(|| {
                    let key = Key { name: (*part).to_owned(), place };
                    entries.push((key, Node { content: Content::Nothing, place }));
                    entries.len() - 1
                });
                &mut entries[position].1
            }
            Content::List(items) => {
                let count = items.len();
                let item = part.parse().ok().and_then(|index: usize| items.get_mut(index));
                item.ok_or_else(|| format!("{} is a list of {count}, counted from 0; `{part}` is not in it", walked()))?
            }
            _ => return Err(format!("{} is not a map, so it has no `{part}`", walked())),
        };
    }
    *node = value;
    Ok(())
}

/// The whole way to a dotted path from the top of the file: the short form begins with a node.
///
/// # Errors
///
/// In words, where this is no path.
pub(crate) fn parts<'p>(root: &Node, path: &'p str, top: &[&str]) -> Result<Vec<&'p str>, String> {
    let mut parts: Vec<&str> = path.split('.').collect();
    if parts.len() > MAX_PARTS {
        return Err(format!("the path has more than {MAX_PARTS} parts"));
    }
    if parts.iter().any(|part| part.is_empty()) {
        return Err(format!("`{path}` has an empty part"));
    }
    if !top.contains(&parts[0]) && parts.len() > 1 && has_node(root, parts[0]) {
        parts.insert(0, "nodes");
    }
    Ok(parts)
}

/// A text as a setting's value that is read as this text again.
pub(crate) fn plain_or_quoted(text: &str) -> String {
    match Node::read_setting(text, Place::Whole).map(|node| node.content) {
        // A text that looks like a number is taken as one wherever a quantity is meant.
        Ok(Content::Text(read)) if read == text => text.to_owned(),
        Ok(Content::Number(_) | Content::Bool(_)) => text.to_owned(),
        _ => format!("{text:?}"),
    }
}

fn has_node(root: &Node, name: &str) -> bool {
    let Content::Map(entries) = &root.content else { return false };
    entries.iter().any(|(key, value)| {
        key.name == "nodes"
            && matches!(&value.content, Content::Map(nodes) if nodes.iter().any(|(key, _)| key.name == name))
    })
}
