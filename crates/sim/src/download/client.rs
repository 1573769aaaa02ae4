//! The engine's driver in virtual time.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;
use fetch::{
    ByteRange, Digest, Engine, Generation, Hashes, Input, Outcome, Output, PieceIndex, Remains, RequestId, SourceId,
};
use machine::{Machine, Span, Time};
use rand::RngExt;

use super::{Asks, Event, World};
use crate::server::Server;

/// The longest that a write takes.
const SLOWEST_WRITE: Span = Span::from_millis(3);
/// How long a piece takes to be read back and hashed, and a sync.
const HASHING: Span = Span::from_micros(400);
const SYNCING: Span = Span::from_millis(20);

/// A life of the client.
#[derive(Debug)]
pub(super) struct Client {
    engine: Engine,
    /// Open requests: to whom, and whether it asks for a range.
    open: BTreeMap<RequestId, (usize, bool)>,
    /// Of those, questions that were told that hashes will follow.
    promised: BTreeSet<RequestId>,
    /// Writes under way, done in this order.
    writes: VecDeque<(Generation, u64, Bytes)>,
    writes_free: Time,
    appends: VecDeque<Bytes>,
    appends_free: Time,
    wakes: Option<Time>,
}

impl Client {
    pub(super) fn source(&self, server: usize) -> Option<SourceId> {
        self.engine.source_id(server)
    }
}

impl World {
    pub(super) fn remains(&self) -> Remains {
        let journal = Bytes::from(self.disk.journal.clone());
        Remains { journal: self.witness.tamper(journal, self.boots), part_length: self.disk.data.len() as u64 }
    }

    pub(super) fn start_client(&mut self) {
        let now = self.queue.now();
        self.client_lives += 1;
        let mut engine = Engine::new(self.config());
        self.has_remains = true;
        self.witness.client_starts();
        for _ in 0..self.servers.len() {
            engine.add_source(now);
        }
        self.client = Some(Client {
            engine,
            open: BTreeMap::new(),
            promised: BTreeSet::new(),
            writes: VecDeque::new(),
            writes_free: now,
            appends: VecDeque::new(),
            appends_free: now,
            wakes: None,
        });
        self.drive();
    }

    pub(super) fn kill_client(&mut self) {
        let Some(client) = self.client.take() else { return };
        let writes: Vec<(u64, Bytes)> = client.writes.into_iter().map(|(_, offset, bytes)| (offset, bytes)).collect();
        let appends: Vec<Bytes> = client.appends.into();
        self.disk.process_dies(&writes, &appends, &mut self.chance);
        self.servers.iter_mut().for_each(Server::forget_client);
    }

    pub(super) fn is_current(&self, client_life: u32) -> bool {
        self.client.is_some() && self.client_lives == client_life
    }

    pub(super) fn is_open(&self, request: RequestId) -> bool {
        self.client.as_ref().is_some_and(|client| client.open.contains_key(&request))
    }

    /// The last byte of an answer came: for the engine its request is over with that.
    pub(super) fn is_over(&mut self, request: RequestId) {
        if let Some(client) = &mut self.client {
            client.open.remove(&request);
        }
    }

    pub(super) fn tell(&mut self, client_life: u32, input: Input) {
        if !self.is_current(client_life) {
            return;
        }
        let now = self.queue.now();
        let client = self.client.as_mut().expect("it is current");
        match &input {
            Input::Described { request, .. }
            | Input::Reached { request }
            | Input::Hashes { request, .. }
            | Input::Opened { request, .. }
            | Input::Closed { request, .. }
                if !client.open.contains_key(request) =>
            {
                return;
            }
            _ => {}
        }
        match &input {
            // Its hashes follow.
            Input::Described { request, description } if description.hashes == Hashes::Awaited => {
                client.promised.insert(*request);
            }
            Input::Described { request, .. } | Input::Hashes { request, .. } | Input::Closed { request, .. } => {
                client.open.remove(request);
            }
            _ => {}
        }
        if let Input::Hashes { manifest, .. } = &input {
            self.witness.hashes_told |= manifest.is_some();
        }
        client.engine.handle(now, input);
        self.drive();
    }

    pub(super) fn wake(&mut self, client_life: u32, at: Time) {
        if self.is_current(client_life)
            && let Some(client) = self.client.as_mut().filter(|client| client.wakes == Some(at))
        {
            client.wakes = None;
            client.engine.advance(at);
            self.drive();
        }
    }

    /// Carries out what the engine wants.
    fn drive(&mut self) {
        while let Some(output) = self.client.as_mut().and_then(|client| client.engine.poll()) {
            self.carry_out(output);
        }
        let client_life = self.client_lives;
        let Some(client) = &mut self.client else { return };
        if let Some((at, _)) =
            client.engine.deadline().filter(|(at, _)| client.wakes.is_none_or(|planned| *at < planned))
        {
            client.wakes = Some(at);
            self.queue.plan(at, Event::Wakes { client_life, at });
        }
    }

    fn carry_out(&mut self, output: Output) {
        let (now, client_life) = (self.queue.now(), self.client_lives);
        let Some(client) = &mut self.client else { return };
        match output {
            Output::Describe { request, source, manifest } => {
                self.questions += 1;
                client.open.insert(request, (source.index(), false));
                self.send_request(source.index(), request, Asks::What { manifest });
            }
            Output::Open { request, source, range, .. } => {
                client.open.insert(request, (source.index(), true));
                let both = client.open.values().filter(|open| **open == (source.index(), true)).count();
                self.opens += 1;
                self.witness.say(now, format!("{source:?} is asked for {range:?}"));
                self.witness.asked(now, range, both, self.servers[source.index()].ranges);
                self.send_request(source.index(), request, Asks::Range(range));
            }
            Output::Cancel { request } => {
                if let Some((server, _)) = client.open.remove(&request) {
                    let was_told = client.promised.contains(&request);
                    if was_told && self.servers[server].owes_hashes(request, client_life) {
                        self.witness.hashes_declined = Some(now);
                    }
                    let again = self.servers[server].cancel(request, client_life);
                    self.ask_again(server, again);
                }
            }
            Output::Prepare { length, fresh, journal, .. } => {
                // After every write before it.
                for (generation, offset, bytes) in std::mem::take(&mut client.writes) {
                    self.disk.write(offset, &bytes);
                    let input = Input::Written { generation, offset, len: bytes.len() as u64 };
                    self.queue.plan(now, Event::Tells { client_life, input });
                }
                client.appends.clear();
                self.disk.prepare(length, fresh, &journal);
                self.witness.prepared(fresh, &journal);
            }
            Output::Write { generation, offset, bytes } => {
                client.writes.push_back((generation, offset, bytes));
                let took = Span::from_nanos(self.chance.random_range(0..SLOWEST_WRITE.as_nanos()) / 8);
                client.writes_free = client.writes_free.max(now) + took;
                self.queue.plan(client.writes_free, Event::WriteDone { client_life });
            }
            Output::Append { record } => {
                self.witness.recorded(&record, &self.disk.data);
                client.appends.push_back(record);
                let took = Span::from_nanos(self.chance.random_range(0..SLOWEST_WRITE.as_nanos()) / 8);
                client.appends_free = client.appends_free.max(now) + took;
                self.queue.plan(client.appends_free, Event::AppendDone { client_life });
            }
            Output::Sync { generation } => {
                self.disk.sync_begins();
                self.queue.plan(now + SYNCING, Event::SyncDone { client_life, generation });
            }
            Output::Hash { generation, piece, range } => {
                let piece = Some((piece, range));
                self.queue.plan(now + HASHING, Event::HashDone { client_life, generation, piece });
            }
            Output::HashFile { generation } => {
                self.queue.plan(now + HASHING, Event::HashDone { client_life, generation, piece: None });
            }
            Output::Note(note) => self.witness.noted(now, &note),
            Output::Finished(outcome) => self.finished(outcome),
        }
    }

    fn finished(&mut self, outcome: Outcome) {
        let now = self.queue.now();
        let Some(client) = &self.client else { return };
        let wasted = client.engine.progress().wasted;
        if let Outcome::Complete { integrity } = outcome {
            self.witness.judge(now, &self.disk.data, integrity);
        }
        self.witness.say(now, format!("{outcome:?}"));
        self.ended = Some((now, outcome, wasted));
    }

    pub(super) fn send_request(&mut self, index: usize, request: RequestId, asks: Asks) {
        let (now, client_life) = (self.queue.now(), self.client_lives);
        let (takes, connection) = self.servers[index].reach(now, client_life);
        let life = self.servers[index].life;
        self.queue.plan(now + takes, Event::Reaches { server: index, life, client_life, request, asks, connection });
    }

    /// Requests whose connection ended through no fault of theirs.
    pub(super) fn ask_again(&mut self, server: usize, requests: Vec<(RequestId, ByteRange)>) {
        for (request, range) in requests {
            if self.is_open(request) {
                self.send_request(server, request, Asks::Range(range));
            }
        }
    }

    pub(super) fn write_done(&mut self, client_life: u32) {
        if !self.is_current(client_life) {
            return;
        }
        // A preparation may have carried it out already.
        let Some((generation, offset, bytes)) = self.client.as_mut().and_then(|client| client.writes.pop_front())
        else {
            return;
        };
        self.disk.write(offset, &bytes);
        self.tell(client_life, Input::Written { generation, offset, len: bytes.len() as u64 });
    }

    pub(super) fn append_done(&mut self, client_life: u32) {
        if self.is_current(client_life)
            && let Some(record) = self.client.as_mut().and_then(|client| client.appends.pop_front())
        {
            self.disk.append(&record);
        }
    }

    pub(super) fn hash_done(
        &mut self,
        client_life: u32,
        generation: Generation,
        piece: Option<(PieceIndex, ByteRange)>,
    ) {
        if !self.is_current(client_life) {
            return;
        }
        let data = &self.disk.data;
        let input = match piece {
            Some((piece, range)) => {
                let (from, to) = ((range.start as usize).min(data.len()), (range.end as usize).min(data.len()));
                Input::Hashed { generation, piece, digest: Digest::of(&data[from..to]) }
            }
            None => Input::FileHashed { generation, digest: Digest::of(data) },
        };
        self.tell(client_life, input);
    }
}
