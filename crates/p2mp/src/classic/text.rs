//! The text dialect: 32 binary digits of the sequence, `###`, 16 of the checksum, `###0101010101010101###`, data; an
//! acknowledgement is 32 digits, `###0000000000000000###1010101010101010`. All digits are ASCII.
//!
//! Our own receiver takes whatever a datagram can hold. The program that the dialect is from takes less: it splits at
//! every `###`, also in the data, and reads 1500 bytes of a datagram at most; [`is_within_its_means`] says so.

use super::{Acknowledgement, Segment};

/// Bytes before the data.
pub const HEADER: usize = SEQUENCE_DIGITS + CHECKSUM_DIGITS + DATA.len();

/// The most bytes of a segment, header and all, that the program of this dialect reads.
pub const LONGEST: usize = 1500;

/// What separates fields.
pub const SEPARATOR: &[u8] = b"###";

const SEQUENCE_DIGITS: usize = 32;
const CHECKSUM_DIGITS: usize = 16 + SEPARATOR.len();
const DATA: &[u8] = b"###0101010101010101###";
const ACKNOWLEDGEMENT: &[u8] = b"###0000000000000000###1010101010101010";

/// Reads a data segment.
pub fn segment(datagram: &[u8]) -> Option<Segment<'_>> {
    let (sequence, rest) = digits(datagram, SEQUENCE_DIGITS)?;
    let (checksum, rest) = digits(rest.strip_prefix(SEPARATOR)?, 16)?;
    let data = rest.strip_prefix(DATA)?;
    Some(Segment { sequence, checksum: checksum as u16, data })
}

/// Reads an acknowledgement.
pub fn acknowledgement(datagram: &[u8]) -> Option<Acknowledgement> {
    let (sequence, rest) = digits(datagram, SEQUENCE_DIGITS)?;
    (rest == ACKNOWLEDGEMENT).then_some(Acknowledgement { sequence })
}

/// Writes a data segment to the end of `datagram`.
pub fn write_segment(segment: &Segment<'_>, datagram: &mut Vec<u8>) {
    datagram.reserve(HEADER + segment.data.len());
    write_digits(segment.sequence, SEQUENCE_DIGITS, datagram);
    datagram.extend_from_slice(SEPARATOR);
    write_digits(u32::from(segment.checksum), 16, datagram);
    datagram.extend_from_slice(DATA);
    datagram.extend_from_slice(segment.data);
}

/// Writes an acknowledgement to the end of `datagram`.
pub fn write_acknowledgement(acknowledgement: Acknowledgement, datagram: &mut Vec<u8>) {
    write_digits(acknowledgement.sequence, SEQUENCE_DIGITS, datagram);
    datagram.extend_from_slice(ACKNOWLEDGEMENT);
}

/// Whether the program of this dialect can take segments that carry `data`, or would cut it at a separator. The end of
/// one segment's data and the beginning of the next never meet.
pub fn is_within_its_means(data: &[u8]) -> bool {
    !data.windows(SEPARATOR.len()).any(|window| window == SEPARATOR)
}

/// The number that the first `count` (≤ 32) bytes write in binary digits, and what follows.
fn digits(text: &[u8], count: usize) -> Option<(u32, &[u8])> {
    let (digits, rest) = text.split_at_checked(count)?;
    let number = digits.iter().try_fold(0_u32, |number, digit| match digit {
        b'0' => Some(number << 1),
        b'1' => Some(number << 1 | 1),
        _ => None,
    })?;
    Some((number, rest))
}

fn write_digits(number: u32, count: usize, text: &mut Vec<u8>) {
    text.extend((0..count).rev().map(|bit| b'0' + (number >> bit & 1) as u8));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_segment_is_these_bytes() {
        let mut datagram = Vec::new();
        write_segment(&Segment { sequence: 1_000, checksum: 0x0dbc, data: b"hello" }, &mut datagram);
        let expected = "00000000000000000000001111101000###0000110110111100###0101010101010101###hello";
        assert_eq!(String::from_utf8(datagram).unwrap(), expected);
        assert_eq!(HEADER, 73);
    }

    #[test]
    fn an_acknowledgement_is_these_bytes() {
        let mut datagram = Vec::new();
        write_acknowledgement(Acknowledgement { sequence: u32::MAX - 1 }, &mut datagram);
        let expected = "11111111111111111111111111111110###0000000000000000###1010101010101010";
        assert_eq!(String::from_utf8(datagram).unwrap(), expected);
    }

    #[test]
    fn separators_in_the_data_belong_to_it() {
        let mut datagram = Vec::new();
        write_segment(&Segment { sequence: 3, checksum: 0, data: b"###a###" }, &mut datagram);
        assert_eq!(segment(&datagram).unwrap().data, b"###a###");
        assert!(!is_within_its_means(b"a###"));
        assert!(is_within_its_means(b"##a##"));
    }

    #[test]
    fn what_is_cut_or_has_other_digits_is_refused() {
        let whole = b"00000000000000000000001111101000###0000110110111100###0101010101010101###";
        assert!(segment(whole).is_some());
        for end in 0..whole.len() {
            assert_eq!(segment(&whole[..end]), None);
        }
        for at in 0..whole.len() {
            let mut wrong = *whole;
            wrong[at] = b'2';
            assert_eq!(segment(&wrong), None, "byte {at}");
        }
    }
}
