//! How long downloads take in virtual time beside the bounds; for tuning.
//!
//! ```sh
//! cargo run --release -p sim --example p2p_time -- --seeds 500
//! cargo run --release -p sim --example p2p_time -- --seed 7
//! ```
//!
//! `--from` is the first seed; `--client ours|published|ahead`, `--stretch MS`, `--delay MS`, `--loss PERCENT`, `--no-churn` change the world. With
//! `--seed` it prints what happened when.

use machine::{Ratio, Span, Time};
use p2p::downloader::Downloader;
use sim::p2p::{Channel, Published, Report, Setup, Summary, Timing};

/// Requests that the client `ahead` sends ahead on each connection.
const AHEAD: usize = 4;

fn main() -> Result<(), String> {
    let (mut from, mut seeds, mut seed, mut client) = (0, 500, None, "ours".to_owned());
    let mut base = Setup::published(0);
    let mut arguments = std::env::args().skip(1);
    while let Some(option) = arguments.next() {
        let mut number = || -> Result<u64, String> {
            let text = arguments.next().ok_or(format!("{option} wants a number"))?;
            text.parse().map_err(|error| format!("{option} {text}: {error}"))
        };
        match option.as_str() {
            "--seeds" => seeds = number()?,
            "--from" => from = number()?,
            "--seed" => seed = Some(number()?),
            "--stretch" => base.ports.stretch = Span::from_millis(number()?),
            "--delay" => base.delay = Span::from_millis(number()?),
            "--loss" => {
                let parts = u32::try_from(number()?).ok().and_then(|percents| percents.checked_mul(10_000_000));
                base.datagram_loss =
                    parts.and_then(Ratio::from_parts_per_billion).ok_or("--loss wants at most 100".to_owned())?;
            }
            "--no-churn" => base.ports.churn = None,
            "--client" => client = arguments.next().ok_or("--client wants a name".to_owned())?,
            other => return Err(format!("no option: {other}")),
        }
    }
    if let Some(seed) = seed {
        let (timing, report) = time(&Setup { seed, ..base }, &client)?;
        timeline(&report);
        println!("{timing:#?}");
        return Ok(());
    }
    let mut timings = Vec::new();
    let mut failed = 0;
    for seed in from..from + seeds {
        match time(&Setup { seed, ..base.clone() }, &client) {
            Ok((timing, _)) => timings.push(timing),
            Err(error) => {
                println!("{error}");
                failed += 1;
            }
        }
    }
    if timings.is_empty() {
        return Err("no download was complete".to_owned());
    }
    distribution(&mut timings);
    if failed > 0 {
        Err(format!("{failed} of {seeds} downloads were not complete, and are not counted"))
    } else {
        Ok(())
    }
}

fn time(setup: &Setup, client: &str) -> Result<(Timing, Report), String> {
    match client {
        "ours" => Timing::of(setup, Downloader::new),
        "published" => Timing::of(setup, |now, config| Published::new(now, config, 1)),
        "ahead" => Timing::of(setup, |now, config| Published::new(now, config, AHEAD)),
        other => Err(format!("no client: {other}")),
    }
}

fn distribution(timings: &mut [Timing]) {
    let summary = Summary::of(timings);
    println!("{summary:#?}");
    println!("over fluid {:.3}, over foresight {:.3}", summary.over_fluid(), summary.mean / summary.foresight);
    let mut took: Vec<f64> = timings.iter().map(|timing| timing.took).collect();
    let mut ratios: Vec<f64> = timings.iter().map(Timing::ratio).collect();
    took.sort_by(f64::total_cmp);
    ratios.sort_by(f64::total_cmp);
    println!("percentile   took s   over fluid");
    for percent in [0, 10, 25, 50, 75, 90, 95, 99, 100] {
        let at = (timings.len() - 1) * percent / 100;
        println!("{percent:>10}  {:>7.2}  {:>10.3}", took[at], ratios[at]);
    }
    // What is lost in seconds is what weighs in the mean.
    timings.sort_by(|one, other| (other.took - other.fluid).total_cmp(&(one.took - one.fluid)));
    println!("seed   took s  fluid s  foresight s   ratio  lost s   wasted  channels  questions");
    for timing in timings.iter().take(15) {
        let Timing { seed, took, fluid, foresight, wasted, channels, questions } = timing;
        let (ratio, lost) = (timing.ratio(), took - fluid);
        println!(
            "{seed:>4}  {took:>7.2}  {fluid:>7.2}  {foresight:>11.2}  {ratio:>6.3}  {lost:>6.2}  {wasted:>7}  \
             {channels:>8}  {questions:>9}"
        );
    }
}

/// What was said and done, and every channel with its port's pace.
fn timeline(report: &Report) {
    let Some(run) = report.runs.first() else { return };
    let pace = |port: u16, at: Time| {
        let life = report.lives.iter().rev().find(|life| life.port == port && life.opened <= at);
        life.map_or("?".to_owned(), |life| life.pace.to_string())
    };
    let mut lines = run.log.clone();
    for answer in &run.answers {
        let named: Vec<String> =
            answer.ports.iter().map(|port| format!("{port} of {}", pace(*port, answer.at))).collect();
        lines.push((answer.at, format!("  = {}", named.join(", "))));
    }
    for Channel { id, port, begun, first, ended, received, requests } in &run.channels {
        let of = pace(*port, *begun);
        lines.push((*begun, format!("channel {} to {port} of {of} begins", id.0)));
        if let Some(first) = first {
            lines.push((*first, format!("channel {} of {of}: first bytes", id.0)));
        }
        if let Some(ended) = ended {
            lines.push((*ended, format!("channel {} of {of} ends: {received} bytes, {requests} requests", id.0)));
        }
    }
    lines.sort_by_key(|(at, _)| *at);
    for (at, line) in lines {
        println!("{:>8.3}  {line}", at.as_secs_f64());
    }
    for life in report.lives.iter().filter(|life| life.retired.is_some()) {
        println!("port {} of {} was retired at {:?}", life.port, life.pace, life.retired);
    }
    for channel in run.channels.iter().filter(|channel| channel.ended.is_none()) {
        let Channel { id, port, received, requests, .. } = channel;
        println!(
            "channel {} to {port} of {} was open to the end: {received} bytes, {requests} requests",
            id.0,
            pace(*port, channel.begun)
        );
    }
}
