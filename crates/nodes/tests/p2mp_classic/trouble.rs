//! Who dies, lies, asks for what cannot be, or is mixed up with others.

use std::fs::File;
use std::net::UdpSocket;

use nix::sys::signal::Signal;

use crate::ports::free_port;
use crate::programs::{Receiver, ask, end, noise, run, sender, socket, spawn};

/// One published segment.
fn segment(sequence: u32, data: &[u8]) -> Vec<u8> {
    let mut datagram = Vec::new();
    p2mp::classic::Dialect::Published.write_segment(sequence, data, &mut datagram);
    datagram
}

fn acknowledgement(sequence: u32) -> Vec<u8> {
    [&sequence.to_be_bytes()[..], b"\0\0\xaa\xaa"].concat()
}

#[test]
fn one_who_is_silent_is_given_up_and_the_others_get_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("sent");
    std::fs::write(&file, noise(5_000)).unwrap();
    let receiver = Receiver::start(0, &folder.path().join("f"), "0", &[]);
    let (_silent, port) = socket();
    let words = ["127.0.0.1", &format!("127.0.0.1:{port}"), &receiver.port.to_string(), file.to_str().unwrap(), "500"];
    let ended = run(&[&words[..], &["--give-up", "6s"]].concat());
    assert_eq!(ended.status, Some(1), "{}", ended.stderr);
    let says = format!("127.0.0.1:{port}: given up, it did not acknowledge sequence number 0 in 6s\n");
    assert!(ended.stderr.starts_with(&says), "{}", ended.stderr);
    assert!(ended.stderr.contains("5000 bytes in 10 segments to 1 of 2 receivers: "), "{}", ended.stderr);
    assert_eq!(receiver.content(), noise(5_000));
}

/// A receiver that is started again has forgotten the transfer: it says nothing, and nothing wrong gets its file's name.
#[test]
fn a_receiver_that_is_started_again_counts_as_given_up() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("sent");
    std::fs::write(&file, noise(1_500)).unwrap();
    let port = free_port();
    let first = Receiver::start(port, &folder.path().join("f"), "0", &[]);
    // This one holds the transfer up until the other is replaced.
    let (slow, slow_port) = socket();
    let words = [&format!("127.0.0.1:{slow_port}"), "127.0.0.1", &port.to_string(), file.to_str().unwrap(), "500"];
    let more = ["--give-up", "6s", "--timeout", "100ms"];
    let sending = spawn(sender(&[&words[..], &more].concat()));
    let mut datagram = [0; 600];
    let (_, from) = slow.recv_from(&mut datagram).unwrap();
    slow.send_to(&acknowledgement(0), from).unwrap();
    // The second segment: the real one has the first, as nobody goes on before.
    while datagram[..4] != 500_u32.to_be_bytes() {
        slow.recv_from(&mut datagram).unwrap();
    }
    first.signal(Signal::SIGKILL);
    drop(first);
    let again = Receiver::start(port, &folder.path().join("f"), "0", &["--overwrite"]);
    let answering = std::thread::spawn(move || {
        for sequence in [500, 1_000, 1_500] {
            slow.send_to(&acknowledgement(sequence), from).unwrap();
            while sequence < 1_500 && datagram[..4] <= sequence.to_be_bytes()[..] {
                slow.recv_from(&mut datagram).unwrap();
            }
        }
    });
    let ended = end(sending);
    answering.join().unwrap();
    // The real one may have acknowledged the second segment before it was killed; the third it cannot.
    assert_eq!(ended.status, Some(1), "{}", ended.stderr);
    assert!(ended.stderr.contains("127.0.0.1: given up, it did not acknowledge"), "{}", ended.stderr);
    assert!(!again.file.exists());
}

#[test]
fn acknowledgements_from_elsewhere_count_for_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("sent");
    std::fs::write(&file, b"x").unwrap();
    let ((silent, port), (forger, _)) = (socket(), socket());
    let words =
        ["127.0.0.1", &port.to_string(), file.to_str().unwrap(), "500", "--give-up", "500ms", "--timeout", "50ms"];
    let sending = spawn(sender(&words));
    let (_, from) = silent.recv_from(&mut [0; 600]).unwrap();
    for sequence in [0, 1] {
        forger.send_to(&acknowledgement(sequence), from).unwrap();
        // From the right address, but of something else, or damaged.
        silent.send_to(&acknowledgement(sequence + 1), from).unwrap();
        silent.send_to(&acknowledgement(sequence)[..7], from).unwrap();
    }
    let ended = end(sending);
    assert_eq!(ended.status, Some(1), "{}", ended.stderr);
    assert!(ended.stderr.contains("0 bytes in 0 segments to 0 of 1 receivers"), "{}", ended.stderr);
}

#[test]
fn senders_at_once_are_kept_apart() {
    let folder = tempfile::tempdir().unwrap();
    let receiver = Receiver::start(0, &folder.path().join("f"), "0", &[]);
    let ((one, _), (other, other_port)) = (socket(), socket());
    for socket in [&one, &other] {
        socket.connect(("127.0.0.1", receiver.port)).unwrap();
    }
    assert_eq!(ask(&one, &segment(0, b"one ")), acknowledgement(0));
    assert_eq!(ask(&other, &segment(0, b"other")), acknowledgement(0));
    // The segment of one by the other's socket is out of its sequence.
    assert_eq!(ask(&other, &segment(4, b"file")), acknowledgement(0));
    assert_eq!(ask(&one, &segment(4, b"file")), acknowledgement(4));
    assert_eq!(ask(&other, &segment(5, b"")), acknowledgement(5));
    assert_eq!(ask(&one, &segment(8, b"")), acknowledgement(8));
    assert_eq!(receiver.content(), b"one file");
    let beside = folder.path().join(format!("f.127.0.0.1-{other_port}"));
    assert_eq!(std::fs::read(beside).unwrap(), b"other");
}

#[test]
fn more_senders_than_are_heard_do_no_harm() {
    let folder = tempfile::tempdir().unwrap();
    let receiver = Receiver::start(0, &folder.path().join("f"), "0", &[]);
    let (honest, _) = socket();
    honest.connect(("127.0.0.1", receiver.port)).unwrap();
    assert_eq!(ask(&honest, &segment(0, b"honest")), acknowledgement(0));
    let crowd: Vec<UdpSocket> = (0..400).map(|_| UdpSocket::bind("127.0.0.1:0").unwrap()).collect();
    for socket in &crowd {
        socket.send_to(&segment(0, b"crowd"), ("127.0.0.1", receiver.port)).unwrap();
    }
    // There may be no room for it behind those: it is sent again, as senders do.
    honest.set_read_timeout(Some(std::time::Duration::from_millis(200))).unwrap();
    let mut answer = [0; 100];
    while !honest.recv(&mut answer).is_ok_and(|length| answer[..length] == acknowledgement(6)) {
        honest.send(&segment(6, b"")).unwrap();
    }
    assert_eq!(receiver.content(), b"honest");
    let files = std::fs::read_dir(folder.path()).unwrap().count();
    assert!(files <= 256, "{files} files");
    receiver.signal(Signal::SIGTERM);
    assert_eq!(receiver.end().status, Some(130));
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "unfinished files are left behind");
}

#[test]
fn what_is_there_is_not_replaced_unasked() {
    let folder = tempfile::tempdir().unwrap();
    let (there, file) = (folder.path().join("f"), folder.path().join("sent"));
    std::fs::write(&there, "precious").unwrap();
    std::fs::write(&file, "new").unwrap();
    let refused =
        std::process::Command::new(env!("CARGO_BIN_EXE_p2mp-receiver")).arg("0").arg(&there).arg("0").output();
    let refused = refused.unwrap();
    assert_eq!(refused.status.code(), Some(3));
    let says = format!("error: {} exists; --overwrite replaces it\n", there.display());
    assert_eq!(String::from_utf8(refused.stderr).unwrap(), says);
    let receiver = Receiver::start(0, &there, "0", &["--overwrite"]);
    let ended = run(&["127.0.0.1", &receiver.port.to_string(), file.to_str().unwrap(), "500"]);
    assert_eq!(ended.status, Some(0), "{}", ended.stderr);
    assert_eq!(receiver.content(), b"new");
}

#[test]
fn an_interrupted_receiver_leaves_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    let mut receiver = Receiver::start(0, &folder.path().join("f"), "0", &[]);
    let (socket, _) = socket();
    socket.connect(("127.0.0.1", receiver.port)).unwrap();
    assert_eq!(ask(&socket, &segment(0, b"half a file")), acknowledgement(0));
    receiver.signal(Signal::SIGINT);
    let line = receiver.line();
    assert!(line.contains("f: begun by 127.0.0.1:"), "{line}");
    assert_eq!(receiver.line(), "11 bytes of unfinished files are thrown away");
    assert_eq!(receiver.end().status, Some(130));
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn what_cannot_be_sent_is_refused_before_anything_is() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (huge, marked, small) = (path("huge"), path("marked"), path("small"));
    File::create(&huge).unwrap().set_len(1 << 32).unwrap();
    std::fs::write(&marked, "data###data").unwrap();
    std::fs::write(&small, "x").unwrap();
    let (listener, port) = socket();
    let port = port.to_string();
    for (words, status, says) in [
        (vec![&*huge, "500"], 2, "a file of 4294967296 bytes is too long for 32-bit sequence numbers"),
        (vec![&marked, "500", "--dialect", "text"], 2, "marked holds `###` at byte 4"),
        (vec![&small, "1428", "--dialect", "text"], 2, "segments of 1428 bytes are too long for the text dialect"),
        (vec![&small, "0"], 2, "`0` is no number of bytes"),
        (vec!["/nowhere", "500"], 3, "cannot open /nowhere"),
        (vec!["/tmp", "500"], 3, "/tmp is not a file"),
        (vec![&small, "500", "--timeout", "0s"], 2, "`0s` is over at once"),
        (
            vec![&small, "500", "--timeout", "1s", "--timeout-mode", "adaptive"],
            2,
            "an adaptive timeout cannot be given",
        ),
        (vec![&small, "500", "--rate", "1Mbit"], 2, "--rate belongs to --mode fast"),
    ] {
        let ended = run(&[&["127.0.0.1", &port][..], &words].concat());
        assert_eq!(ended.status, Some(status), "{words:?}: {}", ended.stderr);
        assert!(ended.stderr.starts_with("error: ") && ended.stderr.contains(says), "{words:?}: {}", ended.stderr);
    }
    listener.set_nonblocking(true).unwrap();
    assert!(listener.recv(&mut [0; 8]).is_err(), "something was sent");
}

/// The longest file that there are sequence numbers for passes the check: it is only not waited for here.
#[test]
fn a_byte_less_than_4_gib_is_begun() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("f");
    File::create(&file).unwrap().set_len(u64::from(u32::MAX)).unwrap();
    let (listener, port) = socket();
    let sending = spawn(sender(&["127.0.0.1", &port.to_string(), file.to_str().unwrap(), "65000"]));
    let mut datagram = vec![0; 65_536];
    let (length, _) = listener.recv_from(&mut datagram).unwrap();
    assert_eq!((length, &datagram[..8]), (65_008, &b"\0\0\0\0\xff\xff\x55\x55"[..]));
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(sending.id() as i32), Signal::SIGINT).unwrap();
    let ended = end(sending);
    assert_eq!(ended.status, Some(130));
    assert!(ended.stderr.ends_with("interrupted; every receiver has 0 of 4294967295 bytes\n"), "{}", ended.stderr);
}

/// What the text dialect's own program cannot take, ours can.
#[test]
fn our_receiver_takes_text_that_its_own_program_cannot() {
    let folder = tempfile::tempdir().unwrap();
    let receiver = Receiver::start(0, &folder.path().join("f"), "0", &[]);
    let (socket, _) = socket();
    socket.connect(("127.0.0.1", receiver.port)).unwrap();
    let data = [&b"###"[..], &noise(30_000), b"###"].concat();
    let text = |sequence: u32, data: &[u8]| {
        let mut datagram = Vec::new();
        p2mp::classic::Dialect::Text.write_segment(sequence, data, &mut datagram);
        datagram
    };
    let answer = |sequence: u32| format!("{sequence:032b}###0000000000000000###1010101010101010").into_bytes();
    assert_eq!(ask(&socket, &text(0, &data)), answer(0));
    assert_eq!(ask(&socket, &text(30_006, b"")), answer(30_006));
    assert_eq!(receiver.content(), data);
}

#[test]
fn a_disk_that_takes_no_more_is_told_and_leaves_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    let receiver = Receiver::start_with("ulimit -f 2; exec", 0, &folder.path().join("f"), "0", &["--once"]);
    let (socket, _) = socket();
    socket.connect(("127.0.0.1", receiver.port)).unwrap();
    assert_eq!(ask(&socket, &segment(0, &noise(1_000))), acknowledgement(0));
    // As the assignment wants it, the acknowledgement comes before the data are written.
    assert_eq!(ask(&socket, &segment(1_000, &noise(1_500))), acknowledgement(1_000));
    let ended = receiver.end();
    assert_eq!(ended.status, Some(3), "{}", ended.stderr);
    assert!(ended.stderr.contains("cannot write ") && ended.stderr.contains("File too large"), "{}", ended.stderr);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn a_classic_sender_beside_a_fast_one_has_a_file_of_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("sent");
    std::fs::write(&file, noise(300_000)).unwrap();
    let mut receiver = Receiver::start(0, &folder.path().join("f"), "0", &[]);
    let port = receiver.port.to_string();
    let words = ["127.0.0.1", &port, file.to_str().unwrap(), "1000", "--mode", "fast", "--unicast", "--rate", "2Mbit"];
    let fast = spawn(sender(&words));
    let line = receiver.line();
    assert!(line.ends_with(" sends a file, 300000 bytes"), "{line}");
    let (socket, classic_port) = socket();
    socket.connect(("127.0.0.1", receiver.port)).unwrap();
    assert_eq!(ask(&socket, &segment(0, b"beside")), acknowledgement(0));
    let ended = end(fast);
    assert_eq!(ended.status, Some(0), "{}", ended.stderr);
    assert_eq!(receiver.content(), noise(300_000));
    assert_eq!(ask(&socket, &segment(6, b"")), acknowledgement(6));
    assert_eq!(std::fs::read(folder.path().join(format!("f.127.0.0.1-{classic_port}"))).unwrap(), b"beside");
}

#[test]
fn a_fast_sender_beside_a_classic_one_has_a_file_of_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("sent");
    std::fs::write(&file, noise(300_000)).unwrap();
    let receiver = Receiver::start(0, &folder.path().join("f"), "0", &[]);
    let (socket, _) = socket();
    socket.connect(("127.0.0.1", receiver.port)).unwrap();
    assert_eq!(ask(&socket, &segment(0, b"first")), acknowledgement(0));
    let words = ["127.0.0.1", &receiver.port.to_string(), file.to_str().unwrap(), "1000"];
    let ended = run(&[&words[..], &["--mode", "fast", "--unicast"]].concat());
    assert_eq!(ended.status, Some(0), "{}", ended.stderr);
    assert_eq!(ask(&socket, &segment(5, b"")), acknowledgement(5));
    assert_eq!(receiver.content(), b"first");
    let names = std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().path());
    let aside: Vec<_> =
        names.filter(|path| path.file_name().unwrap().to_str().unwrap().starts_with("f.127.0.0.1-")).collect();
    assert_eq!(aside.len(), 1, "{aside:?}");
    assert_eq!(std::fs::read(&aside[0]).unwrap(), noise(300_000));
}
