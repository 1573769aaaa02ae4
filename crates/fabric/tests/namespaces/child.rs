//! Running a test's body where it may make a sandbox, and nodes that do what their control socket says.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use fabric::{Fabric, NodeStart, RaisedNode, Sandbox, sandbox, spawner};
use machine::Seed;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, Gid, Uid, fork, setresgid, setresuid};
use topology::{Overrides, Plan, Source};

/// Who a body runs as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Who {
    /// Whoever runs the tests.
    Caller,
    /// Nobody in particular, without any privilege.
    Ordinary,
}

/// Runs `body` in a child of one thread and fails if it panics there.
pub(crate) fn in_child(who: Who, body: impl FnOnce()) {
    // SAFETY: the child runs the body, which allocates: the C library makes its allocator usable after a fork.
    match unsafe { fork() }.unwrap() {
        ForkResult::Child => {
            let outcome = catch_unwind(AssertUnwindSafe(|| {
                if who == Who::Ordinary && Uid::effective().is_root() {
                    let nobody = (Uid::from_raw(65534), Gid::from_raw(65534));
                    nix::unistd::setgroups(&[]).unwrap();
                    setresgid(nobody.1, nobody.1, nobody.1).unwrap();
                    setresuid(nobody.0, nobody.0, nobody.0).unwrap();
                    // Changing users makes /proc/self root's.
                    nix::sys::prctl::set_dumpable(true).unwrap();
                }
                body();
            }));
            // SAFETY: ends without running the test harness's own handlers.
            unsafe { libc::_exit(i32::from(outcome.is_err())) }
        }
        ForkResult::Parent { child } => assert_eq!(waitpid(child, None).unwrap(), WaitStatus::Exited(child, 0)),
    }
}

pub(crate) fn plan(yaml: &str) -> Plan {
    topology::load(&Source::new("test.yaml", yaml), &Overrides::new(Seed::new(7))).unwrap_or_else(|why| panic!("{why}"))
}

/// Raises a plan in a sandbox and hands it to `body`.
pub(crate) fn raised(
    plan: &Plan,
    body: impl FnOnce(&Sandbox, &mut Fabric, &[RaisedNode], &tokio::runtime::Runtime) + Send,
) {
    let status = sandbox::run(|sandbox| {
        let spawner = spawner::start(&sandbox, 1, obey).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let mut fabric = runtime.block_on(fabric::raise(plan, spawner, fabric::Extras::default())).unwrap();
        let nodes = fabric.take_nodes();
        body(&sandbox, &mut fabric, &nodes, &runtime);
        runtime.block_on(fabric.lower()).unwrap();
        0
    });
    assert_eq!(status.unwrap(), 0);
}

/// Tells a node to do something and returns its answer, a line.
pub(crate) fn tell(node: &RaisedNode, command: &str) -> String {
    let mut control: &UnixStream = &node.control;
    control.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    control.write_all(format!("{command}\n").as_bytes()).unwrap();
    let mut answer = String::new();
    BufReader::with_capacity(1, control).read_line(&mut answer).unwrap();
    answer.trim().to_owned()
}

/// A node's first process in tests.
pub(crate) fn obey(start: NodeStart) -> i32 {
    let control = UnixStream::from(start.control);
    let mut listener = None;
    let mut kept = Vec::new();
    for line in BufReader::new(control.try_clone().unwrap()).lines() {
        let Ok(line) = line else { break };
        let mut words = line.split_whitespace();
        let answer = match (words.next(), words.next()) {
            (Some("name"), _) => start.name.clone(),
            (Some("pid"), _) => std::process::id().to_string(),
            (Some("listen"), Some(at)) => match TcpListener::bind(at) {
                Ok(bound) => {
                    listener = Some(bound);
                    "ok".to_owned()
                }
                Err(why) => why.to_string(),
            },
            (Some("accept"), _) => {
                kept.push(listener.as_ref().unwrap().accept().unwrap().0);
                "ok".to_owned()
            }
            // One that is to come about waits for as long as whoever asks; one that is not, for a second question.
            (Some(word @ ("connect" | "knock")), Some(at)) => {
                let patience = Duration::from_millis(if word == "connect" { 15_000 } else { 1500 });
                match TcpStream::connect_timeout(&at.parse::<SocketAddr>().unwrap(), patience) {
                    Ok(stream) => {
                        kept.push(stream);
                        "ok".to_owned()
                    }
                    Err(why) => why.kind().to_string(),
                }
            }
            (Some("say"), Some(what)) => match kept.last_mut().unwrap().write_all(what.as_bytes()) {
                Ok(()) => "ok".to_owned(),
                Err(why) => why.kind().to_string(),
            },
            (Some("hear"), _) => {
                let mut heard = [0; 5];
                let stream = kept.last_mut().unwrap();
                stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
                match stream.read_exact(&mut heard) {
                    Ok(()) => String::from_utf8_lossy(&heard).into_owned(),
                    Err(why) => why.kind().to_string(),
                }
            }
            (Some("pour"), Some(count)) => match kept.last_mut().unwrap().write_all(&vec![7; count.parse().unwrap()]) {
                Ok(()) => "ok".to_owned(),
                Err(why) => why.kind().to_string(),
            },
            (Some("drain"), Some(count)) => {
                match kept.last_mut().unwrap().read_exact(&mut vec![0; count.parse().unwrap()]) {
                    Ok(()) => "ok".to_owned(),
                    Err(why) => why.kind().to_string(),
                }
            }
            // Closing with unsent bytes leaves connections behind, as the death of a program does.
            (Some("close"), _) => {
                kept.clear();
                "ok".to_owned()
            }
            (Some("purge"), _) => fabric::purge_sockets().map_or_else(|why| why.to_string(), |ended| ended.to_string()),
            (Some("read"), Some(path)) => std::fs::read_to_string(path).unwrap_or_default().replace('\n', "|"),
            (Some("sh"), _) => {
                let output = std::process::Command::new("sh").args(["-c", &line[3..]]).output().unwrap();
                String::from_utf8_lossy(&output.stdout).trim().replace('\n', "|")
            }
            _ => "what?".to_owned(),
        };
        if (&control).write_all(format!("{answer}\n").as_bytes()).is_err() {
            break;
        }
    }
    0
}
