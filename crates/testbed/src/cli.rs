//! What can be asked.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use link::calibration::Depth;
use machine::{Seed, Size};
use nodes::init::User;
use topology::Setting;

/// Builds a network from one YAML file, runs transfer programs in it, breaks it, and gives a verdict.
#[derive(Debug, Parser)]
#[command(version, arg_required_else_help = true, after_help = AFTER_HELP)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

const AFTER_HELP: &str = "\
Exit status:
    0  PASS
    1  FAIL         an expectation did not hold
    2               bad input; nothing was created
    3               this machine cannot; `testbed doctor` says what is missing
    4  INVALID      the machine was starved, or links were not what the file asked
  130  INTERRUPTED";

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run topologies, one after the other
    Run(RunArguments),
    /// Run every point of a topology's sweep, and compare what it measures with theory
    Sweep(SweepArguments),
    /// Say whether topology files are right, without running them
    Check(CheckArguments),
    /// Show what would be built: addresses, links, carriers and why
    Plan(PlanArguments),
    /// Make the reports of an old run again
    Report(ReportArguments),
    /// Decide again, by the link model, about every packet of a run that was recorded with --pcap
    Replay(ReplayArguments),
    /// Measure on this machine what runs are made of
    Bench {
        #[command(subcommand)]
        what: Bench,
    },
    /// Say what this machine can do, what is missing, and what to do about it
    Doctor,
    /// Clean up after runs that were killed
    Gc(GcArguments),
    /// Print the JSON Schema of topology files
    Schema,
    /// Print the completions of a shell
    Completions {
        /// Which
        shell: Shell,
    },
    /// Run one of the transfer programs
    #[command(disable_help_flag = true)]
    Role {
        /// Its name; `testbed role help` lists them
        name: String,
        /// What it is given
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<OsString>,
    },
    /// In a container: impair its network, then run a program as its init
    Init(InitArguments),
    /// Be the init of a node
    #[command(hide = true)]
    Node {
        /// The node's name
        #[arg(long)]
        name: String,
        /// A connected stream socket
        #[arg(long, conflicts_with = "connect", required_unless_present = "connect")]
        control_fd: Option<i32>,
        /// A Unix socket to connect to: in a container, whose links are made first
        #[arg(long)]
        connect: Option<PathBuf>,
        /// How many packet sockets to hand over
        #[arg(long, default_value_t = 0)]
        packet_sockets: usize,
        /// Whose programs and files the node has
        #[arg(long, value_name = "UID:GID", value_parser = user)]
        caller: Option<User>,
    },
}

#[derive(Debug, Args)]
#[command(after_help = INIT_HELP)]
pub(crate) struct InitArguments {
    /// What happens to packets of this container: words as a topology's link has them, for both directions or for one
    /// (`delay=20ms down.rate=10Mbit`); empty: nothing
    #[arg(long, env = "SHAPE", value_name = "LINK", default_value = "")]
    pub(crate) shape: String,
    /// What carries that out: auto, netem (this kernel has to have it) or relay
    #[arg(long, env = "SHAPER", value_name = "NAME", default_value = "auto")]
    pub(crate) shaper: String,
    /// The interface, by its name or an address of it; else the only one, or that which leads everywhere
    #[arg(long, env = "SHAPE_INTERFACE", value_name = "NAME")]
    pub(crate) interface: Option<String>,
    /// From which everything is drawn; else a new one, which is printed
    #[arg(long, env = "SEED", value_name = "NUMBER")]
    pub(crate) seed: Option<Seed>,
    /// Before the program starts, write a file of this size as a topology with the seed has it; one that is there stays
    #[arg(long, value_name = "PATH=SIZE", value_parser = file_to_make)]
    pub(crate) make_file: Vec<(PathBuf, Size)>,
    /// Run the program as this user, given as numbers; without it as whoever runs this, but without capabilities
    #[arg(long, value_name = "UID[:GID]", value_parser = user)]
    pub(crate) user: Option<User>,
    /// The program and what it is given; the name of a role (`testbed role help`) means this executable
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true, value_name = "PROGRAM")]
    pub(crate) program: Vec<OsString>,
}

const INIT_HELP: &str = "\
An impaired container needs the capabilities NET_ADMIN and, for the relay, NET_RAW, and starts as root:
    docker run --cap-add NET_ADMIN --cap-add NET_RAW -e SHAPE=\"delay=20ms loss=1%\" testbed p2mp-receiver 7735 file 0
The program itself has no capabilities.

Exit status: the program's (128 and its number for a signal, 127 if there is no such program), or
    2               bad input; nothing was started
    3               this container cannot; the message says what to give it";

fn file_to_make(word: &str) -> Result<(PathBuf, Size), String> {
    let (path, size) = word.rsplit_once('=').filter(|(path, _)| !path.is_empty()).ok_or("it is not PATH=SIZE")?;
    Ok((path.into(), size.parse().map_err(|error| format!("`{size}`: {error}"))?))
}

fn user(word: &str) -> Result<User, String> {
    let (uid, gid) = word.split_once(':').unwrap_or((word, word));
    let number = |id: &str| id.parse().map_err(|_| format!("`{id}` is no number of a user or group"));
    Ok(User { uid: number(uid)?, gid: number(gid)? })
}

#[derive(Debug, Args)]
pub(crate) struct Variation {
    /// The run's seed, instead of the file's
    #[arg(long, value_name = "NUMBER")]
    pub(crate) seed: Option<Seed>,
    /// Change a value of the file: nodes.client.resume=false, files.movie.size=8MiB, server.count=2
    #[arg(long = "set", value_name = "PATH=VALUE")]
    pub(crate) settings: Vec<Setting>,
}

#[derive(Debug, Args)]
pub(crate) struct RunArguments {
    /// Topology files
    #[arg(required = true, value_name = "FILE")]
    pub(crate) files: Vec<PathBuf>,
    #[command(flatten)]
    pub(crate) variation: Variation,
    /// What nodes are
    #[arg(long, env = "TESTBED_ENGINE", value_enum, default_value_t = Engine::Netns)]
    pub(crate) engine: Engine,
    /// Run each file so often; later ones draw seeds of their own unless one is given
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(crate) repeat: u32,
    /// Write a JUnit file of all runs here, too
    #[arg(long, value_name = "FILE")]
    pub(crate) junit: Option<PathBuf>,
    /// Where run directories go
    #[arg(long, default_value = event::run_directory::RUNS, value_name = "DIR")]
    pub(crate) out: PathBuf,
    /// Record what passes on every link, into pcapng files of the run directory
    #[arg(long)]
    pub(crate) pcap: bool,
    /// What is measured of links before nodes start: outside its tolerance the run is INVALID
    #[arg(long, value_enum, default_value_t = Calibrate::Quick, value_name = "DEPTH")]
    pub(crate) calibrate: Calibrate,
    /// What is printed: for people, or the events as JSON lines
    #[arg(long, value_enum, default_value_t = Format::Human)]
    pub(crate) format: Format,
}

#[derive(Debug, Args)]
pub(crate) struct SweepArguments {
    /// A topology file with `sweep:`
    pub(crate) file: PathBuf,
    #[command(flatten)]
    pub(crate) variation: Variation,
    /// What nodes are
    #[arg(long, env = "TESTBED_ENGINE", value_enum, default_value_t = Engine::Netns)]
    pub(crate) engine: Engine,
    /// Run each point so often, instead of as often as the file says
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) repeat: Option<u32>,
    /// Record what passes on every link, into pcapng files of each run's directory
    #[arg(long)]
    pub(crate) pcap: bool,
    /// What is measured of links before nodes start: outside its tolerance a run is INVALID
    #[arg(long, value_enum, default_value_t = Calibrate::Quick, value_name = "DEPTH")]
    pub(crate) calibrate: Calibrate,
    /// Where run directories go
    #[arg(long, default_value = event::run_directory::RUNS, value_name = "DIR")]
    pub(crate) out: PathBuf,
    /// What is printed at the end: a table for people, or everything as JSON
    #[arg(long, value_enum, default_value_t = Format::Human)]
    pub(crate) format: Format,
}

#[derive(Debug, Args)]
pub(crate) struct CheckArguments {
    /// Topology files
    #[arg(required = true, value_name = "FILE")]
    pub(crate) files: Vec<PathBuf>,
    #[command(flatten)]
    pub(crate) variation: Variation,
}

#[derive(Debug, Args)]
pub(crate) struct PlanArguments {
    /// A topology file
    pub(crate) file: PathBuf,
    #[command(flatten)]
    pub(crate) variation: Variation,
    /// As for a run that records what passes on every link
    #[arg(long)]
    pub(crate) pcap: bool,
    /// A table for people, or the whole plan as YAML
    #[arg(long, value_enum, default_value_t = PlanFormat::Human)]
    pub(crate) format: PlanFormat,
}

#[derive(Debug, Args)]
pub(crate) struct ReportArguments {
    /// A run directory, such as runs/failover/latest
    pub(crate) run: PathBuf,
    /// The final table, or result.json
    #[arg(long, value_enum, default_value_t = Format::Human)]
    pub(crate) format: Format,
}

#[derive(Debug, Args)]
#[command(after_help = REPLAY_HELP)]
pub(crate) struct ReplayArguments {
    /// A run directory, such as runs/failover/latest
    pub(crate) run: PathBuf,
    /// A table for people, or JSON
    #[arg(long, value_enum, default_value_t = Format::Human)]
    pub(crate) format: Format,
}

const REPLAY_HELP: &str = "\
Exit status:
    0  the model decides about every packet as the run did
    1  it does not; the first difference is told
    2  the run cannot be replayed: not recorded, killed, or its files are incomplete or damaged";

#[derive(Debug, Subcommand)]
pub(crate) enum Bench {
    /// Measure how fast and how exact links are: relay, netem where the kernel has it, and a bare bridge
    Link(LinkBenchArguments),
}

#[derive(Debug, Args)]
pub(crate) struct LinkBenchArguments {
    /// Measure only this; can be given several times
    #[arg(long, value_enum, value_name = "PART")]
    pub(crate) only: Vec<BenchPart>,
    /// Of relay and netem, only this
    #[arg(long, value_enum, value_name = "SHAPER")]
    pub(crate) shaper: Option<BenchShaper>,
    /// Of the agreement, only this row; can be given several times
    #[arg(long, value_name = "NAME")]
    pub(crate) row: Vec<String>,
    /// Seconds for each TCP flow, and for the links under load
    #[arg(long, default_value_t = 2.0, value_name = "SECONDS", value_parser = parse_seconds)]
    pub(crate) time: f64,
    /// TCP over each in turn, so often; medians are told
    #[arg(long, default_value_t = 5, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(crate) rounds: u32,
    /// Links under load
    #[arg(long, default_value_t = 100, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=128))]
    pub(crate) links: u32,
    /// Changes of a link
    #[arg(long, default_value_t = 40, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(crate) changes: u32,
    /// Seeds of the model from which expectations are made
    #[arg(long, default_value_t = 64, value_name = "N", value_parser = clap::value_parser!(u32).range(2..=10_000))]
    pub(crate) seeds: u32,
    /// A table for people, or JSON
    #[arg(long, value_enum, default_value_t = Format::Human)]
    pub(crate) format: Format,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum BenchPart {
    /// Two dozen profiles against the model in virtual time
    Agreement,
    /// One TCP flow
    Throughput,
    /// Links that change while packets pass
    Changes,
    /// Many links at once
    Load,
    /// What recording every packet (`--pcap`) costs; takes some 2 GB for temporary files
    Capture,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum BenchShaper {
    /// The user-space link emulator
    Relay,
    /// The kernel's
    Netem,
}

impl BenchShaper {
    /// As a topology file calls it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            BenchShaper::Relay => "relay",
            BenchShaper::Netem => "netem",
        }
    }
}

fn parse_seconds(text: &str) -> Result<f64, String> {
    let seconds: f64 = text.parse().map_err(|_| "it is not a number".to_owned())?;
    if (0.05..=60.0).contains(&seconds) { Ok(seconds) } else { Err("it is not between 0.05 and 60".to_owned()) }
}

#[derive(Debug, Args)]
pub(crate) struct GcArguments {
    /// Where run directories are
    #[arg(long, default_value = event::run_directory::RUNS, value_name = "DIR")]
    pub(crate) out: PathBuf,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Engine {
    /// Network namespaces
    Netns,
    /// Containers of this machine's Docker daemon
    Docker,
    /// Services of a swarm
    Swarm,
    /// Virtual time
    Sim,
}

impl Engine {
    /// As the command line and the log call it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Engine::Netns => "netns",
            Engine::Docker => "docker",
            Engine::Swarm => "swarm",
            Engine::Sim => "sim",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Calibrate {
    /// Nothing
    Off,
    /// Delay and rate
    Quick,
    /// Delay, rate and loss
    Full,
}

impl Calibrate {
    /// As the command line calls it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Calibrate::Off => "off",
            Calibrate::Quick => "quick",
            Calibrate::Full => "full",
        }
    }

    /// How links are measured; absent where they are not.
    pub(crate) fn depth(self) -> Option<Depth> {
        match self {
            Calibrate::Off => None,
            Calibrate::Quick => Some(Depth::Quick),
            Calibrate::Full => Some(Depth::Full),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people
    Human,
    /// For programs
    Json,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum PlanFormat {
    /// For people
    Human,
    /// For programs
    Yaml,
}
