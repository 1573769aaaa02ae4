//! What survives the death of a process and the loss of power, at worst.

use bytes::Bytes;
use machine::Stream;
use rand::{Rng, RngExt};

/// A part file and a journal: as a process sees them, and as they would be after a loss of power.
///
/// Nothing is kept that was not promised: of writes under way any part may have happened; of what was not synced any
/// part may be lost, each write by itself, only the journal loses from its end.
#[derive(Clone, Debug, Default)]
pub struct Disk {
    /// The part file as it reads now.
    pub data: Vec<u8>,
    /// The journal as it reads now.
    pub journal: Vec<u8>,
    durable: Vec<u8>,
    durable_journal: usize,
    unsynced: Vec<(u64, Bytes)>,
    syncing: Option<(usize, usize)>,
}

/// What else may befall the files of a dead client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Damage {
    /// Nothing.
    None,
    /// A bit of the journal flips.
    JournalBit,
    /// The journal loses its end.
    JournalCut,
    /// The journal is gone.
    JournalGone,
    /// There is something else in its place.
    JournalForeign,
    /// The part file loses its end.
    DataCut,
}

impl Disk {
    /// A new journal, durable at once; then the part file gets its length, and is emptied if `fresh`. Neither of the
    /// latter is durable.
    pub fn prepare(&mut self, length: u64, fresh: bool, journal: &[u8]) {
        self.journal = journal.to_vec();
        self.durable_journal = journal.len();
        if fresh {
            self.data.clear();
            self.unsynced.clear();
        }
        // What was written beyond a shorter length is gone.
        self.unsynced.retain(|(offset, _)| *offset < length);
        for (offset, bytes) in &mut self.unsynced {
            bytes.truncate((length - *offset).min(bytes.len() as u64) as usize);
        }
        self.data.resize(length as usize, 0);
        self.durable.resize(length as usize, 0);
        self.syncing = None;
    }

    /// A write, done.
    pub fn write(&mut self, offset: u64, bytes: &Bytes) {
        let at = offset as usize;
        if let Some(place) = self.data.get_mut(at..at + bytes.len()) {
            place.copy_from_slice(bytes);
            self.unsynced.push((offset, bytes.clone()));
        }
    }

    /// An append to the journal, done.
    pub fn append(&mut self, record: &[u8]) {
        self.journal.extend_from_slice(record);
    }

    /// A sync begins: it covers what is done now.
    pub fn sync_begins(&mut self) {
        self.syncing = Some((self.unsynced.len(), self.journal.len()));
    }

    /// The sync is done.
    pub fn sync_ends(&mut self) {
        let Some((writes, journal)) = self.syncing.take() else { return };
        for (offset, bytes) in self.unsynced.drain(..writes) {
            self.durable[offset as usize..offset as usize + bytes.len()].copy_from_slice(&bytes);
        }
        self.durable_journal = journal;
    }

    /// The process dies with these writes and appends under way, in the order of asking.
    pub fn process_dies(&mut self, writes: &[(u64, Bytes)], appends: &[Bytes], chance: &mut Stream) {
        self.syncing = None;
        for (offset, bytes) in writes {
            let kept = chance.random_range(0..=bytes.len());
            let kept = if chance.random_bool(0.5) { kept } else { 0 };
            self.write(*offset, &bytes.slice(..kept));
        }
        let under_way: Vec<u8> = appends.iter().flatten().copied().collect();
        let kept = chance.random_range(0..=under_way.len());
        self.append(&under_way[..kept]);
    }

    /// The power goes: only what was synced is sure.
    pub fn power_goes(&mut self, chance: &mut Stream) {
        for (offset, bytes) in std::mem::take(&mut self.unsynced) {
            if chance.random_bool(0.5) {
                let kept = chance.random_range(0..=bytes.len());
                self.durable[offset as usize..offset as usize + kept].copy_from_slice(&bytes[..kept]);
            }
        }
        self.data = self.durable.clone();
        let kept = chance.random_range(self.durable_journal..=self.journal.len());
        self.journal.truncate(kept);
        self.durable_journal = kept;
    }

    /// Somebody meddles with the files.
    pub fn suffer(&mut self, damage: Damage, chance: &mut Stream) {
        match damage {
            Damage::None => {}
            Damage::JournalBit => {
                if !self.journal.is_empty() {
                    let at = chance.random_range(0..self.journal.len());
                    self.journal[at] ^= 1 << chance.random_range(0..8);
                }
            }
            Damage::JournalCut => self.journal.truncate(chance.random_range(0..=self.journal.len())),
            Damage::JournalGone => self.journal.clear(),
            Damage::JournalForeign => chance.fill_bytes(&mut self.journal),
            Damage::DataCut => {
                let kept = chance.random_range(0..=self.data.len());
                self.data.truncate(kept);
                self.durable.clone_from(&self.data);
                self.unsynced.clear();
            }
        }
        self.durable_journal = self.journal.len();
    }
}
