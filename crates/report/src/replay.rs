//! What the model decides again about the packets of a run, and whether the run had decided the same.

use event::Direction;
use link::Drops;
use machine::Time;
use replay::{Difference, Fate, HalfAccount, NetworkAccount, Recorded};
use serde_json::{Value, json};

use crate::columns::Align::{Left, Right};
use crate::columns::{self, Cell};
use crate::paint::Tone;
use crate::{escape, figure};

/// Of more half links the rest are left out; the JSON has them all.
const MOST_ROWS: usize = 48;

/// Whether every decision is the same.
pub fn is_alike(networks: &[NetworkAccount]) -> bool {
    networks.iter().all(|network| network.difference.is_none())
}

/// For a terminal: a table of the half links that carried anything, then the outcome and the first difference. Ends in a
/// newline.
pub fn replay_table(recorded: &Recorded, networks: &[NetworkAccount], colour: bool) -> String {
    let mut halves: Vec<(&NetworkAccount, &HalfAccount)> =
        networks.iter().flat_map(|network| network.halves.iter().map(move |half| (network, half))).collect();
    halves.retain(|(_, half)| half.counters.offered.packets > 0 || half.different > 0);
    // What differs must not be among what is left out.
    halves.sort_by_key(|(_, half)| half.different == 0);
    let left_out = halves.len().saturating_sub(MOST_ROWS);
    let header =
        ["node", "network", "half", "decided", "alike", "passed", "lost", "queue", "partition", "cut", "under way"];
    let mut rows = vec![header.map(|name| Cell::toned(name, Tone::Faint)).to_vec()];
    rows.extend(halves.iter().take(MOST_ROWS).map(|(network, half)| row(&network.name, half)));
    let mut aligns = vec![Left; 3];
    aligns.resize(header.len(), Right);
    let mut lines = vec![Tone::Strong.paint("decided again (packets)", colour)];
    lines.extend(columns::lines(&rows, &aligns, 2, colour));
    if left_out > 0 {
        lines.push(Tone::Faint.paint(&format!("  and {}", figure::count(left_out, "more row")), colour));
    }
    lines.push(String::new());
    lines.extend(outcome(recorded, networks, colour));
    lines.push(String::new());
    lines.join("\n")
}

fn row(network: &str, half: &HalfAccount) -> Vec<Cell> {
    let number = |packets: u64| {
        if packets == 0 { Cell::toned("0", Tone::Faint) } else { Cell::new(packets.to_string()) }
    };
    let tone = if half.different == 0 { Tone::Good } else { Tone::Bad };
    let Drops { loss, queue, partition, cut, .. } = half.counters.dropped;
    let mut row = vec![
        Cell::new(escape::line(&half.node)),
        Cell::new(escape::line(network)),
        Cell::new(half_name(half.direction)),
        number(half.decided()),
        Cell::toned(half.decided().saturating_sub(half.different).to_string(), tone),
    ];
    row.extend(
        [half.counters.delivered, loss, queue, partition, cut, half.counters.in_flight]
            .map(|tally| number(tally.packets)),
    );
    row
}

fn outcome(recorded: &Recorded, networks: &[NetworkAccount], colour: bool) -> Vec<String> {
    let name = escape::line(&recorded.name);
    let packets: u64 = networks.iter().map(|network| network.packets).sum();
    let alike: u64 = networks.iter().map(|network| network.alike).sum();
    let changes = recorded.changes.iter().filter(|change| change.relay_ns <= recorded.ended.as_nanos()).count();
    let Some((network, difference)) =
        networks.iter().find_map(|network| network.difference.as_ref().map(|difference| (network, difference)))
    else {
        let word = Tone::Good.paint("ALIKE", colour);
        let changes = if changes == 0 { String::new() } else { format!(" and {}", figure::count(changes, "change")) };
        return vec![format!(
            "{word} {name}: given {packets} arrivals{changes} of links, the model decides as the run did, {alike} times of {alike} (seed {})",
            recorded.seed
        )];
    };
    let different: u64 = networks.iter().map(|network| network.different).sum();
    let more = if networks.iter().any(|network| network.stopped) { "more than " } else { "" };
    let word = Tone::Bad.paint("DIFFERENT", colour);
    let mut lines = vec![format!(
        "{word} {name}: of {packets} packets {alike} ends are the same in both accounts, {more}{different} in one only (seed {})",
        recorded.seed
    )];
    lines.push(format!("first difference: {}", sent(recorded, network, difference)));
    let told = |who, fate: &Option<Fate>| {
        let words = fate.as_ref().map(|fate| ended(recorded, network, fate));
        format!("  {who}  {}", words.unwrap_or_else(|| "nothing else".to_owned()))
    };
    lines.push(told("the run:  ", &difference.recorded));
    lines.push(told("the model:", &difference.decided));
    lines
}

fn sent(recorded: &Recorded, network: &NetworkAccount, difference: &Difference) -> String {
    let packet = difference.packet;
    let node = |at: usize| network.nodes.get(at).map(|name| escape::line(name)).unwrap_or_default();
    let to = packet.to.map_or_else(|| "all".to_owned(), node);
    format!(
        "packet {} on {}, {} bytes from {} to {to}, sent at {}",
        packet.id,
        escape::line(&network.name),
        packet.length,
        node(packet.from),
        since_start(recorded, packet.at)
    )
}

fn ended(recorded: &Recorded, network: &NetworkAccount, fate: &Fate) -> String {
    let node = network.nodes.get(fate.port).map(|name| escape::line(name)).unwrap_or_default();
    format!("{} at {}", fate.words(&node), since_start(recorded, fate.at))
}

/// To the nanosecond, since t = 0 where that is known.
fn since_start(recorded: &Recorded, at: u64) -> String {
    let started = recorded.started().unwrap_or(Time::ZERO).as_nanos();
    let (sign, nanos) = if at < started { ("-", started - at) } else { ("", at - started) };
    format!("{sign}{}.{:09} s", nanos / 1_000_000_000, nanos % 1_000_000_000)
}

fn half_name(direction: Direction) -> &'static str {
    match direction {
        Direction::Up => "up",
        Direction::Down => "down",
        Direction::Between => "pair",
    }
}

/// Everything, for programs. Times are nanoseconds of the relay's clock.
pub fn replay_json(recorded: &Recorded, networks: &[NetworkAccount]) -> Value {
    let networks: Vec<Value> = networks
        .iter()
        .map(|network| {
            json!({
                "name": network.name,
                "packets": network.packets,
                "alike": network.alike,
                "different": network.different,
                "stopped": network.stopped,
                "halves": network.halves.iter().map(half_json).collect::<Vec<_>>(),
                "first-difference": network.difference.as_ref().map(|difference| difference_json(network, difference)),
            })
        })
        .collect();
    json!({
        "name": recorded.name,
        "seed": recorded.seed,
        "alike": networks.iter().all(|network| network["first-difference"].is_null()),
        "changes": recorded.changes.len(),
        "started-ns": recorded.started().map(Time::as_nanos),
        "networks": networks,
    })
}

fn half_json(half: &HalfAccount) -> Value {
    let counters = &half.counters;
    json!({
        "node": half.node,
        "half": half_name(half.direction),
        "decided": half.decided(),
        "alike": half.decided().saturating_sub(half.different),
        "offered": counters.offered.packets,
        "duplicated": counters.duplicated.packets,
        "delivered": counters.delivered.packets,
        "corrupted": counters.corrupted.packets,
        "lost": counters.dropped.loss.packets,
        "queue": counters.dropped.queue.packets,
        "partition": counters.dropped.partition.packets,
        "cut": counters.dropped.cut.packets,
        "overflow": counters.dropped.overflow.packets,
        "in-flight": counters.in_flight.packets,
    })
}

fn difference_json(network: &NetworkAccount, difference: &Difference) -> Value {
    let node = |at: usize| network.nodes.get(at);
    let fate = |fate: &Option<Fate>| {
        fate.as_ref().map(|fate| {
            json!({ "at-ns": fate.at, "at": node(fate.port), "what": fate.words(node(fate.port).map_or("", String::as_str)) })
        })
    };
    let packet = difference.packet;
    json!({
        "packet": packet.id,
        "sent-ns": packet.at,
        "from": node(packet.from),
        "to": packet.to.and_then(node),
        "bytes": packet.length,
        "run": fate(&difference.recorded),
        "model": fate(&difference.decided),
    })
}
