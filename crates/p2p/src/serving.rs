//! One connection of a peer: requests in, and the moments at which bytes leave.
//!
//! The model of the published peer, which bounds what a client can get: each request waits for a while from its arrival, so
//! requests that follow each other without waiting spend that time together; then a fixed number of bytes leaves at each event,
//! at the connection's pace, answer after answer.

use std::collections::VecDeque;

use machine::{Machine, Seed, Span as Duration, Stream, Time};

use crate::layout::{Layout, Span};
use crate::peer_text::{Lines, Part, Request, TooLong, head, refusal};
use crate::ports::any_block;

/// How a peer serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Knobs {
    /// From a request's arrival until the first byte of its answer may leave; the published one is 1 s.
    pub pre_delay: Duration,
    /// Bytes of a file that leave at each event; the published one is 1000.
    pub bytes_per_event: u64,
    /// Between two events.
    pub pace: Duration,
    /// A connection on which nothing is asked and nothing leaves for so long ends; the published one is a minute.
    pub idle: Duration,
}

/// Requests that wait on a connection at most. A client that asks for more is not read until some are answered.
pub const MOST_WAITING: usize = 1024;

/// What the driver of a connection does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Write these bytes.
    Text(String),
    /// Write these bytes of the file.
    Body(Span),
    /// Close, once all that was to be written is.
    Close(Ending),
}

/// Why a connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// Nothing was asked for a while.
    Idle,
    /// Something else than a request came.
    BadRequest,
}

/// Why the connection wants to be woken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// Bytes may leave.
    Event,
    /// It has been idle for long enough.
    Idle,
}

/// Serves one file on one connection.
#[derive(Debug)]
pub struct Connection {
    file: String,
    layout: Layout,
    knobs: Knobs,
    lines: Lines,
    /// Answers that are owed, each with the time from which it may leave.
    waiting: VecDeque<(Time, Answer)>,
    /// When bytes may leave next.
    next_event: Time,
    /// What is due by then leaves when it is asked for: a client that takes nothing fills no memory.
    clock: Time,
    last_use: Time,
    outputs: VecDeque<Output>,
    is_over: bool,
    draws: Stream,
}

#[derive(Debug)]
enum Answer {
    /// Its head has not left.
    Whole {
        body: Span,
        head_only: bool,
    },
    /// It has, and these bytes have not.
    Rest(Span),
    Refusal(String),
}

impl Connection {
    /// A connection that was just accepted.
    pub fn new(now: Time, file: String, layout: Layout, knobs: Knobs, seed: Seed) -> Connection {
        Connection {
            file,
            layout,
            knobs,
            lines: Lines::default(),
            waiting: VecDeque::new(),
            next_event: now,
            clock: now,
            last_use: now,
            outputs: VecDeque::new(),
            is_over: false,
            draws: seed.stream(),
        }
    }

    /// Whether more of what the client sends should be read.
    pub fn wants_input(&self) -> bool {
        !self.is_over && self.waiting.len() < MOST_WAITING && !self.refuses()
    }

    /// After what is no request nothing is read.
    fn refuses(&self) -> bool {
        matches!(self.waiting.back(), Some((_, Answer::Refusal(_))))
    }

    fn take(&mut self, now: Time, line: &[u8]) {
        if self.refuses() {
            return;
        }
        let asked = Request::parse(line).filter(|request| request.file == self.file);
        let body = asked.as_ref().and_then(|request| match request.part {
            Part::Whole => Some(self.layout.whole()),
            Part::Block(number) => self.layout.block(number),
            Part::Any => self.layout.block(any_block(self.layout.blocks(), &mut self.draws)),
        });
        let answer = match (asked, body) {
            (Some(request), Some(body)) => Answer::Whole { body, head_only: request.head_only },
            _ => Answer::Refusal(refusal(line)),
        };
        // Who sends nonsense need not wait for being told.
        let from = if matches!(answer, Answer::Refusal(_)) { now } else { now + self.knobs.pre_delay };
        self.waiting.push_back((from, answer));
    }

    /// When the next bytes may leave.
    fn due(&self) -> Option<Time> {
        let (from, _) = self.waiting.front()?;
        Some((*from).max(self.next_event))
    }

    /// What leaves at one event.
    fn emit(&mut self, at: Time) {
        let Some((from, answer)) = self.waiting.pop_front() else { return };
        // Not when it might have left: a client that took nothing for a while is at it again.
        self.last_use = self.clock;
        let rest = match answer {
            Answer::Refusal(text) => {
                self.outputs.extend([Output::Text(text), Output::Close(Ending::BadRequest)]);
                self.is_over = true;
                return;
            }
            Answer::Whole { body, head_only } => {
                self.outputs.push_back(Output::Text(head(body)));
                if head_only { Span { offset: body.offset, length: 0 } } else { body }
            }
            Answer::Rest(rest) => rest,
        };
        let length = rest.length.min(self.knobs.bytes_per_event.max(1));
        if length > 0 {
            self.outputs.push_back(Output::Body(Span { offset: rest.offset, length }));
            self.next_event = at + self.knobs.pace;
        }
        if length < rest.length {
            let rest = Span { offset: rest.offset + length, length: rest.length - length };
            self.waiting.push_front((from, Answer::Rest(rest)));
        }
    }
}

impl Machine for Connection {
    /// Bytes as they came.
    type Input = Vec<u8>;
    type Output = Output;
    type Why = Why;

    fn handle(&mut self, now: Time, input: Vec<u8>) {
        if self.is_over {
            return;
        }
        self.last_use = now;
        let mut asked: Vec<Vec<u8>> = Vec::new();
        let outcome = self.lines.feed(&input, |line| asked.push(line.to_vec()));
        for line in asked {
            self.take(now, &line);
        }
        if let Err(TooLong(beginning)) = outcome
            && !self.refuses()
        {
            self.waiting.push_back((now, Answer::Refusal(refusal(&beginning))));
        }
        self.advance(now);
    }

    fn advance(&mut self, now: Time) {
        self.clock = now;
        let is_idle = self.waiting.is_empty() && now.since(self.last_use) >= self.knobs.idle;
        if is_idle && !self.is_over {
            self.is_over = true;
            self.outputs.push_back(Output::Close(Ending::Idle));
        }
    }

    fn poll(&mut self) -> Option<Output> {
        loop {
            if let Some(output) = self.outputs.pop_front() {
                return Some(output);
            }
            let due = self.due().filter(|due| *due <= self.clock && !self.is_over)?;
            self.emit(due);
        }
    }

    fn deadline(&self) -> Option<(Time, Why)> {
        if self.is_over {
            return None;
        }
        let idle = (self.last_use + self.knobs.idle, Why::Idle);
        Some(self.due().map_or(idle, |due| (due, Why::Event)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KNOBS: Knobs = Knobs {
        pre_delay: Duration::from_secs(1),
        bytes_per_event: 1000,
        pace: Duration::from_millis(10),
        idle: Duration::from_secs(60),
    };

    fn connection() -> Connection {
        Connection::new(Time::ZERO, "f".into(), Layout::published(25_000), KNOBS, Seed::new(1))
    }

    fn at(millis: u64) -> Time {
        Time::ZERO + Duration::from_millis(millis)
    }

    /// Everything that leaves until the connection waits for its client or for its end by idleness, with when.
    fn drive(connection: &mut Connection) -> Vec<(Time, Output)> {
        let mut told = Vec::new();
        let mut now = Time::ZERO;
        loop {
            while let Some(output) = connection.poll() {
                told.push((now, output));
            }
            match connection.deadline() {
                Some((due, Why::Event)) => {
                    now = due;
                    connection.advance(now);
                }
                _ => return told,
            }
        }
    }

    fn span(offset: u64, length: u64) -> Span {
        Span { offset, length }
    }

    #[test]
    fn a_block_waits_a_second_and_leaves_a_thousand_bytes_at_a_time() {
        let mut connection = connection();
        connection.handle(Time::ZERO, b"GET f:2\n".to_vec());
        let told = drive(&mut connection);
        assert_eq!(told[0], (at(1000), Output::Text(head(span(20_000, 5_000)))));
        let bodies: Vec<_> =
            (0..5).map(|nth| (at(1000 + 10 * nth), Output::Body(span(20_000 + 1000 * nth, 1000)))).collect();
        assert_eq!(told[1..], bodies);
    }

    #[test]
    fn requests_behind_each_other_wait_together_and_leave_one_after_the_other() {
        let mut connection = connection();
        connection.handle(Time::ZERO, b"GET f:0\nGETHDR f:1\r\nGET f:1\n".to_vec());
        let told = drive(&mut connection);
        let heads: Vec<Time> =
            told.iter().filter(|(_, output)| matches!(output, Output::Text(_))).map(|(at, _)| *at).collect();
        // Ten events of block 0, then both others without a second of their own.
        assert_eq!(heads, [at(1000), at(1100), at(1100)]);
        assert_eq!(told.last(), Some(&(at(1190), Output::Body(span(19_000, 1000)))));
    }

    #[test]
    fn what_is_no_request_is_refused_after_what_was_asked_before() {
        for nonsense in ["HELLO\n", "GET g\n", "GET f:99\n", "GET f:-1\n"] {
            let mut connection = connection();
            connection.handle(Time::ZERO, format!("GETHDR f\n{nonsense}GET f:0\n").into_bytes());
            assert!(!connection.wants_input());
            let told: Vec<Output> = drive(&mut connection).into_iter().map(|(_, output)| output).collect();
            let refused = Output::Text(refusal(nonsense.trim_end().as_bytes()));
            assert_eq!(told, [Output::Text(head(span(0, 25_000))), refused, Output::Close(Ending::BadRequest)]);
            connection.handle(at(5_000), b"GET f:0\n".to_vec());
            assert_eq!((connection.poll(), connection.deadline()), (None, None));
        }
        let mut endless = connection();
        endless.handle(Time::ZERO, vec![b'x'; 1 << 20]);
        assert!(matches!(drive(&mut endless).last(), Some((_, Output::Close(Ending::BadRequest)))));
    }

    #[test]
    fn an_idle_connection_ends_and_a_busy_one_does_not() {
        let mut connection =
            Connection { knobs: Knobs { pre_delay: Duration::from_secs(90), ..KNOBS }, ..connection() };
        connection.handle(Time::ZERO, b"GET f:2\n".to_vec());
        assert_eq!(drive(&mut connection).len(), 6, "an answer that is owed keeps it");
        let (due, why) = connection.deadline().expect("it waits");
        assert_eq!((due, why), (at(90_040) + KNOBS.idle, Why::Idle));
        connection.advance(due);
        assert_eq!(connection.poll(), Some(Output::Close(Ending::Idle)));
        assert_eq!(connection.deadline(), None);
    }

    #[test]
    fn a_large_answer_is_made_as_it_is_taken() {
        let knobs = Knobs { pre_delay: Duration::ZERO, pace: Duration::ZERO, ..KNOBS };
        let layout = Layout::published(1 << 50);
        let mut connection = Connection::new(Time::ZERO, "f".into(), layout, knobs, Seed::new(1));
        connection.handle(Time::ZERO, b"GET f\n".to_vec());
        for nth in 0..1000 {
            let told = connection.poll();
            assert!(nth == 0 || told == Some(Output::Body(span(1000 * (nth - 1), 1000))), "{told:?}");
            assert!(connection.outputs.len() <= 1);
        }
    }

    #[test]
    fn requests_without_end_are_not_read_without_bound() {
        let mut connection = connection();
        let mut fed = 0;
        while connection.wants_input() {
            connection.handle(Time::ZERO, b"GET f:0\n".to_vec());
            fed += 1;
        }
        assert_eq!(fed, MOST_WAITING);
    }
}
