//! The checksums of classic segments: 16-bit one's complement sums over the data alone.

/// UDP's: words in network byte order, an odd tail padded with a zero byte (RFC 768, RFC 1071), without the pseudo header.
/// Unlike UDP's own field, 0 is sent as 0.
pub fn rfc768(data: &[u8]) -> u16 {
    complement(data, u16::from_be_bytes, 0)
}

/// That of the text dialect: words in little-endian order, an odd tail padded with a space in the high byte.
pub fn text(data: &[u8]) -> u16 {
    complement(data, u16::from_le_bytes, b' ')
}

fn complement(data: &[u8], word: fn([u8; 2]) -> u16, padding: u8) -> u16 {
    let words = data.chunks(2).map(|pair| word([pair[0], *pair.get(1).unwrap_or(&padding)]));
    // A datagram has less than 2¹⁶ words, so 64 bits hold their sum.
    let mut sum: u64 = words.map(u64::from).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_are_those_of_rfc_768() {
        for (data, sum) in [("", 0xffff), ("a", 0x9eff), ("hello", 0xbc2d), ("hello!", 0xbc0c)] {
            assert_eq!(rfc768(data.as_bytes()), sum, "{data:?}");
        }
    }

    #[test]
    fn sums_are_those_of_the_text_dialect() {
        for (data, sum) in [
            ("", 0b1111_1111_1111_1111),
            ("a", 0b1101_1111_1001_1110),
            ("hello", 0b0000_1101_1011_1100),
            ("hello!", 0b0000_1100_1011_1100),
        ] {
            assert_eq!(text(data.as_bytes()), sum, "{data:?}");
        }
    }

    #[test]
    fn sums_of_the_longest_datagram_do_not_overflow() {
        assert_eq!(rfc768(&[0xff; 65_535]), !0xff00);
    }
}
