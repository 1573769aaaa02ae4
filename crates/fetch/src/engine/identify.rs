//! Which file it is, and what of it is on the disk already.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use machine::Time;

use super::source::Stage;
use super::{Engine, Remains};
use crate::bitmap::Bitmap;
use crate::journal::{self, Header, Replay, Writer};
use crate::manifest::{Digest, Manifest, Validator};
use crate::pieces::{PieceIndex, Pieces};
use crate::protocol::{Aside, Description, Generation, Note, Output, SourceId, SourceState};
use crate::ranges::RangeSet;

/// The file being fetched.
#[derive(Debug)]
pub(super) struct File {
    pub(super) description: Description,
    /// Bytes given to the disk under this generation or a later one are of this file.
    pub(super) begun: Generation,
    pub(super) pieces: Pieces,
    /// Bytes that are here: received, or found on the disk.
    pub(super) received: RangeSet,
    /// Bytes that are neither here nor asked for.
    pub(super) pool: RangeSet,
    pub(super) recorded: Bitmap,
    pub(super) recorded_bytes: u64,
    /// Bytes of a piece given to the disk and not yet reported written.
    pub(super) unwritten: BTreeMap<PieceIndex, u64>,
    /// All bytes given to the disk and not yet reported written.
    pub(super) backlog: u64,
    /// Those of them that were given before the pieces had hashes.
    pub(super) draining: u64,
    /// Who sent parts of a piece that is not verified yet.
    pub(super) senders: BTreeMap<PieceIndex, Vec<SourceId>>,
    /// Pieces that failed their hash, and how often each source sent them so.
    pub(super) blame: BTreeMap<PieceIndex, BTreeMap<SourceId, u32>>,
    pub(super) journal: Writer,
    /// How many records the sync under way covers.
    pub(super) syncing: Option<u32>,
    /// Pieces that were here before their hashes, and must be rehashed before they count.
    pub(super) rehash: VecDeque<PieceIndex>,
    /// Whether to ask for little before the rehash is over.
    pub(super) rehash_first: bool,
    /// Pieces being hashed, and whether they come from `rehash`.
    pub(super) hashing: BTreeMap<PieceIndex, bool>,
    /// Bytes asked for twice on purpose.
    pub(super) hedged: u64,
    /// Whether the same bytes were ever asked of two.
    pub(super) overlapped: bool,
    pub(super) hashing_whole: bool,
    /// Since when nothing but hashes is missing.
    pub(super) waiting: Option<Time>,
}

impl File {
    /// Bytes that an earlier run may have left, until their hashes say so.
    pub(super) fn doubtful_bytes(&self) -> u64 {
        if !self.rehash_first {
            // They came in this run, only their hashes came later.
            return 0;
        }
        let hashing = self.hashing.iter().filter(|(_, queued)| **queued).map(|(piece, _)| piece);
        hashing.chain(&self.rehash).map(|piece| self.pieces.range(*piece).len()).sum()
    }

    /// The manifest, if it can check pieces.
    pub(super) fn piece_hashes(&self) -> Option<&Arc<Manifest>> {
        self.description.manifest().filter(|manifest| manifest.has_pieces())
    }

    /// The published hash of the whole, where no piece can be checked by itself.
    pub(super) fn published_whole(&self) -> Option<Digest> {
        self.description.manifest().filter(|manifest| !manifest.has_pieces()).and_then(|manifest| manifest.whole())
    }
}

impl Engine {
    /// Looks again at which file the sources offer, after one of them said something or failed to.
    pub(super) fn identify(&mut self, now: Time) {
        if self.finished {
            return;
        }
        if let Some(chosen) = self.choose() {
            self.adopt(now, chosen);
        }
        if let Some(hashed) = self.better_hashed() {
            self.check_against(hashed);
        }
        self.arm_hashes(now);
        let Some(ours) = self.file.as_ref().map(|file| file.description.clone()) else { return };
        let (mut odd, mut unsaid) = (Vec::new(), Vec::new());
        for index in 0..self.sources.len() {
            let Some(theirs) = &self.sources[index].description else { continue };
            let unexpected = self.is_unexpected(theirs) && !self.is_unexpected(&ours);
            let why = if unexpected { Some(Aside::Expected) } else { disagreement(&ours, theirs) };
            let source = &mut self.sources[index];
            let theirs = source.description.as_ref().expect("looked at above");
            match why {
                Some(why) if source.stage != Stage::Aside => odd.push((SourceId(index), why)),
                None if source.is_apart_for_its_file() => {
                    source.stage = Stage::Ready;
                    if theirs.manifest().is_none() {
                        unsaid.push(SourceId(index));
                    }
                    self.tell(SourceId(index), SourceState::Alive);
                }
                _ => {}
            }
        }
        // Last, so that the sources of the file chosen now are back before anybody is counted out.
        odd.into_iter().for_each(|(id, why)| self.set_apart(id, why));
        // Their hashes were of no interest while they were set apart.
        unsaid.into_iter().for_each(|id| self.ask(now, id));
    }

    /// What sources say of their files, except such as are not believed any more.
    fn offers(&self) -> impl Iterator<Item = &Description> {
        let believed = || {
            self.sources.iter().filter_map(|source| {
                let is_apart = matches!(
                    source.told,
                    SourceState::SetApart(Aside::Corrupt { .. } | Aside::Violations { .. } | Aside::Expected)
                );
                source.description.as_ref().filter(|offer| !is_apart && self.cut(offer).is_some())
            })
        };
        // While nobody has the expected file, what there is is fetched: the end will tell.
        let somebody_may_have_it = believed().any(|offer| !self.is_unexpected(offer));
        believed().filter(move |offer| !(somebody_may_have_it && self.is_unexpected(offer)))
    }

    /// Whether an offer is known not to be the file that the user wants.
    pub(super) fn is_unexpected(&self, offer: &Description) -> bool {
        let published = offer.manifest().and_then(|manifest| manifest.whole());
        self.config.expect.zip(published).is_some_and(|(expected, published)| expected != published)
    }

    /// What was fetched is not the expected file. If others offer another one, goes on with that.
    pub(super) fn try_another_file(&mut self, now: Time) -> bool {
        let Some(ours) = self.file.as_ref().map(|file| file.description.clone()) else { return false };
        let is_alternative = |offer: &Description| disagreement(&ours, offer).is_some() && !self.is_unexpected(offer);
        if !self.offers().any(is_alternative) {
            return false;
        }
        let disproved: Vec<SourceId> = (0..self.sources.len())
            .filter(|index| {
                let source = &self.sources[*index];
                let same = source.description.as_ref().is_some_and(|theirs| disagreement(&ours, theirs).is_none());
                same && source.stage != Stage::Aside
            })
            .map(SourceId)
            .collect();
        for id in disproved {
            self.retire(id, Aside::Expected);
        }
        let best = self.counted().into_iter().rev().max_by_key(|(votes, _)| *votes).map(|(_, best)| best.clone());
        if let Some(best) = best {
            self.adopt(now, best);
        }
        self.identify(now);
        true
    }

    /// How many sources may mean this file.
    fn votes(&self, candidate: &Description) -> usize {
        self.offers().filter(|offer| disagreement(candidate, offer).is_none()).count()
    }

    /// All offers, each with its votes.
    fn counted(&self) -> Vec<(usize, &Description)> {
        self.offers().map(|offer| (self.votes(offer), offer)).collect()
    }

    /// The description to fetch by, if it is another one than now: the one that most sources share. Of equals the one
    /// chosen already, the one of the journal, the one with hashes, the first.
    fn choose(&self) -> Option<Description> {
        let counted = self.counted();
        let mut best: Option<(usize, &Description)> = None;
        for (votes, offer) in &counted {
            let refined = refined(&counted, offer).unwrap_or((*votes, offer));
            if best.is_none_or(|(most, _)| refined.0 > most) {
                best = Some(refined);
            }
        }
        let (most, best) = best?;
        if let Some(file) = &self.file {
            let is_another = disagreement(&file.description, best).is_some();
            let is_wrong = self.is_unexpected(&file.description) && !self.is_unexpected(best);
            return (is_wrong || is_another && most > self.votes(&file.description)).then(|| best.clone());
        }
        let Some(remains) = &self.config.remains else { return Some(best.clone()) };
        let replay = journal::replay(&remains.journal);
        if let Ok(replay) = &replay
            && let Some(same) = self.offers().find(|offer| self.is_same_file(&replay.header, offer))
        {
            return Some(refined(&counted, same).map_or(same, |(_, offer)| offer).clone());
        }
        // Others may still offer the file that was begun, and hashes may tell what of it is sound: hear them before
        // giving it up.
        let all_heard = self.sources.iter().all(|source| source.description.is_some() || source.failed_once);
        let all_said = self.awaited.is_empty();
        (all_said && (all_heard || replay.is_err())).then(|| best.clone())
    }

    /// A description of the file being fetched that can check more of it than what is known now.
    fn better_hashed(&self) -> Option<Description> {
        let file = self.file.as_ref()?;
        refined(&self.counted(), &file.description).map(|(_, offer)| offer.clone())
    }

    /// How a described file is cut into pieces; `None` for one beyond all bounds.
    pub(super) fn cut(&self, description: &Description) -> Option<Pieces> {
        let published =
            description.manifest().filter(|manifest| manifest.has_pieces()).map(|manifest| manifest.pieces());
        published.or_else(|| match self.config.blocks {
            Some(blocks) => Pieces::of_blocks(description.length, blocks.size),
            None => Pieces::of_length(description.length),
        })
    }

    fn is_same_file(&self, header: &Header, offer: &Description) -> bool {
        let hashes = offer.manifest().filter(|manifest| manifest.has_pieces()).map(|manifest| manifest.digest());
        let same_cut = self.cut(offer) == Some(header.pieces);
        match (header.manifest, hashes) {
            (Some(ours), Some(theirs)) => same_cut && ours == theirs,
            // The hashes decide which pieces are.
            (None, Some(_)) => {
                let tags = header.validator.as_ref().zip(offer.validator.as_ref());
                header.pieces.length() == offer.length && tags.is_none_or(|(ours, theirs)| ours == theirs)
            }
            (None, None) => {
                let named = header.validator.as_ref().is_some_and(Validator::is_strong);
                same_cut && ((named && header.validator == offer.validator) || self.config.expect.is_some())
            }
            (Some(_), None) => false,
        }
    }

    fn adopt(&mut self, now: Time, description: Description) {
        let Some(pieces) = self.cut(&description) else { return };
        if let Some(old) = self.file.take() {
            (0..self.sources.len()).for_each(|index| self.cancel_requests(SourceId(index)));
            self.wasted += old.received.bytes().min(self.received.saturating_sub(self.wasted));
            self.note(Note::Restarted { lost: old.received.bytes() });
        }
        self.generation.0 += 1;
        let found = self.config.remains.take().map(|remains| self.found(&remains, &description, pieces));
        let found = found.unwrap_or_else(|| Found::nothing(pieces));
        if found.lost > 0 {
            self.note(Note::Restarted { lost: found.lost });
        }
        let header = Header {
            pieces,
            manifest: description.manifest().filter(|m| m.has_pieces()).map(|m| m.digest()),
            validator: description.validator.clone(),
            boot: self.config.boot,
        };
        let (mut journal, mut bytes) = Writer::begin(&header);
        let listed = |map: &Bitmap| -> Vec<PieceIndex> { pieces.iter().filter(|piece| map.contains(*piece)).collect() };
        listed(&found.durable).into_iter().for_each(|piece| bytes.extend_from_slice(&journal.piece(piece)));
        if found.durable.count() > 0 {
            bytes.extend_from_slice(&journal.checkpoint(journal.records()));
        }
        for piece in listed(&found.trusted).into_iter().filter(|piece| !found.durable.contains(*piece)) {
            bytes.extend_from_slice(&journal.piece(piece));
        }
        let mut received = RangeSet::default();
        listed(&found.trusted).into_iter().for_each(|piece| received.insert(pieces.range(piece)));
        let (recorded_bytes, rehashed) = (received.bytes(), found.rehash.len() as u32);
        found.rehash.iter().for_each(|piece| received.insert(pieces.range(*piece)));
        let mut pool = RangeSet::default();
        received.gaps(pieces.whole()).into_iter().for_each(|gap| pool.insert(gap));
        self.outputs.push_back(Output::Prepare {
            generation: self.generation,
            length: pieces.length(),
            fresh: received.is_empty(),
            journal: bytes.freeze(),
        });
        self.note(Note::Identified { length: pieces.length(), resumed: recorded_bytes, rehashed });
        self.file = Some(File {
            description,
            begun: self.generation,
            pieces,
            received,
            pool,
            recorded: found.trusted,
            recorded_bytes,
            unwritten: BTreeMap::new(),
            backlog: 0,
            draining: 0,
            senders: BTreeMap::new(),
            blame: BTreeMap::new(),
            journal,
            syncing: None,
            rehash: found.rehash,
            rehash_first: true,
            hashing: BTreeMap::new(),
            hedged: 0,
            overlapped: false,
            hashing_whole: false,
            waiting: None,
        });
        self.rehash_some(crate::tuning::REHASH_AT_ONCE);
        self.arm_sync(now);
    }

    /// What of the remains counts. Within one boot a sound journal is believed; after another boot as far as its
    /// checkpoints reach. Everything else is rehashed where there are hashes, and worthless where there are none.
    fn found(&self, remains: &Remains, description: &Description, pieces: Pieces) -> Found {
        let mut found = Found::nothing(pieces);
        let checkable = description.manifest().is_some_and(|manifest| manifest.has_pieces());
        let replay = journal::replay(&remains.journal);
        if let Ok(Replay { header, .. }) = &replay
            && !self.is_same_file(header, description)
        {
            found.lost = remains.part_length;
            return found;
        }
        // Records of pieces that had no hashes say nothing where there are some.
        let vouches = |replay: &Replay| replay.header.manifest.is_some() == checkable;
        let sound = replay.ok().filter(|replay| vouches(replay) && remains.part_length == pieces.length());
        let Some(replay) = sound else {
            if checkable {
                found.rehash = pieces.iter().filter(|piece| pieces.range(*piece).start < remains.part_length).collect();
            } else {
                found.lost = remains.part_length;
            }
            return found;
        };
        let same_boot = replay.header.boot == self.config.boot;
        found.trusted = if same_boot { replay.recorded.clone() } else { replay.durable.clone() };
        found.durable = replay.durable;
        if checkable {
            // A journal that lost its end looks like one that never had it: whatever else may be there is looked at.
            found.rehash = pieces.iter().filter(|piece| !found.trusted.contains(*piece)).collect();
        }
        found
    }
}

/// What an earlier run left.
struct Found {
    /// Recorded, and true.
    trusted: Bitmap,
    /// Of those, what would survive another boot.
    durable: Bitmap,
    rehash: VecDeque<PieceIndex>,
    /// Bytes that are worth nothing.
    lost: u64,
}

impl Found {
    fn nothing(pieces: Pieces) -> Self {
        Found { trusted: Bitmap::empty(pieces), durable: Bitmap::empty(pieces), rehash: VecDeque::new(), lost: 0 }
    }
}

/// How deep published hashes reach: to the pieces, to the whole, not at all.
fn hashed_depth(description: &Description) -> u8 {
    description.manifest().map_or(0, |manifest| 1 + u8::from(manifest.has_pieces()))
}

/// Of counted offers, the one that may mean the same file and says more of its hashes; of several the one with most votes.
fn refined<'a>(counted: &[(usize, &'a Description)], known: &Description) -> Option<(usize, &'a Description)> {
    let deeper = counted.iter().filter(|(_, offer)| hashed_depth(offer) > hashed_depth(known));
    let same = deeper.filter(|(_, offer)| disagreement(known, offer).is_none());
    // The first of equals: the order of sources must not depend on who answers when.
    same.rev().max_by_key(|(votes, offer)| (hashed_depth(offer), *votes)).copied()
}

/// Why two descriptions cannot mean the same file. Equal hashes outweigh tags, which mirrors make as they like.
pub(super) fn disagreement(ours: &Description, theirs: &Description) -> Option<Aside> {
    if ours.length != theirs.length {
        return Some(Aside::Length { ours: ours.length, theirs: theirs.length });
    }
    if let (Some(our), Some(their)) = (ours.manifest(), theirs.manifest())
        && let Some(same) = if Arc::ptr_eq(our, their) { Some(true) } else { our.same_hashes(their) }
    {
        return (!same).then_some(Aside::Hashes);
    }
    // Servers make tags of what they please, nginx of one thing and Apache of another. Where hashes tell of every piece
    // whose it is, tags need not.
    let is_checkable = |offer: &Description| offer.manifest().is_some_and(|manifest| manifest.has_pieces());
    if is_checkable(ours) || is_checkable(theirs) {
        return None;
    }
    match (&ours.validator, &theirs.validator) {
        (Some(our), Some(their)) if our != their => Some(Aside::Validator { ours: our.clone(), theirs: their.clone() }),
        _ => None,
    }
}
