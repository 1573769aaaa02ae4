//! The summary for a CI job's page, as GitHub's Markdown.

use event::{RunState, Verdict};

use crate::columns::{Align, Cell};
use crate::section::{Section, further_causes, sections};
use crate::table::{run_name, verdict_line};
use crate::{escape, figure, stamp};

/// The verdict, its causes and the tables.
pub fn markdown(state: &RunState) -> String {
    let mark = match state.verdict {
        Some(Verdict::Pass) => "✅",
        Some(Verdict::Fail) => "❌",
        Some(Verdict::Invalid | Verdict::Interrupted) | None => "⚠️",
    };
    let mut out = format!("## {mark} {}\n\n", escape::markdown(&verdict_line(state)));
    if state.verdict != Some(Verdict::Pass) {
        let (causes, left_out) = further_causes(state);
        for cause in causes {
            out.push_str(&format!("- {}\n", escape::markdown(cause)));
        }
        if left_out > 0 {
            out.push_str(&format!("- and {}\n", figure::count(left_out, "more cause")));
        }
        if state.causes.len() > 1 {
            out.push('\n');
        }
        if !state.repeat.is_empty() {
            out.push_str(&fenced(&escape::line(&state.repeat)));
        }
    }
    out.push_str(&circumstances(state));
    for section in sections(state) {
        out.push_str(&table(&section));
    }
    out
}

fn circumstances(state: &RunState) -> String {
    let mut parts = vec![escape::markdown(&run_name(state))];
    parts.extend(state.seed.map(|seed| format!("seed {seed}")));
    if !state.engine.is_empty() {
        parts.push(format!("engine {}", escape::markdown(&state.engine)));
    }
    parts.push(figure::count(state.nodes.len(), "node"));
    parts.extend(state.took.map(figure::span));
    parts.push(stamp::utc(state.unix_ms));
    if !state.version.is_empty() {
        parts.push(format!("testbed {}", escape::markdown(&state.version)));
    }
    format!("{}\n\n", parts.join(" · "))
}

fn table(section: &Section) -> String {
    let row = |cells: Vec<String>| format!("| {} |\n", cells.join(" | "));
    let cell = |cell: &Cell| escape::markdown(&cell.text);
    let rule = |align: &Align| if *align == Align::Right { "---:" } else { "---" }.to_owned();
    let mut out = format!("### {}\n\n", section.title);
    if !section.rows.is_empty() {
        out.push_str(&row(section.header.iter().map(|name| (*name).to_owned()).collect()));
        out.push_str(&row(section.aligns.iter().map(rule).collect()));
    }
    for cells in &section.rows {
        out.push_str(&row(cells.iter().map(cell).collect()));
    }
    if section.omitted > 0 {
        out.push_str(&format!("\nand {}\n", figure::count(section.omitted, "more row")));
    }
    for (index, note) in section.notes.iter().enumerate() {
        let gap = if index == 0 && !section.rows.is_empty() { "\n" } else { "" };
        out.push_str(&format!("{gap}- {}\n", cell(note)));
    }
    out.push('\n');
    out
}

/// `text` as a code block whose fence is longer than any run of backticks in it.
fn fenced(text: &str) -> String {
    let longest = text.split(|c| c != '`').map(str::len).max().unwrap_or(0);
    let fence = "`".repeat(longest.max(2) + 1);
    format!("{fence}sh\n{text}\n{fence}\n\n")
}
