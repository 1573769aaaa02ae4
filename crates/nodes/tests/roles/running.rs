//! A downloader whose lines are read as they come.

use std::io::{BufRead, BufReader, Read};
use std::path::PathBuf;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::Duration;

use event::NodeReport;

use crate::process::Process;

/// More than the busiest machine needs for anything here.
const PATIENCE: Duration = Duration::from_secs(60);

/// Of the file at a server of this test.
pub(crate) fn url(port: u16) -> String {
    format!("http://127.0.0.1:{port}/f")
}

/// A downloader whose lines are read as they come.
pub(crate) struct Running {
    process: Process,
    heard: Receiver<Heard>,
    stderr: String,
    received: u64,
    folder: tempfile::TempDir,
}

enum Heard {
    Line(String),
    Report(NodeReport),
}

/// How it ended.
pub(crate) struct Ended {
    pub(crate) status: ExitStatus,
    pub(crate) stderr: String,
    /// Body bytes, as it counted them.
    pub(crate) received: u64,
    /// What came out.
    pub(crate) file: Option<Vec<u8>>,
}

impl Running {
    pub(crate) fn start(urls: &[String], more: &[String]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_downloader"));
        command.args(urls).args(more).arg("-o").arg(folder.path().join("out")).args(["--format", "json"]);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let (stdout, stderr) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
        let (tell, heard) = mpsc::channel();
        let tell_reports = tell.clone();
        std::thread::spawn(move || read_lines(stderr, |line| tell.send(Heard::Line(line)).is_ok()));
        std::thread::spawn(move || {
            read_lines(stdout, |line| tell_reports.send(Heard::Report(NodeReport::from_line(&line).unwrap())).is_ok());
        });
        Running { process: Process { child }, heard, stderr: String::new(), received: 0, folder }
    }

    /// The first line on stderr that is wanted; what it said instead if it ends or nothing more comes.
    pub(crate) fn wait_for(&mut self, mut is_wanted: impl FnMut(&str) -> bool) -> Result<String, String> {
        loop {
            match self.heard.recv_timeout(PATIENCE) {
                Ok(Heard::Line(line)) => {
                    self.stderr.push_str(&format!("{line}\n"));
                    if is_wanted(&line) {
                        return Ok(line);
                    }
                }
                Ok(Heard::Report(NodeReport::Progress { received, .. })) => self.received = received,
                Ok(Heard::Report(_)) => {}
                Err(_) => return Err(self.stderr.clone()),
            }
        }
    }

    /// The most memory that it has held so far, in KiB.
    pub(crate) fn peak_memory(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("it runs");
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }

    pub(crate) fn out(&self) -> PathBuf {
        self.folder.path().join("out")
    }

    pub(crate) fn interrupt(&self) {
        self.process.signal(nix::sys::signal::Signal::SIGINT);
    }

    pub(crate) fn end(mut self) -> Ended {
        loop {
            match self.heard.recv_timeout(PATIENCE) {
                Ok(Heard::Line(line)) => self.stderr.push_str(&format!("{line}\n")),
                Ok(Heard::Report(NodeReport::Progress { received, .. })) => self.received = received,
                Ok(Heard::Report(_)) => {}
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => panic!("it does not end: {}", self.stderr),
            }
        }
        let file = std::fs::read(self.out()).ok();
        let status = self.process.child.wait().unwrap();
        Ended { status, stderr: self.stderr, received: self.received, file }
    }
}

fn read_lines(stream: impl Read, mut tell: impl FnMut(String) -> bool) {
    for line in BufReader::new(stream).lines() {
        if !line.is_ok_and(&mut tell) {
            return;
        }
    }
}
