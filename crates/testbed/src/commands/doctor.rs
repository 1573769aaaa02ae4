//! `testbed doctor`: what this machine can do, what is missing, and what to do about it.

use fabric::preflight::{self, State};

use crate::status::Status;

pub(crate) fn doctor() -> anyhow::Result<Status> {
    let findings = preflight::examine();
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
