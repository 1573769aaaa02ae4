//! One run, and what its log says.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail};
use event::{Direction, Event, ExitStatus, NodeReport, Record, Verdict, run_directory};
use serde_json::{Value, json};

use crate::Args;
use crate::bound::{self, FRAME};
use crate::case::{Case, Hashes};
use crate::network::{self, CLIENT, Client, Paths, Servers};
use crate::served;

/// Runs cases.
#[derive(Debug)]
pub(crate) struct Runner {
    testbed: PathBuf,
    bench: PathBuf,
    scratch: PathBuf,
    keep: Option<PathBuf>,
    aria2: Vec<String>,
}

/// What one run showed.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    /// Whether the testbed passed it, and why not.
    pub(crate) verdict: Option<Verdict>,
    pub(crate) causes: Vec<String>,
    /// How the client ended.
    pub(crate) exit: Option<ExitStatus>,
    /// Seconds from the client's start to its exit.
    pub(crate) took: f64,
    /// The least possible seconds, given when the faults took place; `None` without shaped lines.
    pub(crate) bound: Option<f64>,
    /// Bytes of the file that reached the client more than once, as it says itself.
    pub(crate) twice: Option<u64>,
    /// Ethernet bytes that reached the client, where the relay counts them.
    pub(crate) wire: Option<u64>,
    /// Body bytes that the servers say they sent.
    pub(crate) served: u64,
    pub(crate) max_rss_kib: u64,
    pub(crate) cpu: f64,
    /// Moments of faults, in seconds from the client's start.
    faults: Vec<f64>,
}

impl Runner {
    pub(crate) fn new(testbed: PathBuf, scratch: &Path, args: &Args) -> anyhow::Result<Self> {
        if let Some(keep) = &args.keep {
            fs::create_dir_all(keep).with_context(|| format!("cannot make {}", keep.display()))?;
        }
        let bench = std::env::current_exe().context("cannot find this program itself")?;
        let (keep, aria2) = (args.keep.clone(), args.aria2.clone());
        Ok(Runner { testbed, bench, scratch: scratch.to_owned(), keep, aria2 })
    }

    /// Runs a case once.
    pub(crate) fn run(&self, case: &Case, servers: Servers, client: Client, round: u32) -> anyhow::Result<Outcome> {
        let served = served::folder(&self.scratch, case.length, case.hashes, &network::urls(case));
        let served = served.context("cannot make the file to serve")?;
        let paths = Paths { testbed: &self.testbed, bench: &self.bench, served: &served, aria2: &self.aria2 };
        let topology = self.scratch.join("topology.yaml");
        fs::write(&topology, network::topology(case, servers, client, &paths))?;

        let runs = self.scratch.join(run_directory::RUNS);
        let ended = Command::new(&self.testbed).arg("run").arg(&topology).arg("--out").arg(&runs).output();
        let ended = ended.with_context(|| format!("cannot start {}", self.testbed.display()))?;
        let directory = runs.join(case.name).join(run_directory::LATEST);
        let Ok(log) = fs::read_to_string(directory.join(run_directory::EVENTS)) else {
            bail!("{} made no log: {}", self.testbed.display(), String::from_utf8_lossy(&ended.stderr));
        };
        if let Some(keep) = &self.keep {
            let name = format!("{}-{}-{}-{round}.jsonl", case.name, servers.word(), client.word());
            fs::write(keep.join(name), &log)?;
        }
        let outcome = Outcome::read(&log, case, &directory)?;
        if outcome.verdict == Some(Verdict::Fail) && case.hashes != Hashes::OneWrong {
            let errors = fs::read_to_string(run_directory::node(&directory, CLIENT).join(run_directory::STDERR));
            eprintln!("{} {} {}: {}", case.name, servers.word(), client.word(), outcome.causes.join("; "));
            eprintln!("{}", errors.unwrap_or_default().trim_end());
        }
        fs::remove_dir_all(&runs)?;
        Ok(outcome)
    }
}

impl Outcome {
    fn read(log: &str, case: &Case, directory: &Path) -> anyhow::Result<Self> {
        let mut outcome = Outcome::default();
        let (mut began, mut faults, mut served) = (0.0, Vec::new(), BTreeMap::new());
        for line in log.lines() {
            let record = Record::from_line(line).with_context(|| format!("not a record: {line}"))?;
            let at = record.at().as_secs_f64();
            match record.event {
                Event::NodeReported { node, report, .. } if node == CLIENT => match report {
                    NodeReport::Progress { total, received, .. } => {
                        outcome.twice = Some(received.saturating_sub(total));
                    }
                    NodeReport::Other(report) if report["kind"] == "began" => began = at,
                    NodeReport::Other(report) if report["kind"] == "ended" => outcome.take_usage(&report),
                    _ => {}
                },
                Event::NodeReported { node, incarnation, report: NodeReport::Served { bytes, .. } } => {
                    served.insert((node, incarnation), bytes);
                }
                Event::NodeExited { node, status, .. } if node == CLIENT => outcome.exit = Some(status),
                Event::FaultFired { .. } => faults.push(at),
                Event::LinkCounted(count) if count.node == CLIENT && count.direction == Direction::Down => {
                    outcome.wire = Some(count.delivered_bytes);
                }
                Event::RunEnded { verdict, causes, .. } => {
                    outcome.verdict = Some(verdict);
                    outcome.causes = causes;
                }
                _ => {}
            }
        }
        outcome.faults = faults.into_iter().map(|at| at - began).collect();
        outcome.bound = bound::least_time(case, &outcome.faults);
        outcome.served = served.into_values().sum::<u64>() + served_by_nginx(case, directory);
        Ok(outcome)
    }

    fn take_usage(&mut self, report: &Value) {
        let number = |name: &str| report[name].as_f64().unwrap_or_default();
        self.took = number("took-s");
        self.max_rss_kib = number("max-rss-kib") as u64;
        self.cpu = number("user-s") + number("system-s");
    }

    pub(crate) fn is_invalid(&self) -> bool {
        self.verdict == Some(Verdict::Invalid)
    }

    pub(crate) fn passed(&self) -> bool {
        self.verdict == Some(Verdict::Pass)
    }

    /// The time over the bound.
    pub(crate) fn ratio(&self) -> Option<f64> {
        self.bound.map(|bound| self.took / bound)
    }

    /// Ethernet bytes that reached the client, over those that the file needs.
    pub(crate) fn wire_share(&self, case: &Case) -> Option<f64> {
        self.wire.map(|bytes| bytes as f64 / (case.length as f64 * FRAME))
    }

    pub(crate) fn to_json(&self, case: &Case, servers: Servers, client: Client, round: u32) -> Value {
        json!({
            "case": case.name,
            "servers": servers.word(),
            "client": client.word(),
            "round": round,
            "verdict": self.verdict,
            "exit": self.exit.map(ExitStatus::shell),
            "causes": self.causes,
            "took_s": self.took,
            "bound_s": self.bound,
            "ratio": self.ratio(),
            "bytes": case.length,
            "twice": self.twice,
            "wire_bytes": self.wire,
            "served_bytes": self.served,
            "max_rss_kib": self.max_rss_kib,
            "cpu_s": self.cpu,
            "faults_s": self.faults,
        })
    }
}

/// Body bytes in the servers' logs of answers. One that is killed does not log what it was sending.
fn served_by_nginx(case: &Case, directory: &Path) -> u64 {
    let log = |index| fs::read_to_string(run_directory::disk(directory, &network::server(index)).join("served.log"));
    let logs = (0..case.lines.len()).filter_map(|index| log(index).ok());
    logs.map(|log| log.lines().filter_map(|line| line.parse::<u64>().ok()).sum::<u64>()).sum()
}
