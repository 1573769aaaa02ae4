//! One TCP flow over the kernel's bridge, the relay and netem, in turn.

use std::net::SocketAddr;
use std::path::Path;

use fabric::clock;
use machine::Span;
use serde_json::{Value, json};

use super::lab::{self, Lab};
use super::protocol::{Answer, Command, PORTS};
use super::timer::wait_until;

/// What carries the flow, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Carrier {
    pub(super) name: &'static str,
    shaper: &'static str,
    /// Of the sender.
    up: &'static str,
}

const BRIDGE: Carrier = Carrier { name: "bridge", shaper: "auto", up: "" };
const NETEM: Carrier = Carrier { name: "netem", shaper: "netem", up: "delay: 10ms" };
/// A train of packets passes whole where nobody could tell; a jitter (of a nanosecond) has the relay cut each into packets.
pub(super) const WHOLE: Carrier = Carrier { name: "relay", shaper: "relay", up: "delay: 10ms" };
pub(super) const CUT: Carrier =
    Carrier { name: "relay, packet by packet", shaper: "relay", up: "delay: 10ms, jitter: 1ns" };
/// The bridge has no delay, and nothing under way: so has this. 10 ms of a fast flow are more than caches hold.
const AT_ONCE: Carrier = Carrier { name: "relay, no delay", shaper: "relay", up: "" };

/// Until windows are open.
const WARM_UP: Span = Span::from_millis(700);

/// Bytes of payload in a full packet with TCP's timestamps.
const PAYLOAD: f64 = 1448.0;

pub(super) fn measure(time: Span, rounds: u32, shapers: &[&str]) -> anyhow::Result<Value> {
    let mut carriers = vec![BRIDGE];
    carriers.extend([AT_ONCE, WHOLE, CUT, NETEM].into_iter().filter(|carrier| shapers.contains(&carrier.shaper)));
    let mut rows = Vec::new();
    for offload in [true, false] {
        // Without trains there is nothing to cut.
        let carriers: Vec<Carrier> = carriers.iter().copied().filter(|carrier| offload || *carrier != CUT).collect();
        let mut found: Vec<Vec<(f64, f64)>> = vec![Vec::new(); carriers.len()];
        for _ in 0..rounds {
            for (carrier, found) in carriers.iter().zip(&mut found) {
                let value = once(carrier, offload, time, None)?;
                let number = |name: &str| value[name].as_f64().unwrap_or_default();
                found.push((number("gbit-per-second"), number("cpu-us-per-packet")));
            }
        }
        // Each round has a bridge of its own beside it: what the machine did meanwhile, it did to both.
        let bridge = found[0].clone();
        for (carrier, found) in carriers.iter().zip(&found) {
            let shares = found.iter().zip(&bridge).map(|((rate, _), (bare, _))| rate / bare.max(1e-9)).collect();
            let (rates, costs): (Vec<f64>, Vec<f64>) = found.iter().copied().unzip();
            rows.push(json!({
                "over": carrier.name,
                "offload": offload,
                "gbit-per-second": median(rates),
                "of-bridge": median(shares),
                "cpu-us-per-packet": median(costs),
            }));
        }
    }
    Ok(rows.into())
}

/// One flow; the relay records it in this folder, if there is one.
pub(super) fn once(carrier: &Carrier, offload: bool, time: Span, captures: Option<&Path>) -> anyhow::Result<Value> {
    lab::measure(&carrier.topology(), captures, |lab| flow(lab, offload, time))
}

impl Carrier {
    fn topology(&self) -> String {
        let Carrier { shaper, up, .. } = self;
        format!(
            "name: throughput\nseed: 1\nshaper: {shaper}\nnetworks: {{ net: {{ subnet: 10.77.0.0/24 }} }}\nnodes:\n  \
             left: {{ run: [\"true\"], link: {{ up: {{ {up} }} }} }}\n  right: {{ run: [\"true\"] }}\n"
        )
    }
}

fn flow(lab: &mut Lab, offload: bool, time: Span) -> anyhow::Result<Value> {
    let (left, right) = (lab.interface(0, "net"), lab.interface(1, "net"));
    let to = SocketAddr::new(right.address, PORTS.1);
    let interfaces = [left, right].map(|interface| interface.name.clone());
    if !offload {
        lab.both(interfaces.map(|interface| Command::CutTrains { interface }))?;
    }
    lab.one(1, &Command::Sink { at: to })?;
    lab.one(0, &Command::Pour { to })?;
    wait_until(clock::now() + WARM_UP);
    let before = meter(lab)?;
    wait_until(clock::now() + time);
    let after = meter(lab)?;
    let [bytes, nanos, cpu] = [0, 1, 2].map(|at| (after[at] - before[at]) as f64);
    Ok(json!({
        "gbit-per-second": bytes * 8.0 / nanos.max(1.0),
        "cpu-us-per-packet": cpu / 1e3 / (bytes / PAYLOAD).max(1.0),
    }))
}

/// What has arrived, when, and the CPU that both ends and all between have used.
fn meter(lab: &mut Lab) -> anyhow::Result<[u64; 3]> {
    let mut total = super::ends::cpu_nanos();
    let mut arrived = [0, 0];
    for answer in lab.both([Command::Meter, Command::Meter])? {
        let Answer::Metered { bytes, at, cpu } = answer else { anyhow::bail!("{answer:?} instead of a measurement") };
        total += cpu;
        arrived = [bytes, at];
    }
    Ok([arrived[0], arrived[1], total])
}

/// The one in the middle.
pub(super) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}
