//! Ours against a program that shares no code with them, in both directions and both dialects.

use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::programs::{Ended, PATIENCE, Receiver, end, noise, run};

/// `peer.py WORDS…`; `None`, and said so, where there is no Python.
fn peer(words: &[&str]) -> Option<Child> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/p2mp_classic/peer.py");
    let mut command = Command::new("python3");
    let started = command.arg("-B").arg(script).args(words).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    match started {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            assert!(std::env::var_os("CI").is_none(), "SKIPPED under CI: python3 is not installed");
            println!("SKIPPED: python3 is not installed");
            None
        }
        started => Some(started.unwrap()),
    }
}

/// What both dialects can carry.
fn content() -> Vec<u8> {
    noise(30_001).into_iter().map(|byte| if byte == b'#' { b'.' } else { byte }).collect()
}

#[test]
fn another_sender_brings_a_file_to_our_receiver() {
    let folder = tempfile::tempdir().unwrap();
    let sent = folder.path().join("sent");
    std::fs::write(&sent, content()).unwrap();
    for dialect in ["published", "text"] {
        let receiver = Receiver::start(0, &folder.path().join(dialect), "0.1", &[]);
        let words = ["send", dialect, "127.0.0.1", &receiver.port.to_string(), sent.to_str().unwrap(), "500"];
        let Some(peer) = peer(&words) else { return };
        let Ended { status, stderr, .. } = end(peer);
        assert_eq!(status, Some(0), "{dialect}: {stderr}");
        assert!(receiver.content() == content(), "{dialect} came out wrong");
    }
}

#[test]
fn our_sender_brings_a_file_to_another_receiver_and_to_ours() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    std::fs::write(path("sent"), content()).unwrap();
    for dialect in ["published", "text"] {
        let (port_file, out) = (path(&format!("{dialect}.port")), path(&format!("{dialect}.other")));
        let Some(peer) = peer(&["receive", dialect, &port_file, &out]) else { return };
        let ours = Receiver::start(0, &folder.path().join(dialect), "0.1", &[]);
        let port = wait_for_file(&port_file);
        let words = [&format!("127.0.0.1:{port}"), "127.0.0.1", &ours.port.to_string(), &path("sent"), "1427"];
        let ended = run(&[&words[..], &["--dialect", dialect]].concat());
        assert_eq!(ended.status, Some(0), "{dialect}: {}", ended.stderr);
        assert_eq!(end(peer).status, Some(0));
        assert!(std::fs::read(out).unwrap() == content() && ours.content() == content(), "{dialect} came out wrong");
    }
}

/// What is in a file, once it is there.
#[expect(clippy::disallowed_methods, reason = "a file has nothing to wait on that both programs know")]
fn wait_for_file(path: &str) -> String {
    let begun = std::time::Instant::now();
    loop {
        match std::fs::read_to_string(path) {
            Ok(content) => return content,
            Err(error) => assert!(begun.elapsed() < PATIENCE, "{path}: {error}"),
        }
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
}
