//! `p2mp-receiver` and `p2mp-sender` against peers that lie, at what each of them reads from the network. Nothing is
//! written where it should not be, no wrong file gets a final name, memory stays bounded, and whoever is honest is served
//! all the same.
//!
//! * `noise`: floods of what is nothing.
//! * `announcements`: senders of the fast mode that announce what cannot be.
//! * `symbols`: data that do not fit what was announced.
//! * `answers`: receivers that lie to a sender.

mod announcements;
mod answers;
mod noise;
mod symbols;

use std::io::{BufRead, BufReader, Read};
use std::net::{SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver as Lines};
use std::time::Duration;

use nix::sys::signal::Signal;
use p2mp::fast::{Announce, FileEntry, Identity, Packet, Release, Report, SessionId};

use crate::ports::fresh_address;
use crate::process::Process;

/// The well-known port; every program here has an address of its own.
const PORT: u16 = 7735;

/// More than the busiest machine needs for anything here.
const PATIENCE: Duration = Duration::from_secs(60);

/// What a receiver may hold in memory, in KiB, whatever is sent to it.
const MOST_MEMORY: u64 = 64 << 10;

/// A running `p2mp-receiver`.
struct Receiver {
    process: Process,
    at: SocketAddr,
    folder: tempfile::TempDir,
    lines: Lines<String>,
    said: String,
}

impl Receiver {
    /// One that puts what comes into `folder/in/NAME`, or into the folder `in` if there is no name.
    fn start(name: Option<&str>) -> Self {
        // Where each of thousands of files is synced at once, whatever the disk.
        let folder = crate::memory::folder(48 << 20);
        let inside = folder.path().join("in");
        std::fs::create_dir(&inside).unwrap();
        let at = SocketAddr::from((fresh_address(), PORT));
        let mut command = Command::new(env!("CARGO_BIN_EXE_p2mp-receiver"));
        command.args(["--bind", &at.ip().to_string(), &PORT.to_string()]);
        command.arg(name.map_or(inside.clone(), |name| inside.join(name))).arg("0");
        let child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn();
        let mut process = Process { child: child.unwrap() };
        let (tell, lines) = mpsc::channel();
        let stderr = process.child.stderr.take().unwrap();
        std::thread::spawn(move || {
            BufReader::new(stderr).lines().map_while(Result::ok).try_for_each(|line| tell.send(line))
        });
        let mut receiver = Receiver { process, at, folder, lines, said: String::new() };
        receiver.wait_for("listening on");
        receiver
    }

    /// Waits for a line on stderr that has these words.
    #[track_caller]
    fn wait_for(&mut self, words: &str) -> String {
        loop {
            let line = self.lines.recv_timeout(PATIENCE);
            let line = line.unwrap_or_else(|error| panic!("never `{words}`: {error}\n{}", self.said));
            self.said.push_str(&format!("{line}\n"));
            if line.contains(words) {
                return line;
            }
        }
    }

    fn inside(&self, name: &str) -> PathBuf {
        self.folder.path().join("in").join(name)
    }

    /// Names in the folder that it may write to; beside that folder there must be nothing.
    #[track_caller]
    fn entries(&self) -> Vec<String> {
        assert_eq!(names(self.folder.path()), ["in"]);
        names(&self.folder.path().join("in"))
    }

    /// It still works: an honest sender of the published format is served, and memory has stayed within bounds.
    #[track_caller]
    fn assert_serves(&mut self, classic: &str) {
        let file = self.folder.path().join("in").join(format!("{classic}.source"));
        let content = crate::process::noise(30_000);
        std::fs::write(&file, &content).unwrap();
        let ended = send(&[self.at], &file, &["1000"]);
        assert!(ended.status.success(), "{}\n{}", ended.stderr, self.said);
        std::fs::remove_file(&file).unwrap();
        assert!(std::fs::read(self.inside(classic)).unwrap() == content, "another file came out");
        let memory = self.peak_memory();
        assert!(memory < MOST_MEMORY, "{memory} KiB");
    }

    /// The most memory that it has held so far, in KiB.
    fn peak_memory(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("it runs");
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }

    /// Tells it to end, and waits until it has.
    fn interrupt(mut self) -> ExitStatus {
        self.process.signal(Signal::SIGTERM);
        self.process.child.wait().unwrap()
    }
}

fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap();
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

/// How a sender ended.
struct Sent {
    status: ExitStatus,
    stderr: String,
}

/// `p2mp-sender` to these receivers, in its own words.
fn sender(to: &[SocketAddr], file: &Path, words: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_p2mp-sender"));
    command.args(to.iter().map(|at| at.ip().to_string())).arg(PORT.to_string()).arg(file).args(words);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    command
}

fn send(to: &[SocketAddr], file: &Path, words: &[&str]) -> Sent {
    let mut process = Process { child: sender(to, file, words).spawn().unwrap() };
    let mut stderr = String::new();
    process.child.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
    Sent { status: process.child.wait().unwrap(), stderr }
}

/// A socket of somebody who lies.
fn liar() -> UdpSocket {
    let socket = UdpSocket::bind((fresh_address(), 0)).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

/// An announcement of these files, all of them on one page.
fn announce(files: Vec<FileEntry>) -> Announce {
    Announce {
        to_group: false,
        group: None,
        payload: Some(1442),
        identity: Identity([7; 16]),
        stamp_us: 1,
        report_every_us: 20_000,
        all_files: files.len() as u16,
        first_file: 0,
        files,
    }
}

/// Lets the receiver that has reported end its session at once, as a sender does that knows how it ended.
fn release(socket: &UdpSocket, to: SocketAddr, session: SessionId, report: &Report) {
    let release = Release { member: report.member, is_complete: false };
    socket.send_to(&Packet::Release(release).to_bytes(session), to).unwrap();
}

/// Says so again and again, as senders do, until a report comes back that `is_wanted`.
#[track_caller]
fn ask(
    socket: &UdpSocket,
    to: SocketAddr,
    session: SessionId,
    announce: &Announce,
    is_wanted: impl Fn(&Report) -> bool,
) -> Report {
    socket.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    let mut last = None;
    for round in 0..600 {
        let announce = Announce { stamp_us: round + 1, ..announce.clone() };
        socket.send_to(&Packet::Announce(announce).to_bytes(session), to).unwrap();
        let mut bytes = [0; 2048];
        while let Ok((length, from)) = socket.recv_from(&mut bytes) {
            // One who was asked before may still be answering.
            if let Ok((heard, Packet::Report(report))) = Packet::parse(&bytes[..length])
                && (heard, from) == (session, to)
            {
                if is_wanted(&report) {
                    return report;
                }
                last = Some(report);
            }
        }
    }
    panic!("not answered as wanted; last: {last:?}");
}
