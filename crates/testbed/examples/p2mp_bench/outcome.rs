//! One run, and what its log says.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail};
use event::{Direction, Event, NodeReport, Record, Verdict, run_directory};
use serde_json::{Value, json};

use crate::Args;
use crate::case::{Case, Program};
use crate::network::{self, Paths, SENDER};
use crate::shared::random;

/// Runs topologies.
#[derive(Debug)]
pub(crate) struct Runner<'a> {
    testbed: &'a Path,
    bench: PathBuf,
    scratch: &'a Path,
    args: &'a Args,
}

/// What one run showed.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    /// Whether the testbed passed it, and why not.
    pub(crate) verdict: Option<Verdict>,
    pub(crate) causes: Vec<String>,
    /// Seconds from the sender's start until the last receiver had the whole file under its name.
    pub(crate) took: Option<f64>,
    /// Seconds from the sender's start to its exit.
    pub(crate) sender_took: Option<f64>,
    /// Ethernet bytes that the sender sent, where the relay counts them.
    pub(crate) wire: Option<u64>,
    /// Packets that found a queue full.
    pub(crate) queue_drops: u64,
    /// Processor seconds, of the sender in all and of all receivers until they had the file.
    pub(crate) sender_cpu: Option<f64>,
    pub(crate) receivers_cpu: Option<f64>,
    /// Most memory in KiB, of the sender and of any receiver.
    pub(crate) sender_rss_kib: Option<u64>,
    pub(crate) receiver_rss_kib: Option<u64>,
}

impl<'a> Runner<'a> {
    pub(crate) fn new(testbed: &'a Path, scratch: &'a Path, args: &'a Args) -> anyhow::Result<Self> {
        if let Some(keep) = &args.keep {
            fs::create_dir_all(keep).with_context(|| format!("cannot make {}", keep.display()))?;
        }
        let bench = std::env::current_exe().context("cannot find this program itself")?;
        Ok(Runner { testbed, bench, scratch, args })
    }

    /// Runs a case once.
    pub(crate) fn run(&self, case: &Case, program: Program, round: u32) -> anyhow::Result<Outcome> {
        let file = self.file(case.length)?;
        let text = network::topology(case, program, &self.paths(&file), round);
        let kept = format!("{}-{}-{round}", case.name, program.word().replace(' ', "-"));
        let (log, directory) = self.run_text(case.name, &text, &kept)?;
        let outcome = Outcome::read(&log, case)?;
        if outcome.verdict == Some(Verdict::Fail) {
            let errors = fs::read_to_string(run_directory::node(&directory, SENDER).join(run_directory::STDERR));
            eprintln!("{} {}: {}", case.name, program.word(), outcome.causes.join("; "));
            eprintln!("{}", errors.unwrap_or_default().trim_end());
        }
        self.forget()?;
        Ok(outcome)
    }

    /// The programs' files, and what the user adds to their command lines.
    pub(crate) fn paths<'b>(&'b self, file: &'b Path) -> Paths<'b> {
        let Args { fast, uftp, uftpd, .. } = self.args;
        Paths { testbed: self.testbed, bench: &self.bench, file, fast, uftp, uftpd }
    }

    /// A file of this length; made when it is first asked for.
    pub(crate) fn file(&self, length: u64) -> anyhow::Result<PathBuf> {
        // The name that UFTP's receivers give it is the sender's.
        let folder = self.scratch.join(length.to_string());
        let file = folder.join(network::FILE);
        if !file.exists() {
            fs::create_dir_all(&folder)?;
            random::write(&file, length).context("cannot make the file to send")?;
        }
        Ok(file)
    }

    /// Runs a topology of this name; its log and its directory, which stays until [`Runner::forget`].
    pub(crate) fn run_text(&self, name: &str, text: &str, kept: &str) -> anyhow::Result<(String, PathBuf)> {
        let topology = self.scratch.join("topology.yaml");
        fs::write(&topology, text)?;
        let runs = self.scratch.join(run_directory::RUNS);
        let ended = Command::new(self.testbed).arg("run").arg(&topology).arg("--out").arg(&runs).output();
        let ended = ended.with_context(|| format!("cannot start {}", self.testbed.display()))?;
        let directory = runs.join(name).join(run_directory::LATEST);
        let Ok(log) = fs::read_to_string(directory.join(run_directory::EVENTS)) else {
            bail!("{} made no log: {}", self.testbed.display(), String::from_utf8_lossy(&ended.stderr));
        };
        if let Some(keep) = &self.args.keep {
            fs::write(keep.join(format!("{kept}.jsonl")), &log)?;
            fs::write(keep.join(format!("{kept}.yaml")), text)?;
        }
        Ok((log, directory))
    }

    /// Removes what the last run left: it is as large as all its receivers' files.
    pub(crate) fn forget(&self) -> std::io::Result<()> {
        fs::remove_dir_all(self.scratch.join(run_directory::RUNS))
    }
}

impl Outcome {
    fn read(log: &str, case: &Case) -> anyhow::Result<Self> {
        let mut outcome = Outcome::default();
        let (mut began, mut arrivals) = (None, Vec::new());
        let mut cpu = Vec::new();
        for line in log.lines() {
            let record = Record::from_line(line).with_context(|| format!("not a record: {line}"))?;
            match record.event {
                Event::NodeReported { report: NodeReport::Other(report), .. } => {
                    let kind = report["kind"].as_str().unwrap_or_default();
                    match kind {
                        "began" => began = report["clock-ns"].as_u64(),
                        "ended" => {
                            let seconds = |name: &str| report[name].as_f64();
                            outcome.sender_took = seconds("took-s");
                            outcome.sender_cpu = seconds("user-s").zip(seconds("system-s")).map(|(a, b)| a + b);
                            outcome.sender_rss_kib = report["max-rss-kib"].as_u64();
                        }
                        "arrived" => {
                            arrivals.extend(report["clock-ns"].as_u64());
                            cpu.extend(report["cpu-s"].as_f64());
                            outcome.receiver_rss_kib = outcome.receiver_rss_kib.max(report["max-rss-kib"].as_u64());
                        }
                        _ => {}
                    }
                }
                Event::LinkCounted(count) => {
                    outcome.queue_drops += count.queue;
                    if count.node == SENDER && count.direction == Direction::Up {
                        outcome.wire = Some(count.offered_bytes);
                    }
                }
                Event::RunEnded { verdict, causes, .. } => {
                    outcome.verdict = Some(verdict);
                    outcome.causes = causes;
                }
                _ => {}
            }
        }
        if arrivals.len() == case.receivers {
            let last = arrivals.into_iter().max();
            outcome.took = began.zip(last).map(|(began, last)| last.saturating_sub(began) as f64 / 1e9);
        }
        outcome.receivers_cpu = (cpu.len() == case.receivers).then(|| cpu.iter().sum());
        Ok(outcome)
    }

    pub(crate) fn is_invalid(&self) -> bool {
        self.verdict == Some(Verdict::Invalid)
    }

    pub(crate) fn passed(&self) -> bool {
        self.verdict == Some(Verdict::Pass) && self.took.is_some()
    }

    pub(crate) fn to_json(&self, case: &Case, program: Program, round: u32) -> Value {
        json!({
            "case": case.name,
            "program": program.word(),
            "round": round,
            "verdict": self.verdict,
            "causes": self.causes,
            "took_s": self.took,
            "sender_took_s": self.sender_took,
            "bound_s": case.bound(),
            "wire_bytes": self.wire,
            "queue_drops": self.queue_drops,
            "sender_cpu_s": self.sender_cpu,
            "receivers_cpu_s": self.receivers_cpu,
            "sender_rss_kib": self.sender_rss_kib,
            "receiver_rss_kib": self.receiver_rss_kib,
        })
    }
}
