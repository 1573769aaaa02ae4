//! How fast and how exact the relay is, on this machine, beside the kernel's bridge and a bare timer.
//!
//! `cargo run --release -p fabric --example relay_bench [SECONDS] [--rounds N] [--only WORD]`: TCP over one link, with and
//! without segmentation offload and at a rate, and the error of a delay of 10 ms on an otherwise idle link. Relay and peer
//! take turns; medians of the rounds are printed. As root in a network namespace of its own, else in a user namespace as
//! well (`--rootless` to have that as root, too).
#![allow(clippy::print_stdout, reason = "it reports to a person")]

mod lab;
mod probes;

use std::time::Duration;

use fabric::relay::{NetworkConfig, Relay, RelayConfig, RelayHandle, RelaySnapshot};
use lab::{Node, ip};
use link::{HalfLink, Profile};
use machine::{Rate, Seed, Span};
use probes::Errors;

const DELAY: Span = Span::from_millis(10);

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if !lab::is_inside() {
        let rootless = !nix::unistd::geteuid().is_root() || arguments.iter().any(|word| word == "--rootless");
        let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
        std::process::exit(lab::enter(&words, rootless).code().unwrap_or(1));
    }
    let after = |name: &str| arguments.iter().skip_while(|word| *word != name).nth(1);
    let seconds: f64 = arguments.first().and_then(|word| word.parse().ok()).unwrap_or(2.0);
    let rounds: usize = after("--rounds").and_then(|word| word.parse().ok()).unwrap_or(5);
    let wanted = |words: &str| after("--only").is_none_or(|only| words.contains(only.as_str()));
    let time = Duration::from_secs_f64(seconds);

    println!("TCP, one flow, payload in Gbit/s: medians of {rounds} rounds of {seconds} s, relay and bridge in turn");
    for mode in [Mode::Trains, Mode::Cut, Mode::Packets, Mode::Rated].into_iter().filter(|mode| wanted(mode.words())) {
        measure_throughput(mode, rounds, time);
    }
    if wanted("delay error") {
        measure_delay(rounds, time);
    }
}

fn measure_throughput(mode: Mode, rounds: usize, time: Duration) {
    let offload = mode != Mode::Packets;
    let (mut bare, mut relayed, mut costs, mut reports) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for _ in 0..rounds {
        let [a, b] = [1, 2].map(|number| Node::new(number, offload));
        let bridge = Bridge::over(&[1, 2]);
        let over_bridge = probes::tcp(&a, &b, time);
        bare.push(over_bridge.rate);
        drop(bridge);
        let relay = start(&[&a, &b], &mode.profile(), offload);
        let over_relay = probes::tcp(&a, &b, time);
        relayed.push(over_relay.rate);
        costs.push(over_relay.cost);
        reports.push(relay.stop().expect("the relay ran to its end"));
        remove(&[1, 2]);
    }
    let (words, target, bridge, relay) = (mode.words(), mode.target(), median(&mut bare), median(&mut relayed));
    let verdict = if relay >= target { "met" } else { "MISSED" };
    println!(
        "{words}: relay {relay:6.2} ({:.2} to {:.2}; target {target:.3}: {verdict}), bridge {bridge:6.2}, ratio {:.2}, \
         {:.2} s of CPU a GB",
        relayed[0],
        relayed[rounds - 1],
        relay / bridge,
        median(&mut costs),
    );
    reports.iter().for_each(report);
}

fn measure_delay(rounds: usize, time: Duration) {
    println!("delay error, one way over {DELAY}, a packet every 3 ms: medians of {rounds} rounds of {time:?}");
    let (mut relayed, mut timer, mut bare, mut apart) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let mut reports = Vec::new();
    for _ in 0..rounds {
        let [a, b] = [1, 2].map(|number| Node::new(number, true));
        let bridge = Bridge::over(&[1, 2]);
        bare.push(probes::delay(&a, &b, Span::ZERO, time).0);
        drop(bridge);
        let relay = start(&[&a, &b], &Mode::Trains.profile(), true);
        let (over_relay, beside) = probes::delay(&a, &b, DELAY, time);
        reports.push(relay.stop().expect("the relay ran to its end"));
        apart.push((over_relay.quantile(0.99) - beside.quantile(0.99)) / 1e6);
        relayed.push(over_relay);
        timer.push(beside);
        remove(&[1, 2]);
    }
    let quantile =
        |all: &[Errors], q| median(&mut all.iter().map(|errors| errors.quantile(q) / 1e6).collect::<Vec<_>>());
    let line = |what: &str, all: &[Errors]| {
        let [p50, p99, max] = [0.5, 0.99, 1.0].map(|q| quantile(all, q));
        println!("{what}  p50 {p50:6.3} ms  p99 {p99:6.3} ms  max {max:6.3} ms");
    };
    line("relay     ", &relayed);
    line("bridge    ", &bare);
    line("bare timer", &timer);
    let (p50, apart) = (quantile(&relayed, 0.5), median(&mut apart));
    let verdict = |met: bool| if met { "met" } else { "MISSED" };
    println!("p50 of the relay: {p50:.3} ms (target 0.1: {})", verdict(p50 <= 0.1));
    println!(
        "p99 of the relay from the bare timer's beside it: {apart:+.3} ms (target 0.3: {})",
        verdict(apart <= 0.3)
    );
    reports.iter().for_each(report);
}

/// Sorts the values and returns the one in the middle.
fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// What the sender hands over, and what becomes of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    /// Trains of up to 64 KiB pass whole.
    Trains,
    /// The relay cuts them into packets, because the link has jitter (of a nanosecond).
    Cut,
    /// The sender hands over packets of at most the MTU.
    Packets,
    /// Both ends have links of 1 Gbit/s, the sender hands over trains, and each packet meets the queue by itself.
    Rated,
}

impl Mode {
    fn profile(self) -> Profile {
        if self == Mode::Rated {
            let delay = Span::from_micros(200);
            let half = HalfLink { rate: Some(Rate::from_mbit(1000)), delay, ..HalfLink::default() };
            return Profile { up: half.clone(), down: half };
        }
        let jitter = if self == Mode::Cut { Span::from_nanos(1) } else { Span::ZERO };
        Profile { up: HalfLink { delay: DELAY, jitter, ..HalfLink::default() }, down: HalfLink::default() }
    }

    fn words(self) -> &'static str {
        match self {
            Mode::Trains => "10 ms, offload on            ",
            Mode::Cut => "10 ms, offload on, relay cuts",
            Mode::Packets => "10 ms, offload off           ",
            Mode::Rated => "1 Gbit/s and 200 us, both    ",
        }
    }

    /// Gbit/s of payload.
    fn target(self) -> f64 {
        match self {
            Mode::Trains => 10.0,
            Mode::Cut | Mode::Packets => 1.5,
            // 95 % of the rate, of which a full packet carries 1448 bytes of 1514.
            Mode::Rated => 0.95 * 1448.0 / 1514.0,
        }
    }
}

fn start(nodes: &[&Node], profile: &Profile, offload: bool) -> RelayHandle {
    let ports = nodes.iter().map(|node| node.port(profile.clone(), offload)).collect();
    let networks = vec![NetworkConfig { name: "net".to_owned(), mtu: 1500, ports, pairs: Vec::new() }];
    let config = RelayConfig {
        networks,
        seed: Seed::new(1),
        memory: RelayConfig::DEFAULT_MEMORY,
        capture: None,
        probes: Vec::new(),
    };
    Relay::start(config).expect("packet sockets are open to us here")
}

fn report(snapshot: &RelaySnapshot) {
    let lateness = &snapshot.lateness;
    println!(
        "      sent {} late by p50 {} p99 {} max {}, overdue {} (longest {}), lost by itself {}",
        lateness.count(),
        lateness.quantile(0.5),
        lateness.quantile(0.99),
        lateness.largest(),
        lateness.excess(),
        lateness.largest_excess(),
        snapshot.own_losses(),
    );
}

/// The kernel's bridge over the hub's ends of these nodes, as long as it lives.
struct Bridge;

impl Bridge {
    fn over(nodes: &[u8]) -> Self {
        ip("link add br0 type bridge");
        for node in nodes {
            ip(&format!("link set hub{node} master br0"));
        }
        ip("link set br0 up");
        Bridge
    }
}

impl Drop for Bridge {
    fn drop(&mut self) {
        ip("link del br0");
    }
}

fn remove(nodes: &[u8]) {
    for node in nodes {
        ip(&format!("link del hub{node}"));
    }
}
