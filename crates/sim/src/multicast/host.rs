//! A receiver with its disk.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::ops::Range;
use std::sync::Arc;

use machine::{Machine, Seed, Span, Time};
use p2mp::coding::Coder;
use p2mp::fast::{Announce, Block, Fate, Layout, MemberId, Receiver, ReceiverInput, ReceiverOutput, SessionId};
use rand::Rng;

use super::busy::Busy;
use super::{Datagram, Outcome, PORT, Stalls, receiver_config};

/// What files hold: bytes by a formula, so that nobody has to keep them.
#[derive(Clone, Debug)]
pub struct Content {
    seed: u64,
    lengths: Vec<u64>,
}

impl Content {
    /// The content of files of these lengths.
    pub fn new(seed: Seed, lengths: &[u64]) -> Self {
        Content { seed: seed.derive("content").value(), lengths: lengths.to_vec() }
    }

    /// A stand-in for the digest of a file.
    pub fn digest(&self, file: usize) -> [u8; 32] {
        let mut digest = [0; 32];
        digest[..8].copy_from_slice(&(self.seed ^ file as u64).to_be_bytes());
        digest
    }

    fn byte(&self, file: usize, at: u64) -> u8 {
        let mixed = (self.seed ^ (file as u64) << 56 ^ at >> 3).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        (mixed >> (8 * (at & 7))) as u8
    }

    fn bytes(&self, file: usize, range: Range<u64>) -> Vec<u8> {
        range.map(|at| self.byte(file, at)).collect()
    }
}

/// A receiving machine, its program and its disk.
#[derive(Debug)]
pub struct Host {
    pub(super) machine: Option<Receiver>,
    pub(super) is_alive: bool,
    pub(super) in_group: bool,
    pub(super) port: u16,
    pub(super) busy: Busy,
    /// What came while the program could not run, and when.
    pub(super) inbox: Vec<(Time, Datagram)>,
    member: MemberId,
    life: u32,
    seed: Seed,
    clock_ahead: Span,
    /// Sessions that are over.
    done: Vec<SessionId>,
    disk: Disk,
}

#[derive(Debug, Default)]
struct Disk {
    layout: Option<Arc<Layout>>,
    /// Complete blocks, as the journal has them.
    complete: Vec<u32>,
    has_bytes: bool,
    /// Symbols of begun blocks.
    symbols: BTreeMap<u32, BTreeMap<u16, Vec<u8>>>,
    files: BTreeMap<usize, BTreeMap<u64, Vec<u8>>>,
    coder: Coder,
    /// The recovery symbols of the last block that needed any.
    coded: Option<(u32, Vec<u8>)>,
    is_done: bool,
}

impl Host {
    pub(super) fn new(seed: Seed, stalls: Option<Stalls>, index: usize, has_bytes: bool) -> Self {
        let seed = seed.derive(&format!("host {index}"));
        let mut stream = seed.stream();
        Host {
            machine: None,
            is_alive: true,
            in_group: false,
            port: PORT,
            busy: Busy::new(stalls, seed),
            inbox: Vec::new(),
            member: MemberId(stream.next_u64()),
            life: 1,
            seed,
            clock_ahead: Span::from_nanos(stream.next_u64() >> 12),
            done: Vec::new(),
            disk: Disk { has_bytes, ..Disk::default() },
        }
    }

    pub(super) fn clock(&self, now: Time) -> Time {
        now + self.clock_ahead
    }

    pub(super) fn to_true(&self, at: Time) -> Time {
        at - self.clock_ahead
    }

    pub(super) fn die(&mut self, disk_stays: bool) {
        self.is_alive = false;
        self.machine = None;
        self.in_group = false;
        self.inbox.clear();
        self.done.clear();
        self.disk.symbols.clear();
        if !disk_stays {
            self.disk = Disk { has_bytes: self.disk.has_bytes, ..Disk::default() };
        }
    }

    pub(super) fn revive(&mut self) {
        self.is_alive = true;
        self.life += 1;
        // Programs of real life keep to their port; where the answer comes from may still change.
        self.port = PORT + self.life as u16;
        if self.disk.layout.is_none() {
            self.member = MemberId(self.seed.derive(&format!("life {}", self.life)).stream().next_u64());
        }
    }

    pub(super) fn announced(&mut self, now: Time, from: SocketAddr, session: SessionId, announce: Announce, size: u16) {
        if self.done.contains(&session) || self.disk.is_done {
            return;
        }
        let clock = self.clock(now);
        let config = receiver_config(self.member);
        let machine = self.machine.get_or_insert_with(|| Receiver::new(config, clock, from, session, &announce));
        machine.handle(clock, ReceiverInput::Announce { from, session, announce, size });
    }

    /// Carries out what the machine wants. What it sends.
    pub(super) fn serve(&mut self, now: Time, content: &Content, outcome: &mut Outcome, index: usize) -> Vec<Vec<u8>> {
        let mut sent = Vec::new();
        let clock = self.clock(now);
        while let Some(machine) = self.machine.as_mut()
            && let Some(output) = machine.poll()
        {
            match output {
                ReceiverOutput::Datagram { bytes, .. } => sent.push(bytes),
                ReceiverOutput::Join { .. } => self.in_group = true,
                ReceiverOutput::Open { layout, .. } => {
                    if self.disk.layout.as_ref() != Some(&layout) {
                        self.disk.complete.clear();
                        self.disk.files.clear();
                        self.disk.coded = None;
                        self.disk.layout = Some(layout);
                    }
                    self.disk.symbols.clear();
                    machine
                        .handle(clock, ReceiverInput::Opened { held: self.disk.complete.clone(), there: Vec::new() });
                }
                ReceiverOutput::Store { block, symbol, count } => {
                    (symbol..symbol + count).for_each(|symbol| self.disk.store(content, block, symbol));
                }
                ReceiverOutput::Restore { block } => self.disk.restore(block),
                ReceiverOutput::Verify { file, .. } => {
                    let is_right = self.disk.is_right(content, file);
                    outcome.wrong_files += u64::from(!is_right);
                    machine.handle(clock, ReceiverInput::Verified { file, is_right });
                }
                ReceiverOutput::Discard { .. } | ReceiverOutput::Compare { .. } | ReceiverOutput::Keep { .. } => {}
                ReceiverOutput::Finished(fate) => {
                    if fate == Fate::Complete {
                        outcome.complete_at[index].get_or_insert(now);
                        self.disk.is_done = true;
                    }
                    outcome.fates[index] = Some(fate);
                    self.done.push(machine.session());
                    self.machine = None;
                }
            }
        }
        if let Some(machine) = &self.machine
            && machine.is_complete()
        {
            outcome.complete_at[index].get_or_insert(now);
        }
        sent
    }
}

impl Disk {
    fn block(&self, index: u32) -> Block {
        let layout = self.layout.as_ref().expect("symbols are stored in open files");
        layout.block(index).expect("a machine names blocks that there are")
    }

    /// Keeps a symbol; its bytes are what the sender read or coded.
    fn store(&mut self, content: &Content, index: u32, symbol: u16) {
        if !self.has_bytes {
            return;
        }
        let block = self.block(index);
        let bytes = match block.original(symbol) {
            Some(range) => content.bytes(block.file, range),
            None => {
                let payload = usize::from(block.payload);
                let begin = usize::from(symbol - block.originals) * payload;
                self.recoveries(content, &block)[begin..begin + payload].to_vec()
            }
        };
        self.symbols.entry(index).or_default().insert(symbol, bytes);
    }

    /// The recovery symbols of a block, as a sender makes them.
    fn recoveries(&mut self, content: &Content, block: &Block) -> &[u8] {
        if self.coded.as_ref().is_none_or(|(index, _)| *index != block.index) {
            let bytes = content.bytes(block.file, block.offset..block.offset + u64::from(block.length));
            let mut recoveries = Vec::new();
            self.coder.encode(block, &bytes, &mut recoveries).expect("every block of a layout has a code");
            self.coded = Some((block.index, recoveries));
        }
        self.coded.as_ref().map_or(&[], |(_, recoveries)| recoveries)
    }

    fn restore(&mut self, index: u32) {
        self.complete.push(index);
        if !self.has_bytes {
            return;
        }
        let block = self.block(index);
        let payload = usize::from(block.payload);
        let symbols = self.symbols.remove(&index).expect("a block that is restored has symbols");
        let mut slots = vec![0; usize::from(block.originals) * payload];
        let mut recoveries = symbols.keys().copied().filter(|symbol| *symbol >= block.originals);
        let holds: Vec<u16> = (0..block.originals)
            .map(|slot| if symbols.contains_key(&slot) { slot } else { recoveries.next().expect("enough symbols") })
            .collect();
        for (slot, symbol) in slots.chunks_exact_mut(payload).zip(&holds) {
            let bytes = &symbols[symbol];
            slot[..bytes.len()].copy_from_slice(bytes);
        }
        self.coder.restore(&block, &mut slots, &holds).expect("as many symbols as originals restore a block");
        slots.truncate(block.length as usize);
        self.files.entry(block.file).or_default().insert(block.offset, slots);
    }

    fn is_right(&self, content: &Content, file: usize) -> bool {
        if !self.has_bytes {
            return true;
        }
        let mut at = 0;
        for (offset, bytes) in self.files.get(&file).into_iter().flatten() {
            let expected = (*offset..).map(|at| content.byte(file, at));
            if *offset != at || !bytes.iter().copied().eq(expected.take(bytes.len())) {
                return false;
            }
            at += bytes.len() as u64;
        }
        at == content.lengths[file]
    }
}
