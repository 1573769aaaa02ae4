//! Death at any instant leaves nothing.

use std::collections::BTreeSet;
use std::fs;
use std::io::Read;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, fork};

use super::child::{Who, in_child, obey, plan};

/// Living processes of a session: the test makes one, and no node leaves it.
fn members(session: Pid) -> BTreeSet<i32> {
    let stat = |pid: &str| fs::read_to_string(format!("/proc/{pid}/stat")).ok();
    let pids = fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    pids.filter(|name| name.bytes().all(|byte| byte.is_ascii_digit()))
        .filter_map(|pid| {
            let stat = stat(&pid)?;
            // After the name in brackets: state, parent, group, session.
            let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
            (fields.first()? != &"Z" && fields.get(3)? == &session.to_string()).then(|| pid.parse().ok())?
        })
        .collect()
}

/// Raises, says so through its life, and never ends by itself.
fn run_for_ever() -> ! {
    nix::unistd::setsid().unwrap();
    let plan = plan("name: t\nshaper: relay\nnodes: { n: { count: 8, run: [x] } }\n");
    let _ = fabric::sandbox::run(|sandbox| {
        let spawner = fabric::spawner::start(&sandbox, 2, obey).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let mut fabric = runtime.block_on(fabric::raise(&plan, spawner, fabric::Extras::default())).unwrap();
        let _nodes = fabric.take_nodes();
        loop {
            std::thread::park();
        }
    });
    std::process::exit(0)
}

fn await_nobody(session: Pid) {
    let started = Instant::now();
    while !members(session).is_empty() {
        assert!(started.elapsed() < Duration::from_secs(10), "left behind: {:?}", members(session));
        std::thread::yield_now();
    }
}

#[test]
fn of_the_outer_process_at_fifty_instants() {
    for who in [Who::Caller, Who::Ordinary] {
        in_child(who, || {
            for round in 0..25u64 {
                // SAFETY: this process has one thread.
                match unsafe { fork() }.unwrap() {
                    ForkResult::Child => run_for_ever(),
                    ForkResult::Parent { child } => {
                        // From before the first clone to after the last node is up, which takes about 20 ms.
                        let instant = Instant::now() + Duration::from_micros(round * round * 160);
                        while Instant::now() < instant {
                            std::hint::spin_loop();
                        }
                        kill(child, Signal::SIGKILL).unwrap();
                        assert_eq!(waitpid(child, None).unwrap(), WaitStatus::Signaled(child, Signal::SIGKILL, false));
                        await_nobody(child);
                    }
                }
            }
        });
    }
}

#[test]
fn a_signal_to_the_outer_process_reaches_the_sandbox() {
    in_child(Who::Ordinary, || {
        let outer = nix::unistd::getpid();
        // SAFETY: this process has one thread.
        if let ForkResult::Child = unsafe { fork() }.unwrap() {
            // Before the sandbox takes signals this one would end it: the outer process is asleep once it does.
            let asleep =
                || fs::read_to_string(format!("/proc/{outer}/wchan")).is_ok_and(|at| at.contains("sigtimedwait"));
            while !asleep() {
                std::thread::yield_now();
            }
            kill(outer, Signal::SIGTERM).unwrap();
            // SAFETY: ends without running the test harness's own handlers.
            unsafe { libc::_exit(0) }
        }
        let outcome = fabric::sandbox::run(|mut sandbox| {
            sandbox.signals.set_nonblocking(false).unwrap();
            let mut number = [0];
            sandbox.signals.read_exact(&mut number).unwrap();
            number[0]
        });
        assert_eq!(outcome.unwrap(), Signal::SIGTERM as u8);
    });
}
