//! Pieces of topologies.

use std::fmt::{Arguments, Write as _};

/// Appends a line.
pub(crate) fn put(text: &mut String, line: Arguments<'_>) {
    text.write_fmt(line).expect("writing to a string cannot fail");
    text.push('\n');
}

/// A list of words in YAML, which reads JSON.
pub(crate) fn words(words: &[String]) -> String {
    serde_json::to_string(words).expect("a list of strings is always JSON")
}
