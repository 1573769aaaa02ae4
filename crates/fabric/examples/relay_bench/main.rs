//! How fast and how exact the relay is, on this machine, beside the kernel's bridge and a bare timer.
//!
//! `cargo run --release -p fabric --example relay_bench [SECONDS]`: TCP over one link with 10 ms each way, with and
//! without segmentation offload, and the error of that delay on an otherwise idle link. As root in a network namespace
//! of its own, else in a user namespace as well (`--rootless` to have that as root, too).
#![allow(clippy::print_stdout, reason = "it reports to a person")]

mod lab;
mod probes;

use std::time::Duration;

use fabric::relay::{NetworkConfig, Relay, RelayConfig, RelayHandle, RelaySnapshot};
use lab::{Node, ip};
use link::{HalfLink, Profile};
use machine::{Seed, Span};
use probes::Errors;

const DELAY: Span = Span::from_millis(10);

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if !lab::is_inside() {
        let rootless = !nix::unistd::geteuid().is_root() || arguments.iter().any(|word| word == "--rootless");
        let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
        std::process::exit(lab::enter(&words, rootless).code().unwrap_or(1));
    }
    let seconds = arguments.iter().find_map(|word| word.parse().ok()).unwrap_or(5);
    let time = Duration::from_secs(seconds);

    println!("one link, {DELAY} each way, TCP for {seconds} s, one flow");
    for mode in [Mode::Trains, Mode::Cut, Mode::Packets] {
        let offload = mode != Mode::Packets;
        let [a, b] = [1, 2].map(|number| Node::new(number, offload));
        let bridge = Bridge::over(&[1, 2]);
        let bare = probes::tcp(&a, &b, time);
        drop(bridge);
        let relay = start(&[&a, &b], mode.half(), offload);
        let relayed = probes::tcp(&a, &b, time);
        let snapshot = relay.stop().expect("the relay ran to its end");
        let (words, target, ratio) = (mode.words(), mode.target(), relayed / bare);
        println!("{words}: relay {relayed:6.2} Gbit/s (target {target}), bridge {bare:6.2} Gbit/s, ratio {ratio:.2}");
        report(&snapshot);
        remove(&[1, 2]);
    }

    println!("delay error, one way, a packet every 3 ms for {seconds} s, all three at once on each line");
    let [a, b] = [1, 2].map(|number| Node::new(number, true));
    let bridge = Bridge::over(&[1, 2]);
    let (bare, _) = probes::delay(&a, &b, Span::ZERO, time);
    drop(bridge);
    let relay = start(&[&a, &b], Mode::Trains.half(), true);
    let (relayed, timer) = probes::delay(&a, &b, DELAY, time);
    let snapshot = relay.stop().expect("the relay ran to its end");
    println!("relay       {relayed}  (target p50 <= 0.100 ms)");
    println!("bridge      {bare}  (no delay)");
    println!("bare timer  {timer}  (ppoll, 1 ns slack, beside the relay)");
    let apart = (relayed.quantile(0.99) - timer.quantile(0.99)) / 1e6;
    println!("p99 of the relay is {apart:+.3} ms from the bare timer's (target within 0.3 ms)");
    report(&snapshot);
    remove(&[1, 2]);
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
}

impl Mode {
    fn half(self) -> HalfLink {
        let jitter = if self == Mode::Cut { Span::from_nanos(1) } else { Span::ZERO };
        HalfLink { delay: DELAY, jitter, ..HalfLink::default() }
    }

    fn words(self) -> &'static str {
        match self {
            Mode::Trains => "offload on             ",
            Mode::Cut => "offload on, relay cuts ",
            Mode::Packets => "offload off            ",
        }
    }

    fn target(self) -> f64 {
        if self == Mode::Trains { 10.0 } else { 1.5 }
    }
}

fn start(nodes: &[&Node], up: HalfLink, offload: bool) -> RelayHandle {
    let profile = Profile { up, down: HalfLink::default() };
    let ports = nodes.iter().map(|node| node.port(profile.clone(), offload)).collect();
    let networks = vec![NetworkConfig { name: "net".to_owned(), mtu: 1500, ports, pairs: Vec::new() }];
    let config = RelayConfig { networks, seed: Seed::new(1), memory: RelayConfig::DEFAULT_MEMORY };
    Relay::start(config).expect("packet sockets are open to us here")
}

fn report(snapshot: &RelaySnapshot) {
    let lateness = &snapshot.lateness;
    println!(
        "             sent {} late by p50 {} p99 {} max {}, overdue {} (longest {}), lost by itself {}",
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

impl std::fmt::Display for Errors {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let [p50, p99, max] = [0.5, 0.99, 1.0].map(|q| self.quantile(q) / 1e6);
        write!(f, "p50 {p50:6.3} ms  p99 {p99:6.3} ms  max {max:6.3} ms")
    }
}
