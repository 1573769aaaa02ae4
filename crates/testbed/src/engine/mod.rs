//! One run of one plan, on whichever engine: its directory, its log, its reports.

mod docker;
mod netns;
mod sandboxed;
mod sim;

pub(crate) use netns::purge_sockets;

use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};
use std::{fs, io};

use anyhow::Context;
use conductor::RunDirectory;
use event::{RunState, run_directory as names};
use scenario::About;
use topology::{Plan, Setting};

use crate::cli::{Calibrate, Engine};
use crate::status::{BadInput, Status};
use sandboxed::Sandboxed;

/// A run that is about to be made.
pub(crate) struct Job<'a> {
    /// The topology's file, as the user wrote it.
    pub(crate) file: &'a str,
    pub(crate) plan: Plan,
    /// Those that made the plan of the file, for the command that repeats the run.
    pub(crate) settings: &'a [Setting],
    pub(crate) engine: Engine,
    pub(crate) calibrate: Calibrate,
    /// Where run directories go.
    pub(crate) out: &'a Path,
    pub(crate) show: Show,
}

/// What is printed of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Show {
    /// The live view and the final table.
    Run,
    /// The records of its log.
    Records,
    /// Nothing.
    Nothing,
}

/// How a run ended, and what it has left.
pub(crate) struct Ended {
    pub(crate) status: Status,
    /// None where there is no verdict.
    pub(crate) state: Option<RunState>,
    pub(crate) directory: PathBuf,
}

/// Why a plan cannot be run here.
pub(crate) enum Refused {
    /// What it asks for is not there.
    Input(anyhow::Error),
    /// The engine or the machine cannot.
    Machine(anyhow::Error),
}

/// Whether the engine exists; else what to say.
pub(crate) fn check_engine(engine: Engine) -> Result<(), String> {
    match engine {
        Engine::Netns => {
            netns::note_limits();
            Ok(())
        }
        Engine::Sim => Ok(()),
        Engine::Docker => docker::check_daemon().map_err(|error| format!("{error:#}")),
        Engine::Swarm => Err("`--engine swarm` is not supported yet".to_owned()),
    }
}

/// Whether `plan` can be run: everything that can be wrong is found before anything is created. What is wrong has been
/// printed or is the error.
pub(crate) fn check(engine: Engine, file: &Path, plan: &Plan) -> anyhow::Result<Result<(), Status>> {
    let checked = match engine {
        Engine::Sim => sim::check(plan),
        Engine::Docker => docker::check(plan),
        _ => netns::check(plan),
    };
    match checked {
        Ok(()) => Ok(Ok(())),
        Err(Refused::Input(error)) => Err(BadInput(format!("{}: {error:#}", file.display())).into()),
        Err(Refused::Machine(error)) => {
            eprintln!("error: {error:#}");
            Ok(Err(Status::Unable))
        }
    }
}

/// Makes the run.
pub(crate) fn run(job: Job<'_>) -> anyhow::Result<Ended> {
    let unix_ms = unix_ms();
    let about = About {
        file: job.file.to_owned(),
        engine: job.engine.name().to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        unix_ms,
        repeat: repeat_command(&job),
    };
    let stamp = report::stamp::compact(unix_ms);
    let directory = RunDirectory::create(job.out, &job.plan, &stamp)
        .map_err(|error| anyhow::Error::from(error).context(format!("no run directory below {}", job.out.display())))?;
    let path = directory.path().to_owned();
    let ended = match job.engine {
        Engine::Sim => sim::run(&job.plan, directory, about, job.show),
        engine => {
            let ground = if engine == Engine::Docker { docker::ground } else { netns::ground };
            sandboxed::run(Sandboxed {
                plan: job.plan,
                directory,
                about,
                calibrate: job.calibrate.depth(),
                show: job.show,
                ground,
            })
        }
    };
    let status = ended.inspect_err(|_| abandon(&path))?;
    if !matches!(status, Status::Judged(_)) {
        abandon(&path);
        return Ok(Ended { status, state: None, directory: path });
    }
    let (status, state) = conclude(&path, job.show, status)?;
    Ok(Ended { status, state, directory: path })
}

/// Makes every report from the log, and shows the final table.
fn conclude(path: &Path, show: Show, ended: Status) -> anyhow::Result<(Status, Option<RunState>)> {
    let log = fs::read(path.join(names::EVENTS)).context("cannot read the log")?;
    let state = RunState::from_log(&String::from_utf8_lossy(&log));
    let Some(verdict) = state.verdict else {
        eprintln!("error: the run was killed before it had a verdict; its log is in {}", path.display());
        return Ok((Status::Unable, None));
    };
    report::write_all(&state, path).context("cannot write the reports")?;
    append_step_summary(&state);
    if show == Show::Run {
        report::say(&report::table(&state, report::Output::of_stdout(false).has_colour()));
        report::say(&format!("run directory: {}\n", shortened(path).display()));
    }
    debug_assert_eq!(ended, Status::Judged(verdict), "the log and the exit status tell the same");
    Ok((Status::Judged(verdict), Some(state)))
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

/// The command that makes this run again.
pub(crate) fn repeat_command(job: &Job<'_>) -> String {
    let mut command = format!("testbed run {} --seed {}", quoted(job.file), job.plan.seed());
    for setting in job.settings {
        command.push_str(&format!(" --set {}", quoted(&setting.to_string())));
    }
    if job.engine != Engine::Netns {
        command.push_str(&format!(" --engine {}", job.engine.name()));
    }
    if job.calibrate != Calibrate::Quick {
        command.push_str(&format!(" --calibrate {}", job.calibrate.name()));
    }
    if job.plan.is_recorded() {
        command.push_str(" --pcap");
    }
    command
}

/// As a shell takes it.
pub(crate) fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=%:@+,".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

/// As seen from here.
pub(crate) fn shortened(path: &Path) -> &Path {
    std::env::current_dir().ok().and_then(|here| path.strip_prefix(here).ok()).unwrap_or(path)
}

#[expect(clippy::disallowed_methods, reason = "the one place where a run learns the date")]
pub(crate) fn unix_ms() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_millis()).unwrap_or(u64::MAX)
}
