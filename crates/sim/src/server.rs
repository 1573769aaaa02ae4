//! A host that serves ranges over stream connections.
//!
//! The model of a stream: a connection costs a round trip, an answer half of one more each way; at most a window is in
//! flight, which starts at ten segments and grows by what is acknowledged (slow start, RFC 6928), to twice what fills the
//! path; connections share the server's link chunk by chunk. Rates count whole frames, so 1448 of 1514 bytes are payload.
//! Ranges follow each other on one connection, answered in the order of the requests (pipelining); an answer that is no
//! longer wanted ends its connection, and those behind it are asked for again on a new one.

use bytes::Bytes;
use fetch::{ByteRange, Description, Digest, Hashes, Head, Manifest, RequestId, Validator};
use machine::{Rate, Seed, Size, Span, Time};
use rand::Rng;
use std::collections::VecDeque;
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
    /// It accepts connections and says nothing on them, as one that is stopped or far too busy.
    Mute,
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
    connections: Vec<Connection>,
    made: u64,
    /// Clients that wait for hashes.
    promised: Vec<(RequestId, u32)>,
    link_free: Time,
    turn: usize,
}

/// A connection that ranges are asked for on.
#[derive(Clone, Debug)]
struct Connection {
    number: u64,
    client_life: u32,
    /// Sent, or on their way to be.
    answers: VecDeque<Answer>,
    window: u64,
    in_flight: u64,
    /// When its handshake is over.
    stands_at: Time,
    idle_since: Time,
}

/// An answer to a request for a range.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) request: RequestId,
    pub(crate) range: ByteRange,
    /// Still to be sent before the body.
    head: Option<Head>,
    content: usize,
    wanted: bool,
}

/// A chunk on its way.
#[derive(Clone, Debug)]
pub(crate) struct Chunk {
    pub(crate) request: RequestId,
    pub(crate) client_life: u32,
    pub(crate) bytes: ByteRange,
    pub(crate) connection: u64,
    /// The head of the answer, if this begins it.
    pub(crate) head: Option<Head>,
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
            connections: Vec::new(),
            made: 0,
            promised: Vec::new(),
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

    /// How long a request takes to reach it: at once on a connection that there is, after a handshake on a new one. And
    /// on which connection it comes: that of the ranges before it.
    pub(crate) fn reach(&mut self, now: Time, client_life: u32) -> (Span, u64) {
        if let Some(open) = self.connections.iter_mut().find(|open| open.client_life == client_life) {
            return (open.stands_at.since(now) + self.round_trip / 2, open.number);
        }
        self.made += 1;
        self.connections.push(Connection {
            number: self.made,
            client_life,
            answers: VecDeque::new(),
            window: FIRST_WINDOW,
            in_flight: 0,
            stands_at: now + self.round_trip,
            idle_since: now,
        });
        (self.round_trip * 3 / 2, self.made)
    }

    /// The handshake of a connection met nobody.
    pub(crate) fn forget_connection(&mut self, number: u64) {
        self.connections.retain(|open| open.number != number);
    }

    /// Puts an answer behind those of its connection; tells whether its head is sent at once, and `None` if the
    /// connection is gone.
    pub(crate) fn begin(&mut self, now: Time, connection: u64, request: RequestId, head: Head) -> Option<bool> {
        let content = self.content;
        let open = self.connection(connection)?;
        let first = open.answers.is_empty();
        if first && now.since(open.idle_since) > WARM {
            open.window = FIRST_WINDOW;
        }
        let (range, head) = (head.range, if first { None } else { Some(head) });
        open.answers.push_back(Answer { request, range, head, content, wanted: true });
        Some(first)
    }

    fn connection(&mut self, number: u64) -> Option<&mut Connection> {
        self.connections.iter_mut().find(|open| open.number == number)
    }

    /// Everything open is gone; whose requests those were.
    pub(crate) fn die(&mut self) -> Vec<(RequestId, u32)> {
        self.life += 1;
        let mut cut = std::mem::take(&mut self.promised);
        for gone in std::mem::take(&mut self.connections) {
            cut.extend(gone.answers.iter().filter(|answer| answer.wanted).map(|a| (a.request, gone.client_life)));
        }
        cut
    }

    /// A request is no longer wanted; which others must be made again because of that, and for what.
    pub(crate) fn cancel(&mut self, request: RequestId, client_life: u32) -> Vec<(RequestId, ByteRange)> {
        self.keep_promise(request, client_life);
        for open in self.connections.iter_mut().filter(|open| open.client_life == client_life) {
            open.answers.iter_mut().filter(|a| a.request == request).for_each(|answer| answer.wanted = false);
        }
        self.end_unwanted()
    }

    /// Ends connections whose next answer nobody wants; which requests must be made again because of that.
    fn end_unwanted(&mut self) -> Vec<(RequestId, ByteRange)> {
        let mut again = Vec::new();
        self.connections.retain(|open| {
            let ends = open.answers.front().is_some_and(|answer| !answer.wanted);
            if ends {
                again.extend(open.answers.iter().filter(|a| a.wanted).map(|answer| (answer.request, answer.range)));
            }
            !ends
        });
        again
    }

    pub(crate) fn forget_client(&mut self) {
        self.connections.clear();
        self.promised.clear();
    }

    /// When it can next send, if it has anything that it may send.
    pub(crate) fn can_send_at(&self, now: Time) -> Option<Time> {
        let ready = self.health == Health::Up
            && self.rate != Rate::default()
            && self.connections.iter().any(Connection::may_send);
        ready.then(|| self.link_free.max(now))
    }

    /// Sends one chunk of the next connection whose turn it is; and which requests must be made again, because an answer
    /// that nobody wants would be next.
    pub(crate) fn send(&mut self, now: Time) -> Option<(Chunk, Vec<(RequestId, ByteRange)>)> {
        let count = self.connections.len();
        let turn = (0..count).map(|n| (self.turn + n) % count).find(|n| self.connections[*n].may_send())?;
        self.turn = turn + 1;
        let most = (self.rate.as_bytes_per_sec() / 500).clamp(SEGMENT, 24 * SEGMENT) / SEGMENT * SEGMENT;
        let open = &mut self.connections[turn];
        let room = open.window.saturating_sub(open.in_flight);
        let answer = open.answers.front_mut().expect("it may send");
        let len = answer.range.len().min(most).min(room);
        let bytes = ByteRange::new(answer.range.start, answer.range.start + len);
        answer.range = ByteRange::new(bytes.end, answer.range.end);
        open.in_flight += len;
        let (request, content, last) = (answer.request, answer.content, answer.range.is_empty());
        let (client_life, connection, head) = (open.client_life, open.number, answer.head.take());
        let frames = len + len.div_ceil(SEGMENT) * (FRAME - SEGMENT);
        let sent = now + self.rate.time_for(Size::from_bytes(frames));
        self.link_free = sent;
        if last {
            open.answers.pop_front();
            open.idle_since = sent;
        }
        let arrives = sent + self.round_trip / 2;
        let chunk = Chunk { request, client_life, connection, head, bytes, content, arrives, last };
        Some((chunk, if last { self.end_unwanted() } else { Vec::new() }))
    }

    /// What was in flight has arrived: the window opens.
    pub(crate) fn acknowledged(&mut self, connection: u64, len: u64) {
        let full = (self.rate.size_in(self.round_trip).as_bytes() * 2).max(8 * FIRST_WINDOW);
        if let Some(open) = self.connection(connection) {
            open.in_flight = open.in_flight.saturating_sub(len);
            open.window = (open.window + len).min(full);
        }
    }
}

impl Connection {
    fn may_send(&self) -> bool {
        let room = self.window.saturating_sub(self.in_flight);
        self.answers.front().is_some_and(|next| !next.range.is_empty() && room >= SEGMENT.min(next.range.len()))
    }
}
