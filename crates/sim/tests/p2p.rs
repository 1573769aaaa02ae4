//! The csp2p downloader against the published peer in virtual time: how long it takes, and what it never does.
//!
//! `cargo run --release -p sim --example p2p_time -- --seed N` shows a run step by step.

use fetch::Outcome;
use machine::{Ratio, Span, Time};
use p2p::downloader::{Config, Downloader};
use sim::p2p::{Download, Published, Setup, Summary, Timing, World};

/// One in ten.
const TENTH: Ratio = Ratio::from_parts_per_billion(100_000_000).expect("less than all");

/// Downloads in the worlds of `seeds`, which differ from the published one as `change` says.
#[track_caller]
fn times<D: Download>(
    seeds: u64,
    change: fn(&mut Setup),
    downloader: impl Fn(Time, Config) -> D + Copy,
) -> Vec<Timing> {
    let time = |seed| {
        let mut setup = Setup::published(seed);
        change(&mut setup);
        Timing::of(&setup, downloader).unwrap_or_else(|error| panic!("{error}")).0
    };
    (0..seeds).map(time).collect()
}

/// With so many requests under way on each connection; 1 as published.
fn published(ahead: usize) -> impl Fn(Time, Config) -> Published + Copy {
    move |now, config| Published::new(now, config, ahead)
}

type Row = (&'static str, Vec<Timing>);

fn table(rows: &[Row]) -> String {
    let mut table = String::from(
        "case                               seeds   mean s  median  longest   fluid  foresight  of fluid: mean   worst  \
         wasted bytes  channels  questions\n",
    );
    for (name, timings) in rows {
        let Summary { mean, median, longest, fluid, foresight, worst_ratio, wasted, channels, questions } =
            Summary::of(timings);
        let (seeds, over) = (timings.len(), mean / fluid);
        table += &format!(
            "{name:<34} {seeds:>5}  {mean:>7.2}  {median:>6.2}  {longest:>7.2}  {fluid:>6.2}  {foresight:>9.2}  \
             {over:>14.3}  {worst_ratio:>6.2}  {wasted:>12.0}  {channels:>8.1}  {questions:>9.1}\n"
        );
    }
    table
}

fn calm(_: &mut Setup) {}

/// Every run is right, however it is cut: no connection, question or byte that must not be.
#[test]
fn times_are_those_of_the_table() {
    let rows: Vec<Row> = vec![
        ("published client", times(10, calm, published(1))),
        ("published client", times(500, calm, published(1))),
        ("the same, four requests ahead", times(500, calm, published(4))),
        ("ours", times(10, calm, Downloader::new)),
        ("ours", times(500, calm, Downloader::new)),
        ("10 % of datagrams lost", times(100, |setup| setup.datagram_loss = TENTH, Downloader::new)),
        ("50 ms each way", times(100, |setup| setup.delay = Span::from_millis(50), Downloader::new)),
        ("no churn", times(100, |setup| setup.ports.churn = None, Downloader::new)),
        ("churn every second", times(100, |setup| setup.ports.churn = Some(Span::from_secs(1)), Downloader::new)),
        ("stretch 10 ms", times(100, |setup| setup.ports.stretch = Span::from_millis(10), Downloader::new)),
        ("a digest is told", times(100, |setup| setup.digest = true, Downloader::new)),
    ];
    let table = table(&rows);
    println!("{table}");
    let committed = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/p2p.txt");
    if std::env::var_os("UPDATE_TABLES").is_some() {
        std::fs::write(committed, &table).unwrap();
    }
    assert_eq!(
        std::fs::read_to_string(committed).unwrap_or_default(),
        table,
        "run with UPDATE_TABLES=1 and review the difference"
    );
    // No client can be better than one that knew everything in advance, but for what leaves at once when an answer begins.
    for (name, timings) in &rows {
        for timing in timings {
            assert!(timing.took >= 0.97 * timing.foresight, "{name}: {timing:?}");
        }
    }
    let ours = |seeds: usize| {
        let row = rows.iter().find(|(name, timings)| *name == "ours" && timings.len() == seeds);
        Summary::of(&row.expect("it is in the table").1)
    };
    assert!(ours(10).mean <= 10.0, "{:?}", ours(10));
    assert!(ours(500).over_fluid() <= 1.35, "{:?}", ours(500));
}

/// A witness that never speaks is none.
#[test]
fn what_must_not_happen_is_seen() {
    // A sixth connection, which the peer closes at once.
    let six = |now, config: Config| Published::new(now, Config { connections: 6, ..config }, 1);
    let error = Timing::of(&Setup::published(1), six).unwrap_err();
    assert!(error.contains("6 connections are open") && error.contains("one connection too many"), "{error}");
    // Questions without a pause.
    let hasty = |now, config: Config| Published::new(now, Config { ask_every: Span::from_secs(1), ..config }, 1);
    let error = Timing::of(&Setup::published(1), hasty).unwrap_err();
    assert!(error.contains("the tracker is asked again after 1s"), "{error}");
}

#[test]
fn several_clients_are_served_as_if_each_were_alone() {
    let setup = Setup { downloaders: 3, ..Setup::published(3) };
    let report = World::new(setup, Downloader::new).run(Time::ZERO + Span::from_secs(600));
    for run in &report.runs {
        assert!(run.complete().is_some(), "{:?} {:?}", run.ended, run.faults);
    }
    assert_eq!(report.runs.len(), 3);
}

/// The same seed is the same world, to the nanosecond; another one is not.
#[test]
fn a_seed_repeats_itself() {
    let run = |seed| {
        let report = World::new(Setup::published(seed), Downloader::new).run(Time::ZERO + Span::from_secs(600));
        format!("{report:?}")
    };
    assert_eq!(run(5), run(5));
    assert_ne!(run(5), run(6));
}

/// A file that nobody serves does not end, and is not called right.
#[test]
fn without_a_peer_nothing_ends() {
    let mut setup = Setup::published(1);
    setup.datagram_loss = Ratio::ONE;
    let report = World::new(setup, published(1)).run(Time::ZERO + Span::from_secs(20));
    let ended = report.runs[0].ended.as_ref().map(|(_, outcome)| outcome);
    assert_eq!(ended, None::<&Outcome>);
    assert_eq!((report.runs[0].questions, report.runs[0].channels.len()), (11, 0));
}
