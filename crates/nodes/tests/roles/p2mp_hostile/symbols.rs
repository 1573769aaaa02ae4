//! Data that do not fit what was announced.

use std::net::{SocketAddr, UdpSocket};

use p2mp::fast::{Announce, DataHeader, FileEntry, Packet, Poll, Release, SessionId};

use super::{Receiver, announce, ask, liar, release};
use crate::process::noise;

const SESSION: SessionId = SessionId(0x0dd5);
const PAYLOAD: usize = 1442;

/// An announced file, and somebody who sends what he likes of it.
struct Transfer {
    receiver: Receiver,
    socket: UdpSocket,
    content: Vec<u8>,
    announce: Announce,
    number: u64,
}

impl Transfer {
    fn open(length: usize) -> Self {
        let (receiver, socket, content) = (Receiver::start(Some("movie")), liar(), noise(length));
        let digest = Some(*blake3::hash(&content).as_bytes());
        let announce = announce(vec![FileEntry { digest, ..FileEntry::new("movie", length as u64) }]);
        ask(&socket, receiver.at, SESSION, &announce, |said| said.is_open);
        Transfer { receiver, socket, content, announce, number: 0 }
    }

    fn to(&self) -> SocketAddr {
        self.receiver.at
    }

    fn symbol(&mut self, session: SessionId, number: u64, block: u32, symbol: u16, payload: &[u8]) {
        let header = DataHeader { number, block, symbol, poll: Poll::Nobody };
        self.socket.send_to(&Packet::Data(header, payload).to_bytes(session), self.to()).unwrap();
    }

    /// Sends every original as it is, until all are there.
    fn send_all(&mut self, content: &[u8]) {
        for (index, payload) in content.chunks(PAYLOAD).enumerate() {
            self.number += 1;
            self.symbol(SESSION, self.number, 0, index as u16, payload);
        }
    }

    /// Sends it truly, again and again, until the receiver has it.
    fn complete(mut self) {
        for _ in 0..600 {
            self.send_all(&self.content.clone());
            let report = ask(&self.socket, self.to(), SESSION, &self.announce, |_| true);
            assert!(report.failure.is_none(), "{report:?}");
            if report.is_complete {
                assert!(std::fs::read(self.receiver.inside("movie")).unwrap() == self.content);
                assert_eq!(self.receiver.entries(), ["movie"]);
                assert!(self.receiver.peak_memory() < super::MOST_MEMORY);
                return;
            }
        }
        panic!("never complete\n{}", self.receiver.said);
    }
}

#[test]
fn symbols_beyond_the_cut_and_of_other_sizes_are_nothing() {
    let mut transfer = Transfer::open(100_000);
    let long = noise(9000);
    // 70 originals, 64 recovery symbols.
    for (block, symbol) in [(0, 134), (0, u16::MAX), (1, 0), (7, 3), (u32::MAX, 0), (u32::MAX, u16::MAX)] {
        transfer.symbol(SESSION, 1, block, symbol, &long[..PAYLOAD]);
    }
    for length in [0, 1, PAYLOAD - 1, PAYLOAD + 1, 9000] {
        (0..200).for_each(|symbol| transfer.symbol(SESSION, 2, 0, symbol, &long[..length]));
    }
    // The last original is shorter than the others.
    transfer.symbol(SESSION, 3, 0, 69, &long[..PAYLOAD]);
    transfer.symbol(SESSION, u64::MAX >> 1, 9, 9, &long[..PAYLOAD]);
    let report = ask(&transfer.socket, transfer.to(), SESSION, &transfer.announce, |said| said.is_open);
    assert_eq!((report.symbols, report.runs[0].missing), (0, None), "{report:?}");
    transfer.number = 3;
    transfer.complete();
}

#[test]
fn data_and_releases_of_another_session_are_nothing() {
    let mut transfer = Transfer::open(100_000);
    let wrong = noise(PAYLOAD + 1);
    (0..100).for_each(|symbol| transfer.symbol(SessionId(1), 1, 0, symbol, &wrong[1..]));
    for (session, member) in [(SESSION, 1), (SessionId(1), 1)] {
        let release = Release { member: p2mp::fast::MemberId(member), is_complete: false };
        transfer.socket.send_to(&Packet::Release(release).to_bytes(session), transfer.to()).unwrap();
    }
    transfer.complete();
}

#[test]
fn wrong_bytes_never_get_the_final_name() {
    let mut transfer = Transfer::open(50_000);
    let mut wrong = transfer.content.clone();
    wrong[33_333] ^= 1;
    transfer.send_all(&wrong);
    transfer.receiver.wait_for("has not the digest that its sender says; it comes again");
    assert!(!transfer.receiver.inside("movie").exists());
    transfer.complete();
}

#[test]
fn who_sends_wrong_bytes_twice_is_not_heard_a_third_time() {
    let mut transfer = Transfer::open(50_000);
    let mut wrong = transfer.content.clone();
    wrong[0] ^= 1;
    transfer.send_all(&wrong);
    transfer.receiver.wait_for("it comes again");
    let why = loop {
        transfer.send_all(&wrong);
        let report = ask(&transfer.socket, transfer.to(), SESSION, &transfer.announce, |_| true);
        assert!(!report.is_complete);
        if let Some(why) = report.failure {
            break why;
        }
    };
    assert!(why.contains("twice it had not the sender's digest"), "{why}");
    assert!(!transfer.receiver.inside("movie").exists());
    assert_eq!(transfer.receiver.entries().iter().filter(|name| *name == "movie").count(), 0);
}

#[test]
fn a_pipe_under_the_name_of_a_file_blocks_nobody() {
    let mut receiver = Receiver::start(None);
    nix::unistd::mkfifo(&receiver.inside("movie"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    let socket = liar();
    let files = announce(vec![FileEntry::new("movie", 0)]);
    let report = ask(&socket, receiver.at, SESSION, &files, |said| said.failure.is_some());
    release(&socket, receiver.at, SESSION, &report);
    let why = report.failure.unwrap();
    assert!(why.ends_with("movie is a pipe, not a file"), "{why}");
    receiver.wait_for("failed: ");
    assert_eq!(receiver.entries(), ["movie"]);
}
