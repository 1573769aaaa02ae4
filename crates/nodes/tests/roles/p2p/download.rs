//! `p2p-downloader` with our tracker and peers, and with those that die.

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{ChildStderr, Command, Stdio};

use event::NodeReport;
use nix::sys::signal::Signal;

use super::{Program, Served};
use crate::process::Process;

/// A running `p2p-downloader f TRACKER`.
struct Download {
    process: Process,
    stderr: BufReader<ChildStderr>,
    said: String,
}

/// How it ended.
struct Ended {
    status: Option<i32>,
    said: String,
    reports: Vec<NodeReport>,
}

impl Download {
    fn start(tracker: &Program, out: &Path, words: &[&str]) -> Download {
        let mut command = Command::new(env!("CARGO_BIN_EXE_p2p-downloader"));
        command
            .args(["f", &tracker.at.to_string(), "--ask-every", "50ms", "--format", "json", "-o"])
            .arg(out)
            .args(words);
        let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut process = Process { child };
        let stderr = BufReader::new(process.child.stderr.take().unwrap());
        Download { process, stderr, said: String::new() }
    }

    /// Waits for a line that has these words.
    #[track_caller]
    fn wait_for(&mut self, words: &str) {
        loop {
            let mut line = String::new();
            assert!(self.stderr.read_line(&mut line).unwrap() > 0, "never `{words}`:\n{}", self.said);
            self.said.push_str(&line);
            if line.contains(words) {
                return;
            }
        }
    }

    fn end(mut self) -> Ended {
        let stdout = self.process.child.stdout.take().unwrap();
        let reports = std::thread::spawn(move || {
            BufReader::new(stdout).lines().map(|line| NodeReport::from_line(&line.unwrap()).unwrap()).collect()
        });
        self.stderr.read_to_string(&mut self.said).unwrap();
        let status = self.process.child.wait().unwrap().code();
        Ended { status, said: self.said.clone(), reports: reports.join().unwrap() }
    }
}

/// A tracker that answers as often as it is asked, and where the file goes.
fn begin() -> (Program, tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    (Program::tracker(&["--interval", "0s"]), folder, out)
}

#[test]
fn a_file_comes_from_several_peers_with_its_hash() {
    let served = Served::of(805_975);
    let (tracker, _folder, out) = begin();
    let at = tracker.at.to_string();
    // Some 200 kB/s on each connection: more than one is needed to be quick.
    let words = ["--tracker", &at, "--stretch", "5ms", "--ports", "3", "--pre-delay", "20ms"];
    let _peers = [Program::peer(&served.path(), &words), Program::peer(&served.path(), &words)];
    let sha256 = fetch::Digest::of(&served.content).to_string();
    let ended = Download::start(&tracker, &out, &["--checksum", &sha256]).end();
    assert_eq!(ended.status, Some(0), "{}", ended.said);
    assert!(std::fs::read(&out).unwrap() == served.content, "another file came out");
    assert!(ended.said.contains("it has the expected SHA-256"), "{}", ended.said);
    let finished = NodeReport::Finished { bytes: 805_975, sha256: Some(sha256) };
    assert!(ended.reports.contains(&finished), "{:?}", ended.reports.last());
    let is_whole = |report: &NodeReport| matches!(report, NodeReport::Progress { bytes: 805_975, total: 805_975, .. });
    assert!(ended.reports.iter().any(is_whole));
}

#[test]
fn small_files_and_exact_multiples_come_whole() {
    for length in [0, 1, 10_000, 20_000, 20_001] {
        let served = Served::of(length);
        let (tracker, _folder, out) = begin();
        let _peer = Program::peer(&served.path(), &["--tracker", &tracker.at.to_string()]);
        let ended = Download::start(&tracker, &out, &["--timeout", "20s"]).end();
        assert_eq!(ended.status, Some(0), "{length}: {}", ended.said);
        assert!(std::fs::read(&out).unwrap() == served.content, "{length}");
    }
}

#[test]
fn when_every_peer_is_gone_it_says_so_waits_ends_and_goes_on_later() {
    let served = Served::of(805_975);
    let (tracker, _folder, out) = begin();
    let at = tracker.at.to_string();
    let slow = ["--tracker", &at, "--stretch", "10ms", "--pre-delay", "20ms"];
    let mut peer = Program::peer(&served.path(), &slow);
    let mut download = Download::start(&tracker, &out, &["--timeout", "2s"]);
    download.wait_for("805975 bytes in 81 blocks");
    let part = PathBuf::from(format!("{}.part", out.display()));
    let journal = PathBuf::from(format!("{}.journal", out.display()));
    let has_begun = || part.exists() && crate::process::replayed(&journal).is_some_and(|r| r.recorded.count() > 0);
    wait_until(has_begun);
    peer.process.kill();
    download.wait_for("no peer is there to fetch from; the tracker is asked on");
    let ended = download.end();
    assert_eq!(ended.status, Some(1), "{}", ended.said);
    assert!(ended.said.contains("failed: nothing has come for 2s;"), "{}", ended.said);
    assert!(ended.said.contains("--resume goes on from here") && part.exists() && !out.exists(), "{}", ended.said);
    let again = Program::peer(&served.path(), &["--tracker", &at]);
    let ended = Download::start(&tracker, &out, &["--resume"]).end();
    assert_eq!(ended.status, Some(0), "{}", ended.said);
    assert!(ended.said.contains("bytes are here already"), "{}", ended.said);
    assert!(std::fs::read(&out).unwrap() == served.content, "another file came out");
    drop(again);
}

#[expect(clippy::disallowed_methods, reason = "a file has nothing to wait on that both programs know")]
fn wait_until(mut is_so: impl FnMut() -> bool) {
    let begun = std::time::Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < super::PATIENCE, "it never is");
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
}

#[test]
fn a_tracker_that_is_not_there_is_asked_on_until_it_is_stopped() {
    let (mut tracker, _folder, out) = begin();
    tracker.process.kill();
    let mut download = Download::start(&tracker, &out, &[]);
    let stdout = download.process.child.stdout.as_mut().unwrap();
    // Ready, and its signals are caught.
    assert_eq!(
        NodeReport::from_line(BufReader::new(stdout).lines().next().unwrap().unwrap().as_str()).unwrap(),
        NodeReport::Ready
    );
    download.process.signal(Signal::SIGINT);
    let ended = download.end();
    assert_eq!(ended.status, Some(130), "{}", ended.said);
    assert!(!out.exists());
}

#[test]
fn a_wrong_digest_leaves_nothing_and_what_exists_is_not_touched() {
    let served = Served::of(25_000);
    let (tracker, folder, out) = begin();
    let _peer = Program::peer(&served.path(), &["--tracker", &tracker.at.to_string()]);
    let ended = Download::start(&tracker, &out, &["--checksum", &"0f".repeat(32)]).end();
    assert_eq!(ended.status, Some(1), "{}", ended.said);
    assert!(ended.said.contains("expected 0f0f"), "{}", ended.said);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "{}", ended.said);
    std::fs::write(&out, "precious").unwrap();
    assert_eq!(Download::start(&tracker, &out, &[]).end().status, Some(3));
    assert_eq!(std::fs::read(&out).unwrap(), b"precious");
    let into = Download::start(&tracker, folder.path(), &[]).end();
    assert_eq!((into.status, std::fs::read(folder.path().join("f")).unwrap() == served.content), (Some(0), true));
}
