//! The loop: waits for commands, output, reports, deaths and deadlines.

use std::os::fd::AsFd;

use machine::{Span, Time};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::time::TimeSpec;

use super::control::{Control, Gone};
use super::inherited::shed;
use super::output::Read;
use super::privilege::act_as;
use super::processes::Processes;
use super::protocol::InitEvent;
use super::supervisor::{Powerful, Source, Supervisor};
use super::{InitError, InitOptions, clock};

/// Serves the node until the conductor is gone, or TERM arrives from outside of the node.
pub(super) fn serve(options: InitOptions) -> Result<(), InitError> {
    let processes = Processes::of_this_node()?;
    shed(&options.name, options.control.as_fd())?;
    let signals = Signals::new()?;
    if let Some(caller) = options.caller {
        act_as(caller);
    }
    let mut supervisor = Supervisor::new(
        Control::new(options.control),
        processes,
        Powerful { purge_sockets: options.purge_sockets, bind_hosts: options.bind_hosts, caller: options.caller },
    );
    supervisor.control.say(InitEvent::Up);
    let outcome = live(&mut supervisor, &signals);
    supervisor.end();
    outcome
}

fn live(supervisor: &mut Supervisor, signals: &Signals) -> Result<(), InitError> {
    let mut commands = Vec::new();
    loop {
        if supervisor.control.flush() == Err(Gone) {
            return Ok(());
        }
        let happened = wait(supervisor, signals)?;
        if happened.control && supervisor.control.receive(&mut commands) == Err(Gone) {
            return Ok(());
        }
        if happened.signal && signals.take() == Asked::ToEnd {
            return Ok(());
        }
        for source in happened.sources.into_iter().flatten() {
            let _: Read = supervisor.read(source);
        }
        for command in commands.drain(..) {
            supervisor.command(command);
            // What a command ended or failed to start has to be known to the next one.
            supervisor.settle();
        }
        supervisor.settle();
        supervisor.advance(clock::now());
    }
}

/// What there is to do.
#[derive(Default)]
struct Happened {
    control: bool,
    signal: bool,
    sources: [Option<Source>; Source::ALL.len()],
}

fn wait(supervisor: &Supervisor, signals: &Signals) -> Result<Happened, InitError> {
    let control = &supervisor.control;
    let mut wanted = PollFlags::empty();
    wanted.set(PollFlags::POLLIN, !control.is_choked());
    wanted.set(PollFlags::POLLOUT, control.has_unsent());
    let mut fds = vec![PollFd::new(control.as_fd(), wanted), PollFd::new(signals.0.as_fd(), PollFlags::POLLIN)];
    let mut sources = Vec::with_capacity(Source::ALL.len());
    if !control.is_congested() {
        for source in Source::ALL {
            if let Some(pipe) = supervisor.pipe(source) {
                fds.push(PollFd::new(pipe, PollFlags::POLLIN));
                sources.push(source);
            }
        }
    }
    let timeout = supervisor.deadline().map(|(time, _why)| remaining(time));
    match ppoll(&mut fds, timeout, None) {
        Ok(_) => {}
        Err(Errno::EINTR) => return Ok(Happened::default()),
        Err(source) => return Err(InitError::System { call: "wait in ppoll", source }),
    }
    let woke = |fd: &PollFd<'_>, flags: PollFlags| fd.revents().is_some_and(|found| found.intersects(flags));
    let input = PollFlags::POLLIN | PollFlags::POLLHUP | PollFlags::POLLERR;
    let mut happened =
        Happened { control: woke(&fds[0], input), signal: woke(&fds[1], input), sources: Default::default() };
    for (index, source) in sources.into_iter().enumerate() {
        happened.sources[index] = woke(&fds[index + 2], input).then_some(source);
    }
    Ok(happened)
}

fn remaining(until: Time) -> TimeSpec {
    let span = until.since(clock::now()).min(Span::from_secs(3600));
    TimeSpec::from_duration(span.into())
}

/// Signals as something to read.
struct Signals(SignalFd);

#[derive(Clone, Copy, PartialEq, Eq)]
enum Asked {
    Nothing,
    ToEnd,
}

impl Signals {
    fn new() -> Result<Self, InitError> {
        let set = SigSet::from_iter([Signal::SIGCHLD, Signal::SIGTERM]);
        SignalFd::with_flags(&set, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)
            .map(Signals)
            .map_err(|source| InitError::System { call: "make a signalfd", source })
    }

    /// Takes what has arrived. Who has died is found out by reaping: signals of a kind merge.
    fn take(&self) -> Asked {
        let mut asked = Asked::Nothing;
        while let Ok(Some(signal)) = self.0.read_signal() {
            // A sender of the node itself has a number here: its programs do not end the init.
            if signal.ssi_signo == Signal::SIGTERM as u32 && signal.ssi_pid == 0 {
                asked = Asked::ToEnd;
            }
        }
        asked
    }
}
