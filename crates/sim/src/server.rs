//! A host that serves ranges over stream connections.
//!
//! The model of a stream: a connection costs a round trip, an answer half of one more each way; at most a window is in
//! flight, which starts at ten segments and grows by what is acknowledged (slow start, RFC 6928), to twice what fills the
//! path; connections share the server's link chunk by chunk. Rates count whole frames, so 1448 of 1514 bytes are payload.

use bytes::Bytes;
use fetch::{ByteRange, Description, Digest, Hashes, Manifest, RequestId, Validator};
use machine::{Rate, Seed, Size, Span, Time};
use rand::Rng;
use std::sync::Arc;

/// Payload bytes of a full frame, and the frame's.
const SEGMENT: u64 = 1448;
const FRAME: u64 = 1514;
/// The first window in bytes.
const FIRST_WINDOW: u64 = 10 * SEGMENT;
/// A connection that was idle for longer starts slowly again.
const WARM: Span = Span::from_millis(200);

/// A version of the file: its bytes, and what servers publish about it.
#[derive(Clone, Debug)]
pub struct Content {
    /// All of it.
    pub bytes: Bytes,
    /// Its entity tag, if its servers give one.
    pub validator: Option<Validator>,
    /// Its hashes, if its servers publish them.
    pub manifest: Option<Arc<Manifest>>,
}

impl Content {
    /// `length` bytes from a seed, with a tag, and hashes of pieces of `piece_size`.
    pub fn random(seed: u64, length: usize, piece_size: u32) -> Self {
        let mut bytes = vec![0; length];
        Seed::new(seed).derive("content").stream().fill_bytes(&mut bytes);
        let hashes = bytes.chunks(piece_size as usize).map(Digest::of).collect();
        let manifest = Manifest::of_pieces(length as u64, piece_size, hashes, None).expect("a sound cut");
        Content {
            bytes: bytes.into(),
            validator: Validator::parse(&format!("\"{seed:x}\"")),
            manifest: Some(Arc::new(manifest)),
        }
    }

    /// The same, published without hashes.
    pub fn without_hashes(mut self) -> Self {
        self.manifest = None;
        self
    }

    /// The hash of the whole.
    pub fn digest(&self) -> Digest {
        Digest::of(&self.bytes)
    }
}

/// Whether and how a server answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    /// It serves.
    Up,
    /// The process is dead: connections are refused.
    Killed,
    /// The machine is dead: nothing comes back.
    Crashed,
    /// It accepts and answers questions, but sends no body.
    Stalled,
    /// It answers with status 503.
    Busy,
}

/// A server, its link, and its open answers.
#[derive(Clone, Debug)]
pub struct Server {
    /// Which version of the file it has.
    pub content: usize,
    /// Of its link, in frames.
    pub rate: Rate,
    /// There and back.
    pub round_trip: Span,
    /// Whether it serves ranges.
    pub ranges: bool,
    /// One in this many chunks has a flipped bit; never if zero.
    pub corrupt_every: u32,
    /// Whether it keeps the hashes of its file to itself.
    pub hashless: bool,
    /// Until when it computes hashes; those who ask wait. For ever if [`Time::MAX`].
    pub hashes_at: Time,
    /// How it is now.
    pub health: Health,
    /// Counts its lives: what was opened in another is dead.
    pub(crate) life: u32,
    /// Lives before this one ended with the links cut: nothing of them arrives any more.
    pub(crate) cut_before: u32,
    pub(crate) answers: Vec<Answer>,
    /// Clients that wait for hashes.
    promised: Vec<(RequestId, u32)>,
    warm: Vec<(Time, u64)>,
    link_free: Time,
    turn: usize,
}

/// An answer being sent.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) request: RequestId,
    pub(crate) client_life: u32,
    pub(crate) range: ByteRange,
    content: usize,
    window: u64,
    in_flight: u64,
}

/// A chunk on its way.
#[derive(Clone, Debug)]
pub(crate) struct Chunk {
    pub(crate) request: RequestId,
    pub(crate) client_life: u32,
    pub(crate) bytes: ByteRange,
    pub(crate) content: usize,
    pub(crate) arrives: Time,
    pub(crate) last: bool,
}

impl Server {
    /// A sound server of version `content`, up.
    pub fn new(content: usize, rate: Rate, round_trip: Span) -> Self {
        Server {
            content,
            rate,
            round_trip,
            ranges: true,
            corrupt_every: 0,
            hashless: false,
            hashes_at: Time::ZERO,
            health: Health::Up,
            life: 0,
            cut_before: 0,
            answers: Vec::new(),
            promised: Vec::new(),
            warm: Vec::new(),
            link_free: Time::ZERO,
            turn: 0,
        }
    }

    /// What it says about its file, to one that asks for hashes too or not.
    pub(crate) fn description(&self, contents: &[Content], manifest: bool) -> Description {
        let content = &contents[self.content];
        let publishes = manifest && self.manifest(contents).is_some();
        Description {
            length: content.bytes.len() as u64,
            validator: content.validator.clone(),
            ranges: self.ranges,
            hashes: if publishes { Hashes::Awaited } else { Hashes::Unpublished },
        }
    }

    /// The hashes that it publishes.
    pub(crate) fn manifest(&self, contents: &[Content]) -> Option<Arc<Manifest>> {
        contents[self.content].manifest.clone().filter(|_| !self.hashless)
    }

    /// A client will get the hashes when they are computed; tells when, if ever.
    pub(crate) fn promise(&mut self, now: Time, request: RequestId, client_life: u32) -> Option<Time> {
        self.promised.push((request, client_life));
        // They are asked for by a second request on the same connection.
        (self.hashes_at < Time::MAX).then(|| self.hashes_at.max(now + self.round_trip))
    }

    /// Whether a client waits for hashes, which it gets now.
    pub(crate) fn keep_promise(&mut self, request: RequestId, client_life: u32) -> bool {
        let before = self.promised.len();
        self.promised.retain(|waiting| *waiting != (request, client_life));
        self.promised.len() < before
    }

    /// Whether this request will get hashes if nothing befalls the server.
    pub(crate) fn owes_hashes(&self, request: RequestId, client_life: u32) -> bool {
        self.promised.contains(&(request, client_life)) && self.hashes_at < Time::MAX
    }

    /// How long a request takes to reach it: at once on a warm connection, after a handshake on a new one. And the
    /// window that the answer starts with.
    pub(crate) fn reach(&mut self, now: Time) -> (Span, u64) {
        match self.warm.pop() {
            Some((idle_since, window)) => {
                (self.round_trip / 2, if now.since(idle_since) < WARM { window } else { FIRST_WINDOW })
            }
            None => (self.round_trip * 3 / 2, FIRST_WINDOW),
        }
    }

    /// A connection is free again.
    pub(crate) fn keep_warm(&mut self, now: Time, window: u64) {
        if self.warm.len() < 2 {
            self.warm.push((now, window.max(FIRST_WINDOW)));
        }
    }

    pub(crate) fn begin(&mut self, request: RequestId, client_life: u32, range: ByteRange, window: u64) {
        self.answers.push(Answer { request, client_life, range, content: self.content, window, in_flight: 0 });
    }

    /// Everything open is gone; whose requests those were.
    pub(crate) fn die(&mut self) -> Vec<(RequestId, u32)> {
        self.life += 1;
        self.warm.clear();
        let answers = std::mem::take(&mut self.answers);
        let cut = answers.into_iter().map(|answer| (answer.request, answer.client_life));
        cut.chain(std::mem::take(&mut self.promised)).collect()
    }

    pub(crate) fn cancel(&mut self, request: RequestId, client_life: u32) {
        self.answers.retain(|answer| (answer.request, answer.client_life) != (request, client_life));
        self.keep_promise(request, client_life);
    }

    pub(crate) fn forget_client(&mut self) {
        self.answers.clear();
        self.promised.clear();
        self.warm.clear();
    }

    /// When it can next send, if it has anything that it may send.
    pub(crate) fn can_send_at(&self, now: Time) -> Option<Time> {
        let ready =
            self.health == Health::Up && self.rate != Rate::default() && self.answers.iter().any(Answer::may_send);
        ready.then(|| self.link_free.max(now))
    }

    /// Sends one chunk of the next answer whose turn it is.
    pub(crate) fn send(&mut self, now: Time) -> Option<Chunk> {
        let count = self.answers.len();
        let turn = (0..count).map(|n| (self.turn + n) % count).find(|n| self.answers[*n].may_send())?;
        self.turn = turn + 1;
        let most = (self.rate.as_bytes_per_sec() / 500).clamp(SEGMENT, 24 * SEGMENT) / SEGMENT * SEGMENT;
        let answer = &mut self.answers[turn];
        let len = answer.range.len().min(most).min(answer.window.saturating_sub(answer.in_flight));
        let bytes = ByteRange::new(answer.range.start, answer.range.start + len);
        answer.range = ByteRange::new(bytes.end, answer.range.end);
        answer.in_flight += len;
        let frames = len + len.div_ceil(SEGMENT) * (FRAME - SEGMENT);
        let sent = now + self.rate.time_for(Size::from_bytes(frames));
        self.link_free = sent;
        let last = answer.range.is_empty();
        let (request, client_life, content, window) =
            (answer.request, answer.client_life, answer.content, answer.window);
        if last {
            self.answers.remove(turn);
            self.keep_warm(sent, window);
        }
        Some(Chunk { request, client_life, bytes, content, arrives: sent + self.round_trip / 2, last })
    }

    /// What was in flight has arrived: the window opens.
    pub(crate) fn acknowledged(&mut self, request: RequestId, client_life: u32, len: u64) {
        let full = (self.rate.size_in(self.round_trip).as_bytes() * 2).max(8 * FIRST_WINDOW);
        let of_it = |answer: &&mut Answer| (answer.request, answer.client_life) == (request, client_life);
        if let Some(answer) = self.answers.iter_mut().find(of_it) {
            answer.in_flight = answer.in_flight.saturating_sub(len);
            answer.window = (answer.window + len).min(full);
        }
    }
}

impl Answer {
    fn may_send(&self) -> bool {
        let room = self.window.saturating_sub(self.in_flight);
        !self.range.is_empty() && room >= SEGMENT.min(self.range.len())
    }
}
