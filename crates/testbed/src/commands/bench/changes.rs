//! Links that change while packets pass: whether that happens when it should, and whether packets agree.

use fabric::clock;
use link::{HalfLink, Profile};
use machine::{Span, Time};
use serde_json::{Value, json};

use super::lab::{self, Lab};
use super::protocol::{Command, Flow, Seen};
use super::timer::{BareTimer, Quantiles, millis, wait_until};

/// Delays grow, so that no packet waits for those before it.
const FIRST: Span = Span::from_millis(5);
const STEP: Span = Span::from_millis(4);
const PERIOD: Span = Span::from_millis(50);
const PACKETS: Span = Span::from_micros(500);

/// A packet sent this long before or after a change must not be taken for the other side of it.
const CLEAR: Span = Span::from_millis(1);

/// Changes the delay of a link so often.
pub(super) fn measure(shaper: &str, changes: u32) -> anyhow::Result<Value> {
    let text = format!(
        "name: changes\nseed: 1\nshaper: {shaper}\nnetworks: {{ net: {{ subnet: 10.77.0.0/24 }} }}\nnodes:\n  left: \
         {{ run: [\"true\"], link: {{ up: {{ delay: {FIRST} }} }} }}\n  right: {{ run: [\"true\"] }}\n"
    );
    lab::measure(&text, None, |lab| change(lab, changes))
}

fn change(lab: &mut Lab, changes: u32) -> anyhow::Result<Value> {
    let lasts = PERIOD * u64::from(changes + 1);
    let flow = Flow {
        packets: (lasts.as_nanos() / PACKETS.as_nanos()) as u32,
        interval: PACKETS.as_nanos(),
        ..lab.flow(0, 0, "net", 100)
    };
    let headers = vec![lab.header(0, 0, "net", flow.bytes)];
    lab.one(1, &Command::Watch { interfaces: 1, flows: headers })?;
    let timer = BareTimer::begin();
    let begin = clock::now() + Span::from_millis(50);
    lab.begin(0, &Command::Send { begin: begin.as_nanos(), flows: vec![flow] })?;
    let mut told = Vec::new();
    super::timer::be_exact();
    for number in 1..=u64::from(changes) {
        let due = begin + PERIOD * number;
        wait_until(due);
        let up = HalfLink { delay: delay_after(number), ..HalfLink::default() };
        told.push((due, lab.set_link(&Profile { up, down: HalfLink::default() })?));
    }
    lab.finish(0)?;
    wait_until(clock::now() + delay_after(u64::from(changes)) + Span::from_millis(100));
    lab.settle()?;
    let collected = lab.collect(1)?;
    let late = told.iter().map(|(due, at)| millis(at.since(*due))).collect();
    Ok(json!({
        "changes": changes,
        "late-ms": Quantiles::of(late).json(),
        "timer-ms": timer.end().json(),
        "packets": collected.packets.len(),
        "contradicting": collected.packets.iter().filter(|seen| contradicts(seen, &told)).count(),
    }))
}

fn delay_after(changes: u64) -> Span {
    FIRST + STEP * changes
}

/// Whether a packet, sent clear of any change, took less than the delay that then held, or as much as the next one.
fn contradicts(&Seen(_, _, sent, at, _): &Seen, told: &[(Time, Time)]) -> bool {
    let sent = Time::from_nanos(sent);
    let is_clear = told.iter().all(|(due, at)| sent + CLEAR < *due || *at + CLEAR < sent);
    let changes = told.iter().filter(|(_, at)| *at < sent).count() as u64;
    let took = Time::from_nanos(at).since(sent);
    // The clocks of the sender and of the kernel are read at different moments; half a step is far from both.
    is_clear && took + STEP / 2 < delay_after(changes)
}
