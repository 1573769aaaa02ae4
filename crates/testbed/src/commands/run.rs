//! `testbed run`: topologies, one after the other.
//!
//! This process stays small and single-threaded: it makes the run directory, forks the sandbox that does everything
//! else, waits, and makes the reports from the log that the sandbox has left. Only virtual time runs in this process.

use std::fs;
use std::path::Path;

use anyhow::Context;
use event::{RunState, Verdict};
use topology::{Plan, Sweep};

use crate::cli::{Format, RunArguments};
use crate::engine::{self, Job, Show, quoted};
use crate::loading::{self, Kernel};
use crate::status::{BadInput, Status};

pub(crate) fn run(arguments: &RunArguments) -> anyhow::Result<Status> {
    if let Err(why) = engine::check_engine(arguments.engine) {
        eprintln!("error: {why}");
        return Ok(Status::Unable);
    }
    if let Some(path) = &arguments.junit {
        check_junit_path(path)?;
    }
    let runs = match load_all(arguments)? {
        Ok(runs) => runs,
        Err(status) => return Ok(status),
    };
    let mut status = Status::OK;
    let mut states = Vec::new();
    for (file, plan) in runs {
        let ended = engine::run(Job {
            file: &file,
            plan,
            settings: &arguments.variation.settings,
            engine: arguments.engine,
            calibrate: arguments.calibrate,
            out: &arguments.out,
            show: if arguments.format == Format::Json { Show::Records } else { Show::Run },
        })?;
        status = status.or_graver(ended.status);
        states.extend(ended.state);
        if ended.status == Status::Judged(Verdict::Interrupted) {
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
        match loading::sweep(file, &arguments.variation, loading::draw_seed()?, arguments.pcap)? {
            Ok(Some(sweep)) => refuse_open_sweep(file, &sweep)?,
            Ok(None) => {}
            Err(wrong) => {
                status = status.or_graver(wrong);
                continue;
            }
        }
        for _ in 0..arguments.repeat {
            let kernel = Kernel::of(arguments.engine);
            match loading::load(file, &arguments.variation, loading::draw_seed()?, arguments.pcap, kernel)? {
                Ok(plan) => {
                    if let Err(status) = engine::check(arguments.engine, file, &plan)? {
                        return Ok(Err(status));
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

/// A topology with a sweep is many; one of them can be run by fixing every swept path.
fn refuse_open_sweep(file: &Path, sweep: &Sweep) -> anyhow::Result<()> {
    let Some(point) = sweep.points.first().filter(|_| !sweep.axes.is_empty()) else { return Ok(()) };
    let file = quoted(&file.display().to_string());
    let settings: String = point.settings.iter().map(|one| format!(" --set {}", quoted(&one.to_string()))).collect();
    let points = sweep.points.len();
    Err(BadInput(format!(
        "{file} sweeps over {points} points: `testbed sweep {file}` runs all of them, `testbed run {file}{settings}` one"
    ))
    .into())
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
