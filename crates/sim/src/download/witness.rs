//! Knows what a right file is, and what was recorded.

use std::collections::BTreeSet;

use bytes::Bytes;
use fetch::journal::{self, Header, Replay, Writer};
use fetch::{Boot, ByteRange, Integrity, Note, Pieces};
use machine::Time;

use crate::disk::{Damage, Disk};
use crate::server::Content;

/// Requests that a source may have open at once.
const AT_ONCE: usize = fetch::tuning::RANGES_AT_ONCE;

/// Watches a client.
#[derive(Debug)]
pub(super) struct Witness {
    contents: Vec<Content>,
    /// Pieces that are recorded, and must not be asked for again.
    recorded: BTreeSet<u32>,
    pieces: Option<Pieces>,
    /// Of the last journal.
    header: Option<Header>,
    pub(super) expect_corruption: bool,
    pub(super) plant_trust: bool,
    /// Whether the engine that lives now was told hashes.
    pub(super) hashes_told: bool,
    /// When the engine last declined hashes that it would have got.
    pub(super) hashes_declined: Option<Time>,
    pub(super) faults: Vec<String>,
    pub(super) log: Vec<String>,
}

impl Witness {
    pub(super) fn new(contents: Vec<Content>) -> Self {
        Witness {
            contents,
            recorded: BTreeSet::new(),
            pieces: None,
            header: None,
            expect_corruption: false,
            plant_trust: false,
            hashes_told: false,
            hashes_declined: None,
            faults: Vec::new(),
            log: Vec::new(),
        }
    }

    pub(super) fn say(&mut self, now: Time, what: String) {
        self.log.push(format!("{now:?} {what}"));
    }

    pub(super) fn noted(&mut self, now: Time, note: &Note) {
        if let Note::Restarted { .. } = note {
            self.recorded.clear();
        }
        self.say(now, format!("{note:?}"));
    }

    pub(super) fn prepared(&mut self, fresh: bool, journal: &[u8]) {
        let header = journal::replay(journal).ok().map(|replay| replay.header);
        let same = |old: &Header, new: &Header| (old.pieces, old.manifest) == (new.pieces, new.manifest);
        if !self.header.as_ref().zip(header.as_ref()).is_some_and(|(old, new)| same(old, new)) {
            // Another file, which an unreadable journal did not keep from being chosen; or hashes came.
            self.recorded.clear();
        }
        self.pieces = header.as_ref().map(|header| header.pieces);
        self.header = header;
        if fresh && !self.recorded.is_empty() {
            self.faults.push(format!("{} recorded pieces were given up", self.recorded.len()));
            self.recorded.clear();
        }
    }

    /// A record is appended: its piece must be on the disk.
    pub(super) fn recorded(&mut self, record: &Bytes, data: &[u8]) {
        let field =
            |at: usize| record.get(at..at + 4).map(|bytes| u32::from_be_bytes(bytes.try_into().expect("four bytes")));
        let (Some(1), Some(piece), Some(pieces)) = (field(0), field(4), self.pieces) else { return };
        let Some(range) = pieces.get(piece).map(|piece| pieces.range(piece)) else { return };
        let right = self.contents.iter().any(|content| {
            let same = |range: ByteRange| content.bytes.get(range.start as usize..range.end as usize);
            same(range).is_some() && same(range) == data.get(range.start as usize..range.end as usize)
        });
        if !right && !self.expect_corruption {
            self.faults.push(format!("piece {piece} was recorded before it was written"));
        }
        self.recorded.insert(piece);
    }

    pub(super) fn asked(&mut self, now: Time, range: ByteRange, at_once: usize, ranged: bool) {
        if at_once > AT_ONCE {
            self.faults.push(format!("{at_once} ranges were open at one source"));
        }
        let Some(pieces) = self.pieces.filter(|_| ranged) else { return };
        if let Some(piece) = pieces.touching(range).find(|piece| self.recorded.contains(&piece.get())) {
            self.faults.push(format!("{now:?} {piece} is recorded and was asked for again"));
        }
    }

    /// The client is dead, and will find this: what counts as recorded from here on.
    pub(super) fn client_rests(&mut self, disk: &Disk, boots: u8, damage: Damage) {
        self.recorded.clear();
        let Ok(replay) = journal::replay(&disk.journal) else { return };
        let same_boot = replay.header.boot == Boot([boots; 16]);
        let sure = if same_boot { &replay.recorded } else { &replay.durable };
        let hashed = replay.header.manifest.is_some();
        // Damage costs a rehash where there are hashes, and may cost what is recorded where there are none.
        // Also damage of an earlier death, if nothing was known of the file since.
        let is_cut = damage == Damage::DataCut || disk.data.len() as u64 != replay.header.pieces.length();
        if damage != Damage::None && !hashed || is_cut {
            return;
        }
        let pieces = replay.header.pieces;
        self.recorded = pieces.iter().filter(|piece| sure.contains(*piece)).map(fetch::PieceIndex::get).collect();
    }

    /// Another life of the client begins, which knows no hashes.
    pub(super) fn client_starts(&mut self) {
        self.hashes_told = false;
    }

    /// The file is called whole: it must be a version that there is, byte for byte. With sources that spoil bytes it may
    /// be another one only if the engine says that nothing but the transport vouches for it, was told no hashes, and had
    /// none to wait for.
    pub(super) fn judge(&mut self, now: Time, data: &[u8], integrity: Integrity) {
        let unhashed = !self.hashes_told && self.hashes_declined != Some(now);
        if self.expect_corruption && unhashed && integrity == Integrity::Transport {
            return;
        }
        if !self.contents.iter().any(|content| content.bytes == data) {
            self.faults.push(format!("{now:?} a wrong file is called right"));
        }
    }

    /// What the engine reads of a journal: with the planted bug, one that was mended until it looks sound, so that every
    /// piece which it ever named is believed.
    pub(super) fn tamper(&self, journal: Bytes, boots: u8) -> Bytes {
        let Ok(Replay { mut header, recorded, .. }) = journal::replay(&journal) else { return journal };
        if !self.plant_trust {
            return journal;
        }
        header.boot = Boot([boots; 16]);
        let pieces = header.pieces;
        let (mut writer, mut mended) = Writer::begin(&header);
        for piece in pieces.iter().filter(|piece| recorded.contains(*piece)) {
            mended.extend_from_slice(&writer.piece(piece));
        }
        mended.freeze()
    }
}
