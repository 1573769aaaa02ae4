//! What goes between a client and a peer over TCP: a line for each request, and for each answer a head of three lines and bytes.
//!
//! ```text
//! → GET redsox.jpg:7\n
//! ← 200 OK\nBODY_BYTE_OFFSET_IN_FILE: 70000\nBODY_BYTE_LENGTH: 10000\n\n<10000 bytes>
//! ```
//!
//! Requests may follow each other without waiting (pipelining); answers come in their order. `GET f` asks for all, `GET f:7` for
//! a block, `GET f:*` for any block; `GETHDR` in place of `GET` for the head alone. What is no request is answered by
//! `400 BAD_FORMAT: …`, after which the peer closes.

use std::fmt;

use crate::layout::Span;
use crate::tracker_text::is_name;

/// The published fixed port.
pub const PORT: u16 = 18_765;

/// The longest request, in bytes, its end not counted.
pub const LONGEST_REQUEST: usize = 1024;

/// The longest head of an answer, in bytes.
pub const LONGEST_HEAD: usize = 1024;

/// What a client asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// The name of the file.
    pub file: String,
    /// What of it.
    pub part: Part,
    /// Whether the bytes themselves are not wanted.
    pub head_only: bool,
}

/// A part of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// All of it.
    Whole,
    /// The block of this number, from 0.
    Block(u64),
    /// Any block.
    Any,
}

impl Request {
    /// Reads a line without its end; `None` where it is no request.
    pub fn parse(line: &[u8]) -> Option<Request> {
        let line = std::str::from_utf8(line).ok().filter(|line| line.len() <= LONGEST_REQUEST)?;
        let (verb, rest) = line.split_once(' ')?;
        let head_only = match verb.to_ascii_uppercase().as_str() {
            "GET" => false,
            "GETHDR" => true,
            _ => return None,
        };
        let (file, part) = match rest.rsplit_once(':') {
            None => (rest, Part::Whole),
            Some((file, "*")) => (file, Part::Any),
            Some((file, number)) => {
                let is_plain = number.bytes().all(|byte| byte.is_ascii_digit());
                (file, Part::Block(number.parse().ok().filter(|_| is_plain)?))
            }
        };
        is_name(file).then(|| Request { file: file.to_owned(), part, head_only })
    }
}

impl fmt::Display for Request {
    /// The line, without its end.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", if self.head_only { "GETHDR" } else { "GET" }, self.file)?;
        match self.part {
            Part::Whole => Ok(()),
            Part::Block(number) => write!(f, ":{number}"),
            Part::Any => write!(f, ":*"),
        }
    }
}

/// The head of the answer that brings `body`.
pub fn head(body: Span) -> String {
    let Span { offset, length } = body;
    format!("200 OK\nBODY_BYTE_OFFSET_IN_FILE: {offset}\nBODY_BYTE_LENGTH: {length}\n\n")
}

/// The answer to a line that is no request, cut where it is long.
pub fn refusal(line: &[u8]) -> String {
    let quoted: String =
        String::from_utf8_lossy(line).chars().filter(|c| !c.is_control()).take(LONGEST_REQUEST).collect();
    format!("400 BAD_FORMAT: {quoted}\n")
}

/// Lines out of a stream of bytes, none of which is longer than a request may be.
#[derive(Debug, Default)]
pub struct Lines {
    partial: Vec<u8>,
}

/// A line was too long for a request; nothing after it can be told from it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TooLong(
    /// Its beginning.
    pub Vec<u8>,
);

impl Lines {
    /// Takes bytes as they came and hands out each line that they end, without `\n` or `\r\n`.
    ///
    /// # Errors
    /// At the first line that is too long.
    pub fn feed(&mut self, bytes: &[u8], mut line: impl FnMut(&[u8])) -> Result<(), TooLong> {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            // One byte more may be a `\r`.
            if self.partial.len() + piece.len() > LONGEST_REQUEST + 2 {
                let mut beginning = std::mem::take(&mut self.partial);
                beginning.extend_from_slice(piece);
                beginning.truncate(LONGEST_REQUEST);
                return Err(TooLong(beginning));
            }
            self.partial.extend_from_slice(piece);
            if let Some(whole) = self.partial.strip_suffix(b"\n") {
                line(whole.strip_suffix(b"\r").unwrap_or(whole));
                self.partial.clear();
            }
        }
        Ok(())
    }
}

/// What a client hears from a peer, in the order in which it comes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Heard<'a> {
    /// An answer begins, which brings these bytes of the file.
    Head(Span),
    /// Some of its bytes.
    Body(&'a [u8]),
    /// It is complete.
    End,
}

/// Why a peer's answer is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AnswerError {
    /// It does not take the request.
    #[error("the peer refused the request: {0}")]
    Refused(String),
    /// The head is longer than any.
    #[error("the peer's answer has a head of more than {LONGEST_HEAD} bytes")]
    TooLong,
    /// Something else than a head.
    #[error("the peer answered something else: {0}")]
    Malformed(String),
}

/// Reads the answers of one connection. `GETHDR`'s have no bytes: their reader is told so.
#[derive(Debug, Default)]
pub struct Answers {
    head: Vec<u8>,
    /// Of the answer under way.
    missing: Option<u64>,
}

impl Answers {
    /// Takes bytes as they came. `heads_only` says that answers bring no bytes, whatever they announce.
    ///
    /// # Errors
    /// When the peer says something else; the connection is worth nothing then.
    pub fn feed<'a>(
        &mut self,
        mut bytes: &'a [u8],
        heads_only: bool,
        mut heard: impl FnMut(Heard<'a>),
    ) -> Result<(), AnswerError> {
        loop {
            if let Some(missing) = self.missing {
                let (body, rest) = bytes.split_at(usize::try_from(missing).unwrap_or(usize::MAX).min(bytes.len()));
                if !body.is_empty() {
                    heard(Heard::Body(body));
                }
                let left = missing - body.len() as u64;
                self.missing = (left > 0).then_some(left);
                bytes = rest;
                if left > 0 {
                    return Ok(());
                }
                heard(Heard::End);
            }
            if bytes.is_empty() {
                return Ok(());
            }
            let Some(body) = self.read_head(&mut bytes)? else { return Ok(()) };
            heard(Heard::Head(body));
            self.missing = Some(if heads_only { 0 } else { body.length });
        }
    }

    /// The head that is complete now, if one is; takes it off `bytes`.
    fn read_head(&mut self, bytes: &mut &[u8]) -> Result<Option<Span>, AnswerError> {
        while let Some((byte, rest)) = bytes.split_first() {
            self.head.push(*byte);
            *bytes = rest;
            if self.head.ends_with(b"\n\n") || self.head.ends_with(b"\n\r\n") {
                let head = std::mem::take(&mut self.head);
                return parse_head(&head).map(Some);
            }
            // A refusal has no empty line behind it.
            if *byte == b'\n' && self.head.starts_with(b"400") {
                return Err(AnswerError::Refused(text(&self.head)));
            }
            if self.head.len() > LONGEST_HEAD {
                return Err(AnswerError::TooLong);
            }
        }
        Ok(None)
    }
}

fn parse_head(head: &[u8]) -> Result<Span, AnswerError> {
    let malformed = || AnswerError::Malformed(text(head));
    let lines = std::str::from_utf8(head).map_err(|_| malformed())?;
    if !lines.starts_with("200") {
        return Err(malformed());
    }
    let value = |key: &str| {
        lines.lines().filter_map(|line| line.split_once(':')).find(|(found, _)| found.trim().eq_ignore_ascii_case(key))
    };
    let number = |key| value(key).and_then(|(_, value)| value.trim().parse::<u64>().ok()).ok_or_else(malformed);
    let (offset, length) = (number("BODY_BYTE_OFFSET_IN_FILE")?, number("BODY_BYTE_LENGTH")?);
    offset.checked_add(length).ok_or_else(malformed)?;
    Ok(Span { offset, length })
}

/// What was heard, for a message.
fn text(bytes: &[u8]) -> String {
    const SHOWN: usize = 80;
    String::from_utf8_lossy(bytes).chars().map(|c| if c.is_control() { ' ' } else { c }).take(SHOWN).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(file: &str, part: Part, head_only: bool) -> Request {
        Request { file: file.to_owned(), part, head_only }
    }

    #[test]
    fn every_form_of_request_is_read_as_written() {
        for (line, expected) in [
            ("GET a.jpg", request("a.jpg", Part::Whole, false)),
            ("GET a.jpg:0", request("a.jpg", Part::Block(0), false)),
            ("GET a.jpg:80", request("a.jpg", Part::Block(80), false)),
            ("GET a.jpg:*", request("a.jpg", Part::Any, false)),
            ("GETHDR a.jpg:7", request("a.jpg", Part::Block(7), true)),
        ] {
            assert_eq!(Request::parse(line.as_bytes()), Some(expected.clone()), "{line}");
            assert_eq!(expected.to_string(), line);
        }
        for wrong in [
            "",
            "GET",
            "GET ",
            "GET a b",
            "GET a:",
            "GET a:-1",
            "GET a:+1",
            "GET a:x",
            "PUT a",
            "GET :3",
            "GET a:99999999999999999999",
        ] {
            assert_eq!(Request::parse(wrong.as_bytes()), None, "{wrong:?}");
        }
    }

    #[test]
    fn lines_are_told_apart_however_they_come() {
        let stream = b"GET a\r\nGET b:1\nGET c";
        for step in 1..=stream.len() {
            let (mut lines, mut told) = (Lines::default(), Vec::new());
            for piece in stream.chunks(step) {
                lines.feed(piece, |line| told.push(line.to_vec())).unwrap();
            }
            assert_eq!(told, [b"GET a".to_vec(), b"GET b:1".to_vec()], "in steps of {step}");
        }
        let mut lines = Lines::default();
        let full = [b'x'; LONGEST_REQUEST];
        lines.feed(&full, |_| panic!("not ended")).unwrap();
        let mut told = 0;
        lines.feed(b"\r\n", |line| told = line.len()).unwrap();
        assert_eq!(told, LONGEST_REQUEST);
        let TooLong(beginning) = lines.feed(&[b'y'; 5000], |_| ()).unwrap_err();
        assert_eq!(beginning.len(), LONGEST_REQUEST);
    }

    #[test]
    fn answers_are_read_however_they_come() {
        let mut stream = Vec::new();
        for (offset, body) in [(70_000_u64, &b"hello"[..]), (0, b""), (3, b"\n\n400")] {
            stream.extend_from_slice(head(Span { offset, length: body.len() as u64 }).as_bytes());
            stream.extend_from_slice(body);
        }
        for step in 1..=stream.len() {
            let (mut answers, mut told) = (Answers::default(), Vec::new());
            for piece in stream.chunks(step) {
                let note = |heard: Heard<'_>| match heard {
                    Heard::Head(Span { offset, .. }) => told.push((offset, Vec::new(), false)),
                    Heard::Body(bytes) => told.last_mut().unwrap().1.extend_from_slice(bytes),
                    Heard::End => told.last_mut().unwrap().2 = true,
                };
                answers.feed(piece, false, note).unwrap();
            }
            // An empty answer is complete with the next bytes, or with the head itself.
            let expected = [(70_000, b"hello".to_vec(), true), (0, Vec::new(), true), (3, b"\n\n400".to_vec(), true)];
            assert_eq!(told, expected, "in steps of {step}");
        }
    }

    #[test]
    fn what_is_no_answer_is_told_and_bounded() {
        let of = |bytes: &[u8]| Answers::default().feed(bytes, false, |_| ()).unwrap_err();
        assert_eq!(of(b"400 BAD_FORMAT: GET\n"), AnswerError::Refused("400 BAD_FORMAT: GET ".into()));
        assert_eq!(of(&[b'x'; 2 * LONGEST_HEAD]), AnswerError::TooLong);
        assert!(matches!(of(b"404 NO\n\n"), AnswerError::Malformed(_)));
        let overflow = format!("200 OK\nBODY_BYTE_OFFSET_IN_FILE: {}\nBODY_BYTE_LENGTH: 1\n\n", u64::MAX);
        assert!(matches!(of(overflow.as_bytes()), AnswerError::Malformed(_)));
        assert!(refusal(&[0xff; 5000]).len() < 4 * LONGEST_REQUEST);
    }
}
