//! Every command and every YAML of the README works as it stands there.

mod support;

use std::io::Write;
use std::os::unix::process::CommandExt;
use std::process::Stdio;

use support::{Place, root};

/// The fenced blocks of the README in this language, with the line where each begins.
fn blocks(language: &str) -> Vec<(usize, String)> {
    let text = std::fs::read_to_string(root().join("README.md")).expect("there is a README");
    let mut blocks = Vec::new();
    let mut open: Option<(usize, String, bool)> = None;
    for (number, line) in text.lines().enumerate() {
        match (&mut open, line.strip_prefix("```")) {
            (None, Some(word)) => open = Some((number + 1, String::new(), word.trim() == language)),
            (Some(_), Some(_)) => {
                if let Some((line, body, true)) = open.take() {
                    blocks.push((line, body));
                }
            }
            (Some((_, body, _)), None) => {
                body.push_str(line);
                body.push('\n');
            }
            (None, None) => {}
        }
    }
    assert!(open.is_none(), "a fenced block of the README is not closed");
    blocks
}

#[test]
fn every_yaml_passes_check() {
    let blocks = blocks("yaml");
    assert!(!blocks.is_empty());
    for (line, body) in blocks {
        let place = Place::new();
        place.write("example.yaml", &body);
        let ended = place.testbed(["check", "example.yaml"]);
        assert_eq!(ended.status(), Some(0), "README.md:{line}\n{}", ended.told());
    }
}

/// Commands of `sh` blocks. Building and the test command are what runs this test; the others are run here, with the
/// built program in the place of `cargo run --release --` and of `testbed`.
#[test]
fn every_command_runs() {
    let blocks = blocks("sh");
    assert!(!blocks.is_empty());
    let place = Place::new();
    std::os::unix::fs::symlink(root().join("topologies"), place.path().join("topologies")).unwrap();
    let mut ran = 0;
    for (line, body) in blocks {
        for command in body.lines().map(|line| line.split(" #").next().unwrap_or(line).trim()) {
            let command = command.strip_prefix("sudo ").unwrap_or(command);
            if command.starts_with("multiserver ") || command.starts_with("downloader ") {
                // Both at once, by `the_servers_and_the_client_of_the_download_find_each_other`.
                continue;
            }
            let elsewhere = ["tracker", "peer", "p2p-downloader", "p2mp-sender", "p2mp-receiver"];
            if let Some(role) = command.split(' ').next().filter(|word| elsewhere.contains(word)) {
                // Between machines that are not here; what they do is for tests of their own. The options have to exist.
                let help = place.testbed(["role", role, "--help"]);
                assert_eq!(help.status(), Some(0), "README.md:{line}: {command}\n{}", help.told());
                for option in command.split(' ').filter(|word| word.starts_with("--")) {
                    assert!(help.told().contains(option), "README.md:{line}: {role} has no {option}");
                }
                continue;
            }
            let words = command.strip_prefix("cargo run --release -- ").or_else(|| command.strip_prefix("testbed "));
            let Some(words) = words else {
                let known = ["scripts/", "cargo build", "cargo install", "git clone", "cd ", "sysctl ", "target/"];
                assert!(known.iter().any(|start| command.starts_with(start)), "README.md:{line}: what is `{command}`?");
                if let Some(script) = command.split(' ').next().filter(|word| word.starts_with("scripts/")) {
                    assert!(root().join(script).is_file(), "README.md:{line}: there is no {script}");
                }
                continue;
            };
            println!("README.md:{line}: {command}");
            if words == "doctor" {
                let ended = place.testbed([words]);
                assert!(matches!(ended.status(), Some(0 | 3)), "{}", ended.told());
            } else if words.contains("--engine docker") && !support::daemon::answers() {
                // Not everybody may use Docker, and that is said.
                place.testbed(words.split_whitespace()).expect_status(3);
            } else {
                // Where the machine is starved, the command works all the same.
                let _ended = place.testbed_passes(words.split_whitespace());
            }
            ran += 1;
        }
    }
    assert!(ran >= 5, "the README shows how to use the program; {ran} commands were found");
}

/// The two commands for two terminals: the servers run until the client has the file, and are told to quit.
#[test]
fn the_servers_and_the_client_of_the_download_find_each_other() {
    let blocks = blocks("sh");
    let command = |program: &str| -> Vec<&str> {
        let lines = blocks.iter().flat_map(|(_, body)| body.lines());
        let mut found = lines.filter(|line| line.starts_with(program));
        let line = found.next().unwrap_or_else(|| panic!("the README shows how to start `{program}`"));
        line.split(" #").next().unwrap_or(line).split_whitespace().collect()
    };
    let place = Place::new();
    let file: Vec<u8> = (0..3_000_000_u32).flat_map(u32::to_le_bytes).collect();
    std::fs::write(place.path().join("Star.mp4"), &file).unwrap();
    // Other ports than in the text, which may be anybody's: below those that the kernel gives to clients.
    let candidates = 22_000 + (std::process::id() % 500) as u16 * 16..32_768;
    let free: Vec<_> =
        candidates.filter_map(|port| std::net::TcpListener::bind(("127.0.0.1", port)).ok()).take(5).collect();
    let mut ports = std::collections::BTreeMap::new();
    let mut start = |words: &[&str]| {
        let mut command = place.command();
        command.arg0(words[0]);
        for word in &words[1..] {
            match word.parse::<u16>() {
                Ok(port) if port >= 1024 => {
                    let next = ports.len();
                    let port = ports.entry(port).or_insert_with(|| free[next].local_addr().unwrap().port());
                    command.arg(port.to_string());
                }
                _ => _ = command.arg(word),
            }
        }
        command
    };
    let mut servers = start(&command("multiserver "));
    let mut client = start(&command("downloader "));
    drop(free);
    let mut servers = servers.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    let client = client.output().unwrap();
    assert!(client.status.success(), "{}", String::from_utf8_lossy(&client.stderr));
    assert!(std::fs::read(place.path().join("final.mp4")).unwrap() == file, "another file came out");
    servers.stdin.as_mut().unwrap().write_all(b"-1\n").unwrap();
    assert!(servers.wait().unwrap().success());
}
