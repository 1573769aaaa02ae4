//! The final report's tables, before they become text or Markdown.

mod links;
mod measurements;
mod nodes;

use std::borrow::Cow;

use event::{RunState, SourceState, Verdict};

use crate::columns::{Align, Cell};
use crate::paint::Tone;
use crate::{escape, figure};

pub(crate) use nodes::{Group, groups, mean_rate, phase_tone, received, state_label, tally};

/// A group of more nodes than this is told in one row.
pub(crate) const LARGEST_LISTED_GROUP: usize = 12;
/// Longer tables end in the number of rows left out; `result.json` has them all.
const MOST_ROWS: usize = 48;

/// Of the causes after the first, as many are shown.
const MOST_CAUSES: usize = 20;

/// A table with its title.
pub(crate) struct Section {
    pub(crate) title: &'static str,
    pub(crate) header: Cow<'static, [&'static str]>,
    pub(crate) aligns: Cow<'static, [Align]>,
    pub(crate) rows: Vec<Vec<Cell>>,
    /// Rows left out at the end.
    pub(crate) omitted: usize,
    /// What stands below it.
    pub(crate) notes: Vec<Cell>,
}

use Align::{Left, Right};

/// The causes after the first, which the verdict's line has, and how many of them are left out.
pub(crate) fn further_causes(state: &RunState) -> (impl Iterator<Item = &String>, usize) {
    (state.causes.iter().skip(1).take(MOST_CAUSES), state.causes.len().saturating_sub(1 + MOST_CAUSES))
}

/// Every table that has something to say.
pub(crate) fn sections(state: &RunState) -> Vec<Section> {
    let all = [
        nodes::section(state),
        sources(state),
        faults(state),
        expectations(state),
        measurements::section(state),
        links::section(state),
        recording(state),
        timers(state),
    ];
    all.into_iter().filter(|section| !section.rows.is_empty() || !section.notes.is_empty()).collect()
}

impl Section {
    fn new(
        title: &'static str,
        header: impl Into<Cow<'static, [&'static str]>>,
        aligns: impl Into<Cow<'static, [Align]>>,
        rows: impl IntoIterator<Item = Vec<Cell>>,
    ) -> Self {
        let mut rows = rows.into_iter();
        let kept = rows.by_ref().take(MOST_ROWS).collect();
        Section {
            title,
            header: header.into(),
            aligns: aligns.into(),
            rows: kept,
            omitted: rows.count(),
            notes: Vec::new(),
        }
    }
}

fn sources(state: &RunState) -> Section {
    let rows = state.nodes.iter().flat_map(|node| {
        let all: u128 = node.sources.values().map(|source| u128::from(source.received)).sum();
        node.sources.iter().map(move |(name, source)| {
            let share = if all == 0 { 0.0 } else { source.received as f64 / all as f64 };
            let (word, tone) = source_state(source.state);
            vec![
                Cell::new(escape::line(&node.name)),
                Cell::new(escape::line(name)),
                Cell::toned(word, tone),
                Cell::new(figure::size(source.received)),
                Cell::new(figure::percent(share)),
                Cell::toned(source.why.as_deref().map(escape::line).unwrap_or_default(), Tone::Faint),
            ]
        })
    });
    Section::new(
        "sources",
        &["of", "source", "state", "received", "share", "why"],
        &[Left, Left, Left, Right, Right, Left],
        rows,
    )
}

/// A source's state in a word.
pub(crate) fn source_state(state: SourceState) -> (&'static str, Tone) {
    match state {
        SourceState::Connecting => ("connecting", Tone::Notice),
        SourceState::Alive => ("alive", Tone::Good),
        SourceState::Stalled => ("stalled", Tone::Notice),
        SourceState::Dead => ("dead", Tone::Bad),
        SourceState::Rejected => ("rejected", Tone::Bad),
    }
}

fn faults(state: &RunState) -> Section {
    let rows = state.faults.iter().map(|fault| {
        let at = match fault.fired_at {
            Some(at) => Cell::new(format!("{:.3} s", state.since_start(at))),
            None => Cell::toned("never", Tone::Notice),
        };
        let until = fault.undone_at.map(|at| format!("{:.3} s", state.since_start(at))).unwrap_or_default();
        let failed = fault.failed.as_ref().map(|why| format!("failed: {}", escape::line(why))).unwrap_or_default();
        vec![at, Cell::new(until), Cell::new(escape::line(&fault.label)), Cell::toned(failed, Tone::Bad)]
    });
    Section::new("faults", &["at", "until", "fault", ""], &[Right, Right, Left, Left], rows)
}

fn expectations(state: &RunState) -> Section {
    let mut listed: Vec<_> = state.expectations.iter().collect();
    if listed.len() > MOST_ROWS {
        // What did not hold must not be among what is left out.
        listed.sort_by_key(|expectation| expectation.held == Some(true));
    }
    let rows = listed.into_iter().map(|expectation| {
        let result = match expectation.held {
            Some(true) => Cell::toned("ok", Tone::Good),
            // An INVALID run proves nothing against the program.
            Some(false) if state.verdict == Some(Verdict::Invalid) => Cell::toned("void", Tone::Notice),
            Some(false) => Cell::toned("FAILED", Tone::Bad),
            None => Cell::toned("open", Tone::Notice),
        };
        vec![
            result,
            Cell::new(escape::line(&expectation.label)),
            Cell::toned(escape::line(&expectation.found), Tone::Faint),
        ]
    });
    Section::new("expectations", &["", "expected", "found"], &[Left, Left, Left], rows)
}

fn recording(state: &RunState) -> Section {
    let rows = state.recording.iter().map(|recording| {
        let tone = if recording.unrecorded == 0 { Tone::Plain } else { Tone::Bad };
        let why = match (&recording.failed, recording.unrecorded) {
            (Some(failed), _) => escape::line(failed),
            (None, 0) => String::new(),
            (None, _) => "the disk did not keep up".to_owned(),
        };
        vec![
            Cell::new(recording.files.to_string()),
            Cell::new(recording.packets.to_string()),
            Cell::toned(recording.unrecorded.to_string(), tone),
            Cell::toned(why, Tone::Bad),
        ]
    });
    Section::new("recorded (pcap)", &["files", "packets", "not recorded", ""], &[Right, Right, Right, Left], rows)
}

fn timers(state: &RunState) -> Section {
    let rows = state.lags.iter().map(|(of, lag)| {
        vec![
            Cell::new(escape::line(of)),
            Cell::new(figure::span(lag.p50)),
            Cell::new(figure::span(lag.p99)),
            Cell::new(figure::span(lag.max)),
            Cell::new(figure::percent(lag.starved_share)),
        ]
    });
    Section::new("timer lateness", &["of", "p50", "p99", "max", "starved"], &[Left, Right, Right, Right, Right], rows)
}
