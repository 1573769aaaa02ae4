//! Every command and every YAML of the README works as it stands there.

mod support;

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
            let words = command.strip_prefix("cargo run --release -- ").or_else(|| command.strip_prefix("testbed "));
            let Some(words) = words else {
                let known = ["scripts/", "cargo build", "cargo install", "git clone", "cd ", "sysctl ", "target/"];
                assert!(known.iter().any(|start| command.starts_with(start)), "README.md:{line}: what is `{command}`?");
                if let Some(script) = command.split(' ').next().filter(|word| word.starts_with("scripts/")) {
                    assert!(root().join(script).is_file(), "README.md:{line}: there is no {script}");
                }
                continue;
            };
            let ended = place.testbed(words.split_whitespace());
            let expected: &[i32] = if words == "doctor" { &[0, 3] } else { &[0] };
            assert!(
                ended.status().is_some_and(|status| expected.contains(&status)),
                "README.md:{line}: {command}\n{}",
                ended.told()
            );
            ran += 1;
        }
    }
    assert!(ran >= 5, "the README shows how to use the program; {ran} commands were found");
}
