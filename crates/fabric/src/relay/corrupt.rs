//! Flipping bits of a packet, and completing its checksum before: a sender that leaves that to offload would otherwise
//! have it computed over the damage.

use link::Flips;

use super::ethernet::{Checksum, HEADER};
use super::segment::{NEEDS_CHECKSUM, VNET};

/// Flips bits of a packet (`virtio_net_hdr` and frame) behind its Ethernet header: the addresses there have done their
/// work, and a link of Ethernet would have dropped the frame by its check sequence.
pub(super) fn corrupt(packet: &mut [u8], flips: Flips) {
    complete_checksum(packet);
    let Some(body) = packet.get_mut(VNET + HEADER..) else { return };
    let bits = body.len() as u32 * 8;
    for bit in flips.iter().filter_map(|flip| flip.of(bits)) {
        body[bit as usize / 8] ^= 1 << (bit % 8);
    }
}

/// Computes the transport checksum that was left to offload, as `virtio_net_hdr` says where (virtio 1.2, section 5.1.6.2).
/// Where that does not make sense, or where nothing was left, the packet stays as it is.
pub(super) fn complete_checksum(packet: &mut [u8]) {
    let Some((vnet, frame)) = packet.split_at_mut_checked(VNET) else { return };
    if vnet[0] & NEEDS_CHECKSUM == 0 {
        return;
    }
    let native = |at: usize| usize::from(u16::from_ne_bytes([vnet[at], vnet[at + 1]]));
    let (start, field) = (native(6), native(6) + native(8));
    if field + 2 > frame.len() {
        return;
    }
    // The field already holds the sum over the pseudo header.
    let checksum = match Checksum::default().add(&frame[start..]).finished() {
        // Of UDP 0 says that there is none; TCP does not mind (RFC 768, RFC 1624).
        0 => 0xffff,
        checksum => checksum,
    };
    frame[field..field + 2].copy_from_slice(&checksum.to_be_bytes());
    vnet[0] &= !NEEDS_CHECKSUM;
    vnet[6..10].fill(0);
}

#[cfg(test)]
mod tests {
    use link::{HalfLink, Network, Profile, To, WireSize};
    use machine::{Ratio, Seed, Time};

    use super::super::segment::tests::{cut, udp_train};
    use super::*;

    /// A datagram of IPv4 whose checksum is left to offload.
    fn datagram() -> Vec<u8> {
        cut(&udp_train(500, 1200)).swap_remove(1)
    }

    /// The sum over a datagram with its pseudo header: nothing, if its checksum is right.
    fn remainder(frame: &[u8]) -> u16 {
        let length = frame.len() - HEADER - 20;
        let pseudo = Checksum::default().add(&frame[HEADER + 12..HEADER + 20]).add_number(17).add_number(length as u32);
        pseudo.add(&frame[HEADER + 20..]).finished()
    }

    #[test]
    fn a_completed_checksum_is_right_and_completed_once() {
        let mut packet = datagram();
        assert_ne!(remainder(&packet[VNET..]), 0);
        complete_checksum(&mut packet);
        assert_eq!((remainder(&packet[VNET..]), &packet[..VNET]), (0, &[0; VNET][..]));
        let once = packet.clone();
        complete_checksum(&mut packet);
        assert_eq!(packet, once);
    }

    #[test]
    fn every_flip_is_of_one_bit_behind_the_ethernet_header_and_breaks_a_checksum() {
        let half = HalfLink { corrupt: Ratio::ONE, ..HalfLink::default() };
        let mut network = Network::new("net", Seed::new(3));
        let profile = Profile { up: half, down: HalfLink::default() };
        let [from, to] = ["a", "b"].map(|name| network.add_port(name, &profile));
        let mut whole = datagram();
        complete_checksum(&mut whole);
        for _ in 0..500 {
            network.send(Time::ZERO, from, To::Port(to), WireSize::packet(500), ());
            let flips = network.poll(Time::ZERO).expect("a delivery").flips;
            let mut packet = datagram();
            corrupt(&mut packet, flips);
            let differ: u32 = packet.iter().zip(&whole).map(|(one, other)| (one ^ other).count_ones()).sum();
            assert_eq!((differ, &packet[..VNET + HEADER]), (1, &whole[..VNET + HEADER]));
            let frame = &packet[VNET..];
            let header = Checksum::default().add(&frame[HEADER..HEADER + 20]).finished();
            assert!(header != 0 || remainder(frame) != 0, "a kernel would take it");
        }
    }

    #[test]
    fn headers_that_make_no_sense_leave_a_packet_as_it_is() {
        for (start, offset) in [(u16::MAX, 0), (0, u16::MAX), (40, 100)] {
            let mut packet = vec![0xab; VNET + 60];
            packet[0] = NEEDS_CHECKSUM;
            packet[6..8].copy_from_slice(&start.to_ne_bytes());
            packet[8..10].copy_from_slice(&offset.to_ne_bytes());
            let before = packet.clone();
            complete_checksum(&mut packet);
            assert_eq!(packet, before);
        }
        complete_checksum(&mut []);
    }
}
