//! The fast mode without a group: each receiver gets copies of its own, as fast as its own line takes them.

use std::fmt::Write as _;

use link::{HalfLink, Profile};
use machine::{Rate, Ratio, Span, Time};
use sim::multicast::{Setup, World};

/// Lines of the receivers in Mbit/s, the sender's, which all share, and what each receiver's loses, in percent.
struct Lines {
    what: &'static str,
    down: &'static [u64],
    up: Option<u64>,
    loss: u32,
}

const LINES: &[Lines] = &[
    Lines { what: "alike", down: &[20, 20, 20, 20], up: None, loss: 0 },
    Lines { what: "a straggler", down: &[20, 20, 20, 1], up: None, loss: 0 },
    Lines { what: "a straggler, 2 % lost", down: &[20, 20, 20, 1], up: None, loss: 2 },
    Lines { what: "somewhat slower", down: &[20, 20, 12], up: None, loss: 0 },
    Lines { what: "most are slow", down: &[20, 4, 4, 4], up: None, loss: 0 },
    Lines { what: "all differ", down: &[40, 20, 10, 5], up: None, loss: 0 },
    Lines { what: "straggler, shared line", down: &[100, 100, 100, 1], up: Some(31), loss: 0 },
];

const LENGTH: u64 = 8 << 20;

/// The time of each receiver over what its own line needs, and last, packets sent to all over those that they need.
fn run(lines: &Lines, seed: u64) -> Vec<f64> {
    let mut setup = Setup::new(seed, LENGTH, lines.down.len());
    setup.multicast = false;
    setup.sender_link.up.delay = Span::from_millis(5);
    setup.sender_link.up.rate = lines.up.map(Rate::from_mbit);
    let loss = Ratio::from_parts_per_billion(lines.loss * 10_000_000).expect("below one");
    let line = |rate| HalfLink { rate: Some(Rate::from_mbit(rate)), loss, ..HalfLink::default() };
    let links = lines.down.iter().enumerate();
    let links = links.map(|(index, rate)| (index, Profile { up: HalfLink::default(), down: line(*rate) }));
    setup.other_links = links.collect();
    let outcome = World::new(setup.clone()).run(Time::ZERO + Span::from_secs(600));
    assert!(!outcome.by_multicast);
    let slowest = lines.down.iter().copied().min().unwrap_or(1);
    let ratio = |(index, rate): (usize, &u64)| {
        let took = outcome.complete_at[index].expect("nobody dies").as_secs_f64();
        // What the slowest leaves of a line that all share is the others', in equal parts.
        let part = lines.up.filter(|_| *rate > slowest).map(|up| (up - slowest) / (lines.down.len() as u64 - 1));
        let rate = Rate::from_mbit(part.map_or(*rate, |part| part.min(*rate)));
        took / setup.ideal(rate, outcome.payload, f64::from(lines.loss) / 100.0)
    };
    let copies = outcome.copies as f64 / (outcome.symbols * lines.down.len() as u64) as f64;
    lines.down.iter().enumerate().map(ratio).chain([copies]).collect()
}

#[test]
fn each_is_served_as_fast_as_its_own_line_takes_it() {
    let mut table = String::from(
        "lines, Mbit/s                               time of each over the ideal of its own line   copies a packet (mean of 5 seeds)\n",
    );
    let mut wrong = Vec::new();
    for lines in LINES {
        let runs: Vec<_> = (1..=5).map(|seed| run(lines, seed)).collect();
        let mean = |index: usize| runs.iter().map(|run| run[index]).sum::<f64>() / runs.len() as f64;
        let ratios: Vec<_> = (0..lines.down.len()).map(mean).collect();
        let copies = mean(lines.down.len());
        let told: String = ratios.iter().map(|ratio| format!("{ratio:>8.2}")).collect();
        writeln!(table, "{:<24} {:<19} {told:<44}  {copies:>6.2}", lines.what, format!("{:?}", lines.down)).unwrap();
        if ratios.iter().any(|ratio| *ratio > 1.15) || copies > 1.25 {
            wrong.push(lines.what);
        }
    }
    assert_eq!(table, include_str!("fan_out.txt"), "the table has changed; if that is meant, commit this:\n{table}");
    assert_eq!(wrong, Vec::<&str>::new(), "{table}");
}
