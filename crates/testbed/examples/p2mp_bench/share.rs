//! The fast mode beside a flow of TCP on one line: what each of them brings to the other end in the same seconds.

use std::ffi::OsString;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::process::{Command, ExitCode};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use anyhow::{Context as _, bail};
use event::{Event, NodeReport, Record, Verdict};
use nix::poll::poll;
use nix::sys::socket::{getsockopt, setsockopt, sockopt};
use serde_json::json;

use crate::case::FRAME;
use crate::outcome::Runner;
use crate::shared::figures::{mark, number, sorted};
use crate::shared::raw::Raw;
use crate::shared::usage;
use crate::shared::yaml::{put, words};

/// First words of command lines that are for this module.
pub(crate) const SOURCE: &str = "--share-source";
pub(crate) const SINK: &str = "--share-sink";

/// A kind of TCP.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Share {
    pub(crate) name: &'static str,
    pub(crate) what: &'static str,
    /// As `TCP_CONGESTION` names it (tcp(7)).
    congestion: &'static str,
}

/// Every kind.
pub(crate) const ALL: &[Share] = &[
    Share { name: "share-reno", what: "beside TCP Reno for 30 s at 50 Mbit/s and 20 ms", congestion: "reno" },
    Share { name: "share-cubic", what: "the same with Cubic", congestion: "cubic" },
    Share { name: "share-bbr", what: "the same with BBR", congestion: "bbr" },
];

/// How long both are watched, from when both flow.
const SECONDS: f64 = 30.0;

/// Enough for all of the line and some more, so that it does not end before it has been watched.
const LENGTH: u64 = 256 << 20;

/// How often is told what TCP has brought.
const TELL_EVERY_MS: u16 = 100;

/// Our goodput over TCP's is at least, and at most.
const FAIR: (f64, f64) = (0.5, 2.0);

const TCP_PORT: u16 = 5001;
const UDP_PORT: &str = "7735";
/// The source exits so where the kernel does not let it have the kind of TCP that it should be.
const REFUSED: u8 = 77;

/// Prints a table; whether all targets are met.
pub(crate) fn compare(runner: &Runner<'_>, shares: &[&Share], rounds: u32, raw: &mut Raw) -> anyhow::Result<bool> {
    println!("\n| beside | ours Mbit/s | TCP Mbit/s | ours / TCP | least, greatest | left out |");
    println!("| --- | --- | --- | --- | --- | --- |");
    let mut met = true;
    for share in shares {
        let mut found = Vec::new();
        let mut left_out = Vec::new();
        for round in 0..rounds {
            match run(runner, share, round)? {
                Seen::Both { ours, tcp } => {
                    raw.tell(&json!({ "case": share.name, "round": round, "ours_bps": ours, "tcp_bps": tcp }))?;
                    found.push((ours, tcp));
                }
                Seen::LeftOut(why) => left_out.push(why),
            }
        }
        found.sort_by(|a, b| (a.0 / a.1).total_cmp(&(b.0 / b.1)));
        let ratios = sorted(found.iter().map(|(ours, tcp)| ours / tcp));
        let middle = found.get(found.len() / 2).copied();
        let ratio = middle.map(|(ours, tcp)| ours / tcp);
        let too_little = ratio.is_some_and(|ratio| ratio < FAIR.0);
        let missed = if too_little { " MISSED" } else { mark(ratio, Some(FAIR.1)) };
        let spread = ratios.first().zip(ratios.last()).map_or_else(String::new, |(a, b)| format!("{a:.2}, {b:.2}"));
        println!(
            "| {} | {} | {} | {}{missed} | {spread} | {} |",
            share.congestion,
            number(middle.map(|(ours, _)| ours / 1e6), 1),
            number(middle.map(|(_, tcp)| tcp / 1e6), 1),
            number(ratio, 2),
            left_out.join("; ")
        );
        met &= missed.is_empty() && ratio.is_some();
    }
    Ok(met)
}

/// What a run showed: goodput in bit/s of both, or why it counts for nothing.
enum Seen {
    Both { ours: f64, tcp: f64 },
    LeftOut(String),
}

fn run(runner: &Runner<'_>, share: &Share, round: u32) -> anyhow::Result<Seen> {
    let file = runner.file(LENGTH)?;
    let paths = runner.paths(&file);
    let (bench, testbed) = (paths.bench.display().to_string(), paths.testbed.display().to_string());
    let sink = [&bench, SINK, &testbed, "role", "p2mp-receiver", UDP_PORT, "movie", "0"].map(str::to_owned);
    let file = file.display().to_string();
    let source = [&bench, SOURCE, share.congestion, "receiver", &testbed, "role", "p2mp-sender", "receiver", UDP_PORT];
    let mut source = source.map(str::to_owned).to_vec();
    source.extend([file, FRAME.payload.to_string(), "--mode".to_owned(), "fast".to_owned()]);
    source.extend_from_slice(paths.fast);
    let mut text = format!("name: {}\nseed: {}\ntimeout: 120s\nnodes:\n", share.name, round + 1);
    put(&mut text, format_args!("  receiver: {{ run: {}, ready: {{ tcp: {TCP_PORT} }} }}", words(&sink)));
    let link = "link: { up: { rate: 50Mbit, delay: 10ms }, down: { delay: 10ms } }";
    // Root of its own namespace, it may have any TCP that the kernel has, whatever the machine's owner allows to others.
    put(&mut text, format_args!("  sender: {{ run: {}, user: root, after: receiver, {link} }}", words(&source)));
    put(&mut text, format_args!("expect:\n  sender: {{ exit: 0 }}"));

    let (log, _) = runner.run_text(share.name, &text, &format!("{}-{round}", share.name))?;
    let seen = read(&log)?;
    runner.forget()?;
    Ok(seen)
}

/// Bytes that had arrived, at moments in seconds.
type Series = Vec<(f64, f64)>;

fn read(log: &str) -> anyhow::Result<Seen> {
    let (mut ours, mut tcp): (Series, Series) = (Vec::new(), Vec::new());
    for line in log.lines() {
        let record = Record::from_line(line).with_context(|| format!("not a record: {line}"))?;
        let at = record.at().as_secs_f64();
        match record.event {
            Event::NodeReported { node, report: NodeReport::Progress { bytes, .. }, .. } if node == "receiver" => {
                ours.push((at, bytes as f64));
            }
            Event::NodeReported { report: NodeReport::Other(report), .. } if report["kind"] == "tcp" => {
                tcp.push((at, report["bytes"].as_f64().unwrap_or_default()));
            }
            Event::NodeReported { report: NodeReport::Other(report), .. } if report["kind"] == "refused" => {
                return Ok(Seen::LeftOut(format!("the kernel refuses: {}", report["why"])));
            }
            Event::RunEnded { verdict, causes, .. } if verdict != Verdict::Pass => {
                return Ok(Seen::LeftOut(format!("{verdict:?}: {}", causes.join(", "))));
            }
            _ => {}
        }
    }
    let first = |series: &Series| series.iter().find(|(_, bytes)| *bytes > 0.0).map(|(at, _)| *at);
    let Some((began, tcp_began)) = first(&ours).zip(first(&tcp)) else {
        return Ok(Seen::LeftOut("nothing arrived".to_owned()));
    };
    let began = began.max(tcp_began);
    let goodput = |series: &Series| {
        let brought = at(series, began + SECONDS)? - at(series, began)?;
        Some(brought * 8.0 / SECONDS)
    };
    Ok(match goodput(&ours).zip(goodput(&tcp)) {
        Some((ours, tcp)) => Seen::Both { ours, tcp },
        None => Seen::LeftOut("one of them ended too early".to_owned()),
    })
}

/// What had arrived at a moment, between what was told before and after it.
fn at(series: &Series, when: f64) -> Option<f64> {
    let after = series.partition_point(|(at, _)| *at < when);
    let (later, more) = *series.get(after)?;
    if later == when {
        return Some(more);
    }
    let (earlier, less) = *series.get(after.checked_sub(1)?)?;
    Some(less + (more - less) * (when - earlier) / (later - earlier).max(f64::MIN_POSITIVE))
}

/// In the sender's node: TCP of a kind to a host, and a program beside it, for a little longer than both are watched.
pub(crate) fn source(words: &[OsString]) -> anyhow::Result<ExitCode> {
    let [congestion, host, program, arguments @ ..] = words else { bail!("a kind of TCP, a host and a program") };
    let mut events = usage::events()?;
    let mut stream = TcpStream::connect((host.to_str().context("a host")?, TCP_PORT))?;
    if let Err(error) = setsockopt(&stream.as_fd(), sockopt::TcpCongestion, congestion) {
        usage::tell(&mut events, &json!({ "kind": "refused", "why": error.to_string() }))?;
        return Ok(ExitCode::from(REFUSED));
    }
    let is = getsockopt(&stream.as_fd(), sockopt::TcpCongestion)?;
    // The kernel gives the name with the zeros behind it.
    let is = is.to_string_lossy().trim_end_matches('\0').to_owned();
    anyhow::ensure!(*congestion == *is, "TCP is {is}");
    thread::spawn(move || {
        let bytes = vec![0; 256 << 10];
        while stream.write_all(&bytes).is_ok() {}
    });
    let mut child = Command::new(program).args(arguments).spawn()?;
    poll(&mut [], ((SECONDS + 5.0) * 1e3) as u16)?;
    if let Some(status) = child.try_wait()? {
        bail!("the sender ended before the time was over: {status}");
    }
    child.kill()?;
    child.wait()?;
    Ok(ExitCode::SUCCESS)
}

/// In the receiver's node: takes TCP from whoever sends and tells how much came; a program beside it.
pub(crate) fn sink(words: &[OsString]) -> anyhow::Result<ExitCode> {
    let (program, arguments) = words.split_first().context("no program is named")?;
    let mut events = usage::events()?;
    let mut child = Command::new(program).args(arguments).spawn()?;
    let listener = TcpListener::bind(("0.0.0.0", TCP_PORT))?;
    let received = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&received);
    thread::spawn(move || {
        let mut bytes = vec![0; 256 << 10];
        let Ok((mut stream, _)) = listener.accept() else { return };
        while let Ok(count @ 1..) = stream.read(&mut bytes) {
            counted.fetch_add(count as u64, Ordering::Relaxed);
        }
    });
    loop {
        poll(&mut [], TELL_EVERY_MS)?;
        usage::tell(&mut events, &json!({ "kind": "tcp", "bytes": received.load(Ordering::Relaxed) }))?;
        if let Some(status) = child.try_wait()? {
            return Ok(usage::exit_code(status));
        }
    }
}
