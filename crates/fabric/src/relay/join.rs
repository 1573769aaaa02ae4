//! Joining packets of a TCP or UDP flow that are due together into a train, as the receive offload of a network card does.
//!
//! Most of what a packet costs is its way through the receiver's stack, and a train takes that way once. Each packet has met
//! its own fate and its own time before; only what would be handed over one right after the other is handed over at once.
//! The conditions are those of the kernel's own receive offload (`tcp_gro_receive`, `udp_gro_receive_segment`), so no receiver
//! sees anything that a network card could not have shown it; a UDP socket that did not ask for trains (`UDP_GRO`) gets
//! datagrams.

use super::ethernet::{Checksum, HEADER, IPV4, IPV6, u16_at};
use super::segment::{NEEDS_CHECKSUM, VNET};

/// Room for the headers of a train: `virtio_net_hdr`, Ethernet, IPv4 and TCP with all options that they can have.
pub(super) const LONGEST_HEADERS: usize = VNET + HEADER + 60 + 60;

/// What the length of an IPv4 packet can say.
const LONGEST_PACKET: usize = 65_535;

const TCP: u8 = 6;
const UDP: u8 = 17;
const TCP4_TRAIN: u8 = 1;
const TCP6_TRAIN: u8 = 4;
const UDP_TRAIN: u8 = 5;
const UDP_HEADER: usize = 8;
/// The most datagrams of a train that every kernel takes (`UDP_MAX_SEGMENTS`; 128 since Linux 6.9).
const MOST_DATAGRAMS: usize = 64;
const ACK: u8 = 0x10;
const PUSH: u8 = 0x08;
const ECE: u8 = 0x40;
const NO_FRAGMENTS: u16 = 0x4000;

/// Packets of one flow, the next continuing the last, that will be one train.
#[derive(Clone, Copy, Debug)]
pub(super) struct Run<'a> {
    first: &'a [u8],
    head: Head,
    /// Payload bytes of all.
    payload: usize,
    packets: usize,
    /// A short packet, or one of TCP that says "push", is the last.
    is_open: bool,
    pushes: bool,
}

/// Where the parts of a TCP or UDP packet are, counted from its Ethernet header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Head {
    is_ipv4: bool,
    is_tcp: bool,
    transport: usize,
    payload: usize,
}

impl<'a> Run<'a> {
    /// A run of one packet (`virtio_net_hdr` and frame); `None` if it is of a kind that is never joined.
    pub(super) fn of(packet: &'a [u8]) -> Option<Self> {
        let head = Head::of(packet)?;
        let (_, frame) = packet.split_at(VNET);
        let pushes = head.pushes(frame);
        Some(Run { first: packet, head, payload: frame.len() - head.payload, packets: 1, is_open: !pushes, pushes })
    }

    /// Whether its packets are of UDP, of which not every kernel takes trains.
    pub(super) fn is_udp(&self) -> bool {
        !self.head.is_tcp
    }

    /// Appends a packet, if it continues the run.
    pub(super) fn append(&mut self, packet: &'a [u8]) -> bool {
        if !self.is_open || Head::of(packet) != Some(self.head) {
            return false;
        }
        let (frame, first) = (&packet[VNET..], &self.first[VNET..]);
        let Head { is_ipv4, is_tcp, transport, payload } = self.head;
        let (length, segment) = (frame.len() - payload, first.len() - payload);
        let fits = length <= segment && payload - HEADER + self.payload + length <= LONGEST_PACKET;
        let continues = if is_tcp { self.is_continued_by(frame) } else { self.packets < MOST_DATAGRAMS };
        if !fits || !continues {
            return false;
        }
        let same = |range: std::ops::Range<usize>| frame[range.clone()] == first[range];
        let same_network = if is_ipv4 {
            let identifier = |frame: &[u8]| u16_at(frame, HEADER + 4).unwrap_or(0);
            // Nobody reads the identifier of what must not be fragmented (RFC 6864).
            let in_order = u16_at(frame, HEADER + 6) == Some(NO_FRAGMENTS)
                || identifier(frame) == identifier(first).wrapping_add(self.packets as u16);
            // All but lengths, identifier and checksum.
            in_order && same(HEADER..HEADER + 2) && same(HEADER + 6..HEADER + 10) && same(HEADER + 12..transport)
        } else {
            same(HEADER..HEADER + 4) && same(HEADER + 6..transport)
        };
        // Ports; of TCP also acknowledgement and length of the header; flags; window, urgent pointer; options.
        let flags = |frame: &[u8]| frame[transport + 13] & !PUSH;
        let same_transport = same(transport..transport + 4)
            && (!is_tcp
                || same(transport + 8..transport + 13)
                    && flags(frame) == flags(first)
                    && same(transport + 14..transport + 16)
                    && same(transport + 18..payload));
        if !(same(0..HEADER) && same_network && same_transport) {
            return false;
        }
        self.pushes = self.head.pushes(frame);
        self.payload += length;
        self.packets += 1;
        self.is_open = length == segment && !self.pushes;
        true
    }

    /// The payload of a packet that has been appended, or of the first.
    pub(super) fn payload_of(&self, packet: &'a [u8]) -> &'a [u8] {
        &packet[VNET + self.head.payload..]
    }

    /// Writes what precedes the payloads of all packets; how long that is.
    pub(super) fn write_headers(&self, out: &mut [u8; LONGEST_HEADERS]) -> usize {
        let Head { is_ipv4, is_tcp, transport, payload } = self.head;
        let (length, segment) = (VNET + payload, self.first.len() - VNET - payload);
        out[..length].copy_from_slice(&self.first[..length]);
        out[1] = match (is_tcp, is_ipv4) {
            (true, true) => TCP4_TRAIN,
            (true, false) => TCP6_TRAIN,
            (false, _) => UDP_TRAIN,
        };
        out[2..4].copy_from_slice(&(payload as u16).to_ne_bytes());
        out[4..6].copy_from_slice(&(segment as u16).to_ne_bytes());
        let frame = &mut out[VNET..length];
        let transport_length = payload - transport + self.payload;
        let addresses = if is_ipv4 {
            let total = (transport - HEADER + transport_length) as u16;
            frame[HEADER + 2..HEADER + 4].copy_from_slice(&total.to_be_bytes());
            frame[HEADER + 10..HEADER + 12].fill(0);
            let checksum = Checksum::default().add(&frame[HEADER..transport]).finished();
            frame[HEADER + 10..HEADER + 12].copy_from_slice(&checksum.to_be_bytes());
            HEADER + 12..HEADER + 20
        } else {
            frame[HEADER + 4..HEADER + 6].copy_from_slice(&(transport_length as u16).to_be_bytes());
            HEADER + 8..HEADER + 40
        };
        let pseudo = Checksum::default().add(&frame[addresses]).add_number(transport_length as u32);
        let pseudo = pseudo.add_number(u32::from(self.head.protocol())).folded();
        if !is_tcp {
            frame[transport + 4..transport + 6].copy_from_slice(&(transport_length as u16).to_be_bytes());
        }
        let checksum = transport + self.head.checksum_at();
        frame[checksum..checksum + 2].copy_from_slice(&pseudo.to_be_bytes());
        if self.pushes {
            frame[transport + 13] |= PUSH;
        }
        length
    }

    fn is_continued_by(&self, frame: &[u8]) -> bool {
        let sequence = |frame: &[u8]| {
            let at = self.head.transport + 4;
            u32::from_be_bytes([frame[at], frame[at + 1], frame[at + 2], frame[at + 3]])
        };
        sequence(frame) == sequence(&self.first[VNET..]).wrapping_add(self.payload as u32)
    }
}

impl Head {
    /// `None` unless it is a whole packet over plain IPv4 or IPv6 that carries payload, with its checksum left to offload, of
    /// UDP or of a TCP that says nothing but ACK, PSH and ECE.
    fn of(packet: &[u8]) -> Option<Head> {
        let (vnet, frame) = packet.split_at_checked(VNET)?;
        let native = |at: usize| usize::from(u16::from_ne_bytes([vnet[at], vnet[at + 1]]));
        if vnet[0] != NEEDS_CHECKSUM || vnet[1] != 0 {
            return None;
        }
        let transport = native(6);
        let is_ipv4 = match u16_at(frame, 12)? {
            IPV4 => true,
            IPV6 => false,
            _ => return None,
        };
        let protocol = *frame.get(HEADER + if is_ipv4 { 9 } else { 6 })?;
        let is_tcp = protocol == TCP;
        let is_whole = if is_ipv4 {
            let header = usize::from(frame.get(HEADER)? & 0xf) * 4;
            let is_fragment = u16_at(frame, HEADER + 6)? & !NO_FRAGMENTS != 0;
            header >= 20
                && transport == HEADER + header
                && usize::from(u16_at(frame, HEADER + 2)?) == frame.len() - HEADER
                && !is_fragment
        } else {
            transport == HEADER + 40 && usize::from(u16_at(frame, HEADER + 4)?) + 40 == frame.len() - HEADER
        };
        let header = match protocol {
            TCP => {
                let flags = *frame.get(transport + 13)?;
                let is_plain = flags & ACK != 0 && flags & !(ACK | PUSH | ECE) == 0;
                let header = usize::from(frame.get(transport + 12)? >> 4) * 4;
                (is_plain && header >= 20).then_some(header)?
            }
            UDP => (usize::from(u16_at(frame, transport + 4)?) == frame.len() - transport).then_some(UDP_HEADER)?,
            _ => return None,
        };
        let head = Head { is_ipv4, is_tcp, transport, payload: transport + header };
        (is_whole && native(8) == head.checksum_at() && frame.len() > head.payload).then_some(head)
    }

    fn protocol(&self) -> u8 {
        if self.is_tcp { TCP } else { UDP }
    }

    /// Where the checksum is in the transport header.
    fn checksum_at(&self) -> usize {
        if self.is_tcp { 16 } else { 6 }
    }

    fn pushes(&self, frame: &[u8]) -> bool {
        self.is_tcp && frame[self.transport + 13] & PUSH != 0
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::segment::tests::cut;
    use super::*;

    /// A train as a kernel hands it over, whose packets are what the relay makes of it.
    fn train(is_ipv4: bool, segment: u16, payload: usize) -> Vec<u8> {
        let transport = if is_ipv4 { HEADER + 20 } else { HEADER + 40 };
        let mut packet = vec![NEEDS_CHECKSUM, if is_ipv4 { TCP4_TRAIN } else { TCP6_TRAIN }];
        packet.extend((transport as u16 + 32).to_ne_bytes());
        packet.extend(segment.to_ne_bytes());
        packet.extend((transport as u16).to_ne_bytes());
        packet.extend(16u16.to_ne_bytes());
        packet.extend([2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2]);
        packet.extend(if is_ipv4 { IPV4 } else { IPV6 }.to_be_bytes());
        let length = 32 + payload;
        if is_ipv4 {
            packet.extend([0x45, 0]);
            packet.extend((20 + length as u16).to_be_bytes());
            packet.extend([0, 9, 0x40, 0, 64, TCP, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
            let at = VNET + HEADER;
            let checksum = Checksum::default().add(&packet[at..at + 20]).finished();
            packet[at + 10..at + 12].copy_from_slice(&checksum.to_be_bytes());
        } else {
            packet.extend([0x60, 0, 0, 0]);
            packet.extend((length as u16).to_be_bytes());
            packet.extend([TCP, 64]);
            packet.extend([7; 32]);
        }
        packet.extend([0, 1, 0, 2, 0xff, 0xff, 0xfe, 0, 0, 0, 0, 9, 0x80, ACK, 1, 0, 0, 0, 0, 0]);
        packet.extend([1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2]);
        packet.extend((0..payload).map(|k| k as u8));
        // The kernel leaves the sum of the pseudo header in the field.
        let frame = &packet[VNET..];
        let addresses = if is_ipv4 { HEADER + 12..HEADER + 20 } else { HEADER + 8..HEADER + 40 };
        let pseudo = Checksum::default().add(&frame[addresses]).add_number(length as u32).add_number(6).folded();
        let at = VNET + transport + 16;
        packet[at..at + 2].copy_from_slice(&pseudo.to_be_bytes());
        packet
    }

    /// The same of UDP.
    fn datagrams(is_ipv4: bool, segment: u16, payload: usize) -> Vec<u8> {
        let mut packet = train(is_ipv4, segment, payload);
        let transport = if is_ipv4 { HEADER + 20 } else { HEADER + 40 };
        packet[1] = UDP_TRAIN;
        packet[2..4].copy_from_slice(&((transport + UDP_HEADER) as u16).to_ne_bytes());
        packet[8..10].copy_from_slice(&6u16.to_ne_bytes());
        packet.drain(VNET + transport + 4..VNET + transport + 28);
        let length = (UDP_HEADER + payload) as u16;
        let frame = &mut packet[VNET..];
        if is_ipv4 {
            frame[HEADER + 2..HEADER + 4].copy_from_slice(&(20 + length).to_be_bytes());
            // A network may cut it up: its datagrams count their identifiers on.
            frame[HEADER + 6] = 0;
            frame[HEADER + 9] = UDP;
            frame[HEADER + 10..HEADER + 12].fill(0);
            let checksum = Checksum::default().add(&frame[HEADER..transport]).finished();
            frame[HEADER + 10..HEADER + 12].copy_from_slice(&checksum.to_be_bytes());
        } else {
            frame[HEADER + 4..HEADER + 6].copy_from_slice(&length.to_be_bytes());
            frame[HEADER + 6] = UDP;
        }
        frame[transport + 4..transport + 6].copy_from_slice(&length.to_be_bytes());
        let addresses = if is_ipv4 { HEADER + 12..HEADER + 20 } else { HEADER + 8..HEADER + 40 };
        let pseudo = Checksum::default().add(&frame[addresses]).add_number(length.into()).add_number(UDP.into());
        frame[transport + 6..transport + 8].copy_from_slice(&pseudo.folded().to_be_bytes());
        packet
    }

    /// Joins what can be joined; the trains, and how many packets are in each.
    fn join(packets: &[Vec<u8>]) -> Vec<(Vec<u8>, usize)> {
        let mut joined = Vec::new();
        let mut rest = packets;
        while let Some((first, others)) = rest.split_first() {
            let Some(mut run) = Run::of(first) else {
                joined.push((first.clone(), 1));
                rest = others;
                continue;
            };
            let taken = 1 + others.iter().take_while(|packet| run.append(packet)).count();
            let mut headers = [0; LONGEST_HEADERS];
            let length = run.write_headers(&mut headers);
            let payloads = rest[..taken].iter().flat_map(|packet| run.payload_of(packet));
            joined.push((headers[..length].iter().chain(payloads).copied().collect(), taken));
            rest = &rest[taken..];
        }
        joined
    }

    #[test]
    fn what_was_cut_is_joined_to_what_it_was() {
        for is_ipv4 in [true, false] {
            for whole in [train(is_ipv4, 1000, 3500), datagrams(is_ipv4, 1000, 3500)] {
                assert_eq!(join(&cut(&whole)), [(whole, 4)], "IPv4: {is_ipv4}");
            }
        }
    }

    #[test]
    fn datagrams_are_joined_whichever_are_lost_and_to_no_more_than_kernels_take() {
        let sizes = |packets: &[Vec<u8>]| join(packets).iter().map(|(_, packets)| *packets).collect::<Vec<_>>();
        let packets = cut(&datagrams(false, 1000, 6000));
        let lost = [&packets[..2], &packets[3..]].concat();
        assert_eq!(sizes(&lost), [5], "they carry no numbers");
        assert_eq!(sizes(&cut(&datagrams(false, 100, 8000))), [64, 16]);
        let short = [cut(&datagrams(false, 1000, 1500)), packets.clone()].concat();
        assert_eq!(sizes(&short), [2, 6], "a short one is the last");
        // Without "do not fragment" identifiers count on, and a lost datagram leaves a gap in them.
        let packets = cut(&datagrams(true, 1000, 6000));
        assert_eq!(sizes(&[&packets[..2], &packets[3..]].concat()), [2, 3]);
        for (at, what) in
            [(HEADER + 20, "a port"), (HEADER + 19, "an address"), (HEADER + 24, "the length"), (0, "a MAC")]
        {
            let mut other = packets.clone();
            other[1][VNET + at] ^= 1;
            assert_eq!(sizes(&other)[0], 1, "{what} differs");
        }
    }

    #[test]
    fn a_gap_a_short_packet_and_a_push_end_a_train() {
        let sizes = |packets: &[Vec<u8>]| join(packets).iter().map(|(_, packets)| *packets).collect::<Vec<_>>();
        let packets = cut(&train(true, 1000, 6000));
        let lost: Vec<Vec<u8>> = packets.iter().enumerate().filter(|(k, _)| *k != 2).map(|(_, p)| p.clone()).collect();
        assert_eq!(sizes(&lost), [2, 3], "the third is lost");
        let mut pushing = packets.clone();
        pushing[3][VNET + HEADER + 20 + 13] |= PUSH;
        assert_eq!(sizes(&pushing), [4, 2]);
        let short = [cut(&train(true, 1000, 1500)), packets.clone()].concat();
        assert_eq!(sizes(&short)[0], 2);
        let mut late = packets.clone();
        late.swap(1, 2);
        assert_eq!(sizes(&late), [1, 1, 1, 3]);
        for (at, flag) in [(13, 1), (13, 2), (13, 4), (13, 0x20), (13, 0x80), (15, 1), (11, 2), (31, 1)] {
            let mut other = packets.clone();
            other[1][VNET + HEADER + 20 + at] |= flag;
            assert_eq!(sizes(&other)[0], 1, "byte {at} of the TCP header differs");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_panic_and_nothing_is_added(
            is_ipv4: bool, is_tcp: bool, segment in 1..1500u16, payload in 1..9000usize,
            damage in prop::collection::vec((0..9usize, 0..120usize, any::<u8>()), 0..6), length in 0..1600usize,
        ) {
            let mut packets = cut(&if is_tcp { train } else { datagrams }(is_ipv4, segment, payload));
            packets.truncate(9);
            for (which, at, value) in damage {
                if let Some(byte) = packets.get_mut(which).and_then(|packet| packet.get_mut(at)) {
                    *byte = value;
                }
            }
            packets[0].truncate(length);
            let joined = join(&packets);
            prop_assert_eq!(joined.iter().map(|(_, packets)| packets).sum::<usize>(), packets.len());
            let bytes = |packet: &[u8]| packet.len();
            prop_assert!(joined.iter().map(|(p, _)| bytes(p)).sum::<usize>() <= packets.iter().map(|p| bytes(p)).sum());
        }
    }
}
