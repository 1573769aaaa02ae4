//! `testbed bench link`: how fast and how exact links are on this machine.
//!
//! * [`agreement`]: many profiles, held against the model in virtual time.
//! * [`throughput`]: TCP over bridge, relay and netem.
//! * [`changes`]: links that change while packets pass.
//! * [`load`]: many links at once.
//! * [`capture`]: what recording every packet costs.
//! * [`table`]: the results for people.
//! * [`lab`]: two nodes and the links between them; [`ends`], [`packet`], [`protocol`]: what runs in the nodes;
//!   [`timer`]: waiting, and how late this machine is at that.
//!
//! Each measurement has a sandbox of its own, so what is measured first leaves nothing behind for what comes later.

mod agreement;
mod capture;
mod changes;
mod ends;
mod lab;
mod load;
mod packet;
mod protocol;
mod table;
mod throughput;
mod timer;

use anyhow::Context;
use event::Verdict;
use machine::Span;
use serde_json::{Map, Value, json};
use topology::NetemSupport;

use crate::cli::{BenchPart, BenchShaper, Format, LinkBenchArguments};
use crate::status::{BadInput, Status};

/// Each writes a gigabyte or two, and takes its time for that.
const MOST_RECORDINGS: u32 = 3;

pub(crate) fn link(arguments: &LinkBenchArguments) -> anyhow::Result<Status> {
    let known: Vec<&str> = sim::agreement::rows().iter().map(|row| row.name).collect();
    if let Some(name) = arguments.row.iter().find(|name| !known.contains(&name.as_str())) {
        return Err(BadInput(format!("there is no row `{name}`; there are {}", known.join(", "))).into());
    }
    if arguments.shaper == Some(BenchShaper::Netem) && fabric::preflight::netem() == NetemSupport::Absent {
        eprintln!("error: this kernel has no netem; scripts/with-netem-kernel runs a command under one that has");
        return Ok(Status::Unable);
    }
    match measure(arguments) {
        Ok(results) => {
            match arguments.format {
                Format::Human => report::say(&table::of(&results)),
                Format::Json => report::say(&format!("{}\n", serde_json::to_string_pretty(&results)?)),
            }
            Ok(Status::OK)
        }
        Err(error) if error.is::<lab::Interrupted>() => Ok(Status::Judged(Verdict::Interrupted)),
        Err(error) => Err(error),
    }
}

fn measure(arguments: &LinkBenchArguments) -> anyhow::Result<Value> {
    let parts = &arguments.only;
    let wanted = |part| parts.is_empty() || parts.contains(&part);
    let time = Span::from_secs_f64(arguments.time);
    let has_netem = fabric::preflight::netem() > NetemSupport::Absent;
    let asked = |shaper: &str| arguments.shaper.is_none_or(|asked| asked.name() == shaper);
    let shapers = || ["relay", "netem"].into_iter().filter(|shaper| (has_netem || *shaper == "relay") && asked(shaper));
    let per_shaper = |measure: &dyn Fn(&str) -> anyhow::Result<Value>| -> anyhow::Result<Value> {
        let results = shapers().map(|shaper| Ok((shaper.to_owned(), measure(shaper)?)));
        Ok(Value::Object(results.collect::<anyhow::Result<Map<String, Value>>>()?))
    };
    let mut results = Map::new();
    results.insert("machine".to_owned(), machine(has_netem)?);
    if wanted(BenchPart::Agreement) {
        let found = per_shaper(&|shaper| agreement::measure(shaper, arguments.seeds, &arguments.row))?;
        results.insert("agreement".to_owned(), found);
    }
    if wanted(BenchPart::Throughput) {
        results.insert(
            "throughput".to_owned(),
            throughput::measure(time, arguments.rounds, &shapers().collect::<Vec<_>>())?,
        );
    }
    if wanted(BenchPart::Changes) {
        results.insert("changes".to_owned(), per_shaper(&|shaper| changes::measure(shaper, arguments.changes))?);
    }
    if wanted(BenchPart::Load) {
        let found = per_shaper(&|shaper| load::measure(shaper, arguments.links, time, None))?;
        results.insert("load".to_owned(), found);
    }
    // What netem carries is not recorded.
    if wanted(BenchPart::Capture) && asked("relay") {
        let rounds = arguments.rounds.min(MOST_RECORDINGS);
        results.insert("capture".to_owned(), capture::measure(time, rounds, arguments.links)?);
    }
    Ok(Value::Object(results))
}

fn machine(has_netem: bool) -> anyhow::Result<Value> {
    let read = |path: &str| std::fs::read_to_string(path).with_context(|| format!("cannot read {path}"));
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    let load = read("/proc/loadavg")?;
    Ok(json!({
        "kernel": read("/proc/sys/kernel/osrelease")?.trim(),
        "cpus": cpus,
        // Of the minute before.
        "load": load.split(' ').next().and_then(|load| load.parse::<f64>().ok()),
        "root": nix::unistd::geteuid().is_root(),
        "netem": has_netem,
    }))
}
