//! What comes from stdin, read on a thread of its own.

use std::io::{IsTerminal, Read, stdin};
use std::os::fd::AsFd;
use std::time::Duration;

use nix::poll::{PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::unistd::{getpgrp, tcgetpgrp};
use tokio::sync::mpsc::{self, Receiver, Sender};

/// Between two looks whether the terminal is ours again.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// What a person or a pipe did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Typed {
    /// These bytes.
    Bytes(Vec<u8>),
    /// Took this program out of the background.
    Foreground,
}

/// Reads from now on; the channel closes at the end of the input.
pub(super) fn read() -> std::io::Result<Receiver<Typed>> {
    let (tell, typed) = mpsc::channel(16);
    std::thread::Builder::new().name("typing".into()).spawn(move || read_to_end(&tell))?;
    Ok(typed)
}

/// Whether a terminal listens to this program: whoever reads or changes it from the background is stopped. One that
/// does not control this program has no background.
pub(super) fn in_foreground(terminal: impl AsFd) -> bool {
    tcgetpgrp(terminal).map_or(true, |group| group == getpgrp())
}

fn read_to_end(tell: &Sender<Typed>) {
    // With this signal blocked, reading from the background is an error instead of a full stop.
    let _ = SigSet::from(Signal::SIGTTIN).thread_block();
    let is_terminal = stdin().is_terminal();
    let mut buffer = [0; 1024];
    loop {
        if is_terminal && !in_foreground(stdin()) {
            wait_for_foreground();
            if tell.blocking_send(Typed::Foreground).is_err() {
                return;
            }
        }
        let heard = match stdin().read(&mut buffer) {
            Ok(0) => return,
            Ok(read) => Typed::Bytes(buffer[..read].to_vec()),
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            // Read from the background; or the terminal is gone.
            Err(_) if is_terminal && !in_foreground(stdin()) => continue,
            Err(error) => {
                tracing::debug!(%error, "stdin ended");
                return;
            }
        };
        if tell.blocking_send(heard).is_err() {
            return;
        }
    }
}

/// Nothing tells a program that a shell has taken it to the foreground, if it was not stopped.
fn wait_for_foreground() {
    let pause = PollTimeout::try_from(LOOK_EVERY).expect("200 ms fit");
    while !in_foreground(stdin()) {
        // With no descriptors this only waits.
        let _ = poll(&mut [], pause);
    }
}
