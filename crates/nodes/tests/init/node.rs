//! A node under test: an init in new namespaces, a connection to it, and a folder for its disk and logs.
#![allow(unsafe_code, reason = "forks before any thread exists")]

use std::cell::Cell;
use std::collections::VecDeque;
use std::fmt;
use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use event::{ExitStatus, NodeReport};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::prctl::set_dumpable;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, Gid, Pid, Uid, chown, fork, getegid, geteuid, setgroups, setresgid, setresuid};
use nodes::init::lines::LineBuffer;
use nodes::init::protocol::{
    self, Command, CommandName, InitEvent, LONGEST_LINE, Notice, OutputStream, Privilege, Ready, Start,
};
use nodes::init::{self, InitOptions};

/// Whose node it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum User {
    /// An ordinary user, as himself in a user namespace: the caller, or nobody when the caller is root.
    Ordinary,
    /// The same, who is root in that user namespace.
    RootOfItsOwn,
    /// Root, without a user namespace.
    RootOfTheMachine,
}

const NOBODY: u32 = 65534;
/// Nothing here takes that long on any machine; only what hangs does.
const PATIENCE: Duration = Duration::from_secs(30);

/// Why a node of that kind cannot be had.
pub(crate) struct Unavailable(String);

impl fmt::Display for Unavailable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The folder of a node, and who owns it.
pub(crate) struct Home {
    folder: tempfile::TempDir,
    pub(crate) user: User,
}

impl Home {
    pub(crate) fn new(user: User) -> Self {
        let home = Home { folder: tempfile::tempdir().unwrap(), user };
        fs::create_dir(home.disk()).unwrap();
        if user != User::RootOfTheMachine && geteuid().is_root() {
            for path in [home.path(), &home.disk()] {
                chown(path, Some(Uid::from_raw(NOBODY)), Some(Gid::from_raw(NOBODY))).unwrap();
            }
        }
        home
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn disk(&self) -> PathBuf {
        self.path().join("disk")
    }

    pub(crate) fn log(&self, stream: OutputStream) -> PathBuf {
        self.path().join(match stream {
            OutputStream::Stdout => "stdout.log",
            OutputStream::Stderr => "stderr.log",
        })
    }

    /// A command line that no other process has, for finding what it became of.
    pub(crate) fn marker(&self) -> String {
        format!("100000.{}", std::process::id())
            + &self.path().to_string_lossy().replace(|c: char| !c.is_ascii_digit(), "")
    }

    pub(crate) fn raise(&self) -> Node {
        Node::raise(self).unwrap_or_else(|why| panic!("{why}"))
    }

    /// To be adapted: `sh -c SCRIPT` as incarnation 1.
    pub(crate) fn shell(&self, script: &str) -> Start {
        Start {
            incarnation: 1,
            argv: vec!["sh".into(), "-c".into(), script.into()],
            env: [("PATH".to_owned(), "/usr/bin:/bin:/usr/sbin:/sbin".to_owned())].into(),
            cwd: self.disk(),
            stdout: self.log(OutputStream::Stdout),
            stderr: self.log(OutputStream::Stderr),
            follow: true,
            ready: Ready::Started,
            privilege: Privilege::None,
            forward: false,
            hosts: None,
        }
    }
}

/// A running init.
pub(crate) struct Node {
    control: UnixStream,
    lines: LineBuffer,
    waiting: VecDeque<InitEvent>,
    /// The process that made the namespaces; it ends with the init's status.
    maker: Pid,
    /// The init, as numbered outside.
    pub(crate) init: Pid,
    over: Cell<bool>,
}

impl Node {
    pub(crate) fn raise(home: &Home) -> Result<Node, Unavailable> {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let (mut told, tell) = UnixStream::pair().unwrap();
        // SAFETY: this process has one thread.
        let maker = match unsafe { fork() }.unwrap() {
            ForkResult::Child => {
                drop((ours, told));
                let status = make_node(home.user, theirs.into(), tell);
                // SAFETY: a plain system call. Nothing of this copy of the test is to be dropped.
                unsafe { libc::_exit(status) }
            }
            ForkResult::Parent { child } => child,
        };
        drop((theirs, tell));
        let mut words = String::new();
        told.read_to_string(&mut words).unwrap();
        let Ok(init) = words.parse() else {
            waitpid(maker, None).unwrap();
            return Err(Unavailable(words));
        };
        ours.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut node = Node {
            control: ours,
            lines: LineBuffer::new(LONGEST_LINE),
            waiting: VecDeque::new(),
            maker,
            init: Pid::from_raw(init),
            over: Cell::new(false),
        };
        assert_eq!(node.next(), InitEvent::Up);
        Ok(node)
    }

    pub(crate) fn send(&mut self, command: &Command) {
        self.send_bytes(&protocol::encode(command).unwrap());
    }

    pub(crate) fn send_bytes(&mut self, bytes: &[u8]) {
        self.control.write_all(bytes).unwrap();
    }

    /// The next event.
    pub(crate) fn next(&mut self) -> InitEvent {
        loop {
            if let Some(event) = self.waiting.pop_front() {
                return event;
            }
            let mut chunk = [0; 64 * 1024];
            let count = match self.control.read(&mut chunk) {
                Ok(0) => panic!("the init is gone"),
                Ok(count) => count,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => panic!("the init says nothing for {PATIENCE:?}: {error}"),
            };
            let waiting = &mut self.waiting;
            self.lines.feed(&chunk[..count], |line| {
                waiting.push_back(protocol::decode::<Notice>(line).expect("the init speaks the protocol").event);
            });
        }
    }

    /// All events up to the first one that `last` is true of, that one included.
    pub(crate) fn until(&mut self, last: impl Fn(&InitEvent) -> bool) -> Vec<InitEvent> {
        let mut events = Vec::new();
        loop {
            let event = self.next();
            let found = last(&event);
            events.push(event);
            if found {
                return events;
            }
        }
    }

    /// Starts it; it must run.
    pub(crate) fn start(&mut self, start: Start) -> i32 {
        let incarnation = start.incarnation;
        self.send(&Command::Start(start));
        match self.next() {
            InitEvent::Started { incarnation: which, pid } if which == incarnation => pid,
            other => panic!("not started: {other:?}"),
        }
    }

    /// Starts it and waits for its end: what happened up to there, and how it ended.
    pub(crate) fn run(&mut self, start: Start) -> (Vec<InitEvent>, ExitStatus) {
        self.start(start);
        self.until_exit()
    }

    pub(crate) fn until_exit(&mut self) -> (Vec<InitEvent>, ExitStatus) {
        let mut events = self.until(|event| matches!(event, InitEvent::Exited { .. }));
        match events.pop() {
            Some(InitEvent::Exited { status, .. }) => (events, status),
            other => unreachable!("until() ended at {other:?}"),
        }
    }

    /// Waits until the program has printed `line`.
    pub(crate) fn until_printed(&mut self, line: &str) {
        self.until(|event| matches!(event, InitEvent::Printed { line: printed, .. } if printed == line));
    }

    /// Waits for the acknowledgement of `command`.
    pub(crate) fn until_done(&mut self, command: CommandName) -> Vec<InitEvent> {
        self.until(|event| matches!(event, InitEvent::Done { command: which } if *which == command))
    }

    /// Closes the connection. The status of the init.
    pub(crate) fn hang_up(self) -> i32 {
        self.control.shutdown(std::net::Shutdown::Both).unwrap();
        self.wait()
    }

    /// Waits until the init has ended. Its status.
    pub(crate) fn wait(&self) -> i32 {
        self.over.set(true);
        match waitpid(self.maker, None).unwrap() {
            WaitStatus::Exited(_, code) => code,
            other => panic!("{other:?}"),
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if !self.over.get() {
            let _ = self.control.shutdown(std::net::Shutdown::Both);
            let _ = waitpid(self.maker, None);
        }
    }
}

/// Enters new namespaces and forks the init into them; tells its process number, or what is refused.
fn make_node(user: User, control: OwnedFd, mut tell: UnixStream) -> i32 {
    if let Err(why) = enter_namespaces(user) {
        let _ = tell.write_all(why.as_bytes());
        return 1;
    }
    // SAFETY: this process has one thread.
    match unsafe { fork() }.unwrap() {
        ForkResult::Child => {
            let nowhere: Option<&str> = None;
            mount(nowhere, "/", nowhere, MsFlags::MS_REC | MsFlags::MS_PRIVATE, nowhere).unwrap();
            mount(Some("proc"), "/proc", Some("proc"), MsFlags::empty(), nowhere).unwrap();
            let status = init::run(InitOptions {
                name: "test".into(),
                control,
                purge_sockets: None,
                bind_hosts: None,
                caller: None,
            });
            // SAFETY: a plain system call. Nothing of this copy of the test is to be dropped.
            unsafe { libc::_exit(status) }
        }
        ForkResult::Parent { child } => {
            drop(control);
            write!(tell, "{child}").unwrap();
            drop(tell);
            match waitpid(child, None).unwrap() {
                WaitStatus::Exited(_, code) => code,
                WaitStatus::Signaled(_, signal, _) => 128 + signal as i32,
                other => panic!("{other:?}"),
            }
        }
    }
}

fn enter_namespaces(user: User) -> Result<(), String> {
    let kinds = CloneFlags::CLONE_NEWPID | CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWNET;
    let refused = |what: &str| {
        let what = what.to_owned();
        move |errno| format!("{what}: {errno}")
    };
    if user == User::RootOfTheMachine {
        return unshare(kinds).map_err(refused("new namespaces"));
    }
    if geteuid().is_root() {
        let (uid, gid) = (Uid::from_raw(NOBODY), Gid::from_raw(NOBODY));
        setgroups(&[]).and_then(|()| setresgid(gid, gid, gid)).map_err(refused("become nobody"))?;
        setresuid(uid, uid, uid).and_then(|()| set_dumpable(true)).map_err(refused("become nobody"))?;
    }
    let (uid, gid) = (geteuid(), getegid());
    unshare(kinds | CloneFlags::CLONE_NEWUSER).map_err(refused("new user namespace"))?;
    let (inner_uid, inner_gid) = if user == User::Ordinary { (uid.as_raw(), gid.as_raw()) } else { (0, 0) };
    for (file, content) in [
        ("setgroups", "deny".to_owned()),
        ("uid_map", format!("{inner_uid} {uid} 1")),
        ("gid_map", format!("{inner_gid} {gid} 1")),
    ] {
        fs::write(format!("/proc/self/{file}"), content).map_err(|error| format!("write {file}: {error}"))?;
    }
    Ok(())
}

/// What was printed to `stream`, line by line.
pub(crate) fn printed(events: &[InitEvent], wanted: OutputStream) -> Vec<&str> {
    let line = |event| match event {
        &InitEvent::Printed { stream, ref line, .. } if stream == wanted => Some(line.as_str()),
        _ => None,
    };
    events.iter().filter_map(line).collect()
}

/// What was reported.
pub(crate) fn reported(events: &[InitEvent]) -> Vec<NodeReport> {
    let report = |event: &InitEvent| match event {
        InitEvent::Reported { report, .. } => Some(report.clone()),
        _ => None,
    };
    events.iter().filter_map(report).collect()
}

/// Processes whose command line contains `marker`.
pub(crate) fn processes_with(marker: &str) -> Vec<Pid> {
    all_processes()
        .filter(|pid| fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| contains(&line, marker.as_bytes())))
        .collect()
}

/// The children of `parent` and the letter of their state.
pub(crate) fn children(parent: Pid) -> Vec<(Pid, char)> {
    let state = |pid: Pid| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let mut fields = stat.rsplit_once(") ")?.1.split(' ');
        let letter = fields.next()?.chars().next()?;
        (fields.next()? == parent.to_string()).then_some((pid, letter))
    };
    all_processes().filter_map(state).collect()
}

fn all_processes() -> impl Iterator<Item = Pid> {
    let number = |entry: std::io::Result<fs::DirEntry>| entry.ok()?.file_name().to_str()?.parse().ok();
    fs::read_dir("/proc").unwrap().filter_map(number).map(Pid::from_raw)
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window == part)
}
