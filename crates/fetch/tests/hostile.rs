//! What sources may do to the engine: anything. It must neither panic, nor ask for what cannot be, nor hoard.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use fetch::{
    Aside, Boot, ByteRange, CloseReason, Config, Description, Digest, Engine, Hashes, Head, Input, Manifest, Note,
    Outcome, Output, RequestId, SourceId, SourceState, Validator,
};
use machine::{Machine, Span, Time};
use proptest::prelude::*;

fn at(millis: u64) -> Time {
    Time::ZERO + Span::from_millis(millis)
}

fn outputs(engine: &mut Engine) -> Vec<Output> {
    std::iter::from_fn(|| engine.poll()).collect()
}

fn description(length: u64, tag: &str) -> Description {
    Description { length, validator: Validator::parse(tag), ranges: true, hashes: Hashes::Unpublished }
}

fn describe(outputs: &[Output]) -> RequestId {
    let asked = |output: &Output| if let Output::Describe { request, .. } = output { Some(*request) } else { None };
    outputs.iter().rev().find_map(asked).expect("it asks")
}

fn open(outputs: &[Output]) -> (RequestId, ByteRange) {
    let opened = |output: &Output| {
        if let Output::Open { request, range, .. } = output { Some((*request, *range)) } else { None }
    };
    outputs.iter().rev().find_map(opened).expect("it opens a range")
}

/// An engine with one described source and its first open range.
fn started(length: u64) -> (Engine, RequestId, ByteRange) {
    let mut engine = Engine::new(Config::new(Boot([1; 16])));
    engine.add_source(at(0));
    let request = describe(&outputs(&mut engine));
    engine.handle(at(10), Input::Described { request, description: description(length, "\"a\"") });
    let (request, range) = open(&outputs(&mut engine));
    (engine, request, range)
}

fn head(range: ByteRange, total: u64, tag: &str) -> Head {
    Head { range, total: Some(total), validator: Validator::parse(tag) }
}

#[test]
fn no_more_is_read_than_the_disk_takes() {
    let (mut engine, mut request, mut range) = started(1 << 30);
    let chunk = Bytes::from(vec![0; 256 << 10]);
    let mut read = 0;
    let mut now = 20;
    'reading: loop {
        engine.handle(at(now), Input::Opened { request, head: head(range, 1 << 30, "\"a\"") });
        let mut left = range.len();
        while left > 0 {
            if !engine.wants_body() {
                break 'reading;
            }
            let len = left.min(chunk.len() as u64);
            engine.handle(at(now), Input::Body { request, bytes: chunk.slice(..len as usize) });
            (left, read, now) = (left - len, read + len, now + 1);
        }
        (request, range) = open(&outputs(&mut engine));
    }
    assert!((16 << 20..=17 << 20).contains(&read), "{read} bytes were read that no disk took");
    assert_eq!(engine.progress().unwritten, read);
}

#[test]
fn a_slow_disk_makes_no_source_look_silent() {
    let (mut engine, mut request, mut range) = started(1 << 30);
    let chunk = Bytes::from(vec![0; 256 << 10]);
    let (mut now, mut writes) = (20, Vec::new());
    'reading: loop {
        engine.handle(at(now), Input::Opened { request, head: head(range, 1 << 30, "\"a\"") });
        for _ in 0..range.len().div_ceil(chunk.len() as u64) {
            if !engine.wants_body() {
                break 'reading;
            }
            engine.handle(at(now), Input::Body { request, bytes: chunk.clone() });
            now += 1;
        }
        let said = outputs(&mut engine);
        (request, range) = open(&said);
        writes.extend(said);
    }
    writes.extend(outputs(&mut engine));
    // The disk is behind for longer than any silence that is allowed, and catches up just before the engine looks.
    now += 12_000;
    for output in writes {
        if let Output::Write { generation, offset, bytes } = output {
            engine.handle(at(now), Input::Written { generation, offset, len: bytes.len() as u64 });
        }
    }
    assert!(engine.wants_body());
    engine.advance(at(now + 1));
    assert_eq!(engine.source(engine.source_id(0).unwrap()).state, SourceState::Alive);
}

#[test]
fn a_file_that_changes_is_begun_again_from_nothing() {
    let (mut engine, request, range) = started(1 << 20);
    engine.handle(at(20), Input::Opened { request, head: head(range, 1 << 20, "\"a\"") });
    engine.handle(at(30), Input::Body { request, bytes: Bytes::from(vec![0; 1000]) });
    engine.handle(at(31), Input::Closed { request, why: CloseReason::Reset });
    let request = describe(&outputs(&mut engine));
    engine.handle(at(40), Input::Described { request, description: description(1 << 20, "\"b\"") });
    // The first answer was not asked for hashes to judge another file by.
    let said = outputs(&mut engine);
    let said = if said.iter().any(|output| matches!(output, Output::Describe { .. })) {
        engine
            .handle(at(50), Input::Described { request: describe(&said), description: description(1 << 20, "\"b\"") });
        outputs(&mut engine)
    } else {
        said
    };
    assert!(said.iter().any(|output| matches!(output, Output::Note(Note::Restarted { lost: 1000 }))), "{said:?}");
    assert!(said.iter().any(|output| matches!(output, Output::Prepare { fresh: true, .. })), "{said:?}");
}

#[test]
fn a_source_that_lies_about_ranges_degrades_to_one_stream() {
    let (mut engine, request, range) = started(4 << 20);
    engine.handle(at(20), Input::Opened { request, head: head(range, 4 << 20, "\"a\"") });
    engine.handle(at(30), Input::Body { request, bytes: Bytes::from(vec![0; range.len() as usize]) });
    let (request, second) = open(&outputs(&mut engine));
    assert!(second.start > 0);
    engine.handle(at(40), Input::Opened { request, head: head(ByteRange::new(0, 4 << 20), 4 << 20, "\"a\"") });
    let said = outputs(&mut engine);
    assert!(said.iter().any(|output| matches!(output, Output::Cancel { request: it } if *it == request)));
    assert_eq!(open(&said).1, ByteRange::new(0, 4 << 20), "everything, from the start");
}

#[test]
fn a_source_that_only_breaks_the_protocol_is_set_apart_and_then_nobody_is_left() {
    let (mut engine, mut request, _) = started(1 << 20);
    let mut now = 20;
    for _ in 0..100 {
        engine.handle(at(now), Input::Opened { request, head: head(ByteRange::new(7, 9), 1 << 20, "\"a\"") });
        let said = loop {
            let said = outputs(&mut engine);
            let busy = said.iter().any(|output| matches!(output, Output::Describe { .. } | Output::Finished(_)));
            if busy {
                break said;
            }
            now += 1;
            engine.advance(at(now));
        };
        if let Some(Output::Finished(outcome)) = said.last() {
            assert!(matches!(outcome, Outcome::Failed(_)));
            let state = engine.source(engine.source_id(0).unwrap()).state;
            assert!(matches!(state, SourceState::SetApart(Aside::Violations { .. })), "{state}");
            return;
        }
        engine
            .handle(at(now), Input::Described { request: describe(&said), description: description(1 << 20, "\"a\"") });
        request = open(&outputs(&mut engine)).0;
    }
    panic!("it is asked for ever");
}

#[derive(Clone, Debug)]
enum Act {
    Describe { length: u64, tag: bool, ranges: bool, hashes: u8 },
    Hashes { length: u64, size: u32, none: bool },
    Open { start: u64, len: u64, total: u64, right: bool },
    Body(usize),
    Close(u8),
    Liveness(usize, bool),
    Disk(bool),
    Wait(u64),
}

#[test]
fn who_refuses_is_asked_again_unless_everybody_refuses() {
    for (other, fails) in
        [(CloseReason::Status(403), true), (CloseReason::Refused, false), (CloseReason::Status(503), false)]
    {
        let mut engine = Engine::new(Config::new(Boot([1; 16])));
        let sources = [engine.add_source(at(0)), engine.add_source(at(0))];
        let mut finished = None;
        let mut asked = [0; 2];
        for millis in (0..30_000).step_by(10) {
            for output in outputs(&mut engine) {
                match output {
                    Output::Describe { request, source, .. } => {
                        asked[source.index()] += 1;
                        let why = if source == sources[0] { CloseReason::Status(404) } else { other };
                        engine.handle(at(millis), Input::Closed { request, why });
                    }
                    Output::Finished(outcome) => finished = Some(outcome),
                    _ => {}
                }
            }
            engine.advance(at(millis));
        }
        assert_eq!(finished.is_some(), fails, "{other}: {finished:?}");
        assert!(fails || asked[0] > 8, "{other}: it was asked {asked:?} times");
    }
}

fn manifest(length: u64, size: u32) -> Arc<Manifest> {
    let hashes = vec![Digest::of(&[]); length.div_ceil(u64::from(size)) as usize];
    Arc::new(Manifest::of_pieces(length, size, hashes, None).expect("a sound cut"))
}

fn act() -> impl Strategy<Value = Act> {
    let length = || prop_oneof![Just(300_000u64), 0..1_000_000u64, any::<u64>()];
    prop_oneof![
        2 => (length(), any::<bool>(), any::<bool>(), 0..3u8)
            .prop_map(|(length, tag, ranges, hashes)| Act::Describe { length, tag, ranges, hashes }),
        1 => (length(), 20_000..60_000u32, any::<bool>())
            .prop_map(|(length, size, none)| Act::Hashes { length, size, none }),
        4 => (length(), length(), length(), prop::bool::weighted(0.97))
            .prop_map(|(start, len, total, right)| Act::Open { start, len, total, right }),
        8 => (1..200_000usize).prop_map(Act::Body),
        1 => any::<u8>().prop_map(Act::Close),
        1 => (0..4usize, any::<bool>()).prop_map(|(source, alive)| Act::Liveness(source, alive)),
        4 => prop::bool::weighted(0.7).prop_map(Act::Disk),
        4 => (0..3000u64).prop_map(Act::Wait),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]
    #[test]
    fn nothing_that_sources_do_makes_it_panic_or_ask_nonsense(acts in prop::collection::vec((act(), any::<usize>()), 0..120)) {
        let mut engine = Engine::new(Config::new(Boot([1; 16])));
        (0..3).for_each(|_| _ = engine.add_source(at(0)));
        let mut probes: Vec<RequestId> = Vec::new();
        let mut awaited: Vec<RequestId> = Vec::new();
        let mut ranges: BTreeMap<RequestId, (SourceId, ByteRange)> = BTreeMap::new();
        let mut disk: Vec<Input> = Vec::new();
        let (mut now, mut length, mut finished) = (0, 0, false);
        for (act, pick) in acts {
            for output in outputs(&mut engine) {
                prop_assert!(!finished, "something follows the end");
                match output {
                    Output::Describe { request, .. } => probes.push(request),
                    Output::Open { request, source, range, .. } => {
                        prop_assert!(!range.is_empty() && range.end <= length, "{:?} of {}", range, length);
                        ranges.insert(request, (source, range));
                    }
                    Output::Cancel { request } => {
                        probes.retain(|open| *open != request);
                        awaited.retain(|open| *open != request);
                        ranges.remove(&request);
                    }
                    Output::Prepare { length: new, .. } => length = new,
                    Output::Write { generation, offset, bytes } => {
                        prop_assert!(offset + bytes.len() as u64 <= length);
                        disk.push(Input::Written { generation, offset, len: bytes.len() as u64 });
                    }
                    Output::Hash { generation, piece, .. } => {
                        disk.push(Input::Hashed { generation, piece, digest: Digest::of(&[]) });
                    }
                    Output::Sync { generation } => disk.push(Input::Synced { generation }),
                    Output::HashFile { generation } => disk.push(Input::FileHashed { generation, digest: Digest::of(&[]) }),
                    Output::Finished(_) => finished = true,
                    Output::Append { .. } | Output::Note(_) => {}
                }
            }
            let range = (!ranges.is_empty()).then(|| ranges.iter().nth(pick % ranges.len().max(1))).flatten();
            let range = range.map(|(request, (_, range))| (*request, *range));
            match act {
                Act::Describe { length, tag, ranges, hashes } if !probes.is_empty() => {
                    let request = probes.swap_remove(pick % probes.len());
                    let hashes = match hashes {
                        0 if length > 0 && length <= 1_000_000 => Hashes::Published(manifest(length, 50_000)),
                        1 => {
                            awaited.push(request);
                            Hashes::Awaited
                        }
                        _ => Hashes::Unpublished,
                    };
                    let validator = Validator::parse(if tag { "\"a\"" } else { "\"b\"" });
                    let description = Description { length, validator, ranges, hashes };
                    engine.handle(at(now), Input::Described { request, description });
                }
                Act::Open { start, len, total, right } => if let Some((request, asked)) = range {
                    let head = if right {
                        Head { range: asked, total: Some(length), validator: None }
                    } else {
                        Head { range: ByteRange::new(start, start.saturating_add(len)), total: Some(total), validator: None }
                    };
                    engine.handle(at(now), Input::Opened { request, head });
                },
                Act::Body(len) => if let Some((request, _)) = range {
                    engine.handle(at(now), Input::Body { request, bytes: Bytes::from(vec![0; len]) });
                },
                Act::Close(why) => if let Some((request, _)) = range {
                    ranges.remove(&request);
                    let why = match why % 5 {
                        0 => CloseReason::Complete,
                        1 => CloseReason::Reset,
                        2 => CloseReason::Status(416),
                        3 => CloseReason::Violation,
                        _ => CloseReason::Refused,
                    };
                    engine.handle(at(now), Input::Closed { request, why });
                },
                Act::Liveness(source, alive) => if let Some(source) = engine.source_id(source) {
                    engine.handle(at(now), Input::Liveness { source, alive });
                },
                Act::Disk(all) => {
                    let done = if all { std::mem::take(&mut disk) } else { disk.pop().into_iter().collect() };
                    done.into_iter().for_each(|input| engine.handle(at(now), input));
                }
                Act::Wait(millis) => {
                    now += millis;
                    engine.advance(at(now));
                }
                Act::Hashes { length: theirs, size, none } if !awaited.is_empty() => {
                    let request = awaited.swap_remove(pick % awaited.len());
                    let of = if size % 2 == 0 { length } else { theirs };
                    let sound = !none && of > 0 && of <= 1_000_000;
                    engine.handle(at(now), Input::Hashes { request, manifest: sound.then(|| manifest(of, size)) });
                }
                Act::Describe { .. } | Act::Hashes { .. } => {}
            }
            let progress = engine.progress();
            prop_assert!(progress.here <= progress.length.unwrap_or(0));
            prop_assert!(progress.recorded <= progress.here);
            prop_assert!(progress.wasted <= progress.received);
        }
    }
}
