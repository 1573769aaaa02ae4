//! The inner process: its main thread does what pid 1 has to, everything else runs in threads of its own.
//!
//! Orphans of the whole PID namespace become children of the main thread, while a child that another thread forked
//! stays that thread's. So a wait for the main thread's own children alone (`__WNOTHREAD`) reaps every stranger and
//! never takes an exit status that somebody waits for.
#![allow(unsafe_code, reason = "nix's waitpid wants to know every flag")]

use std::io::Write;
use std::os::unix::net::UnixStream;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process;
use std::thread;

use nix::sys::signal::{SigSet, Signal};

use super::Sandbox;
use super::guardian::next_signal;

/// The status of a process whose program panicked, as Rust's own runtime gives it.
const PANICKED: u8 = 101;

/// Runs `inside` in a thread and serves as pid 1 until it has returned; its result is the exit status.
pub(super) fn live(
    sandbox: Sandbox,
    mut signals: UnixStream,
    taken: SigSet,
    inside: impl FnOnce(Sandbox) -> u8 + Send,
) -> ! {
    thread::scope(|scope| {
        let body = move || -> () {
            let status = catch_unwind(AssertUnwindSafe(|| inside(sandbox))).unwrap_or(PANICKED);
            // Ends the main thread as well, and with pid 1 the kernel kills whatever else is left.
            process::exit(i32::from(status))
        };
        let started: Result<thread::ScopedJoinHandle<'_, ()>, _> =
            thread::Builder::new().name("conductor".into()).stack_size(8 << 20).spawn_scoped(scope, body);
        if started.is_err() {
            process::exit(i32::from(PANICKED));
        }
        loop {
            match next_signal(&taken) {
                Some((Signal::SIGCHLD, _)) => reap_orphans(),
                Some((signal, _)) => {
                    // Fails only when nobody wants to hear of signals any more.
                    let _ = signals.write_all(&[signal as u8]);
                }
                None => {}
            }
        }
    })
}

fn reap_orphans() {
    loop {
        let mut status = 0;
        // SAFETY: `status` is valid for the call, nothing else is passed.
        let pid = unsafe { libc::waitpid(-1, &mut status, libc::WNOHANG | libc::__WNOTHREAD) };
        if pid <= 0 {
            return;
        }
    }
}
