//! Written, hashed, recorded, finished.

use machine::Time;

use super::Engine;
use super::source::{Source, Stage};
use crate::manifest::Digest;
use crate::pieces::{ByteRange, PieceIndex};
use crate::protocol::{Aside, Failure, Integrity, Note, Outcome, Output, SourceId, Why};
use crate::tuning;

impl Engine {
    pub(super) fn written(&mut self, now: Time, offset: u64, len: u64) {
        self.relieve(now, len);
        let Some(file) = &mut self.file else { return };
        let range = ByteRange::new(offset, offset.saturating_add(len));
        let mut whole = Vec::new();
        for piece in file.pieces.touching(range) {
            let bytes = file.pieces.range(piece);
            let Some(left) = file.unwritten.get_mut(&piece) else { continue };
            *left = left.saturating_sub(bytes.intersect(range).len());
            if *left == 0 {
                file.unwritten.remove(&piece);
                let is_checked = file.recorded.contains(piece) || file.hashing.contains_key(&piece);
                if file.received.contains(bytes) && !is_checked {
                    whole.push(piece);
                }
            }
        }
        for piece in whole {
            if self.file.as_ref().is_some_and(|file| file.piece_hashes().is_some()) {
                self.hash(piece, false);
            } else {
                self.record(now, piece);
            }
        }
    }

    /// The disk has taken this much. While it was behind nobody was heard, which is no silence of theirs.
    pub(super) fn relieve(&mut self, now: Time, len: u64) {
        let was_behind = !self.wants_body();
        if let Some(file) = &mut self.file {
            file.backlog = file.backlog.saturating_sub(len);
        }
        if was_behind && self.wants_body() {
            let busy = self.sources.iter_mut().filter(|source| !source.requests.is_empty());
            busy.for_each(|source| source.heard = now);
        }
    }

    fn hash(&mut self, piece: PieceIndex, queued: bool) {
        let Some(file) = &mut self.file else { return };
        file.hashing.insert(piece, queued);
        let range = file.pieces.range(piece);
        self.outputs.push_back(Output::Hash { generation: self.generation, piece, range });
    }

    /// Gives pieces that were here before their hashes to be hashed.
    pub(super) fn rehash_some(&mut self, count: usize) {
        for _ in 0..count {
            let Some(piece) = self.file.as_mut().and_then(|file| file.rehash.pop_front()) else { return };
            self.hash(piece, true);
        }
    }

    pub(super) fn hashed(&mut self, now: Time, piece: PieceIndex, digest: Digest) {
        let Some(file) = &mut self.file else { return };
        let Some(queued) = file.hashing.remove(&piece) else { return };
        let Some(expected) = file.piece_hashes().and_then(|manifest| manifest.hash(piece)) else { return };
        if queued {
            self.rehash_some(1);
        }
        if digest == expected {
            self.record(now, piece);
        } else {
            self.is_corrupt(piece);
        }
    }

    fn record(&mut self, now: Time, piece: PieceIndex) {
        let Some(file) = &mut self.file else { return };
        if !file.recorded.insert(piece) {
            return;
        }
        file.recorded_bytes += file.pieces.range(piece).len();
        if file.piece_hashes().is_some() {
            // Without hashes it may still turn out who sent something else.
            file.senders.remove(&piece);
        }
        file.blame.remove(&piece);
        let record = file.journal.piece(piece);
        self.outputs.push_back(Output::Append { record });
        self.arm_sync(now);
    }

    fn is_corrupt(&mut self, piece: PieceIndex) {
        let Some(file) = &mut self.file else { return };
        let range = file.pieces.range(piece);
        let senders = file.senders.remove(&piece).unwrap_or_default();
        file.received.remove(range);
        if !senders.is_empty() {
            self.wasted += range.len();
            file.blame.entry(piece).or_default();
        }
        self.give_back(range);
        let Some(file) = self.file.as_mut().filter(|_| !senders.is_empty()) else { return };
        let blame = file.blame.entry(piece).or_default();
        // Only one that sent all of it is guilty; parts from several only put the piece under suspicion.
        if let [culprit] = senders[..] {
            *blame.entry(culprit).or_default() += 1;
            self.sources[culprit.0].corrupt += 1;
        }
        self.note(Note::Corrupt { piece, senders: senders.clone() });
        if let [culprit] = senders[..] {
            let pieces = self.sources[culprit.0].corrupt;
            if pieces >= tuning::CORRUPT_MAX && self.sources[culprit.0].stage != Stage::Aside {
                self.set_apart(culprit, Aside::Corrupt { pieces });
            }
        }
        if !self.finished && self.least_blamed(piece) >= tuning::CORRUPT_SAME {
            self.finish(Outcome::Failed(Failure::Corrupt { piece }));
        }
    }

    /// How often the least guilty of the usable sources sent a piece corrupt.
    fn least_blamed(&self, piece: PieceIndex) -> u32 {
        let usable = self.sources.iter().enumerate().filter(|(_, source)| source.stage != Stage::Aside);
        usable.map(|(index, _)| self.blamed(piece, SourceId(index))).min().unwrap_or(0)
    }

    fn blamed(&self, piece: PieceIndex, id: SourceId) -> u32 {
        let blame = self.file.as_ref().and_then(|file| file.blame.get(&piece));
        blame.and_then(|blame| blame.get(&id)).copied().unwrap_or(0)
    }

    /// Whether a source may be asked for a piece: not if it sent it corrupt and there is anybody who did so less often.
    pub(super) fn may_send(&self, piece: PieceIndex, id: SourceId) -> bool {
        self.blamed(piece, id) <= self.least_blamed(piece)
    }

    pub(super) fn arm_sync(&mut self, now: Time) {
        let idle = self.file.as_ref().is_some_and(|file| file.syncing.is_none() && file.journal.records() > 0);
        if idle && !self.finished && self.timers.get(Why::Sync).is_none() {
            self.timers.set(Why::Sync, now + tuning::SYNC_EVERY);
        }
    }

    pub(super) fn sync_due(&mut self) {
        let Some(file) = &mut self.file else { return };
        file.syncing = Some(file.journal.records());
        self.outputs.push_back(Output::Sync { generation: self.generation });
    }

    pub(super) fn synced(&mut self, now: Time) {
        let Some(file) = &mut self.file else { return };
        let Some(covered) = file.syncing.take() else { return };
        let more = file.journal.records() > covered;
        let record = file.journal.checkpoint(covered);
        self.outputs.push_back(Output::Append { record });
        if more {
            self.arm_sync(now);
        }
    }

    pub(super) fn finish_if_whole(&mut self, now: Time) {
        let Some(file) = &self.file else { return };
        if file.recorded.count() < file.pieces.count() || file.hashing_whole || self.finished {
            return;
        }
        // Hashes of nothing vouch for nothing.
        if (file.piece_hashes().is_none() || file.pieces.length() == 0) && self.may_be_outvoted() {
            return;
        }
        if file.piece_hashes().is_none() && self.waits_for_hashes(now) {
            return;
        }
        if self.expected_digest().is_some() {
            let generation = self.generation;
            self.file.as_mut().expect("checked above").hashing_whole = true;
            self.outputs.push_back(Output::HashFile { generation });
            return;
        }
        let is_checked = self.file.as_ref().is_some_and(|file| file.piece_hashes().is_some());
        let integrity = if is_checked { Integrity::Pieces } else { Integrity::Transport };
        self.finish(Outcome::Complete { integrity });
    }

    /// Whether a file that nothing vouches for may yet turn out to be another one than most sources have: one that was
    /// small enough to be whole before they answered.
    fn may_be_outvoted(&self) -> bool {
        let unheard =
            |source: &Source| source.description.is_none() && !source.failed_once && source.stage != Stage::Aside;
        self.expected_digest().is_none() && self.sources.iter().any(unheard)
    }

    pub(super) fn file_hashed(&mut self, now: Time, found: Digest) {
        let Some(file) = self.file.as_mut().filter(|file| file.hashing_whole) else { return };
        // What was expected may have been taken back meanwhile.
        file.hashing_whole = false;
        let Some(expected) = self.expected_digest() else { return };
        if found == expected {
            self.finish(Outcome::Complete { integrity: Integrity::Whole });
        } else if !self.try_another_file(now) {
            self.finish(Outcome::Failed(Failure::Digest { found, expected }));
        }
    }
}
