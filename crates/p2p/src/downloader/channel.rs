//! One connection to a peer: ranges become requests for blocks, answers become bytes of those ranges.

use std::collections::VecDeque;
use std::net::SocketAddr;

use bytes::Bytes;
use fetch::{ByteRange, Head, Input, RequestId, SourceId};
use machine::Time;

use crate::layout::{Layout, Span};
use crate::peer_text::{AnswerError, Answers, Heard, Part, Request};

/// A channel without a byte for so many times what is usual is taken for slow.
const LATE: f64 = 2.0;

/// Bytes of a delivery, where none came to tell.
const DELIVERY_GUESS: f64 = 1000.0;

/// A connection, from its making to its end.
#[derive(Debug)]
pub(super) struct Channel {
    pub(super) peer: SocketAddr,
    /// When it was begun to be made.
    pub(super) begun: Time,
    /// What it is to the engine, once it stands.
    pub(super) source: Option<SourceId>,
    /// Whether the engine was told of its file.
    pub(super) is_described: bool,
    pub(super) pace: Pace,
    /// Bytes of answers so far.
    pub(super) received: u64,
    answers: Answers,
    /// Blocks that were asked for, in the order in which they are answered.
    asked: VecDeque<Asked>,
}

/// One request on its way.
#[derive(Debug)]
struct Asked {
    /// As the engine knows it; `None` if it does not want it any more.
    request: Option<RequestId>,
    /// The range that it is part of, if it is the first of it.
    begins: Option<ByteRange>,
    block: Span,
    /// What is wanted of the block.
    part: ByteRange,
    /// Bytes of the block that came.
    came: u64,
}

impl Channel {
    pub(super) fn new(now: Time, peer: SocketAddr) -> Channel {
        Channel {
            peer,
            begun: now,
            source: None,
            is_described: false,
            pace: Pace::default(),
            received: 0,
            answers: Answers::default(),
            asked: VecDeque::new(),
        }
    }

    /// Seconds for each byte at least, from what did not come; `latency` is what it usually takes until something comes.
    pub(super) fn at_least(&self, now: Time, latency: f64) -> f64 {
        self.pace.at_least(now).unwrap_or_else(|| {
            let waits = now.since(self.begun).as_secs_f64();
            if waits > latency * LATE { (waits - latency) / DELIVERY_GUESS } else { 0.0 }
        })
    }

    /// The lines that ask for `range`, in whole blocks.
    pub(super) fn ask(&mut self, file: &str, layout: Layout, request: RequestId, range: ByteRange) -> Bytes {
        let mut lines = String::new();
        for number in range.start / layout.block_size()..range.end.div_ceil(layout.block_size()) {
            let Some(block) = layout.block(number) else { break };
            let part = ByteRange::new(block.offset, block.offset + block.length).intersect(range);
            let begins = (part.start == range.start).then_some(range);
            self.asked.push_back(Asked { request: Some(request), begins, block, part, came: 0 });
            let line = Request { file: file.to_owned(), part: Part::Block(number), head_only: false };
            lines.push_str(&line.to_string());
            lines.push('\n');
        }
        lines.into()
    }

    /// The engine does not want the rest of a request.
    pub(super) fn cancel(&mut self, request: RequestId) {
        for asked in &mut self.asked {
            if asked.request == Some(request) {
                asked.request = None;
            }
        }
    }

    /// Bytes that will come before, or among, those that are wanted, and are not.
    pub(super) fn unwanted(&self) -> u64 {
        let unwanted = self.asked.iter().filter(|asked| asked.request.is_none());
        unwanted.map(|asked| asked.block.length - asked.came).sum()
    }

    /// Bytes of the block under way, which would come again if the channel ended now.
    pub(super) fn begun_block(&self) -> u64 {
        self.asked.front().map_or(0, |asked| asked.came)
    }

    /// Takes bytes as they came, and tells the engine of them.
    ///
    /// # Errors
    /// When the peer says what it may not say: nothing it says is of use then.
    pub(super) fn feed(&mut self, now: Time, bytes: &Bytes, mut tell: impl FnMut(Input)) -> Result<(), String> {
        let (mut fault, mut came) = (None, 0);
        let pace = &mut self.pace;
        let asked = &mut self.asked;
        let outcome = self.answers.feed(bytes, false, |heard| {
            if fault.is_some() {
                return;
            }
            match heard {
                Heard::Head(span) => match asked.front() {
                    Some(front) if front.block == span => {
                        pace.answer_begins();
                        if let (Some(request), Some(range)) = (front.request, front.begins) {
                            let head = Head { range, total: None, validator: None };
                            tell(Input::Opened { request, head });
                        }
                    }
                    Some(front) => fault = Some(wrong(front.block, span)),
                    None => fault = Some("it answers what nobody asked".to_owned()),
                },
                Heard::Body(body) => {
                    came += body.len() as u64;
                    let Some(front) = asked.front_mut() else { return };
                    let at = front.block.offset + front.came;
                    front.came += body.len() as u64;
                    let wanted = ByteRange::new(at, at + body.len() as u64).intersect(front.part);
                    if let Some(request) = front.request.filter(|_| !wanted.is_empty()) {
                        let (from, to) = ((wanted.start - at) as usize, (wanted.end - at) as usize);
                        tell(Input::Body { request, bytes: bytes.slice_ref(&body[from..to]) });
                    }
                }
                Heard::End => {
                    asked.pop_front();
                }
            }
        });
        if came > 0 {
            self.received += came;
            self.pace.count(now, came);
        }
        match (fault, outcome) {
            (Some(fault), _) => Err(fault),
            (None, Err(error @ (AnswerError::Refused(_) | AnswerError::TooLong | AnswerError::Malformed(_)))) => {
                Err(error.to_string())
            }
            (None, Ok(())) => Ok(()),
        }
    }
}

fn wrong(asked: Span, told: Span) -> String {
    format!(
        "asked for {} bytes from {}, it answers {} bytes from {}",
        asked.length, asked.offset, told.length, told.offset
    )
}

/// How fast bytes come on a channel: what leaves at an instant is followed by the time that it takes.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Pace {
    first: Option<Time>,
    /// When the last delivery began, and what came with it.
    last: Time,
    in_last: u64,
    /// What came before it.
    before: u64,
    /// Of that, what was followed by more of the same answer, and the time until then: before an answer a peer may wait for
    /// other reasons than its pace.
    within: u64,
    took: machine::Span,
    begins: bool,
}

/// What comes within this time is one delivery: a read may find the first part of one.
const DELIVERY: machine::Span = machine::Span::from_millis(2);

impl Pace {
    /// What comes next is the beginning of an answer.
    fn answer_begins(&mut self) {
        self.begins = true;
    }

    fn count(&mut self, now: Time, bytes: u64) {
        let begins = std::mem::take(&mut self.begins);
        if self.first.is_none() {
            (self.first, self.last) = (Some(now), now);
        }
        if now.since(self.last) >= DELIVERY {
            let delivered = std::mem::take(&mut self.in_last);
            self.before += delivered;
            if !begins {
                self.within += delivered;
                self.took += now.since(self.last);
            }
            self.last = now;
        }
        self.in_last += bytes;
    }

    /// When bytes came first.
    pub(super) fn first(&self) -> Option<Time> {
        self.first
    }

    /// Seconds for each byte, once two deliveries came.
    pub(super) fn measured(&self) -> Option<f64> {
        let first = self.first.filter(|_| self.before > 0)?;
        Some(match self.within {
            0 => self.last.since(first).as_secs_f64() / self.before as f64,
            within => self.took.as_secs_f64() / within as f64,
        })
    }

    /// Seconds for each byte at least, from the silence since the first.
    pub(super) fn at_least(&self, now: Time) -> Option<f64> {
        let so_far = self.before + self.in_last;
        self.first.map(|first| now.since(first).as_secs_f64() / so_far.max(1) as f64)
    }
}

#[cfg(test)]
mod tests {
    use fetch::{Boot, Config, Engine};
    use machine::Machine;

    use super::*;
    use crate::peer_text::head;

    const LAYOUT: Layout = Layout::published(25_000);

    /// Requests are the engine's to name: as many as ranges are wanted.
    fn requests() -> Vec<RequestId> {
        let blocks = Some(fetch::Blocks { size: 10_000, sources: 3 });
        let mut engine = Engine::new(Config { blocks, ..Config::new(Boot([0; 16])) });
        (0..3).for_each(|_| _ = engine.add_source(Time::ZERO));
        let named = std::iter::from_fn(|| engine.poll()).filter_map(|output| match output {
            fetch::Output::Describe { request, .. } => Some(request),
            _ => None,
        });
        named.collect()
    }

    fn channel() -> Channel {
        Channel::new(Time::ZERO, ([10, 0, 0, 1], 1).into())
    }

    fn answer(offset: u64, length: u64) -> Vec<u8> {
        let mut text = head(Span { offset, length }).into_bytes();
        text.extend((offset..offset + length).map(|at| at as u8));
        text
    }

    /// What the engine hears, bodies put together, however the bytes come.
    fn heard(channel: &mut Channel, bytes: &[u8], step: usize) -> Result<Vec<(RequestId, Vec<u8>)>, String> {
        let mut told: Vec<(RequestId, Vec<u8>)> = Vec::new();
        for piece in bytes.chunks(step) {
            channel.feed(Time::ZERO, &Bytes::copy_from_slice(piece), |input| match input {
                Input::Opened { request, head } => {
                    assert!(told.iter().all(|(other, _)| *other != request), "a range begins once");
                    assert!(!head.range.is_empty());
                    told.push((request, Vec::new()));
                }
                Input::Body { request, bytes } => {
                    let (last, body) = told.last_mut().expect("a head comes first");
                    assert_eq!(*last, request);
                    body.extend_from_slice(&bytes);
                }
                other => panic!("{other:?}"),
            })?;
        }
        Ok(told)
    }

    fn bytes_of(range: std::ops::Range<u64>) -> Vec<u8> {
        range.map(|at| at as u8).collect()
    }

    #[test]
    fn ranges_become_blocks_and_answers_what_was_wanted_of_them() {
        let requests = requests();
        let stream = [answer(0, 10_000), answer(10_000, 10_000), answer(20_000, 5_000)].concat();
        for step in [1, 7, 1000, 9_999, 100_000] {
            let mut channel = channel();
            let lines = channel.ask("f", LAYOUT, requests[0], ByteRange::new(4_000, 20_000));
            assert_eq!(lines, "GET f:0\nGET f:1\n");
            assert_eq!(channel.ask("f", LAYOUT, requests[1], ByteRange::new(20_000, 25_000)), "GET f:2\n");
            let told = heard(&mut channel, &stream, step).expect("as asked");
            assert_eq!(told, [(requests[0], bytes_of(4_000..20_000)), (requests[1], bytes_of(20_000..25_000))]);
            assert_eq!(channel.received, 25_000);
        }
    }

    #[test]
    fn what_was_given_up_is_passed_over() {
        let requests = requests();
        let mut channel = channel();
        channel.ask("f", LAYOUT, requests[0], ByteRange::new(0, 10_000));
        channel.ask("f", LAYOUT, requests[1], ByteRange::new(10_000, 20_000));
        heard(&mut channel, &answer(0, 10_000)[..3_000], 3_000).expect("as asked");
        channel.cancel(requests[0]);
        assert_eq!(channel.unwanted(), 10_000 - channel.begun_block());
        let rest = [&answer(0, 10_000)[3_000..], &answer(10_000, 10_000)[..]].concat();
        assert_eq!(heard(&mut channel, &rest, 500).expect("as asked"), [(requests[1], bytes_of(10_000..20_000))]);
    }

    #[test]
    fn a_peer_that_answers_something_else_is_told_of() {
        let requests = requests();
        for (said, why) in [
            (answer(10_000, 10_000), "asked for 10000 bytes from 0, it answers 10000 bytes from 10000"),
            (answer(0, 9_999), "asked for 10000 bytes from 0, it answers 9999 bytes from 0"),
            (b"400 BAD_FORMAT: GET f:0\n".to_vec(), "the peer refused the request: 400 BAD_FORMAT: GET f:0 "),
            ([answer(0, 10_000), answer(0, 10_000)].concat(), "it answers what nobody asked"),
        ] {
            let mut channel = channel();
            channel.ask("f", LAYOUT, requests[0], ByteRange::new(0, 10_000));
            assert_eq!(heard(&mut channel, &said, 4_000).expect_err("it lies"), why);
        }
    }

    #[test]
    fn a_pace_is_known_from_the_second_delivery_on() {
        let at = |millis| Time::ZERO + machine::Span::from_millis(millis);
        // In nanoseconds for each byte.
        let measured = |pace: &Pace| pace.measured().map(|seconds| (seconds * 1e9).round());
        let mut pace = Pace::default();
        assert_eq!((measured(&pace), pace.at_least(at(0))), (None, None));
        pace.answer_begins();
        pace.count(at(1000), 1000);
        assert_eq!((measured(&pace), pace.at_least(at(1100))), (None, Some(1e-4)));
        pace.count(at(1050), 1000);
        assert_eq!(measured(&pace), Some(50_000.0));
        // A part of a delivery, and a moment later the rest.
        pace.count(at(1100), 400);
        pace.count(at(1101), 600);
        assert_eq!(measured(&pace), Some(50_000.0));
        // It waited for the next request.
        pace.answer_begins();
        pace.count(at(3000), 1000);
        pace.count(at(3050), 1000);
        assert_eq!(measured(&pace), Some(50_000.0));
    }
}
