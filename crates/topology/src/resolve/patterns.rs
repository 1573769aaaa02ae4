//! The small languages inside texts: conditions, comparisons, regular expressions.

use regex::RegexBuilder;

use super::names::Directory;
use crate::findings::Findings;
use crate::plan::{Comparison, NodeId, Trigger};
use crate::source::Place;
use crate::yaml::At;

/// Bound of a compiled expression, in bytes.
const MAX_REGEX_BYTES: usize = 1 << 20;
const MAX_PATTERN_BYTES: usize = 1024;

/// Reads `client >= 40%`, `client >= 10MiB` or `web prints /regex/`.
pub(super) fn parse_condition(
    text: &At<String>,
    names: &Directory<'_>,
    findings: &mut Findings<'_>,
) -> Option<Trigger> {
    if let Some((node, pattern)) = text.value.split_once(" prints ") {
        let node = subject(node, text.place, names, findings);
        let pattern = parse_pattern(&part(pattern, text.place, findings), findings);
        return Some(Trigger::Prints(node?, pattern?));
    }
    let Some((node, value)) = text.value.split_once(">=") else {
        let message = format!("`{}` is not a condition", text.value);
        let help = "write `client >= 40%`, `client >= 10MiB` or `web prints /regex/`";
        findings.invalid_but(text.place, message, help);
        return None;
    };
    let node = subject(node, text.place, names, findings);
    let value = part(value, text.place, findings);
    let trigger = if value.value.ends_with('%') {
        value.value.parse().map(|share| node.map(|node| Trigger::ProgressShare(node, share)))
    } else {
        value.value.parse().map(|size| node.map(|node| Trigger::ProgressBytes(node, size)))
    };
    match trigger {
        Ok(trigger) => trigger,
        Err(error) => {
            findings.invalid_but(
                value.place,
                error.to_string(),
                "progress is a share such as 40% or a size such as 10MiB",
            );
            None
        }
    }
}

fn subject(node: &str, place: Place, names: &Directory<'_>, findings: &mut Findings<'_>) -> Option<NodeId> {
    names.node(&part(node, place, findings), findings)
}

fn part(text: &str, place: Place, findings: &Findings<'_>) -> At<String> {
    let word = text.trim();
    At { value: word.to_owned(), place: findings.narrow(place, word) }
}

/// Reads `/regex/` and checks that it is one; gives what is between the slashes.
pub(super) fn parse_pattern(text: &At<String>, findings: &mut Findings<'_>) -> Option<String> {
    let Some(pattern) = text.value.strip_prefix('/').and_then(|text| text.strip_suffix('/')) else {
        let message = format!("`{}` is not a regular expression between slashes", text.value);
        findings.invalid_but(text.place, message, format!("write `/{}/`", text.value.trim_matches('/')));
        return None;
    };
    check_regex(pattern, text.place, findings)
}

/// Checks a regular expression without slashes.
pub(super) fn check_regex(pattern: &str, place: Place, findings: &mut Findings<'_>) -> Option<String> {
    if pattern.is_empty() {
        findings.invalid(place, "an empty regular expression matches everything");
        return None;
    }
    if pattern.len() > MAX_PATTERN_BYTES {
        findings.invalid(place, format!("a regular expression has at most {MAX_PATTERN_BYTES} bytes"));
        return None;
    }
    match RegexBuilder::new(pattern).size_limit(MAX_REGEX_BYTES).build() {
        Ok(_) => Some(pattern.to_owned()),
        Err(error) => {
            // The crate draws its own excerpt; its last line says what is wrong.
            let error = error.to_string();
            let reason = error.lines().last().unwrap_or_default().trim().trim_start_matches("error: ");
            findings.invalid(place, format!("`{pattern}` is not a regular expression: {reason}"));
            None
        }
    }
}

/// Reads `< 2%`: a comparison and what follows it.
pub(super) fn parse_comparison<T: std::str::FromStr<Err = machine::UnitError>>(
    text: &At<String>,
    example: &str,
    findings: &mut Findings<'_>,
) -> Option<(Comparison, T)> {
    const SYMBOLS: [Comparison; 4] =
        [Comparison::LessOrEqual, Comparison::GreaterOrEqual, Comparison::Less, Comparison::Greater];
    let found = SYMBOLS.iter().find_map(|symbol| Some((*symbol, text.value.trim().strip_prefix(symbol.symbol())?)));
    let Some((comparison, bound)) = found else {
        let message = format!("`{}` does not begin with a comparison", text.value);
        findings.invalid_but(text.place, message, format!("write it as `\"{example}\"`, with <, <=, > or >="));
        return None;
    };
    let bound = part(bound, text.place, findings);
    match bound.value.parse() {
        Ok(value) => Some((comparison, value)),
        Err(error) => {
            findings.invalid(bound.place, error.to_string());
            None
        }
    }
}
