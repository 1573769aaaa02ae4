//! Runs `testbed` as a person would and reads what it leaves.
//!
//! `TESTBED_BIN` and `TESTBED_ROOT` stand in for the built program and the source tree, so that the same test binaries
//! run from a copy as another user.

#![allow(dead_code, reason = "each test binary uses a part of this")]
#![allow(unsafe_code, reason = "setting a signal's action between fork and exec has no safe form")]

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use event::{Event, Record, RunState, run_directory as names};
use nix::sys::signal::{SigHandler, Signal, signal};
use tempfile::TempDir;

/// The program under test.
pub(crate) fn binary() -> PathBuf {
    std::env::var_os("TESTBED_BIN").map_or_else(|| PathBuf::from(env!("CARGO_BIN_EXE_testbed")), PathBuf::from)
}

/// The source tree.
pub(crate) fn root() -> PathBuf {
    let built =
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().expect("the source tree is there");
    std::env::var_os("TESTBED_ROOT").map_or_else(built, PathBuf::from)
}

/// A topology of the project's.
pub(crate) fn topology(name: &str) -> PathBuf {
    root().join("topologies").join(name)
}

/// An empty folder to be in, and commands that are run there.
pub(crate) struct Place {
    folder: TempDir,
}

impl Place {
    pub(crate) fn new() -> Self {
        Place { folder: tempfile::tempdir().expect("a temporary folder can be made") }
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Writes a topology into this place.
    pub(crate) fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path().join(name);
        std::fs::write(&path, text).expect("the temporary folder can be written");
        path
    }

    /// A command that runs here and sees nothing of CI.
    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(binary());
        command.current_dir(self.path()).stdin(Stdio::null()).env_remove("GITHUB_STEP_SUMMARY").env("NO_COLOR", "1");
        // What a shell runs in the background ignores SIGINT, and hands that down; a person's Ctrl-C meets no such thing.
        let hears_interrupts = || {
            // SAFETY: the default action runs no code of ours.
            let result = unsafe { signal(Signal::SIGINT, SigHandler::SigDfl) };
            result.map(drop).map_err(std::io::Error::from)
        };
        // SAFETY: between fork and exec only a system call is made.
        unsafe { command.pre_exec(hears_interrupts) };
        command
    }

    /// Runs `testbed` with these words to its end.
    pub(crate) fn testbed<I: IntoIterator<Item = S>, S: AsRef<std::ffi::OsStr>>(&self, words: I) -> Ended {
        let output = self.command().args(words).output().expect("testbed can be started");
        Ended { output }
    }

    /// Runs a topology of this text.
    pub(crate) fn run_text(&self, name: &str, text: &str) -> Run {
        let file = self.write(&format!("{name}.yaml"), text);
        self.run(&file, &[])
    }

    /// Runs a topology file with further words.
    pub(crate) fn run(&self, file: &Path, words: &[&str]) -> Run {
        let mut arguments = vec!["run".as_ref(), file.as_os_str()];
        arguments.extend(words.iter().map(std::ffi::OsStr::new));
        let ended = self.testbed(arguments);
        let name = file.file_stem().expect("a topology has a name").to_string_lossy().into_owned();
        let directory = self.path().join(names::RUNS).join(name).join(names::LATEST);
        Run { ended, directory }
    }

    /// Keeps the folder for whoever looks into a failure.
    fn keep(&mut self) {
        self.folder.disable_cleanup(true);
        eprintln!("what the test has left: {}", self.folder.path().display());
    }

    /// Names of what is in this place.
    pub(crate) fn entries(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.path()).expect("the temporary folder can be read");
        let mut names: Vec<_> =
            entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.keep();
        }
    }
}

/// A `testbed` that has ended.
pub(crate) struct Ended {
    pub(crate) output: Output,
}

impl Ended {
    pub(crate) fn status(&self) -> Option<i32> {
        self.output.status.code()
    }

    pub(crate) fn stdout(&self) -> String {
        String::from_utf8_lossy(&self.output.stdout).into_owned()
    }

    pub(crate) fn stderr(&self) -> String {
        String::from_utf8_lossy(&self.output.stderr).into_owned()
    }

    /// Everything that was printed, for the message of a failed assertion.
    pub(crate) fn told(&self) -> String {
        format!("status {:?}\n--- stdout\n{}\n--- stderr\n{}", self.output.status, self.stdout(), self.stderr())
    }

    #[track_caller]
    pub(crate) fn expect_status(&self, status: i32) -> &Self {
        assert_eq!(self.status(), Some(status), "{}", self.told());
        self
    }
}

/// A run that has ended, and its directory.
pub(crate) struct Run {
    pub(crate) ended: Ended,
    pub(crate) directory: PathBuf,
}

impl Run {
    #[track_caller]
    pub(crate) fn expect_status(&self, status: i32) -> &Self {
        let causes =
            if self.directory.join(names::EVENTS).exists() { self.state().causes.join("\n") } else { String::new() };
        assert_eq!(self.ended.status(), Some(status), "{causes}\n{}", self.ended.told());
        self
    }

    pub(crate) fn records(&self) -> Vec<Record> {
        let log = std::fs::read_to_string(self.directory.join(names::EVENTS)).expect("a run leaves its log");
        log.lines().map(|line| Record::from_line(line).expect("every line of a log is a record")).collect()
    }

    pub(crate) fn state(&self) -> RunState {
        let mut state = RunState::default();
        self.records().iter().for_each(|record| state.apply(record));
        state
    }

    /// Position of the first record for which `is` holds.
    #[track_caller]
    pub(crate) fn position(&self, what: &str, is: impl Fn(&Event) -> bool) -> usize {
        let found = self.records().iter().position(|record| is(&record.event));
        found.unwrap_or_else(|| panic!("no record of {what}\n{}", self.ended.told()))
    }

    /// A file in a node's disk.
    pub(crate) fn disk(&self, node: &str, file: &str) -> PathBuf {
        names::disk(&self.directory, node).join(file)
    }

    pub(crate) fn stdout_of(&self, node: &str) -> String {
        std::fs::read_to_string(names::node(&self.directory, node).join(names::STDOUT)).unwrap_or_default()
    }
}

/// A test that cannot run here says so; under CI that is a failure.
pub(crate) fn skip(why: &str) {
    assert!(std::env::var_os("CI").is_none(), "SKIPPED under CI: {why}");
    eprintln!("SKIPPED: {why}");
}

/// Whether a program is on the PATH or where Debian keeps servers.
pub(crate) fn has_program(name: &str) -> bool {
    let path = std::env::var("PATH").unwrap_or_default();
    let folders = path.split(':').chain(["/usr/sbin", "/sbin", "/usr/bin"]);
    folders.into_iter().any(|folder| Path::new(folder).join(name).is_file())
}

/// Lets time pass where its passing is what the test is about; `why` says so.
pub(crate) fn pause(span: std::time::Duration, why: &str) {
    assert!(!why.is_empty());
    let timeout = nix::poll::PollTimeout::try_from(span).expect("pauses of tests are short");
    nix::poll::poll(&mut [], timeout).expect("nothing can be waited for");
}
