//! One connection to a peer: ranges become requests for blocks, answers become bytes of those ranges.

use std::collections::VecDeque;
use std::net::SocketAddr;

use bytes::Bytes;
use fetch::{ByteRange, Head, Input, RequestId, SourceId};
use machine::Time;

use crate::layout::{Layout, Span};
use crate::peer_text::{AnswerError, Answers, Heard, Part, Request};

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
        let asked = &mut self.asked;
        let outcome = self.answers.feed(bytes, false, |heard| {
            if fault.is_some() {
                return;
            }
            match heard {
                Heard::Head(span) => match asked.front() {
                    Some(front) if front.block == span => {
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

/// How fast bytes come on a channel.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Pace {
    first: Option<Time>,
    last: Time,
    /// Bytes that came at the first instant, and after it.
    at_first: u64,
    after: u64,
}

impl Pace {
    fn count(&mut self, now: Time, bytes: u64) {
        match self.first {
            None => (self.first, self.at_first) = (Some(now), bytes),
            Some(first) if first == now => self.at_first += bytes,
            Some(_) => self.after += bytes,
        }
        self.last = now;
    }

    /// When bytes came first.
    pub(super) fn first(&self) -> Option<Time> {
        self.first
    }

    /// Seconds for each byte, once two deliveries came: what came with the first took no time of its own.
    pub(super) fn measured(&self, now: Time) -> Option<f64> {
        let first = self.first.filter(|_| self.after > 0)?;
        let steady = self.last.since(first).as_secs_f64() / self.after as f64;
        // A silence that is longer than usual makes it slower, one that is no longer does not.
        let silent = now.since(self.last).as_secs_f64() / self.at_first.max(1) as f64;
        Some(if silent > 3.0 * steady { silent } else { steady })
    }

    /// Seconds for each byte at least, from the silence since the first.
    pub(super) fn at_least(&self, now: Time) -> Option<f64> {
        self.first.map(|first| now.since(first).as_secs_f64() / self.at_first.max(1) as f64)
    }
}
