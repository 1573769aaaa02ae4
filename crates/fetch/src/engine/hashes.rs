//! Hashes that come later than bytes: whose are awaited, and what becomes of what is here when they come.
//!
//! Bytes are fetched as soon as length and entity tag are known. Until hashes of the pieces come, pieces are recorded
//! when they are written; with the first hashes of a source that may mean the same file, all of them are looked at
//! again, and nothing counts any more that the hashes do not vouch for.

use std::collections::BTreeMap;
use std::sync::Arc;

use machine::{Span, Time};

use super::Engine;
use super::identify::File;
use super::source::Stage;
use crate::bitmap::Bitmap;
use crate::journal::{Header, Writer};
use crate::manifest::Manifest;
use crate::pieces::PieceIndex;
use crate::protocol::{Description, Expectation, Hashes, Note, Output, RequestId, SourceId, Why};
use crate::tuning;

impl Engine {
    /// A source that said what file it has now says which hashes, or that there are none.
    pub(super) fn hashes_came(&mut self, now: Time, request: RequestId, manifest: Option<Arc<Manifest>>) {
        let Some(id) = self.awaited.remove(&request) else { return };
        let hashes = manifest.map_or(Hashes::Unpublished, |manifest| Hashes::Published(self.shared(manifest)));
        let source = &mut self.sources[id.0];
        source.hashes_failed = 0;
        if let Some(description) = &mut source.description {
            description.hashes = hashes;
            description.drop_unfit_hashes();
        }
        self.identify(now);
    }

    /// The same hashes as another source published, if there is one: so they are kept, and compared, but once.
    pub(super) fn shared(&self, manifest: Arc<Manifest>) -> Arc<Manifest> {
        let known = self.sources.iter().filter_map(|source| source.description.as_ref()?.manifest());
        known.into_iter().find(|known| **known == manifest).cloned().unwrap_or(manifest)
    }

    /// The question for a source's hashes ended without an answer.
    pub(super) fn hashes_broke_off(&mut self, now: Time, id: SourceId) {
        self.unpublish(id);
        let source = &mut self.sources[id.0];
        source.hashes_failed += 1;
        if source.stage == Stage::Ready && source.hashes_failed < tuning::HASHES_ATTEMPTS {
            self.ask(now, id);
        }
        self.identify(now);
    }

    /// Waits for a source's hashes no longer.
    pub(super) fn forget_hashes(&mut self, id: SourceId) {
        let open: Vec<RequestId> = self.awaited.iter().filter(|(_, of)| **of == id).map(|(open, _)| *open).collect();
        for request in open {
            self.awaited.remove(&request);
            self.outputs.push_back(Output::Cancel { request });
        }
        self.unpublish(id);
    }

    fn unpublish(&mut self, id: SourceId) {
        if let Some(description) = &mut self.sources[id.0].description
            && description.hashes == Hashes::Awaited
        {
            description.hashes = Hashes::Unpublished;
        }
    }

    /// While an earlier run's file cannot be told from another without hashes, there is an end to waiting for them.
    pub(super) fn arm_hashes(&mut self, now: Time) {
        if self.file.is_some() || self.awaited.is_empty() || self.timers.get(Why::Hashes).is_some() {
            return;
        }
        let lengths = self.sources.iter().filter_map(|source| source.description.as_ref()).map(|known| known.length);
        self.timers.set(Why::Hashes, now + patience(lengths.max().unwrap_or(0)));
    }

    /// Whether a file of which every byte is here must wait, because hashes to check it by are about to come.
    pub(super) fn waits_for_hashes(&mut self, now: Time) -> bool {
        let asked_again = |probe: &super::Probe| probe.manifest && self.sources[probe.source.0].stage == Stage::Ready;
        let is_told = self.told == Expectation::Awaited && self.expected_digest().is_none();
        if self.awaited.is_empty() && !self.probes.values().any(asked_again) && !is_told {
            return false;
        }
        // Nothing can be wrong with an empty file.
        let Some(file) = self.file.as_mut().filter(|file| file.pieces.length() > 0) else { return false };
        let since = *file.waiting.get_or_insert(now);
        let until = since + patience(file.pieces.length());
        if now < until {
            self.timers.set(Why::Hashes, until);
        }
        now < until
    }

    pub(super) fn hashes_due(&mut self, now: Time) {
        let is_over = |file: &File| file.waiting.is_some_and(|since| now >= since + patience(file.pieces.length()));
        if !self.file.as_ref().is_none_or(is_over) {
            return;
        }
        for (request, id) in std::mem::take(&mut self.awaited) {
            self.outputs.push_back(Output::Cancel { request });
            self.unpublish(id);
            self.note(Note::HashesMissing { source: id });
        }
        if self.file.is_some() && self.told == Expectation::Awaited {
            self.told = Expectation::Nothing;
            self.note(Note::ExpectationMissing);
        }
        self.identify(now);
    }

    /// From here on these hashes decide, also about what is here already. Ranges under way go on.
    pub(super) fn check_against(&mut self, description: Description) {
        let Some(pieces) = self.cut(&description) else { return };
        let Some(old) = self.file.take() else { return };
        self.timers.cancel(Why::Hashes);
        let Some(manifest) = description.manifest().filter(|manifest| manifest.has_pieces()) else {
            // A hash of the whole is asked for at the end.
            self.file = Some(File { description, ..old });
            return;
        };
        // Answers about pieces that were cut otherwise, or had no hash, mean nothing from here on.
        self.generation.0 += 1;
        self.timers.cancel(Why::Sync);
        let header = Header {
            pieces,
            manifest: Some(manifest.digest()),
            validator: description.validator.clone(),
            boot: self.config.boot,
        };
        let (journal, bytes) = Writer::begin(&header);
        self.outputs.push_back(Output::Prepare {
            generation: self.generation,
            length: pieces.length(),
            fresh: false,
            journal: bytes.freeze(),
        });
        self.note(Note::Hashed { here: old.received.bytes() });
        // Where pieces were cut otherwise, more may be named than sent a part; only one that is named alone is guilty.
        let mut senders: BTreeMap<PieceIndex, Vec<SourceId>> = BTreeMap::new();
        for (piece, sent_by) in &old.senders {
            for touched in pieces.touching(old.pieces.range(*piece)) {
                let known = senders.entry(touched).or_default();
                known.extend(sent_by.iter().filter(|id| !known.contains(id)).copied().collect::<Vec<_>>());
            }
        }
        self.file = Some(File {
            description,
            pieces,
            recorded: Bitmap::empty(pieces),
            recorded_bytes: 0,
            unwritten: BTreeMap::new(),
            draining: old.backlog,
            senders,
            blame: BTreeMap::new(),
            journal,
            syncing: None,
            rehash_first: false,
            hashing: BTreeMap::new(),
            hashing_whole: false,
            waiting: None,
            ..old
        });
        self.written_before(0);
    }

    /// Bytes are written that were given to the disk before the pieces had hashes. After the last of them, whole pieces
    /// can be looked at.
    pub(super) fn written_before(&mut self, len: u64) {
        let Some(file) = &mut self.file else { return };
        file.backlog = file.backlog.saturating_sub(len);
        file.draining = file.draining.saturating_sub(len);
        if file.draining > 0 {
            return;
        }
        let is_due = |piece: &PieceIndex| {
            let is_here = file.received.contains(file.pieces.range(*piece)) && !file.unwritten.contains_key(piece);
            is_here && !file.recorded.contains(*piece) && !file.hashing.contains_key(piece)
        };
        file.rehash = file.pieces.iter().filter(is_due).collect();
        self.rehash_some(tuning::REHASH_AT_ONCE);
    }
}

impl Description {
    /// Hashes of a file of another length are no hashes of this one.
    pub(super) fn drop_unfit_hashes(&mut self) {
        if self.manifest().is_some_and(|manifest| manifest.pieces().length() != self.length) {
            self.hashes = Hashes::Unpublished;
        }
    }
}

/// How long hashes of a file of this length are waited for.
fn patience(length: u64) -> Span {
    tuning::HASHES_PATIENCE + Span::from_secs(length / tuning::HASHING_SPEED)
}
