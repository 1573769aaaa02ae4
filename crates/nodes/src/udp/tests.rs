//! Over loopback, which joins and cuts trains as any interface does.

use std::io::IoSlice;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::AsFd;

use machine::{Span, Time};

use super::*;
use crate::clock;

fn local(ip: impl Into<IpAddr>) -> Socket {
    Socket::bind((ip.into(), 0).into()).unwrap()
}

/// As many datagrams as asked for, each with its source.
fn receive(socket: &Socket, count: usize) -> Vec<(SocketAddr, Vec<u8>)> {
    let mut batch = Batch::default();
    let mut received = Vec::new();
    while received.len() < count {
        let [ready] = wait([(socket.as_fd(), Interest::Read)], clock::now() + Span::from_secs(10)).unwrap();
        assert!(ready.read, "{} of {count} datagrams arrived in ten seconds", received.len());
        socket.receive(&mut batch).unwrap();
        received.extend(batch.datagrams().map(|datagram| (datagram.source, datagram.bytes.to_vec())));
    }
    received
}

/// `count` datagrams of a header and a payload each; the last is shorter by `short`.
fn pieces(bytes: &[u8], count: usize, datagram: usize, short: usize) -> Vec<IoSlice<'_>> {
    let length = count * datagram - short;
    let datagrams = bytes[..length].chunks(datagram);
    datagrams.flat_map(|bytes| [IoSlice::new(&bytes[..16]), IoSlice::new(&bytes[16..])]).collect()
}

fn noise(length: usize) -> Vec<u8> {
    (0..length as u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect()
}

#[test]
fn trains_arrive_as_the_datagrams_that_they_are_made_of() {
    let bytes = noise(64_000);
    for ip in [IpAddr::V4(Ipv4Addr::LOCALHOST), Ipv6Addr::LOCALHOST.into()] {
        for cuts in [true, false] {
            let (sender, receivers) = (local(ip), [local(ip), local(ip)]);
            sender.cuts.set(cuts);
            let pieces = pieces(&bytes, 44, 1400, 300);
            let trains: Vec<Train<'_>> = receivers
                .iter()
                .map(|to| Train { to: to.local_address().unwrap(), pieces: &pieces, datagram: 1400 })
                .collect();
            let sent = sender.send_trains(&trains);
            assert!(sent.trains == 2 && sent.refusal.is_none(), "{sent:?}");
            for receiver in &receivers {
                let received = receive(receiver, 44);
                assert!(received.iter().all(|(source, _)| *source == sender.local_address().unwrap()));
                assert_eq!(received.iter().map(|(_, bytes)| bytes.len()).filter(|length| *length == 1400).count(), 43);
                assert_eq!(received.concat_payloads(), bytes[..44 * 1400 - 300]);
            }
        }
    }
}

trait Concat {
    fn concat_payloads(&self) -> Vec<u8>;
}

impl Concat for Vec<(SocketAddr, Vec<u8>)> {
    fn concat_payloads(&self) -> Vec<u8> {
        self.iter().flat_map(|(_, bytes)| bytes).copied().collect()
    }
}

#[test]
fn a_socket_of_all_addresses_speaks_both_families() {
    let all = Socket::any(0).unwrap();
    let port = all.local_address().unwrap().port();
    for ip in [IpAddr::V4(Ipv4Addr::LOCALHOST), Ipv6Addr::LOCALHOST.into()] {
        assert!(all.can_reach(ip));
        let one = local(ip);
        assert!(one.send((ip, port).into(), b"there").is_none());
        let (source, bytes) = receive(&all, 1).remove(0);
        assert_eq!((source, &bytes[..]), (one.local_address().unwrap(), &b"there"[..]));
        assert!(all.send(source, b"and back").is_none());
        assert_eq!(receive(&one, 1), [(SocketAddr::new(ip, port), b"and back".to_vec())]);
    }
}

/// The kernel notes when a datagram arrives, not the program that comes for it later. It begins with that a moment after it
/// was asked to; what came before it notes when it is taken.
#[test]
fn arrivals_are_told_however_late_a_program_comes() {
    for ip in [IpAddr::from(Ipv4Addr::LOCALHOST), Ipv6Addr::LOCALHOST.into()] {
        let (sender, mut receiver) = (local(ip), local(ip));
        receiver.tell_arrivals().unwrap();
        receiver.tell_destinations().unwrap();
        let to = receiver.local_address().unwrap();
        let has_begun = std::iter::repeat_with(|| {
            let before = clock::now();
            assert!(sender.send(to, b"here").is_none());
            let mut batch = Batch::default();
            wait([(receiver.as_fd(), Interest::Read)], Time::MAX).unwrap();
            let after = clock::now();
            let late = after + Span::from_millis(20);
            wait([(sender.as_fd(), Interest::Read)], late).unwrap();
            receiver.receive(&mut batch).unwrap();
            let taking = clock::now() - late;
            let datagram = batch.datagrams().next().expect("it is there");
            assert_eq!((datagram.bytes, datagram.destination), (b"here".as_slice(), Some(ip)));
            let arrived = datagram.arrived.expect("the kernel notes it");
            // Two clocks are read one after the other, and anything may come between.
            assert!(before - taking <= arrived, "{before:?} {arrived:?} {taking:?}");
            arrived <= after
        });
        assert!(has_begun.take(500).any(|has_begun| has_begun), "after ten seconds nothing was noted at its arrival");
    }
}

#[test]
fn what_is_empty_or_too_long_is_told_from_each_other() {
    let (sender, receiver) = (local(Ipv4Addr::LOCALHOST), local(Ipv4Addr::LOCALHOST));
    let to = receiver.local_address().unwrap();
    assert!(sender.send(to, b"").is_none());
    assert_eq!(receive(&receiver, 1)[0].1, b"");
    assert!(matches!(sender.send(to, &vec![0; 65_508]), Some(Refusal::TooLong)), "no IP packet is so long");
    assert!(matches!(sender.send("[::1]:9".parse().unwrap(), b""), Some(Refusal::Unreachable(_))));
    // Loopback's packets are 65 536 bytes long.
    sender.probe_path().unwrap();
    assert!(sender.send(to, &vec![7; 65_507]).is_none());
    assert_eq!(receive(&receiver, 1)[0].1, vec![7; 65_507]);
}

#[test]
fn a_group_reaches_those_that_joined_it() {
    let bytes = noise(64_000);
    let pieces = pieces(&bytes, 40, 1200, 1);
    let loopback = Interface::named("lo").unwrap();
    // Of IPv4 only: loopback has no routes to groups of IPv6.
    for sender in [Socket::any(0).unwrap(), local(Ipv4Addr::UNSPECIFIED)] {
        let group = IpAddr::V4(Ipv4Addr::new(239, 77, 35, 1));
        sender.send_groups_by(&loopback, 1, true).unwrap();
        let receiver = Socket::any(0).unwrap();
        let to = SocketAddr::new(group, receiver.local_address().unwrap().port());
        receiver.join(group, &loopback).unwrap();
        receiver.join(group, &loopback).unwrap();
        let train = Train { to, pieces: &pieces, datagram: 1200 };
        let sent = sender.send_trains(&[train]);
        assert!(sent.refusal.is_none(), "{sent:?}");
        assert_eq!(receive(&receiver, 40).concat_payloads(), bytes[..40 * 1200 - 1]);

        receiver.leave(group, &loopback).unwrap();
        let _lost = sender.send_trains(&[train]);
        let own = (Ipv4Addr::LOCALHOST, to.port()).into();
        assert!(sender.send(own, b"after").is_none());
        assert_eq!(receive(&receiver, 1)[0].1, b"after", "nothing of the group came before");
    }
}

#[test]
fn interfaces_have_names_addresses_and_routes() {
    let loopback = Interface::named("lo").unwrap();
    assert_eq!(Interface::named("127.0.0.1").unwrap(), loopback);
    assert_eq!(Interface::towards(Ipv4Addr::LOCALHOST.into()).unwrap(), loopback);
    assert_eq!(Interface::towards(Ipv6Addr::LOCALHOST.into()).unwrap(), loopback);
    let error = Interface::named("nosuch0").unwrap_err().to_string();
    assert!(error.contains("`nosuch0`") && error.contains("lo"), "{error}");
    // What the length field of IPv4 can say bounds it.
    assert_eq!(path_mtu(Ipv4Addr::LOCALHOST.into()).unwrap(), 65_535);
    assert_eq!(path_mtu(Ipv6Addr::LOCALHOST.into()).unwrap(), 65_536);
}

#[test]
fn buffers_tell_their_real_size_and_waits_end() {
    let socket = local(Ipv4Addr::LOCALHOST);
    let buffers = socket.enlarge(Buffers { receive: 1 << 20, send: 1 << 19 }).unwrap();
    assert!(buffers.receive >= 1 << 17 && buffers.send >= 1 << 17, "{buffers:?}");
    precise_timers();
    let until = clock::now() + Span::from_millis(2);
    let fd = socket.as_fd();
    assert_eq!(wait([(fd, Interest::Read)], until).unwrap(), [Ready::default()]);
    assert!(clock::now() >= until);
    assert_eq!(wait([(fd, Interest::ReadOrWrite)], Time::MAX).unwrap(), [Ready { read: false, write: true }]);
}

/// Loopback has all of 127.0.0.0/8, so it is a host of several addresses; routes want answers to come from 127.0.0.1.
#[test]
fn an_answer_comes_from_the_address_that_was_asked() {
    for bound in [IpAddr::from(Ipv4Addr::UNSPECIFIED), Ipv6Addr::UNSPECIFIED.into()] {
        let mut host = local(bound);
        host.tell_destinations().unwrap();
        let port = host.local_address().unwrap().port();
        for asked in ["127.0.0.1", "127.0.0.9", "127.200.0.1", "::1"] {
            let asked = SocketAddr::new(asked.parse().unwrap(), port);
            if !host.can_reach(asked.ip()) {
                continue;
            }
            let asker = local(address::unspecified(asked.ip()));
            assert!(asker.send(asked, b"who?").is_none());
            let [ready] = wait([(host.as_fd(), Interest::Read)], clock::now() + Span::from_secs(10)).unwrap();
            assert!(ready.read, "nothing arrived in ten seconds");
            let mut batch = Batch::default();
            host.receive(&mut batch).unwrap();
            let question = batch.datagrams().next().unwrap();
            assert_eq!((question.destination, question.bytes), (Some(asked.ip()), &b"who?"[..]));
            assert!(host.send_from(question.destination, question.source, b"I").is_none());
            assert_eq!(receive(&asker, 1), [(asked, b"I".to_vec())]);
            // An address that is none of this machine's any more.
            let gone = if asked.is_ipv4() { "192.0.2.1" } else { "2001:db8::1" }.parse().unwrap();
            assert!(host.send_from(Some(gone), question.source, b"still I").is_none());
            assert_eq!(receive(&asker, 1)[0].1, b"still I");
        }
    }
}
