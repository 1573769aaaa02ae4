//! The frames of probes. They are of no protocol that a node knows, so IPv4 and IPv6 are the same to them, and they carry
//! what tells them apart from each other and from what a link has damaged.

/// An Ethernet address.
pub(super) type Mac = [u8; 6];

/// The first of the two that IEEE 802 sets aside for experiments within one's own walls (IEEE Std 802-2014, 9.2.4).
pub(super) const ETHERTYPE: u16 = 0x88b5;

/// Ethernet header, label and its sum.
pub(super) const HEAD: usize = 14 + LABEL + 8;

const LABEL: usize = 16;

/// Which probe it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Label {
    /// Drawn once for all that one calibration sends.
    pub session: u32,
    /// Counted over the batches.
    pub batch: u32,
    /// Position of the way.
    pub way: u32,
    /// Counted from 0 within its train.
    pub ordinal: u32,
}

/// How a probe begins.
pub(super) fn head(destination: Mac, source: Mac, label: Label) -> [u8; HEAD] {
    let mut head = [0; HEAD];
    head[..6].copy_from_slice(&destination);
    head[6..12].copy_from_slice(&source);
    head[12..14].copy_from_slice(&ETHERTYPE.to_be_bytes());
    let words = [label.session, label.batch, label.way, label.ordinal];
    for (place, word) in head[14..].chunks_exact_mut(4).zip(words) {
        place.copy_from_slice(&word.to_be_bytes());
    }
    let sum = sum(&head[14..14 + LABEL]);
    head[14 + LABEL..].copy_from_slice(&sum.to_be_bytes());
    head
}

/// Which probe begins so; `None` of what is none or is damaged.
pub(super) fn label(head: &[u8; HEAD]) -> Option<Label> {
    let (label, sum_of_it) = head[14..].split_at(LABEL);
    if head[12..14] != ETHERTYPE.to_be_bytes() || *sum_of_it != sum(label).to_be_bytes() {
        return None;
    }
    let mut words = label.as_chunks::<4>().0.iter().map(|word| u32::from_be_bytes(*word));
    Some(Label { session: words.next()?, batch: words.next()?, way: words.next()?, ordinal: words.next()? })
}

/// FNV-1a (RFC draft-eastlake-fnv): any single damaged bit changes it.
fn sum(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |sum, byte| (sum ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_is_read_as_written_and_no_damaged_one_is() {
        let label = Label { session: 0xdead_beef, batch: 3, way: 1999, ordinal: 77 };
        let head = head([2, 0, 0, 0, 0, 1], [6; 6], label);
        assert_eq!(super::label(&head), Some(label));
        for bit in 12 * 8..HEAD * 8 {
            let mut damaged = head;
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(super::label(&damaged), None, "bit {bit}");
        }
    }
}
