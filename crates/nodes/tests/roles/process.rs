//! Role programs as child processes that end with the test, and what they say.

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, ChildStderr, ChildStdout, Command, ExitStatus, Stdio};

use event::NodeReport;
use fetch::journal::{Header, Replay};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// A child that is killed when it is dropped.
pub(crate) struct Process {
    pub(crate) child: Child,
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Process {
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id() as i32), signal).unwrap();
    }
}

/// A file server or check server.
pub(crate) struct Server {
    pub(crate) process: Process,
    pub(crate) port: u16,
    /// Open for as long as the server may write to it.
    _stderr: BufReader<ChildStderr>,
}

impl Server {
    /// Starts `file-server FILE`, on a free port if `port` is 0, and waits until it listens.
    pub(crate) fn serve(file: &Path, port: u16, more: &[&str]) -> Server {
        let mut command = Command::new(env!("CARGO_BIN_EXE_file-server"));
        command.arg(file).args(more);
        Server::start(command, port)
    }

    /// Starts `check-server URL…` on a free port, and waits until it listens.
    pub(crate) fn check(urls: &[String], more: &[&str]) -> Server {
        let mut command = Command::new(env!("CARGO_BIN_EXE_check-server"));
        command.args(urls).args(more);
        Server::start(command, 0)
    }

    fn start(mut command: Command, port: u16) -> Server {
        let child = command.args(["--listen", "127.0.0.1", "--port", &port.to_string()]).stderr(Stdio::piped()).spawn();
        let mut process = Process { child: child.unwrap() };
        let mut stderr = BufReader::new(process.child.stderr.take().unwrap());
        let mut line = String::new();
        stderr.read_line(&mut line).unwrap();
        let address = line.split("http://127.0.0.1:").nth(1).unwrap_or_else(|| panic!("it does not listen: {line}"));
        let port = address.split('/').next().unwrap().parse().unwrap();
        Server { process, port, _stderr: stderr }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}/", self.port)
    }
}

/// A running `downloader --format json`.
pub(crate) struct Download {
    pub(crate) process: Process,
    reports: std::io::Lines<BufReader<ChildStdout>>,
    /// Body bytes received so far.
    pub(crate) received: u64,
    /// Bytes in hand when the last report came.
    pub(crate) here: u64,
}

/// How a download ended.
pub(crate) struct Ended {
    pub(crate) status: ExitStatus,
    pub(crate) received: u64,
    pub(crate) sha256: Option<String>,
    pub(crate) stderr: String,
}

impl Download {
    /// Starts `downloader URL… -o OUT`.
    pub(crate) fn start(urls: &[String], out: &Path, more: &[&str]) -> Download {
        Download::with(urls.iter().map(String::as_str).chain(more.iter().copied()), out)
    }

    /// Starts `downloader ARGS… -o OUT`.
    pub(crate) fn with<'a>(args: impl Iterator<Item = &'a str>, out: &Path) -> Download {
        let mut command = Command::new(env!("CARGO_BIN_EXE_downloader"));
        command.args(args).arg("-o").arg(out).args(["--format", "json"]);
        let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut process = Process { child };
        let reports = BufReader::new(process.child.stdout.take().unwrap()).lines();
        Download { process, reports, received: 0, here: 0 }
    }

    /// The next report; `None` when it has ended.
    pub(crate) fn next(&mut self) -> Option<NodeReport> {
        let line = self.reports.next()?.unwrap();
        let report = NodeReport::from_line(&line).unwrap();
        if let NodeReport::Progress { bytes, received, .. } = report {
            (self.here, self.received) = (bytes, received);
        }
        Some(report)
    }

    /// Waits for the first line of words.
    pub(crate) fn next_line(&mut self) -> String {
        let stderr = self.process.child.stderr.as_mut().unwrap();
        let (mut line, mut byte) = (String::new(), [0]);
        // Byte by byte, so that nothing of what follows is lost.
        while stderr.read(&mut byte).unwrap() > 0 && byte != *b"\n" {
            line.push(char::from(byte[0]));
        }
        line
    }

    /// Waits until this much is here.
    pub(crate) fn wait_for_bytes(&mut self, bytes: u64) {
        while self.here < bytes {
            if self.next().is_none() {
                panic!("it ended too early: {}", self.stderr());
            }
        }
    }

    /// Waits for its end.
    pub(crate) fn end(mut self) -> Ended {
        let mut sha256 = None;
        while let Some(report) = self.next() {
            if let NodeReport::Finished { sha256: digest, .. } = report {
                sha256 = digest;
            }
        }
        let stderr = self.stderr();
        Ended { status: self.process.child.wait().unwrap(), received: self.received, sha256, stderr }
    }

    fn stderr(&mut self) -> String {
        let mut text = String::new();
        self.process.child.stderr.take().unwrap().read_to_string(&mut text).unwrap();
        text
    }
}

/// What a journal says now; `None` before it is begun.
pub(crate) fn replayed(journal: &Path) -> Option<Replay> {
    fetch::journal::replay(&std::fs::read(journal).ok()?).ok()
}

/// Bytes of the pieces that a journal records now. None as long as there are no hashes: when they come, what is here is
/// checked and recorded anew.
pub(crate) fn recorded(journal: &Path) -> u64 {
    let Some(Replay { header: Header { pieces, manifest: Some(_), .. }, recorded, .. }) = replayed(journal) else {
        return 0;
    };
    pieces.iter().filter(|piece| recorded.contains(*piece)).map(|piece| pieces.range(piece).len()).sum()
}

/// Bytes that do not repeat in any piece.
pub(crate) fn noise(len: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}
