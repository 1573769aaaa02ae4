//! How many bytes one server gives to many clients: `file-server` and nginx in turn, wrk asking.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail};
use event::run_directory;
use serde_json::{Value, json};

use crate::case::Hashes;
use crate::network::{FILE, Servers, nginx};
use crate::served;
use crate::shared::figures;
use crate::shared::yaml::words;

/// One case: every connection asks for the same file again and again.
#[derive(Debug)]
pub(crate) struct Serving {
    pub(crate) name: &'static str,
    pub(crate) what: &'static str,
    /// Bytes of the file.
    length: u64,
}

/// Every case.
pub(crate) const ALL: &[Serving] = &[
    Serving { name: "serve-1m", what: "1000 clients of one server, 1 MiB at a time, nothing shaped", length: 1 << 20 },
    Serving { name: "serve-16k", what: "the same, 16 KiB at a time", length: 16 << 10 },
];

/// Connections that stay open.
const CONNECTIONS: u32 = 1000;

/// The time of one run.
const SECONDS: u32 = 5;

/// `file-server` gives at least this part of nginx's throughput.
const LEAST: f64 = 0.8;

/// The first two lines of the table.
pub(crate) const HEAD: &str = "\
| case | file-server MiB/s | answers/s | slowest 1 % ms | nginx MiB/s | answers/s | slowest 1 % ms | file-server / nginx | errors, nginx's |
| --- | --- | --- | --- | --- | --- | --- | --- | --- |";

/// What wrk counted in one run.
#[derive(Clone, Copy, Debug, Default)]
struct Counted {
    bytes: f64,
    answers: f64,
    p99_ms: f64,
    errors: f64,
}

/// Runs a case; `tell` gets each run. The row of the table, and whether the target is met.
pub(crate) fn measure(
    serving: &Serving,
    testbed: &Path,
    scratch: &Path,
    rounds: u32,
    mut tell: impl FnMut(Value) -> anyhow::Result<()>,
) -> anyhow::Result<(String, bool)> {
    let served = served::folder(scratch, serving.length, Hashes::None, &[]).context("cannot make the file to serve")?;
    let mut found: [Vec<Counted>; 2] = Default::default();
    for round in 0..rounds {
        for turn in 0..found.len() {
            let which = (turn + round as usize) % found.len();
            let servers = [Servers::Ours, Servers::Nginx][which];
            let counted = run(serving, servers, testbed, scratch, &served)?;
            tell(json!({
                "case": serving.name,
                "servers": servers.word(),
                "round": round,
                "bytes_per_s": counted.bytes,
                "answers_per_s": counted.answers,
                "p99_ms": counted.p99_ms,
                "errors": counted.errors,
            }))?;
            found[which].push(counted);
        }
    }
    let [ours, nginx] = found.map(|runs| medians(&runs));
    let share = ours.bytes / nginx.bytes;
    let met = share >= LEAST && ours.errors == 0.0;
    let figures = |counted: Counted| {
        format!("{:.0} | {:.0} | {:.0}", counted.bytes / f64::from(1 << 20), counted.answers, counted.p99_ms)
    };
    let mark = if met { "" } else { " MISSED" };
    let row = format!(
        "| {} | {} | {} | {share:.3}{mark} | {}, {} |",
        serving.name,
        figures(ours),
        figures(nginx),
        ours.errors,
        nginx.errors
    );
    Ok((row, met))
}

fn medians(runs: &[Counted]) -> Counted {
    let median = |figure: fn(&Counted) -> f64| figures::median(runs.iter().map(figure)).unwrap_or_default();
    Counted {
        bytes: median(|run| run.bytes),
        answers: median(|run| run.answers),
        p99_ms: median(|run| run.p99_ms),
        errors: median(|run| run.errors),
    }
}

fn run(serving: &Serving, servers: Servers, testbed: &Path, scratch: &Path, served: &Path) -> anyhow::Result<Counted> {
    let file = scratch.join("topology.yaml");
    fs::write(&file, topology(serving, servers, served))?;
    let runs = scratch.join(run_directory::RUNS);
    let ended = Command::new(testbed).arg("run").arg(&file).arg("--out").arg(&runs).output();
    let ended = ended.with_context(|| format!("cannot start {}", testbed.display()))?;
    let load = run_directory::node(&runs.join(serving.name).join(run_directory::LATEST), "load");
    let said = fs::read_to_string(load.join(run_directory::STDOUT)).unwrap_or_default();
    let counted = said.lines().rev().find_map(|line| serde_json::from_str::<Value>(line).ok());
    let Some(counted) = counted else {
        let errors = fs::read_to_string(load.join(run_directory::STDERR)).unwrap_or_default();
        bail!("wrk counted nothing: {said}{errors}{}", String::from_utf8_lossy(&ended.stderr));
    };
    fs::remove_dir_all(&runs)?;
    let number = |name: &str| counted[name].as_f64().unwrap_or_default();
    let seconds = number("us") / 1e6;
    Ok(Counted {
        bytes: number("bytes") / seconds,
        answers: number("answers") / seconds,
        p99_ms: number("p99_us") / 1e3,
        errors: number("errors"),
    })
}

fn topology(serving: &Serving, servers: Servers, served: &Path) -> String {
    let program = match servers {
        Servers::Nginx => format!("run: {}, ready: {{ tcp: 80 }}", words(&nginx(served, true))),
        Servers::Ours => format!("role: file-server, file: {FILE}"),
    };
    let threads = std::thread::available_parallelism().map_or(2, usize::from);
    let (connections, threads) = (format!("-c{CONNECTIONS}"), format!("-t{threads}"));
    // wrk's own report rounds; this is what it counted.
    let report = "done = function(summary, latency) \
        local e = summary.errors \
        io.write(string.format('\\n{\"bytes\":%d,\"answers\":%d,\"us\":%d,\"errors\":%d,\"p99_us\":%d}\\n', \
        summary.bytes, summary.requests, summary.duration, e.connect + e.read + e.write + e.status + e.timeout, \
        latency:percentile(99))) end";
    let script = format!(
        "printf '%s\\n' \"$1\" > report.lua; exec wrk {threads} {connections} -d{SECONDS}s --timeout 10s -s report.lua http://server/{FILE}"
    );
    let load = ["sh", "-c", script.as_str(), "wrk", report].map(str::to_owned);
    format!(
        "name: {}\nseed: 1\ntimeout: 60s\nfiles:\n  {FILE}: {{ path: {:?} }}\nnodes:\n  server: {{ {program} }}\n  \
         load: {{ run: {}, after: server }}\nexpect:\n  load: {{ exit: 0 }}\n",
        serving.name,
        served.join(FILE),
        words(&load)
    )
}

/// The folder of programs, for whoever has none.
pub(crate) fn has_wrk() -> bool {
    let folders = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&folders).any(|folder: PathBuf| folder.join("wrk").is_file())
}
