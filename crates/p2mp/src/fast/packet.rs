//! The datagrams of the fast mode.
//!
//! All numbers are in network byte order. Each datagram begins with
//!
//! ```text
//!  0  "PF"        2  version 1      3  kind (1 announce, 2 data, 3 report, 4 release)
//!  4  poll (in data; else 0)        6  0x5F5F, where a classic segment has its type
//!  8  session
//! ```
//!
//! followed by, at 16,
//!
//! ```text
//! data      16 number u64   24 block u32   28 symbol u16   30 the symbol
//! announce  16 flags u8 (1: sent to the group)   17 group's family u8 (0 none, 4, 6)   18 payload u16 (0: not known yet)
//!           20 identity, 16 bytes   36 stamp u32, µs   40 report every u32, µs   44 files of all u16
//!           46 first file here u16   48 files here u16   50 group: address of 4 or 16 bytes and port, if any
//!           then the files: length u64, has digest u8, digest of 32 bytes if any, name's length u8, name
//!           then padding of any kind: an announcement also probes what size of datagram passes
//! report    see `report`
//! release   16 member u64   24 why u8 (0: it has everything, 1: given up)
//! ```
//!
//! A datagram of the published classic format has 0x5555 or 0xAAAA at 6; one of the text dialect begins with a digit.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::manifest::{FileEntry, Identity, LONGEST_NAME, MOST_FILES};
use super::report::Report;

/// Bytes before what differs by kind.
pub const HEADER: usize = 16;

/// Bytes before the symbol in a data packet.
pub const DATA_HEADER: usize = 30;

/// Announcements are cut into pages of at most so many bytes, so that each passes wherever IPv6 does (RFC 8200: 1280).
pub const LONGEST_PAGE: usize = 1200;

const MAGIC: [u8; 2] = *b"PF";
const VERSION: u8 = 1;
const TYPE: u16 = 0x5f5f;
const ANNOUNCE: u8 = 1;
const DATA: u8 = 2;
const REPORT: u8 = 3;
const RELEASE: u8 = 4;
const TO_GROUP: u8 = 1;
const ANNOUNCE_FIXED: usize = 50;

/// One transfer by one run of a sender: 64 random bits, so that nobody off the path can guess it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(pub u64);

/// A receiver, wherever it is: random, and kept with its unfinished files, so that it is known again after a restart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MemberId(pub u64);

/// A datagram of the fast mode.
#[derive(Clone, Debug, PartialEq)]
pub enum Packet<'a> {
    /// What is to be transferred; asks for a report.
    Announce(Announce),
    /// A symbol of a block.
    Data(DataHeader, &'a [u8]),
    /// What a receiver has.
    Report(Report),
    /// The sender needs nothing more of a receiver.
    Release(Release),
}

/// Before each symbol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DataHeader {
    /// Counts the session's data packets, whatever they carry and to whom they go; begins with 1.
    pub number: u64,
    /// Which block.
    pub block: u32,
    /// Which of its symbols.
    pub symbol: u16,
    /// Who is to report at once.
    pub poll: Poll,
}

/// Which receivers a data packet asks for a report: those whose number ends in the `bits` lowest bits of `slot`. So many
/// receivers take turns instead of answering all at once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Poll {
    /// Nobody.
    #[default]
    Nobody,
    /// One in 2^`bits`.
    Slot {
        /// At most [`Poll::MOST_BITS`].
        bits: u8,
        /// Less than 2^`bits`.
        slot: u16,
    },
}

/// A session, or a page of its files.
#[derive(Clone, Debug, PartialEq)]
pub struct Announce {
    /// Whether this copy was sent to the group.
    pub to_group: bool,
    /// The multicast group that data go to, if the sender uses one.
    pub group: Option<SocketAddr>,
    /// Bytes of a symbol; `None` while the sender still looks for what passes.
    pub payload: Option<u16>,
    /// What the transfer is known by.
    pub identity: Identity,
    /// The sender's clock, in wrapping microseconds; receivers send it back.
    pub stamp_us: u32,
    /// A receiver reports at least so often, in microseconds, while it lacks something.
    pub report_every_us: u32,
    /// How many files the session has.
    pub all_files: u16,
    /// Which of them is the first here.
    pub first_file: u16,
    /// The files of this page.
    pub files: Vec<FileEntry>,
}

/// The sender is done with a receiver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Release {
    /// Which.
    pub member: MemberId,
    /// The sender knows that it has everything; else it was given up.
    pub is_complete: bool,
}

/// Why a datagram is none of these.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// Another protocol.
    #[error("not a datagram of the fast mode")]
    Foreign,
    /// A later or earlier form of this protocol.
    #[error("version {0} of the fast mode; this is version {VERSION}")]
    Version(u8),
    /// Ends too early.
    #[error("cut off")]
    Short,
    /// A value that cannot be.
    #[error("{0} is out of bounds")]
    Value(&'static str),
}

/// Whether these bytes are meant for the fast mode.
pub fn is_fast(bytes: &[u8]) -> bool {
    bytes.len() >= HEADER && bytes[..2] == MAGIC && bytes[6..8] == TYPE.to_be_bytes()
}

impl<'a> Packet<'a> {
    /// Reads a datagram.
    ///
    /// # Errors
    /// When it is not one of the fast mode, ends too early, or says what cannot be.
    pub fn parse(bytes: &'a [u8]) -> Result<(SessionId, Packet<'a>), Malformed> {
        if !is_fast(bytes) {
            return Err(Malformed::Foreign);
        }
        if bytes[2] != VERSION {
            return Err(Malformed::Version(bytes[2]));
        }
        let mut rest = Reader(&bytes[4..]);
        let poll = rest.u16()?;
        rest.u16()?;
        let session = SessionId(rest.u64()?);
        let packet = match bytes[3] {
            DATA => {
                let (number, block, symbol) = (rest.u64()?, rest.u32()?, rest.u16()?);
                if number == 0 || number > u64::MAX >> 1 {
                    return Err(Malformed::Value("a packet number"));
                }
                Packet::Data(DataHeader { number, block, symbol, poll: Poll::from_bits(poll)? }, rest.0)
            }
            ANNOUNCE => Packet::Announce(Announce::read(&mut rest)?),
            REPORT => Packet::Report(Report::read(&mut rest)?),
            RELEASE => {
                let member = MemberId(rest.u64()?);
                Packet::Release(Release { member, is_complete: rest.u8()? == 0 })
            }
            _ => return Err(Malformed::Value("the kind")),
        };
        Ok((session, packet))
    }

    /// The bytes of it.
    pub fn to_bytes(&self, session: SessionId) -> Vec<u8> {
        match self {
            Packet::Data(header, symbol) => {
                let mut bytes = header.to_bytes(session).to_vec();
                bytes.extend_from_slice(symbol);
                bytes
            }
            Packet::Announce(announce) => {
                let mut bytes = begin(ANNOUNCE, session);
                announce.write(&mut bytes);
                bytes
            }
            Packet::Report(report) => {
                let mut bytes = begin(REPORT, session);
                report.write(&mut bytes);
                bytes
            }
            Packet::Release(release) => {
                let mut bytes = begin(RELEASE, session);
                bytes.extend_from_slice(&release.member.0.to_be_bytes());
                bytes.push(u8::from(!release.is_complete));
                bytes
            }
        }
    }
}

fn begin(kind: u8, session: SessionId) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(256);
    bytes.extend_from_slice(&common(kind, 0, session));
    bytes
}

fn common(kind: u8, poll: u16, session: SessionId) -> [u8; HEADER] {
    let mut bytes = [0; HEADER];
    bytes[..2].copy_from_slice(&MAGIC);
    bytes[2] = VERSION;
    bytes[3] = kind;
    bytes[4..6].copy_from_slice(&poll.to_be_bytes());
    bytes[6..8].copy_from_slice(&TYPE.to_be_bytes());
    bytes[8..].copy_from_slice(&session.0.to_be_bytes());
    bytes
}

impl DataHeader {
    /// What stands before the symbol.
    pub fn to_bytes(&self, session: SessionId) -> [u8; DATA_HEADER] {
        let mut bytes = [0; DATA_HEADER];
        bytes[..HEADER].copy_from_slice(&common(DATA, self.poll.to_bits(), session));
        bytes[16..24].copy_from_slice(&self.number.to_be_bytes());
        bytes[24..28].copy_from_slice(&self.block.to_be_bytes());
        bytes[28..30].copy_from_slice(&self.symbol.to_be_bytes());
        bytes
    }
}

impl Poll {
    /// Everybody.
    pub const EVERYBODY: Poll = Poll::Slot { bits: 0, slot: 0 };
    /// At most one in 4096 is asked.
    pub const MOST_BITS: u8 = 12;

    /// Whether `member` is asked.
    pub fn asks(self, member: MemberId) -> bool {
        match self {
            Poll::Nobody => false,
            Poll::Slot { bits, slot } => member.0 & ((1 << bits) - 1) == u64::from(slot),
        }
    }

    fn to_bits(self) -> u16 {
        match self {
            Poll::Nobody => 0,
            Poll::Slot { bits, slot } => u16::from(bits + 1) << 12 | slot,
        }
    }

    fn from_bits(poll: u16) -> Result<Self, Malformed> {
        let (bits, slot) = ((poll >> 12) as u8, poll & 0xfff);
        match bits.checked_sub(1) {
            None if slot == 0 => Ok(Poll::Nobody),
            Some(bits) if bits <= Poll::MOST_BITS && u32::from(slot) < 1 << bits => Ok(Poll::Slot { bits, slot }),
            _ => Err(Malformed::Value("a poll")),
        }
    }
}

impl Announce {
    /// How many files beginning with `first` fit into one page.
    pub fn page(files: &[FileEntry], first: usize) -> usize {
        let mut room = LONGEST_PAGE - ANNOUNCE_FIXED - 18;
        let fits = |file: &&FileEntry| {
            let size = 8 + 1 + file.digest.map_or(0, |_| 32) + 1 + file.name.len();
            let fits = size <= room;
            room = room.saturating_sub(size);
            fits
        };
        files.iter().skip(first).take_while(fits).count()
    }

    fn write(&self, bytes: &mut Vec<u8>) {
        let family = match self.group {
            None => 0,
            Some(SocketAddr::V4(_)) => 4,
            Some(SocketAddr::V6(_)) => 6,
        };
        bytes.extend_from_slice(&[if self.to_group { TO_GROUP } else { 0 }, family]);
        bytes.extend_from_slice(&self.payload.unwrap_or(0).to_be_bytes());
        bytes.extend_from_slice(&self.identity.0);
        bytes.extend_from_slice(&self.stamp_us.to_be_bytes());
        bytes.extend_from_slice(&self.report_every_us.to_be_bytes());
        for number in [self.all_files, self.first_file, self.files.len() as u16] {
            bytes.extend_from_slice(&number.to_be_bytes());
        }
        if let Some(group) = self.group {
            match group.ip() {
                IpAddr::V4(ip) => bytes.extend_from_slice(&ip.octets()),
                IpAddr::V6(ip) => bytes.extend_from_slice(&ip.octets()),
            }
            bytes.extend_from_slice(&group.port().to_be_bytes());
        }
        for file in &self.files {
            bytes.extend_from_slice(&file.length.to_be_bytes());
            bytes.push(u8::from(file.digest.is_some()));
            bytes.extend(file.digest.iter().flatten());
            bytes.push(file.name.len() as u8);
            bytes.extend_from_slice(file.name.as_bytes());
        }
    }

    fn read(rest: &mut Reader<'_>) -> Result<Self, Malformed> {
        let (flags, family, payload) = (rest.u8()?, rest.u8()?, rest.u16()?);
        let identity = Identity(rest.array()?);
        let (stamp_us, report_every_us) = (rest.u32()?, rest.u32()?);
        let (all_files, first_file, count) = (rest.u16()?, rest.u16()?, rest.u16()?);
        let last = usize::from(first_file) + usize::from(count);
        if all_files == 0 || usize::from(all_files) > MOST_FILES || last > usize::from(all_files) {
            return Err(Malformed::Value("the number of files"));
        }
        let group = match family {
            0 => None,
            4 => Some(IpAddr::V4(Ipv4Addr::from(rest.array::<4>()?))),
            6 => Some(IpAddr::V6(Ipv6Addr::from(rest.array::<16>()?))),
            _ => return Err(Malformed::Value("the family of the group")),
        };
        let group = match group {
            None => None,
            Some(ip) if ip.is_multicast() => Some(SocketAddr::new(ip, rest.u16()?)),
            Some(_) => return Err(Malformed::Value("the group")),
        };
        let files = (0..count).map(|_| read_file(rest)).collect::<Result<Vec<_>, _>>()?;
        let payload = (payload != 0).then_some(payload);
        let to_group = flags & TO_GROUP != 0;
        Ok(Announce { to_group, group, payload, identity, stamp_us, report_every_us, all_files, first_file, files })
    }
}

fn read_file(rest: &mut Reader<'_>) -> Result<FileEntry, Malformed> {
    let length = rest.u64()?;
    let digest = match rest.u8()? {
        0 => None,
        1 => Some(rest.array()?),
        _ => return Err(Malformed::Value("whether there is a digest")),
    };
    let name_length = usize::from(rest.u8()?);
    debug_assert!(name_length <= LONGEST_NAME);
    let name = std::str::from_utf8(rest.bytes(name_length)?).map_err(|_| Malformed::Value("a name"))?;
    Ok(FileEntry { name: name.to_owned(), length, digest })
}

/// Takes numbers off the front of bytes.
pub(super) struct Reader<'a>(pub(super) &'a [u8]);

impl<'a> Reader<'a> {
    pub(super) fn bytes(&mut self, count: usize) -> Result<&'a [u8], Malformed> {
        let (bytes, rest) = self.0.split_at_checked(count).ok_or(Malformed::Short)?;
        self.0 = rest;
        Ok(bytes)
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (bytes, rest) = self.0.split_first_chunk().ok_or(Malformed::Short)?;
        self.0 = rest;
        Ok(*bytes)
    }

    pub(super) fn u8(&mut self) -> Result<u8, Malformed> {
        Ok(self.array::<1>()?[0])
    }

    pub(super) fn u16(&mut self) -> Result<u16, Malformed> {
        self.array().map(u16::from_be_bytes)
    }

    pub(super) fn u32(&mut self) -> Result<u32, Malformed> {
        self.array().map(u32::from_be_bytes)
    }

    pub(super) fn u64(&mut self) -> Result<u64, Malformed> {
        self.array().map(u64::from_be_bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SESSION: SessionId = SessionId(0x0102_0304_0506_0708);

    #[test]
    fn a_data_packet_has_the_documented_bytes() {
        let header = DataHeader { number: 9, block: 2, symbol: 3, poll: Poll::Slot { bits: 4, slot: 5 } };
        let bytes = Packet::Data(header, b"xy").to_bytes(SESSION);
        let expected =
            b"PF\x01\x02\x50\x05\x5f\x5f\x01\x02\x03\x04\x05\x06\x07\x08\0\0\0\0\0\0\0\x09\0\0\0\x02\0\x03xy";
        assert_eq!(bytes, expected);
        assert_eq!(Packet::parse(&bytes), Ok((SESSION, Packet::Data(header, b"xy"))));
    }

    #[test]
    fn an_announcement_is_read_as_it_is_written_whatever_its_padding() {
        for group in [None, Some("239.1.2.3:7735".parse().unwrap()), Some("[ff15::7]:7735".parse().unwrap())] {
            let mut files: Vec<_> = (0..40).map(|index| FileEntry::new(&"n".repeat(index + 1), 1 << index)).collect();
            files[3].digest = Some([7; 32]);
            let count = Announce::page(&files, 2);
            assert!((10..38).contains(&count));
            let announce = Announce {
                to_group: group.is_some(),
                group,
                payload: Some(1442),
                identity: Identity([9; 16]),
                stamp_us: 1,
                report_every_us: 2,
                all_files: 40,
                first_file: 2,
                files: files[2..2 + count].to_vec(),
            };
            let mut bytes = Packet::Announce(announce.clone()).to_bytes(SESSION);
            assert!(bytes.len() <= LONGEST_PAGE);
            bytes.resize(1472, 0xee);
            assert_eq!(Packet::parse(&bytes), Ok((SESSION, Packet::Announce(announce))));
        }
    }

    #[test]
    fn polls_ask_everybody_once_in_all_slots() {
        for bits in 0..=Poll::MOST_BITS {
            let asked = (0..1 << bits).filter(|slot| Poll::Slot { bits, slot: *slot }.asks(MemberId(0xabcd_ef01_2345)));
            assert_eq!(asked.count(), 1, "{bits} bits");
        }
        assert_eq!(Poll::from_bits(0x2002), Err(Malformed::Value("a poll")), "of two slots there is no third");
        assert_eq!(Poll::from_bits(0xe000), Err(Malformed::Value("a poll")));
    }
}
