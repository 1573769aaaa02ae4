//! Requests and announcements over UDP.

use std::collections::BTreeSet;
use std::net::{SocketAddr, UdpSocket};

use p2p::tracker_text::Answer;
use sha2::{Digest as _, Sha256};

use super::{Client, Program, Served, ask, asker};

const ASK: &[u8] = b"GET f.torrent\n";

#[test]
fn every_form_of_request_is_answered_as_published() {
    let tracker = Program::tracker(&["--file", "f=805975", "10.0.0.1", "10.0.0.2:20013"]);
    let answers = [
        "NUM_BLOCKS: 81\nFILE_SIZE: 805975\nIP1: 10.0.0.1\nPORT1: 18765\nIP2: 10.0.0.2\nPORT2: 20013\n",
        "NUM_BLOCKS: 81\nFILE_SIZE: 805975\nIP1: 10.0.0.2\nPORT1: 20013\nIP2: 10.0.0.1\nPORT2: 18765\n",
    ];
    for request in ["GET f.torrent\n", "GET f.torrent", "get f.Torrent\r\n"] {
        let answer = ask(&asker(), tracker.at, request.as_bytes());
        assert!(answers.contains(&answer.as_str()), "{request:?}: {answer:?}");
    }
    let long = [b"GET ", &[b'f'; 2000][..], b".torrent\n"].concat();
    for wrong in [b"HELLO\n", &b""[..], b"GET g.torrent\n", b"GET f\n", b"GET f .torrent\n", b"\xff\xfe", &long] {
        assert_eq!(ask(&asker(), tracker.at, wrong), "400 BAD_FORMAT\n", "{}", wrong.escape_ascii());
    }
    let (status, said) = tracker.interrupt();
    assert_eq!((status.code(), said.as_str()), (Some(130), ""));
}

#[test]
fn a_digest_is_told_where_it_is_known_and_an_exact_multiple_ends_in_an_empty_block() {
    let file = format!("f=20000,{}", "a5".repeat(32));
    let tracker = Program::tracker(&["--file", &file, "10.0.0.1"]);
    let wanted = "NUM_BLOCKS: 3\nFILE_SIZE: 20000\nIP1: 10.0.0.1\nPORT1: 18765\nSHA256: ";
    assert_eq!(ask(&asker(), tracker.at, ASK), format!("{wanted}{}\n", "a5".repeat(32)));
}

#[test]
fn a_client_that_asks_too_often_hears_nothing() {
    let tracker = Program::tracker(&["--interval", "1h", "--file", "f=5", "10.0.0.1"]);
    let eager = asker();
    ask(&eager, tracker.at, ASK);
    for _ in 0..10 {
        eager.send_to(ASK, tracker.at).unwrap();
    }
    // Datagrams are taken in their order; when another one is answered, those were passed over.
    ask(&asker(), tracker.at, ASK);
    eager.set_nonblocking(true).unwrap();
    assert_eq!(eager.recv_from(&mut [0; 2048]).unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
}

/// Asks until the answer is as wanted.
fn ask_until(tracker: SocketAddr, mut is_wanted: impl FnMut(&Answer) -> bool) {
    let asker = asker();
    loop {
        let answer = ask(&asker, tracker, ASK);
        if Answer::decode(answer.as_bytes()).is_ok_and(|answer| is_wanted(&answer)) {
            return;
        }
    }
}

#[test]
fn a_peer_announces_itself_and_goes() {
    let served = Served::of(25_000);
    let tracker = Program::tracker(&["--interval", "0s"]);
    assert_eq!(ask(&asker(), tracker.at, ASK), "400 BAD_FORMAT\n", "nobody has told of it");
    let words = ["--tracker", &tracker.at.to_string(), "--ports", "3"];
    let peer = Program::peer(&served.path(), &words);
    let answer = Answer::decode(ask(&asker(), tracker.at, ASK).as_bytes()).unwrap();
    assert_eq!((answer.blocks, answer.size, answer.peers.len()), (3, 25_000, 2));
    let mut named = BTreeSet::new();
    ask_until(tracker.at, |answer| {
        named.extend(answer.peers.iter().copied());
        named.len() == 4 && answer.digest.is_some()
    });
    let digest: [u8; 32] = Sha256::digest(&served.content).into();
    ask_until(tracker.at, |answer| answer.digest == Some(digest));
    assert!(named.contains(&peer.at));
    for address in named {
        assert_eq!(address.ip(), peer.at.ip());
        Client::at(address).say("GET f:1\n").hears(&served.answer(10_000, 10_000));
    }
    let (status, said) = peer.interrupt();
    assert_eq!((status.code(), said.as_str()), (Some(130), ""));
    assert_eq!(ask(&asker(), tracker.at, ASK), "400 BAD_FORMAT\n", "it is gone, and said so");
}

#[test]
fn ports_come_and_go_with_their_connections() {
    let served = Served::of(25_000);
    let tracker = Program::tracker(&["--interval", "0s"]);
    let words = ["--tracker", &tracker.at.to_string(), "--ports", "1", "--churn", "300ms", "--max-connections", "1000"];
    let peer = Program::peer(&served.path(), &words);
    let mut fixed = Client::of(&peer);
    let mut seen = BTreeSet::new();
    let mut clients = Vec::new();
    ask_until(tracker.at, |answer| {
        for address in answer.peers.iter().filter(|address| **address != peer.at) {
            // One that is retired meanwhile takes no connection.
            if seen.insert(*address)
                && let Ok(stream) = std::net::TcpStream::connect(address)
            {
                clients.push(Client::set_up(stream));
            }
        }
        seen.len() == 4
    });
    assert!(!clients.is_empty());
    // Of those before the last, each has ended or does so now.
    clients.truncate(clients.len() - 1);
    clients.iter_mut().for_each(Client::ends);
    fixed.say("GETHDR f\n").hears(&super::head(0, 25_000));
}

#[test]
fn announcements_of_nonsense_change_nothing() {
    let tracker = Program::tracker(&["--interval", "0s", "--file", "f=805975", "10.0.0.1:7"]);
    let liar: UdpSocket = asker();
    for wrong in [
        "PEER f.torrent\nFILE_SIZE: 805976\nBLOCK_SIZE: 10000\nPORTS: 9\n",
        "PEER f.torrent\nFILE_SIZE: 805975\nBLOCK_SIZE: 5\nPORTS: 9\n",
    ] {
        liar.send_to(wrong.as_bytes(), tracker.at).unwrap();
    }
    for wrong in ["PEER f.torrent\nFILE_SIZE: 805975\nBLOCK_SIZE: 10000\nPORTS: 0\n", "PEER f.torrent\n", "PEER"] {
        assert_eq!(ask(&liar, tracker.at, wrong.as_bytes()), "400 BAD_FORMAT\n");
    }
    let wanted = "NUM_BLOCKS: 81\nFILE_SIZE: 805975\nIP1: 10.0.0.1\nPORT1: 7\n";
    assert_eq!(ask(&asker(), tracker.at, ASK), wanted);
    let right = "PEER f.torrent\nFILE_SIZE: 805975\nBLOCK_SIZE: 10000\nPORTS: 9\n";
    liar.send_to(right.as_bytes(), tracker.at).unwrap();
    let own = SocketAddr::new(liar.local_addr().unwrap().ip(), 9);
    ask_until(tracker.at, |answer| answer.peers.contains(&own));
}
