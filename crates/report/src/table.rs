//! The final tables, with the verdict as the last thing that a person sees.

use event::{RunState, Verdict};

use crate::columns::{self, Cell};
use crate::paint::Tone;
use crate::section::{Section, further_causes, sections};
use crate::{escape, figure};

/// What a terminal shows after a run: nodes, sources, faults, expectations, links and timers, then the verdict, its
/// causes and the command that repeats the run. Ends in a newline; where everything is kept is the caller's to add.
pub fn table(state: &RunState, colour: bool) -> String {
    let mut out = String::new();
    for section in sections(state) {
        out.push('\n');
        for line in section_lines(&section, colour) {
            out.push_str(&line);
            out.push('\n');
        }
    }
    out.push('\n');
    for line in verdict_lines(state, colour) {
        out.push_str(&line);
        out.push('\n');
    }
    out
}

/// The verdict in one line, with the first cause of anything but PASS.
pub fn verdict_line(state: &RunState) -> String {
    let name = run_name(state);
    let Some(verdict) = state.verdict else {
        return format!("NO VERDICT {name}: the log ends before the run does");
    };
    match (verdict, state.causes.first()) {
        (Verdict::Pass, _) | (_, None) => {
            let took = state.took.map(|took| format!(" in {}", figure::span(took))).unwrap_or_default();
            let seed = state.seed.map(|seed| format!(" (seed {seed})")).unwrap_or_default();
            format!("{verdict} {name}{took}{seed}")
        }
        (_, Some(cause)) => format!("{verdict} {name}: {}", escape::line(cause)),
    }
}

/// The topology's name.
pub(crate) fn run_name(state: &RunState) -> String {
    if state.name.is_empty() { "a run without a name".to_owned() } else { escape::line(&state.name) }
}

/// The tone of an outcome.
pub(crate) fn verdict_tone(verdict: Option<Verdict>) -> Tone {
    match verdict {
        Some(Verdict::Pass) => Tone::Good,
        Some(Verdict::Fail) => Tone::Bad,
        Some(Verdict::Invalid | Verdict::Interrupted) | None => Tone::Notice,
    }
}

fn section_lines(section: &Section, colour: bool) -> Vec<String> {
    let mut rows = vec![section.header.iter().map(|name| Cell::toned(*name, Tone::Faint)).collect::<Vec<_>>()];
    rows.extend(section.rows.iter().cloned());
    let mut lines = vec![Tone::Strong.paint(section.title, colour)];
    if !section.rows.is_empty() {
        lines.extend(columns::lines(&rows, &section.aligns, 2, colour));
    }
    if section.omitted > 0 {
        lines.push(Tone::Faint.paint(&format!("  and {}", figure::count(section.omitted, "more row")), colour));
    }
    lines.extend(section.notes.iter().map(|note| format!("  {}", note.tone.paint(&note.text, colour))));
    lines
}

fn verdict_lines(state: &RunState, colour: bool) -> Vec<String> {
    let line = verdict_line(state);
    let word = state.verdict.map_or_else(|| "NO VERDICT".to_owned(), |verdict| verdict.to_string());
    let rest = line.strip_prefix(&word).unwrap_or_default();
    let mut lines = vec![format!("{}{rest}", verdict_tone(state.verdict).paint(&word, colour))];
    if state.verdict != Some(Verdict::Pass) {
        let (causes, left_out) = further_causes(state);
        lines.extend(causes.map(|cause| format!("  {}", escape::line(cause))));
        if left_out > 0 {
            lines.push(format!("  and {}", figure::count(left_out, "more cause")));
        }
        if !state.repeat.is_empty() {
            lines.push(format!("repeat with: {}", escape::line(&state.repeat)));
        }
    }
    lines
}
