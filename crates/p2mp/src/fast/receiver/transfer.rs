//! The files of a session that are being received, as the machine sees them.

use std::collections::VecDeque;
use std::sync::Arc;

use super::super::holdings::Holdings;
use super::super::layout::{Block, Layout};
use super::super::manifest::Manifest;
use super::super::protocol::ReceiverOutput;

#[derive(Debug)]
pub(super) struct Transfer {
    pub(super) manifest: Arc<Manifest>,
    pub(super) layout: Arc<Layout>,
    /// The block that a packet was of last: the next one's probably, too.
    last: Option<Block>,
    pub(super) holdings: Holdings,
    pub(super) files: Vec<FileState>,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct FileState {
    pub(super) incomplete_blocks: u32,
    check: Check,
    /// Of what is under its final name already.
    there: There,
    was_wrong: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Check {
    /// Blocks or the digest are missing.
    Waiting,
    /// Being compared.
    Asked,
    /// It is right.
    Passed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum There {
    /// Nothing that could be it.
    Nothing,
    /// A file of the same length; the digest is missing.
    Something,
    /// It is being compared.
    Asked,
}

/// What a comparison means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verified {
    /// Nothing: nobody waits for it.
    Unasked,
    /// The file is finished.
    Right,
    /// It comes again.
    Wrong,
    /// It did, and is as wrong as before.
    WrongAgain,
}

impl Transfer {
    pub(super) fn new(manifest: Arc<Manifest>, layout: Arc<Layout>) -> Self {
        let state = |index| FileState {
            incomplete_blocks: layout.blocks_of(index).len() as u32,
            check: Check::Waiting,
            there: There::Nothing,
            was_wrong: false,
        };
        let files = (0..manifest.files().len()).map(state).collect();
        let holdings = Holdings::new(&layout);
        Transfer { manifest, layout, last: None, holdings, files }
    }

    pub(super) fn block(&mut self, index: u32) -> Option<Block> {
        if self.last.is_none_or(|last| last.index != index) {
            self.last = self.layout.block(index);
        }
        self.last.filter(|block| block.index == index)
    }

    /// These blocks are there already.
    pub(super) fn hold(&mut self, held: &[u32]) {
        for block in held.iter().filter_map(|index| self.layout.block(*index)) {
            if !self.holdings.is_complete(block.index) {
                self.holdings.complete(&block);
                self.files[block.file].incomplete_blocks -= 1;
            }
        }
    }

    /// Files of the same length have the final names of these.
    pub(super) fn doubt(&mut self, there: &[usize]) {
        for index in there {
            if let Some(state) = self.files.get_mut(*index) {
                state.there = There::Something;
            }
        }
    }

    pub(super) fn is_in_doubt(&self) -> bool {
        self.files.iter().any(|state| state.there != There::Nothing)
    }

    pub(super) fn is_complete(&self) -> bool {
        self.files.iter().all(|state| state.check == Check::Passed)
    }

    /// Whether it would go on if a digest were known.
    pub(super) fn lacks_digests(&self) -> bool {
        let mut files = self.files.iter().zip(self.manifest.files());
        let waits = |state: &FileState| state.incomplete_blocks == 0 || state.there == There::Something;
        files.any(|(state, file)| waits(state) && file.digest.is_none())
    }

    /// Has what is there compared as far as digests are known, and every file of which all blocks are there. Whether a digest
    /// is missing.
    pub(super) fn check(&mut self, outputs: &mut VecDeque<ReceiverOutput>) -> bool {
        let mut lacks_digest = self.compare(outputs);
        for (file, (state, entry)) in self.files.iter_mut().zip(self.manifest.files()).enumerate() {
            if state.incomplete_blocks == 0 && state.check == Check::Waiting {
                match entry.digest {
                    Some(digest) => {
                        state.check = Check::Asked;
                        outputs.push_back(ReceiverOutput::Verify { file, digest });
                    }
                    None => lacks_digest = true,
                }
            }
        }
        lacks_digest
    }

    /// Has what is there compared as far as digests are known. Whether one is missing.
    pub(super) fn compare(&mut self, outputs: &mut VecDeque<ReceiverOutput>) -> bool {
        let mut lacks_digest = false;
        for (file, (state, entry)) in self.files.iter_mut().zip(self.manifest.files()).enumerate() {
            match entry.digest {
                Some(digest) if state.there == There::Something => {
                    state.there = There::Asked;
                    outputs.push_back(ReceiverOutput::Compare { file, digest });
                }
                digest => lacks_digest |= digest.is_none() && state.there == There::Something,
            }
        }
        lacks_digest
    }

    /// What is there was compared. Whether it stays, and the file is finished with it.
    pub(super) fn settle(&mut self, index: usize, is_right: bool) -> bool {
        let Some(state) = self.files.get_mut(index).filter(|state| state.there == There::Asked) else { return false };
        state.there = There::Nothing;
        // What is whole meanwhile gets the name, whatever was under it.
        if !is_right || state.check != Check::Waiting {
            return false;
        }
        state.check = Check::Passed;
        let blocks: Vec<u32> = self.layout.blocks_of(index).collect();
        self.hold(&blocks);
        true
    }

    /// A received file was compared.
    pub(super) fn verified(&mut self, index: usize, is_right: bool) -> Verified {
        let Some(state) = self.files.get_mut(index).filter(|state| state.check == Check::Asked) else {
            return Verified::Unasked;
        };
        if is_right {
            state.check = Check::Passed;
            return Verified::Right;
        }
        if state.was_wrong {
            return Verified::WrongAgain;
        }
        let blocks = self.layout.blocks_of(index);
        state.incomplete_blocks = blocks.len() as u32;
        (state.check, state.was_wrong) = (Check::Waiting, true);
        for block in blocks.filter_map(|index| self.layout.block(index)) {
            self.holdings.forget(&block);
        }
        Verified::Wrong
    }
}
