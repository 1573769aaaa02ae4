//! What became of the packets: each half link from what was offered to what the program behind it kept.

use std::collections::BTreeMap;

use event::{Direction, Discards, LinkAccount, LinkCount, RunState};

use super::{LARGEST_LISTED_GROUP, Section, groups};
use crate::columns::Align::{Left, Right};
use crate::columns::Cell;
use crate::paint::Tone;
use crate::{escape, figure};

/// Of half links that do not add up, and of what no half link leads to, so many are named.
const MOST_NAMED: usize = 5;

/// A row: one half link, or those of a large group together.
struct Row {
    name: String,
    count: LinkCount,
    program: Option<Discards>,
}

pub(super) fn section(state: &RunState) -> Section {
    type Number = fn(&LinkCount) -> u64;
    /// Each with whether its column stands there only where there is something to say.
    const NUMBERS: [(&str, Number, bool); 12] = [
        ("offered", |count| count.offered, false),
        (DUPLICATED, |count| count.duplicated, true),
        ("delivered", |count| count.delivered, false),
        (CORRUPTED, |count| count.corrupted, true),
        ("lost", |count| count.lost, false),
        ("queue", |count| count.queue, false),
        ("lost or queue", |count| count.lost_or_queue, true),
        ("partition", |count| count.partition, false),
        ("cut", |count| count.cut, false),
        ("no room", |count| count.overflow, true),
        ("in flight", |count| count.in_flight, false),
        ("delivered bytes", |count| count.delivered_bytes, false),
    ];
    type Datagrams = fn(&Discards) -> u64;
    const PROGRAM: [(&str, Datagrams); 3] =
        [("to program", |all| all.arrived), ("program p", |all| all.discarded), ("kept", Discards::kept)];
    let rows = rows(state);
    let says = |number: &Number, rare: bool| !rare || rows.iter().any(|row| number(&row.count) > 0);
    let numbers: Vec<_> = NUMBERS.iter().filter(|(_, number, rare)| says(number, *rare)).collect();
    let program = if rows.iter().any(|row| row.program.is_some()) { PROGRAM.as_slice() } else { &[] };
    let packets = |packets: u64| match packets {
        0 => Cell::toned("0".to_owned(), Tone::Faint),
        packets => Cell::new(packets.to_string()),
    };
    let cells = rows.iter().map(|row| {
        let count = &row.count;
        let network = escape::line(&count.network);
        let mut cells = vec![Cell::new(row.name.clone()), Cell::new(network), Cell::new(half(count.direction))];
        cells.extend(numbers.iter().map(|(name, number, _)| match number(count) {
            bytes if name.ends_with("bytes") => Cell::new(figure::size(bytes)),
            _ if count.by_kernel && [DUPLICATED, CORRUPTED].contains(name) => Cell::toned("not told", Tone::Faint),
            number => packets(number),
        }));
        cells.extend(program.iter().map(|(_, number)| match &row.program {
            Some(discards) => packets(number(discards)),
            None => Cell::default(),
        }));
        cells
    });
    let mut headings = vec!["node", "network", "half"];
    headings.extend(numbers.iter().map(|(name, ..)| *name).chain(program.iter().map(|(name, _)| *name)));
    let mut alignments = vec![Left; 3];
    alignments.resize(headings.len(), Right);
    Section { notes: notes(state), ..Section::new("links (packets)", headings, alignments, cells) }
}

const DUPLICATED: &str = "duplicated";
const CORRUPTED: &str = "corrupted";

fn half(direction: Direction) -> &'static str {
    match direction {
        Direction::Up => "up",
        Direction::Down => "down",
        Direction::Between => "pair",
    }
}

/// The links, those of a large group added up, in the order of the log.
fn rows(state: &RunState) -> Vec<Row> {
    let large: BTreeMap<&str, &str> = groups(state)
        .iter()
        .filter(|group| group.nodes.len() > LARGEST_LISTED_GROUP)
        .flat_map(|group| group.nodes.iter().map(|node| (node.name.as_str(), group.name)))
        .collect();
    let mut rows: Vec<Row> = Vec::new();
    let mut sums: BTreeMap<(&str, &str, &str), (usize, usize)> = BTreeMap::new();
    for LinkAccount { count, program } in state.accounts() {
        let Some(group) = large.get(count.node.as_str()) else {
            rows.push(Row { name: escape::line(&count.node), count: count.clone(), program });
            continue;
        };
        // A pair is of no group.
        let (row, links) = sums.entry((group, &count.network, half(count.direction))).or_insert_with(|| {
            rows.push(Row { name: String::new(), count: LinkCount { node: String::new(), ..count.clone() }, program });
            (rows.len() - 1, 0)
        });
        *links += 1;
        let sum = &mut rows[*row];
        sum.name = format!("{} ×{links}", escape::line(group));
        if *links > 1 {
            sum.add(count, program);
        }
    }
    rows
}

impl Row {
    fn add(&mut self, count: &LinkCount, program: Option<Discards>) {
        let sum = &mut self.count;
        sum.by_kernel |= count.by_kernel;
        let own = program.map(|_| self.program.get_or_insert_default());
        let (arrived, discarded) = own.map(|own| (&mut own.arrived, &mut own.discarded)).unzip();
        let program = program.unwrap_or_default();
        for (total, one) in [
            (&mut sum.offered, count.offered),
            (&mut sum.offered_bytes, count.offered_bytes),
            (&mut sum.delivered, count.delivered),
            (&mut sum.delivered_bytes, count.delivered_bytes),
            (&mut sum.duplicated, count.duplicated),
            (&mut sum.corrupted, count.corrupted),
            (&mut sum.lost, count.lost),
            (&mut sum.queue, count.queue),
            (&mut sum.lost_or_queue, count.lost_or_queue),
            (&mut sum.partition, count.partition),
            (&mut sum.cut, count.cut),
            (&mut sum.overflow, count.overflow),
            (&mut sum.in_flight, count.in_flight),
        ]
        .into_iter()
        .chain(arrived.map(|arrived| (arrived, program.arrived)))
        .chain(discarded.map(|discarded| (discarded, program.discarded)))
        {
            *total = total.saturating_add(one);
        }
    }
}

/// What the table cannot say: what nobody counted, and what does not add up.
fn notes(state: &RunState) -> Vec<Cell> {
    let mut notes = Vec::new();
    let wrong: Vec<_> = state.accounts().filter(|account| !account.adds_up()).collect();
    notes.extend(wrong.iter().take(MOST_NAMED).map(|LinkAccount { count, .. }| {
        let (node, network) = (escape::line(&count.node), escape::line(&count.network));
        Cell::toned(format!("{node} {network} {}: the numbers do not add up", half(count.direction)), Tone::Bad)
    }));
    if wrong.len() > MOST_NAMED {
        notes.push(Cell::toned(format!("and so do those of {} more", wrong.len() - MOST_NAMED), Tone::Bad));
    }
    // Only a run that came to its end has counted.
    if state.took.is_none() || state.raised_in.is_none() {
        return notes;
    }
    notes.extend(state.networks.iter().filter_map(|network| {
        let why = match network.medium.as_str() {
            "bridge" => "a kernel bridge, which impairs and drops nothing: not counted",
            "netem" => "counted by the kernel, and only the half links that something impairs",
            _ => return None,
        };
        Some(Cell::toned(format!("{}: {why}", escape::line(&network.name)), Tone::Faint))
    }));
    notes.extend(state.unplaced_discards().take(MOST_NAMED).map(|(node, discards)| {
        let Discards { arrived, discarded } = discards;
        let text = format!("{}: its program threw away {discarded} of {arrived} datagrams", escape::line(node));
        Cell::toned(text, Tone::Faint)
    }));
    notes
}
