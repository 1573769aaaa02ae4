//! How fast a file comes from several servers at once: the downloader and aria2 on the same servers, in networks that the
//! testbed makes.
//!
//! `scripts/bench download` builds and starts it; `download_bench --help` lists the options and the cases. Programs take
//! turns, figures are medians of the rounds, and times are those of the client program alone, from its start to its exit.
//! What a fault does is seen in the log of the run, so the bound of a run counts from where its fault really was.
//!
//! * `case`: the cases: servers, faults, targets.
//! * `bound`: the least time in which the servers of a case can bring the file.
//! * `network`: a case as a topology.
//! * `served`: the file that is downloaded, and its hashes.
//! * `serving`: one server and a thousand clients, beside nginx.
//! * `outcome`: one run, and what its log says.
//! * `table`: medians beside each other.
//! * `shared`: what the benchmarks of transfer programs have in common.
#![allow(clippy::print_stdout, reason = "it reports to a person")]

mod bound;
mod case;
mod network;
mod outcome;
mod served;
mod serving;
#[path = "../shared/mod.rs"]
mod shared;
mod table;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, ensure};
use clap::builder::PossibleValuesParser;
use clap::{Parser, ValueEnum};
use event::ExitStatus;

use case::{Case, Hashes};
use network::{Client, Servers};
use outcome::{Outcome, Runner};
use serving::Serving;
use shared::raw::Raw;
use shared::usage;

/// Downloads from several servers at once, ours and aria2 in turn
#[derive(Debug, Parser)]
#[command(name = "download_bench", after_help = help())]
struct Args {
    /// Cases; all unless given
    #[arg(value_name = "CASE", value_parser = PossibleValuesParser::new(names()))]
    cases: Vec<String>,
    /// Runs of each program in each case
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: u32,
    /// One round
    #[arg(long, conflicts_with = "rounds")]
    quick: bool,
    /// Only this client
    #[arg(long, value_enum)]
    only: Option<Client>,
    /// Only these servers
    #[arg(long, value_enum)]
    servers: Option<Servers>,
    /// The testbed to measure
    #[arg(long, value_name = "PATH", default_value = "target/release/testbed")]
    binary: PathBuf,
    /// Append each run to this file, one JSON object a line
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Keep the log of each run in this folder
    #[arg(long, value_name = "DIR")]
    keep: Option<PathBuf>,
    /// Give aria2 this option, too, such as --aria2=--max-connection-per-server=4; may be repeated
    #[arg(long, value_name = "OPTION", allow_hyphen_values = true)]
    aria2: Vec<String>,
    /// Where files are served from and downloaded to; the folder for temporary files unless given
    #[arg(long, value_name = "DIR")]
    scratch: Option<PathBuf>,
}

fn main() -> anyhow::Result<ExitCode> {
    let words: Vec<_> = std::env::args_os().skip(1).collect();
    if words.first().is_some_and(|word| word == usage::WORD) {
        return usage::run(&words[1..]);
    }
    let args = Args::parse();
    let binary = args.binary.canonicalize().with_context(|| format!("no testbed at {}", args.binary.display()))?;
    let root = args.scratch.clone().unwrap_or_else(std::env::temp_dir);
    let scratch = tempfile::Builder::new()
        .prefix("download-bench-")
        .tempdir_in(&root)
        .with_context(|| format!("cannot make a folder in {}", root.display()))?;
    let rounds = if args.quick { 1 } else { args.rounds };
    let mut raw = Raw::append_to(args.json.as_deref())?;
    let wanted = |name: &str| args.cases.is_empty() || args.cases.iter().any(|case| case == name);
    let downloads: Vec<_> = case::ALL.iter().filter(|case| wanted(case.name)).collect();
    let servings: Vec<_> = serving::ALL.iter().filter(|serving| wanted(serving.name)).collect();

    let runner = Runner::new(binary.clone(), scratch.path(), &args)?;
    let mut met = downloads.is_empty() || compare_downloads(&args, &runner, &downloads, rounds, &mut raw)?;
    if !servings.is_empty() && args.only.is_none() {
        met &= compare_servers(&binary, scratch.path(), &servings, rounds, &mut raw)?;
    }
    Ok(if met { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The names of all cases.
fn names() -> impl Iterator<Item = &'static str> {
    case::ALL.iter().map(|case| case.name).chain(serving::ALL.iter().map(|serving| serving.name))
}

/// What `--help` says of the cases.
fn help() -> String {
    let downloads = case::ALL.iter().map(|case| (case.name, case.what));
    let all = downloads.chain(serving::ALL.iter().map(|serving| (serving.name, serving.what)));
    format!("Cases:\n{}", all.map(|(name, what)| format!("  {name:<12} {what}\n")).collect::<String>())
}

/// Prints a table; whether all targets are met.
fn compare_downloads(
    args: &Args,
    runner: &Runner,
    cases: &[&Case],
    rounds: u32,
    raw: &mut Raw,
) -> anyhow::Result<bool> {
    let servers = args.servers.map_or_else(|| Servers::value_variants().to_vec(), |one| vec![one]);
    let clients = args.only.map_or_else(|| Client::value_variants().to_vec(), |one| vec![one]);
    let mut met = true;
    println!("{}", table::HEAD);
    for case in cases {
        for servers in servers.iter().filter(|servers| case.is_for(**servers)) {
            let outcomes = measure(runner, case, *servers, &clients, rounds, raw)?;
            let row = table::Row::new(case, *servers, &outcomes);
            println!("{row}");
            met &= row.meets_targets();
        }
    }
    Ok(met)
}

/// Prints a table; whether all targets are met.
fn compare_servers(
    testbed: &Path,
    scratch: &Path,
    servings: &[&Serving],
    rounds: u32,
    raw: &mut Raw,
) -> anyhow::Result<bool> {
    if !serving::has_wrk() {
        println!(
            "\nSKIPPED {}: wrk is not installed",
            servings.iter().map(|one| one.name).collect::<Vec<_>>().join(", ")
        );
        return Ok(false);
    }
    let mut met = true;
    println!("\n{}", serving::HEAD);
    for serving in servings {
        let (row, good) = serving::measure(serving, testbed, scratch, rounds, |run| raw.tell(&run))?;
        println!("{row}");
        met &= good;
    }
    Ok(met)
}

/// All runs of one case on one kind of servers; where hashes count, first a run in which they must. A run that the testbed calls INVALID, because the machine was busy, is
/// repeated, as often as there are rounds; what is invalid even then stays out of the medians.
fn measure(
    runner: &Runner,
    case: &Case,
    servers: Servers,
    clients: &[Client],
    rounds: u32,
    raw: &mut Raw,
) -> anyhow::Result<Vec<(Client, Outcome)>> {
    if case.hashes == Hashes::Right && servers == Servers::Nginx {
        for client in clients {
            let outcome = runner.run(&case.spoiled(), servers, *client, 0)?;
            let refused = outcome.exit.is_some_and(|exit| exit != ExitStatus::Code(0));
            ensure!(refused, "{} takes a file with a wrong hash for right", client.word());
        }
    }
    let mut outcomes = Vec::new();
    let mut spare = rounds;
    for round in 0..rounds {
        // Who goes first changes, so that neither always finds what the other left behind.
        let mut order = clients.to_vec();
        order.rotate_left(round as usize % clients.len());
        for client in order {
            loop {
                let outcome = runner.run(case, servers, client, round)?;
                raw.tell(&outcome.to_json(case, servers, client, round))?;
                let again = outcome.is_invalid() && spare > 0;
                outcomes.push((client, outcome));
                if !again {
                    break;
                }
                spare -= 1;
            }
        }
    }
    Ok(outcomes)
}
