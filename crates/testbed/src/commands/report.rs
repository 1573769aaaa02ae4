//! `testbed report`: the reports of an old run, made again from its log.

use std::fs;

use anyhow::Context;
use event::{RunState, run_directory as names};

use crate::cli::{Format, ReportArguments};
use crate::status::{BadInput, Status};

pub(crate) fn report(arguments: &ReportArguments) -> anyhow::Result<Status> {
    let log = arguments.run.join(names::EVENTS);
    let text = fs::read(&log).map_err(|error| BadInput(format!("cannot read {}: {error}", log.display())))?;
    let state = RunState::from_log(&String::from_utf8_lossy(&text));
    if state.nodes.is_empty() {
        return Err(BadInput(format!("{} holds no run", log.display())).into());
    }
    match arguments.format {
        Format::Human => report::say(&report::table(&state, report::Output::of_stdout(false).has_colour())),
        Format::Json => report::say(&format!("{:#}\n", report::result_json(&state))),
    }
    let Some(verdict) = state.verdict else {
        eprintln!("this run has no verdict: it was killed, or still goes on");
        return Ok(Status::Unable);
    };
    report::write_all(&state, &arguments.run).context("cannot write the reports")?;
    Ok(Status::Judged(verdict))
}
