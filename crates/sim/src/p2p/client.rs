//! The driver of a downloader in virtual time.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use fetch::{ByteRange, CloseReason, Digest, Generation, Outcome, PieceIndex};
use machine::{Span, Time};
use p2p::downloader::{ChannelId, Input, Output};
use p2p::tracker_text;
use rand::RngExt;

use super::setup::{Setup, port};
use super::witness::Witness;
use super::{Answer, Channel, Download, Event, Run, World};
use crate::disk::Disk;

/// The longest that a write or an append takes.
const SLOWEST_WRITE: Span = Span::from_micros(400);
/// How long a piece takes to be read back and hashed, and a sync.
const HASHING: Span = Span::from_micros(400);
const SYNCING: Span = Span::from_millis(20);

/// What reaches a client over the network.
#[derive(Debug)]
pub(super) enum Comes {
    Answer(Bytes),
    Connected(ChannelId),
    Bytes(ChannelId, Bytes),
    Closed(ChannelId, CloseReason),
}

/// A downloader and its driver.
#[derive(Debug)]
pub(super) struct Client<D> {
    machine: D,
    pub(super) witness: Witness,
    disk: Disk,
    /// Channels that are not over, by where they are in the report.
    open: BTreeMap<ChannelId, usize>,
    /// What came on channels while the machine wanted nothing.
    unread: VecDeque<Comes>,
    /// Writes under way, done in this order.
    writes: VecDeque<(Generation, u64, Bytes)>,
    writes_free: Time,
    appends: VecDeque<Bytes>,
    appends_free: Time,
    wakes: Option<Time>,
    is_stuck: bool,
    ended: Option<(Time, Outcome)>,
    answers: Vec<Answer>,
    questions: u64,
    channels: Vec<Channel>,
    log: Vec<(Time, String)>,
}

impl<D: Download> Client<D> {
    pub(super) fn new(machine: D, setup: &Setup, content: Bytes) -> Client<D> {
        Client {
            machine,
            witness: Witness::new(setup, content),
            disk: Disk::default(),
            open: BTreeMap::new(),
            unread: VecDeque::new(),
            writes: VecDeque::new(),
            writes_free: Time::ZERO,
            appends: VecDeque::new(),
            appends_free: Time::ZERO,
            wakes: None,
            is_stuck: false,
            ended: None,
            answers: Vec::new(),
            questions: 0,
            channels: Vec::new(),
            log: Vec::new(),
        }
    }

    pub(super) fn is_over(&self) -> bool {
        self.ended.is_some() || self.is_stuck
    }

    pub(super) fn report(self) -> Run {
        Run {
            ended: self.ended,
            progress: self.machine.progress(),
            answers: self.answers,
            questions: self.questions,
            channels: self.channels,
            faults: self.witness.faults,
            log: self.log,
        }
    }

    pub(super) fn append_done(&mut self) {
        if let Some(record) = self.appends.pop_front() {
            self.disk.append(&record);
        }
    }

    /// Tells the machine what came, unless its channel is over.
    fn hear(&mut self, now: Time, what: Comes) {
        let input = match what {
            Comes::Answer(datagram) => {
                if let Ok(answer) = tracker_text::Answer::decode(&datagram) {
                    let ports: Vec<u16> = answer.peers.into_iter().filter_map(port).collect();
                    self.witness.named(&ports);
                    self.log.push((now, format!("told of {ports:?}")));
                    self.answers.push(Answer { at: now, ports });
                }
                Input::Tracker(datagram)
            }
            Comes::Connected(id) => {
                if !self.open.contains_key(&id) {
                    return;
                }
                Input::Connected(id)
            }
            Comes::Bytes(id, bytes) => {
                let Some(nth) = self.open.get(&id) else { return };
                let channel = &mut self.channels[*nth];
                channel.first.get_or_insert(now);
                channel.last = Some(now);
                channel.received += bytes.len() as u64;
                Input::Received { channel: id, bytes }
            }
            Comes::Closed(id, why) => {
                let Some(nth) = self.open.remove(&id) else { return };
                self.channels[nth].ended = Some(now);
                self.witness.closed(id);
                Input::Closed { channel: id, why }
            }
        };
        self.machine.handle(now, input);
    }
}

impl<D: Download> World<D> {
    pub(super) fn comes(&mut self, client: usize, what: Comes) {
        let now = self.queue.now();
        let it = &mut self.clients[client];
        if it.is_over() {
            return;
        }
        // Datagrams and the standing of connections are no bytes to be held back.
        match what {
            Comes::Answer(_) | Comes::Connected(_) => it.hear(now, what),
            Comes::Bytes(..) | Comes::Closed(..) => it.unread.push_back(what),
        }
        self.drive(client);
    }

    pub(super) fn wake(&mut self, client: usize, at: Time) {
        let it = &mut self.clients[client];
        if it.is_over() || it.wakes != Some(at) {
            return;
        }
        it.wakes = None;
        it.machine.advance(at);
        it.is_stuck |= !it.witness.wakes(at);
        self.drive(client);
    }

    pub(super) fn write_done(&mut self, client: usize) {
        // A preparation may have carried it out already.
        let it = &mut self.clients[client];
        if let Some((generation, offset, bytes)) = it.writes.pop_front() {
            it.disk.write(offset, &bytes);
            self.answer(client, fetch::Input::Written { generation, offset, len: bytes.len() as u64 });
        }
    }

    pub(super) fn synced(&mut self, client: usize, generation: Generation) {
        self.clients[client].disk.sync_ends();
        self.answer(client, fetch::Input::Synced { generation });
    }

    pub(super) fn hashed(&mut self, client: usize, generation: Generation, piece: Option<(PieceIndex, ByteRange)>) {
        let data = &self.clients[client].disk.data;
        let input = match piece {
            Some((piece, range)) => {
                let (from, to) = ((range.start as usize).min(data.len()), (range.end as usize).min(data.len()));
                fetch::Input::Hashed { generation, piece, digest: Digest::of(&data[from..to]) }
            }
            None => fetch::Input::FileHashed { generation, digest: Digest::of(data) },
        };
        self.answer(client, input);
    }

    /// The disk's answer.
    fn answer(&mut self, client: usize, input: fetch::Input) {
        let it = &mut self.clients[client];
        if !it.is_over() {
            it.machine.handle(self.queue.now(), Input::Disk(input));
            self.drive(client);
        }
    }

    /// Carries out what the machine wants, and tells it what it wants to hear.
    pub(super) fn drive(&mut self, client: usize) {
        let now = self.queue.now();
        loop {
            while let Some(output) = self.clients[client].machine.poll() {
                self.carry_out(client, output);
            }
            let it = &mut self.clients[client];
            if it.is_over() || !it.machine.wants_body() {
                break;
            }
            let Some(what) = it.unread.pop_front() else { break };
            it.hear(now, what);
        }
        let it = &mut self.clients[client];
        if let Some((at, _)) = it.machine.deadline().filter(|(at, _)| it.wakes.is_none_or(|planned| *at < planned)) {
            let at = at.max(now);
            it.wakes = Some(at);
            self.queue.plan(at, Event::Wakes { client, at });
        }
    }

    fn carry_out(&mut self, client: usize, output: Output) {
        let now = self.queue.now();
        let arrives = now + self.setup.delay;
        let it = &mut self.clients[client];
        if it.ended.is_some() {
            return it.witness.fault(now, format!("after the end: {output:?}"));
        }
        match output {
            Output::AskTracker(datagram) => {
                it.witness.asks(now);
                it.questions += 1;
                if !self.is_lost() {
                    self.queue.plan(arrives, Event::Asks { client, datagram });
                }
            }
            Output::Connect { channel: id, peer } => {
                let port = port(peer).unwrap_or_default();
                it.witness.connects(now, id, port);
                it.open.insert(id, it.channels.len());
                let begun =
                    Channel { id, port, begun: now, first: None, last: None, ended: None, received: 0, requests: 0 };
                it.channels.push(begun);
                self.queue.plan(arrives, Event::Begins { of: (client, id), port });
            }
            Output::Send { channel, bytes } => {
                it.witness.sends(now, channel, &bytes);
                let Some(nth) = it.open.get(&channel) else { return };
                let known = &mut it.channels[*nth];
                known.requests += bytes.iter().filter(|byte| **byte == b'\n').count() as u64;
                // It may have to wait for the connection, which takes a round trip.
                let arrives = arrives.max(known.begun + self.setup.delay * 3);
                self.queue.plan(arrives, Event::Sends { of: (client, channel), bytes });
            }
            Output::Close { channel } => {
                it.witness.closes(now, channel);
                if let Some(nth) = it.open.remove(&channel) {
                    it.channels[nth].ended = Some(now);
                    self.queue.plan(arrives, Event::Ends { of: (client, channel) });
                }
            }
            Output::Disk(output) => self.on_disk(client, output),
            Output::Note(note) => it.log.push((now, format!("{note:?}"))),
            Output::Finished(outcome) => {
                if let Outcome::Complete { .. } = outcome {
                    it.witness.judge(now, it.machine.in_memory().unwrap_or(&it.disk.data));
                }
                it.log.push((now, format!("{outcome:?}")));
                it.ended = Some((now, outcome));
            }
        }
    }

    fn on_disk(&mut self, client: usize, output: fetch::Output) {
        let now = self.queue.now();
        let took = Span::from_nanos(self.chance.random_range(0..SLOWEST_WRITE.as_nanos()));
        let it = &mut self.clients[client];
        match output {
            fetch::Output::Prepare { length, fresh, journal, .. } => {
                // After every write before it. Their answers come when they would have.
                it.appends.clear();
                for (_, offset, bytes) in &it.writes {
                    it.disk.write(*offset, bytes);
                }
                it.disk.prepare(length, fresh, &journal);
                it.witness.prepared(now, length, &journal);
            }
            fetch::Output::Write { generation, offset, bytes } => {
                it.witness.writes(now, offset, &bytes);
                it.writes.push_back((generation, offset, bytes));
                it.writes_free = it.writes_free.max(now) + took;
                self.queue.plan(it.writes_free, Event::WriteDone { client });
            }
            fetch::Output::Append { record } => {
                it.witness.records(now, &record, &it.disk.data);
                it.appends.push_back(record);
                it.appends_free = it.appends_free.max(now) + took;
                self.queue.plan(it.appends_free, Event::AppendDone { client });
            }
            fetch::Output::Sync { generation } => {
                it.disk.sync_begins();
                self.queue.plan(now + SYNCING, Event::Synced { client, generation });
            }
            fetch::Output::Hash { generation, piece, range } => {
                self.queue.plan(now + HASHING, Event::Hashed { client, generation, piece: Some((piece, range)) });
            }
            fetch::Output::HashFile { generation } => {
                self.queue.plan(now + HASHING, Event::Hashed { client, generation, piece: None });
            }
            other => it.witness.fault(now, format!("no wish of the disk: {other:?}")),
        }
    }
}
