//! What is on the disk already, in a format that survives tearing.
//!
//! ```text
//! header:  magic (8) · body length u32 · body · SHA-256 of all before (32)
//!   body:  file length u64 · piece size u32 · boot (16) · SHA-256 of the manifest, or zeros (32) · entity tag
//! record:  kind u32 · value u32 · check (8)
//! ```
//!
//! Integers are big-endian. `check` is the beginning of SHA-256(header's SHA-256 · ordinal of the record · kind · value):
//! a record of another journal, or at another place, is not one.
//!
//! Ordering that a driver must keep: a piece is written before its record is appended; what a checkpoint covers is synced
//! before the checkpoint is appended. So within one boot every record is true, and after another boot every record that
//! a checkpoint covers is.

use bytes::{BufMut, Bytes, BytesMut};
use sha2::{Digest as _, Sha256};

use crate::bitmap::Bitmap;
use crate::manifest::{Digest, Validator};
use crate::pieces::{PieceIndex, Pieces};
use crate::protocol::Boot;

const MAGIC: [u8; 8] = *b"FETCHJ1\n";
const FIXED_BODY: usize = 8 + 4 + 16 + 32;
const RECORD: usize = 16;
const PIECE: u32 = 1;
const CHECKPOINT: u32 = 2;

/// Which file a journal speaks of, and when it was begun.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// How the file is cut; also its length.
    pub pieces: Pieces,
    /// Of the manifest, if pieces had published hashes.
    pub manifest: Option<Digest>,
    /// The entity tag, if there was one.
    pub validator: Option<Validator>,
    /// The boot of the machine in which it was begun.
    pub boot: Boot,
}

/// Writes a journal.
#[derive(Clone, Debug)]
pub struct Writer {
    key: Digest,
    records: u32,
}

impl Writer {
    /// Begins a journal: the writer, and the bytes that it starts with.
    pub fn begin(header: &Header) -> (Self, BytesMut) {
        let tag = header.validator.as_ref().map_or("", Validator::as_str);
        let mut bytes = BytesMut::new();
        bytes.put_slice(&MAGIC);
        bytes.put_u32((FIXED_BODY + tag.len()) as u32);
        bytes.put_u64(header.pieces.length());
        bytes.put_u32(header.pieces.size());
        bytes.put_slice(&header.boot.0);
        bytes.put_slice(&header.manifest.map_or([0; 32], |digest| digest.0));
        bytes.put_slice(tag.as_bytes());
        let key = Digest::of(&bytes);
        bytes.put_slice(&key.0);
        (Writer { key, records: 0 }, bytes)
    }

    /// The record that a piece is written (and verified, if it has a hash).
    pub fn piece(&mut self, piece: PieceIndex) -> Bytes {
        self.record(PIECE, piece.get())
    }

    /// The record that the first `records` records, and the pieces they name, are synced.
    pub fn checkpoint(&mut self, records: u32) -> Bytes {
        self.record(CHECKPOINT, records)
    }

    /// How many records were made.
    pub fn records(&self) -> u32 {
        self.records
    }

    fn record(&mut self, kind: u32, value: u32) -> Bytes {
        let mut bytes = BytesMut::with_capacity(RECORD);
        bytes.put_u32(kind);
        bytes.put_u32(value);
        bytes.put_slice(&check(self.key, self.records, kind, value));
        self.records += 1;
        bytes.freeze()
    }
}

/// What a journal says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replay {
    /// Of which file.
    pub header: Header,
    /// Pieces that are recorded and covered by a checkpoint.
    pub durable: Bitmap,
    /// All recorded pieces; true within the boot of the header.
    pub recorded: Bitmap,
    /// Whether something follows that is not a record, other than one cut short at the very end. Then pieces may be
    /// missing in what this says; what it says is still true.
    pub damaged: bool,
}

/// Why bytes are not a journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReplayError {
    /// It ends within the header.
    #[error("the journal is cut short")]
    Short,
    /// It does not begin as a journal does.
    #[error("this is not a journal")]
    Foreign,
    /// The header's hash is wrong.
    #[error("the journal's header is damaged")]
    Damaged,
}

/// Reads a journal, as far as it is sound. Memory is bounded by [`Pieces::MAX`].
pub fn replay(journal: &[u8]) -> Result<Replay, ReplayError> {
    let (header, key, records) = read_header(journal)?;
    let mut replay = Replay {
        durable: Bitmap::empty(header.pieces),
        recorded: Bitmap::empty(header.pieces),
        header,
        damaged: false,
    };
    let mut order = Vec::new();
    for (ordinal, record) in records.chunks_exact(RECORD).enumerate() {
        let field = |at: usize| u32::from_be_bytes(record[at..at + 4].try_into().expect("four bytes"));
        let (kind, value) = (field(0), field(4));
        if record[8..] != check(key, ordinal as u32, kind, value) {
            replay.damaged = true;
            break;
        }
        match (kind, replay.header.pieces.get(value)) {
            (PIECE, Some(piece)) => {
                replay.recorded.insert(piece);
                order.push(Some(piece));
            }
            (CHECKPOINT, _) => {
                order.iter().take(value as usize).flatten().for_each(|piece| _ = replay.durable.insert(*piece));
                order.push(None);
            }
            _ => {
                replay.damaged = true;
                break;
            }
        }
    }
    Ok(replay)
}

fn read_header(journal: &[u8]) -> Result<(Header, Digest, &[u8]), ReplayError> {
    let (magic, rest) = journal.split_at_checked(8).ok_or(ReplayError::Short)?;
    if magic != MAGIC {
        return Err(ReplayError::Foreign);
    }
    let (length, rest) = rest.split_at_checked(4).ok_or(ReplayError::Short)?;
    let length = u32::from_be_bytes(length.try_into().expect("four bytes")) as usize;
    if !(FIXED_BODY..=FIXED_BODY + Validator::MAX).contains(&length) {
        return Err(ReplayError::Damaged);
    }
    let (body, rest) = rest.split_at_checked(length).ok_or(ReplayError::Short)?;
    let (key, records) = rest.split_at_checked(32).ok_or(ReplayError::Short)?;
    let found = Digest::of(&journal[..12 + length]);
    if found.0 != key {
        return Err(ReplayError::Damaged);
    }
    let header = parse_body(body).ok_or(ReplayError::Damaged)?;
    Ok((header, found, records))
}

fn parse_body(body: &[u8]) -> Option<Header> {
    let (length, rest) = body.split_first_chunk()?;
    let (size, rest) = rest.split_first_chunk()?;
    let (boot, rest) = rest.split_first_chunk()?;
    let (manifest, tag) = rest.split_first_chunk::<32>()?;
    let validator = match tag {
        [] => None,
        tag => Some(Validator::parse(std::str::from_utf8(tag).ok()?)?),
    };
    Some(Header {
        pieces: Pieces::new(u64::from_be_bytes(*length), u32::from_be_bytes(*size))?,
        manifest: (*manifest != [0; 32]).then_some(Digest(*manifest)),
        validator,
        boot: Boot(*boot),
    })
}

fn check(key: Digest, ordinal: u32, kind: u32, value: u32) -> [u8; 8] {
    let mut sha = Sha256::new();
    sha.update(key.0);
    sha.update(ordinal.to_be_bytes());
    sha.update(kind.to_be_bytes());
    sha.update(value.to_be_bytes());
    *sha.finalize().first_chunk().expect("a SHA-256 has 32 bytes")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn header() -> Header {
        Header {
            pieces: Pieces::new(1000, 10).unwrap(),
            manifest: Some(Digest::of(b"m")),
            validator: Validator::parse("\"tag\""),
            boot: Boot([7; 16]),
        }
    }

    fn journal(pieces: &[u32]) -> Vec<u8> {
        let (mut writer, bytes) = Writer::begin(&header());
        let mut bytes = bytes.to_vec();
        for (n, piece) in pieces.iter().enumerate() {
            bytes.extend(writer.piece(header().pieces.get(*piece).unwrap()));
            if n % 4 == 3 {
                bytes.extend(writer.checkpoint(writer.records() - 1));
            }
        }
        bytes
    }

    fn listed(map: &Bitmap) -> Vec<u32> {
        header().pieces.iter().filter(|piece| map.contains(*piece)).map(PieceIndex::get).collect()
    }

    #[test]
    fn what_was_recorded_is_replayed_and_checkpoints_tell_what_is_durable() {
        let replay = replay(&journal(&[3, 1, 4, 15, 9])).unwrap();
        assert_eq!(replay.header, header());
        assert_eq!(listed(&replay.recorded), [1, 3, 4, 9, 15]);
        assert_eq!(listed(&replay.durable), [1, 3, 4], "the checkpoint leaves out the record just before it");
        assert!(!replay.damaged);
    }

    proptest! {
        #[test]
        fn a_torn_journal_says_a_prefix(cut in 0usize..400) {
            let whole = journal(&[3, 1, 4, 15, 9]);
            let cut = cut.min(whole.len());
            if let Ok(replay) = replay(&whole[..cut]) {
                prop_assert!(!replay.damaged, "a record cut short is how a killed process leaves it");
                for piece in listed(&replay.recorded) {
                    prop_assert!([3, 1, 4, 15, 9].contains(&piece));
                }
            } else {
                prop_assert!(cut < 12 + FIXED_BODY + 5 + 32);
            }
        }

        #[test]
        fn damage_never_invents_a_piece(at in 0usize..400, bit in 0u8..8) {
            let mut bytes = journal(&[3, 1, 4, 15, 9]);
            let at = at % bytes.len();
            bytes[at] ^= 1 << bit;
            if let Ok(replay) = replay(&bytes) {
                prop_assert!(replay.damaged);
                prop_assert!(listed(&replay.recorded).iter().all(|piece| [3, 1, 4, 15, 9].contains(piece)));
            }
        }

        #[test]
        fn no_bytes_panic(bytes: Vec<u8>, magic: bool) {
            let bytes = if magic { [&MAGIC[..], &bytes].concat() } else { bytes };
            let _ = replay(&bytes);
        }
    }
}
