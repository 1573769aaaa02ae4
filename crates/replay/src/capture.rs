//! Captures as the relay writes them (pcapng, draft-ietf-opsawg-pcapng: one section, one interface, times in nanoseconds),
//! read packet by packet. The bytes are hostile: a block takes a bounded amount of memory, and what is not as the relay
//! writes it is an error.

use std::io::{ErrorKind, Read};

use link::Cause;

use crate::account::{Dropped, Half};

/// A capture that is being read.
#[derive(Debug)]
pub struct Capture<R> {
    input: R,
    /// The block read last, without its lengths.
    block: Vec<u8>,
    stage: Stage,
    big_endian: bool,
    packets: u64,
}

/// What a capture says of a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet {
    /// Nanoseconds since 1970.
    pub at: u64,
    /// Whether it left the node; else it reached it, or should have.
    pub is_outbound: bool,
    /// Counted from 1 over all packets that entered the network; absent where the model had no part in it.
    pub id: Option<u64>,
    /// Bytes of the frame.
    pub length: u32,
    /// The Ethernet address that it goes to.
    pub destination: [u8; 6],
    /// Why it did not arrive.
    pub dropped: Option<Dropped>,
    /// Whether it is the second of a packet that came twice.
    pub is_copy: bool,
    /// Bits of the frame that links have flipped, in the order of its way.
    pub flips: Vec<u64>,
}

/// Why a capture cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum CaptureFault {
    /// The system refused.
    #[error("it cannot be read")]
    Read(#[source] std::io::Error),
    /// Something else.
    #[error("it is no pcapng file")]
    NotPcapng,
    /// It ends within a block, or without the counters that the relay ends it with.
    #[error("it is cut short: it ends after {packets} packets without the counters that end a capture")]
    CutShort {
        /// Read until then.
        packets: u64,
    },
    /// Not as the relay writes it.
    #[error("after {packets} packets: {what}")]
    Malformed {
        /// Read until then.
        packets: u64,
        /// What is wrong.
        what: &'static str,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Section,
    Interface,
    Packets,
    Over,
}

const SECTION_HEADER: u32 = 0x0a0d_0d0a;
const INTERFACE_DESCRIPTION: u32 = 1;
const INTERFACE_STATISTICS: u32 = 5;
const ENHANCED_PACKET: u32 = 6;
const BYTE_ORDER_MAGIC: u32 = 0x1a2b_3c4d;

const END_OF_OPTIONS: u16 = 0;
const COMMENT: u16 = 1;
const EPB_FLAGS: u16 = 2;
const EPB_PACKET_ID: u16 = 5;
const IF_TIME_RESOLUTION: u16 = 9;
const NANOSECONDS: u8 = 9;

/// A frame is at most 64 KiB, and what is said of it a few lines.
const LONGEST_BLOCK: usize = 256 << 10;
/// Kind and length before it, and the length again behind.
const FRAMING: usize = 12;
const ETHERNET_HEADER: usize = 14;
/// A packet passes an `up`, a pair's and a `down`.
const MOST_FLIPS: usize = 3;

impl<R: Read> Capture<R> {
    /// A capture of which nothing was read yet. It is read in small pieces: `input` should be buffered.
    pub fn new(input: R) -> Self {
        Capture { input, block: Vec::new(), stage: Stage::Section, big_endian: false, packets: 0 }
    }

    /// The next packet; `None` after the last.
    ///
    /// # Errors
    ///
    /// When it cannot be read, is cut short, or is not as the relay writes it.
    pub fn read(&mut self) -> Result<Option<Packet>, CaptureFault> {
        loop {
            let Some(kind) = self.read_block()? else {
                return if self.stage == Stage::Over { Ok(None) } else { Err(self.cut_short()) };
            };
            match (self.stage, kind) {
                (Stage::Section, SECTION_HEADER) => self.stage = Stage::Interface,
                (Stage::Interface, INTERFACE_DESCRIPTION) => {
                    self.check_interface().map_err(|what| self.malformed(what))?;
                    self.stage = Stage::Packets;
                }
                (Stage::Packets, ENHANCED_PACKET) => {
                    let packet = self.packet().map_err(|what| self.malformed(what))?;
                    self.packets += 1;
                    return Ok(Some(packet));
                }
                (Stage::Packets, INTERFACE_STATISTICS) => self.stage = Stage::Over,
                (Stage::Over, _) => return Err(self.malformed("something follows its end")),
                _ => return Err(self.malformed("a block that the relay does not write there")),
            }
        }
    }

    /// Reads a block and tells its kind; `None` at the end of the file.
    fn read_block(&mut self) -> Result<Option<u32>, CaptureFault> {
        let mut start = [0; 8];
        match self.fill(&mut start)? {
            0 => return Ok(None),
            8 => {}
            _ => return Err(if self.stage == Stage::Section { CaptureFault::NotPcapng } else { self.cut_short() }),
        }
        if self.stage == Stage::Section {
            // The byte order is told behind the length, which it is needed for.
            let mut magic = [0; 4];
            if start[..4] != SECTION_HEADER.to_ne_bytes() || self.fill(&mut magic)? != 4 {
                return Err(CaptureFault::NotPcapng);
            }
            self.big_endian = match magic {
                magic if magic == BYTE_ORDER_MAGIC.to_be_bytes() => true,
                magic if magic == BYTE_ORDER_MAGIC.to_le_bytes() => false,
                _ => return Err(CaptureFault::NotPcapng),
            };
            self.block.clear();
            self.block.extend(magic);
        } else {
            self.block.clear();
        }
        let (kind, length) =
            (self.word([start[0], start[1], start[2], start[3]]), self.word([start[4], start[5], start[6], start[7]]));
        let length = length as usize;
        if !(FRAMING + self.block.len()..=LONGEST_BLOCK).contains(&length) || !length.is_multiple_of(4) {
            return Err(self.malformed("a block of a length that none has"));
        }
        let read = self.block.len();
        self.block.resize(length - 8, 0);
        let mut block = std::mem::take(&mut self.block);
        let filled = self.fill(&mut block[read..]);
        self.block = block;
        if filled? < self.block.len() - read {
            return Err(self.cut_short());
        }
        let end = self.block.split_off(self.block.len() - 4);
        if self.word([end[0], end[1], end[2], end[3]]) as usize != length {
            return Err(self.malformed("a block whose two lengths differ"));
        }
        Ok(Some(kind))
    }

    /// Reads until `bytes` is full or the file at its end; how many there were.
    fn fill(&mut self, bytes: &mut [u8]) -> Result<usize, CaptureFault> {
        let mut filled = 0;
        while filled < bytes.len() {
            match self.input.read(&mut bytes[filled..]) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(CaptureFault::Read(error)),
            }
        }
        Ok(filled)
    }

    fn check_interface(&self) -> Result<(), &'static str> {
        let options = self.options(self.block.get(8..).ok_or("an interface that is too short")?)?;
        let resolution = options.iter().find(|(code, _)| *code == IF_TIME_RESOLUTION);
        if resolution.is_some_and(|(_, value)| *value == [NANOSECONDS]) {
            Ok(())
        } else {
            Err("its times are not nanoseconds")
        }
    }

    fn packet(&self) -> Result<Packet, &'static str> {
        const HEADER: usize = 20;
        let (header, rest) = self.block.split_at_checked(HEADER).ok_or("a packet that is too short")?;
        let [interface, high, low, length, original] = [0, 4, 8, 12, 16].map(|at| self.word(four(header, at)));
        if interface != 0 || length != original {
            return Err("a packet of another interface, or one that is not whole");
        }
        let padded = (length as usize).next_multiple_of(4);
        let (frame, options) = rest.split_at_checked(padded).ok_or("a packet that is longer than its block")?;
        let frame = frame
            .get(..length as usize)
            .filter(|frame| frame.len() >= ETHERNET_HEADER)
            .ok_or("a packet that is no frame")?;
        let options = self.options(options)?;
        let of = |code| options.iter().find(|(found, _)| *found == code).map(|(_, value)| *value);
        let direction = of(EPB_FLAGS).and_then(|value| value.first_chunk::<4>()).map(|value| self.word(*value) & 3);
        let id = of(EPB_PACKET_ID).and_then(|value| value.first_chunk::<8>());
        let mut packet = Packet {
            at: u64::from(high) << 32 | u64::from(low),
            is_outbound: match direction {
                Some(1) => false,
                Some(2) => true,
                _ => return Err("a packet that goes neither in nor out"),
            },
            id: id.map(|id| if self.big_endian { u64::from_be_bytes(*id) } else { u64::from_le_bytes(*id) }),
            length,
            destination: frame.first_chunk().copied().ok_or("a packet that is no frame")?,
            dropped: None,
            is_copy: false,
            flips: Vec::new(),
        };
        for (_, comment) in options.iter().filter(|(code, _)| *code == COMMENT) {
            packet.note(std::str::from_utf8(comment).map_err(|_| "a comment that is no text")?)?;
        }
        Ok(packet)
    }

    /// Code and value of each option.
    fn options<'a>(&self, mut bytes: &'a [u8]) -> Result<Vec<(u16, &'a [u8])>, &'static str> {
        const WRONG: &str = "options that do not end where their block ends";
        let mut options = Vec::new();
        loop {
            let (head, rest) = bytes.split_at_checked(4).ok_or(WRONG)?;
            let (code, length) = (self.half([head[0], head[1]]), usize::from(self.half([head[2], head[3]])));
            if code == END_OF_OPTIONS {
                return if rest.is_empty() { Ok(options) } else { Err(WRONG) };
            }
            let (value, others) = rest.split_at_checked(length.next_multiple_of(4)).ok_or(WRONG)?;
            options.push((code, &value[..length]));
            bytes = others;
        }
    }

    fn half(&self, bytes: [u8; 2]) -> u16 {
        if self.big_endian { u16::from_be_bytes(bytes) } else { u16::from_le_bytes(bytes) }
    }

    fn word(&self, bytes: [u8; 4]) -> u32 {
        if self.big_endian { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) }
    }

    fn malformed(&self, what: &'static str) -> CaptureFault {
        CaptureFault::Malformed { packets: self.packets, what }
    }

    fn cut_short(&self) -> CaptureFault {
        CaptureFault::CutShort { packets: self.packets }
    }
}

/// Four bytes of a header that has them.
fn four(header: &[u8], at: usize) -> [u8; 4] {
    [header[at], header[at + 1], header[at + 2], header[at + 3]]
}

impl Packet {
    /// Takes in what a comment says. Others than ours are somebody's notes.
    fn note(&mut self, comment: &str) -> Result<(), &'static str> {
        if comment == "duplicate" {
            self.is_copy = true;
        } else if let Some(why) = comment.strip_prefix("dropped: ") {
            self.dropped = dropped(why);
            if self.dropped.is_none() && self.id.is_some() {
                return Err("a packet that was dropped for no cause of the model");
            }
        } else if let Some(place) = comment.strip_prefix("corrupted: bit ") {
            const WRONG: &str = "a flipped bit without a place";
            let (bit, byte) = place.split_once(" of byte ").ok_or(WRONG)?;
            let (bit, byte): (u64, u64) = (bit.parse().map_err(|_| WRONG)?, byte.parse().map_err(|_| WRONG)?);
            if bit > 7 || byte >= u64::from(self.length) || self.flips.len() == MOST_FLIPS {
                return Err(WRONG);
            }
            self.flips.push(byte * 8 + bit);
        }
        Ok(())
    }
}

/// `loss (up)`, as the relay's comments say it.
fn dropped(words: &str) -> Option<Dropped> {
    let (cause, half) = words.split_once(' ')?;
    let causes = [Cause::Loss, Cause::Queue, Cause::Partition, Cause::Cut, Cause::Overflow];
    let cause = causes.into_iter().find(|one| crate::account::cause_name(*one) == cause)?;
    let half = [Half::Up, Half::Pair, Half::Down].into_iter().find(|one| half == format!("({})", one.name()))?;
    Some(Dropped { cause, half })
}
