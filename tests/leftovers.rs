//! Nothing is left behind, whatever happens to `testbed`; and the host is never touched.

mod support;

use std::fs;
use std::os::fd::{AsFd, FromRawFd, OwnedFd};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use machine::Seed;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use rand::RngExt;
use support::{Place, topology};

/// Nodes on a bridge and on a relay, one of which does all it can to outlive its parent.
const LAB: &str = r#"
name: lab
timeout: 60s
networks:
  quick: {}
  slow: {}
nodes:
  daemon:
    run: ["sh", "-c", "trap '' TERM HUP INT; setsid sh -c \"trap '' TERM HUP INT; sleep 1000 & sleep 1000\" & sleep 1000"]
    networks: { slow: { link: { delay: 5ms } } }
  other: { run: ["sleep", "1000"], count: 6, networks: { quick: {} } }
expect:
  daemon: { exit: 0 }
"#;

/// Processes whose words or environment name `place`: everything that a run there has started.
fn processes_of(place: &Path) -> Vec<String> {
    let needle = place.to_str().expect("temporary folders have plain names").as_bytes();
    let names_it =
        |path: &Path| fs::read(path).is_ok_and(|bytes| bytes.windows(needle.len()).any(|window| window == needle));
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").expect("procfs is there").flatten() {
        let pid = entry.file_name().to_string_lossy().into_owned();
        let is_process = pid.bytes().all(|byte| byte.is_ascii_digit());
        let stat = fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
        let is_zombie = stat.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with('Z'));
        let ours = names_it(&entry.path().join("cmdline")) || names_it(&entry.path().join("environ"));
        if is_process && !is_zombie && ours {
            let words = fs::read(entry.path().join("cmdline")).unwrap_or_default();
            found.push(format!("{pid} {}", String::from_utf8_lossy(&words).replace('\0', " ")));
        }
    }
    found
}

fn pidfd(child: &Child) -> OwnedFd {
    // SAFETY: the system call takes a process id and flags, and returns a descriptor that nobody else owns.
    #[allow(unsafe_code, reason = "pidfd_open has no wrapper")]
    unsafe {
        let fd = libc::syscall(libc::SYS_pidfd_open, child.id(), 0);
        assert!(fd >= 0, "pidfd_open: {}", std::io::Error::last_os_error());
        OwnedFd::from_raw_fd(fd as i32)
    }
}

/// Waits until the process has ended, or this long.
fn ends_within(pidfd: &OwnedFd, limit: Duration) -> bool {
    let mut fds = [PollFd::new(pidfd.as_fd(), PollFlags::POLLIN)];
    let timeout = PollTimeout::try_from(limit).expect("limits of tests are short");
    poll(&mut fds, timeout).expect("a pidfd can be polled") > 0
}

#[track_caller]
fn assert_nothing_is_left(place: &Path, what: &str) {
    #[allow(clippy::disallowed_methods, reason = "a limit for what should be gone at once")]
    let patience = Instant::now() + Duration::from_secs(30);
    loop {
        let left = processes_of(place);
        if left.is_empty() {
            return;
        }
        #[allow(clippy::disallowed_methods, reason = "a limit for what should be gone at once")]
        let late = Instant::now() > patience;
        assert!(!late, "{what}: left behind: {left:#?}");
        std::thread::yield_now();
    }
}

#[test]
fn kill_9_at_any_instant_leaves_no_process() {
    let place = Place::new();
    let file = place.write("lab.yaml", LAB);
    let before = Host::look();
    let seed = Seed::new(std::env::var("TESTBED_TEST_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(20));
    let mut instants = seed.derive("kill instants").stream();
    let mut killed = 0;
    for round in 0..50 {
        let mut command = place.command();
        command.arg("run").arg(&file).stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = command.spawn().expect("testbed can be started");
        // Half of the instants lie in the first 40 ms, where namespaces and links are being made.
        let longest = if instants.random_ratio(1, 2) { 40_000 } else { 600_000 };
        let instant = Duration::from_micros(instants.random_range(0..longest));
        let ended = ends_within(&pidfd(&child), instant);
        killed += u32::from(!ended);
        child.kill().expect("a child can be killed");
        child.wait().expect("a child can be waited for");
        assert_nothing_is_left(place.path(), &format!("round {round}, killed after {instant:?}, seed {seed}"));
    }
    assert!(killed >= 45, "the run must still go on when it is killed; it did in {killed} rounds of 50");
    before.expect_unchanged();
}

#[test]
fn an_interrupted_run_says_so_and_leaves_nothing() {
    let place = Place::new();
    let file = place.write("lab.yaml", LAB);
    let mut command = place.command();
    command.arg("run").arg(&file).arg("--format=json").stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().expect("testbed can be started");
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(child.stdout.take().expect("a pipe")));
    let all_started = |line: &std::io::Result<String>| line.as_ref().is_ok_and(|line| line.contains("all-started"));
    assert!(lines.any(|line| all_started(&line)), "the run starts");
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(child.id() as i32), nix::sys::signal::Signal::SIGINT).unwrap();
    lines.for_each(drop);
    let status = child.wait().expect("a child can be waited for");
    assert_eq!(status.code(), Some(130));
    assert_nothing_is_left(place.path(), "after SIGINT");
}

#[test]
fn an_interrupt_while_files_are_made_does_not_wait_for_them() {
    let place = Place::new();
    let text = "name: big\nfiles: { blob: { size: 8GiB } }\nnodes:\n  one: { run: [\"true\"], files: { blob: blob } }\nexpect:\n  one: { exit: 0 }\n";
    let file = place.write("big.yaml", text);
    let mut command = place.command();
    command.arg("run").arg(&file).arg("--format=json").stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().expect("testbed can be started");
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(child.stdout.take().expect("a pipe")));
    let began = |line: &std::io::Result<String>| line.as_ref().is_ok_and(|line| line.contains("run-began"));
    assert!(lines.any(|line| began(&line)), "the run begins");
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(child.id() as i32), nix::sys::signal::Signal::SIGINT).unwrap();
    let ended = ends_within(&pidfd(&child), Duration::from_secs(10));
    assert!(ended, "8 GiB take longer to write and to copy than an interrupt may");
    assert_eq!(child.wait().expect("a child can be waited for").code(), Some(130));
    assert_nothing_is_left(place.path(), "after SIGINT");
}

#[test]
fn a_whole_run_changes_nothing_on_the_host() {
    let before = Host::look();
    let place = Place::new();
    place.run(&topology("failover.yaml"), &["--set", "files.movie.size=4MiB"]);
    assert_nothing_is_left(place.path(), "after a run");
    before.expect_unchanged();
}

/// What a run must not touch, as independent witnesses tell it.
#[derive(Debug, PartialEq)]
struct Host {
    facts: Vec<(String, String)>,
}

impl Host {
    fn look() -> Self {
        let mut facts = Vec::new();
        for words in [
            &["ip", "-o", "link", "show"][..],
            &["ip", "-o", "address", "show"],
            &["ip", "route", "show", "table", "all"],
            &["ip", "-6", "route", "show", "table", "all"],
            &["ip", "rule", "show"],
            &["tc", "qdisc", "show"],
        ] {
            let output = Command::new(words[0]).args(&words[1..]).output();
            let text =
                output.map_or_else(|error| error.to_string(), |output| String::from_utf8_lossy(&output.stdout).into());
            facts.push((words.join(" "), without_lifetimes(&text)));
        }
        let mut sysctls = String::new();
        read_all(Path::new("/proc/sys/net"), &mut sysctls);
        facts.push(("/proc/sys/net".to_owned(), sysctls));
        let mounts = fs::read_to_string("/proc/self/mountinfo").expect("procfs is there");
        facts.push(("mounts".to_owned(), mounts));
        Host { facts }
    }

    #[track_caller]
    fn expect_unchanged(&self) {
        let after = Host::look();
        for ((what, before), (_, after)) in self.facts.iter().zip(&after.facts) {
            assert_eq!(before, after, "{what} has changed");
        }
    }
}

/// Leaves out what counts down by itself.
fn without_lifetimes(text: &str) -> String {
    let word = |line: &str| {
        let mut words = line.split_whitespace();
        let mut kept = Vec::new();
        while let Some(word) = words.next() {
            if matches!(word, "valid_lft" | "preferred_lft" | "expires") {
                words.next();
            } else {
                kept.push(word.to_owned());
            }
        }
        kept.join(" ")
    };
    text.lines().map(word).collect::<Vec<_>>().join("\n")
}

fn read_all(folder: &Path, text: &mut String) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    let mut paths: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    for path in paths {
        // The kernel moves these by itself.
        let moves =
            ["random", "nf_conntrack_count", "dirtytime", "ipv4/tcp_mem"].iter().any(|word| path.ends_with(word));
        if path.is_dir() {
            read_all(&path, text);
        } else if !moves && let Ok(value) = fs::read_to_string(&path) {
            text.push_str(&format!("{} = {value}", path.display()));
        }
    }
}
