//! Segmentation offload: what a large packet counts for, and cutting it up.
//!
//! A packet socket with `PACKET_VNET_HDR` puts a `virtio_net_hdr` (virtio 1.2, section 5.1.6, in the host's byte order)
//! before each frame. With a segment size in it the frame stands for a train of packets with the same headers.

use link::WireSize;

use super::ethernet::{Checksum, HEADER, IPV4, IPV6, u16_at};

/// Length of a `virtio_net_hdr`.
pub(super) const VNET: usize = 10;

/// `VIRTIO_NET_HDR_F_NEEDS_CSUM`: the checksum is left to the receiver of the header.
pub(super) const NEEDS_CHECKSUM: u8 = 1;
const TCP4: u8 = 1;
const TCP6: u8 = 4;
const UDP: u8 = 5;
const ECN: u8 = 0x80;

const TCP_FIN_PSH: u8 = 0x09;
const TCP_CWR: u8 = 0x80;

/// The headers of a train, found and checked against the frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Train {
    /// Where the transport header begins in the frame.
    transport: usize,
    /// Where the payload begins in the frame.
    payload: usize,
    /// Payload bytes of each packet but the last. Invariant: not zero.
    segment: usize,
    is_tcp: bool,
    is_ipv4: bool,
}

impl Train {
    /// What `packet` (a `virtio_net_hdr` and a frame) is cut into; `None` if it is an ordinary packet, or a train of a
    /// kind that is not known here.
    pub(super) fn of(packet: &[u8]) -> Option<Train> {
        let (vnet, frame) = packet.split_at_checked(VNET)?;
        let native = |at: usize| usize::from(u16::from_ne_bytes([vnet[at], vnet[at + 1]]));
        let (kind, segment, transport) = (vnet[1] & !ECN, native(4), native(6));
        if segment == 0 || vnet[0] & NEEDS_CHECKSUM == 0 {
            return None;
        }
        let is_ipv4 = match u16_at(frame, 12)? {
            IPV4 => {
                usize::from(frame.get(HEADER)? & 0xf) * 4 == transport.checked_sub(HEADER)? && transport >= HEADER + 20
            }
            IPV6 => false,
            _ => return None,
        };
        let is_tcp = match kind {
            TCP4 if is_ipv4 => true,
            TCP6 if !is_ipv4 => true,
            UDP => false,
            _ => return None,
        };
        if !is_ipv4 && (u16_at(frame, 12)? == IPV4 || transport < HEADER + 40) {
            return None;
        }
        let header = if is_tcp { usize::from(frame.get(transport + 12)? >> 4) * 4 } else { 8 };
        let payload = transport + header;
        let is_whole = header >= 8 && (!is_tcp || header >= 20) && frame.len() > payload;
        is_whole.then_some(Train { transport, payload, segment, is_tcp, is_ipv4 })
    }

    /// What a packet, whether a train or not, counts for on the wire.
    pub(super) fn wire_size(train: Option<Train>, packet: &[u8]) -> WireSize {
        let bytes = packet.len().saturating_sub(VNET);
        match train {
            None => WireSize::packet(bytes as u32),
            Some(train) => {
                let packets = train.packets(packet);
                WireSize { bytes: (bytes + (packets - 1) * train.payload) as u32, packets: packets as u32 }
            }
        }
    }

    /// How many packets it is cut into.
    pub(super) fn packets(&self, packet: &[u8]) -> usize {
        (packet.len() - VNET - self.payload).div_ceil(self.segment)
    }

    /// How long the `index`-th of its packets is, with its `virtio_net_hdr`.
    pub(super) fn length_of(&self, packet: &[u8], index: usize) -> usize {
        let rest = packet.len() - VNET - self.payload - index * self.segment;
        VNET + self.payload + rest.min(self.segment)
    }

    /// Writes the `index`-th of its packets into `out`, which has the length that [`length_of`](Train::length_of) tells.
    /// The transport checksum is left to offload, as in the train.
    pub(super) fn cut(&self, packet: &[u8], index: usize, out: &mut [u8]) {
        let first = VNET + self.payload + index * self.segment;
        let payload = out.len() - VNET - self.payload;
        let is_last = first + payload == packet.len();
        out[..VNET + self.payload].copy_from_slice(&packet[..VNET + self.payload]);
        out[VNET + self.payload..].copy_from_slice(&packet[first..first + payload]);
        // No longer a train. A router tells how much of the whole train it had in one piece, as the length of the headers:
        // of a packet that is shorter the kernel would refuse that.
        out[1..6].fill(0);

        let frame = &mut out[VNET..];
        let length = frame.len();
        let transport_length = (length - self.transport) as u32;
        let (addresses, protocol) = if self.is_ipv4 {
            let id = u16_at(frame, HEADER + 4).unwrap_or(0).wrapping_add(index as u16);
            frame[HEADER + 2..HEADER + 4].copy_from_slice(&((length - HEADER) as u16).to_be_bytes());
            frame[HEADER + 4..HEADER + 6].copy_from_slice(&id.to_be_bytes());
            frame[HEADER + 10..HEADER + 12].fill(0);
            let checksum = Checksum::default().add(&frame[HEADER..self.transport]).finished();
            frame[HEADER + 10..HEADER + 12].copy_from_slice(&checksum.to_be_bytes());
            (HEADER + 12..HEADER + 20, self.protocol())
        } else {
            frame[HEADER + 4..HEADER + 6].copy_from_slice(&((length - HEADER - 40) as u16).to_be_bytes());
            (HEADER + 8..HEADER + 40, self.protocol())
        };
        let pseudo = Checksum::default().add(&frame[addresses]).add_number(transport_length).add_number(protocol);
        let header = &mut frame[self.transport..];
        let checksum_at = if self.is_tcp {
            let sequence = u32::from_be_bytes([header[4], header[5], header[6], header[7]]);
            header[4..8].copy_from_slice(&sequence.wrapping_add((index * self.segment) as u32).to_be_bytes());
            if !is_last {
                header[13] &= !TCP_FIN_PSH;
            }
            if index > 0 {
                header[13] &= !TCP_CWR;
            }
            16
        } else {
            header[4..6].copy_from_slice(&(transport_length as u16).to_be_bytes());
            6
        };
        header[checksum_at..checksum_at + 2].copy_from_slice(&pseudo.folded().to_be_bytes());
    }

    fn protocol(&self) -> u32 {
        if self.is_tcp { 6 } else { 17 }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;

    fn train(kind: u8, segment: u16, payload: usize) -> Vec<u8> {
        let is_ipv4 = kind == TCP4 || kind == UDP;
        let transport = if is_ipv4 { HEADER + 20 } else { HEADER + 40 };
        let mut packet = vec![NEEDS_CHECKSUM, kind];
        packet.extend(3000_u16.to_ne_bytes());
        packet.extend(segment.to_ne_bytes());
        packet.extend((transport as u16).to_ne_bytes());
        packet.extend(if kind == UDP { [6, 0] } else { [16, 0] });
        packet.extend([0; 12]);
        packet.extend(if is_ipv4 { IPV4 } else { IPV6 }.to_be_bytes());
        packet.extend(if is_ipv4 { vec![0x45; 20] } else { vec![0x60; 40] });
        if kind == UDP {
            packet.extend([0; 8]);
        } else {
            packet.extend([0, 1, 0, 2, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0x50, 0x89, 0, 0, 0, 0, 0, 0]);
        }
        packet.extend((0..payload).map(|k| k as u8));
        packet
    }

    /// A train of UDP over IPv4.
    pub(in crate::relay) fn udp_train(segment: u16, payload: usize) -> Vec<u8> {
        train(UDP, segment, payload)
    }

    /// All packets of a train.
    pub(in crate::relay) fn cut(packet: &[u8]) -> Vec<Vec<u8>> {
        let train = Train::of(packet).expect("a train");
        let cut_one = |index| {
            let mut out = vec![0; train.length_of(packet, index)];
            train.cut(packet, index, &mut out);
            out
        };
        (0..train.packets(packet)).map(cut_one).collect()
    }

    #[test]
    fn a_train_is_cut_into_packets_that_carry_its_bytes_once() {
        for kind in [TCP4, TCP6, UDP] {
            let packet = train(kind, 1000, 3500);
            let header = Train::of(&packet).expect("a train").payload;
            let packets = cut(&packet);
            assert_eq!(
                packets.iter().map(|packet| packet.len() - VNET - header).collect::<Vec<_>>(),
                [1000, 1000, 1000, 500]
            );
            let payload: Vec<u8> = packets.iter().flat_map(|packet| &packet[VNET + header..]).copied().collect();
            assert_eq!(payload, packet[VNET + header..]);
            let total: usize = packets.iter().map(|packet| packet.len() - VNET).sum();
            assert_eq!(Train::wire_size(Train::of(&packet), &packet), WireSize { bytes: total as u32, packets: 4 });
            assert!(packets.iter().all(|packet| Train::of(packet).is_none()), "none is a train");
            assert!(packets.iter().all(|packet| packet[2..4] == [0, 0]), "nor as long as the train's first piece");
        }
    }

    #[test]
    fn tcp_numbers_and_flags_go_where_they_belong() {
        let packets = cut(&train(TCP4, 1000, 2500));
        let header = |k: usize| &packets[k][VNET + HEADER + 20..];
        let sequences: Vec<u32> = (0..3).map(|k| u32::from_be_bytes(header(k)[4..8].try_into().unwrap())).collect();
        assert_eq!(sequences, [u32::MAX, 999, 1999], "sequence numbers wrap");
        assert_eq!([0, 1, 2].map(|k| header(k)[13]), [0x80, 0, 0x09], "CWR on the first, FIN and PSH on the last");
        for packet in &packets {
            let ip = &packet[VNET + HEADER..VNET + HEADER + 20];
            assert_eq!(Checksum::default().add(ip).finished(), 0, "IPv4 header checksum");
            assert_eq!(usize::from(u16_at(ip, 2).unwrap()), packet.len() - VNET - HEADER);
        }
    }

    proptest! {
        #[test]
        fn no_bytes_panic(
            kind in prop::sample::select(vec![TCP4, TCP6, UDP]), segment: u16, payload in 1..3000usize,
            damage in prop::collection::vec((0..110usize, any::<u8>()), 0..6), length in 0..3000usize,
        ) {
            let mut packet = train(kind, segment, payload);
            for (at, value) in damage {
                if let Some(byte) = packet.get_mut(at) {
                    *byte = value;
                }
            }
            packet.truncate(length);
            let found = Train::of(&packet);
            Train::wire_size(found, &packet);
            if found.is_some() {
                cut(&packet);
            }
        }
    }
}
