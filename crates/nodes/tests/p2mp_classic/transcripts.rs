//! Every byte of a transfer, in both directions and in both dialects, written by hand from the published format.

use crate::programs::{Receiver, ask, end, sender, socket, spawn};

/// What comes and what is answered: `hello, world` in segments of five bytes.
const PUBLISHED: [(&[u8], &[u8]); 4] = [
    (b"\x00\x00\x00\x00\xbc\x2d\x55\x55hello", b"\x00\x00\x00\x00\x00\x00\xaa\xaa"),
    (b"\x00\x00\x00\x05\xea\x6f\x55\x55, wor", b"\x00\x00\x00\x05\x00\x00\xaa\xaa"),
    (b"\x00\x00\x00\x0a\x93\x9b\x55\x55ld", b"\x00\x00\x00\x0a\x00\x00\xaa\xaa"),
    (b"\x00\x00\x00\x0c\xff\xff\x55\x55", b"\x00\x00\x00\x0c\x00\x00\xaa\xaa"),
];

const TEXT: [(&[u8], &[u8]); 3] = [
    (
        b"00000000000000000000000000000000###0000110110111100###0101010101010101###hello",
        b"00000000000000000000000000000000###0000000000000000###1010101010101010",
    ),
    (
        b"00000000000000000000000000000101###0000110010111100###0101010101010101###hello!",
        b"00000000000000000000000000000101###0000000000000000###1010101010101010",
    ),
    (
        b"00000000000000000000000000001011###1111111111111111###0101010101010101###",
        b"00000000000000000000000000001011###0000000000000000###1010101010101010",
    ),
];

#[test]
fn a_sender_sends_these_bytes() {
    speaks(b"hello, world", "5", "published", &PUBLISHED);
    // The second segment is the last with data: six bytes would not fit into five.
    speaks(b"hello", "5", "text", &[TEXT[0], (END_AT_5, ACK_OF_5)]);
    speaks(b"", "500", "published", &[(b"\x00\x00\x00\x00\xff\xff\x55\x55", b"\x00\x00\x00\x00\x00\x00\xaa\xaa")]);
}

const END_AT_5: &[u8] = b"00000000000000000000000000000101###1111111111111111###0101010101010101###";
const ACK_OF_5: &[u8] = b"00000000000000000000000000000101###0000000000000000###1010101010101010";

fn speaks(content: &[u8], mss: &str, dialect: &str, transcript: &[(&[u8], &[u8])]) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("f");
    std::fs::write(&file, content).unwrap();
    let (socket, port) = socket();
    let words = ["127.0.0.1", &port.to_string(), file.to_str().unwrap(), mss, "--dialect", dialect];
    // So long that nothing is repeated, however busy the machine is.
    let sender = spawn(sender(&[&words[..], &["--timeout", "60s", "--give-up", "60s"]].concat()));
    for (segment, acknowledgement) in transcript {
        let mut datagram = [0; 65_536];
        let (length, from) = socket.recv_from(&mut datagram).unwrap();
        assert_eq!(&datagram[..length], *segment);
        socket.send_to(acknowledgement, from).unwrap();
    }
    let ended = end(sender);
    assert_eq!((ended.status, ended.stdout.as_str()), (Some(0), ""), "{}", ended.stderr);
}

#[test]
fn a_receiver_answers_these_bytes() {
    answers(b"hello, world", &PUBLISHED);
    answers(b"hellohello!", &TEXT);
}

fn answers(content: &[u8], transcript: &[(&[u8], &[u8])]) {
    let folder = tempfile::tempdir().unwrap();
    let receiver = Receiver::start(0, &folder.path().join("f"), "0", &["--once", "--linger", "10ms"]);
    let (socket, _) = socket();
    socket.connect(("127.0.0.1", receiver.port)).unwrap();
    for (segment, acknowledgement) in transcript {
        assert_eq!(ask(&socket, segment), *acknowledgement);
    }
    // Who hears that it is complete can rely on it.
    assert_eq!(receiver.content(), content);
    let ended = receiver.end();
    assert_eq!((ended.status, ended.stdout.as_str()), (Some(0), ""), "{}", ended.stderr);
}

#[test]
fn out_of_sequence_the_last_one_is_acknowledged_and_what_is_damaged_not_at_all() {
    let folder = tempfile::tempdir().unwrap();
    let receiver = Receiver::start(0, &folder.path().join("f"), "0", &["--once", "--linger", "6s"]);
    let (socket, _) = socket();
    socket.connect(("127.0.0.1", receiver.port)).unwrap();
    let [first, second, third, end] = PUBLISHED;
    // Nothing is in sequence yet: neither this nor what is damaged is answered, so the first answer is to the first.
    for unanswered in
        [second.0, b"\x00\x00\x00\x00\xbc\x2d\x55\x55hellO", b"\x00\x00\x00\x00\xbc\x2d\x55\x57hello", b"x"]
    {
        socket.send(unanswered).unwrap();
    }
    assert_eq!(ask(&socket, first.0), first.1);
    assert_eq!(ask(&socket, third.0), first.1, "too early");
    assert_eq!(ask(&socket, first.0), first.1, "twice");
    assert_eq!(ask(&socket, b"\xff\xff\xff\xff\xff\xff\x55\x55"), first.1, "an end far away");
    // In the other dialect it would be another sender.
    socket.send(TEXT[1].0).unwrap();
    assert_eq!(ask(&socket, second.0), second.1);
    assert_eq!(ask(&socket, third.0), third.1);
    assert_eq!(ask(&socket, end.0), end.1);
    assert_eq!(ask(&socket, end.0), end.1, "its acknowledgement may have been lost");
    assert_eq!(receiver.content(), b"hello, world");
    assert_eq!(receiver.end().status, Some(0));
}

#[test]
fn the_lines_on_stdout_are_those_of_the_assignment() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("f");
    let (listener, _) = socket();
    // At p = 1 everything is lost, before anything else: what is damaged and what is not in sequence, too.
    let mut receiver = Receiver::start(0, &file, "1", &[]);
    listener.send_to(PUBLISHED[0].0, ("127.0.0.1", receiver.port)).unwrap();
    listener.send_to(b"\x00\x01\x00\x00\x12\x34\x55\x55?", ("127.0.0.1", receiver.port)).unwrap();
    listener.send_to(TEXT[1].0, ("127.0.0.1", receiver.port)).unwrap();
    for lost in [0, 65_536, 5] {
        assert_eq!(receiver.printed(), format!("Packet loss, sequence number = {lost}"));
    }
    receiver.signal(nix::sys::signal::Signal::SIGTERM);
    let ended = receiver.end();
    assert_eq!((ended.status, ended.stdout.as_str()), (Some(130), ""));
    assert!(!file.exists());

    let sender_file = folder.path().join("g");
    std::fs::write(&sender_file, "x").unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    let sending = spawn(sender(&["127.0.0.1", &port, sender_file.to_str().unwrap(), "1", "--timeout", "100ms"]));
    // The third time it is sent, its timer has expired twice; perhaps once more before the signal.
    for _ in 0..3 {
        listener.recv_from(&mut [0; 600]).unwrap();
    }
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(sending.id() as i32), nix::sys::signal::Signal::SIGINT).unwrap();
    let ended = end(sending);
    let lines: Vec<&str> = ended.stdout.lines().collect();
    assert!(lines.len() >= 2 && lines.iter().all(|line| *line == "Timeout, sequence number = 0"), "{lines:?}");
    assert_eq!(ended.status, Some(130), "{}", ended.stderr);
}
