//! The final report's tables, before they become text or Markdown.

mod nodes;

use std::collections::BTreeMap;

use event::{Direction, LinkCount, RunState, SourceState, Verdict};

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
    pub(crate) header: &'static [&'static str],
    pub(crate) aligns: &'static [Align],
    pub(crate) rows: Vec<Vec<Cell>>,
    /// Rows left out at the end.
    pub(crate) omitted: usize,
}

use Align::{Left, Right};

/// The causes after the first, which the verdict's line has, and how many of them are left out.
pub(crate) fn further_causes(state: &RunState) -> (impl Iterator<Item = &String>, usize) {
    (state.causes.iter().skip(1).take(MOST_CAUSES), state.causes.len().saturating_sub(1 + MOST_CAUSES))
}

/// Every table that has rows.
pub(crate) fn sections(state: &RunState) -> Vec<Section> {
    let all = [nodes::section(state), sources(state), faults(state), expectations(state), links(state), timers(state)];
    all.into_iter().filter(|section| !section.rows.is_empty()).collect()
}

impl Section {
    fn new(
        title: &'static str,
        header: &'static [&'static str],
        aligns: &'static [Align],
        rows: impl IntoIterator<Item = Vec<Cell>>,
    ) -> Self {
        let mut rows = rows.into_iter();
        let kept = rows.by_ref().take(MOST_ROWS).collect();
        Section { title, header, aligns, rows: kept, omitted: rows.count() }
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

fn links(state: &RunState) -> Section {
    let rows = link_rows(state).into_iter().map(|(name, count)| {
        let direction = match count.direction {
            Direction::Up => "up",
            Direction::Down => "down",
        };
        let number = |n: u64| Cell { text: n.to_string(), tone: if n == 0 { Tone::Faint } else { Tone::Plain } };
        vec![
            Cell::new(name),
            Cell::new(escape::line(&count.network)),
            Cell::new(direction),
            number(count.offered),
            number(count.delivered),
            number(count.lost),
            number(count.queue),
            number(count.partition),
            number(count.cut),
            number(count.in_flight),
            Cell::new(figure::size(count.delivered_bytes)),
        ]
    });
    Section::new(
        "links (packets)",
        &[
            "node",
            "network",
            "half",
            "offered",
            "delivered",
            "lost",
            "queue",
            "partition",
            "cut",
            "in flight",
            "delivered bytes",
        ],
        &[Left, Left, Left, Right, Right, Right, Right, Right, Right, Right, Right],
        rows,
    )
}

/// The links, those of a large group added up, in the order of the log.
fn link_rows(state: &RunState) -> Vec<(String, LinkCount)> {
    let large: BTreeMap<&str, &str> = groups(state)
        .iter()
        .filter(|group| group.nodes.len() > LARGEST_LISTED_GROUP)
        .flat_map(|group| group.nodes.iter().map(|node| (node.name.as_str(), group.name)))
        .collect();
    let mut rows: Vec<(String, LinkCount)> = Vec::new();
    let mut sums: BTreeMap<(&str, &str, &str), (usize, usize)> = BTreeMap::new();
    for count in &state.links {
        let Some(group) = large.get(count.node.as_str()) else {
            rows.push((escape::line(&count.node), count.clone()));
            continue;
        };
        let half = if count.direction == Direction::Up { "up" } else { "down" };
        let (row, links) = sums.entry((group, &count.network, half)).or_insert_with(|| {
            rows.push((String::new(), LinkCount { node: String::new(), ..count.clone() }));
            (rows.len() - 1, 0)
        });
        *links += 1;
        let (name, sum) = &mut rows[*row];
        *name = format!("{} ×{links}", escape::line(group));
        if *links > 1 {
            add(sum, count);
        }
    }
    rows
}

fn add(sum: &mut LinkCount, count: &LinkCount) {
    for (total, one) in [
        (&mut sum.offered, count.offered),
        (&mut sum.offered_bytes, count.offered_bytes),
        (&mut sum.delivered, count.delivered),
        (&mut sum.delivered_bytes, count.delivered_bytes),
        (&mut sum.lost, count.lost),
        (&mut sum.queue, count.queue),
        (&mut sum.partition, count.partition),
        (&mut sum.cut, count.cut),
        (&mut sum.in_flight, count.in_flight),
    ] {
        *total = total.saturating_add(one);
    }
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
