//! Machines that cannot, and machines that could not keep up.

mod support;

use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use event::{Event, Record};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use support::{Place, binary, skip};

const LAB: &str = r#"
name: lab
seed: 1
nodes:
  one: { run: ["sleep", "6"] }
  two: { run: ["sleep", "1000"], link: { delay: 5ms } }
expect:
  one: { exit: 0 }
"#;

/// The process ids below `parent`, by what procfs says.
fn children(parent: u32) -> Vec<u32> {
    let listed = std::fs::read_to_string(format!("/proc/{parent}/task/{parent}/children")).unwrap_or_default();
    listed.split_whitespace().filter_map(|pid| pid.parse().ok()).collect()
}

/// Reads the records of a run as it goes on.
fn records(stdout: std::process::ChildStdout) -> impl Iterator<Item = Record> {
    let lines = std::io::BufRead::lines(std::io::BufReader::new(stdout));
    lines.map_while(Result::ok).filter_map(|line| Record::from_line(&line).ok())
}

#[test]
fn a_machine_that_stalls_again_and_again_makes_a_run_invalid() {
    let place = Place::new();
    let file = place.write("lab.yaml", LAB);
    let mut command = place.command();
    command.arg("run").arg(&file).arg("--format=json").stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().expect("testbed can be started");
    let mut records = records(child.stdout.take().expect("a pipe"));
    assert!(records.any(|record| record.event == Event::AllStarted), "the run starts");

    // The inner process holds relay and conductor. Ten stalls of 100 ms are a sixth of the run.
    let inner = children(child.id());
    assert_eq!(inner.len(), 1, "one inner process: {inner:?}");
    let inner = Pid::from_raw(inner[0] as i32);
    for _ in 0..10 {
        // A machine so slow that the run is over before stalls enough without help.
        if kill(inner, Signal::SIGSTOP).is_err() {
            break;
        }
        support::pause(std::time::Duration::from_millis(100), "this is the stall");
        kill(inner, Signal::SIGCONT).expect("what is stopped does not end");
        support::pause(std::time::Duration::from_millis(100), "between two stalls");
    }
    let ended = records.find_map(|record| match record.event {
        Event::RunEnded { causes, .. } => Some(causes),
        _ => None,
    });
    assert_eq!(child.wait().expect("a child can be waited for").code(), Some(4));
    let causes = ended.expect("a run ends with its verdict");
    assert!(causes[0].contains("starved"), "{causes:?}");
}

#[test]
fn where_user_namespaces_are_blocked_the_remedy_is_told() {
    // A user namespace in which no further one may be made stands in for a machine that forbids them.
    let place = Place::new();
    let file = place.write("lab.yaml", LAB);
    let script = format!(
        "echo 0 > /proc/sys/user/max_user_namespaces && exec setpriv --bounding-set=-all --inh-caps=-all {} run {}",
        binary().display(),
        file.display(),
    );
    let mut command = Command::new("unshare");
    command.args(["--user", "--map-root-user", "sh", "-c", &script]).current_dir(place.path()).env("NO_COLOR", "1");
    command.arg0("unshare");
    if !support::has_program("unshare") || !support::has_program("setpriv") {
        return skip("util-linux is not installed");
    }
    let ended = support::Ended { output: command.output().expect("unshare can be started") };
    ended.expect_status(3);
    let said = ended.stderr();
    assert!(said.contains("sysctl -w user.max_user_namespaces") && said.contains("sudo"), "{}", ended.told());
    assert!(!place.path().join("runs").join("lab").join("latest").exists(), "an abandoned run leaves no directory");
}
