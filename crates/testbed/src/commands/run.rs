//! `testbed run`: topologies, one after the other.
//!
//! This process stays small and single-threaded: it makes the run directory, forks the sandbox that does everything
//! else, waits, and makes the reports from the log that the sandbox has left.

use std::path::Path;
use std::sync::{OnceLock, mpsc};
use std::thread::{self, JoinHandle};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use std::{fs, io};

use anyhow::Context;
use conductor::files::SharedFiles;
use conductor::{Options, RunDirectory};
use event::{Record, RunState, Verdict, run_directory as names};
use fabric::PurgeError;
use fabric::sandbox::Sandbox;
use fabric::spawner::{self, NodeStart};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use report::LiveView;
use scenario::About;
use topology::Plan;

use crate::cli::{Engine, Format, RunArguments};
use crate::loading;
use crate::status::{BadInput, Status};

pub(crate) fn run(arguments: &RunArguments) -> anyhow::Result<Status> {
    for (asked, what) in [
        (arguments.engine == Engine::Docker, "`--engine docker`"),
        (arguments.engine == Engine::Swarm, "`--engine swarm`"),
        (arguments.engine == Engine::Sim, "`--engine sim`"),
        (arguments.pcap, "`--pcap`"),
    ] {
        if asked {
            eprintln!("error: {what} is not supported yet");
            return Ok(Status::Unable);
        }
    }
    if let Some(path) = &arguments.junit {
        check_junit_path(path)?;
    }
    if let Ok(limits) = getrlimit(Resource::RLIMIT_NOFILE) {
        CALLERS_DESCRIPTORS.get_or_init(|| limits);
    }
    let runs = match load_all(arguments)? {
        Ok(runs) => runs,
        Err(status) => return Ok(status),
    };
    let mut status = Status::OK;
    let mut states = Vec::new();
    for (file, plan) in runs {
        let (ended, state) = run_one(arguments, &file, plan)?;
        status = status.or_graver(ended);
        states.extend(state);
        if ended == Status::Judged(Verdict::Interrupted) {
            break;
        }
    }
    if let Some(path) = &arguments.junit {
        let text = report::junit_of_all(&states);
        fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))?;
    }
    if states.len() > 1 && arguments.format == Format::Human {
        summarise(&states);
    }
    Ok(status)
}

/// After an hour of runs is no time to learn that nothing can be written.
fn check_junit_path(path: &Path) -> anyhow::Result<()> {
    let folder = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let why = match fs::metadata(folder) {
        Err(error) => error.to_string(),
        Ok(_) if path.is_dir() => "it is a folder".to_owned(),
        Ok(found) if !found.is_dir() => format!("{} is no folder", folder.display()),
        Ok(_) => return Ok(()),
    };
    Err(BadInput(format!("cannot write {}: {why}", path.display())).into())
}

/// Everything that can be wrong is found before anything is created.
fn load_all(arguments: &RunArguments) -> anyhow::Result<Result<Vec<(String, Plan)>, Status>> {
    let mut runs = Vec::new();
    let mut status = Status::OK;
    for file in &arguments.files {
        for _ in 0..arguments.repeat {
            match loading::load(file, &arguments.variation, loading::draw_seed()?)? {
                Ok(plan) => {
                    if let Err(error) = SharedFiles::check(&plan) {
                        return Err(BadInput(format!("{}: {:#}", file.display(), anyhow::Error::from(error))).into());
                    }
                    if let Err(unable) = fabric::preflight::require(&plan) {
                        eprintln!("error: {:#}", anyhow::Error::from(unable));
                        return Ok(Err(Status::Unable));
                    }
                    runs.push((file.display().to_string(), plan));
                }
                Err(wrong) => {
                    status = status.or_graver(wrong);
                    break;
                }
            }
        }
    }
    Ok(if status == Status::OK { Ok(runs) } else { Err(status) })
}

fn run_one(arguments: &RunArguments, file: &str, plan: Plan) -> anyhow::Result<(Status, Option<RunState>)> {
    let unix_ms = unix_ms();
    let about = About {
        file: file.to_owned(),
        engine: "netns".to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        unix_ms,
        repeat: repeat_command(arguments, file, &plan),
    };
    let stamp = report::stamp::compact(unix_ms);
    let directory = RunDirectory::create(&arguments.out, &plan, &stamp).map_err(|error| {
        anyhow::Error::from(error).context(format!("no run directory below {}", arguments.out.display()))
    })?;
    let path = directory.path().to_owned();
    let format = arguments.format;
    let code = fabric::sandbox::run(move |sandbox| match inside(sandbox, plan, directory, about, format) {
        Ok(verdict) => verdict.exit_status(),
        Err(error) => {
            eprintln!("error: {error:#}");
            Status::from_error(&error).code()
        }
    })
    .inspect_err(|_| abandon(&path))?;
    let ended = Status::from_code(code);
    if !matches!(ended, Status::Judged(_)) {
        abandon(&path);
        return Ok((ended, None));
    }
    conclude(&path, format, ended)
}

/// What happens in the sandbox. Up to the spawner's start there must be no thread.
fn inside(
    sandbox: Sandbox,
    plan: Plan,
    directory: RunDirectory,
    about: About,
    format: Format,
) -> anyhow::Result<Verdict> {
    sandbox.hosts(&conductor::launch::hosts(&plan)).context("no private /etc/hosts")?;
    let spawner = spawner::start(&sandbox, WORKERS, node_main)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("no runtime")?;
    let (live, show) = show_live(format)?;
    let observe = Box::new(move |record: &Record| {
        // The view has ended only if its terminal has; the run goes on.
        let _unseen = live.send(record.clone());
    });
    let outcome = runtime.block_on(conductor::run(
        plan,
        spawner,
        Options { directory, about, signals: sandbox.signals, observe },
    ));
    // The run's end dropped the sender, which ends the view. A file that a run cut short still compares is not waited for.
    runtime.shutdown_background();
    show.join().map_err(|_| anyhow::anyhow!("the live view failed"))?;
    Ok(outcome?)
}

/// Processes that make nodes: one more than this gains nothing on two cores.
const WORKERS: usize = 2;

/// What programs find: a run may need more descriptors than they should be offered (`select(2)` ends at 1024).
static CALLERS_DESCRIPTORS: OnceLock<(u64, u64)> = OnceLock::new();

fn node_main(start: NodeStart) -> i32 {
    if let Some((soft, hard)) = CALLERS_DESCRIPTORS.get() {
        // What was allowed before is allowed now.
        let _kept_raised = setrlimit(Resource::RLIMIT_NOFILE, *soft, *hard);
    }
    nodes::init::run(nodes::init::InitOptions {
        name: start.name,
        control: start.control,
        purge_sockets: Some(purge_sockets),
    })
}

fn purge_sockets() -> io::Result<()> {
    match fabric::purge_sockets() {
        // What is left then is a late FIN of a connection that the other end has given up: a reset answers it.
        Ok(_) | Err(PurgeError::Unsupported) => Ok(()),
        Err(PurgeError::Refused { source }) => Err(source),
    }
}

/// How often the view moves when nothing happens.
const TICK: Duration = Duration::from_millis(100);

/// A slow or stopped terminal must not hold up the run: the view has a thread of its own.
fn show_live(format: Format) -> anyhow::Result<(mpsc::Sender<Record>, JoinHandle<()>)> {
    let (sender, records) = mpsc::channel::<Record>();
    let mut view = LiveView::new(report::Output::of_stdout(format == Format::Json)).context("no output")?;
    let thread = thread::Builder::new().name("live-view".to_owned()).spawn(move || {
        let began = fabric::clock::now();
        let mut state = RunState::default();
        loop {
            match records.recv_timeout(TICK) {
                Ok(record) => {
                    state.apply(&record);
                    view.observe(&record, &state);
                }
                Err(mpsc::RecvTimeoutError::Timeout) => view.tick(fabric::clock::now().since(began), &state),
                Err(mpsc::RecvTimeoutError::Disconnected) => break,
            }
        }
        view.finish();
    });
    Ok((sender, thread.context("no thread for the live view")?))
}

/// Makes every report from the log, and shows the final table.
fn conclude(path: &Path, format: Format, ended: Status) -> anyhow::Result<(Status, Option<RunState>)> {
    let log = fs::read(path.join(names::EVENTS)).context("cannot read the log")?;
    let state = RunState::from_log(&String::from_utf8_lossy(&log));
    let Some(verdict) = state.verdict else {
        eprintln!("error: the run was killed before it had a verdict; its log is in {}", path.display());
        return Ok((Status::Unable, None));
    };
    report::write_all(&state, path).context("cannot write the reports")?;
    append_step_summary(&state);
    if format == Format::Human {
        report::say(&report::table(&state, report::Output::of_stdout(false).has_colour()));
        report::say(&format!("run directory: {}\n", shortened(path).display()));
    }
    debug_assert_eq!(ended, Status::Judged(verdict), "the log and the exit status tell the same");
    Ok((Status::Judged(verdict), Some(state)))
}

fn summarise(states: &[RunState]) {
    let mut text = String::from("\n");
    for state in states {
        text.push_str(&report::verdict_line(state));
        text.push('\n');
    }
    let passed = states.iter().filter(|state| state.verdict == Some(Verdict::Pass)).count();
    report::say(&format!("{text}{passed} of {} passed\n", states.len()));
}

/// A run that never was needs no folder.
fn abandon(path: &Path) {
    let log = path.join(names::EVENTS);
    let empty = fs::read(&log).map_or(true, |text| !text.windows(11).any(|window| window == b"all-started"));
    if empty && let Err(error) = fs::remove_dir_all(path) {
        tracing::warn!(path = %path.display(), %error, "could not remove the empty run directory");
    }
}

fn append_step_summary(state: &RunState) {
    let Some(path) = std::env::var_os("GITHUB_STEP_SUMMARY") else { return };
    let appended = fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(&path)
        .and_then(|mut file| io::Write::write_all(&mut file, report::markdown(state).as_bytes()));
    if let Err(error) = appended {
        eprintln!("warning: cannot append to {}: {error}", Path::new(&path).display());
    }
}

fn repeat_command(arguments: &RunArguments, file: &str, plan: &Plan) -> String {
    let mut command = format!("testbed run {} --seed {}", quoted(file), plan.seed());
    for setting in &arguments.variation.settings {
        command.push_str(&format!(" --set {}", quoted(&setting.to_string())));
    }
    command
}

/// As a shell takes it.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=%:@+,".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

fn shortened(path: &Path) -> &Path {
    std::env::current_dir().ok().and_then(|here| path.strip_prefix(here).ok()).unwrap_or(path)
}

#[expect(clippy::disallowed_methods, reason = "the one place where a run learns the date")]
fn unix_ms() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_millis()).unwrap_or(u64::MAX)
}
