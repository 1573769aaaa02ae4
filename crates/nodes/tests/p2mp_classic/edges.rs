//! Our sender and our receivers with each other: every length, every MSS, whoever comes when.

use std::path::Path;

use event::NodeReport;

use crate::ports::free_port;
use crate::programs::{Receiver, end, noise, run, sender, spawn};

/// Brings `content` to a receiver on IPv4 and one on IPv6, both with a loss of 5 %.
fn brings(content: &[u8], mss: &str, more: &[&str]) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("sent");
    std::fs::write(&file, content).unwrap();
    let once = ["--once", "--linger", "500ms"];
    let start = |name: &str| Receiver::start(0, &folder.path().join(name), "0.05", &once);
    let (one, other) = (start("one"), start("other"));
    let words =
        [&format!("localhost:{}", one.port), &format!("[::1]:{}", other.port), "7735", file.to_str().unwrap(), mss];
    let ended = run(&[&words[..], more].concat());
    assert_eq!(ended.status, Some(0), "{} bytes by {mss}: {}", content.len(), ended.stderr);
    let segments = content.len().div_ceil(mss.parse().unwrap());
    let says = format!("{} bytes in {segments} segments to 2 of 2 receivers: ", content.len());
    assert!(ended.stderr.starts_with(&says), "{}", ended.stderr);
    for receiver in [one, other] {
        assert!(receiver.content() == content, "{} bytes by {mss} came out wrong", content.len());
        assert_eq!(receiver.end().status, Some(0));
    }
}

#[test]
fn any_length_and_any_mss() {
    for (length, mss) in [
        (0, "500"),
        (1, "1"),
        (300, "1"),
        (499, "500"),
        (500, "500"),
        (501, "500"),
        (10_000, "500"),
        (130_000, "65000"),
        (65_499, "65499"),
    ] {
        brings(&noise(length), mss, &[]);
    }
}

#[test]
fn any_timeout_and_any_dialect() {
    let content: Vec<u8> = noise(20_000).into_iter().filter(|byte| *byte != b'#').collect();
    for more in [
        &["--timeout", "20ms"][..],
        &["--timeout-mode", "shared", "--timeout", "20ms"],
        &["--timeout-mode", "adaptive"],
        &["--dialect", "text"],
    ] {
        brings(&content, "500", more);
    }
    brings(&content, "1427", &["--dialect", "text"]);
}

#[test]
fn the_summary_is_told_as_json_too() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("sent");
    std::fs::write(&file, noise(5_000)).unwrap();
    let receiver = Receiver::start(0, &folder.path().join("f"), "0.2", &["--format", "json"]);
    let ended = run(&["127.0.0.1", &receiver.port.to_string(), file.to_str().unwrap(), "100", "--format", "json"]);
    assert_eq!(ended.status, Some(0), "{}", ended.stderr);
    let reports: Vec<NodeReport> = ended.stdout.lines().map(|line| NodeReport::from_line(line).unwrap()).collect();
    let transferred = reports.iter().find_map(|report| match report {
        NodeReport::Transferred(transferred) => Some(transferred),
        _ => None,
    });
    let transferred = transferred.expect("it says what it took");
    assert_eq!((transferred.segments, transferred.bytes, transferred.receivers.len()), (50, 5_000, 1));
    assert!(transferred.receivers[0].complete && transferred.seconds > 0.0);
    // A fifth of 51 segments and of their repeats is lost: with this seed some are.
    let timeouts = ended.stdout.matches(r#""kind":"timeout""#).count() as u64;
    assert!(timeouts > 0 && timeouts == transferred.receivers[0].retransmissions, "{}", ended.stdout);
    receiver.signal(nix::sys::signal::Signal::SIGINT);
    let heard = receiver.end();
    let lost = heard.stdout.lines().filter(|line| line.contains(r#""kind":"packet-loss""#)).count() as u64;
    // On a busy machine an answer may come after the timeout, too.
    assert!(lost > 0 && lost <= timeouts, "{lost} losses and {timeouts} timeouts: {}", heard.stdout);
}

#[test]
fn a_receiver_that_starts_late_gets_everything() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("sent");
    std::fs::write(&file, noise(5_000)).unwrap();
    let port = free_port();
    let late = spawn(sender(&["127.0.0.1", &port.to_string(), file.to_str().unwrap(), "500", "--timeout", "50ms"]));
    let receiver = Receiver::start(port, &folder.path().join("f"), "0", &[]);
    let ended = end(late);
    assert_eq!(ended.status, Some(0), "{}", ended.stderr);
    assert_eq!(receiver.content(), noise(5_000));
}

#[test]
fn one_receiver_serves_one_sender_after_the_other_and_never_touches_what_is_there() {
    let folder = tempfile::tempdir().unwrap();
    let receiver = Receiver::start(0, &folder.path().join("f"), "0", &[]);
    let send = |name: &str, content: &[u8]| {
        let file = folder.path().join(name);
        std::fs::write(&file, content).unwrap();
        let ended = run(&["127.0.0.1", &receiver.port.to_string(), file.to_str().unwrap(), "500"]);
        assert_eq!(ended.status, Some(0), "{}", ended.stderr);
    };
    send("first", &noise(2_000));
    send("second", b"second");
    assert_eq!(receiver.content(), noise(2_000));
    let beside = beside(folder.path());
    assert_eq!(beside.len(), 1, "{beside:?}");
    assert_eq!(std::fs::read(&beside[0]).unwrap(), b"second");
}

/// Files called `f.<address>-<port>`.
fn beside(folder: &Path) -> Vec<std::path::PathBuf> {
    let paths = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let named = |path: &std::path::PathBuf| path.file_name().unwrap().to_str().unwrap().starts_with("f.127.0.0.1-");
    paths.filter(named).collect()
}
