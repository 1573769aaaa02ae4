//! Senders of the fast mode that announce what cannot be.

use p2mp::fast::{Announce, FileEntry, Identity, Packet, SessionId};

use super::{Receiver, announce, ask, liar, release, send};
use crate::process::noise;

fn session(number: u64) -> SessionId {
    SessionId(number)
}

/// A transfer of its own for each number.
fn of(number: u8, files: Vec<FileEntry>) -> Announce {
    Announce { identity: Identity([number; 16]), ..announce(files) }
}

#[test]
fn names_that_lead_elsewhere_are_refused() {
    let mut receiver = Receiver::start(None);
    let socket = liar();
    let long = "x".repeat(255);
    let names = ["../../etc/passwd", "/etc/passwd", "..", ".", "", "a/b", "..\\b", ".ssh", "a\0b", "a\x1b[2J", "\n"];
    for (number, name) in names.into_iter().enumerate() {
        let files = vec![FileEntry::new(name, 10)];
        let report =
            ask(&socket, receiver.at, session(number as u64), &of(number as u8, files), |said| said.failure.is_some());
        release(&socket, receiver.at, session(number as u64), &report);
        let why = report.failure.unwrap();
        assert!(why.contains("is not the plain name of a file") && !why.contains('\x1b'), "{why:?}");
        receiver.wait_for("failed: ");
    }
    // One that is plain has its place in the folder, however long.
    let files = vec![FileEntry::new(&long, 10)];
    ask(&socket, receiver.at, session(100), &of(100, files), |said| said.is_open);
    let entries = receiver.entries();
    assert!(!entries.is_empty() && entries.iter().all(|name| name.starts_with('x')), "{entries:?}");
}

#[test]
fn lengths_that_no_disk_holds_are_refused_and_leave_nothing() {
    let mut receiver = Receiver::start(Some("movie"));
    let socket = liar();
    for (number, length) in [u64::MAX, i64::MAX as u64, 1 << 62, 1 << 50, 1 << 42].into_iter().enumerate() {
        let files = vec![FileEntry::new("movie", length)];
        let report =
            ask(&socket, receiver.at, session(number as u64), &of(number as u8, files), |said| said.failure.is_some());
        release(&socket, receiver.at, session(number as u64), &report);
        let why = report.failure.unwrap();
        assert!(!why.is_empty() && !why.contains('\n'), "{why:?}");
        receiver.wait_for("failed: ");
    }
    let entries = receiver.entries();
    assert_eq!(entries, [""; 0], "nothing is left of what was refused");
    receiver.assert_serves("movie");

    // Nor of what could be had beside it.
    let folder = Receiver::start(None);
    let files = vec![FileEntry::new("small", 1000), FileEntry::new("large", 1 << 42)];
    ask(&socket, folder.at, session(1), &of(1, files), |said| said.failure.is_some());
    assert_eq!(folder.entries(), [""; 0]);
}

#[test]
fn several_files_need_a_folder_and_two_names_are_not_one() {
    let mut receiver = Receiver::start(Some("movie"));
    let socket = liar();
    let two = vec![FileEntry::new("a", 1), FileEntry::new("b", 1)];
    let why = ask(&socket, receiver.at, session(1), &of(1, two), |said| said.failure.is_some()).failure.unwrap();
    assert!(why.contains("2 files") && why.contains("is not a folder"), "{why}");
    receiver.assert_serves("movie");

    let folder = Receiver::start(None);
    let twice = [("a", "a"), ("a", "A"), ("-a", "_a")];
    for (number, (one, other)) in twice.into_iter().enumerate() {
        let files = vec![FileEntry::new(one, 1), FileEntry::new(other, 1)];
        let report =
            ask(&socket, folder.at, session(number as u64), &of(number as u8, files), |said| said.failure.is_some());
        let why = report.failure.unwrap();
        assert!(why.contains("named twice") || why.contains("two of the sender's files would be"), "{why}");
    }
    assert_eq!(folder.entries(), [""; 0]);
}

#[test]
fn thousands_of_files_are_taken_or_refused_and_others_are_served() {
    let receiver = Receiver::start(None);
    let socket = liar();
    let files: Vec<_> = (0..4096).map(|index| FileEntry::new(&format!("f{index}"), 1)).collect();
    // Page by page, again and again, until it has an opinion.
    let mut stamp_us = 0;
    let answer = loop {
        stamp_us += 1;
        assert!(stamp_us < 200, "it never says whether it takes them");
        let mut first = 0;
        while first < files.len() {
            let count = Announce::page(&files, first);
            let some = files[first..first + count].to_vec();
            let page = Announce { all_files: 4096, first_file: first as u16, stamp_us, ..of(1, some) };
            socket.send_to(&Packet::Announce(page).to_bytes(session(1)), receiver.at).unwrap();
            first += count;
        }
        let page = Announce { all_files: 4096, stamp_us, ..of(1, files[..10].to_vec()) };
        let report = ask(&socket, receiver.at, session(1), &page, |_| true);
        if report.is_open || report.failure.is_some() {
            break report;
        }
    };
    println!("4096 files: {answer:?}");
    assert!(receiver.peak_memory() < super::MOST_MEMORY, "{} KiB", receiver.peak_memory());
    // Whatever it thinks of them, another sender is served.
    let elsewhere = tempfile::tempdir().unwrap();
    let source = elsewhere.path().join("honest");
    let content = noise(20_000);
    std::fs::write(&source, &content).unwrap();
    let ended = send(&[receiver.at], &source, &["1442", "--mode", "fast", "--unicast"]);
    assert!(ended.status.success(), "{}", ended.stderr);
    assert!(std::fs::read(receiver.inside("honest")).unwrap() == content);
}

#[test]
fn announcements_that_contradict_each_other_change_nothing() {
    let mut receiver = Receiver::start(Some("movie"));
    let socket = liar();
    let digest = Some([1; 32]);
    let first = of(1, vec![FileEntry { digest, ..FileEntry::new("movie", 5000) }]);
    ask(&socket, receiver.at, session(1), &first, |said| said.is_open);
    let contradictions = [
        of(2, first.files.clone()),
        of(1, vec![FileEntry::new("movie", u64::MAX)]),
        of(1, vec![FileEntry::new("other", 5000)]),
        Announce { payload: Some(512), ..first.clone() },
        Announce { all_files: 4096, ..first.clone() },
        Announce { all_files: 2, first_file: 1, files: vec![FileEntry::new("b", 1)], ..first.clone() },
        Announce { group: Some("239.1.2.3:7735".parse().unwrap()), ..first.clone() },
    ];
    for other in contradictions {
        let bytes = Packet::Announce(other).to_bytes(session(1));
        (0..20).for_each(|_| _ = socket.send_to(&bytes, receiver.at).unwrap());
    }
    let report = ask(&socket, receiver.at, session(1), &first, |said| said.is_open);
    assert_eq!((report.covered, report.runs.len()), (1, 1), "one block, of which all is missing");
    assert!(report.failure.is_none());
    assert!(receiver.entries().iter().all(|name| name.starts_with("movie")), "{:?}", receiver.entries());
    assert!(receiver.peak_memory() < super::MOST_MEMORY);
    receiver.wait_for("sends a file, 5000 bytes");
}

#[test]
fn strangers_who_begin_and_fall_silent_keep_nobody_out() {
    let receiver = Receiver::start(None);
    let socket = liar();
    // More than there is room for, all of which never say what their second file is.
    for number in 0..40 {
        let half = Announce { all_files: 2, ..of(number, vec![FileEntry::new("a", 1)]) };
        let bytes = Packet::Announce(half).to_bytes(session(number.into()));
        socket.send_to(&bytes, receiver.at).unwrap();
    }
    let elsewhere = tempfile::tempdir().unwrap();
    let source = elsewhere.path().join("honest");
    let content = noise(100_000);
    std::fs::write(&source, &content).unwrap();
    let ended = send(&[receiver.at], &source, &["1442", "--mode", "fast", "--unicast", "--give-up", "40s"]);
    assert!(ended.status.success(), "{}", ended.stderr);
    assert!(std::fs::read(receiver.inside("honest")).unwrap() == content);
}
