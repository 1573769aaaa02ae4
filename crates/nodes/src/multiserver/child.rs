//! A server's process: this executable under the name of a role. It dies with this process, however that dies.
#![allow(unsafe_code, reason = "what happens between fork and exec has no safe form")]

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::process::{ExitStatus, Stdio};

use event::NodeReport;
use nix::fcntl::{FcntlArg, FdFlag, OFlag, fcntl};
use nix::sys::prctl;
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, getpid, getppid, pipe2};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::net::unix::pipe;
use tokio::process::{Child, Command};
use tokio::sync::mpsc::{self, Sender, UnboundedReceiver, UnboundedSender};

use crate::events;

/// A longer line is cut into several, in bytes.
const LONGEST_LINE: u64 = 16 << 10;

/// What a process lets know.
#[derive(Debug)]
pub(super) enum Told {
    /// A report to the testbed.
    Report(NodeReport),
    /// A line of its log.
    Line(String),
    /// Whether it answers, as a client finds it.
    Answers(bool),
    /// It is no more, or never was: nothing comes after this.
    Ended(io::Result<ExitStatus>),
}

/// A process that was started; dropping this changes nothing.
#[derive(Debug)]
pub(super) struct Handle {
    signals: UnboundedSender<Signal>,
}

impl Handle {
    /// Sends a signal, if it still lives.
    pub(super) fn signal(&self, signal: Signal) {
        // Closed when it is no more.
        let _ = self.signals.send(signal);
    }
}

/// Starts `role` with `arguments`. Everything that it lets know goes to `tell`, together with `number`; last is its end.
///
/// Invariant: called by the thread that lives as long as the process, since the kernel takes the end of the starting
/// *thread* for the parent's death.
pub(super) fn start(role: &str, arguments: &[OsString], number: usize, tell: Sender<(usize, Told)>) -> Handle {
    let (signals, to_send) = mpsc::unbounded_channel();
    let started = spawn(role, arguments);
    tokio::spawn(async move {
        let ended = match started {
            Ok((child, said)) => accompany(child, said, to_send, number, &tell).await,
            Err(error) => Err(error),
        };
        // Closed when the console is.
        let _ = tell.send((number, Told::Ended(ended))).await;
    });
    Handle { signals }
}

/// One pipe for its log and its reports, so that what it says before it is ready is read before that.
fn spawn(role: &str, arguments: &[OsString]) -> io::Result<(Child, pipe::Receiver)> {
    let (read, write) = pipe2(OFlag::O_CLOEXEC)?;
    let said = pipe::Receiver::from_owned_fd(read)?;
    let (reports, parent) = (write.as_raw_fd(), getpid());
    let mut command = Command::new("/proc/self/exe");
    command.arg0(role).args(arguments).env(events::VARIABLE, reports.to_string());
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(write.try_clone()?);
    // Ctrl-C is for the console, which then ends its servers; and Ctrl-Z must not freeze them.
    command.process_group(0);
    // SAFETY: only system calls between fork and exec, nothing is allocated.
    unsafe {
        command.pre_exec(move || {
            prctl::set_pdeathsig(Signal::SIGKILL)?;
            if getppid() != parent {
                // Dead before the kernel was told to mind.
                return Err(io::ErrorKind::BrokenPipe.into());
            }
            // SAFETY: open until the spawn is over; this copy of it is the child's alone.
            let reports = BorrowedFd::borrow_raw(reports);
            fcntl(reports, FcntlArg::F_SETFD(FdFlag::empty()))?;
            Ok(())
        });
    }
    Ok((command.spawn()?, said))
}

/// Hands on what it says and sends it signals, until it is no more.
async fn accompany(
    mut child: Child,
    said: pipe::Receiver,
    mut signals: UnboundedReceiver<Signal>,
    number: usize,
    tell: &Sender<(usize, Told)>,
) -> io::Result<ExitStatus> {
    let listening = listen(said, number, tell);
    tokio::pin!(listening);
    let mut silent = false;
    loop {
        tokio::select! {
            biased;
            Some(signal) = signals.recv() => {
                // Not reaped yet, or there would be no id: it cannot be somebody else's.
                if let Some(pid) = child.id().and_then(|pid| i32::try_from(pid).ok()) {
                    let _ = kill(Pid::from_raw(pid), signal);
                }
            }
            // To the end of the pipe first: the last words tell why it died.
            () = &mut listening, if !silent => silent = true,
            status = child.wait(), if silent => return status,
        }
    }
}

async fn listen(said: pipe::Receiver, number: usize, tell: &Sender<(usize, Told)>) {
    let mut said = BufReader::new(said);
    let mut line = Vec::new();
    loop {
        line.clear();
        match (&mut said).take(LONGEST_LINE).read_until(b'\n', &mut line).await {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
        let text = String::from_utf8_lossy(&line);
        let text = text.trim_end();
        let told = match NodeReport::from_line(text) {
            Ok(report) => Told::Report(report),
            Err(_) => Told::Line(text.to_owned()),
        };
        if tell.send((number, told)).await.is_err() {
            return;
        }
    }
}
