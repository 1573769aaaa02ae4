//! Packets that say which they are even when a bit of them is wrong.

use std::collections::BTreeMap;

use super::protocol::{Header, PORTS, Seen};

/// Ethernet, IPv4 and UDP.
pub(super) const HEADERS: usize = 42;
/// Flow, number, time and check.
const MARK: usize = 24;
const FILL: u8 = 0xa5;

/// Writes the payload of a packet: its mark twice, and a known rest.
pub(super) fn write(payload: &mut Vec<u8>, flow: u32, number: u32, sent: u64, bytes: u32) {
    payload.clear();
    for _ in 0..2 {
        payload.extend(flow.to_be_bytes());
        payload.extend(number.to_be_bytes());
        payload.extend(sent.to_be_bytes());
        payload.extend(check(flow, number, sent).to_be_bytes());
    }
    payload.resize(bytes as usize - HEADERS, FILL);
}

/// What a frame is, if it is one of these.
pub(super) fn read(frame: &[u8], flows: &BTreeMap<u32, Header>, at: u64) -> Option<Seen> {
    let payload = frame.get(HEADERS..)?;
    // At most one of both is damaged where each link flips one bit.
    let (flow, number, sent) = [payload.get(..MARK)?, payload.get(MARK..2 * MARK)?].into_iter().find_map(mark)?;
    let header = flows.get(&flow)?;
    let mut right = Vec::with_capacity(frame.len());
    write(&mut right, flow, number, sent, header.bytes);
    let is_whole = payload == right && headers_are_whole(frame, header);
    Some(Seen(flow, number, sent, at, !is_whole))
}

fn mark(bytes: &[u8]) -> Option<(u32, u32, u64)> {
    let word = |at: usize| bytes[at..at + 4].iter().fold(0, |sum, byte| sum << 8 | u32::from(*byte));
    let long = |at: usize| u64::from(word(at)) << 32 | u64::from(word(at + 4));
    let (flow, number, sent) = (word(0), word(4), long(8));
    (long(16) == check(flow, number, sent)).then_some((flow, number, sent))
}

/// Every bit of it depends on every bit of what it checks (SplitMix64's finisher, twice).
fn check(flow: u32, number: u32, sent: u64) -> u64 {
    let mix = |mut x: u64| {
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ (x >> 31)
    };
    mix(mix(u64::from(flow) << 32 | u64::from(number)).wrapping_add(0x9e37_79b9_7f4a_7c15) ^ sent)
}

fn headers_are_whole(frame: &[u8], header: &Header) -> bool {
    let number = |at: usize| u32::from(frame[at]) << 8 | u32::from(frame[at + 1]);
    // RFC 1071, over an IPv4 header without options.
    let sum: u32 = (14..34).step_by(2).map(number).sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    frame[..6] == header.destination
        && frame[6..12] == header.source
        && number(12) == 0x0800
        && (folded & 0xffff) + (folded >> 16) == 0xffff
        && (number(34), number(36)) == (u32::from(PORTS.0), u32::from(PORTS.1))
        && number(38) as usize == frame.len() - 34
        && number(40) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A frame of 100 bytes, with the sum of its IPv4 header.
    fn frame() -> (Vec<u8>, BTreeMap<u32, Header>) {
        let header = Header { id: 3, bytes: 100, source: [2, 0, 0, 0, 0, 1], destination: [2, 0, 0, 0, 0, 2] };
        let mut frame: Vec<u8> = header.destination.into_iter().chain(header.source).collect();
        frame.extend([0x08, 0, 0x45, 0, 0, 86, 0, 0, 0x40, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
        let sum: u32 = (14..34).step_by(2).map(|at| u32::from(frame[at]) << 8 | u32::from(frame[at + 1])).sum();
        let sum = !((sum & 0xffff) + (sum >> 16)) as u16;
        frame[24..26].copy_from_slice(&sum.to_be_bytes());
        frame.extend(PORTS.0.to_be_bytes());
        frame.extend(PORTS.1.to_be_bytes());
        frame.extend([0, 66, 0, 0]);
        let mut payload = Vec::new();
        write(&mut payload, 3, 17, 123_456_789, 100);
        frame.extend(payload);
        (frame, BTreeMap::from([(3, header)]))
    }

    #[test]
    fn every_flipped_bit_is_seen_and_hides_no_packet() {
        let (whole, flows) = frame();
        assert_eq!(whole.len(), 100);
        let told =
            |frame: &[u8]| read(frame, &flows, 5).map(|Seen(flow, number, sent, _, bad)| (flow, number, sent, bad));
        assert_eq!(told(&whole), Some((3, 17, 123_456_789, false)));
        for bit in 0..whole.len() * 8 {
            let mut damaged = whole.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(told(&damaged), Some((3, 17, 123_456_789, true)), "bit {bit}");
        }
        assert_eq!(told(&whole[..80]), None);
        assert_eq!(told(&[0; 100]), None);
    }
}
