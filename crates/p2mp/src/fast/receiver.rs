//! The receiving machine: one session.

mod transfer;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::ops::Range;
use std::sync::Arc;

use machine::{Machine, Span, Time};

use self::transfer::{Transfer, Verified};
use super::holdings::Taken;
use super::layout::{Block, Layout};
use super::manifest::{FileEntry, Identity, Manifest};
use super::packet::{Announce, DataHeader, Packet, Release, SessionId};
use super::protocol::{Fate, ReceiverConfig, ReceiverInput, ReceiverOutput, ReceiverWhy};
use super::report::Report;
use super::tuning::{ANNOUNCE_FIRST, ANNOUNCE_SLOWEST, ANSWER_AFTER, COMPARING, REPORT_EVERY, SENDER_SILENT};

/// Receives the files of one transfer.
///
/// The order of calls: make it with the first announcement of a session that the driver does not know, and
/// [`handle`](Machine::handle) that announcement. Later sessions of the same [`identity`](Receiver::identity) are its, too:
/// a sender that was started again. After [`ReceiverOutput::Finished`] it is of no use; a driver that serves on should
/// ignore what it still hears of that session.
#[derive(Debug)]
pub struct Receiver {
    config: ReceiverConfig,
    identity: Identity,
    session: SessionId,
    sender: SocketAddr,
    /// When the sender was heard last.
    heard: Time,
    group: Option<SocketAddr>,
    /// The files as far as they were announced.
    files: Vec<Option<FileEntry>>,
    payload: Option<u16>,
    stage: Stage,
    largest_alone: u16,
    largest_group: u16,
    report_every: Span,
    echo: Option<(u32, Time)>,
    highest: u64,
    highest_at: Time,
    received: u64,
    next_report: Option<Time>,
    /// How often it has reported without being asked since something changed.
    repeats: u32,
    outputs: VecDeque<ReceiverOutput>,
}

#[derive(Debug)]
enum Stage {
    /// Not all is announced.
    Gathering,
    /// Waits for the disk; `until` then, to learn whether files that are there already are those that are sent.
    Opening {
        transfer: Transfer,
        until: Option<Time>,
    },
    /// Takes symbols.
    Open(Transfer),
    /// Answers the sender until that knows how it ended.
    Ending {
        fate: Fate,
        until: Time,
        symbols: u64,
    },
    Finished,
}

impl Receiver {
    /// A receiver of the session that `announce` is of.
    pub fn new(config: ReceiverConfig, now: Time, from: SocketAddr, session: SessionId, announce: &Announce) -> Self {
        Receiver {
            config,
            identity: announce.identity,
            session,
            sender: from,
            heard: now,
            group: None,
            files: vec![None; usize::from(announce.all_files)],
            payload: None,
            stage: Stage::Gathering,
            largest_alone: 0,
            largest_group: 0,
            report_every: REPORT_EVERY,
            echo: None,
            highest: 0,
            highest_at: now,
            received: 0,
            next_report: None,
            repeats: 0,
            outputs: VecDeque::new(),
        }
    }

    /// What its transfer is known by.
    pub fn identity(&self) -> Identity {
        self.identity
    }

    /// The session that it is in.
    pub fn session(&self) -> SessionId {
        self.session
    }

    /// Where its sender is.
    pub fn sender(&self) -> SocketAddr {
        self.sender
    }

    /// When its sender was heard last.
    pub fn heard(&self) -> Time {
        self.heard
    }

    /// Symbols held, and symbols of all files; zeros before it is open.
    pub fn symbols(&self) -> (u64, u64) {
        match &self.stage {
            Stage::Opening { transfer, .. } | Stage::Open(transfer) => {
                (transfer.holdings.symbols(), transfer.layout.symbols())
            }
            Stage::Ending { symbols, .. } => (*symbols, *symbols),
            Stage::Gathering | Stage::Finished => (0, 0),
        }
    }

    /// Whether it has all files, checked.
    pub fn is_complete(&self) -> bool {
        matches!(self.stage, Stage::Ending { fate: Fate::Complete, .. })
    }

    /// Data packets received in this session, of use or not.
    pub fn received(&self) -> u64 {
        self.received
    }

    fn announced(&mut self, now: Time, from: SocketAddr, session: SessionId, announce: Announce, size: u16) {
        if session != self.session {
            // A restarted sender; one that only pretends to be has no chance while the true one is heard.
            if announce.identity != self.identity || now.since(self.heard) < SENDER_SILENT {
                return;
            }
            (self.session, self.highest, self.received) = (session, 0, 0);
            (self.largest_alone, self.largest_group) = (0, 0);
            self.payload = None;
        } else if announce.identity != self.identity {
            return;
        }
        if usize::from(announce.all_files) != self.files.len() {
            return;
        }
        self.heard = now;
        self.sender = from;
        self.echo = Some((announce.stamp_us, now));
        self.report_every = Span::from_micros(u64::from(announce.report_every_us)).max(ANNOUNCE_FIRST);
        let largest = if announce.to_group { &mut self.largest_group } else { &mut self.largest_alone };
        *largest = (*largest).max(size);
        if let Some(group) = announce.group.filter(|group| self.group != Some(*group)) {
            self.group = Some(group);
            self.outputs.push_back(ReceiverOutput::Join { group });
        }
        for (index, file) in (usize::from(announce.first_file)..).zip(announce.files) {
            self.learn(index, file);
        }
        if let (Some(payload), None) = (announce.payload, self.payload) {
            self.payload = Some(payload);
        }
        self.open(now);
        self.check_files(now);
        // One answer for all copies and pages of an announcement.
        let soon = now + ANSWER_AFTER;
        self.next_report = Some(self.next_report.map_or(soon, |at| at.min(soon)));
    }

    /// Takes what is new of a file's entry; the length and the name stay what they were first.
    fn learn(&mut self, index: usize, file: FileEntry) {
        let Some(known) = self.files.get_mut(index) else { return };
        match known {
            None => *known = Some(file),
            Some(known) if known.name == file.name && known.length == file.length => {
                if let (None, Some(digest)) = (known.digest, file.digest) {
                    known.digest = Some(digest);
                    if let Stage::Opening { transfer, .. } | Stage::Open(transfer) = &mut self.stage {
                        Arc::make_mut(&mut transfer.manifest).set_digest(index, digest);
                    }
                }
            }
            Some(_) => {}
        }
    }

    /// Opens the files once all of them and the size of symbols are known, or that size is another one.
    fn open(&mut self, now: Time) {
        let Some(payload) = self.payload else { return };
        match &self.stage {
            Stage::Gathering => {}
            Stage::Opening { transfer, .. } | Stage::Open(transfer) if transfer.layout.payload() != payload => {}
            _ => return,
        }
        let Some(files) = self.files.iter().cloned().collect::<Option<Vec<_>>>() else { return };
        let cut = Manifest::new(files).map_err(|error| error.to_string()).and_then(|manifest| {
            let layout = Layout::new(&manifest, payload).map_err(|error| error.to_string())?;
            Ok((manifest, layout))
        });
        let (manifest, layout) = match cut {
            Ok((manifest, layout)) => (Arc::new(manifest), Arc::new(layout)),
            Err(why) => return self.end(now, Fate::Failed(why)),
        };
        let transfer = Transfer::new(Arc::clone(&manifest), Arc::clone(&layout));
        let identity = self.identity;
        self.outputs.push_back(ReceiverOutput::Open { manifest, layout, identity });
        self.stage = Stage::Opening { transfer, until: None };
    }

    fn opened(&mut self, now: Time, held: &[u32], there: &[usize]) {
        let Stage::Opening { transfer, until: until @ None } = &mut self.stage else { return };
        transfer.hold(held);
        transfer.doubt(there);
        transfer.compare(&mut self.outputs);
        *until = Some(now + COMPARING);
        if !self.take_data(now) {
            self.report(now);
        }
    }

    /// Opens for data once it is clear which files are there already, or that takes too long. Whether it does.
    fn take_data(&mut self, now: Time) -> bool {
        let is_due = |transfer: &Transfer, until: Time| until <= now || !transfer.is_in_doubt();
        self.stage = match std::mem::replace(&mut self.stage, Stage::Finished) {
            Stage::Opening { transfer, until: Some(until) } if is_due(&transfer, until) => Stage::Open(transfer),
            other => {
                self.stage = other;
                return false;
            }
        };
        self.check_files(now);
        self.report(now);
        true
    }

    /// A file under its final name was compared with the one that is sent.
    fn compared(&mut self, now: Time, index: usize, is_right: bool) {
        let (Stage::Opening { transfer, .. } | Stage::Open(transfer)) = &mut self.stage else { return };
        if transfer.settle(index, is_right) {
            self.outputs.push_back(ReceiverOutput::Keep { file: index });
            if transfer.is_complete() {
                return self.end(now, Fate::Complete);
            }
        }
        self.take_data(now);
    }

    fn data(&mut self, now: Time, session: SessionId, first: DataHeader, count: u16, arrived: Time) {
        if session != self.session {
            return;
        }
        self.heard = now;
        self.received += u64::from(count);
        let highest = first.number.saturating_add(u64::from(count)).saturating_sub(1);
        if highest > self.highest {
            self.highest = highest;
            self.highest_at = arrived.min(now);
        }
        if let Stage::Open(transfer) = &mut self.stage
            && self.payload == Some(transfer.layout.payload())
            && let Some(block) = transfer.block(first.block)
        {
            let mut kept = first.symbol..first.symbol;
            let mut is_whole = false;
            for symbol in first.symbol..first.symbol.saturating_add(count) {
                match transfer.holdings.take(&block, symbol) {
                    Taken::New => {}
                    Taken::Enough => is_whole = true,
                    Taken::Useless | Taken::Refused => continue,
                }
                if kept.end != symbol {
                    self.outputs.extend(store(&block, kept));
                    kept = symbol..symbol;
                }
                kept.end += 1;
            }
            self.outputs.extend(store(&block, kept));
            if is_whole {
                transfer.files[block.file].incomplete_blocks -= 1;
                self.outputs.push_back(ReceiverOutput::Restore { block: block.index });
                self.repeats = 0;
                self.check_files(now);
            }
        }
        // One report answers all questions that came together: each tells the same.
        if first.poll.asks(self.config.member) {
            self.next_report = Some(self.next_report.map_or(now, |at| at.min(now)));
        }
    }

    /// Has every file compared of which all blocks and the digest are there; says so at once where a digest is missing.
    fn check_files(&mut self, now: Time) {
        let lacks_digest = match &mut self.stage {
            Stage::Open(transfer) => transfer.check(&mut self.outputs),
            Stage::Opening { transfer, until: Some(_) } => transfer.compare(&mut self.outputs),
            _ => false,
        };
        if lacks_digest && self.next_report.is_none_or(|at| at > now + ANNOUNCE_FIRST) {
            self.report(now);
        }
    }

    fn verified(&mut self, now: Time, index: usize, is_right: bool) {
        let Stage::Open(transfer) = &mut self.stage else { return };
        match transfer.verified(index, is_right) {
            Verified::Unasked => {}
            Verified::Right if transfer.is_complete() => self.end(now, Fate::Complete),
            Verified::Right => {}
            Verified::WrongAgain => {
                let name = &transfer.manifest.files()[index].name;
                let why = format!("{name}: received twice, and twice it had not the sender's digest");
                self.end(now, Fate::Failed(why));
            }
            Verified::Wrong => {
                self.outputs.push_back(ReceiverOutput::Discard { file: index });
                self.report(now);
            }
        }
    }

    /// From now on only tells how it ended.
    fn end(&mut self, now: Time, fate: Fate) {
        if matches!(self.stage, Stage::Ending { .. } | Stage::Finished) {
            return;
        }
        let symbols = self.symbols().0;
        self.stage = Stage::Ending { fate, until: now + self.config.linger, symbols };
        self.repeats = 0;
        self.report(now);
    }

    fn released(&mut self, session: SessionId, release: Release) {
        if session != self.session || release.member != self.config.member {
            return;
        }
        let fate = match std::mem::replace(&mut self.stage, Stage::Finished) {
            Stage::Finished => return,
            Stage::Ending { fate, .. } => fate,
            // A sender cannot know that it has everything before it does.
            stage if release.is_complete => {
                self.stage = stage;
                return;
            }
            _ => Fate::GivenUp,
        };
        self.next_report = None;
        self.outputs.push_back(ReceiverOutput::Finished(fate));
    }

    fn report(&mut self, now: Time) {
        let Some((echo_us, echoed_at)) = self.echo else { return };
        let (mut runs, mut covered, mut symbols) = (Vec::new(), 0, 0);
        let (mut is_open, mut lacks_digests, mut is_complete, mut failure) = (false, false, false, None);
        match &self.stage {
            // Before the sender says how this session's files are cut, block numbers mean nothing to it.
            Stage::Open(transfer) if self.payload == Some(transfer.layout.payload()) => {
                is_open = true;
                (runs, covered) = transfer.holdings.runs(&transfer.layout);
                symbols = transfer.holdings.symbols();
                lacks_digests = transfer.lacks_digests();
            }
            Stage::Ending { fate, symbols: held, .. } => {
                symbols = *held;
                match fate {
                    Fate::Failed(why) => failure = Some(why.clone()),
                    _ => is_complete = true,
                }
            }
            Stage::Finished => return,
            Stage::Opening { transfer, until: Some(_) } => lacks_digests = transfer.lacks_digests(),
            Stage::Gathering | Stage::Opening { .. } | Stage::Open(_) => {}
        }
        let report = Report {
            member: self.config.member,
            is_open,
            lacks_files: self.files.iter().any(Option::is_none),
            lacks_digests,
            is_complete,
            failure,
            window: self.config.window,
            largest_alone: self.largest_alone,
            largest_group: self.largest_group,
            echo_us,
            echo_held_us: micros(now.since(echoed_at)),
            highest: self.highest,
            arrived_us: (self.highest_at.as_nanos() / 1000) as u32,
            held_us: micros(now.since(self.highest_at)),
            received: self.received,
            symbols,
            covered,
            runs,
        };
        let impatient = matches!(self.stage, Stage::Ending { .. }) || lacks_digests || report.lacks_files;
        let again = if impatient {
            let doubled = ANNOUNCE_FIRST * (1 << self.repeats.min(8));
            self.repeats += 1;
            doubled.min(ANNOUNCE_SLOWEST)
        } else {
            self.report_every
        };
        self.next_report = Some(now + again);
        let bytes = Packet::Report(report).to_bytes(self.session);
        self.outputs.push_back(ReceiverOutput::Datagram { to: self.sender, bytes });
    }
}

impl Machine for Receiver {
    type Input = ReceiverInput;
    type Output = ReceiverOutput;
    type Why = ReceiverWhy;

    fn handle(&mut self, now: Time, input: ReceiverInput) {
        match input {
            ReceiverInput::Announce { from, session, announce, size } => {
                self.announced(now, from, session, announce, size);
            }
            ReceiverInput::Data { session, first, count, arrived } => self.data(now, session, first, count, arrived),
            ReceiverInput::Release { session, release } => self.released(session, release),
            ReceiverInput::Opened { held, there } => self.opened(now, &held, &there),
            ReceiverInput::Compared { file, is_right } => self.compared(now, file, is_right),
            ReceiverInput::Verified { file, is_right } => self.verified(now, file, is_right),
            ReceiverInput::Failed { why } => self.end(now, Fate::Failed(why)),
        }
    }

    fn advance(&mut self, now: Time) {
        if let Stage::Ending { until, .. } = &self.stage
            && *until <= now
            && let Stage::Ending { fate, .. } = std::mem::replace(&mut self.stage, Stage::Finished)
        {
            self.next_report = None;
            self.outputs.push_back(ReceiverOutput::Finished(fate));
        }
        self.take_data(now);
        if self.next_report.is_some_and(|at| at <= now) {
            self.report(now);
        }
    }

    fn poll(&mut self) -> Option<ReceiverOutput> {
        self.outputs.pop_front()
    }

    fn deadline(&self) -> Option<(Time, ReceiverWhy)> {
        let linger = match &self.stage {
            Stage::Ending { until, .. } => Some((*until, ReceiverWhy::Linger)),
            Stage::Opening { until, .. } => until.map(|until| (until, ReceiverWhy::Open)),
            _ => None,
        };
        let report = self.next_report.map(|at| (at, ReceiverWhy::Report));
        [linger, report].into_iter().flatten().min_by_key(|(at, _)| *at)
    }
}

/// Asks for the symbols of a block to be kept, if there are any.
fn store(block: &Block, symbols: Range<u16>) -> Option<ReceiverOutput> {
    let (block, symbol, count) = (block.index, symbols.start, symbols.len() as u16);
    (count > 0).then_some(ReceiverOutput::Store { block, symbol, count })
}

fn micros(span: Span) -> u32 {
    u32::try_from(span.as_nanos() / 1000).unwrap_or(u32::MAX)
}
