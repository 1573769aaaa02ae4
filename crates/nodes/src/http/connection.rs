//! A client's connection, on which requests may follow each other without waiting for answers (pipelining, RFC 9112
//! §9.3.2).
//!
//! Requests and answers have one order. Each [`Turn`] reads its own answer when those before it are read; one that is
//! dropped before that leaves an answer that nobody wants, and with it the connection ends: the turns behind it ask
//! again elsewhere.

use std::collections::VecDeque;
use std::io;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::{Buf, Bytes, BytesMut};
use hyper::header::{CONNECTION, HeaderMap, HeaderName, HeaderValue};
use hyper::{Response, StatusCode, Version};
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::sync::{Notify, OwnedMutexGuard};

use super::dial::Stream;
use super::framing::{Framing, Taken};

/// Memory is taken in such parts for what is read, in bytes.
const ARENA: usize = 256 << 10;

/// With less room than this a new part is taken, in bytes.
const LEAST_ROOM: usize = 16 << 10;

/// The longest head of an answer, in bytes.
const LONGEST_HEAD: usize = 64 << 10;

/// The most fields of a head.
const MOST_FIELDS: usize = 128;

/// The most interim answers (1xx) before the final one.
const MOST_INTERIM: usize = 16;

/// Why no whole answer came.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ExchangeError {
    /// The connection broke.
    #[error("the connection broke")]
    Io(#[from] io::Error),
    /// The connection was closed before any of the answer came.
    #[error("the server closed the connection instead of an answer")]
    Unanswered,
    /// The connection was closed within the answer.
    #[error("the server closed it in the middle of an answer")]
    Truncated,
    /// What came is not an answer; in words.
    #[error("{0}")]
    Malformed(&'static str),
}

/// A connection; cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Connection(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    writer: tokio::sync::Mutex<Option<WriteHalf<Stream>>>,
    reader: Arc<tokio::sync::Mutex<Reader>>,
    line: Mutex<Line>,
    /// Told whenever the line moves.
    moved: Notify,
}

#[derive(Debug)]
struct Reader {
    stream: Option<ReadHalf<Stream>>,
    buffer: BytesMut,
}

/// Who waits for an answer.
#[derive(Debug, Default)]
struct Line {
    asked: u64,
    /// Numbers of the requests whose answers are still to come, and whether anybody wants them.
    waiting: VecDeque<(u64, bool)>,
    /// Whether an answer came and left the connection open for the next.
    persists: bool,
    /// Nothing useful comes of it any more.
    ended: bool,
}

/// The right to read one answer, when it is its turn.
#[derive(Debug)]
pub(crate) struct Turn {
    connection: Connection,
    number: u64,
    sent: bool,
    over: bool,
}

/// An answer whose body is being read.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) head: Response<()>,
    framing: Framing,
    // Before the turn, so that it is released before the turn is.
    reader: Option<OwnedMutexGuard<Reader>>,
    turn: Turn,
    persists: bool,
}

impl Connection {
    pub(crate) fn new(stream: Stream) -> Self {
        let (reader, writer) = tokio::io::split(stream);
        let reader = Reader { stream: Some(reader), buffer: BytesMut::new() };
        Connection(Arc::new(Shared {
            writer: tokio::sync::Mutex::new(Some(writer)),
            reader: Arc::new(tokio::sync::Mutex::new(reader)),
            line: Mutex::default(),
            moved: Notify::new(),
        }))
    }

    /// Whether it has ended, so that nothing more can be asked on it.
    pub(crate) fn is_over(&self) -> bool {
        self.line().ended
    }

    /// How many answers are still to come.
    pub(crate) fn waiting(&self) -> usize {
        self.line().waiting.len()
    }

    /// Whether the server has shown that it answers more than one request on a connection.
    pub(crate) fn persists(&self) -> bool {
        let line = self.line();
        line.persists && !line.ended
    }

    /// Sends a request; its answer comes after those of all before it.
    pub(crate) async fn send(&self, request: &[u8]) -> Result<Turn, ExchangeError> {
        let mut writer = self.0.writer.lock().await;
        // Taken out, so that a request that is not sent whole ends the connection.
        let mut stream = writer.take().ok_or(ExchangeError::Unanswered)?;
        let number = {
            let mut line = self.line();
            if line.ended {
                return Err(ExchangeError::Unanswered);
            }
            line.asked += 1;
            let number = line.asked;
            line.waiting.push_back((number, true));
            number
        };
        let mut turn = Turn { connection: self.clone(), number, sent: false, over: false };
        stream.write_all(request).await?;
        stream.flush().await?;
        turn.sent = true;
        if !self.is_over() {
            *writer = Some(stream);
        }
        Ok(turn)
    }

    /// Ends it: what it still held is given up.
    pub(crate) fn end(&self) {
        self.line().ended = true;
        // Whoever holds one of these is in the middle of something that fails now, or ends with it.
        if let Ok(mut reader) = self.0.reader.try_lock() {
            *reader = Reader { stream: None, buffer: BytesMut::new() };
        }
        if let Ok(mut writer) = self.0.writer.try_lock() {
            *writer = None;
        }
        self.0.moved.notify_waiters();
    }

    /// The answer to `number` is over: read to its end, or not wanted.
    fn leave_line(&self, number: u64, was_read: bool) {
        let ends = {
            let mut line = self.line();
            if was_read {
                line.waiting.pop_front();
            } else if let Some(entry) = line.waiting.iter_mut().find(|(waiting, _)| *waiting == number) {
                entry.1 = false;
            }
            // An answer that nobody wants is the next to come.
            line.waiting.front().is_some_and(|(_, wanted)| !wanted)
        };
        if ends { self.end() } else { self.0.moved.notify_waiters() }
    }

    fn line(&self) -> MutexGuard<'_, Line> {
        self.0.line.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Turn {
    /// Whether it is the first on its connection: if that fails, it is not because the connection was old.
    pub(crate) fn is_first(&self) -> bool {
        self.number == 1
    }

    /// Waits until it is its turn, and reads the head of the answer.
    pub(crate) async fn answer(self) -> Result<Answer, ExchangeError> {
        self.wait().await?;
        let mut reader = Arc::clone(&self.connection.0.reader).lock_owned().await;
        let head = reader.head().await?;
        let framing = Framing::of(head.status(), head.headers()).map_err(ExchangeError::Malformed)?;
        let persists = persists(&head) && framing != Framing::UntilClose;
        let mut answer = Answer { head, framing, reader: Some(reader), turn: self, persists };
        answer.end_if_over();
        Ok(answer)
    }

    async fn wait(&self) -> Result<(), ExchangeError> {
        loop {
            let mut moved = pin!(self.connection.0.moved.notified());
            // Before the look, so that no move between the look and the wait is missed.
            moved.as_mut().enable();
            {
                let line = self.connection.line();
                if line.ended {
                    return Err(ExchangeError::Unanswered);
                }
                if line.waiting.front().is_some_and(|(number, _)| *number == self.number) {
                    return Ok(());
                }
            }
            moved.await;
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if !self.sent {
            self.connection.end();
        } else if !self.over {
            self.connection.leave_line(self.number, false);
        }
    }
}

impl Answer {
    /// The next bytes of the body; `None` at its end. With the last bytes the next answer's turn begins.
    pub(crate) async fn chunk(&mut self) -> Result<Option<Bytes>, ExchangeError> {
        loop {
            let Some(reader) = &mut self.reader else { return Ok(None) };
            match self.framing.take(&mut reader.buffer).map_err(ExchangeError::Malformed)? {
                Taken::Bytes(bytes) => {
                    self.end_if_over();
                    return Ok(Some(bytes));
                }
                Taken::Over => self.end_if_over(),
                Taken::NeedsMore => {
                    if reader.fill().await? > 0 {
                        continue;
                    }
                    if self.framing != Framing::UntilClose {
                        return Err(ExchangeError::Truncated);
                    }
                    self.framing = Framing::Length(0);
                    self.end_if_over();
                }
            }
        }
    }

    fn end_if_over(&mut self) {
        if !self.framing.is_over() || self.turn.over {
            return;
        }
        self.reader = None;
        self.turn.over = true;
        let connection = self.turn.connection.clone();
        connection.line().persists = self.persists;
        if self.persists { connection.leave_line(self.turn.number, true) } else { connection.end() }
    }
}

impl Reader {
    async fn fill(&mut self) -> io::Result<usize> {
        let Some(stream) = &mut self.stream else { return Ok(0) };
        if self.buffer.capacity() - self.buffer.len() < LEAST_ROOM {
            self.buffer.reserve(ARENA);
        }
        stream.read_buf(&mut self.buffer).await
    }

    /// The head of the final answer.
    async fn head(&mut self) -> Result<Response<()>, ExchangeError> {
        let mut looked_at = 0;
        let mut interim = 0;
        loop {
            // A head that comes byte by byte is not parsed byte by byte.
            if self.buffer[looked_at..].contains(&b'\n')
                && let Some((length, head)) = parse(&self.buffer)?
            {
                self.buffer.advance(length);
                looked_at = 0;
                if head.status().is_informational() && head.status() != StatusCode::SWITCHING_PROTOCOLS {
                    interim += 1;
                    if interim > MOST_INTERIM {
                        return Err(ExchangeError::Malformed("it sends interim answers without end"));
                    }
                    continue;
                }
                return Ok(head);
            }
            looked_at = self.buffer.len();
            if looked_at > LONGEST_HEAD {
                return Err(ExchangeError::Malformed("the head of its answer does not end"));
            }
            match self.fill().await {
                Ok(0) if self.buffer.is_empty() && interim == 0 => return Err(ExchangeError::Unanswered),
                Ok(0) => return Err(ExchangeError::Truncated),
                Ok(_) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// The head at the beginning of `bytes`, and its length, if it is there to its end.
fn parse(bytes: &[u8]) -> Result<Option<(usize, Response<()>)>, ExchangeError> {
    let mut fields = [httparse::EMPTY_HEADER; MOST_FIELDS];
    let mut parsed = httparse::Response::new(&mut fields);
    let length = match parsed.parse(bytes) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(httparse::Error::TooManyHeaders) => {
            return Err(ExchangeError::Malformed("the head of its answer has too many fields"));
        }
        Err(_) => return Err(ExchangeError::Malformed("it is not HTTP")),
    };
    let invalid = || ExchangeError::Malformed("it is not HTTP");
    let mut head = Response::new(());
    *head.status_mut() = parsed.code.and_then(|code| StatusCode::from_u16(code).ok()).ok_or_else(invalid)?;
    *head.version_mut() = if parsed.version == Some(1) { Version::HTTP_11 } else { Version::HTTP_10 };
    for field in parsed.headers.iter() {
        let name = HeaderName::from_bytes(field.name.as_bytes()).map_err(|_| invalid())?;
        head.headers_mut().append(name, HeaderValue::from_bytes(field.value).map_err(|_| invalid())?);
    }
    Ok(Some((length, head)))
}

/// Whether the connection stays open after this answer (RFC 9112 §9.3).
fn persists(head: &Response<()>) -> bool {
    let says = |wanted: &str| says(head.headers(), wanted);
    if head.version() == Version::HTTP_11 { !says("close") } else { says("keep-alive") }
}

fn says(headers: &HeaderMap, wanted: &str) -> bool {
    let values = headers.get_all(CONNECTION).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|option| option.trim().eq_ignore_ascii_case(wanted))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tokio::net::{TcpListener, TcpStream};

    use super::*;

    proptest! {
        #[test]
        fn no_bytes_make_a_head_panic(bytes: Vec<u8>, at in 0..90usize, len in 0..8usize) {
            let _ = parse(&bytes);
            // Damage anywhere in one that is sound, and any part of it.
            let mut head = b"HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 0-1/2\r\nConnection: a, close\r\n\r\n".to_vec();
            prop_assert!(matches!(parse(&head[..at.min(head.len() - 1)]), Ok(None)));
            let at = at.min(head.len());
            let end = (at + len).min(head.len());
            head.splice(at..end, bytes);
            if let Ok(Some((length, head))) = parse(&head) {
                prop_assert!(length <= 600 && head.headers().len() <= MOST_FIELDS);
                let _ = (persists(&head), Framing::of(head.status(), head.headers()));
            }
        }
    }

    /// A connection to a server that lets the first `requests` come, then sends `bytes`, and closes unless it stays.
    async fn connection(requests: usize, bytes: &'static [u8], stays: bool) -> Connection {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            let (mut peer, _) = listener.accept().await.unwrap();
            let (mut seen, mut buffer) = (Vec::new(), [0; 4096]);
            while seen.windows(4).filter(|window| window == b"\r\n\r\n").count() < requests {
                let read = peer.read(&mut buffer).await.unwrap();
                seen.extend_from_slice(&buffer[..read]);
            }
            // One byte after another, the hardest way for whoever reads.
            for byte in bytes {
                if peer.write_all(&[*byte]).await.is_err() {
                    return;
                }
                tokio::task::yield_now().await;
            }
            if stays {
                let _ = peer.read(&mut buffer).await;
            }
        });
        Connection::new(Stream::Plain(TcpStream::connect(address).await.unwrap()))
    }

    async fn body(answer: &mut Answer) -> Result<Vec<u8>, ExchangeError> {
        let mut body = Vec::new();
        while let Some(bytes) = answer.chunk().await? {
            body.extend_from_slice(&bytes);
        }
        Ok(body)
    }

    const GET: &[u8] = b"GET / HTTP/1.1\r\n\r\n";
    const TWO: &[u8] =
        b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\noneHTTP/1.1 206 Part\r\ntransfer-encoding: chunked\r\n\r\n3\r\ntwo\r\n0\r\n\r\n";

    #[tokio::test]
    async fn answers_come_in_the_order_of_the_requests_whoever_asks_first() {
        let connection = connection(2, TWO, true).await;
        let (first, second) = (connection.send(GET).await.unwrap(), connection.send(GET).await.unwrap());
        assert!(first.is_first() && !second.is_first() && !connection.persists());
        let later = tokio::spawn(async move { body(&mut second.answer().await.unwrap()).await.unwrap() });
        let mut answer = first.answer().await.unwrap();
        assert_eq!((answer.head.status(), body(&mut answer).await.unwrap()), (StatusCode::OK, b"one".to_vec()));
        assert_eq!(later.await.unwrap(), b"two");
        assert!(connection.persists() && connection.waiting() == 0);
    }

    #[tokio::test]
    async fn an_answer_that_nobody_reads_to_its_end_ends_the_connection_for_those_behind() {
        let connection = connection(2, TWO, true).await;
        let (first, second) = (connection.send(GET).await.unwrap(), connection.send(GET).await.unwrap());
        let mut answer = first.answer().await.unwrap();
        assert!(answer.chunk().await.unwrap().is_some());
        drop(answer);
        assert!(matches!(second.answer().await, Err(ExchangeError::Unanswered)));
        assert!(connection.is_over());
    }

    #[tokio::test]
    async fn a_request_given_up_in_the_middle_of_the_line_spares_those_before_it() {
        let connection = connection(2, TWO, true).await;
        let (first, second) = (connection.send(GET).await.unwrap(), connection.send(GET).await.unwrap());
        drop(second);
        assert_eq!(body(&mut first.answer().await.unwrap()).await.unwrap(), b"one");
        assert!(connection.is_over(), "the next answer is one that nobody wants");
    }

    #[tokio::test]
    async fn a_server_that_closes_between_answers_leaves_the_others_unanswered() {
        let once = b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 3\r\n\r\none";
        let connection = connection(2, once, false).await;
        let (first, second) = (connection.send(GET).await.unwrap(), connection.send(GET).await.unwrap());
        assert_eq!(body(&mut first.answer().await.unwrap()).await.unwrap(), b"one");
        assert!(matches!(second.answer().await, Err(ExchangeError::Unanswered)));
    }

    #[tokio::test]
    async fn what_is_no_answer_is_told_in_words() {
        let endless = b"HTTP/1.1 200 OK\r\nx: ".iter().chain([b'y'; 70_000].iter()).copied().collect::<Vec<_>>().leak();
        let interim = b"HTTP/1.1 100 Continue\r\n\r\n".repeat(20).leak();
        let fields = [b"HTTP/1.1 200 OK\r\n".to_vec(), b"a: b\r\n".repeat(200)].concat().leak();
        for (bytes, words) in [
            (&b"SSH-2.0-x\r\n"[..], "it is not HTTP"),
            (endless, "does not end"),
            (interim, "interim answers without end"),
            (fields, "too many fields"),
            (b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n", "two Content-Lengths"),
            (b"HTTP/1.1 200 OK\r\ncontent", "in the middle of an answer"),
            (b"", "instead of an answer"),
        ] {
            let connection = connection(1, bytes, false).await;
            let error = connection.send(GET).await.unwrap().answer().await.unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        }
    }

    #[tokio::test]
    async fn interim_answers_are_passed_over_and_a_body_without_length_ends_with_the_connection() {
        let bytes = b"HTTP/1.1 103 Early Hints\r\nlink: <x>\r\n\r\nHTTP/1.0 200 OK\r\n\r\nall of it";
        let connection = connection(1, bytes, false).await;
        let mut answer = connection.send(GET).await.unwrap().answer().await.unwrap();
        assert_eq!(body(&mut answer).await.unwrap(), b"all of it");
        assert!(connection.is_over());
    }
}
