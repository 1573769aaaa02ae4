//! What was measured of links before nodes started, beside what was asked for.

use std::collections::BTreeMap;

use event::{Direction, LinkMeasurement, MeasuredOutcome, RunState};
use machine::{Rate, Span};

use super::{LARGEST_LISTED_GROUP, Section, groups};
use crate::columns::{Align, Cell};
use crate::paint::Tone;
use crate::{escape, figure};

/// A row for each half link, or one for those of a large group that are as asked for and were asked for the same.
pub(super) fn section(state: &RunState) -> Section {
    let mut rows: Vec<Row<'_>> = Vec::new();
    let large: BTreeMap<&str, &str> = groups(state)
        .iter()
        .filter(|group| group.nodes.len() > LARGEST_LISTED_GROUP)
        .flat_map(|group| group.nodes.iter().map(|node| (node.name.as_str(), group.name)))
        .collect();
    for link in &state.measurements {
        let group = large.get(link.node.as_str()).copied().filter(|_| link.outcome == MeasuredOutcome::Within);
        let joins = |row: &&mut Row<'_>| {
            let other = row.links[0];
            row.group.is_some()
                && row.group == group
                && (&other.network, other.direction, other.delay, other.rate, &other.unmeasured)
                    == (&link.network, link.direction, link.delay, link.rate, &link.unmeasured)
        };
        match rows.iter_mut().find(joins) {
            Some(row) => row.links.push(link),
            None => rows.push(Row { group, links: vec![link] }),
        }
    }
    // What is not as it should be must not be among what is left out.
    rows.sort_by_key(|row| row.links[0].outcome == MeasuredOutcome::Within);
    let with_loss = state.measurements.iter().any(|link| link.loss_measured.is_some());
    let mut headings = vec!["node", "network", "half", "delay", "measured", "rate", "measured"];
    let mut aligns = vec![Align::Left, Align::Left, Align::Left];
    if with_loss {
        headings.extend(["loss", "measured"]);
    }
    aligns.resize(headings.len(), Align::Right);
    headings.push("");
    aligns.push(Align::Left);
    let rows = rows.iter().map(|row| row.cells(with_loss));
    Section::new("links as measured before the start", headings, aligns, rows)
}

struct Row<'a> {
    group: Option<&'a str>,
    links: Vec<&'a LinkMeasurement>,
}

impl Row<'_> {
    fn cells(&self, with_loss: bool) -> Vec<Cell> {
        let first = self.links[0];
        let tone = match first.outcome {
            MeasuredOutcome::Within => Tone::Plain,
            MeasuredOutcome::Outside => Tone::Bad,
            MeasuredOutcome::Starved => Tone::Notice,
            MeasuredOutcome::Unmeasured => Tone::Faint,
        };
        let name = match (self.group, self.links.len()) {
            (Some(group), 2..) => format!("{} ×{}", escape::line(group), self.links.len()),
            _ => escape::line(&first.node),
        };
        let half = match first.direction {
            Direction::Up => "up",
            Direction::Down => "down",
            Direction::Between => "pair",
        };
        let mut cells = vec![
            Cell::new(name),
            Cell::new(escape::line(&first.network)),
            Cell::new(half),
            Cell::new(milliseconds(first.delay)),
            Cell::toned(
                self.range(
                    |link| link.delay_measured.map(Span::as_nanos),
                    |nanos| milliseconds(Span::from_nanos(nanos)),
                ),
                tone,
            ),
            first.rate.map_or_else(none, |rate| Cell::new(figure::rate(rate))),
            Cell::toned(
                self.range(
                    |link| link.rate_measured.map(Rate::as_bits_per_sec),
                    |bits| figure::rate(Rate::from_bits_per_sec(bits)),
                ),
                tone,
            ),
        ];
        if with_loss {
            let measured = first.loss_measured.zip(first.loss_interval);
            cells.push(Cell::new(percent(first.loss)));
            cells.push(match measured {
                Some((share, (low, high))) if self.links.len() == 1 => {
                    Cell::toned(format!("{} ({} … {})", percent(share), percent(low), percent(high)), tone)
                }
                Some(_) => {
                    let shares = self.links.iter().filter_map(|link| link.loss_measured);
                    Cell::new(percent(shares.sum::<f64>() / self.links.len() as f64))
                }
                None => none(),
            });
        }
        let remark = match first.outcome {
            MeasuredOutcome::Outside => format!("not as asked for: {}", first.deviations.join("; ")),
            MeasuredOutcome::Starved => "this machine was too busy".to_owned(),
            MeasuredOutcome::Within | MeasuredOutcome::Unmeasured if first.unmeasured.is_empty() => String::new(),
            MeasuredOutcome::Within | MeasuredOutcome::Unmeasured => {
                format!("not measured: {}", first.unmeasured.join("; "))
            }
        };
        let tone = if first.outcome == MeasuredOutcome::Within { Tone::Faint } else { tone };
        cells.push(Cell::toned(escape::line(&remark), tone));
        cells
    }

    /// Of all links of the row: one figure, or the least and the largest.
    fn range(&self, of: impl Fn(&LinkMeasurement) -> Option<u64>, say: impl Fn(u64) -> String) -> String {
        let figures = || self.links.iter().filter_map(|link| of(link));
        match (figures().min(), figures().max()) {
            (Some(least), Some(largest)) if say(least) != say(largest) => format!("{} … {}", say(least), say(largest)),
            (Some(least), _) => say(least),
            _ => "-".to_owned(),
        }
    }
}

fn none() -> Cell {
    Cell::toned("-", Tone::Faint)
}

/// Always in the same unit, to be compared.
fn milliseconds(span: Span) -> String {
    format!("{:.2} ms", span.as_secs_f64() * 1e3)
}

fn percent(share: f64) -> String {
    format!("{:.2} %", share * 100.0)
}
