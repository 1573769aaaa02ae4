//! The published format, in network byte order: `u32 sequence | u16 checksum | u16 0x5555 | data`, and for an
//! acknowledgement `u32 sequence | u16 0 | u16 0xAAAA`.

use super::{Acknowledgement, Segment};

/// Bytes before the data.
pub const HEADER: usize = 8;

/// The type of a data segment. Its place tells a classic segment from any other datagram.
pub const DATA: u16 = 0x5555;

/// The type of an acknowledgement.
pub const ACKNOWLEDGEMENT: u16 = 0xaaaa;

/// Reads a data segment.
pub fn segment(datagram: &[u8]) -> Option<Segment<'_>> {
    let (sequence, checksum, kind, data) = split(datagram)?;
    (kind == DATA).then_some(Segment { sequence, checksum, data })
}

/// Reads an acknowledgement: eight bytes and no more.
pub fn acknowledgement(datagram: &[u8]) -> Option<Acknowledgement> {
    let (sequence, zero, kind, rest) = split(datagram)?;
    (kind == ACKNOWLEDGEMENT && zero == 0 && rest.is_empty()).then_some(Acknowledgement { sequence })
}

/// Writes a data segment to the end of `datagram`.
pub fn write_segment(segment: &Segment<'_>, datagram: &mut Vec<u8>) {
    datagram.reserve(HEADER + segment.data.len());
    datagram.extend_from_slice(&segment.sequence.to_be_bytes());
    datagram.extend_from_slice(&segment.checksum.to_be_bytes());
    datagram.extend_from_slice(&DATA.to_be_bytes());
    datagram.extend_from_slice(segment.data);
}

/// Writes an acknowledgement to the end of `datagram`.
pub fn write_acknowledgement(acknowledgement: Acknowledgement, datagram: &mut Vec<u8>) {
    datagram.extend_from_slice(&acknowledgement.sequence.to_be_bytes());
    datagram.extend_from_slice(&[0, 0]);
    datagram.extend_from_slice(&ACKNOWLEDGEMENT.to_be_bytes());
}

fn split(datagram: &[u8]) -> Option<(u32, u16, u16, &[u8])> {
    let (sequence, rest) = datagram.split_first_chunk::<4>()?;
    let (field, rest) = rest.split_first_chunk::<2>()?;
    let (kind, rest) = rest.split_first_chunk::<2>()?;
    Some((u32::from_be_bytes(*sequence), u16::from_be_bytes(*field), u16::from_be_bytes(*kind), rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_segment_is_these_bytes() {
        let mut datagram = Vec::new();
        write_segment(&Segment { sequence: 0x0102_0304, checksum: 0xbc2d, data: b"hello" }, &mut datagram);
        assert_eq!(datagram, b"\x01\x02\x03\x04\xbc\x2d\x55\x55hello");
    }

    #[test]
    fn an_acknowledgement_is_these_bytes() {
        let mut datagram = Vec::new();
        write_acknowledgement(Acknowledgement { sequence: 1_000 }, &mut datagram);
        assert_eq!(datagram, b"\x00\x00\x03\xe8\x00\x00\xaa\xaa");
    }

    #[test]
    fn what_is_cut_or_of_another_type_is_refused() {
        assert_eq!(segment(b"\0\0\0\0\xff\xff\x55"), None);
        assert_eq!(segment(b"\0\0\0\0\xff\xff\x55\x57"), None);
        assert_eq!(acknowledgement(b"\0\0\0\0\0\0\xaa\xaa!"), None);
        assert_eq!(acknowledgement(b"\0\0\0\0\0\x01\xaa\xaa"), None);
    }
}
