//! `multiserver`: its console on pipes and on a terminal, and what becomes of its servers.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsFd, FromRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, Command, ExitStatus, Output, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::time::Instant;

use event::{NodeReport, SourceState};
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::pty::{OpenptyResult, Winsize, openpty};
use nix::sys::signal::{Signal, kill};
use nix::sys::termios::{LocalFlags, tcgetattr};
use nix::unistd::Pid;

use crate::ports::Ports;
use crate::process::{Download, Process, noise};
use crate::wire::request;

/// A file, and ports to serve it on.
struct Setting {
    folder: tempfile::TempDir,
    file: Vec<u8>,
    ports: Ports,
}

impl Setting {
    fn new(len: usize, ports: usize) -> Self {
        let (folder, file) = (tempfile::tempdir().unwrap(), noise(len));
        std::fs::write(folder.path().join("movie"), &file).unwrap();
        Setting { folder, file, ports: Ports::free(ports) }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// `multiserver` in the folder of the file.
    fn command(&self, servers: usize, more: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_multiserver"));
        command.current_dir(self.folder.path()).args(["-f", "movie", "-a", "127.0.0.1", "-n", &servers.to_string()]);
        command.args(more).arg("-p").args(self.ports.iter().map(u16::to_string));
        command
    }

    /// Runs it to its end; for command lines that are refused.
    fn refused(&self, servers: usize, more: &[&str]) -> (Option<i32>, String) {
        let Output { status, stderr, stdout } =
            self.command(servers, more).stdin(Stdio::null()).output().expect("it starts");
        assert!(stdout.is_empty(), "nothing was started");
        (status.code(), String::from_utf8(stderr).unwrap())
    }

    fn download(&self, more: &[&str]) -> Download {
        let ports: Vec<_> = self.ports.iter().map(u16::to_string).collect();
        let args = ["-a", "127.0.0.1", "-p"].into_iter().chain(ports.iter().map(String::as_str));
        Download::with(args.chain(more.iter().copied()), &self.path("out"))
    }

    fn assert_right(&self) {
        assert!(std::fs::read(self.path("out")).unwrap() == self.file, "another file came out");
    }

    /// Processes whose words name this port.
    fn processes_at(&self, parent: &Process, port: u16) -> Vec<Pid> {
        let (parent, port) = (format!(" {} ", parent.child.id()), format!("--port\0{port}\0"));
        let is_it = |pid: &i32| {
            let read = |name: &str| std::fs::read_to_string(format!("/proc/{pid}/{name}")).unwrap_or_default();
            read("stat").contains(&parent) && read("cmdline").contains(&port)
        };
        pids().filter(is_it).map(Pid::from_raw).collect()
    }
}

fn pids() -> impl Iterator<Item = i32> {
    std::fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
}

/// A running `multiserver` on pipes, and everything that it says.
struct Console {
    process: Process,
    input: Option<ChildStdin>,
    lines: Receiver<String>,
}

impl Console {
    /// Waits until all its servers live. The interval is an hour unless given: what is seen is told when it happens.
    fn start(setting: &Setting, servers: usize, more: &[&str]) -> Console {
        let mut command = setting.command(servers, more);
        if !more.contains(&"-i") {
            command.args(["-i", "3600"]);
        }
        let mut console = Console::of(command);
        for number in 1..=servers {
            console.wait_for(&format!("Server {number} "), "Alive");
        }
        console
    }

    fn of(mut command: Command) -> Console {
        let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
        let mut process = Process { child: child.unwrap() };
        let (tell, lines) = mpsc::channel();
        let outputs: [Box<dyn Read + Send>; 2] =
            [Box::new(process.child.stdout.take().unwrap()), Box::new(process.child.stderr.take().unwrap())];
        for output in outputs {
            let tell = tell.clone();
            std::thread::spawn(move || {
                BufReader::new(output).lines().map_while(Result::ok).try_for_each(|l| tell.send(l))
            });
        }
        let input = process.child.stdin.take();
        Console { process, input, lines }
    }

    fn enter(&mut self, line: &str) {
        self.input.as_mut().unwrap().write_all(format!("{line}\n").as_bytes()).unwrap();
    }

    /// Waits for a line that begins so and has this in it.
    fn wait_for(&mut self, start: &str, part: &str) -> String {
        let mut seen = Vec::new();
        loop {
            let Ok(line) = self.lines.recv() else {
                panic!("it ended before `{start}…{part}`:\n{}", seen.join("\n"))
            };
            if line.starts_with(start) && line.contains(part) {
                return line;
            }
            seen.push(line);
        }
    }

    fn end(mut self) -> ExitStatus {
        self.process.child.wait().unwrap()
    }
}

#[test]
fn a_client_finds_the_servers_with_and_without_a_check_server() {
    for (servers, ports) in [(3, 4), (3, 3)] {
        let setting = Setting::new(3_000_000, ports);
        let mut console = Console::start(&setting, servers, &[]);
        let ended = setting.download(&[]).end();
        assert!(ended.status.success(), "{}", ended.stderr);
        setting.assert_right();
        console.enter("-1");
        assert_eq!(console.end().code(), Some(0));
    }
}

#[test]
fn a_server_killed_from_outside_is_dead_at_once_and_can_be_woken_up() {
    let setting = Setting::new(100_000, 3);
    let mut console = Console::start(&setting, 2, &[]);
    let found = setting.processes_at(&console.process, setting.ports[1]);
    let [server] = found[..] else { panic!("a process of its own: {found:?}") };
    let process = pidfd(server.as_raw());
    let killed = clock();
    kill(server, Signal::SIGKILL).unwrap();
    console.wait_for("Server 2 ", "Status: Dead");
    // Blocks come every hour here: only the death itself can have brought this one. Usually after less than 5 ms.
    println!("shown {:?} after the kill", killed.elapsed());
    wait_for_end(&process);
    assert!(TcpStream::connect(("127.0.0.1", setting.ports[1])).is_err(), "nobody holds its port for it");
    console.enter("2");
    console.wait_for("Server 2 ", "Status: Alive");
    assert_eq!(request(setting.ports[1], "GET /movie", &[]).body, setting.file);
}

#[test]
fn servers_are_shut_down_and_woken_up_during_a_download() {
    // So slow that it would take a minute: it is not over before all of these are heard.
    let setting = Setting::new(12_000_000, 3);
    let mut console = Console::start(&setting, 2, &["--rate", "800kbit"]);
    let mut download = setting.download(&[]);
    download.wait_for_bytes(100_000);
    console.enter("1\n2");
    let mut sources = BTreeMap::new();
    wait_for_sources(&mut download, &mut sources, [SourceState::Dead; 2]);
    console.enter("1");
    wait_for_sources(&mut download, &mut sources, [SourceState::Alive, SourceState::Dead]);
    console.enter("2");
    wait_for_sources(&mut download, &mut sources, [SourceState::Alive; 2]);
    // The rest comes from servers that have no such bound.
    console.enter("-1");
    assert_eq!(console.end().code(), Some(0));
    let _console = Console::start(&setting, 2, &[]);
    let ended = download.end();
    assert!(ended.status.success(), "{}", ended.stderr);
    setting.assert_right();
}

/// Waits until the downloader has found servers 1 and 2 to be so, in whatever order. `sources` is what it said before.
fn wait_for_sources(
    download: &mut Download,
    sources: &mut BTreeMap<String, SourceState>,
    [first, second]: [SourceState; 2],
) {
    let wanted = [("Server 1", first), ("Server 2", second)];
    while !wanted.iter().all(|(name, state)| sources.get(*name) == Some(state)) {
        match download.next() {
            Some(NodeReport::Source { source, state, .. }) => _ = sources.insert(source, state),
            Some(_) => {}
            None => panic!("the download ended before it found {wanted:?}: {sources:?}"),
        }
    }
}

#[test]
fn a_frozen_server_is_not_called_alive() {
    let setting = Setting::new(1000, 2);
    let mut console = Console::start(&setting, 1, &[]);
    let server = setting.processes_at(&console.process, setting.ports[0])[0];
    kill(server, Signal::SIGSTOP).unwrap();
    console.wait_for("Server 1 ", "Status: Dead");
    kill(server, Signal::SIGCONT).unwrap();
    console.wait_for("Server 1 ", "Status: Alive");
    // Frozen, it does not hear that it should end, and is made to.
    kill(server, Signal::SIGSTOP).unwrap();
    console.enter("1");
    console.wait_for("Server 1 ", "shut down");
}

#[test]
fn the_check_server_can_be_woken_up_but_not_shut_down() {
    let setting = Setting::new(1000, 2);
    let mut console = Console::start(&setting, 1, &[]);
    console.enter("2");
    console.wait_for("`2` is not a choice", "");
    let check = setting.processes_at(&console.process, setting.ports[1])[0];
    kill(check, Signal::SIGKILL).unwrap();
    console.wait_for("the check server", "was killed by signal 9; enter 2 to start it again");
    console.enter("2");
    console.wait_for("the check server", "is up");
    assert_eq!(request(setting.ports[1], "GET /status", &[]).status, 200);
}

#[test]
fn wrong_input_is_answered_and_the_end_of_input_ends_nothing() {
    let setting = Setting::new(1000, 1);
    let mut console = Console::start(&setting, 1, &[]);
    for wrong in ["2", "0", "-2", "quit", "1 1", "\x1b[2J", &"9".repeat(10_000)] {
        console.enter(wrong);
        let answer = console.wait_for("`", "is not a choice: enter 1 for the server, or -1 to quit");
        assert!(answer.len() < 400 && !answer.contains('\x1b'), "{answer:?}");
    }
    console.enter("");
    console.wait_for("Server 1 ", "Status: Alive");
    console.input = None;
    assert_eq!(request(setting.ports[0], "GET /movie", &[]).status, 200);
    console.process.signal(Signal::SIGTERM);
    assert_eq!(console.end().code(), Some(130));
    assert!(TcpListener::bind(("127.0.0.1", setting.ports[0])).is_ok(), "its servers are gone before it is");
}

#[test]
fn a_reader_that_does_not_read_holds_up_nothing() {
    let setting = Setting::new(1000, 1);
    let (unread, mut full) = std::io::pipe().unwrap();
    let blocking = fcntl(&full, FcntlArg::F_GETFL).map(OFlag::from_bits_truncate).unwrap();
    fcntl(&full, FcntlArg::F_SETFL(blocking | OFlag::O_NONBLOCK)).unwrap();
    while full.write(&[0; 4096]).is_ok() {}
    fcntl(&full, FcntlArg::F_SETFL(blocking)).unwrap();
    let mut command = setting.command(1, &["-i", "0.01"]);
    let child = command.stdin(Stdio::piped()).stdout(full).stderr(Stdio::piped()).spawn().unwrap();
    let mut process = Process { child };
    process.child.stdin.as_mut().unwrap().write_all(b"1\n1\nx\n-1\n").unwrap();
    assert_eq!(process.child.wait().unwrap().code(), Some(0));
    drop(unread);
}

#[test]
fn a_line_every_interval_without_being_asked() {
    let setting = Setting::new(1000, 1);
    let mut console = Console::start(&setting, 1, &["-i", "0.01"]);
    for _ in 0..5 {
        console.wait_for("Server 1 at Port: ", "Status: Alive To shut down/wake up enter 1");
        console.wait_for("To quit, enter -1:", "");
        assert_eq!(console.wait_for("Enter your Choice:", ""), "Enter your Choice:");
    }
}

#[test]
fn it_ends_when_a_client_has_everything() {
    let setting = Setting::new(2_000_000, 3);
    let mut console = Console::start(&setting, 2, &["--until-done"]);
    let ended = setting.download(&[]).end();
    assert!(ended.status.success(), "{}", ended.stderr);
    setting.assert_right();
    console.wait_for("a client has everything", "");
    assert_eq!(console.end().code(), Some(0));
}

#[test]
fn kill_9_leaves_no_server() {
    let setting = Setting::new(1000, 4);
    let mut console = Console::start(&setting, 3, &[]);
    let folder = setting.folder.path().canonicalize().unwrap();
    let at_work: Vec<_> = processes_in(&folder).into_iter().map(pidfd).collect();
    assert_eq!(at_work.len(), 5, "itself, three servers and their check server");
    console.process.kill();
    at_work.iter().for_each(wait_for_end);
    assert!(processes_in(&folder).is_empty());
    for port in setting.ports.iter() {
        assert!(TcpListener::bind(("127.0.0.1", *port)).is_ok(), "port {port} is free again");
    }
}

/// Processes whose working directory this is.
fn processes_in(folder: &Path) -> Vec<i32> {
    pids().filter(|pid| std::fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|cwd| cwd == folder)).collect()
}

/// Waits until a process has ended, sockets and all.
fn wait_for_end(process: &OwnedFd) {
    poll(&mut [PollFd::new(process.as_fd(), PollFlags::POLLIN)], PollTimeout::NONE).unwrap();
}

fn pidfd(pid: i32) -> OwnedFd {
    // SAFETY: the system call takes a process id and flags, and returns a descriptor that nobody else owns.
    #[allow(unsafe_code, reason = "pidfd_open has no wrapper")]
    unsafe {
        let fd = libc::syscall(libc::SYS_pidfd_open, pid, 0);
        assert!(fd >= 0, "pidfd_open: {}", std::io::Error::last_os_error());
        OwnedFd::from_raw_fd(fd as i32)
    }
}

#[test]
fn a_wrong_command_line_starts_nothing_and_is_told_in_one_line() {
    let mut setting = Setting::new(1000, 3);
    let ports = setting.ports.to_vec();
    let one_line = |(status, said): (Option<i32>, String), wanted: i32, part: &str| {
        assert_eq!(status, Some(wanted), "{said}");
        assert!(said.starts_with("error: ") && said.contains(part) && said.lines().count() == 1, "{said}");
    };
    one_line(setting.refused(4, &[]), 2, "-n 4 needs 4 ports, or 5 with the check server's, not 3");
    one_line(setting.refused(3, &["--until-done"]), 2, "--until-done needs a check server");
    one_line(setting.refused(3, &["--rate", "0bit"]), 2, "--rate 0");
    one_line(setting.refused(3, &["-p", "80"]), 2, "ports are from 1024 to 65535, not 80");
    one_line(setting.refused(4, &["-p", &ports[0].to_string()]), 2, &format!("port {} is given more", ports[0]));
    // All that are taken are named, and the one in the middle is not.
    let _taken = [0, 2].map(|index: usize| TcpListener::bind(("127.0.0.1", ports[index])).unwrap());
    one_line(setting.refused(3, &[]), 3, &format!("ports {}, {} are taken", ports[0], ports[2]));
    setting.ports = Ports::free(1);
    std::fs::remove_file(setting.path("movie")).unwrap();
    one_line(setting.refused(1, &[]), 3, "cannot serve movie: No such file");
    std::fs::create_dir(setting.path("movie")).unwrap();
    one_line(setting.refused(1, &[]), 3, "cannot serve movie: not a regular file");
    std::fs::remove_dir(setting.path("movie")).unwrap();
    nix::unistd::mkfifo(&setting.path("movie"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    one_line(setting.refused(1, &[]), 3, "cannot serve movie: not a regular file");
}

#[test]
fn a_server_that_cannot_start_is_dead_and_says_why() {
    let setting = Setting::new(1000, 2);
    let mut console = Console::start(&setting, 2, &[]);
    console.enter("1");
    console.wait_for("Server 1 ", "shut down");
    let taken = TcpListener::bind(("127.0.0.1", setting.ports[0])).unwrap();
    console.enter("1");
    console.wait_for("Server 1 ", "could not start: cannot listen on 127.0.0.1:");
    drop(taken);
    console.enter("1");
    console.wait_for("Server 1 ", "Status: Alive");
}

/// A terminal that `multiserver` runs on, from the side of the person.
struct Terminal {
    person: std::fs::File,
    slave: OwnedFd,
    seen: String,
}

impl Terminal {
    fn new() -> Terminal {
        let size = Winsize { ws_row: 24, ws_col: 80, ws_xpixel: 0, ws_ypixel: 0 };
        let OpenptyResult { master, slave } = openpty(&size, None).unwrap();
        Terminal { person: master.into(), slave, seen: String::new() }
    }

    fn run(&self, mut command: Command) -> Process {
        let end = || Stdio::from(self.slave.as_fd().try_clone_to_owned().unwrap());
        let child = command.env("TERM", "xterm").stdin(end()).stdout(end()).stderr(end()).spawn();
        Process { child: child.unwrap() }
    }

    fn type_in(&mut self, keys: &str) {
        self.person.write_all(keys.as_bytes()).unwrap();
    }

    /// Reads on until this appears, and forgets what came before its end.
    fn wait_for(&mut self, text: &str) {
        let mut bytes = [0; 4096];
        loop {
            if let Some(at) = self.seen.find(text) {
                self.seen.drain(..at + text.len());
                return;
            }
            let read = self.person.read(&mut bytes).unwrap_or(0);
            assert!(read > 0, "it ended before `{text}`: {:?}", self.seen);
            self.seen.push_str(&String::from_utf8_lossy(&bytes[..read]));
        }
    }

    fn echoes(&self) -> bool {
        let flags = tcgetattr(&self.slave).unwrap().local_flags;
        assert_eq!(flags.contains(LocalFlags::ECHO), flags.contains(LocalFlags::ICANON));
        flags.contains(LocalFlags::ECHO)
    }
}

#[test]
fn on_a_terminal_the_block_is_refreshed_in_place_around_what_is_typed() {
    let setting = Setting::new(1000, 3);
    let mut terminal = Terminal::new();
    assert!(terminal.echoes());
    let mut process = terminal.run(setting.command(2, &["-i", "0.02"]));
    // Two lines of states, the line to quit, an empty one and the prompt below three: it goes up by seven.
    terminal.wait_for("\x1b[7A-----\x1b[K\r\nMultiServer Downloader\x1b[K\r\n-----\x1b[K\r\nServer 1 at Port: ");
    assert!(!terminal.echoes(), "an echo would land anywhere in a refresh");
    terminal.type_in("hel");
    for _ in 0..3 {
        terminal.wait_for("\r\n\x1b[K\r\nEnter your Choice: hel\x1b[K\x1b[J");
    }
    terminal.type_in("\x7fp\n");
    terminal.wait_for("`hep` is not a choice: enter 1 to 2 for a server, or -1 to quit\x1b[K\r\n-----");
    terminal.wait_for("Enter your Choice: \x1b[K");
    terminal.type_in("\x04");
    terminal.wait_for("the end of the input does not quit");
    terminal.type_in("2\n");
    terminal.wait_for("Status: Dead To shut down/wake up enter 2");
    terminal.type_in("2\n");
    terminal.wait_for("Status: Alive To shut down/wake up enter 2");
    terminal.type_in("-1\n");
    assert_eq!(process.child.wait().unwrap().code(), Some(0));
    assert!(terminal.echoes(), "the terminal is as it was");
}

#[test]
fn a_signal_gives_the_terminal_back() {
    let setting = Setting::new(1000, 1);
    let mut terminal = Terminal::new();
    let mut process = terminal.run(setting.command(1, &[]));
    terminal.wait_for("Status: Alive");
    process.signal(Signal::SIGINT);
    assert_eq!(process.child.wait().unwrap().code(), Some(130));
    assert!(terminal.echoes());
}

#[expect(clippy::disallowed_methods, reason = "a duration is printed, nothing is asserted of it")]
fn clock() -> Instant {
    Instant::now()
}
