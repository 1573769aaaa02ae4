//! A strict reader of pcapng (draft-ietf-opsawg-pcapng), for files of one section and one interface: whatever the format
//! does not allow is a panic.

use std::path::Path;

/// A file.
pub(crate) struct Capture {
    /// `if_name`.
    pub(crate) interface: String,
    pub(crate) packets: Vec<Packet>,
    /// `isb_ifrecv` and `isb_ifdrop`.
    pub(crate) received: u64,
    pub(crate) dropped: u64,
}

/// A packet.
#[derive(Clone, Debug)]
pub(crate) struct Packet {
    /// Nanoseconds since 1970.
    pub(crate) at: u64,
    pub(crate) is_outbound: bool,
    /// `epb_packetid`.
    pub(crate) id: Option<u64>,
    pub(crate) comments: Vec<String>,
    pub(crate) frame: Vec<u8>,
}

impl Packet {
    /// What follows these words in a comment.
    pub(crate) fn said(&self, words: &str) -> Vec<&str> {
        self.comments.iter().filter_map(|comment| comment.strip_prefix(words)).collect()
    }
}

/// Reads a file.
pub(crate) fn read(path: &Path) -> Capture {
    let bytes = std::fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let mut capture = Capture { interface: String::new(), packets: Vec::new(), received: 0, dropped: 0 };
    let blocks = blocks(&bytes);
    let kinds: Vec<u32> = blocks.iter().map(|(kind, _)| *kind).collect();
    assert_eq!(kinds[..2], [0x0a0d_0d0a, 1], "a section begins with its header and an interface");
    assert_eq!(kinds[kinds.len() - 1], 5, "and ends with statistics");
    assert!(kinds[2..kinds.len() - 1].iter().all(|kind| *kind == 6), "between them are packets");
    for (kind, body) in blocks {
        match kind {
            0x0a0d_0d0a => {
                assert_eq!(word(body, 0), 0x1a2b_3c4d, "written in this machine's byte order");
                assert_eq!((half(body, 4), half(body, 6)), (1, 0), "the version");
                assert_eq!(body[8..16], [0xff; 8], "the section's length is not told");
                options(&body[16..]);
            }
            1 => {
                assert_eq!((half(body, 0), half(body, 2), word(body, 4)), (1, 0, 0), "Ethernet, whole packets");
                let options = options(&body[8..]);
                let of = |code| options.iter().find(|(found, _)| *found == code).map(|(_, value)| *value);
                capture.interface = text(of(2).expect("if_name"));
                assert_eq!(of(9), Some(&[9][..]), "if_tsresol: nanoseconds");
            }
            6 => capture.packets.push(packet(body)),
            _ => {
                let options = options(&body[12..]);
                let of = |code| options.iter().find(|(found, _)| *found == code).map(|(_, value)| long(value));
                capture.received = of(4).expect("isb_ifrecv");
                capture.dropped = of(5).expect("isb_ifdrop");
            }
        }
    }
    assert_eq!(capture.packets.len() as u64 + capture.dropped, capture.received, "{}", path.display());
    capture
}

fn packet(body: &[u8]) -> Packet {
    assert_eq!(word(body, 0), 0, "the file's only interface");
    let length = word(body, 12) as usize;
    assert_eq!(word(body, 16) as usize, length, "recorded whole");
    let padded = length.next_multiple_of(4);
    assert!(body[20 + length..20 + padded].iter().all(|byte| *byte == 0), "padding");
    let options = options(&body[20 + padded..]);
    let of = |code| options.iter().find(|(found, _)| *found == code).map(|(_, value)| *value);
    let flags = word(of(2).expect("epb_flags"), 0);
    assert!(flags & 3 == 1 || flags & 3 == 2, "inbound or outbound");
    Packet {
        at: u64::from(word(body, 4)) << 32 | u64::from(word(body, 8)),
        is_outbound: flags & 3 == 2,
        id: of(5).map(long),
        comments: options.iter().filter(|(code, _)| *code == 1).map(|(_, value)| text(value)).collect(),
        frame: body[20..20 + length].to_vec(),
    }
}

/// Kind and body of each block.
fn blocks(mut bytes: &[u8]) -> Vec<(u32, &[u8])> {
    let mut blocks = Vec::new();
    while !bytes.is_empty() {
        let length = word(bytes, 4) as usize;
        assert!(length >= 12 && length.is_multiple_of(4) && length <= bytes.len(), "a block of {length} bytes");
        assert_eq!(word(bytes, length - 4) as usize, length, "the length at its end");
        blocks.push((word(bytes, 0), &bytes[8..length - 4]));
        bytes = &bytes[length..];
    }
    blocks
}

/// Code and value of each option up to the last, which must be where the block ends.
fn options(mut bytes: &[u8]) -> Vec<(u16, &[u8])> {
    let mut options = Vec::new();
    loop {
        let (code, length) = (half(bytes, 0), usize::from(half(bytes, 2)));
        let padded = length.next_multiple_of(4);
        if code == 0 {
            assert!(length == 0 && bytes.len() == 4, "opt_endofopt is the last");
            return options;
        }
        assert!(bytes[4 + length..4 + padded].iter().all(|byte| *byte == 0), "padding");
        options.push((code, &bytes[4..4 + length]));
        bytes = &bytes[4 + padded..];
    }
}

fn half(bytes: &[u8], at: usize) -> u16 {
    u16::from_ne_bytes(bytes[at..at + 2].try_into().expect("two bytes"))
}

fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_ne_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

/// Of statistics and ids, in the byte order of the machine.
fn long(value: &[u8]) -> u64 {
    u64::from_ne_bytes(value.try_into().expect("eight bytes"))
}

fn text(value: &[u8]) -> String {
    String::from_utf8(value.to_vec()).expect("UTF-8")
}
