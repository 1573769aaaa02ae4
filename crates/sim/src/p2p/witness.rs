//! Knows the file, and what a downloader may do.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use fetch::journal;
use machine::{Span, Time};
use p2p::downloader::ChannelId;

use super::setup::Setup;

/// The most that is sent on a channel at once, in bytes: a few kilobytes.
const MOST_SENT: usize = 8 << 10;

/// Wakes at one and the same time that are no standstill yet.
const MOST_WAKES: u32 = 100;

/// Watches a downloader.
#[derive(Debug)]
pub(super) struct Witness {
    content: Bytes,
    connections: usize,
    ask_every: Span,
    asked: Option<Time>,
    named: BTreeSet<u16>,
    /// Channels that are open or being opened.
    open: BTreeMap<ChannelId, u16>,
    used: BTreeSet<ChannelId>,
    /// The journal with all that was ever to be appended.
    journal: Vec<u8>,
    woken: (Time, u32),
    pub(super) faults: Vec<String>,
}

impl Witness {
    pub(super) fn new(setup: &Setup, content: Bytes) -> Witness {
        let config = setup.config();
        Witness {
            content,
            connections: config.connections,
            ask_every: config.ask_every,
            asked: None,
            named: BTreeSet::new(),
            open: BTreeMap::new(),
            used: BTreeSet::new(),
            journal: Vec::new(),
            woken: (Time::ZERO, 0),
            faults: Vec::new(),
        }
    }

    pub(super) fn fault(&mut self, now: Time, what: String) {
        self.faults.push(format!("{now:?} {what}"));
    }

    pub(super) fn asks(&mut self, now: Time) {
        if let Some(last) = self.asked.filter(|last| now.since(*last) < self.ask_every) {
            self.fault(now, format!("the tracker is asked again after {}", now.since(last)));
        }
        self.asked = Some(now);
    }

    pub(super) fn named(&mut self, ports: &[u16]) {
        self.named.extend(ports);
    }

    pub(super) fn connects(&mut self, now: Time, channel: ChannelId, port: u16) {
        if !self.used.insert(channel) {
            self.fault(now, format!("{channel:?} is used twice"));
        }
        if !self.named.contains(&port) {
            self.fault(now, format!("nobody named port {port}"));
        }
        self.open.insert(channel, port);
        if self.open.len() > self.connections {
            self.fault(now, format!("{} connections are open or being opened", self.open.len()));
        }
    }

    pub(super) fn sends(&mut self, now: Time, channel: ChannelId, bytes: &[u8]) {
        if !self.open.contains_key(&channel) {
            self.fault(now, format!("something is said on {channel:?}, which is over"));
        }
        if !bytes.ends_with(b"\n") || bytes.len() > MOST_SENT {
            self.fault(now, format!("{} bytes are sent that are no lines, or too many", bytes.len()));
        }
    }

    pub(super) fn closes(&mut self, now: Time, channel: ChannelId) {
        if self.open.remove(&channel).is_none() {
            self.fault(now, format!("{channel:?} is closed, which is over"));
        }
    }

    /// The peer ended it, and the downloader is told so.
    pub(super) fn closed(&mut self, channel: ChannelId) {
        self.open.remove(&channel);
    }

    pub(super) fn prepared(&mut self, now: Time, length: u64, journal: &[u8]) {
        if length != self.content.len() as u64 {
            self.fault(now, format!("the file is thought to have {length} bytes"));
        }
        self.journal = journal.to_vec();
    }

    /// No peer lies here, so nothing else than the file is written.
    pub(super) fn writes(&mut self, now: Time, offset: u64, bytes: &[u8]) {
        let at = offset as usize;
        if self.content.get(at..at + bytes.len()) != Some(bytes) {
            self.fault(now, format!("{} wrong bytes are written to {offset}", bytes.len()));
        }
    }

    /// A record is to be appended: what it speaks of must be on the disk.
    pub(super) fn records(&mut self, now: Time, record: &[u8], data: &[u8]) {
        self.journal.extend_from_slice(record);
        let replay = match journal::replay(&self.journal) {
            Ok(replay) => replay,
            Err(error) => return self.fault(now, format!("the journal cannot be read: {error}")),
        };
        let pieces = replay.header.pieces;
        for piece in pieces.iter().filter(|piece| replay.recorded.contains(*piece)) {
            let range = pieces.range(piece);
            let range = range.start as usize..range.end as usize;
            if data.get(range.clone()) != self.content.get(range) {
                self.fault(now, format!("{piece} is recorded before it is written"));
            }
        }
    }

    /// The file is called whole.
    pub(super) fn judge(&mut self, now: Time, data: &[u8]) {
        if self.content != data {
            self.fault(now, "a wrong file is called right".to_owned());
        }
    }

    /// Whether the machine that is woken now gets on.
    pub(super) fn wakes(&mut self, now: Time) -> bool {
        let times = if self.woken.0 == now { self.woken.1 + 1 } else { 1 };
        self.woken = (now, times);
        if times == MOST_WAKES {
            self.fault(now, format!("woken {times} times without getting on"));
        }
        times < MOST_WAKES
    }
}
