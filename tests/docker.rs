//! `--engine docker`: the same topologies in containers, with the same verdict; and nothing left of them.
//!
//! `scripts/test docker` runs these, and with `TESTBED_ENGINE=docker` the tests of faults, routers, captures and others.

mod support;

use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use event::Event;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use support::daemon::{OwnDaemon, answers, docker, old_daemon, wait_until};
use support::{Place, Run, skip, topology};

const ENGINE: [&str; 2] = ["--engine", "docker"];

/// Whether this user may use a Docker daemon here; if not, that is said.
fn has_docker() -> bool {
    let works = answers();
    if !works {
        skip("no Docker daemon answers this user");
    }
    works
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// Names of containers whose run is in `place`.
fn containers_of(place: &Path) -> Vec<String> {
    let place = place.canonicalize().expect("the place is there");
    let output =
        docker(&["ps", "-a", "--filter", "label=testbed.run", "--format", "{{.Label \"testbed.run\"}} {{.Names}}"]);
    assert!(output.status.success(), "{}", text(&output));
    let lines = String::from_utf8_lossy(&output.stdout).into_owned();
    lines.lines().filter(|line| line.starts_with(&*place.to_string_lossy())).map(str::to_owned).collect()
}

/// A `testbed run` under way.
struct Running {
    child: Child,
    lines: Option<std::io::Lines<BufReader<std::process::ChildStdout>>>,
}

impl Running {
    fn start(place: &Place, file: &Path, words: &[&str]) -> Running {
        let mut command = place.command();
        command.arg("run").arg(file).args(["--format", "json"]).args(words);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("testbed can be started");
        let lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
        Running { child, lines: Some(lines) }
    }

    /// Reads the log up to a record with this word.
    #[track_caller]
    fn until(&mut self, word: &str) {
        let lines = self.lines.as_mut().expect("not ended");
        let found = lines.any(|line| line.is_ok_and(|line| line.contains(word)));
        assert!(found, "there is no {word}: {}", self.complaint());
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id() as i32), signal).expect("it has not been waited for");
    }

    fn complaint(&mut self) -> String {
        let mut told = String::new();
        if let Some(mut stderr) = self.child.stderr.take() {
            stderr.read_to_string(&mut told).expect("what it complains of is text");
        }
        told
    }

    /// Its exit status and what it said on standard error.
    fn end(mut self) -> (Option<i32>, String) {
        if let Some(lines) = self.lines.take() {
            lines.for_each(drop);
        }
        let told = self.complaint();
        (self.child.wait().expect("it can be waited for").code(), told)
    }
}

/// A run's own time, of which the machine was there for all.
fn took(run: &Run) -> Option<f64> {
    let ended = run.records().into_iter().rev().find_map(|record| match record.event {
        Event::RunEnded { took, .. } => Some(took.as_nanos() as f64 / 1e9),
        _ => None,
    });
    ended.filter(|_| run.kept_up())
}

#[test]
fn topologies_end_alike_in_containers_and_namespaces_and_as_fast() {
    /// How often both are run, until this machine was there for both.
    const ATTEMPTS: u32 = 4;
    /// By how much the slower one may be slower.
    const RATIO: f64 = 1.25;
    if !has_docker() {
        return;
    }
    for name in ["failover.yaml", "resume.yaml", "all-down.yaml", "flaky-links.yaml", "p2mp.yaml"] {
        let place = Place::new();
        let mut ratios = Vec::new();
        for _ in 0..ATTEMPTS {
            let containers = place.run(&topology(name), &ENGINE);
            containers.expect_status(0);
            let namespaces = place.run(&topology(name), &["--engine", "netns"]);
            namespaces.expect_status(0);
            let Some((ours, theirs)) = took(&containers).zip(took(&namespaces)) else { continue };
            ratios.push(ours / theirs);
            if (1.0 / RATIO..RATIO).contains(&(ours / theirs)) {
                break;
            }
        }
        eprintln!("{name}: containers take {ratios:.3?} times as long as namespaces");
        let Some(last) = ratios.last() else {
            eprintln!("{name}: STARVED in every attempt: times prove nothing");
            continue;
        };
        assert!((1.0 / RATIO..RATIO).contains(last), "{name}: {ratios:?}");
        wait_until("the end of all containers", || containers_of(place.path()).is_empty());
    }
}

#[test]
fn a_program_finds_in_a_container_what_it_finds_in_a_namespace() {
    if !has_docker() {
        return;
    }
    let place = Place::new();
    let script = "hostname; id -u; pwd; getent hosts two; cat given; ping -c 1 -W 5 two | grep -c '1 received'; \
                  grep CapEff /proc/self/status; ip -o link | grep -c eth0; echo written > kept";
    let file = place.write(
        "inside.yaml",
        &format!(
            "name: inside\nseed: 3\ntimeout: 60s\nfiles: {{ gift: {{ size: 7B }} }}\nnodes:\n  one:\n    run: [sh, -c, {script:?}]\n    files: {{ given: gift }}\n    link: {{ delay: 1ms }}\n  two: {{ run: [sleep, \"50\"] }}\nexpect:\n  one: {{ exit: 0 }}\n"
        ),
    );
    let told = |engine: &str| {
        let run = place.run(&file, &["--engine", engine]);
        run.expect_status(0);
        let text =
            std::fs::read(event::run_directory::node(&run.directory, "one").join("stdout.log")).expect("its log");
        assert_eq!(std::fs::read_to_string(run.disk("one", "kept")).expect("its file"), "written\n");
        let owner = std::os::unix::fs::MetadataExt::uid(&run.disk("one", "kept").metadata().expect("its file"));
        assert_eq!(owner, nix::unistd::geteuid().as_raw(), "what a node leaves is its user's");
        let text = String::from_utf8_lossy(&text).into_owned();
        // The run directories differ in their last part.
        text.lines().filter(|line| !line.contains("/disk")).map(|line| format!("{line}\n")).collect::<String>()
    };
    assert_eq!(told("docker"), told("netns"));
}

#[test]
fn root_of_a_node_leaves_nothing_that_its_user_cannot_remove() {
    if !has_docker() {
        return;
    }
    let place = Place::new();
    let script = "mkdir -p a/b && touch a/b/c && chmod 700 a && ln -s /etc/passwd link && id -u";
    let file = place.write(
        "rooted.yaml",
        &format!("name: rooted\nnodes:\n  one: {{ run: [sh, -c, {script:?}], user: root }}\nexpect:\n  one: {{ exit: 0, prints: /^0$/ }}\n"),
    );
    let run = place.run(&file, &ENGINE);
    run.expect_status(0);
    for name in ["a", "a/b", "a/b/c", "link"] {
        let found = run.disk("one", name).symlink_metadata().expect(name);
        assert_eq!(std::os::unix::fs::MetadataExt::uid(&found), nix::unistd::geteuid().as_raw(), "{name}");
    }
    let of_the_machine = std::fs::metadata("/etc/passwd").expect("every machine has it");
    assert_eq!(std::os::unix::fs::MetadataExt::uid(&of_the_machine), 0, "a link is not followed");
}

/// An image with a shell and nothing else, made without a registry; gone when dropped.
struct ShellImage(String);

impl ShellImage {
    fn make(place: &Place) -> ShellImage {
        let name = format!("testbed-shell-{}", std::process::id());
        let shell = PathBuf::from("/bin/sh").canonicalize().expect("there is a shell");
        let needed = Command::new("ldd").arg(&shell).output().expect("ldd can be started");
        let needed = String::from_utf8_lossy(&needed.stdout).into_owned();
        let folder = place.path().join("image");
        let copy = |from: &Path, to: &str| {
            let to = folder.join(to.trim_start_matches('/'));
            std::fs::create_dir_all(to.parent().expect("a file is in a folder")).expect("a folder");
            std::fs::copy(from, to).expect("it can be copied");
        };
        copy(&shell, "only/here/sh");
        for path in needed.split_whitespace().filter(|word| word.starts_with('/')) {
            copy(Path::new(path), path);
        }
        let archive = place.path().join("image.tar");
        let packed = Command::new("tar").arg("-C").arg(&folder).arg("-cf").arg(&archive).arg(".").status();
        assert!(packed.expect("tar can be started").success());
        let change =
            ["--change", "ENV PATH=/only/here", "--change", "ENV FROM_IMAGE=yes", "--change", "ENTRYPOINT [\"/none\"]"];
        let archive = archive.to_string_lossy().into_owned();
        let made = docker(&[&["import"], &change[..], &[&archive, &name]].concat());
        assert!(made.status.success(), "{}", text(&made));
        ShellImage(name)
    }
}

impl Drop for ShellImage {
    fn drop(&mut self) {
        docker(&["rmi", &self.0]);
    }
}

#[test]
fn a_node_runs_in_an_image_that_has_never_heard_of_testbed() {
    if !has_docker() {
        return;
    }
    let place = Place::new();
    let image = ShellImage::make(&place);
    // The shell alone: no command of the machine's.
    let script = "echo $FROM_IMAGE $TESTBED_NODE; ls / && exit 9; while read line; do echo \"$line\"; done < /etc/hosts; echo life >> lives; n=0; while read _; do n=$((n+1)); done < lives; echo lives $n; while [ $n = 1 ]; do :; done";
    let file = place.write(
        "foreign.yaml",
        &format!(
            "name: foreign\nseed: 1\ntimeout: 60s\nnodes:\n  strange: {{ run: [sh, -c, {script:?}], image: {image} }}\n  own: {{ run: [sleep, \"50\"] }}\nevents:\n  - {{ when: \"strange prints /lives 1$/\", kill: strange }}\n  - {{ after: 50ms, revive: strange }}\nexpect:\n  strange: {{ exit: 0, prints: /lives 2$/ }}\n",
            image = image.0
        ),
    );
    let run = place.run(&file, &ENGINE);
    run.expect_status(0);
    let told = run.stdout_of("strange");
    assert!(told.contains("yes strange") && told.contains(" own "), "{told}");
}

#[test]
fn an_image_that_is_not_to_be_had_is_told_and_nothing_is_left() {
    if !has_docker() {
        return;
    }
    let place = Place::new();
    let file = place.write("absent.yaml", "name: absent\nnodes:\n  one: { run: [\"true\"], image: \"localhost:1/no-such-image\" }\nexpect:\n  one: { exit: 0 }\n");
    let run = place.run_once(&file, &ENGINE);
    run.ended.expect_status(3);
    let said = run.ended.stderr();
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(lines[0], "fetching the image localhost:1/no-such-image …");
    assert!(lines[1].starts_with("error: Docker failed to fetch the image localhost:1/no-such-image"), "{said}");
    assert_eq!(lines.len(), 2, "{said}");
    assert!(!run.directory.exists() && containers_of(place.path()).is_empty());
}

/// Nodes that would run for long.
const LAB: &str = "name: lab\nseed: 1\ntimeout: 60s\nnodes:\n  long: { run: [sh, -c, \"trap '' TERM; echo up; while :; do sleep 1; done\"], count: 4, link: { delay: 1ms } }\nexpect:\n  long: { exit: 0 }\n";

#[test]
fn containers_end_with_the_run_however_it_ends() {
    if !has_docker() {
        return;
    }
    let place = Place::new();
    let file = place.write("lab.yaml", LAB);
    for signal in [Signal::SIGINT, Signal::SIGKILL] {
        let mut running = Running::start(&place, &file, &ENGINE);
        running.until("all-started");
        assert_eq!(containers_of(place.path()).len(), 4);
        running.signal(signal);
        let (status, told) = running.end();
        assert_eq!(status, (signal == Signal::SIGINT).then_some(130), "{told}");
        // Whoever waits for an interrupted run finds them gone; after a kill they go by themselves.
        if signal == Signal::SIGINT {
            assert_eq!(containers_of(place.path()), Vec::<String>::new());
        }
        wait_until("the end of all containers", || containers_of(place.path()).is_empty());
    }
}

#[test]
fn an_interrupt_while_containers_are_made_leaves_none() {
    if !has_docker() {
        return;
    }
    let place = Place::new();
    let file = place.write("lab.yaml", &LAB.replace("count: 4", "count: 12"));
    let running = Running::start(&place, &file, &ENGINE);
    wait_until("the first container", || !containers_of(place.path()).is_empty());
    running.signal(Signal::SIGINT);
    let (status, told) = running.end();
    assert_eq!(status, Some(130), "{told}");
    assert_eq!(containers_of(place.path()), Vec::<String>::new(), "whoever waits for the end finds nothing");
}

#[test]
fn a_container_that_somebody_kills_is_a_node_that_is_lost() {
    if !has_docker() {
        return;
    }
    let place = Place::new();
    let file = place.write("lab.yaml", LAB);
    let mut running = Running::start(&place, &file, &[&ENGINE[..], &["--set", "timeout=20s"]].concat());
    running.until("all-started");
    let victim = containers_of(place.path()).into_iter().find(|line| line.ends_with("-long-2")).expect("it is there");
    let name = victim.split_whitespace().last().expect("its name").to_owned();
    assert!(docker(&["kill", &name]).status.success());
    let mut told = String::new();
    for line in running.lines.as_mut().expect("it runs").by_ref().map_while(Result::ok) {
        told.push_str(&line);
        if line.contains("long-2") && line.contains("its init has gone") {
            break;
        }
    }
    assert!(told.contains("its init has gone"), "{told}");
    running.signal(Signal::SIGINT);
    running.end();
    wait_until("the end of all containers", || containers_of(place.path()).is_empty());
}

#[test]
fn a_run_goes_on_without_the_daemon_and_gc_finds_what_that_still_knows() {
    if !has_docker() {
        return;
    }
    if !nix::unistd::geteuid().is_root() {
        eprintln!("only root has a daemon of its own to kill");
        return;
    }
    let mut daemon = OwnDaemon::start();
    let host = daemon.host();
    let place = Place::new();
    let mut command = place.command();
    command.env("DOCKER_HOST", &host).arg("run").arg(topology("failover.yaml")).args(["--format", "json"]).args(ENGINE);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("testbed can be started");
    let lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
    let mut running = Running { child, lines: Some(lines) };
    running.until("all-started");
    daemon.child.kill().expect("it runs");
    daemon.child.wait().expect("it was killed");
    let (status, told) = running.end();
    // INVALID, if this machine was starved.
    assert!(matches!(status, Some(0 | 4)), "{told}");
    assert!(told.contains("no Docker daemon answers at") && told.contains("testbed gc"), "{told}");
    daemon.child = OwnDaemon::spawn(daemon.folder.path());
    daemon.await_answer();
    let gc = place.command().env("DOCKER_HOST", &host).arg("gc").output().expect("testbed can be started");
    assert!(gc.status.success(), "{}", text(&gc));
    let left = docker(&["-H", &host, "ps", "-aq"]);
    assert_eq!(text(&left).trim(), "", "{}", text(&gc));
    assert_eq!(text(&docker(&["-H", &host, "images", "-q"])).trim(), "", "{}", text(&gc));
}

#[test]
fn a_daemon_that_is_missing_old_or_elsewhere_is_said_in_one_line_with_3() {
    let place = Place::new();
    let file = place.write("lab.yaml", LAB);
    let old = place.path().join("old.sock");
    old_daemon(&old, "1.24");
    let silent = place.path().join("silent.sock");
    drop(UnixListener::bind(&silent).expect("a socket"));
    let hung = place.path().join("hung.sock");
    let _never_answered = UnixListener::bind(&hung).expect("a socket");
    let closed = place.path().join("closed.sock");
    let _listens = UnixListener::bind(&closed).expect("a socket");
    std::fs::set_permissions(&closed, std::fs::Permissions::from_mode(0o000)).expect("its own socket");
    // Nothing is closed to root.
    let denied = (format!("unix://{}", closed.display()), "permission denied; let this user use Docker");
    let denied = (!nix::unistd::geteuid().is_root()).then_some(denied);
    let others = [
        (format!("unix://{}/none.sock", place.path().display()), "install Docker"),
        (format!("unix://{}", silent.display()), "nobody listens there; start it"),
        (format!("unix://{}", hung.display()), "has not answered in 10 s"),
        (format!("unix://{}", old.display()), "API 1.41 is needed, which is Docker 20.10"),
        ("tcp://192.0.2.1:2375".to_owned(), "needs a daemon on this machine's own kernel"),
        ("ssh://somewhere".to_owned(), "needs a daemon on this machine's own kernel"),
    ];
    for (host, said) in others.into_iter().chain(denied) {
        let output = place.command().env("DOCKER_HOST", &host).arg("run").arg(&file).args(ENGINE).output();
        let output = output.expect("testbed can be started");
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(3), "{host}: {told}");
        assert!(told.contains(said), "{host}: {told}");
        assert_eq!(told.lines().count(), 1, "{host}: {told}");
    }
    assert_eq!(
        place.entries(),
        ["closed.sock", "hung.sock", "lab.yaml", "old.sock", "silent.sock"],
        "nothing was created"
    );
}

#[test]
fn doctor_tells_of_docker_and_compose() {
    let place = Place::new();
    let doctor = place.testbed(["doctor"]).stdout();
    for what in ["Docker", "compose"] {
        assert!(doctor.lines().any(|line| line.split_whitespace().nth(1) == Some(what)), "{doctor}");
    }
    let output = place.command().env("DOCKER_HOST", "unix:///none").arg("doctor").output().expect("it can be started");
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    let line = told.lines().find(|line| line.contains("no daemon answers at /none")).expect("it is said");
    assert!(line.starts_with("limited"), "{told}");
}
