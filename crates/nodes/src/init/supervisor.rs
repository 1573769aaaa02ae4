//! The node's life: one program at a time, from its start until nothing of it is left.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use event::{ExitStatus, NodeReport};
use machine::{Span, Time};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::unistd::pipe2;

use super::clock;
use super::control::{Control, Gone};
use super::forwarding::set_forwarding;
use super::inherited::LAST_SIGNAL;
use super::launch::{ProgramEnds, launch};
use super::output::{Output, Read};
use super::ownership::hand_over;
use super::privilege::{Powers, User};
use super::processes::{Processes, Reaped};
use super::protocol::{Command, CommandName, DecodeError, InitEvent, OutputStream, Privilege, Ready, Start, reason};
use super::readiness::Lookout;
use super::reports::Reports;
use super::wipe::wipe;

/// Everything that the init knows.
#[derive(Debug)]
pub(super) struct Supervisor {
    pub(super) control: Control,
    processes: Processes,
    own: Powerful,
    /// What the node's `/etc/hosts` is, if it was told.
    hosts: Option<PathBuf>,
    program: Option<Program>,
    last_incarnation: Option<u32>,
}

/// What the init can do that its programs cannot, and for whom it does it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Powerful {
    pub(super) purge_sockets: Option<fn() -> io::Result<()>>,
    pub(super) bind_hosts: Option<fn(&Path) -> io::Result<()>>,
    pub(super) caller: Option<User>,
}

/// A program, and its descendants.
#[derive(Debug)]
struct Program {
    incarnation: u32,
    pid: i32,
    /// Once it has ended; its descendants may still be there.
    status: Option<ExitStatus>,
    end: End,
    paused: bool,
    forwards: bool,
    /// What it made may be another's than the caller's: its disk.
    made_by_root: Option<PathBuf>,
    stdout: Output,
    stderr: Output,
    reports: Reports,
    /// Its `ready` report is its readiness, and has not come.
    awaits_report: bool,
    lookout: Option<Lookout>,
}

/// How far its end is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    NotAsked,
    /// TERM was sent; KILL follows then.
    Asked(Time),
    /// KILL was sent to everything.
    Forced,
}

/// Why the init wants to wake up by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Why {
    /// The time between TERM and KILL is over.
    Grace,
    /// To look whether the program is ready.
    Readiness,
}

/// A source of bytes of the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    Reports,
    Stdout,
    Stderr,
}

impl Source {
    pub(super) const ALL: [Source; 3] = [Source::Reports, Source::Stdout, Source::Stderr];
}

impl Supervisor {
    pub(super) fn new(control: Control, processes: Processes, own: Powerful) -> Self {
        Supervisor { control, processes, own, hosts: None, program: None, last_incarnation: None }
    }

    /// Carries out one command and answers it.
    pub(super) fn command(&mut self, command: Result<Command, DecodeError>) {
        let command = match command {
            Ok(command) => command,
            Err(error) => return self.control.say(InitEvent::Rejected { command: None, why: reason(&error) }),
        };
        let name = command.name();
        let outcome = match command {
            Command::Start(start) => return self.start(&start),
            Command::Status => return self.control.say(self.status()),
            Command::Stop { grace } => {
                self.stop(grace);
                Ok(())
            }
            Command::Kill => {
                self.kill();
                Ok(())
            }
            Command::Signal { number } => self.signal(number),
            Command::Pause => self.set_paused(true),
            Command::Resume => self.set_paused(false),
            Command::Wipe { directory } => {
                self.while_idle().and_then(|()| wipe(&directory).map_err(|error| reason(&error)))
            }
            Command::PurgeSockets => self.while_idle().and_then(|()| match self.own.purge_sockets {
                Some(purge) => purge().map_err(|error| reason(&error)),
                None => Err("this engine has no way to destroy sockets".to_owned()),
            }),
        };
        self.control.say(match outcome {
            Ok(()) => InitEvent::Done { command: name },
            Err(why) => InitEvent::Rejected { command: Some(name), why },
        });
    }

    /// What to wait for on `source`, while it can bring anything.
    pub(super) fn pipe(&self, source: Source) -> Option<std::os::fd::BorrowedFd<'_>> {
        let program = self.program.as_ref()?;
        match source {
            Source::Reports => program.reports.pipe(),
            Source::Stdout => program.stdout.pipe(),
            Source::Stderr => program.stderr.pipe(),
        }
    }

    /// Takes what `source` has, up to a chunk.
    pub(super) fn read(&mut self, source: Source) -> Read {
        let (control, Some(program)) = (&mut self.control, &mut self.program) else {
            return Read::End;
        };
        match source {
            Source::Stdout => program.stdout.read(&mut |event| control.say(event)),
            Source::Stderr => program.stderr.read(&mut |event| control.say(event)),
            Source::Reports => {
                let awaits_report = &mut program.awaits_report;
                program.reports.read(clock::now(), &mut |event| pass_on(event, awaits_report, control))
            }
        }
    }

    /// Takes all that have ended, and finishes with the program when it and all its descendants have. To be called
    /// after whatever may have moved something.
    pub(super) fn settle(&mut self) {
        let mut none_left = false;
        loop {
            match self.processes.reap() {
                Reaped::Dead(pid, status) => self.bury(pid, status),
                Reaped::Alive => break,
                Reaped::NoneLeft => {
                    none_left = true;
                    break;
                }
            }
        }
        if none_left && self.program.as_ref().is_some_and(|program| program.status.is_some()) && self.drain() {
            self.finish();
        }
    }

    /// When to call [`advance`](Self::advance), and what for.
    pub(super) fn deadline(&self) -> Option<(Time, Why)> {
        let program = self.program.as_ref()?;
        let grace = match program.end {
            End::Asked(until) => Some((until, Why::Grace)),
            End::NotAsked | End::Forced => None,
        };
        let look = program.lookout.as_ref().map(|lookout| (lookout.next_look(), Why::Readiness));
        [grace, look].into_iter().flatten().min_by_key(|(time, _)| *time)
    }

    /// Does what is due.
    pub(super) fn advance(&mut self, now: Time) {
        let Some(program) = &mut self.program else {
            return;
        };
        if matches!(program.end, End::Asked(until) if until <= now) {
            program.end = End::Forced;
            self.processes.signal_all(libc::SIGKILL);
        }
        if program.lookout.as_mut().is_some_and(|lookout| lookout.look(now)) {
            program.lookout = None;
            self.control.say(InitEvent::Ready { incarnation: program.incarnation });
        }
    }

    /// Ends everything in the node, and with it the output of the program: to its last byte in the logs.
    pub(super) fn end(mut self) {
        self.processes.end_all();
        if let Some(mut program) = self.program.take() {
            for output in [&mut program.stdout, &mut program.stderr] {
                while output.read(&mut |_| ()) == Read::Some {}
            }
        }
        let _: Result<(), Gone> = self.control.flush();
    }

    fn start(&mut self, start: &Start) {
        if let Some(program) = &self.program {
            let why = format!("incarnation {} runs", program.incarnation);
            return self.control.say(InitEvent::Rejected { command: Some(CommandName::Start), why });
        }
        let incarnation = start.incarnation;
        self.last_incarnation = Some(incarnation);
        match self.prepare(start).and_then(|()| self.spawn(start)) {
            Ok(mut program) => {
                self.control.say(InitEvent::Started { incarnation, pid: program.pid });
                program.stdout.log_to(&start.stdout, &mut |event| self.control.say(event));
                program.stderr.log_to(&start.stderr, &mut |event| self.control.say(event));
                if start.ready == Ready::Started {
                    self.control.say(InitEvent::Ready { incarnation });
                }
                self.program = Some(program);
            }
            Err(why) => {
                if start.forward {
                    stop_forwarding();
                }
                self.control.say(InitEvent::StartFailed { incarnation, why });
            }
        }
    }

    /// Makes the node what the program expects.
    fn prepare(&mut self, start: &Start) -> Result<(), String> {
        if let Some(hosts) = start.hosts.as_ref().filter(|hosts| self.hosts.as_ref() != Some(hosts)) {
            let bind =
                self.own.bind_hosts.ok_or_else(|| "this engine has no way to give a node its own names".to_owned())?;
            bind(hosts)
                .map_err(|error| format!("cannot make {} its /etc/hosts: {}", hosts.display(), reason(&error)))?;
            self.hosts = Some(hosts.clone());
        }
        if start.forward {
            set_forwarding(true).map_err(|error| format!("cannot switch forwarding on: {}", reason(&error)))?;
        }
        Ok(())
    }

    fn spawn(&self, start: &Start) -> Result<Program, String> {
        let plumbing = |errno: Errno| format!("cannot make a pipe for it: {}", errno.desc().to_lowercase());
        let (stdout, stdout_end) = pipe_to_read().map_err(plumbing)?;
        let (stderr, stderr_end) = pipe_to_read().map_err(plumbing)?;
        let (reports, reports_end) = pipe_to_read().map_err(plumbing)?;
        let stdin = nothing_to_read().map_err(plumbing)?;
        let ends = ProgramEnds { stdin, stdout: stdout_end, stderr: stderr_end, events: reports_end };
        let pid = launch(start, Powers::of(start.privilege, self.own.caller), ends).map_err(|error| reason(&error))?;

        let output = |stream, pipe| Output::new(start.incarnation, stream, pipe, start.follow);
        Ok(Program {
            incarnation: start.incarnation,
            pid,
            status: None,
            end: End::NotAsked,
            paused: false,
            forwards: start.forward,
            made_by_root: (start.privilege == Privilege::Root).then(|| start.cwd.clone()),
            stdout: output(OutputStream::Stdout, stdout),
            stderr: output(OutputStream::Stderr, stderr),
            reports: Reports::new(start.incarnation, reports),
            awaits_report: start.ready == Ready::Event,
            lookout: Lookout::new(start, clock::now()),
        })
    }

    /// TERM now, KILL later. Frozen processes are thawed, or they would not see the former.
    fn stop(&mut self, grace: Span) {
        let Some(program) = &mut self.program else {
            return;
        };
        if program.end == End::Forced {
            return;
        }
        program.end = End::Asked(clock::now() + grace);
        program.paused = false;
        self.processes.signal_all(libc::SIGTERM);
        self.processes.signal_all(libc::SIGCONT);
    }

    fn kill(&mut self) {
        if let Some(program) = &mut self.program {
            program.end = End::Forced;
            if program.forwards {
                stop_forwarding();
            }
        }
        self.processes.signal_all(libc::SIGKILL);
    }

    fn signal(&mut self, number: i32) -> Result<(), String> {
        if !(1..=LAST_SIGNAL).contains(&number) {
            return Err(format!("{number} is not the number of a signal"));
        }
        let program = self.program.as_ref().filter(|program| program.status.is_none()).ok_or(NOTHING_RUNS)?;
        self.processes.signal(program.pid, number).map_err(|errno| errno.desc().to_lowercase())
    }

    fn set_paused(&mut self, paused: bool) -> Result<(), String> {
        let program = self.program.as_mut().filter(|program| program.end != End::Forced).ok_or(NOTHING_RUNS)?;
        program.paused = paused;
        if program.forwards {
            set_forwarding(!paused).map_err(|error| reason(&error))?;
        }
        self.processes.signal_all(if paused { libc::SIGSTOP } else { libc::SIGCONT });
        Ok(())
    }

    fn while_idle(&self) -> Result<(), String> {
        match &self.program {
            Some(program) => Err(format!("incarnation {} runs", program.incarnation)),
            None => Ok(()),
        }
    }

    fn status(&self) -> InitEvent {
        InitEvent::Status {
            incarnation: self.last_incarnation,
            pid: self.program.as_ref().map(|program| program.pid),
            paused: self.program.as_ref().is_some_and(|program| program.paused),
        }
    }

    /// `pid` has ended. When it was the program itself, its descendants end, too.
    fn bury(&mut self, pid: i32, status: ExitStatus) {
        let Some(program) = self.program.as_mut().filter(|program| program.pid == pid && program.status.is_none())
        else {
            return;
        };
        program.status = Some(status);
        program.lookout = None;
        program.end = End::Forced;
        if program.forwards {
            stop_forwarding();
        }
        self.processes.signal_all(libc::SIGKILL);
    }

    /// Takes the rest of what the dead have written; whether that was all. What is in the pipes now is all that there
    /// will ever be, as nobody is left to write, even if a process elsewhere was handed the other end.
    fn drain(&mut self) -> bool {
        for source in Source::ALL {
            while self.read(source) == Read::Some {
                if self.control.is_congested() {
                    return false;
                }
            }
        }
        true
    }

    fn finish(&mut self) {
        let (control, Some(program)) = (&mut self.control, self.program.take()) else {
            return;
        };
        let incarnation = program.incarnation;
        if let (Some(disk), Some(caller)) = (&program.made_by_root, self.own.caller)
            && let Err(error) = hand_over(disk, caller)
        {
            eprintln!("node init: files of another user are left in {}: {error}", disk.display());
        }
        let status = program.status.expect("finished with only after it has ended");
        let mut awaits_report = program.awaits_report;
        program.reports.finish(clock::now(), &mut |event| pass_on(event, &mut awaits_report, control));
        program.stdout.finish(&mut |event| control.say(event));
        program.stderr.finish(&mut |event| control.say(event));
        control.say(InitEvent::Exited { incarnation, status });
    }
}

/// Says what a program reported; and that it is ready, if that is what was waited for.
fn pass_on(event: InitEvent, awaits_report: &mut bool, control: &mut Control) {
    let ready = match event {
        InitEvent::Reported { incarnation, report: NodeReport::Ready } if *awaits_report => Some(incarnation),
        _ => None,
    };
    control.say(event);
    if let Some(incarnation) = ready {
        *awaits_report = false;
        control.say(InitEvent::Ready { incarnation });
    }
}

/// It has been switched on by the same process, so nothing can be in the way of this.
fn stop_forwarding() {
    let _never_refused = set_forwarding(false);
}

const NOTHING_RUNS: &str = "nothing runs";

/// A pipe whose first end the init reads without waiting. Neither end is inherited by itself.
fn pipe_to_read() -> Result<(OwnedFd, OwnedFd), Errno> {
    let (ours, theirs) = pipe2(OFlag::O_CLOEXEC)?;
    fcntl(&ours, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
    Ok((ours, theirs))
}

/// `/dev/null`; where there is none, a pipe that has ended.
fn nothing_to_read() -> Result<OwnedFd, Errno> {
    match File::open("/dev/null") {
        Ok(null) => Ok(null.into()),
        Err(_) => Ok(pipe2(OFlag::O_CLOEXEC)?.0),
    }
}
