//! Senders and receivers as child processes that end with the test.

use std::io::{BufRead, BufReader, Read as _};
use std::net::UdpSocket;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, ChildStdout, Command, Output, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// More than the busiest machine needs for anything here.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A running receiver; killed when it is dropped.
pub(crate) struct Receiver {
    child: Child,
    stdout: BufReader<ChildStdout>,
    stderr: BufReader<ChildStderr>,
    pub(crate) port: u16,
    pub(crate) file: PathBuf,
}

/// What a program said, and how it ended.
pub(crate) struct Ended {
    pub(crate) status: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Drop for Receiver {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Receiver {
    /// Starts `p2mp-receiver PORT FILE P MORE…`, port 0 being any, and waits until it listens.
    pub(crate) fn start(port: u16, file: &Path, p: &str, more: &[&str]) -> Receiver {
        Receiver::start_by(Command::new(env!("CARGO_BIN_EXE_p2mp-receiver")), port, file, p, more)
    }

    /// The same by a shell, which is told `words` first.
    pub(crate) fn start_with(words: &str, port: u16, file: &Path, p: &str, more: &[&str]) -> Receiver {
        let mut command = Command::new("sh");
        command.args(["-c", &format!("{words} \"$0\" \"$@\""), env!("CARGO_BIN_EXE_p2mp-receiver")]);
        Receiver::start_by(command, port, file, p, more)
    }

    fn start_by(mut command: Command, port: u16, file: &Path, p: &str, more: &[&str]) -> Receiver {
        command.arg(port.to_string()).arg(file).arg(p).args(more).args(["--seed", "1"]);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let mut stderr = BufReader::new(child.stderr.take().unwrap());
        let mut line = String::new();
        stderr.read_line(&mut line).unwrap();
        let port = line.trim().rsplit(':').next().and_then(|port| port.parse().ok());
        let port = port.unwrap_or_else(|| panic!("it does not listen: {line}"));
        Receiver { child, stdout, stderr, port, file: file.to_owned() }
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id() as i32), signal).unwrap();
    }

    pub(crate) fn content(&self) -> Vec<u8> {
        std::fs::read(&self.file).unwrap()
    }

    /// The next line on stdout.
    pub(crate) fn printed(&mut self) -> String {
        let mut line = String::new();
        self.stdout.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    /// The next line on stderr.
    pub(crate) fn line(&mut self) -> String {
        let mut line = String::new();
        self.stderr.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    /// Waits until it ends by itself, or by a signal that was sent.
    pub(crate) fn end(mut self) -> Ended {
        let (mut stdout, mut stderr) = (String::new(), String::new());
        self.stdout.read_to_string(&mut stdout).unwrap();
        self.stderr.read_to_string(&mut stderr).unwrap();
        Ended { status: self.child.wait().unwrap().code(), stdout, stderr }
    }
}

/// `p2mp-sender WORDS…`.
pub(crate) fn sender(words: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_p2mp-sender"));
    command.args(words);
    command
}

/// Starts it, to be waited for by [`end`].
pub(crate) fn spawn(mut command: Command) -> Child {
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

pub(crate) fn end(child: Child) -> Ended {
    let Output { status, stdout, stderr } = child.wait_with_output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Ended { status: status.code(), stdout: text(stdout), stderr: text(stderr) }
}

pub(crate) fn run(words: &[&str]) -> Ended {
    end(spawn(sender(words)))
}

/// A socket of this test on 127.0.0.1 that waits for [`PATIENCE`], and its port.
pub(crate) fn socket() -> (UdpSocket, u16) {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let port = socket.local_addr().unwrap().port();
    (socket, port)
}

/// Sends, and waits for what comes back.
pub(crate) fn ask(socket: &UdpSocket, segment: &[u8]) -> Vec<u8> {
    socket.send(segment).unwrap();
    let mut answer = vec![0; 100];
    let length = socket.recv(&mut answer).unwrap();
    answer.truncate(length);
    answer
}

/// Bytes that do not repeat soon.
pub(crate) fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_u32;
    std::iter::repeat_with(|| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    })
    .take(length)
    .collect()
}
