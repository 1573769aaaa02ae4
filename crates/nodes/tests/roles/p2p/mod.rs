//! `tracker` and `peer` as clients of the csp2p protocol meet them, byte for byte.
//!
//! * `tracker`: requests and announcements over UDP.
//! * `peer`: requests over TCP, and how connections end.
//! * `download`: `p2p-downloader` with them.

mod download;
mod peer;
mod tracker;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::path::Path;
use std::process::{ChildStderr, Command, ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::ports::fresh_address;
use crate::process::{Process, noise};

/// More than the busiest machine needs for anything here.
const PATIENCE: Duration = Duration::from_secs(60);

/// A running `tracker` or `peer`, at an address of its own and the published port.
pub(crate) struct Program {
    pub(crate) process: Process,
    pub(crate) at: SocketAddr,
    /// Open for as long as it may write to it.
    stderr: BufReader<ChildStderr>,
}

impl Program {
    fn start(mut command: Command, words: &[&str]) -> Program {
        let address = fresh_address().to_string();
        command.args(["--listen", &address, "--seed", "7"]).args(words).stderr(Stdio::piped());
        let mut process = Process { child: command.spawn().unwrap() };
        let mut stderr = BufReader::new(process.child.stderr.take().unwrap());
        let mut line = String::new();
        stderr.read_line(&mut line).unwrap();
        let at = line.split_whitespace().find_map(|word| word.parse().ok());
        Program { process, at: at.unwrap_or_else(|| panic!("it does not listen: {line}")), stderr }
    }

    pub(crate) fn tracker(words: &[&str]) -> Program {
        Program::start(Command::new(env!("CARGO_BIN_EXE_tracker")), words)
    }

    /// One without limits and other ports, unless `words` say otherwise after that.
    pub(crate) fn peer(file: &Path, words: &[&str]) -> Program {
        let mut command = Command::new(env!("CARGO_BIN_EXE_peer"));
        let given = |flag: &str| words.contains(&flag);
        for (flag, value) in [("--pre-delay", "0s"), ("--stretch", "0s"), ("--ports", "0"), ("--churn", "0s")] {
            if !given(flag) {
                command.args([flag, value]);
            }
        }
        command.arg(file);
        Program::start(command, words)
    }

    /// Tells it to end; how it did, and what it said.
    fn interrupt(mut self) -> (ExitStatus, String) {
        self.process.signal(Signal::SIGTERM);
        let mut said = String::new();
        self.stderr.read_to_string(&mut said).unwrap();
        (self.process.child.wait().unwrap(), said)
    }

    /// The most memory that it has held so far, in KiB.
    fn peak_memory(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("it runs");
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }
}

/// A file called `f` of so many bytes that do not repeat.
struct Served {
    folder: tempfile::TempDir,
    content: Vec<u8>,
}

impl Served {
    fn of(length: usize) -> Served {
        let served = Served { folder: tempfile::tempdir().unwrap(), content: noise(length) };
        std::fs::write(served.path(), &served.content).unwrap();
        served
    }

    fn path(&self) -> std::path::PathBuf {
        self.folder.path().join("f")
    }

    /// What a peer answers who is asked for these bytes of it.
    fn answer(&self, offset: usize, length: usize) -> Vec<u8> {
        let mut answer = head(offset, length);
        answer.extend_from_slice(&self.content[offset..offset + length]);
        answer
    }
}

fn head(offset: usize, length: usize) -> Vec<u8> {
    format!("200 OK\nBODY_BYTE_OFFSET_IN_FILE: {offset}\nBODY_BYTE_LENGTH: {length}\n\n").into_bytes()
}

/// A connection to a peer.
struct Client(TcpStream);

impl Client {
    fn of(peer: &Program) -> Client {
        Client::at(peer.at)
    }

    fn at(peer: SocketAddr) -> Client {
        Client::set_up(TcpStream::connect(peer).unwrap())
    }

    /// From another address than the other clients.
    fn from(own: IpAddr, peer: SocketAddr) -> Client {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        socket.bind(&SocketAddr::new(own, 0).into()).unwrap();
        socket.connect(&peer.into()).unwrap();
        Client::set_up(socket.into())
    }

    fn set_up(stream: TcpStream) -> Client {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Client(stream)
    }

    fn say(&mut self, text: &str) -> &mut Self {
        // One who was closed meanwhile is seen by what it hears.
        let _ = self.0.write_all(text.as_bytes());
        self
    }

    /// Exactly these bytes come next.
    #[track_caller]
    fn hears(&mut self, wanted: &[u8]) -> &mut Self {
        let mut heard = vec![0; wanted.len()];
        self.0.read_exact(&mut heard).unwrap();
        assert!(heard == wanted, "{} instead of {}", shown(&heard), shown(wanted));
        self
    }

    /// Then it is closed, perhaps by force.
    #[track_caller]
    fn ends(&mut self) {
        let mut rest = Vec::new();
        match self.0.read_to_end(&mut rest) {
            Ok(_) => {}
            Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "it is not closed"),
        }
        assert!(rest.is_empty(), "{}", shown(&rest));
    }
}

fn shown(bytes: &[u8]) -> String {
    format!("{} bytes: {}", bytes.len(), bytes[..bytes.len().min(120)].escape_ascii())
}

/// Somebody who asks a tracker, from an address of its own: each may be answered.
fn asker() -> UdpSocket {
    let socket = UdpSocket::bind((fresh_address(), 0)).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

/// What the tracker answers `asker`.
#[track_caller]
fn ask(asker: &UdpSocket, tracker: SocketAddr, datagram: &[u8]) -> String {
    asker.send_to(datagram, tracker).unwrap();
    let mut answer = [0; 2048];
    let (length, from) = asker.recv_from(&mut answer).unwrap();
    assert_eq!(from, tracker);
    String::from_utf8(answer[..length].to_vec()).unwrap()
}
