//! Receivers that lie to a sender, and strangers who answer in their place.

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use p2mp::fast::{MemberId, Packet, Report, Run};

use super::{PORT, Receiver, fresh_address, liar, send, sender};
use crate::process::{Process, noise};

/// A place where a receiver is expected, and somebody else listens.
fn expected() -> (UdpSocket, SocketAddr) {
    let at = SocketAddr::from((fresh_address(), PORT));
    let socket = UdpSocket::bind(at).unwrap();
    socket.set_read_timeout(Some(std::time::Duration::from_millis(20))).unwrap();
    (socket, at)
}

#[test]
fn acknowledgements_from_strangers_acknowledge_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("movie");
    std::fs::write(&file, noise(5000)).unwrap();
    for (dialect, acknowledgement) in [("published", &b"\0\0\0\0\0\0\xaa\xaa"[..]), ("text", TEXT)] {
        let (socket, at) = expected();
        let mut process =
            Process { child: sender(&[at], &file, &["500", "--dialect", dialect, "--give-up", "1s"]).spawn().unwrap() };
        let (stranger, mut bytes, mut first) = (liar(), [0; 2048], None);
        // Until it has given up, each segment is answered, but never from where it went.
        let status = loop {
            let ended = process.child.try_wait().unwrap();
            // What it sent before its end is here by now.
            let heard = socket.recv_from(&mut bytes);
            if let Ok((length, from)) = heard {
                let segment = bytes[..length].to_vec();
                assert_eq!(first.get_or_insert(segment.clone()), &segment, "it went on to another segment");
                stranger.send_to(acknowledgement, from).unwrap();
                stranger.send_to(&segment, from).unwrap();
            } else if let Some(status) = ended {
                break status;
            }
        };
        assert_eq!(status.code(), Some(1));
        assert!(first.is_some());
    }
}

const TEXT: &[u8] = b"00000000000000000000000000000000###0000000000000000###1010101010101010";

#[test]
fn acknowledgements_of_what_was_not_sent_are_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("movie");
    std::fs::write(&file, noise(5000)).unwrap();
    let (socket, at) = expected();
    let mut process = Process { child: sender(&[at], &file, &["500", "--give-up", "1s"]).spawn().unwrap() };
    let mut bytes = [0; 2048];
    let status = loop {
        if let Some(status) = process.child.try_wait().unwrap() {
            break status;
        }
        if let Ok((length, from)) = socket.recv_from(&mut bytes) {
            assert_eq!(&bytes[..4], [0; 4], "it went on to another segment");
            for sequence in [1_u32, 499, 500, 5000, u32::MAX] {
                socket.send_to(&[&sequence.to_be_bytes()[..], b"\0\0\xaa\xaa"].concat(), from).unwrap();
            }
            // Right in number, but not an acknowledgement; cut off; and the segment itself.
            for wrong in [&b"\0\0\0\0\0\0\x55\x55"[..], b"\0\0\0\0\0\0\xaa", b"\0\0\0\0", b"", &bytes[..length]] {
                socket.send_to(wrong, from).unwrap();
            }
        }
    };
    assert_eq!(status.code(), Some(1));
}

#[test]
fn a_receiver_that_lies_in_its_reports_keeps_the_file_from_nobody() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("movie");
    let content = noise(2_000_000);
    std::fs::write(&file, &content).unwrap();
    let honest = Receiver::start(None);
    let (socket, at) = expected();
    let is_over = Arc::new(AtomicBool::new(false));
    let liar = std::thread::spawn({
        let is_over = Arc::clone(&is_over);
        move || {
            let (mut bytes, mut count) = ([0; 2048], 0_u64);
            while !is_over.load(Ordering::Relaxed) {
                let Ok((length, from)) = socket.recv_from(&mut bytes) else { continue };
                let Ok((session, _)) = Packet::parse(&bytes[..length]) else { continue };
                for _ in 0..20 {
                    count += 1;
                    // Another number each time, and all is missing for ever.
                    let report = Packet::Report(lie(count)).to_bytes(session);
                    socket.send_to(&report, from).unwrap();
                    socket.send_to(&report[..report.len() - 1], from).unwrap();
                }
            }
        }
    });
    let ended = send(&[honest.at, at], &file, &["1442", "--mode", "fast", "--unicast", "--give-up", "6s"]);
    is_over.store(true, Ordering::Relaxed);
    liar.join().unwrap();
    assert_eq!(ended.status.code(), Some(1), "{}", ended.stderr);
    assert!(std::fs::read(honest.inside("movie")).unwrap() == content);
    assert!(ended.stderr.contains(&at.ip().to_string()), "the one that lacks it is named: {}", ended.stderr);
}

/// Sometimes of nothing, sometimes of all that there could be.
fn lie(count: u64) -> Report {
    let wild = count.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    Report {
        member: MemberId(count % 5000),
        is_open: !count.is_multiple_of(3),
        lacks_files: count.is_multiple_of(5),
        lacks_digests: count.is_multiple_of(7),
        is_complete: false,
        failure: None,
        window: wild as u32,
        largest_alone: 1472,
        largest_group: 0,
        echo_us: wild as u32,
        echo_held_us: (wild >> 32) as u32,
        highest: wild >> (1 + count % 60),
        arrived_us: wild as u32,
        held_us: (wild >> 32) as u32,
        received: wild >> (count % 60),
        symbols: 0,
        covered: u32::MAX,
        runs: vec![Run { first: 0, count: u32::MAX, missing: None }],
    }
}
