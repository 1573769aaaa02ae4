//! Ethernet headers and the Internet checksum.

pub(super) const HEADER: usize = 14;
pub(super) const ARP: u16 = 0x0806;
pub(super) const IPV4: u16 = 0x0800;
pub(super) const IPV6: u16 = 0x86dd;

/// An Ethernet address.
pub(super) type Mac = [u8; 6];

/// The header of a frame without a VLAN tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) destination: Mac,
    pub(super) source: Mac,
    pub(super) ethertype: u16,
}

impl Header {
    /// `None` if the frame ends before its header does.
    pub(super) fn of(frame: &[u8]) -> Option<Header> {
        Some(Header { destination: array_at(frame, 0)?, source: array_at(frame, 6)?, ethertype: u16_at(frame, 12)? })
    }
}

/// Whether an address is of a group, broadcast included.
pub(super) fn is_group(mac: &Mac) -> bool {
    mac[0] & 1 == 1
}

/// `N` bytes at `offset`, if they are there.
pub(super) fn array_at<const N: usize>(bytes: &[u8], offset: usize) -> Option<[u8; N]> {
    bytes.get(offset..offset.checked_add(N)?)?.try_into().ok()
}

/// A number in network order at `offset`, if it is there.
pub(super) fn u16_at(bytes: &[u8], offset: usize) -> Option<u16> {
    array_at(bytes, offset).map(u16::from_be_bytes)
}

/// The Internet checksum (RFC 1071) under way: a sum that is folded at the end.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Checksum(u64);

impl Checksum {
    pub(super) fn add(mut self, bytes: &[u8]) -> Self {
        let (pairs, rest) = bytes.as_chunks::<2>();
        for pair in pairs {
            self.0 += u64::from(u16::from_be_bytes(*pair));
        }
        if let [last] = rest {
            self.0 += u64::from(u16::from_be_bytes([*last, 0]));
        }
        self
    }

    pub(super) fn add_number(mut self, number: u32) -> Self {
        self.0 += u64::from(number >> 16) + u64::from(number & 0xffff);
        self
    }

    /// The folded sum, which a sender that leaves the rest to offload writes into the field.
    pub(super) fn folded(self) -> u16 {
        let mut sum = self.0;
        while sum >> 16 != 0 {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        sum as u16
    }

    /// The complement, as a finished packet carries it.
    pub(super) fn finished(self) -> u16 {
        !self.folded()
    }
}
