//! The container image and `compose.yaml`, with the machine's Docker. `scripts/test containers` builds the image that they
//! run, `testbed:test`, and the other steps leave them out.
//!
//! Everything that a test makes carries the name of a compose project of its own, and is gone at its end.

mod support;

use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use support::{has_program, pause, root, skip};

const IMAGE: &str = "testbed:test";

/// Between two looks at what Docker says, which has no way to be waited for.
const LOOK: Duration = Duration::from_millis(100);
/// No step of these tests takes so long on a machine that is alive.
const LOOKS: u32 = 1200;

/// A compose project, with the project's own file.
struct Project {
    name: String,
    /// Programs and words that are compose here.
    compose: Vec<&'static str>,
    settings: Vec<(&'static str, String)>,
}

/// The compose of this machine; `None`, and said so, without a daemon, an image or a compose.
fn project(settings: &[(&'static str, &str)]) -> Option<Project> {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let works = |words: &[&str]| {
        let status = Command::new(words[0]).args(&words[1..]).stdout(Stdio::null()).stderr(Stdio::null()).status();
        status.is_ok_and(|status| status.success())
    };
    if !has_program("docker") || !works(&["docker", "image", "inspect", IMAGE]) {
        skip("no Docker with the image testbed:test (scripts/test containers makes it)");
        return None;
    }
    let candidates = [vec!["docker", "compose"], vec!["docker-compose"]];
    let Some(compose) = candidates.into_iter().find(|words| works(&[&words[..], &["version"]].concat())) else {
        skip("neither `docker compose` nor `docker-compose` is installed");
        return None;
    };
    let name = format!("testbed{}x{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
    let settings = settings.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
    Some(Project { name, compose, settings })
}

impl Project {
    fn compose(&self, words: &[&str]) -> Output {
        let mut command = Command::new(self.compose[0]);
        command.args(&self.compose[1..]).args(["-p", &self.name, "-f"]).arg(root().join("compose.yaml")).args(words);
        command.current_dir(root()).stdin(Stdio::null()).env("IMAGE", IMAGE);
        command.envs(self.settings.iter().map(|(name, value)| (name, value)));
        command.output().expect("compose can be started")
    }

    #[track_caller]
    fn composes(&self, words: &[&str]) -> String {
        let output = self.compose(words);
        let told = told(&output);
        assert!(output.status.success(), "{words:?}: {told}\n{}", self.logs());
        told
    }

    /// The container of a service, the `nth` of them from 1.
    #[track_caller]
    fn container(&self, service: &str, nth: u32) -> String {
        let labels = [
            format!("label=com.docker.compose.project={}", self.name),
            format!("label=com.docker.compose.service={service}"),
            format!("label=com.docker.compose.container-number={nth}"),
        ];
        let mut words = vec!["ps", "-aq"];
        labels.iter().for_each(|label| words.extend(["--filter", label]));
        let id = docker(&words).trim().to_owned();
        assert!(!id.is_empty(), "there is no container {nth} of {service}\n{}", self.logs());
        id
    }

    fn logs(&self) -> String {
        told(&self.compose(&["--profile", "failover", "logs", "--no-color"]))
    }

    /// What a container has printed, once `is` holds of it.
    #[track_caller]
    fn wait_for(&self, container: &str, what: &str, is: impl Fn(&str) -> bool) -> String {
        for _ in 0..LOOKS {
            let logs = told(&Command::new("docker").args(["logs", container]).output().expect("docker can be started"));
            if is(&logs) {
                return logs;
            }
            pause(LOOK, "nobody tells that a container has printed something");
        }
        panic!("{what} did not come\n{}", self.logs());
    }

    /// The exit status of a container that ends by itself.
    #[track_caller]
    fn exit_status(&self, container: &str) -> String {
        self.wait_for(container, "the end of a container", |_| inspect(container, "{{.State.Status}}") == "exited");
        inspect(container, "{{.State.ExitCode}}")
    }

    fn address(&self, container: &str) -> String {
        inspect(container, "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}")
    }
}

impl Drop for Project {
    fn drop(&mut self) {
        self.compose(&["--profile", "failover", "down", "-v", "-t", "0", "--remove-orphans"]);
    }
}

fn told(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[track_caller]
fn docker(words: &[&str]) -> String {
    let output = Command::new("docker").args(words).stdin(Stdio::null()).output().expect("docker can be started");
    assert!(output.status.success(), "docker {words:?}: {}", told(&output));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn inspect(container: &str, format: &str) -> String {
    docker(&["inspect", "--format", format, container]).trim().to_owned()
}

/// A file of a container.
fn file(container: &str, path: &str, folder: &Path) -> Vec<u8> {
    let copy = folder.join("copy");
    docker(&["cp", &format!("{container}:{path}"), &copy.to_string_lossy()]);
    std::fs::read(copy).expect("it was copied")
}

#[test]
fn one_sender_serves_every_replica_and_ends_with_success() {
    let Some(project) = project(&[("SIZE", "8MiB"), ("EXPECT", "5"), ("P", "5%")]) else { return };
    let folder = tempfile::tempdir().expect("a folder");
    project.composes(&["up", "-d", "--scale", "receiver=5"]);
    let sender = project.container("sender", 1);
    assert_eq!(project.exit_status(&sender), "0", "{}", project.logs());
    let sent = file(&sender, "/data/movie", folder.path());
    assert_eq!(sent.len(), 8 << 20);
    for nth in 1..=5 {
        let receiver = project.container("receiver", nth);
        assert_eq!(inspect(&receiver, "{{.State.Status}}"), "running", "receivers stay");
        assert!(file(&receiver, "/data/movie", folder.path()) == sent, "receiver {nth} has another file");
    }
}

#[test]
fn replicas_that_nobody_counts_are_found_on_bad_networks() {
    let shape = "delay=10ms loss=2%";
    let Some(project) = project(&[("SIZE", "2MiB"), ("SHAPE", shape), ("SHAPER", "relay")]) else { return };
    let folder = tempfile::tempdir().expect("a folder");
    project.composes(&["up", "-d"]);
    let sender = project.container("sender", 1);
    assert_eq!(project.exit_status(&sender), "0", "{}", project.logs());
    let sent = file(&sender, "/data/movie", folder.path());
    for nth in 1..=3 {
        let receiver = project.container("receiver", nth);
        let logs = project.wait_for(&receiver, "what shapes it", |logs| logs.contains("eth0 is shaped by"));
        assert!(logs.contains(shape), "{logs}");
        assert!(file(&receiver, "/data/movie", folder.path()) == sent, "receiver {nth} has another file");
        // Stopped in order it says what became of packets: with 2 % some were lost.
        docker(&["stop", "-t", "10", &receiver]);
        let logs = project.wait_for(&receiver, "its account", |logs| logs.contains("testbed: eth0 sent"));
        let received = logs.split_once("; received ").map_or("", |(_, account)| account);
        assert!(received.contains(" lost") && !received.contains(", 0 lost"), "{logs}");
    }
}

#[test]
fn a_client_survives_the_death_of_a_server_and_takes_it_back_under_another_address() {
    // Long enough for a server to die and come back in the middle on a slow machine: 16 MiB at 4 × 1.5 Mbit/s take 22 s.
    let Some(project) = project(&[("SIZE", "16MiB"), ("RATE", "1500kbit")]) else { return };
    let folder = tempfile::tempdir().expect("a folder");
    project.composes(&["--profile", "failover", "up", "-d", "client"]);
    let services = project.composes(&["--profile", "failover", "ps", "--services"]);
    let running = docker(&["ps", "-q", "--filter", &format!("label=com.docker.compose.project={}", project.name)]);
    assert_eq!(running.lines().count(), 6, "four servers, their check server and the client alone: {services}");
    let (client, server) = (project.container("client", 1), project.container("server-2", 1));
    project.wait_for(&client, "the beginning of the download", |logs| logs.contains("server-2: alive"));

    let before = project.address(&server);
    docker(&["kill", &server]);
    project.wait_for(&client, "the death of server-2", |logs| logs.contains("server-2: down"));
    // Somebody else takes the next address that is free, its own where Docker gives those again.
    let network = inspect(&client, "{{range $name, $_ := .NetworkSettings.Networks}}{{$name}}{{end}}");
    let squatter = format!("{}-squatter", project.name);
    let options = ["run", "-d", "--rm", "--name", &squatter, "--network", &network];
    docker(&[&options[..], &[IMAGE, "p2mp-receiver", "7735", "/data", "0"]].concat());
    docker(&["start", &server]);
    let after = project.address(&server);
    project.wait_for(&client, "server-2 alive again", |logs| {
        logs.split_once("server-2: down").is_some_and(|(_, rest)| rest.contains("server-2: alive"))
    });
    let status = project.exit_status(&client);
    docker(&["rm", "-f", &squatter]);
    assert_eq!(status, "0", "{}", project.logs());
    assert_ne!(before, after, "nobody took the address");
    let served = file(&server, "/data/movie", folder.path());
    assert!(file(&client, "/data/downloaded", folder.path()) == served, "the file is another one");
}

/// Runs a container of the image with these words to its end.
fn run(words: &[&str]) -> Output {
    let words = [&["run", "--rm"], words].concat();
    Command::new("docker").args(words).stdin(Stdio::null()).output().expect("docker can be started")
}

#[test]
fn a_container_that_lacks_what_shaping_takes_says_what_to_add() {
    if project(&[]).is_none() {
        return;
    }
    let shape = ["-e", "SHAPE=delay=10ms"];
    let program = [IMAGE, "p2mp-receiver", "--help"];
    let caps = ["--cap-add", "NET_ADMIN", "--cap-add", "NET_RAW"];
    let none = run(&[&shape[..], &program].concat());
    assert_eq!(none.status.code(), Some(3));
    assert!(told(&none).contains("--cap-add NET_ADMIN --cap-add NET_RAW"), "{}", told(&none));
    let half =
        run(&[&shape[..], &["--cap-add", "NET_ADMIN", "--cap-drop", "NET_RAW", "-e", "SHAPER=relay"], &program]
            .concat());
    assert!(half.status.code() == Some(3) && told(&half).contains("NET_RAW"), "{}", told(&half));
    let ordinary = run(&[&shape[..], &caps, &["--user", "1000"], &program].concat());
    assert!(ordinary.status.code() == Some(3) && told(&ordinary).contains("--user 0"), "{}", told(&ordinary));
    let host = run(&[&shape[..], &caps, &["--network", "host"], &program].concat());
    assert_eq!(host.status.code(), Some(3), "{}", told(&host));
    let nothing = run(&[&shape[..], &caps, &["--network", "none"], &program].concat());
    assert!(nothing.status.code() == Some(3) && told(&nothing).contains("nothing to shape"), "{}", told(&nothing));
    let wrong = run(&[&["-e", "SHAPE=dely=10ms"][..], &caps, &program].concat());
    assert!(wrong.status.code() == Some(2) && told(&wrong).contains("did you mean `delay`?"), "{}", told(&wrong));
    let enough = run(&[&shape[..], &caps, &["--cap-drop", "ALL"], &program].concat());
    assert_eq!(enough.status.code(), Some(0), "those two are all that it takes: {}", told(&enough));
    let other = run(&[&shape[..], &caps, &[IMAGE, "--user", "1000", "p2mp-receiver", "--help"]].concat());
    assert_eq!(other.status.code(), Some(0), "the program can be somebody else: {}", told(&other));
}

#[test]
fn the_image_is_small_and_holds_every_program() {
    if project(&[]).is_none() {
        return;
    }
    let size: u64 = inspect(IMAGE, "{{.Size}}").parse().expect("a number of bytes");
    assert!(size < 40_000_000, "{size} bytes");
    for role in ["p2mp-sender", "p2mp-receiver", "file-server", "check-server", "downloader", "multiserver"] {
        let help = run(&[IMAGE, role, "--help"]);
        assert!(help.status.success() && told(&help).contains(&format!("Usage: {role}")), "{role}: {}", told(&help));
    }
    let absent = run(&[IMAGE, "sh"]);
    assert_eq!(absent.status.code(), Some(127), "there is no shell: {}", told(&absent));
}
