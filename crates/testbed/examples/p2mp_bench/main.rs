//! How fast a file reaches several receivers: ours and UFTP in turn, in networks that the testbed makes.
//!
//! `scripts/bench p2mp` builds and starts it; `p2mp_bench --help` lists the options and the cases. Times are from the start
//! of the sender until the last receiver has the whole file under its final name, receivers being up; the testbed compares
//! the files with the original after that. Programs take turns, the first pair of runs is discarded, figures are medians.
//!
//! * `case`: the cases: links, programs, targets.
//! * `network`: a case as a topology, with the programs' options.
//! * `witness`: starts a receiver inside its node and tells when it has the file.
//! * `outcome`: one run, and what its log says.
//! * `table`: medians below each other.
//! * `share`: the fast mode beside a flow of TCP on one line.
//! * `shared`: what the benchmarks of transfer programs have in common.
#![allow(clippy::print_stdout, reason = "it reports to a person")]

mod case;
mod network;
mod outcome;
mod share;
#[path = "../shared/mod.rs"]
mod shared;
mod table;
mod witness;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Parser;
use clap::builder::PossibleValuesParser;

use case::{Case, Program};
use outcome::{Outcome, Runner};
use shared::raw::Raw;
use shared::usage;

/// Transfers to several receivers, ours and UFTP in turn
#[derive(Debug, Parser)]
#[command(name = "p2mp_bench", after_help = help())]
struct Args {
    /// Cases; all unless given
    #[arg(value_name = "CASE", value_parser = PossibleValuesParser::new(names()))]
    cases: Vec<String>,
    /// Counted runs of each program in each case, beside the first
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: u32,
    /// One round, which counts
    #[arg(long, conflicts_with = "rounds")]
    quick: bool,
    /// Only ours, or only the others
    #[arg(long, value_enum)]
    only: Option<Only>,
    /// The testbed to measure
    #[arg(long, value_name = "PATH", default_value = "target/release/testbed")]
    binary: PathBuf,
    /// Append each run to this file, one JSON object a line
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Keep the topology and the log of each run in this folder
    #[arg(long, value_name = "DIR")]
    keep: Option<PathBuf>,
    /// Give our fast sender this option, too, such as --fast=--rate=100Mbit; may be repeated
    #[arg(long, value_name = "OPTION", allow_hyphen_values = true)]
    fast: Vec<String>,
    /// Give uftp this word, too; may be repeated
    #[arg(long, value_name = "WORD", allow_hyphen_values = true)]
    uftp: Vec<String>,
    /// Give uftpd this word, too; may be repeated
    #[arg(long, value_name = "WORD", allow_hyphen_values = true)]
    uftpd: Vec<String>,
    /// Where files are sent from and received; memory (/dev/shm) unless given, so that no disk is measured
    #[arg(long, value_name = "DIR")]
    scratch: Option<PathBuf>,
}

/// Whom to measure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Only {
    /// This project
    Ours,
    /// What it is compared with
    Other,
}

fn main() -> anyhow::Result<ExitCode> {
    let words: Vec<_> = std::env::args_os().skip(1).collect();
    match words.split_first() {
        Some((word, rest)) if word == usage::WORD => return usage::run(rest),
        Some((word, rest)) if word == witness::WORD => return witness::run(rest),
        Some((word, rest)) if word == share::SOURCE => return share::source(rest),
        Some((word, rest)) if word == share::SINK => return share::sink(rest),
        _ => {}
    }
    let args = Args::parse();
    let binary = args.binary.canonicalize().with_context(|| format!("no testbed at {}", args.binary.display()))?;
    let root = args.scratch.clone().unwrap_or_else(memory);
    let scratch = tempfile::Builder::new()
        .prefix("p2mp-bench-")
        .tempdir_in(&root)
        .with_context(|| format!("cannot make a folder in {}", root.display()))?;
    let mut raw = Raw::append_to(args.json.as_deref())?;
    let wanted = |name: &str| args.cases.is_empty() || args.cases.iter().any(|case| case == name);
    let cases: Vec<_> = case::ALL.iter().filter(|case| wanted(case.name)).collect();
    let shares: Vec<_> = share::ALL.iter().filter(|share| wanted(share.name)).collect();

    let runner = Runner::new(&binary, scratch.path(), &args)?;
    let mut met = true;
    if !cases.is_empty() {
        println!("{}", table::HEAD);
    }
    for case in cases {
        let programs: Vec<Program> = match args.only {
            None => case.programs.to_vec(),
            Some(Only::Ours) => vec![case.programs[0]],
            Some(Only::Other) => vec![case.programs[1]],
        };
        if programs.iter().any(|program| matches!(program, Program::Uftp { .. })) && !has_program("uftpd") {
            println!("\nSKIPPED {}: uftp is not installed\n", case.name);
            met = false;
            continue;
        }
        let outcomes = measure(&runner, case, &programs, &args, &mut raw)?;
        let (rows, good) = table::rows(case, &programs, &outcomes);
        println!("{}", rows.join("\n"));
        met &= good;
    }
    if !shares.is_empty() && args.only != Some(Only::Other) {
        met &= share::compare(&runner, &shares, if args.quick { 1 } else { args.rounds.min(3) }, &mut raw)?;
    }
    Ok(if met { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The names of all cases.
fn names() -> impl Iterator<Item = &'static str> {
    case::ALL.iter().map(|case| case.name).chain(share::ALL.iter().map(|share| share.name))
}

/// What `--help` says of the cases.
fn help() -> String {
    let cases = case::ALL.iter().map(|case| (case.name, case.what));
    let all = cases.chain(share::ALL.iter().map(|share| (share.name, share.what)));
    format!("Cases:\n{}", all.map(|(name, what)| format!("  {name:<15} {what}\n")).collect::<String>())
}

/// All runs of one case that count. One that the testbed calls INVALID, because the machine was busy, is repeated, as often
/// as there are rounds; what is invalid even then stays out of the medians.
fn measure(
    runner: &Runner<'_>,
    case: &Case,
    programs: &[Program],
    args: &Args,
    raw: &mut Raw,
) -> anyhow::Result<Vec<(Program, Outcome)>> {
    let rounds = if args.quick { 1 } else { args.rounds.min(case.rounds) };
    // The first of everything finds cold caches.
    let discarded = u32::from(!args.quick && rounds > 1);
    let mut outcomes = Vec::new();
    let mut spare = rounds;
    for round in 0..rounds + discarded {
        // Who goes first changes, so that neither always finds what the other left behind.
        let mut order = programs.to_vec();
        order.rotate_left(round as usize % programs.len());
        for program in order {
            loop {
                let outcome = runner.run(case, program, round)?;
                if round < discarded {
                    break;
                }
                raw.tell(&outcome.to_json(case, program, round))?;
                let again = outcome.is_invalid() && spare > 0;
                outcomes.push((program, outcome));
                if !again {
                    break;
                }
                spare -= 1;
            }
        }
    }
    Ok(outcomes)
}

/// A folder in memory, if the system has one.
fn memory() -> PathBuf {
    let shm = PathBuf::from("/dev/shm");
    if shm.is_dir() { shm } else { std::env::temp_dir() }
}

fn has_program(name: &str) -> bool {
    let folders = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&folders).any(|folder| folder.join(name).is_file())
}
