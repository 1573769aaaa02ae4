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
use p2p::downloader::{CONNECTIONS, Downloader};
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
        println!("{timing:#?}\n{:#?}", Losses::of(&timing, &report));
        return Ok(());
    }
    let mut timings = Vec::new();
    let mut losses = Vec::new();
    let mut failed = 0;
    for seed in from..from + seeds {
        match time(&Setup { seed, ..base.clone() }, &client) {
            Ok((timing, report)) => {
                timings.push(timing);
                losses.push(Losses::of(&timing, &report));
            }
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
    println!("means of {:#?}", Losses::mean(&losses));
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
    for timing in timings.iter().take(8) {
        let Timing { seed, took, fluid, foresight, wasted, channels, questions } = timing;
        let (ratio, lost) = (timing.ratio(), took - fluid);
        println!(
            "{seed:>4}  {took:>7.2}  {fluid:>7.2}  {foresight:>11.2}  {ratio:>6.3}  {lost:>6.2}  {wasted:>7}  \
             {channels:>8}  {questions:>9}"
        );
    }
}

/// Where the time of five connections goes, each in seconds of all five together.
#[derive(Clone, Copy, Debug, Default)]
struct Losses {
    /// Until the first byte of the first five.
    begin: f64,
    /// The same of those that were made later.
    moves: f64,
    /// Of these, for channels that were given up within ten deliveries: tries.
    of_it_tries: f64,
    /// On peers that were slower than the best one known to be open: what the same bytes took longer than there.
    slower: f64,
    /// With nothing on the way: between the first byte and the last, and after the last.
    dry: f64,
    dry_at_end: f64,
    /// Connections that were not there.
    missing: f64,
    /// For bytes that came twice, or were of no use.
    useless: f64,
    /// For the file itself at the pace of the best one known.
    file: f64,
}

impl Losses {
    fn of(timing: &Timing, report: &Report) -> Losses {
        let mut losses = Losses::default();
        let Some(run) = report.runs.first() else { return losses };
        let all = CONNECTIONS as f64;
        let life = |port: u16, at: Time| report.lives.iter().rev().find(|life| life.port == port && life.opened <= at);
        let best = |at: Time| {
            let told = run.answers.iter().filter(|answer| answer.at + Span::from_secs(1) <= at);
            let open = told.flat_map(|answer| &answer.ports).filter_map(|port| life(*port, at));
            open.filter(|life| life.retired.is_none_or(|gone| gone > at))
                .map(|life| life.pace.as_secs_f64())
                .fold(f64::MAX, f64::min)
        };
        let (mut there, mut bytes) = (0.0, 0.0);
        let end = Time::ZERO + Span::from_secs_f64(timing.took);
        for (nth, channel) in run.channels.iter().enumerate() {
            let ended = channel.ended.unwrap_or(end);
            there += ended.since(channel.begun).as_secs_f64();
            let first = channel.first.unwrap_or(ended);
            let silent = first.since(channel.begun).as_secs_f64();
            *if nth < CONNECTIONS { &mut losses.begin } else { &mut losses.moves } += silent / all;
            if nth >= CONNECTIONS && channel.received < 10_000 && channel.ended.is_some_and(|at| at < end) {
                losses.of_it_tries += silent / all;
            }
            let last = channel.last.unwrap_or(first);
            losses.dry_at_end += ended.since(last).as_secs_f64() / all;
            let active = last.since(first).as_secs_f64();
            let pace = life(channel.port, channel.begun).map_or(0.0, |life| life.pace.as_secs_f64());
            let carried = (channel.received as f64 / 1006.5 * pace).min(active);
            losses.dry += (active - carried) / all;
            let middle = first + Span::from_secs_f64(active / 2.0);
            losses.slower += carried * (1.0 - (best(middle) / pace).min(1.0)) / all;
            bytes += channel.received as f64 / 1.0065;
        }
        losses.missing = timing.took - there / all;
        let carrying =
            timing.took - losses.begin - losses.moves - losses.slower - losses.dry - losses.dry_at_end - losses.missing;
        losses.useless = carrying * (1.0 - 805_975.0 / bytes).max(0.0);
        losses.file = carrying - losses.useless;
        losses
    }

    fn mean(all: &[Losses]) -> Losses {
        let mean = |of: fn(&Losses) -> f64| all.iter().map(of).sum::<f64>() / all.len() as f64;
        Losses {
            begin: mean(|one| one.begin),
            moves: mean(|one| one.moves),
            of_it_tries: mean(|one| one.of_it_tries),
            slower: mean(|one| one.slower),
            dry: mean(|one| one.dry),
            dry_at_end: mean(|one| one.dry_at_end),
            missing: mean(|one| one.missing),
            useless: mean(|one| one.useless),
            file: mean(|one| one.file),
        }
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
    for Channel { id, port, begun, first, ended, received, requests, .. } in &run.channels {
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
