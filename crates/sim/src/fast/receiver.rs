//! A receiver of one file in fast mode.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use event::NodeReport;
use machine::{Machine, Ratio, Seed, Span, Time};
use p2mp::LossService;
use p2mp::fast::{
    Fate, Identity, Layout, MemberId, Packet, Receiver, ReceiverConfig, ReceiverInput, ReceiverOutput, SessionId,
};
use topology::plan::FileId;

use super::digest;
use crate::program::{Act, Content, Datagram, Journal, Kept, Program, discarded};

/// A receiver that ends when it has a file and its sender knows that.
pub struct FastReceiver {
    port: u16,
    name: String,
    /// The file that its sender has, by which to know its digest.
    file: FileId,
    config: ReceiverConfig,
    loss: LossService,
    machine: Option<Receiver>,
    /// Sessions that are over; what is still on its way does not begin them again.
    over: Vec<SessionId>,
    open: Option<Open>,
    /// What an earlier incarnation had restored.
    found: Option<Journal>,
    told: u64,
    acts: VecDeque<Act>,
}

struct Open {
    layout: Arc<Layout>,
    identity: Identity,
    length: u64,
    restored: BTreeSet<u32>,
}

/// Datagrams that a socket's buffer of four MiB holds, at what the kernel counts for one of common size.
const WINDOW: u32 = (4 << 20) / 2304;
/// As the program does it.
const LINGER: Span = Span::from_secs(5);
const REPORTS: u64 = 200;

impl FastReceiver {
    /// Listens on `port`, throws a share `p` away by `seed`, writes `file` under `name`, and goes on from what an earlier
    /// incarnation has left.
    pub fn new(port: u16, name: String, file: FileId, p: Ratio, seed: Seed, found: Option<Journal>) -> Self {
        let member = MemberId(seed.derive("member").value());
        FastReceiver {
            port,
            name,
            file,
            config: ReceiverConfig { member, window: WINDOW, linger: LINGER },
            loss: LossService::new(p, seed),
            machine: None,
            over: Vec::new(),
            open: None,
            found,
            told: 0,
            acts: VecDeque::from([Act::Report(NodeReport::Ready)]),
        }
    }

    fn hear(&mut self, now: Time, input: ReceiverInput) {
        if let Some(machine) = &mut self.machine {
            machine.handle(now, input);
            self.carry_out(now);
        }
    }

    /// Whether a symbol is one of the file's, whole.
    fn is_whole(&self, block: u32, symbol: u16, length: u16) -> bool {
        let Some(open) = &self.open else { return true };
        open.layout.block(block).and_then(|block| block.length_of(symbol)) == Some(length)
    }

    fn carry_out(&mut self, now: Time) {
        while let Some(output) = self.machine.as_mut().and_then(Machine::poll) {
            match output {
                ReceiverOutput::Datagram { to, bytes } => {
                    self.acts.push_back(Act::Send { from_port: self.port, to, content: Content::Bytes(bytes.into()) });
                }
                // Groups reach every node here, and a symbol is kept by being counted.
                // Disks hold nothing under a final name when a receiver begins.
                ReceiverOutput::Compare { .. } | ReceiverOutput::Keep { .. } => {}
                ReceiverOutput::Join { .. } | ReceiverOutput::Store { .. } => {}
                ReceiverOutput::Open { manifest, layout, identity } => {
                    let same = |journal: &Journal| (journal.identity, journal.payload) == (identity, layout.payload());
                    let restored = self.found.take().filter(same).map(|journal| journal.blocks).unwrap_or_default();
                    let held = restored.iter().copied().collect();
                    self.open = Some(Open { layout, identity, length: manifest.length(), restored });
                    self.answer(now, ReceiverInput::Opened { held, there: Vec::new() });
                }
                ReceiverOutput::Restore { block } => self.restore(block),
                ReceiverOutput::Verify { file, digest: told } => {
                    let is_right = file == 0 && self.verify(told);
                    self.answer(now, ReceiverInput::Verified { file, is_right });
                }
                ReceiverOutput::Discard { .. } => {
                    if let Some(open) = &mut self.open {
                        open.restored.clear();
                    }
                    self.record();
                }
                ReceiverOutput::Finished(fate) => self.finished(&fate),
            }
        }
        self.tell_progress();
    }

    fn answer(&mut self, now: Time, input: ReceiverInput) {
        if let Some(machine) = &mut self.machine {
            machine.handle(now, input);
        }
    }

    fn restore(&mut self, block: u32) {
        if let Some(open) = &mut self.open {
            open.restored.insert(block);
        }
        self.record();
    }

    /// Writes down what is restored, so that a revival goes on from there.
    fn record(&mut self) {
        if let Some(open) = &self.open {
            let (identity, payload) = (open.identity, open.layout.payload());
            self.acts.push_back(Act::Record(Journal { identity, payload, blocks: open.restored.clone() }));
        }
    }

    /// Whether every block is there, and the sender's digest is that of the file which the topology gives it.
    fn verify(&mut self, told: [u8; 32]) -> bool {
        let Some(open) = &self.open else { return false };
        let is_right = told == digest(self.file) && open.restored.len() as u64 == u64::from(open.layout.blocks());
        if is_right {
            let kept = Kept { file: self.file, bytes: open.length, differs_at: None };
            self.acts.push_back(Act::Keep { name: self.name.clone(), kept });
        }
        is_right
    }

    fn finished(&mut self, fate: &Fate) {
        self.over.extend(self.machine.take().map(|machine| machine.session()));
        match fate {
            Fate::Complete => {
                let bytes = self.open.as_ref().map_or(0, |open| open.length);
                self.acts.push_back(Act::Report(NodeReport::Finished { bytes, sha256: None }));
                self.acts.extend(discarded(&self.loss));
                self.acts.push_back(Act::Exit(0));
            }
            // It goes on listening.
            Fate::GivenUp => {}
            Fate::Failed(_) => {
                self.acts.extend(discarded(&self.loss));
                self.acts.push_back(Act::Exit(1));
            }
        }
    }

    fn tell_progress(&mut self) {
        let (Some(machine), Some(open)) = (&self.machine, &self.open) else { return };
        let (held, all) = machine.symbols();
        if all > 0 && held > self.told && (held == all || held >= self.told + (all / REPORTS).max(1)) {
            self.told = held;
            let bytes = (u128::from(open.length) * u128::from(held) / u128::from(all)) as u64;
            let received = machine.received().saturating_mul(u64::from(open.layout.payload()));
            self.acts.push_back(Act::Report(NodeReport::Progress { bytes, total: open.length, received }));
            self.acts.extend(discarded(&self.loss));
        }
    }
}

impl Program for FastReceiver {
    fn receive(&mut self, now: Time, datagram: Datagram) {
        let from = datagram.from;
        if datagram.to.port() != self.port || self.loss.discards() {
            return;
        }
        match &datagram.content {
            Content::Symbol { session, header, length } if self.is_whole(header.block, header.symbol, *length) => {
                self.hear(now, ReceiverInput::Data { session: *session, first: *header, count: 1, arrived: now });
            }
            Content::Bytes(bytes) => match Packet::parse(bytes) {
                Ok((session, Packet::Announce(announce))) => {
                    if self.machine.is_none() && !self.over.contains(&session) {
                        self.machine = Some(Receiver::new(self.config.clone(), now, from, session, &announce));
                    }
                    let size = u16::try_from(bytes.len()).unwrap_or(u16::MAX);
                    self.hear(now, ReceiverInput::Announce { from, session, announce, size });
                }
                Ok((session, Packet::Release(release))) => {
                    self.hear(now, ReceiverInput::Release { session, release });
                }
                _ => {}
            },
            _ => {}
        }
    }

    fn advance(&mut self, now: Time) {
        if let Some(machine) = &mut self.machine {
            machine.advance(now);
            self.carry_out(now);
        }
    }

    fn deadline(&self) -> Option<Time> {
        self.machine.as_ref()?.deadline().map(|(at, _)| at)
    }

    fn poll(&mut self) -> Option<Act> {
        self.acts.pop_front()
    }
}
