//! The part of a terminal that is redrawn in place: a header and a row for each node or group.

use event::{NodeState, RunState, SourceState};
use machine::{Rate, Span};

use crate::columns::{self, Align, Cell};
use crate::paint::Tone;
use crate::section::{Group, LARGEST_LISTED_GROUP, groups, phase_tone, state_label, tally};
use crate::table::run_name;
use crate::{escape, figure};

/// Below this width a panel does without the programs' names, and its bars are short.
const WIDE: usize = 110;
/// The least that is drawn into, whatever a terminal says of itself.
const SMALLEST: (usize, usize) = (20, 4);

const ALIGNS: [Align; 6] = [Align::Left, Align::Left, Align::Right, Align::Left, Align::Left, Align::Left];

/// A header and rows for nodes and groups, `now` after the run began, as lines that fit into a terminal of `size`
/// (columns, rows) with room to spare for one more. Where nodes are too many, the largest groups become one row each.
pub fn panel(state: &RunState, now: Span, size: (usize, usize), colour: bool) -> String {
    let (width, height) = (size.0.max(SMALLEST.0), size.1.max(SMALLEST.1));
    // A row for the header, and one so that the fact above stays in sight.
    let rows = rows(state, height - 2, width >= WIDE);
    let mut lines = vec![header(state, now, colour)];
    lines.extend(columns::lines(&rows, &ALIGNS, 2, colour));
    // The last column stays free: some terminals wrap when it is written.
    let cut: Vec<_> = lines.iter().map(|line| console::truncate_str(line, width - 1, "…")).collect();
    cut.join("\n")
}

fn header(state: &RunState, now: Span, colour: bool) -> String {
    let seconds = |span: Span| format!("{:.1} s", span.as_secs_f64());
    let (phase, tone, time) = match (state.started_at, state.raised_in, &state.interrupted_by) {
        _ if state.took.is_some() => ("ended", Tone::Faint, seconds(state.took.unwrap_or_default())),
        (_, _, Some(_)) => ("stopping", Tone::Notice, seconds(now)),
        (Some(begin), _, _) => {
            let time = format!("{} of {}", seconds(now.saturating_sub(begin)), state.timeout);
            ("running", Tone::Good, time)
        }
        (None, Some(_), _) => ("starting", Tone::Notice, seconds(now)),
        (None, None, _) => ("building", Tone::Notice, seconds(now)),
    };
    let seed = state.seed.map(|seed| format!("seed {seed}  ")).unwrap_or_default();
    let fired = state.faults.iter().filter(|fault| fault.fired_at.is_some()).count();
    let faults = match state.faults.len() {
        0 => String::new(),
        all => format!("  faults {fired} of {all}"),
    };
    format!("{}  {seed}{}  {time}{faults}", Tone::Strong.paint(&run_name(state), colour), tone.paint(phase, colour))
}

/// Nodes one by one while they fit; the largest groups in one row first.
fn rows(state: &RunState, room: usize, wide: bool) -> Vec<Vec<Cell>> {
    let groups = groups(state);
    let mut listed: Vec<bool> = groups.iter().map(|group| group.nodes.len() <= LARGEST_LISTED_GROUP).collect();
    let height = |listed: &[bool]| -> usize {
        groups.iter().zip(listed).map(|(group, listed)| if *listed { group.nodes.len() } else { 1 }).sum()
    };
    while height(&listed) > room {
        let largest = (0..groups.len())
            .filter(|n| listed[*n] && groups[*n].nodes.len() > 1)
            .max_by_key(|n| groups[*n].nodes.len());
        let Some(largest) = largest else { break };
        listed[largest] = false;
    }
    let mut rows: Vec<Vec<Cell>> = Vec::new();
    for (group, listed) in groups.iter().zip(listed) {
        if listed {
            rows.extend(group.nodes.iter().map(|node| node_row(node, wide)));
        } else {
            rows.push(group_row(group, wide));
        }
    }
    if rows.len() > room {
        let left_out = rows.len() - (room - 1);
        rows.truncate(room - 1);
        rows.push(vec![Cell::toned(format!("and {left_out} more"), Tone::Faint)]);
    }
    rows
}

fn node_row(node: &NodeState, wide: bool) -> Vec<Cell> {
    let (bar, amount) = match node.progress {
        Some(progress) => {
            let sources = source_count(node);
            let amount = format!("{}{sources}", figure::amount(progress.bytes, progress.total));
            let known = progress.total > 0;
            (if known { bar(progress.bytes, progress.total, wide) } else { String::new() }, amount)
        }
        None if node.served > 0 => (String::new(), format!("{} sent", figure::size(node.served))),
        None => (String::new(), String::new()),
    };
    vec![
        Cell::new(escape::line(&node.name)),
        Cell::toned(state_label(node), phase_tone(node.phase)),
        speed(node.rate),
        Cell::new(bar),
        Cell::new(amount),
        program(&node.program, wide),
    ]
}

fn group_row(group: &Group<'_>, wide: bool) -> Vec<Cell> {
    let sum = |of: &dyn Fn(&NodeState) -> u64| group.nodes.iter().fold(0u64, |sum, node| sum.saturating_add(of(node)));
    let bytes = sum(&|node| node.progress.unwrap_or_default().bytes);
    let total = sum(&|node| node.progress.unwrap_or_default().total);
    let served = sum(&|node| node.served);
    let (words, tone) = tally(&group.nodes);
    let amount = match (bytes.max(total), served) {
        (0, 0) => String::new(),
        (0, served) => format!("{} sent", figure::size(served)),
        _ => figure::amount(bytes, total),
    };
    vec![
        Cell::new(format!("{} ×{}", escape::line(group.name), group.nodes.len())),
        Cell::toned(words, tone),
        speed(Rate::from_bits_per_sec(sum(&|node| node.rate.as_bits_per_sec()))),
        Cell::new(if total > 0 { bar(bytes, total, wide) } else { String::new() }),
        Cell::new(amount),
        program(group.nodes.first().map_or("", |node| &node.program), wide),
    ]
}

fn program(name: &str, wide: bool) -> Cell {
    Cell::toned(if wide { escape::line(name) } else { String::new() }, Tone::Faint)
}

fn speed(rate: Rate) -> Cell {
    if rate == Rate::default() { Cell::toned("-", Tone::Faint) } else { Cell::new(figure::rate(rate)) }
}

fn bar(bytes: u64, total: u64, wide: bool) -> String {
    let cells = if wide { 20 } else { 10 };
    let share = figure::percent_of(bytes, total).unwrap_or(0.0);
    let full = (share / 100.0 * cells as f64) as usize;
    format!("{}{} {share:>5.1} %", "█".repeat(full), "░".repeat(cells - full))
}

fn source_count(node: &NodeState) -> String {
    let alive = node.sources.values().filter(|source| source.state == SourceState::Alive).count();
    match node.sources.len() {
        0 => String::new(),
        all => format!(", {alive} of {all} sources"),
    }
}

#[cfg(test)]
mod tests {
    use event::{Event, NodeInfo, NodeReport, Record};
    use machine::Seed;

    use super::*;

    /// Groups of these sizes, all running, each node half done.
    fn state(sizes: &[(&str, usize)]) -> RunState {
        let nodes = sizes
            .iter()
            .flat_map(|(group, size)| (1..=*size).map(move |n| (group.to_string(), format!("{group}-{n}"))))
            .map(|(group, name)| NodeInfo { name, group, program: "peer".into(), addresses: vec![] })
            .collect::<Vec<_>>();
        let names: Vec<String> = nodes.iter().map(|node| node.name.clone()).collect();
        let mut state = RunState::default();
        let mut apply = |event| state.apply(&Record::new(Span::from_secs(1), event));
        apply(Event::RunBegan {
            name: "swarm".into(),
            file: "swarm.yaml".into(),
            seed: Seed::new(7),
            engine: "netns".into(),
            version: "0".into(),
            unix_ms: 0,
            timeout: Span::from_secs(60),
            nodes,
            networks: vec![],
            faults: vec!["at 1s: kill peer-1".into()],
            expectations: vec![],
            repeat: String::new(),
        });
        apply(Event::AllStarted);
        for node in names {
            apply(Event::NodeStarted { node: node.clone(), incarnation: 1 });
            apply(Event::NodeReady { node: node.clone(), incarnation: 1 });
            let report = NodeReport::Progress { bytes: 1 << 20, total: 2 << 20, received: 0 };
            apply(Event::NodeReported { node, incarnation: 1, report });
        }
        state
    }

    #[test]
    fn a_thousand_nodes_are_one_row() {
        let state = state(&[("tracker", 1), ("peer", 1000)]);
        insta::assert_snapshot!(panel(&state, Span::from_secs(3), (100, 24), false), @"
        swarm  seed 7  running  2.0 s of 1min  faults 0 of 1
          tracker-1   running       -  █████░░░░░  50.0 %  1.0 MiB of 2.0 MiB
          peer ×1000  1000 running  -  █████░░░░░  50.0 %  1000.0 MiB of 2.0 GiB
        ");
    }

    #[test]
    fn groups_fold_until_the_panel_fits_and_no_line_is_too_long() {
        let state = state(&[("a", 3), ("b", 9), ("c", 12), ("d", 1)]);
        for (width, height) in [(0, 0), (20, 4), (40, 8), (80, 24), (200, 50)] {
            let panel = panel(&state, Span::from_secs(3), (width, height), true);
            let lines: Vec<_> = panel.lines().collect();
            assert!(lines.len() < height.max(SMALLEST.1), "{} lines in a terminal of {height}", lines.len());
            assert!(lines.iter().all(|line| console::measure_text_width(line) < width.max(SMALLEST.0)));
        }
        let names = |height| {
            let panel = panel(&state, Span::from_secs(3), (80, height), false);
            panel.lines().skip(1).map(|line| line.split("  ").nth(1).unwrap().to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(names(8), ["a-1", "a-2", "a-3", "b ×9", "c ×12", "d-1"]);
        assert_eq!(names(6), ["a ×3", "b ×9", "c ×12", "d-1"]);
        assert_eq!(names(5), ["a ×3", "b ×9", "and 2 more"]);
    }
}
