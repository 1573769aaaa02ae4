//! What a conductor and the init of a node say to each other: one JSON object a line, in both directions.
//!
//! ```text
//! → {"command":"start","incarnation":1,"argv":["nginx"],"env":{"PATH":"/usr/sbin"},"cwd":"/runs/x/nodes/web/disk",
//!    "stdout":"…/stdout.log","stderr":"…/stderr.log","follow":false,"ready":{"tcp":80},"privilege":"none"}
//! ← {"at_ns":81235000,"event":"started","incarnation":1,"pid":2}
//! ← {"at_ns":84511000,"event":"ready","incarnation":1}
//! → {"command":"stop","grace":"2s"}
//! ← {"at_ns":91235000,"event":"done","command":"stop"}
//! ← {"at_ns":91935000,"event":"exited","incarnation":1,"status":{"code":0}}
//! ```
//!
//! Invariant: the first event is `up`. Each command is answered by exactly one event, in the order of the commands:
//! `start` by `started` or `start-failed`, `status` by `status`, the others by `done`; any of them by `rejected`. `done`
//! says that the command was carried out as far as it is the init's: signals are sent; that a program is gone is said
//! by `exited`, exactly once for every `started`, after its last line of output and its last report.
//!
//! The end of the connection kills everything in the node.

use std::collections::BTreeMap;
use std::path::PathBuf;

use event::{ExitStatus, NodeReport};
use machine::{Span, Time};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// The longest line in either direction, its end not counted.
pub const LONGEST_LINE: usize = 1024 * 1024;

/// The longest line of output that is forwarded; of a longer one only the beginning is.
pub const LONGEST_PRINTED: usize = 64 * 1024;

/// Longer reasons are cut: they may quote what was sent.
const LONGEST_REASON: usize = 4 * 1024;

/// What the conductor wants.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Command {
    /// Start the program. Rejected while one runs.
    Start(Start),
    /// TERM to every process of the node, KILL to what is left after `grace`. Thaws a paused node.
    Stop {
        /// Between the two.
        grace: Span,
    },
    /// KILL to every process of the node.
    Kill,
    /// A signal to the program alone, not to its descendants. Rejected when none runs.
    Signal {
        /// 1 to 64.
        number: i32,
    },
    /// Freeze every process of the node. Rejected when none runs.
    Pause,
    /// Thaw them.
    Resume,
    /// Delete everything in a directory, the directory itself excepted; links are deleted, not followed, and mounts are
    /// left alone. Rejected while a program runs.
    Wipe {
        /// The node's disk: an absolute path.
        directory: PathBuf,
    },
    /// Destroy the sockets that a crashed program left in the kernel. Rejected while a program runs.
    PurgeSockets,
    /// Say what runs.
    Status,
}

/// A program to start.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Start {
    /// The conductor's number for it; comes back in every event that concerns it.
    pub incarnation: u32,
    /// The program and its arguments. A name without a slash is looked up in the `PATH` of `env`.
    pub argv: Vec<String>,
    /// Its complete environment; the init adds `TESTBED_EVENTS_FD` alone.
    pub env: BTreeMap<String, String>,
    /// Its working directory.
    pub cwd: PathBuf,
    /// Where its standard output is appended.
    pub stdout: PathBuf,
    /// Where its standard error is appended.
    pub stderr: PathBuf,
    /// Whether its output comes back line by line as `printed`, too.
    #[serde(default)]
    pub follow: bool,
    /// When it is ready.
    pub ready: Ready,
    /// With which powers it runs.
    #[serde(default)]
    pub privilege: Privilege,
    /// Whether the node forwards between its networks while the program runs and is not paused.
    #[serde(default)]
    pub forward: bool,
    /// A file to be the node's `/etc/hosts` from now on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hosts: Option<PathBuf>,
}

/// When a program counts as ready.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ready {
    /// When it reports so on the descriptor that `TESTBED_EVENTS_FD` names.
    Event,
    /// As soon as it runs.
    Started,
    /// When anything in the node listens on this TCP port.
    Tcp(u16),
    /// When this path exists; relative to its working directory.
    File(PathBuf),
    /// The conductor finds out by other means, by what it prints perhaps; there will be no `ready`.
    Elsewhere,
}

/// With which powers a program runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Privilege {
    /// The caller's user and no capabilities.
    #[default]
    None,
    /// User 0, with the capabilities that rule the node and nothing beyond it.
    Root,
}

/// An event and when it was.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Notice {
    /// Nanoseconds on `CLOCK_MONOTONIC` of the node's machine.
    pub at_ns: u64,
    /// What happened.
    #[serde(flatten)]
    pub event: InitEvent,
}

impl Notice {
    /// When it was, on `CLOCK_MONOTONIC` of the node's machine.
    pub fn at(&self) -> Time {
        Time::from_nanos(self.at_ns)
    }
}

/// What the init has to say.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum InitEvent {
    /// It takes commands.
    Up,
    /// The program runs.
    Started {
        /// Which.
        incarnation: u32,
        /// Its process, as numbered inside the node.
        pid: i32,
    },
    /// The program could not be started.
    StartFailed {
        /// Which.
        incarnation: u32,
        /// What was tried and what the system said.
        why: String,
    },
    /// The program is ready, as [`Start::ready`] defines it.
    Ready {
        /// Which.
        incarnation: u32,
    },
    /// The program reported.
    Reported {
        /// Which.
        incarnation: u32,
        /// What it said.
        report: NodeReport,
    },
    /// The program wrote something else than reports where reports belong. Said no more than a few times a second.
    Malformed {
        /// Which.
        incarnation: u32,
        /// What is wrong with it, with its beginning.
        what: String,
        /// Further lines that were not told of since the last one that was.
        unsaid: u64,
    },
    /// The program printed a line; only if [`Start::follow`].
    Printed {
        /// Which.
        incarnation: u32,
        /// Where.
        stream: OutputStream,
        /// Without its end; what is not UTF-8 is replaced, and what is beyond [`LONGEST_PRINTED`] is cut.
        line: String,
    },
    /// A log file could not be written; said once for each file and program. The program goes on.
    LogFailed {
        /// Which.
        incarnation: u32,
        /// Whose file.
        stream: OutputStream,
        /// What the system said.
        why: String,
    },
    /// Nothing of the program is left.
    Exited {
        /// Which.
        incarnation: u32,
        /// How the program itself ended.
        status: ExitStatus,
    },
    /// A command was carried out.
    Done {
        /// Which.
        command: CommandName,
    },
    /// A command was not carried out.
    Rejected {
        /// Which, if that could be read.
        command: Option<CommandName>,
        /// Why not.
        why: String,
    },
    /// What runs.
    Status {
        /// The program that runs, or ran last.
        incarnation: Option<u32>,
        /// Its process, as numbered inside the node, while anything of it is left.
        pid: Option<i32>,
        /// Whether it is frozen.
        paused: bool,
    },
}

/// One of the two streams that a program prints to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OutputStream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// A command without its arguments.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[expect(missing_docs, reason = "the same names as those of Command")]
pub enum CommandName {
    Start,
    Stop,
    Kill,
    Signal,
    Pause,
    Resume,
    Wipe,
    PurgeSockets,
    Status,
}

impl Command {
    /// Its name.
    pub fn name(&self) -> CommandName {
        match self {
            Command::Start(_) => CommandName::Start,
            Command::Stop { .. } => CommandName::Stop,
            Command::Kill => CommandName::Kill,
            Command::Signal { .. } => CommandName::Signal,
            Command::Pause => CommandName::Pause,
            Command::Resume => CommandName::Resume,
            Command::Wipe { .. } => CommandName::Wipe,
            Command::PurgeSockets => CommandName::PurgeSockets,
            Command::Status => CommandName::Status,
        }
    }
}

/// Why a message cannot be sent.
#[derive(Debug, Error)]
pub enum EncodeError {
    /// The other side would refuse it.
    #[error("send a message of {bytes} bytes: a line has at most {LONGEST_LINE}")]
    TooLong {
        /// Its length.
        bytes: usize,
    },
    /// JSON has no way to say it; a path that is not UTF-8, for example.
    #[error("write a message as JSON")]
    Unwritable(#[source] serde_json::Error),
}

/// Why a line is not a message.
#[derive(Debug, Error)]
pub enum DecodeError {
    /// Longer than a line may be.
    #[error("read a message: the line is longer than {LONGEST_LINE} bytes")]
    TooLong,
    /// Something else than a message.
    #[error("read a message")]
    Malformed(#[source] serde_json::Error),
}

/// The line that says `message` (a [`Command`] or a [`Notice`]), with its end.
///
/// # Errors
/// When it is too long or not to be said in JSON.
pub fn encode<T: Serialize>(message: &T) -> Result<Vec<u8>, EncodeError> {
    let mut line = serde_json::to_vec(message).map_err(EncodeError::Unwritable)?;
    if line.len() > LONGEST_LINE {
        return Err(EncodeError::TooLong { bytes: line.len() });
    }
    line.push(b'\n');
    Ok(line)
}

/// The message (a [`Command`] or a [`Notice`]) that `line` says, as a [`LineBuffer`](super::lines::LineBuffer) of
/// [`LONGEST_LINE`] hands it out.
///
/// # Errors
/// When it says none.
pub fn decode<T: DeserializeOwned>(line: super::lines::Line<'_>) -> Result<T, DecodeError> {
    match line {
        super::lines::Line::Whole(bytes) => serde_json::from_slice(bytes).map_err(DecodeError::Malformed),
        super::lines::Line::Cut(_) => Err(DecodeError::TooLong),
    }
}

/// `error` and its causes in one line of bounded length.
pub(super) fn reason(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    let end = (0..=LONGEST_REASON.min(text.len())).rev().find(|end| text.is_char_boundary(*end));
    text.truncate(end.unwrap_or(0));
    text
}

#[cfg(test)]
mod tests {
    use super::super::lines::Line;
    use super::*;

    fn start() -> Start {
        Start {
            incarnation: 2,
            argv: vec!["sh".into(), "-c".into(), "exit 3".into()],
            env: BTreeMap::from([("PATH".into(), "/bin".into())]),
            cwd: "/tmp".into(),
            stdout: "/tmp/out".into(),
            stderr: "/tmp/err".into(),
            follow: true,
            ready: Ready::Tcp(80),
            privilege: Privilege::Root,
            forward: true,
            hosts: Some("/tmp/hosts".into()),
        }
    }

    #[test]
    fn every_command_is_read_as_it_was_written() {
        for command in [
            Command::Start(start()),
            Command::Stop { grace: Span::from_millis(1500) },
            Command::Kill,
            Command::Signal { number: 10 },
            Command::Pause,
            Command::Resume,
            Command::Wipe { directory: "/disk".into() },
            Command::PurgeSockets,
            Command::Status,
        ] {
            let line = encode(&command).unwrap();
            let (end, body) = line.split_last().unwrap();
            assert_eq!(*end, b'\n');
            assert!(!body.contains(&b'\n'));
            assert_eq!(decode::<Command>(Line::Whole(body)).unwrap(), command);
        }
    }

    #[test]
    fn every_event_is_read_as_it_was_written() {
        for event in [
            InitEvent::Up,
            InitEvent::Started { incarnation: 1, pid: 2 },
            InitEvent::StartFailed { incarnation: 1, why: "no".into() },
            InitEvent::Ready { incarnation: 1 },
            InitEvent::Reported {
                incarnation: 1,
                report: NodeReport::Progress { bytes: 1, total: u64::MAX, received: 3 },
            },
            InitEvent::Malformed { incarnation: 1, what: "x".into(), unsaid: 7 },
            InitEvent::Printed { incarnation: 1, stream: OutputStream::Stderr, line: "a\nb\u{0}\u{fffd}".into() },
            InitEvent::LogFailed { incarnation: 1, stream: OutputStream::Stdout, why: "full".into() },
            InitEvent::Exited { incarnation: 1, status: ExitStatus::Signal(9) },
            InitEvent::Done { command: CommandName::PurgeSockets },
            InitEvent::Rejected { command: None, why: "what?".into() },
            InitEvent::Status { incarnation: Some(1), pid: None, paused: false },
        ] {
            let notice = Notice { at_ns: 5, event };
            let line = encode(&notice).unwrap();
            assert_eq!(decode::<Notice>(Line::Whole(&line[..line.len() - 1])).unwrap(), notice);
        }
    }

    #[test]
    fn the_documented_lines_are_understood() {
        let line = br#"{"command":"start","incarnation":1,"argv":["nginx"],"env":{},"cwd":"/d","stdout":"/o","stderr":"/e","ready":"started"}"#;
        let Command::Start(start) = decode(Line::Whole(line)).unwrap() else { panic!("not a start") };
        assert_eq!((start.follow, start.privilege, start.ready), (false, Privilege::None, Ready::Started));
        assert_eq!(decode::<Command>(Line::Whole(br#"{"command":"purge-sockets"}"#)).unwrap(), Command::PurgeSockets);
    }

    #[test]
    fn the_worst_line_of_output_still_fits() {
        // A control character takes six characters in JSON; the bound on `printed` relies on it.
        let line = "\u{1}".repeat(LONGEST_PRINTED);
        let event = InitEvent::Printed { incarnation: u32::MAX, stream: OutputStream::Stdout, line };
        assert!(encode(&Notice { at_ns: u64::MAX, event }).is_ok());
    }

    #[test]
    fn what_is_too_long_is_neither_sent_nor_read() {
        let long = Start { argv: vec!["x".repeat(LONGEST_LINE)], ..start() };
        assert!(matches!(encode(&Command::Start(long)), Err(EncodeError::TooLong { .. })));
        assert!(matches!(decode::<Command>(Line::Cut(b"{")), Err(DecodeError::TooLong)));
    }

    #[test]
    fn a_reason_does_not_repeat_all_of_a_hostile_command() {
        let line = format!(r#"{{"command":"{}"}}"#, "\u{1F980}".repeat(100_000));
        let error = decode::<Command>(Line::Whole(line.as_bytes())).unwrap_err();
        assert!(reason(&error).len() <= LONGEST_REASON);
    }
}
