//! The rows of [`sim::agreement`], measured over a driver of links.

use std::collections::BTreeMap;

use fabric::clock;
use machine::{Span, Time};
use serde_json::{Value, json};
use sim::agreement::{Arrival, Expected, Figure, Figures, Kind, Leeway, Model, Netem, Row, Way, rows, topology};

use super::lab::{self, Lab};
use super::protocol::{Answer, Command, Flow, Seen};
use super::timer::{BareTimer, Quantiles, wait_until};

/// Of the relay's draws, so that a bench can be repeated.
pub(super) const SEED: u64 = 7;

/// How often a row is measured that strays while nothing disturbs it, before it is said to; …
const MOST_UNDISTURBED: u32 = 3;

/// … and how often with the times at which the machine stood still: after that nobody knows.
const MOST_ATTEMPTS: u32 = 6;

/// What is sent at the same time: more would be a bench of the machine.
const PACKETS_A_SECOND: f64 = 4000.0;

/// After the last packet should have come, and nothing is under way in the relay.
const GRACE: Span = Span::from_millis(200);

/// A bare timer this late at its 99th percentile, and neither delays nor rates are the link's.
const LATE: f64 = 2.0;

/// A single stall of this many milliseconds moves a mean and a 99th percentile, too.
const STALL: f64 = 10.0;

/// A row, and what is expected of it.
type Judged = (Row, Expected);

/// Measures the table over the relay or netem; those rows again that stray.
pub(super) fn measure(shaper: &str, seeds: u32, only: &[String]) -> anyhow::Result<Value> {
    let rows: Vec<Row> = rows()
        .into_iter()
        .filter(|row| only.is_empty() || only.iter().any(|name| name == row.name))
        .filter(|row| shaper != "netem" || !matches!(row.netem, Netem::Differs(_)))
        .collect();
    let model = Model::of(&rows).map_err(|wrong| anyhow::anyhow!("{wrong}"))?;
    let mut left: Vec<Judged> = Vec::new();
    for row in rows {
        let expected = model.expected(&row, seeds);
        left.push((row, expected));
    }
    let order: Vec<&'static str> = left.iter().map(|(row, _)| row.name).collect();
    let mut measured: BTreeMap<String, Value> = BTreeMap::new();
    let mut undisturbed: BTreeMap<&'static str, u32> = BTreeMap::new();
    for attempt in 1..=MOST_ATTEMPTS {
        for batch in batches(&left) {
            let text = topology(batch.iter().map(|(row, _)| row), shaper, SEED);
            let found = lab::measure(&text, None, |lab| measure_batch(lab, batch, attempt))?;
            measured.extend(found.as_object().into_iter().flatten().map(|(name, row)| (name.clone(), row.clone())));
        }
        left.retain(|(row, _)| {
            let found = &measured[row.name];
            if found["strays"].as_array().is_some_and(Vec::is_empty) {
                return false;
            }
            let strays = undisturbed.entry(row.name).or_default();
            *strays += u32::from(found["kept-up"] == true);
            *strays < MOST_UNDISTURBED
        });
        if left.is_empty() {
            break;
        }
    }
    Ok(order.into_iter().filter_map(|name| measured.remove(name)).collect())
}

/// Rows that are measured together: rates by themselves, one after the other.
fn batches(rows: &[Judged]) -> Vec<&[Judged]> {
    let load = |row: &Row| f64::from(row.traffic.packets) / row.traffic.lasts().as_secs_f64().max(0.1);
    let together = |batch: &[Judged], next: &Row| {
        let is_paced = |row: &Row| row.kind == Kind::Delays;
        let loads = batch.iter().map(|(row, _)| load(row)).sum::<f64>() + load(next);
        batch.iter().all(|(row, _)| is_paced(row) == is_paced(next)) && (!is_paced(next) || loads <= PACKETS_A_SECOND)
    };
    let mut batches = Vec::new();
    let mut begin = 0;
    for end in 1..=rows.len() {
        if end == rows.len() || !together(&rows[begin..end], &rows[end].0) {
            batches.push(&rows[begin..end]);
            begin = end;
        }
    }
    batches
}

/// When each row's traffic begins, and when the last packet has come.
fn offsets(batch: &[Judged]) -> (Vec<Span>, Span) {
    let (mut offsets, mut end) = (Vec::new(), Span::ZERO);
    let mut next = Span::ZERO;
    for (number, (row, expected)) in (0..).zip(batch) {
        let lasts = row.traffic.lasts() + expected.longest();
        if row.kind == Kind::Delays {
            // Not all at the same instant.
            offsets.push(Span::from_micros(170) * number);
            end = end.max(lasts + Span::from_millis(10));
        } else {
            offsets.push(next);
            next = next + lasts + Span::from_millis(20);
            end = next;
        }
    }
    (offsets, end)
}

fn measure_batch(lab: &mut Lab, batch: &[Judged], attempt: u32) -> anyhow::Result<Value> {
    let (offsets, lasts) = offsets(batch);
    let mut sends = [Vec::new(), Vec::new()];
    let mut headers = [Vec::new(), Vec::new()];
    for (id, ((row, expected), offset)) in (0..).zip(batch.iter().zip(&offsets)) {
        let from = usize::from(row.way == Way::Down);
        headers[1 - from].push(lab.header(id, from, row.name, row.traffic.bytes));
        sends[from].push(flow(lab, id, from, row, expected, *offset));
    }
    let interfaces = batch.len();
    lab.both(headers.map(|flows| Command::Watch { interfaces, flows }))?;
    let timer = BareTimer::begin();
    let begin = clock::now() + Span::from_millis(50);
    let mut idle = BTreeMap::new();
    for answer in lab.both(sends.map(|flows| Command::Send { begin: begin.as_nanos(), flows }))? {
        if let Answer::Sent { idle: of_end } = answer {
            idle.extend(of_end);
        }
    }
    // The senders may have been late.
    wait_until((begin + lasts).max(clock::now() + longest(batch)) + GRACE);
    let relay = lab.settle()?;
    if relay.is_some() {
        // What the relay has sent is on its way through the kernel.
        wait_until(clock::now() + Span::from_millis(20));
    }
    let timer = timer.end();
    let mut packets = Vec::new();
    let mut unseen = 0;
    for end in [1, 0] {
        let collected = lab.collect(end)?;
        packets.extend(collected.packets);
        unseen += collected.unseen;
    }
    let own_losses = relay.map_or(0, |relay| relay.own_losses) + unseen;
    let in_time = timer.at(0.99) <= LATE && timer.at(1.0) <= STALL;
    let kept_up = in_time && own_losses == 0 && relay.is_none_or(|relay| relay.late <= LATE);
    let rows = (0..).zip(batch).map(|(id, (row, expected))| {
        let arrivals: Vec<Arrival> = packets.iter().filter(|Seen(flow, ..)| *flow == id).map(arrival).collect();
        let figures = Figures::of(row, &arrivals);
        // A line shows its rate only while it has something to send.
        let most_idle = expected.longest().as_nanos() / 200;
        let is_fed = row.kind != Kind::Rate || idle.get(&id).is_some_and(|idle| *idle < most_idle);
        let machine =
            Machine { kept_up: kept_up && is_fed, own_losses, timer: &timer, relay: relay.map(|relay| relay.late) };
        (row.name.to_owned(), describe(row, expected, &figures, attempt, &machine))
    });
    Ok(Value::Object(rows.collect()))
}

/// How well this machine did while a row was measured.
struct Machine<'a> {
    kept_up: bool,
    own_losses: u64,
    timer: &'a Quantiles,
    relay: Option<f64>,
}

fn describe(row: &Row, expected: &Expected, found: &Figures, attempt: u32, machine: &Machine<'_>) -> Value {
    let strays = expected.strays(row, found, &Leeway::KEPT_UP);
    let strays: Vec<Value> = strays
        .iter()
        .map(|stray| json!({ "figure": stray.figure.name(), "withstands-slowness": row.kind != Kind::Queue && stray.figure.withstands_slowness(), "why": stray.to_string() }))
        .collect();
    let told = Figure::ALL.into_iter().filter_map(|figure| {
        let (mean, deviation) = expected.of(figure)?;
        let told = json!({ "found": found.get(figure), "expected": mean, "deviation": deviation });
        Some((figure.name().to_owned(), told))
    });
    json!({
        "row": row.name,
        "link": row.link,
        "sent": found.sent,
        "figures": Value::Object(told.collect()),
        "strays": strays,
        "attempts": attempt,
        "kept-up": machine.kept_up,
        "own-losses": machine.own_losses,
        "timer-ms": machine.timer.json(),
        "relay-late-p99-ms": machine.relay,
    })
}

fn longest(batch: &[Judged]) -> Span {
    batch.iter().map(|(_, expected)| expected.longest()).max().unwrap_or_default()
}

pub(super) fn arrival(&Seen(_, number, sent, at, is_damaged): &Seen) -> Arrival {
    Arrival { number, sent: Time::from_nanos(sent), at: Time::from_nanos(at), is_damaged }
}

fn flow(lab: &Lab, id: u32, from: usize, row: &Row, expected: &Expected, offset: Span) -> Flow {
    let traffic = row.traffic;
    let is_train = row.kind == Kind::Rate;
    Flow {
        packets: traffic.packets,
        turn: traffic.turn,
        interval: traffic.interval.as_nanos(),
        offset: offset.as_nanos(),
        line: if is_train { expected.longest().as_nanos() / u64::from(traffic.packets) } else { 0 },
        ..lab.flow(id, from, row.name, traffic.bytes)
    }
}
