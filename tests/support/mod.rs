//! Runs `testbed` as a person would and reads what it leaves.
//!
//! `TESTBED_BIN` and `TESTBED_ROOT` stand in for the built program and the source tree, so that the same test binaries
//! run from a copy as another user.

#![allow(dead_code, reason = "each test binary uses a part of this")]
#![allow(unsafe_code, reason = "setting a signal's action between fork and exec has no safe form")]

pub(crate) mod agreement;
pub(crate) mod daemon;
pub(crate) mod fates;
pub(crate) mod pcapng;
pub(crate) mod ping;
pub(crate) mod sabotage;

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::{Mutex, PoisonError};

use event::{Event, Record, RunState, Verdict, run_directory as names};
use nix::sys::signal::{SigHandler, Signal, signal};
use tempfile::TempDir;

/// A run is made this often at most, where this machine was starved in it.
const MOST_ATTEMPTS: u32 = 3;

/// How causes of INVALID begin that a machine has which is too busy for the emulation.
const STARVATION: [&str; 2] = ["this machine was starved", "the emulation itself lost"];

/// Expectations that a starved machine cannot meet, whatever the programs do: how long, how fast, how much in vain.
const SPEEDS: [&str; 3] = ["within ", "throughput ", "wasted "];

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

    /// Runs a topology file with further words; again if this machine was starved, as that says nothing of the network
    /// that the file asks for. What a starved run did wrong beside being late is not tried away: it is the last one.
    pub(crate) fn run(&self, file: &Path, words: &[&str]) -> Run {
        for _ in 1..MOST_ATTEMPTS {
            let run = self.run_once(file, words);
            if run.starvation().is_empty() || !run.shortcomings().is_empty() {
                return run;
            }
            eprintln!("STARVED, run again: {}", run.starvation().join("; "));
        }
        self.run_once(file, words)
    }

    /// Runs `testbed` with these words, which start runs that are to pass; again if one was INVALID, as it is on a machine
    /// that is busy with something else. `None`, and said so, if one was in every attempt: then nothing can be said.
    pub(crate) fn testbed_passes<I>(&self, words: I) -> Option<Ended>
    where
        I: IntoIterator<IntoIter: Clone>,
        I::Item: AsRef<std::ffi::OsStr>,
    {
        let words = words.into_iter();
        for _ in 0..MOST_ATTEMPTS {
            let ended = self.testbed(words.clone());
            if ended.status() != Some(Verdict::Invalid.exit_status().into()) {
                ended.expect_status(0);
                return Some(ended);
            }
            eprintln!("STARVED, run again: {}", ended.stdout().lines().last().unwrap_or_default());
        }
        eprintln!("STARVED in every attempt: nothing is proven");
        None
    }

    /// Runs a topology file once, whatever this machine does meanwhile.
    pub(crate) fn run_once(&self, file: &Path, words: &[&str]) -> Run {
        let mut arguments = vec!["run".as_ref(), file.as_os_str()];
        arguments.extend(words.iter().map(std::ffi::OsStr::new));
        let ended = self.testbed(arguments);
        let name = file.file_stem().expect("a topology has a name").to_string_lossy().into_owned();
        let latest = self.path().join(names::RUNS).join(name).join(names::LATEST);
        // The next run of that name is the latest then.
        let directory = latest.canonicalize().unwrap_or(latest);
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
    /// The run ended with this status. If this machine was starved in every attempt, the verdict is INVALID and neither
    /// success nor failure; the facts that the log tells, of which a slow machine is no excuse, must be those of `status`.
    #[track_caller]
    pub(crate) fn expect_status(&self, status: i32) -> &Self {
        if self.kept_up() || status > 1 {
            let causes = if self.has_log() { self.state().causes.join("\n") } else { String::new() };
            assert_eq!(self.ended.status(), Some(status), "{causes}\n{}", self.ended.told());
            return self;
        }
        assert_eq!(self.ended.status(), Some(Verdict::Invalid.exit_status().into()), "{}", self.ended.told());
        let shortcomings = self.shortcomings();
        assert_eq!(u8::from(!shortcomings.is_empty()), status as u8, "{shortcomings:#?}\n{}", self.ended.told());
        eprintln!("STARVED: its figures prove nothing, what it did was looked at: {}", self.starvation().join("; "));
        self
    }

    /// Whether this machine kept up with the run: only then do times, rates and shares say anything.
    pub(crate) fn kept_up(&self) -> bool {
        self.starvation().is_empty()
    }

    /// Causes of a verdict INVALID that a busy machine has.
    fn starvation(&self) -> Vec<String> {
        let is_starvation = |cause: &String| STARVATION.iter().any(|words| cause.starts_with(words));
        self.causes_where(|state| state.verdict == Some(Verdict::Invalid), is_starvation)
    }

    /// Causes of a verdict that no busy machine excuses.
    fn shortcomings(&self) -> Vec<String> {
        let is_shortcoming = |cause: &String| {
            let excused = STARVATION.iter().any(|words| cause.starts_with(words));
            let is_speed =
                SPEEDS.iter().any(|word| cause.split_once(": ").is_some_and(|(_, rest)| rest.starts_with(word)));
            !excused && !is_speed
        };
        self.causes_where(|_| true, is_shortcoming)
    }

    fn causes_where(&self, of: impl Fn(&RunState) -> bool, is: impl Fn(&String) -> bool) -> Vec<String> {
        if !self.has_log() {
            return Vec::new();
        }
        let state = self.state();
        if of(&state) { state.causes.into_iter().filter(is).collect() } else { Vec::new() }
    }

    fn has_log(&self) -> bool {
        self.directory.join(names::EVENTS).exists()
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

/// One run at a time: beside others each of these starves a small machine.
static ALONE: Mutex<()> = Mutex::new(());

/// A topology of the project's that passes, see [`passed_alone`].
pub(crate) fn passed(place: &Place, name: &str) -> Run {
    passed_alone(place, &topology(name))
}

/// A topology that passes, with this machine to itself as far as the tests of this binary go.
pub(crate) fn passed_alone(place: &Place, file: &Path) -> Run {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let run = place.run(file, &[]);
    run.expect_status(0);
    run
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
