//! Blocks of a pcapng file (draft-ietf-opsawg-pcapng), in the writer's byte order. No I/O.
//!
//! Each file is of one interface: a section header, an interface description, one enhanced packet a packet, and at the end
//! the interface's statistics. What the format has no field for (why a packet was dropped) is said in comments, which
//! Wireshark shows and finds (`frame.comment contains "dropped"`).

use std::net::IpAddr;

use super::ethernet::{Mac, is_group};

const SECTION_HEADER: u32 = 0x0a0d_0d0a;
const INTERFACE_DESCRIPTION: u32 = 1;
const INTERFACE_STATISTICS: u32 = 5;
const ENHANCED_PACKET: u32 = 6;

const BYTE_ORDER_MAGIC: u32 = 0x1a2b_3c4d;
const VERSION: (u16, u16) = (1, 0);
/// The section's length is not told.
const UNKNOWN_LENGTH: u64 = u64::MAX;
const LINKTYPE_ETHERNET: u16 = 1;
/// Packets are recorded whole.
const NO_LIMIT: u32 = 0;

const END_OF_OPTIONS: u16 = 0;
const COMMENT: u16 = 1;
const SHB_USER_APPLICATION: u16 = 4;
const IF_NAME: u16 = 2;
const IF_DESCRIPTION: u16 = 3;
const IF_IPV4_ADDRESS: u16 = 4;
const IF_IPV6_ADDRESS: u16 = 5;
const IF_MAC_ADDRESS: u16 = 6;
const IF_TIME_RESOLUTION: u16 = 9;
const EPB_FLAGS: u16 = 2;
const EPB_DROP_COUNT: u16 = 4;
const EPB_PACKET_ID: u16 = 5;
const ISB_START_TIME: u16 = 2;
const ISB_END_TIME: u16 = 3;
const ISB_RECEIVED: u16 = 4;
const ISB_DROPPED: u16 = 5;

/// Time stamps are powers of ten: nanoseconds.
const NANOSECONDS: u8 = 9;

/// Which way a packet goes, seen from the node, whose interface the file is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Direction {
    Inbound,
    Outbound,
}

/// The interface that a file is of.
#[derive(Clone, Debug)]
pub(super) struct Interface<'a> {
    pub(super) name: &'a str,
    pub(super) description: String,
    pub(super) mac: Mac,
    pub(super) addresses: &'a [IpAddr],
}

/// A packet to be written.
#[derive(Clone, Copy, Debug)]
pub(super) struct Packet<'a> {
    /// Nanoseconds since 1970.
    pub(super) at: u64,
    pub(super) direction: Direction,
    /// The same in each file in which the packet is, however damaged; none where the model had no part in it.
    pub(super) id: Option<u64>,
    /// How many of this interface were not recorded since the one before.
    pub(super) missing: u64,
    pub(super) comments: &'a [String],
    pub(super) frame: &'a [u8],
}

/// The counters of an interface at the end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Statistics {
    /// Nanoseconds since 1970.
    pub(super) began: u64,
    /// The same.
    pub(super) ended: u64,
    /// All of them, recorded or not.
    pub(super) seen: u64,
    pub(super) unrecorded: u64,
}

/// What a file begins with.
pub(super) fn write_header(out: &mut Vec<u8>, interface: &Interface<'_>) {
    block(out, SECTION_HEADER, |out| {
        out.extend(BYTE_ORDER_MAGIC.to_ne_bytes());
        out.extend(VERSION.0.to_ne_bytes());
        out.extend(VERSION.1.to_ne_bytes());
        out.extend(UNKNOWN_LENGTH.to_ne_bytes());
        option(out, SHB_USER_APPLICATION, concat!("testbed ", env!("CARGO_PKG_VERSION")).as_bytes());
        option(out, END_OF_OPTIONS, &[]);
    });
    block(out, INTERFACE_DESCRIPTION, |out| {
        out.extend(LINKTYPE_ETHERNET.to_ne_bytes());
        out.extend([0; 2]);
        out.extend(NO_LIMIT.to_ne_bytes());
        option(out, IF_NAME, interface.name.as_bytes());
        option(out, IF_DESCRIPTION, interface.description.as_bytes());
        for address in interface.addresses {
            match address {
                // The mask is that of the host alone: of the network's nothing is known here.
                IpAddr::V4(address) => option(out, IF_IPV4_ADDRESS, &[address.octets(), [255; 4]].concat()),
                IpAddr::V6(address) => option(out, IF_IPV6_ADDRESS, &[&address.octets()[..], &[128]].concat()),
            }
        }
        option(out, IF_MAC_ADDRESS, &interface.mac);
        option(out, IF_TIME_RESOLUTION, &[NANOSECONDS]);
        option(out, END_OF_OPTIONS, &[]);
    });
}

pub(super) fn write_packet(out: &mut Vec<u8>, packet: &Packet<'_>) {
    let length = packet.frame.len() as u32;
    block(out, ENHANCED_PACKET, |out| {
        out.extend(0u32.to_ne_bytes()); // the file's only interface
        out.extend(halves(packet.at));
        out.extend(length.to_ne_bytes());
        out.extend(length.to_ne_bytes());
        padded(out, packet.frame);
        for comment in packet.comments {
            option(out, COMMENT, comment.as_bytes());
        }
        option(out, EPB_FLAGS, &flags(packet.direction, packet.frame).to_ne_bytes());
        if packet.missing > 0 {
            option(out, EPB_DROP_COUNT, &packet.missing.to_ne_bytes());
        }
        if let Some(id) = packet.id {
            option(out, EPB_PACKET_ID, &id.to_ne_bytes());
        }
        option(out, END_OF_OPTIONS, &[]);
    });
}

/// What a file ends with.
pub(super) fn write_statistics(out: &mut Vec<u8>, statistics: &Statistics) {
    block(out, INTERFACE_STATISTICS, |out| {
        out.extend(0u32.to_ne_bytes());
        out.extend(halves(statistics.ended));
        option(out, ISB_START_TIME, &halves(statistics.began));
        option(out, ISB_END_TIME, &halves(statistics.ended));
        option(out, ISB_RECEIVED, &statistics.seen.to_ne_bytes());
        option(out, ISB_DROPPED, &statistics.unrecorded.to_ne_bytes());
        option(out, END_OF_OPTIONS, &[]);
    });
}

/// Direction in bits 0 and 1, reception in bits 2 to 4.
fn flags(direction: Direction, frame: &[u8]) -> u32 {
    const BROADCAST: Mac = [0xff; 6];
    let direction = match direction {
        Direction::Inbound => 1,
        Direction::Outbound => 2,
    };
    let reception = match frame.first_chunk() {
        Some(&BROADCAST) => 3,
        Some(destination) if is_group(destination) => 2,
        Some(_) => 1,
        None => 0,
    };
    direction | reception << 2
}

/// A block's length stands at both of its ends and is a multiple of four.
fn block(out: &mut Vec<u8>, kind: u32, body: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend(kind.to_ne_bytes());
    out.extend([0; 4]);
    body(out);
    let length = (out.len() - start + 4) as u32;
    out.extend(length.to_ne_bytes());
    out[start + 4..start + 8].copy_from_slice(&length.to_ne_bytes());
}

fn option(out: &mut Vec<u8>, code: u16, value: &[u8]) {
    // Longer ones than the format has room for are cut; ours are a line at most.
    let value = &value[..value.len().min(usize::from(u16::MAX))];
    out.extend(code.to_ne_bytes());
    out.extend((value.len() as u16).to_ne_bytes());
    padded(out, value);
}

fn padded(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend(bytes);
    out.resize(out.len() + bytes.len().wrapping_neg() % 4, 0);
}

/// A time, its upper half first whatever the byte order.
fn halves(nanos: u64) -> [u8; 8] {
    let mut bytes = [0; 8];
    bytes[..4].copy_from_slice(&((nanos >> 32) as u32).to_ne_bytes());
    bytes[4..].copy_from_slice(&(nanos as u32).to_ne_bytes());
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Little-endian, as the machines are that this is tested on: laid out by hand from the draft.
    #[test]
    #[cfg(target_endian = "little")]
    fn a_packet_is_what_the_draft_says() {
        let mut out = Vec::new();
        let packet = Packet {
            at: 0x0000_0001_0000_0002,
            direction: Direction::Outbound,
            id: Some(7),
            missing: 3,
            comments: &["lost!".to_owned()],
            frame: &[1, 0, 0, 0, 0, 9, 0xaa],
        };
        write_packet(&mut out, &packet);
        #[rustfmt::skip]
        let expected = [
            6, 0, 0, 0, 88, 0, 0, 0, // an enhanced packet block of 88 bytes
            0, 0, 0, 0, // interface
            1, 0, 0, 0, 2, 0, 0, 0, // time
            7, 0, 0, 0, 7, 0, 0, 0, // length recorded and on the wire
            1, 0, 0, 0, 0, 9, 0xaa, 0, // the packet and its padding
            1, 0, 5, 0, b'l', b'o', b's', b't', b'!', 0, 0, 0, // opt_comment
            2, 0, 4, 0, 2 | 2 << 2, 0, 0, 0, // epb_flags: outbound, multicast
            4, 0, 8, 0, 3, 0, 0, 0, 0, 0, 0, 0, // epb_dropcount
            5, 0, 8, 0, 7, 0, 0, 0, 0, 0, 0, 0, // epb_packetid
            0, 0, 0, 0, // opt_endofopt
            88, 0, 0, 0,
        ];
        assert_eq!(out, expected);
    }

    #[test]
    fn reception_is_told_by_the_destination() {
        let of = |first: u8, rest: u8| flags(Direction::Inbound, &[first, rest, rest, rest, rest, rest]) >> 2;
        assert_eq!([of(2, 0), of(0x33, 0x33), of(0xff, 0xff)], [1, 2, 3]);
        assert_eq!(flags(Direction::Inbound, &[0; 3]), 1, "shorter than an address");
    }

    #[test]
    fn every_block_has_its_length_at_both_ends_and_ends_on_a_word() {
        let mut out = Vec::new();
        let addresses = ["10.0.0.1".parse().expect("an address"), "fd00::1".parse().expect("an address")];
        let description = "the link of a on net".to_owned();
        write_header(
            &mut out,
            &Interface { name: "eth0", description, mac: [2, 0, 0, 0, 0, 1], addresses: &addresses },
        );
        write_statistics(&mut out, &Statistics { began: 1, ended: 2, seen: 3, unrecorded: 1 });
        let mut kinds = Vec::new();
        let mut rest = &out[..];
        while !rest.is_empty() {
            let word = |at: usize| u32::from_ne_bytes(rest[at..at + 4].try_into().expect("four bytes"));
            let length = word(4) as usize;
            assert!(length.is_multiple_of(4) && word(length - 4) == word(4));
            kinds.push(word(0));
            rest = &rest[length..];
        }
        assert_eq!(kinds, [SECTION_HEADER, INTERFACE_DESCRIPTION, INTERFACE_STATISTICS]);
    }
}
