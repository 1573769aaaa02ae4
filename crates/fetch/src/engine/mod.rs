//! The machine.
//!
//! * `identify`: which file it is, and what of it is on the disk already.
//! * `hashes`: hashes that come later than bytes.
//! * `connect`: who answers, who is silent, when to ask again.
//! * `assign`: which bytes from whom: shares, steals and hedges.
//! * `receive`: heads and bodies.
//! * `verify`: written, hashed, recorded, finished.

mod assign;
mod connect;
mod hashes;
mod identify;
mod receive;
mod source;
mod status;
mod verify;

use std::collections::{BTreeMap, VecDeque};

use machine::{Machine, Span, Time, Timers};

pub use status::{Blocks, Config, Progress, Remains, SourceStatus};

use crate::manifest::Digest;
use crate::pieces::ByteRange;
use crate::protocol::{
    Aside, Expectation, Failure, Generation, Input, Note, Outcome, Output, RequestId, SourceId, SourceState, Why,
};
use crate::tuning;

use identify::File;
use source::{Source, Stage};

/// Fetches one file from many sources.
///
/// Order of calls: [`Engine::new`], [`Engine::add_source`] for each source (also later), then as
/// [`Machine`] says. After [`Output::Finished`] nothing follows, and inputs are ignored.
///
/// A piece is recorded when it is written and, if its hash is known, verified; a recorded piece is never fetched again.
/// Sources are believed by what they do: bytes that flow outweigh a check server that calls their source dead, and a
/// source called alive is asked at once, but given work only when it answers.
#[derive(Debug)]
pub struct Engine {
    config: Config,
    /// What somebody who is no source says of the hash of the whole.
    told: Expectation,
    sources: Vec<Source>,
    /// Describing requests.
    probes: BTreeMap<RequestId, Probe>,
    /// Of those that succeeded, the ones whose hashes are still to come.
    awaited: BTreeMap<RequestId, SourceId>,
    /// Requests for ranges.
    requests: BTreeMap<RequestId, Request>,
    file: Option<File>,
    generation: Generation,
    timers: Timers<Why>,
    outputs: VecDeque<Output>,
    next_request: u64,
    received: u64,
    wasted: u64,
    finished: bool,
}

/// A question to a source.
#[derive(Clone, Copy, Debug)]
struct Probe {
    source: SourceId,
    asked: Time,
    manifest: bool,
    /// Whether it is given more time than the others.
    patient: bool,
    /// Until when no other is asked beside it, because its source is known to be there.
    alone_until: Time,
}

/// A range being fetched.
#[derive(Clone, Debug)]
struct Request {
    source: SourceId,
    /// What is still wanted of it: from the next byte to come, to where it shall end. Stealing moves the end.
    want: ByteRange,
    /// Where the answer begins.
    start: u64,
    /// Where the answer itself will end.
    answer_end: u64,
    opened: Time,
    /// Whether it was asked for when the source had nothing else to send, so that its delay is the source's latency.
    undisturbed: bool,
    /// Whether the head of the answer came.
    accepted: bool,
    /// Whether it was chosen for a piece under suspicion, to bring it whole; only a hedge may come to help.
    alone: bool,
}

impl Engine {
    /// An engine without sources.
    pub fn new(config: Config) -> Self {
        Engine {
            config,
            told: Expectation::Nothing,
            sources: Vec::new(),
            probes: BTreeMap::new(),
            awaited: BTreeMap::new(),
            requests: BTreeMap::new(),
            file: None,
            generation: Generation(0),
            timers: Timers::default(),
            outputs: VecDeque::new(),
            next_request: 0,
            received: 0,
            wasted: 0,
            finished: false,
        }
    }

    /// Adds a source and begins to ask it.
    pub fn add_source(&mut self, now: Time) -> SourceId {
        let id = SourceId(self.sources.len());
        self.sources.push(Source::new(now, self.config.blocks.is_some()));
        if !self.finished {
            self.note(Note::Source { source: id, state: SourceState::Connecting });
            self.ask(now, id);
        }
        id
    }

    /// Adds a source whose speed, in bytes per second, and time from request to answer are known from another one.
    pub fn add_known_source(&mut self, now: Time, rate: f64, latency: Span) -> SourceId {
        let id = self.add_source(now);
        let source = &mut self.sources[id.0];
        source.meter.expect(rate);
        source.latency = Some(latency);
        id
    }

    /// A source that serves blocks is as fast as this, in bytes per second: who drives it knows what of the time it was owed
    /// nothing.
    pub fn set_speed(&mut self, now: Time, id: SourceId, rate: f64) {
        let was_unknown = self.sources[id.0].meter.rate().is_none();
        self.sources[id.0].meter.expect(rate);
        if was_unknown && !self.finished {
            self.assign_all(now);
        }
    }

    /// Takes a source away: its ranges go to the others, and nothing more is heard of it.
    pub fn remove_source(&mut self, now: Time, id: SourceId) {
        if self.finished || self.sources[id.0].stage == Stage::Aside {
            return;
        }
        self.retire(id, Aside::Gone);
        self.assign_all(now);
    }

    /// The source numbered `index`, if there is one.
    pub fn source_id(&self, index: usize) -> Option<SourceId> {
        (index < self.sources.len()).then_some(SourceId(index))
    }

    /// Whether body bytes may be read: false while the disk is behind.
    pub fn wants_body(&self) -> bool {
        self.file.as_ref().is_none_or(|file| file.backlog < tuning::WRITE_BACKLOG)
    }

    /// How far it is.
    pub fn progress(&self) -> Progress {
        let file = self.file.as_ref();
        Progress {
            length: file.map(|file| file.pieces.length()),
            here: file.map_or(0, |file| file.received.bytes() - file.doubtful_bytes()),
            recorded: file.map_or(0, |file| file.recorded_bytes),
            received: self.received,
            wasted: self.wasted,
            unwritten: file.map_or(0, |file| file.backlog),
        }
    }

    /// How a source stands.
    pub fn source(&self, id: SourceId) -> SourceStatus {
        let source = &self.sources[id.0];
        SourceStatus {
            state: source.told.clone(),
            received: source.received,
            assigned: source.received + self.left(id),
            rate: if source.requests.is_empty() { 0 } else { source.meter.rate().unwrap_or(0.0) as u64 },
        }
    }

    fn new_request(&mut self) -> RequestId {
        self.next_request += 1;
        RequestId(self.next_request)
    }

    fn note(&mut self, note: Note) {
        self.outputs.push_back(Output::Note(note));
    }

    /// Bytes still wanted of a source.
    fn left(&self, id: SourceId) -> u64 {
        self.sources[id.0].requests.iter().map(|request| self.requests[request].want.len()).sum()
    }

    fn expected_digest(&self) -> Option<Digest> {
        let published = || self.file.as_ref().and_then(File::published_whole);
        let told = if let Expectation::Digest(digest) = self.told { Some(digest) } else { None };
        let in_pieces = self.file.as_ref().is_some_and(|file| file.piece_hashes().is_some());
        self.config.expect.or_else(published).or(told.filter(|_| !in_pieces))
    }

    fn finish(&mut self, outcome: Outcome) {
        let open: Vec<RequestId> =
            self.requests.keys().chain(self.probes.keys()).chain(self.awaited.keys()).copied().collect();
        self.outputs.extend(open.into_iter().map(|request| Output::Cancel { request }));
        self.requests.clear();
        self.probes.clear();
        self.awaited.clear();
        self.sources.iter_mut().for_each(|source| source.requests.clear());
        self.timers = Timers::default();
        self.finished = true;
        self.outputs.push_back(Output::Finished(outcome));
    }

    /// Sources that refuse are asked again as long as there is another one; but if nobody does anything else, waiting is
    /// of no use.
    fn fail_if_nobody_is_left(&mut self) {
        if self.config.blocks.is_some() {
            // There may be others soon.
            return;
        }
        let lost = |source: &Source| source.stage == Stage::Aside || source.refusals >= tuning::REFUSALS_MAX;
        let nobody = self.sources.iter().all(lost);
        if nobody && !self.sources.is_empty() && !self.finished {
            self.finish(Outcome::Failed(Failure::NoSource));
        }
    }
}

impl Machine for Engine {
    type Input = Input;
    type Output = Output;
    type Why = Why;

    fn handle(&mut self, now: Time, input: Input) {
        if self.finished {
            return;
        }
        match input {
            Input::Described { request, description } => self.described(now, request, description),
            Input::Reached { request } => self.reached(now, request),
            Input::Hashes { request, manifest } => self.hashes_came(now, request, manifest),
            Input::Opened { request, head } => self.opened(now, request, &head),
            Input::Body { request, bytes } => self.body(now, request, &bytes),
            Input::Closed { request, why } => self.closed(now, request, why),
            Input::Liveness { source, alive } => self.liveness(now, source, alive),
            Input::Expect(told) => self.told = told,
            Input::Held { request } => self.held(now, request),
            Input::Written { generation, offset, len } if generation == self.generation => {
                self.written(now, offset, len);
            }
            Input::Written { generation, len, .. } if self.file.as_ref().is_some_and(|f| f.begun <= generation) => {
                self.written_before(len);
            }
            Input::Hashed { generation, piece, digest } if generation == self.generation => {
                self.hashed(now, piece, digest);
            }
            Input::FileHashed { generation, digest } if generation == self.generation => {
                self.file_hashed(now, digest);
            }
            Input::Synced { generation } if generation == self.generation => self.synced(now),
            // Answers about a file that was given up.
            Input::Written { .. } | Input::Hashed { .. } | Input::FileHashed { .. } | Input::Synced { .. } => {}
        }
        self.finish_if_whole(now);
        self.assign_all(now);
    }

    fn advance(&mut self, now: Time) {
        while let Some((_, why)) = self.timers.pop(now) {
            match why {
                Why::Probe(source) => self.probe_due(now, source),
                Why::Unanswered(request) => self.unanswered(now, request),
                Why::Stall(source) => self.check_stall(now, source),
                Why::Rebalance => {}
                Why::Sync => self.sync_due(),
                Why::Hashes => self.hashes_due(now),
            }
        }
        self.finish_if_whole(now);
        self.assign_all(now);
    }

    fn poll(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    fn deadline(&self) -> Option<(Time, Why)> {
        self.timers.next()
    }
}

/// A latency or a guess at it.
fn or_guess(latency: Option<Span>) -> Span {
    latency.unwrap_or(tuning::LATENCY_GUESS)
}
