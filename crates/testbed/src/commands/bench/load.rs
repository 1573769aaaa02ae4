//! Many shaped links that all carry traffic: how late packets are, beside a bare timer.

use std::fmt::Write as _;
use std::path::Path;

use fabric::clock;
use link::{Fate, HalfLink, Lane, WireSize};
use machine::{Rate, Seed, Size, Span, Time};
use serde_json::{Value, json};

use super::lab::{self, Lab};
use super::protocol::{Command, Flow, Seen};
use super::timer::{BareTimer, Quantiles, wait_until};

/// Of each link; half of it is used.
const LINE: Rate = Rate::from_mbit(20);
const CARRIED: Rate = Rate::from_mbit(10);
const DELAY: Span = Span::from_millis(10);
/// A full frame.
const BYTES: u32 = 1514;

/// So many links carry 10 Mbit/s each. Two are on a network, one for each way. The relay records them in this folder, if there
/// is one.
pub(super) fn measure(shaper: &str, links: u32, time: Span, captures: Option<&Path>) -> anyhow::Result<Value> {
    let (mut networks, mut interfaces) = (String::new(), String::new());
    for number in 0..links.div_ceil(2) {
        let _ = writeln!(networks, "  n{number}: {{ subnet: 10.77.{number}.0/24 }}");
        let _ = writeln!(interfaces, "      n{number}: {{ link: {{ up: {{ rate: {LINE}, delay: {DELAY} }} }} }}");
    }
    let node = format!("run: [\"true\"]\n    networks:\n{interfaces}");
    let text = format!(
        "name: load\nseed: 1\nshaper: {shaper}\nnetworks:\n{networks}nodes:\n  left:\n    {node}  right:\n    {node}"
    );
    lab::measure(&text, captures, |lab| carry(lab, links, time))
}

fn carry(lab: &mut Lab, links: u32, time: Span) -> anyhow::Result<Value> {
    let interval = CARRIED.time_for(Size::from_bytes(BYTES.into()));
    let packets = (time.as_nanos() / interval.as_nanos()).max(1) as u32;
    let (mut flows, mut headers) = ([vec![], vec![]], [vec![], vec![]]);
    for id in 0..links {
        let from = (id % 2) as usize;
        let network = format!("n{}", id / 2);
        headers[1 - from].push(lab.header(id, from, &network, BYTES));
        flows[from].push(Flow {
            packets,
            interval: interval.as_nanos(),
            offset: interval.as_nanos() * u64::from(id) / u64::from(links),
            ..lab.flow(id, from, &network, BYTES)
        });
    }
    let interfaces = links.div_ceil(2) as usize;
    lab.both(headers.map(|flows| Command::Watch { interfaces, flows }))?;
    let timer = BareTimer::begin();
    let cpu = super::ends::cpu_nanos();
    let begin = clock::now() + Span::from_millis(100);
    lab.both(flows.map(|flows| Command::Send { begin: begin.as_nanos(), flows }))?;
    wait_until(clock::now() + DELAY * 2);
    let relay = lab.settle()?;
    let cpu = super::ends::cpu_nanos() - cpu;
    wait_until(clock::now() + Span::from_millis(20));
    let timer = timer.end();
    let (mut arrived, mut unseen) = (Vec::new(), 0);
    for end in [0, 1] {
        let collected = lab.collect(end)?;
        arrived.extend(collected.packets);
        unseen += collected.unseen;
    }
    let sent = u64::from(links) * u64::from(packets);
    let errors = Quantiles::of(errors(&arrived));
    Ok(json!({
        "links": links,
        "mbit-per-second-each": CARRIED.as_bits_per_sec() as f64 / 1e6,
        "sent": sent,
        "arrived": arrived.len(),
        "unseen": unseen,
        "own-losses": relay.map(|relay| relay.own_losses),
        "queue-drops": relay.map(|relay| relay.queue_drops),
        "delay-error-ms": errors.json(),
        "timer-ms": timer.json(),
        // The process of the relay, in which there is nothing else to do.
        "relay-cpu-us-per-packet": relay.map(|_| cpu as f64 / 1e3 / sent as f64),
    }))
}

/// By how much packets came later than the model has it for the times at which they were sent, in milliseconds.
fn errors(packets: &[Seen]) -> Vec<f64> {
    let half = HalfLink { rate: Some(LINE), delay: DELAY, ..HalfLink::default() };
    let mut flows: Vec<&Seen> = packets.iter().collect();
    flows.sort_by_key(|Seen(flow, number, ..)| (*flow, *number));
    let mut errors = Vec::with_capacity(packets.len());
    for flow in flows.chunk_by(|a, b| a.0 == b.0) {
        let mut lane = Lane::new(&half, Seed::new(1));
        for Seen(_, _, sent, at, _) in flow {
            if let Fate::Deliver { at: due, .. } = lane.offer(Time::from_nanos(*sent), WireSize::packet(BYTES)).packet {
                errors.push((*at as f64 - due.as_nanos() as f64) / 1e6);
            }
        }
    }
    errors
}
