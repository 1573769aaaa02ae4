//! `testbed doctor`: what this machine can do, what is missing, and what to do about it.

use std::process::{Command, Stdio};

use docker::{Daemon, DockerError};
use fabric::preflight::{self, Finding, State};

use crate::status::Status;

pub(crate) fn doctor() -> anyhow::Result<Status> {
    let mut findings = preflight::examine();
    // The sandbox that was tried before needed a process of one thread; these need none.
    findings.extend([daemon()?, compose()]);
    let width = findings.iter().map(|finding| finding.what.len()).max().unwrap_or(0);
    let mut status = Status::OK;
    for finding in &findings {
        let mark = match finding.state {
            State::Ready => "ok",
            State::Limited => "limited",
            State::Missing => "missing",
        };
        report::say(&format!("{mark:8} {:width$}  {}\n", finding.what, finding.detail));
        for line in finding.remedy.lines() {
            report::say(&format!("{:8} {:width$}  -> {line}\n", "", ""));
        }
        if finding.state == State::Missing {
            status = Status::Unable;
        }
    }
    Ok(status)
}

/// Whether `--engine docker` works here. Nothing else needs a daemon.
fn daemon() -> anyhow::Result<Finding> {
    let what = "Docker";
    let limited = |detail: String, remedy: &str| Finding { what, state: State::Limited, detail, remedy: remedy.into() };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    Ok(match runtime.block_on(Daemon::connect()) {
        Ok(Daemon { version, api, storage, socket, .. }) => {
            let detail = format!("version {version}, API {api}, on {storage}, at {}", socket.display());
            Finding { what, state: State::Ready, detail, remedy: String::new() }
        }
        Err(DockerError::Unreachable { socket, why, remedy }) => limited(
            format!("no daemon answers at {}: {why}", socket.display()),
            &format!("only `--engine docker` needs it: {remedy}"),
        ),
        Err(error) => limited(error.to_string(), "only `--engine docker` needs it"),
    })
}

/// Which compose there is for `compose.yaml`.
fn compose() -> Finding {
    let what = "compose";
    let found = [&["docker", "compose"][..], &["docker-compose"]].into_iter().find_map(|words| {
        let told = Command::new(words[0])
            .args(&words[1..])
            .args(["version", "--short"])
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .output()
            .ok()
            .filter(|told| told.status.success())?;
        Some((words.join(" "), String::from_utf8_lossy(&told.stdout).trim().to_owned()))
    });
    match found {
        Some((command, version)) => Finding {
            what,
            state: State::Ready,
            detail: format!("`{command}`, version {version}"),
            remedy: String::new(),
        },
        None => Finding {
            what,
            state: State::Limited,
            detail: "neither `docker compose` nor `docker-compose` is installed".to_owned(),
            remedy: "only `compose.yaml` needs it: sudo apt-get install docker-compose".to_owned(),
        },
    }
}
