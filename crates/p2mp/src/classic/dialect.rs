//! What is said on the wire, in either form.

use super::{published, text};
use crate::checksum;

/// How segments and acknowledgements are written. A receiver answers in the dialect that it is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Dialect {
    /// The published binary format.
    Published,
    /// One student program's: headers of ASCII digits.
    Text,
}

/// One data segment as it stands on the wire, right or wrong. The one without data is the end of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment<'a> {
    /// The offset of `data` in the file, in bytes.
    pub sequence: u32,
    /// As its sender computed it.
    pub checksum: u16,
    /// At most the MSS.
    pub data: &'a [u8],
}

/// What a receiver answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Acknowledgement {
    /// That of the last segment that came in sequence.
    pub sequence: u32,
}

impl Dialect {
    /// Every dialect.
    pub const ALL: [Dialect; 2] = [Dialect::Published, Dialect::Text];

    /// Finds out in which dialect a datagram is a data segment, and reads it. No datagram is one in both. `None` for
    /// anything else.
    pub fn read(datagram: &[u8]) -> Option<(Dialect, Segment<'_>)> {
        Self::ALL.into_iter().find_map(|dialect| Some((dialect, dialect.segment(datagram)?)))
    }

    /// Reads a data segment. `None` for anything else; a wrong checksum is left to [`Dialect::is_sound`].
    pub fn segment(self, datagram: &[u8]) -> Option<Segment<'_>> {
        match self {
            Dialect::Published => published::segment(datagram),
            Dialect::Text => text::segment(datagram),
        }
    }

    /// Reads an acknowledgement. `None` for anything else.
    pub fn acknowledgement(self, datagram: &[u8]) -> Option<Acknowledgement> {
        match self {
            Dialect::Published => published::acknowledgement(datagram),
            Dialect::Text => text::acknowledgement(datagram),
        }
    }

    /// Writes the segment that carries `data`, the file's bytes from `sequence` on, to the end of `datagram`.
    pub fn write_segment(self, sequence: u32, data: &[u8], datagram: &mut Vec<u8>) {
        let segment = Segment { sequence, checksum: self.checksum(data), data };
        match self {
            Dialect::Published => published::write_segment(&segment, datagram),
            Dialect::Text => text::write_segment(&segment, datagram),
        }
    }

    /// Writes an acknowledgement to the end of `datagram`.
    pub fn write_acknowledgement(self, acknowledgement: Acknowledgement, datagram: &mut Vec<u8>) {
        match self {
            Dialect::Published => published::write_acknowledgement(acknowledgement, datagram),
            Dialect::Text => text::write_acknowledgement(acknowledgement, datagram),
        }
    }

    /// Bytes before the data of a segment.
    pub const fn header(self) -> usize {
        match self {
            Dialect::Published => published::HEADER,
            Dialect::Text => text::HEADER,
        }
    }

    /// Whether the checksum of `segment` is that of its data.
    pub fn is_sound(self, segment: &Segment<'_>) -> bool {
        segment.checksum == self.checksum(segment.data)
    }

    fn checksum(self, data: &[u8]) -> u16 {
        match self {
            Dialect::Published => checksum::rfc768(data),
            Dialect::Text => checksum::text(data),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_written_is_read_in_its_own_dialect_only(sequence: u32, data: Vec<u8>) {
            for dialect in Dialect::ALL {
                let mut datagram = Vec::new();
                dialect.write_segment(sequence, &data, &mut datagram);
                prop_assert_eq!(datagram.len(), dialect.header() + data.len());
                let (found, segment) = Dialect::read(&datagram).expect("a written segment is one");
                prop_assert_eq!((found, segment.sequence, segment.data), (dialect, sequence, &data[..]));
                prop_assert!(dialect.is_sound(&segment));
                for other in Dialect::ALL.into_iter().filter(|other| *other != dialect) {
                    prop_assert_eq!(other.segment(&datagram), None);
                }

                let mut answer = Vec::new();
                dialect.write_acknowledgement(Acknowledgement { sequence }, &mut answer);
                prop_assert_eq!(dialect.acknowledgement(&answer), Some(Acknowledgement { sequence }));
                prop_assert_eq!(Dialect::read(&answer), None);
                prop_assert_eq!(dialect.acknowledgement(&datagram), None);
            }
        }

        #[test]
        fn hostile_bytes_are_read_or_refused(datagram: Vec<u8>) {
            for dialect in Dialect::ALL {
                let _ = dialect.segment(&datagram).map(|segment| dialect.is_sound(&segment));
                let _ = dialect.acknowledgement(&datagram);
            }
        }

        #[test]
        fn a_bit_that_flips_in_the_data_shows(data in prop::collection::vec(any::<u8>(), 1..64), at: prop::sample::Index) {
            for dialect in Dialect::ALL {
                let mut datagram = Vec::new();
                dialect.write_segment(7, &data, &mut datagram);
                let bit = at.index(data.len() * 8);
                datagram[dialect.header() + bit / 8] ^= 1 << (bit % 8);
                let segment = dialect.segment(&datagram).expect("its header is whole");
                prop_assert!(!dialect.is_sound(&segment));
            }
        }
    }
}
