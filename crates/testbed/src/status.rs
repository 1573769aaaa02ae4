//! The exit status of each outcome.

use std::process::ExitCode;

use event::Verdict;

/// What the process returns. Of several files the gravest counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Status {
    /// A run had a verdict; or there was nothing to judge, and all went well.
    Judged(Verdict),
    /// The input is wrong; nothing was created.
    BadInput,
    /// This machine cannot.
    Unable,
}

impl Status {
    /// All went well.
    pub(crate) const OK: Status = Status::Judged(Verdict::Pass);

    /// As a process returns it.
    pub(crate) fn code(self) -> u8 {
        match self {
            Status::Judged(verdict) => verdict.exit_status(),
            Status::BadInput => 2,
            Status::Unable => 3,
        }
    }

    /// The status that a process returned.
    pub(crate) fn from_code(code: u8) -> Status {
        match code {
            0 => Status::OK,
            1 => Status::Judged(Verdict::Fail),
            2 => Status::BadInput,
            4 => Status::Judged(Verdict::Invalid),
            130 => Status::Judged(Verdict::Interrupted),
            _ => Status::Unable,
        }
    }

    fn gravity(self) -> u8 {
        match self {
            Status::Judged(Verdict::Pass) => 0,
            Status::Judged(Verdict::Fail) => 1,
            Status::Judged(Verdict::Invalid) => 2,
            Status::Unable => 3,
            Status::BadInput => 4,
            Status::Judged(Verdict::Interrupted) => 5,
        }
    }

    /// The graver of two.
    pub(crate) fn or_graver(self, other: Status) -> Status {
        if other.gravity() > self.gravity() { other } else { self }
    }

    /// Input errors are marked as such where they arise; all else is the machine's.
    pub(crate) fn from_error(error: &anyhow::Error) -> Status {
        if error.is::<BadInput>() { Status::BadInput } else { Status::Unable }
    }
}

impl From<Status> for ExitCode {
    fn from(status: Status) -> ExitCode {
        ExitCode::from(status.code())
    }
}

/// Marks an error as the user's input being wrong.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct BadInput(pub(crate) String);
