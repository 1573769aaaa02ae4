//! Floods of what is nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use p2mp::fast::{DataHeader, MemberId, Packet, Poll, Release, SessionId};

use super::{Receiver, liar};
use crate::process::noise;

/// Datagrams that begin like those of each protocol, and go on with anything.
fn datagrams() -> Vec<Vec<u8>> {
    let anything = noise(64 << 10);
    let beginnings: [&[u8]; 9] = [
        b"",
        b"PF",
        b"PF\x01\x01\x00\x00\x5f\x5f",
        b"PF\x01\x02\x00\x00\x5f\x5f",
        b"PF\x01\x03\x00\x00\x5f\x5f",
        b"PF\x01\x04\x00\x00\x5f\x5f",
        // A segment in the middle of nowhere, an acknowledgement, and one whose checksum is wrong at the very beginning.
        b"\x00\x01\x00\x00\x00\x00\x55\x55",
        b"\x00\x00\x00\x00\x00\x00\xaa\xaa",
        b"\x00\x00\x00\x00\x00\x01\x55\x55",
    ];
    let text: &[u8] = b"00000000000000000000000000000000###0000000000000000###0101010101010101###x";
    let lengths = [0, 1, 7, 22, 60, 400, 1400, 9000, 60_000];
    let mut datagrams: Vec<Vec<u8>> = (0..text.len()).map(|end| text[..end].to_vec()).collect();
    for (index, beginning) in beginnings.iter().enumerate() {
        for (other, length) in lengths.iter().enumerate() {
            let from = (index * 97 + other * 1009) % 1000;
            datagrams.push([*beginning, &anything[from..from + length]].concat());
        }
    }
    let header = DataHeader { number: 1, block: 0, symbol: 0, poll: Poll::EVERYBODY };
    datagrams.push(Packet::Data(header, &anything[..1400]).to_bytes(SessionId(5)));
    datagrams.push(Packet::Release(Release { member: MemberId(5), is_complete: false }).to_bytes(SessionId(5)));
    datagrams
}

#[test]
fn a_flood_of_nothing_leaves_nothing() {
    for name in [None, Some("movie")] {
        let mut receiver = Receiver::start(name);
        let socket = liar();
        for _ in 0..200 {
            for datagram in datagrams() {
                socket.send_to(&datagram, receiver.at).unwrap();
            }
        }
        if name.is_some() {
            receiver.assert_serves("movie");
        }
        assert_eq!(receiver.entries(), name.into_iter().collect::<Vec<_>>());
        assert!(receiver.peak_memory() < super::MOST_MEMORY);
        assert_eq!(receiver.interrupt().code(), Some(130));
    }
}

#[test]
fn a_flood_does_not_keep_it_from_ending() {
    let receiver = Receiver::start(Some("movie"));
    let (at, is_over) = (receiver.at, Arc::new(AtomicBool::new(false)));
    let floods: Vec<_> = (0..2)
        .map(|_| {
            let (socket, is_over) = (liar(), Arc::clone(&is_over));
            std::thread::spawn(move || {
                // Once it is gone, nobody listens.
                while !is_over.load(Ordering::Relaxed) && socket.send_to(b"PF\x01\x02\x00\x00\x5f\x5f", at).is_ok() {}
            })
        })
        .collect();
    assert_eq!(receiver.interrupt().code(), Some(130));
    is_over.store(true, Ordering::Relaxed);
    floods.into_iter().for_each(|flood| flood.join().unwrap());
}
