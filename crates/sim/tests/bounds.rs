//! The engine against the fluid bounds, in virtual time. The table is committed; a change shows in review.

use machine::{Rate, Span, Time};
use sim::{Content, Fault, Health, Report, Server, World};

const LENGTH: usize = 100 << 20;
const FRAME: f64 = 1514.0 / 1448.0;

fn at(millis: u64) -> Time {
    Time::ZERO + Span::from_millis(millis)
}

/// (rate in Mbit/s, round trip in ms) of each server.
fn run(content: &Content, servers: &[(u64, u64)], faults: &[(u64, Fault)]) -> Report {
    let mut world = World::new(7, vec![content.clone()]);
    for (rate, round_trip) in servers {
        world.add_server(Server::new(0, Rate::from_mbit(*rate), Span::from_millis(*round_trip)));
    }
    world.add_check(Span::from_millis(20), Span::from_millis(500));
    faults.iter().for_each(|(when, fault)| world.plan(at(*when), fault.clone()));
    let report = world.run(at(60_000));
    assert!(report.is_complete(), "{report:#?}");
    report
}

/// The least time in which sources with these speeds over time can bring the file: (from, to, Mbit/s) each.
fn fluid(parts: &[(f64, f64, f64)]) -> f64 {
    let brought = |until: f64| {
        parts.iter().map(|(from, to, rate)| (until.min(*to) - from).max(0.0) * rate * 1e6 / 8.0).sum::<f64>()
    };
    let (mut low, mut high) = (0.0, 100.0);
    for _ in 0..60 {
        let middle = (low + high) / 2.0;
        if brought(middle) < LENGTH as f64 * FRAME { low = middle } else { high = middle }
    }
    high
}

/// Source i is silent for two round trips and then doubles, from ten segments each round trip, up to its rate.
fn with_slow_start(servers: &[(u64, u64)]) -> f64 {
    let mut parts = Vec::new();
    for (rate, round_trip) in servers {
        let (full, trip) = (*rate as f64, *round_trip as f64 / 1e3);
        let mut window = 10.0 * 1514.0 * 8.0 / trip / 1e6;
        let mut from = 2.0 * trip;
        while window < full {
            parts.push((from, from + trip, window));
            from += trip;
            window *= 2.0;
        }
        parts.push((from, f64::MAX, full));
    }
    fluid(&parts)
}

#[test]
fn four_mirrors_stay_close_to_the_fluid_bound() {
    const DOWN: Health = Health::Killed;
    let content = Content::random(1, LENGTH, 256 << 10);
    let same = [(50, 10); 4];
    let odd = [(80, 5), (40, 50), (20, 100), (10, 200)];
    let forever = f64::MAX;
    let three = (0.0, forever, 150.0);
    let kill = |when| (when, Fault::Health(1, DOWN));
    let up = |when| (when, Fault::Health(1, Health::Up));
    let cases: [(&str, Report, f64, f64); 6] = [
        ("4 x 50 Mbit steady", run(&content, &same, &[]), fluid(&[(0.0, forever, 200.0)]), 1.03),
        ("one killed at 1 s", run(&content, &same, &[kill(1000)]), fluid(&[three, (0.0, 1.0, 50.0)]), 1.03),
        (
            "killed at 1 s, back at 2 s",
            run(&content, &same, &[kill(1000), up(2000)]),
            fluid(&[three, (0.0, 1.0, 50.0), (2.0, forever, 50.0)]),
            1.03,
        ),
        (
            "one crashes at 1 s",
            run(&content, &same, &[(1000, Fault::Health(1, Health::Crashed))]),
            fluid(&[three, (0.0, 1.0, 50.0)]),
            1.03,
        ),
        (
            "one stalls at 3 s",
            run(&content, &same, &[(3000, Fault::Health(1, Health::Stalled))]),
            fluid(&[three, (0.0, 3.0, 50.0)]),
            1.10,
        ),
        ("80/40/20/10 Mbit, 5/50/100/200 ms", run(&content, &odd, &[]), with_slow_start(&odd), 1.05),
    ];
    let mut table =
        String::from("case                                  bound s   took s   ratio   limit   twice %   ranges\n");
    for (name, report, bound, limit) in &cases {
        let took = report.ended.as_secs_f64();
        let twice = report.wasted as f64 * 100.0 / LENGTH as f64;
        table += &format!(
            "{name:<36} {bound:>8.3} {took:>8.3} {:>7.3} {limit:>7.2} {twice:>9.3} {:>8}\n",
            took / bound,
            report.opens
        );
    }
    println!("{table}");
    let committed = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/bounds.txt");
    if std::env::var_os("UPDATE_TABLES").is_some() {
        std::fs::write(committed, &table).unwrap();
    }
    for (name, report, bound, limit) in &cases {
        assert!(report.ended.as_secs_f64() / bound <= *limit, "{name} is over its limit:\n{table}");
        assert!(report.wasted * 100 <= LENGTH as u64, "{name} fetches more than 1 % twice:\n{table}");
    }
    assert_eq!(
        std::fs::read_to_string(committed).unwrap_or_default(),
        table,
        "run with UPDATE_TABLES=1 and review the difference"
    );
}
