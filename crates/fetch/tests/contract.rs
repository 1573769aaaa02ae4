//! What the engine promises its driver about what it asks for: how long ranges are, how often it syncs, whose word on the
//! hash of the whole counts.
#![allow(clippy::unwrap_used, reason = "in a test a panic is the report")]

use std::collections::VecDeque;

use bytes::Bytes;
use fetch::{
    Boot, ByteRange, Config, Description, Digest, Engine, Expectation, Failure, Generation, Hashes, Head, Input,
    Integrity, Note, Outcome, Output, RequestId, SourceId,
};
use machine::{Machine, Span, Time};
use proptest::prelude::*;

/// Bytes that a source sends at once.
const CHUNK: u64 = 16 << 10;

/// Sources without hashes that answer at once and send a chunk every tick, and a disk.
struct World {
    engine: Engine,
    now: Time,
    length: u64,
    /// How long a sync takes.
    syncing: Span,
    open: Vec<(SourceId, RequestId, ByteRange)>,
    opened: Vec<ByteRange>,
    synced: Vec<Time>,
    sync: Option<(Time, Generation)>,
    /// Said to the engine next.
    inputs: VecDeque<Input>,
    notes: Vec<Note>,
    outcome: Option<Outcome>,
}

impl World {
    fn new(length: u64, sources: usize, config: Config) -> Self {
        let mut engine = Engine::new(config);
        (0..sources).for_each(|_| _ = engine.add_source(Time::ZERO));
        World {
            engine,
            now: Time::ZERO,
            length,
            syncing: Span::from_millis(1),
            open: Vec::new(),
            opened: Vec::new(),
            synced: Vec::new(),
            sync: None,
            inputs: VecDeque::new(),
            notes: Vec::new(),
            outcome: None,
        }
    }

    fn content(range: ByteRange) -> Bytes {
        (range.start..range.end).map(|at| (at / 251) as u8).collect()
    }

    /// Lets a tick pass.
    fn tick(&mut self, tick: Span) {
        self.now += tick;
        self.engine.advance(self.now);
        if let Some((_, generation)) = self.sync.take_if(|(ends, _)| *ends <= self.now) {
            self.inputs.push_back(Input::Synced { generation });
        }
        let mut served = Vec::new();
        for (source, request, range) in &mut self.open {
            // Like a connection: one answer after the other.
            if served.contains(source) || range.is_empty() {
                continue;
            }
            served.push(*source);
            let sent = ByteRange::new(range.start, range.end.min(range.start + CHUNK));
            range.start = sent.end;
            self.inputs.push_back(Input::Body { request: *request, bytes: World::content(sent) });
        }
        self.open.retain(|(_, _, range)| !range.is_empty());
        self.settle();
    }

    fn settle(&mut self) {
        loop {
            while let Some(output) = self.engine.poll() {
                self.carry_out(output);
            }
            let Some(input) = self.inputs.pop_front() else { return };
            self.engine.handle(self.now, input);
        }
    }

    fn carry_out(&mut self, output: Output) {
        match output {
            Output::Describe { request, .. } => {
                let hashes = Hashes::Unpublished;
                let description = Description { length: self.length, validator: None, ranges: true, hashes };
                self.inputs.push_back(Input::Described { request, description });
            }
            Output::Open { request, source, range, .. } => {
                self.opened.push(range);
                self.open.push((source, request, range));
                let head = Head { range, total: Some(self.length), validator: None };
                self.inputs.push_back(Input::Opened { request, head });
            }
            Output::Cancel { request } => self.open.retain(|(_, open, _)| *open != request),
            Output::Write { generation, offset, bytes } => {
                self.inputs.push_back(Input::Written { generation, offset, len: bytes.len() as u64 });
            }
            Output::Sync { generation } => {
                assert!(self.sync.is_none(), "one sync at a time");
                self.synced.push(self.now);
                self.sync = Some((self.now + self.syncing, generation));
            }
            Output::HashFile { generation } => {
                let digest = Digest::of(&World::content(ByteRange::new(0, self.length)));
                self.inputs.push_back(Input::FileHashed { generation, digest });
            }
            Output::Note(note) => self.notes.push(note),
            Output::Finished(outcome) => self.outcome = Some(outcome),
            Output::Prepare { .. } | Output::Append { .. } | Output::Hash { .. } => {}
        }
    }

    fn run(&mut self, tick: Span) -> Outcome {
        self.settle();
        for _ in 0..1_000_000 {
            if let Some(outcome) = self.outcome.clone() {
                return outcome;
            }
            self.tick(tick);
        }
        panic!("it does not end: {:?}", self.engine.progress());
    }
}

fn config() -> Config {
    Config::new(Boot([1; 16]))
}

const MS: Span = Span::from_millis(1);

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn no_range_is_longer_than_a_segment(length in 1u64..3_000_000, count in 1u32..40, sources in 1usize..5) {
        let mut world = World::new(length, sources, Config { segments: Some(count), ..config() });
        let outcome = world.run(MS);
        prop_assert!(matches!(outcome, Outcome::Complete { .. }), "{:?}", outcome);
        let longest = length.div_ceil(u64::from(count));
        prop_assert!(world.opened.iter().all(|range| range.len() <= longest), "{longest}: {:?}", world.opened);
    }
}

#[test]
fn syncs_are_a_second_apart_however_long_they_take_and_whatever_is_recorded() {
    for syncing in [0, 1, 700, 2_500] {
        let mut world = World::new(64 << 20, 3, config());
        world.syncing = MS * syncing;
        let outcome = world.run(MS * 10);
        assert!(matches!(outcome, Outcome::Complete { .. }), "{outcome:?}");
        let lasted = world.now.since(Time::ZERO).as_secs_f64();
        assert!(lasted > 10.0, "long enough to tell: {lasted} s");
        let apart = |pair: &[Time]| pair[1].since(pair[0]);
        let least = world.synced.windows(2).map(apart).min().unwrap();
        assert!(least >= Span::from_secs(1), "{least} between two syncs");
        let expected = lasted / (1.0 + syncing as f64 / 1000.0);
        assert!(world.synced.len() as f64 >= expected * 0.8, "{} syncs in {lasted} s", world.synced.len());
    }
}

#[test]
fn what_a_check_server_says_decides_where_nothing_else_does() {
    let right = Digest::of(&World::content(ByteRange::new(0, 100_000)));
    let wrong = Digest::of(b"another file");
    let complete = |integrity| Outcome::Complete { integrity };
    let failed = |expected| Outcome::Failed(Failure::Digest { found: right, expected });
    for (user, told, outcome) in [
        (None, Expectation::Nothing, complete(Integrity::Transport)),
        (None, Expectation::Digest(right), complete(Integrity::Whole)),
        (None, Expectation::Digest(wrong), failed(wrong)),
        (Some(right), Expectation::Digest(wrong), complete(Integrity::Whole)),
        (Some(wrong), Expectation::Digest(right), failed(wrong)),
        (Some(right), Expectation::Awaited, complete(Integrity::Whole)),
    ] {
        let mut world = World::new(100_000, 2, Config { expect: user, ..config() });
        world.inputs.push_back(Input::Expect(told));
        assert_eq!(world.run(MS), outcome, "{user:?} {told:?}");
    }
}

#[test]
fn a_hash_that_is_being_computed_is_waited_for_but_not_for_ever() {
    let right = Digest::of(&World::content(ByteRange::new(0, 100_000)));
    for (after, integrity) in [(3_000, Integrity::Whole), (60_000, Integrity::Transport)] {
        let mut world = World::new(100_000, 1, config());
        world.inputs.push_back(Input::Expect(Expectation::Awaited));
        while world.now < Time::ZERO + MS * after && world.outcome.is_none() {
            world.tick(MS);
        }
        assert_eq!(world.outcome.is_none(), integrity == Integrity::Whole);
        world.inputs.push_back(Input::Expect(Expectation::Digest(right)));
        assert_eq!(world.run(MS), Outcome::Complete { integrity });
        assert_eq!(world.notes.contains(&Note::ExpectationMissing), integrity == Integrity::Transport);
    }
}

#[test]
fn a_hash_that_is_taken_back_while_the_file_is_read_holds_up_nothing() {
    let mut world = World::new(100_000, 1, config());
    world.inputs.push_back(Input::Expect(Expectation::Digest(Digest::of(b""))));
    world.inputs.push_back(Input::Expect(Expectation::Nothing));
    assert_eq!(world.run(MS), Outcome::Complete { integrity: Integrity::Transport });
}
