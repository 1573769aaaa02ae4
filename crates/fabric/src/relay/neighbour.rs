//! ARP (RFC 826) and IPv6 neighbour discovery (RFC 4861), answered from the configuration.
//!
//! So no loss eats an answer, and a thousand nodes need no million table entries. A question about an address that the
//! configuration does not know is ordinary traffic: a node may have taken more addresses than it was given.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::ethernet::{ARP, Checksum, HEADER, Header, IPV6, Mac, array_at, u16_at};

/// Who has which address.
#[derive(Clone, Debug, Default)]
pub(super) struct Neighbours {
    macs: BTreeMap<IpAddr, Mac>,
}

/// What is to be done with a frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Reaction {
    /// It is not a question about a known address.
    Forward,
    /// It is one that nobody would answer: a node's own address, or duplicate address detection.
    Swallow,
    /// The answer, to be sent to the one who asked.
    Answer(Vec<u8>),
}

/// The protocol number of ICMPv6 (RFC 4443).
const ICMPV6: u8 = 58;

impl Neighbours {
    pub(super) fn add(&mut self, mac: Mac, addresses: &[IpAddr]) {
        for address in addresses.iter().copied().chain([link_local(mac).into()]) {
            self.macs.insert(address, mac);
        }
    }

    /// What the owner of `asker` gets for this frame, whose header has been read.
    pub(super) fn react(&self, asker: Mac, header: &Header, frame: &[u8]) -> Reaction {
        let body = &frame[HEADER..];
        let reaction = match header.ethertype {
            ARP => self.arp(asker, body),
            IPV6 => self.solicitation(asker, body),
            _ => None,
        };
        reaction.unwrap_or(Reaction::Forward)
    }

    fn arp(&self, asker: Mac, body: &[u8]) -> Option<Reaction> {
        const ETHERNET_IPV4_REQUEST: [u8; 8] = [0, 1, 8, 0, 6, 4, 0, 1];
        if array_at(body, 0)? != ETHERNET_IPV4_REQUEST {
            return None;
        }
        let asker_address: [u8; 4] = array_at(body, 14)?;
        let wanted: [u8; 4] = array_at(body, 24)?;
        let mac = *self.macs.get(&Ipv4Addr::from(wanted).into())?;
        if mac == asker {
            return Some(Reaction::Swallow);
        }
        let mut answer = Vec::with_capacity(HEADER + 28);
        begin(&mut answer, asker, mac, ARP);
        answer.extend_from_slice(&ETHERNET_IPV4_REQUEST[..7]);
        answer.push(2);
        answer.extend_from_slice(&mac);
        answer.extend_from_slice(&wanted);
        answer.extend_from_slice(&asker);
        answer.extend_from_slice(&asker_address);
        Some(Reaction::Answer(answer))
    }

    fn solicitation(&self, asker: Mac, body: &[u8]) -> Option<Reaction> {
        const SOLICITATION: [u8; 2] = [135, 0];
        const HOP_LIMIT: u8 = 255; // RFC 4861, section 7.1.1: anything less came through a router
        if body.get(6..8)? != [ICMPV6, HOP_LIMIT] || array_at(body, 40)? != SOLICITATION {
            return None;
        }
        let asker_address: [u8; 16] = array_at(body, 8)?;
        let wanted: [u8; 16] = array_at(body, 48)?;
        let mac = *self.macs.get(&Ipv6Addr::from(wanted).into())?;
        if mac == asker || Ipv6Addr::from(asker_address).is_unspecified() {
            return Some(Reaction::Swallow);
        }
        let mut message = Vec::with_capacity(32);
        message.extend_from_slice(&[136, 0, 0, 0]); // neighbour advertisement, checksum below
        message.extend_from_slice(&[0x60, 0, 0, 0]); // solicited, override
        message.extend_from_slice(&wanted);
        message.extend_from_slice(&[2, 1]); // target link-layer address, 8 bytes
        message.extend_from_slice(&mac);
        let length = message.len() as u32;
        let checksum =
            Checksum::default().add(&wanted).add(&asker_address).add_number(length).add_number(ICMPV6.into());
        let checksum = checksum.add(&message).finished();
        message[2..4].copy_from_slice(&checksum.to_be_bytes());

        let mut answer = Vec::with_capacity(HEADER + 40 + message.len());
        begin(&mut answer, asker, mac, IPV6);
        answer.extend_from_slice(&[0x60, 0, 0, 0]);
        answer.extend_from_slice(&(length as u16).to_be_bytes());
        answer.extend_from_slice(&[ICMPV6, HOP_LIMIT]);
        answer.extend_from_slice(&wanted);
        answer.extend_from_slice(&asker_address);
        answer.extend_from_slice(&message);
        debug_assert_eq!(u16_at(&answer, 12), Some(IPV6));
        Some(Reaction::Answer(answer))
    }
}

/// Whether a frame is a question or an answer about who has which address, or who leads out of the network: ARP, or router
/// and neighbour discovery (RFC 4861, section 4), which never has extension headers.
pub(super) fn is_about_neighbours(header: &Header, frame: &[u8]) -> bool {
    const NEXT_HEADER: usize = HEADER + 6;
    const TYPE: usize = HEADER + 40;
    const DISCOVERY: std::ops::RangeInclusive<u8> = 133..=137;
    match header.ethertype {
        ARP => true,
        IPV6 => frame.get(NEXT_HEADER) == Some(&ICMPV6) && frame.get(TYPE).is_some_and(|kind| DISCOVERY.contains(kind)),
        _ => false,
    }
}

fn begin(frame: &mut Vec<u8>, destination: Mac, source: Mac, ethertype: u16) {
    frame.extend_from_slice(&destination);
    frame.extend_from_slice(&source);
    frame.extend_from_slice(&ethertype.to_be_bytes());
}

/// The link-local address that an interface makes from its MAC (RFC 4291, appendix A).
pub(crate) fn link_local(mac: Mac) -> Ipv6Addr {
    let [a, b, c, d, e, f] = mac;
    Ipv6Addr::from([0xfe, 0x80, 0, 0, 0, 0, 0, 0, a ^ 2, b, c, 0xff, 0xfe, d, e, f])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const A: Mac = [2, 0, 0, 0, 0, 1];
    const B: Mac = [2, 0, 0, 0, 0, 2];

    fn neighbours() -> Neighbours {
        let mut neighbours = Neighbours::default();
        neighbours.add(A, &["10.0.0.1".parse().unwrap(), "fd00::1".parse().unwrap()]);
        neighbours.add(B, &["10.0.0.2".parse().unwrap(), "fd00::2".parse().unwrap()]);
        neighbours
    }

    fn arp(asker: [u8; 4], wanted: [u8; 4]) -> Vec<u8> {
        let mut frame = Vec::new();
        begin(&mut frame, [0xff; 6], A, ARP);
        frame.extend([0, 1, 8, 0, 6, 4, 0, 1]);
        frame.extend(A);
        frame.extend(asker);
        frame.extend([0; 6]);
        frame.extend(wanted);
        frame
    }

    fn solicitation(asker: &str, wanted: &str) -> Vec<u8> {
        let (asker, wanted): (Ipv6Addr, Ipv6Addr) = (asker.parse().unwrap(), wanted.parse().unwrap());
        let mut frame = Vec::new();
        begin(&mut frame, [0x33, 0x33, 0xff, 0, 0, 2], A, IPV6);
        frame.extend([0x60, 0, 0, 0, 0, 24, 58, 255]);
        frame.extend(asker.octets());
        frame.extend([0; 16]);
        frame.extend([135, 0, 0, 0, 0, 0, 0, 0]);
        frame.extend(wanted.octets());
        frame
    }

    fn react(frame: &[u8]) -> Reaction {
        neighbours().react(A, &Header::of(frame).unwrap(), frame)
    }

    #[test]
    fn a_request_is_answered_with_the_owners_address() {
        let Reaction::Answer(answer) = react(&arp([10, 0, 0, 1], [10, 0, 0, 2])) else { panic!("no answer") };
        assert_eq!(Header::of(&answer), Some(Header { destination: A, source: B, ethertype: ARP }));
        assert_eq!(answer[20..22], [0, 2], "a reply");
        assert_eq!((&answer[22..28], &answer[28..32]), (&B[..], &[10, 0, 0, 2][..]), "sender");
        assert_eq!((&answer[32..38], &answer[38..42]), (&A[..], &[10, 0, 0, 1][..]), "target");
    }

    #[test]
    fn own_addresses_and_duplicate_detection_are_swallowed_and_strangers_forwarded() {
        assert_eq!(react(&arp([0; 4], [10, 0, 0, 1])), Reaction::Swallow);
        assert_eq!(react(&arp([10, 0, 0, 1], [10, 0, 0, 1])), Reaction::Swallow, "gratuitous");
        assert_eq!(react(&solicitation("::", "fd00::2")), Reaction::Swallow);
        assert_eq!(react(&arp([10, 0, 0, 1], [10, 0, 0, 77])), Reaction::Forward);
        assert_eq!(react(&solicitation("fd00::1", "fd00::77")), Reaction::Forward);
    }

    #[test]
    fn a_solicitation_is_answered_with_a_valid_checksum() {
        for wanted in ["fd00::2", "fe80::ff:fe00:2"] {
            let Reaction::Answer(answer) = react(&solicitation("fd00::1", wanted)) else { panic!("no answer") };
            assert_eq!(Header::of(&answer), Some(Header { destination: A, source: B, ethertype: IPV6 }));
            let sum = Checksum::default().add(&answer[22..54]).add_number(32).add_number(58).add(&answer[54..]);
            assert_eq!((answer.len(), sum.finished()), (86, 0));
            assert_eq!(answer[80..86], B);
        }
    }

    proptest! {
        #[test]
        fn no_bytes_panic(mut frame in prop::collection::vec(any::<u8>(), HEADER..120), kind in 0..3usize) {
            frame[12..14].copy_from_slice(&[ARP, IPV6, 0x0800][kind].to_be_bytes());
            react(&frame);
        }

        #[test]
        fn no_damaged_question_panics(at in 0..86usize, value: u8, length in HEADER..86usize) {
            for mut frame in [arp([10, 0, 0, 1], [10, 0, 0, 2]), solicitation("fd00::1", "fd00::2")] {
                if let Some(byte) = frame.get_mut(at) {
                    *byte = value;
                }
                frame.truncate(length);
                react(&frame);
            }
        }
    }
}
