//! A scriptable HTTP server: it gives each request the right answer, or what a script makes of that answer. So a lie is
//! told in a line: `|asked, right| right.field("Content-Length", "-5")`.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use fetch::{Digest, Manifest};
use nodes::metalink;

/// As `file-server` cuts a small file.
const PIECE: usize = 256 << 10;

/// Between two bytes of one that drips, and two portions of one that is paced: far from silence.
const PACE: Duration = Duration::from_millis(50);

/// What is left of a body when one that is paced goes on byte by byte: so nothing ends by itself within a minute, which is
/// longer than any test waits.
const CRAWL: usize = 60 * 20;

/// Opened once, for all who wait at it.
#[derive(Clone, Default)]
pub(crate) struct Gate(Arc<(Mutex<bool>, Condvar)>);

impl Gate {
    pub(crate) fn open(&self) {
        *self.0.0.lock().unwrap() = true;
        self.0.1.notify_all();
    }

    /// Waits until it is open.
    pub(crate) fn pass(&self) {
        let _open = self.0.1.wait_while(self.0.0.lock().unwrap(), |open| !*open).unwrap();
    }

    /// Waits for at most this long; whether it is open.
    fn wait(&self, most: Duration) -> bool {
        *self.0.1.wait_timeout_while(self.0.0.lock().unwrap(), most, |open| !*open).unwrap().0
    }
}

/// How many bytes of bodies may be sent by all who share it. When they are gone, each goes on byte by byte, far from
/// silence and far from any end: so a download cannot be over before the test wants it to, however long the test itself
/// is kept waiting.
#[derive(Clone)]
pub(crate) struct Allowance(Arc<(Mutex<u64>, Condvar)>);

impl Allowance {
    pub(crate) fn of(bytes: u64) -> Self {
        Allowance(Arc::new((Mutex::new(bytes), Condvar::new())))
    }

    /// Lets so many more pass.
    pub(crate) fn raise(&self, bytes: u64) {
        let mut left = self.0.0.lock().unwrap();
        *left = left.saturating_add(bytes);
        self.0.1.notify_all();
    }

    /// Lets everything pass.
    pub(crate) fn lift(&self) {
        self.raise(u64::MAX);
    }

    /// Waits until some may pass; how many of `wanted`.
    fn take(&self, wanted: usize) -> usize {
        let mut left = self.0.1.wait_timeout_while(self.0.0.lock().unwrap(), PACE, |left| *left == 0).unwrap().0;
        let granted = (*left).clamp(1, wanted as u64);
        *left = left.saturating_sub(granted);
        granted as usize
    }
}

/// A request.
pub(crate) struct Asked {
    pub(crate) method: String,
    pub(crate) path: String,
    /// First byte and the one after the last.
    pub(crate) range: Option<(u64, u64)>,
    /// All of it.
    pub(crate) head: String,
    /// How many came before it, over all connections.
    pub(crate) nth: usize,
}

impl Asked {
    /// Whether it is for bytes of the file, rather than for what the file is.
    pub(crate) fn for_part(&self) -> bool {
        self.path == "/f" && self.method == "GET" && self.range.is_none_or(|(start, end)| end - start > 1)
    }

    /// Whether it is for the file, or what it is.
    pub(crate) fn for_file(&self) -> bool {
        self.path == "/f"
    }

    /// First byte and the one after the last.
    pub(crate) fn bounds(&self) -> (u64, u64) {
        self.range.unwrap_or((0, u64::MAX))
    }
}

/// What is sent.
#[derive(Clone)]
pub(crate) struct Reply {
    interim: Vec<u8>,
    status: String,
    fields: Vec<(String, String)>,
    body: Vec<u8>,
    raw: Option<Vec<u8>>,
    thinks: Duration,
    then: Then,
}

/// What happens after, or while, it is sent.
#[derive(Clone)]
enum Then {
    Keep,
    Close,
    /// This again and again.
    Endless(Vec<u8>),
    /// So much of it at once, the rest byte by byte.
    Drip(usize),
    /// So much of it, and nothing more on a connection that stays.
    Silent(usize),
    /// So much of it, then the end.
    Cut(usize),
    /// In small portions until the gate is open.
    Paced(Gate),
    /// The body as far as it is allowed.
    Metered(Allowance),
}

impl Reply {
    pub(crate) fn new(status: &str) -> Self {
        let none = Reply {
            interim: Vec::new(),
            status: format!("HTTP/1.1 {status}"),
            fields: Vec::new(),
            body: Vec::new(),
            raw: None,
            thinks: Duration::ZERO,
            then: Then::Keep,
        };
        none.body("")
    }

    /// Bytes that need not be HTTP.
    pub(crate) fn raw(bytes: impl Into<Vec<u8>>) -> Self {
        Reply { raw: Some(bytes.into()), ..Reply::new("") }
    }

    /// The right answer of one that has `file` at `/f`, its Metalink beside it, and ranges.
    pub(crate) fn right(file: &[u8], asked: &Asked) -> Self {
        let right = match (asked.path.as_str(), asked.range) {
            ("/f", None) => Reply::new("200 OK").body(file),
            ("/f", Some((start, _))) if start >= file.len() as u64 => {
                Reply::new("416 Range Not Satisfiable").field("Content-Range", &format!("bytes */{}", file.len()))
            }
            ("/f", Some((start, end))) => {
                let end = end.min(file.len() as u64);
                let told = format!("bytes {start}-{}/{}", end - 1, file.len());
                Reply::new("206 Partial Content")
                    .field("Content-Range", &told)
                    .body(&file[start as usize..end as usize])
            }
            ("/f.meta4", _) => Reply::new("200 OK").body(document(file)),
            _ => Reply::new("404 Not Found"),
        };
        if asked.method == "HEAD" { Reply { body: Vec::new(), ..right } } else { right }
    }

    pub(crate) fn status(self, status: &str) -> Self {
        self.status_line(&format!("HTTP/1.1 {status}"))
    }

    pub(crate) fn status_line(self, line: &str) -> Self {
        Reply { status: line.into(), ..self }
    }

    /// Sets a field.
    pub(crate) fn field(self, name: &str, value: &str) -> Self {
        self.without(name).also(name, value)
    }

    /// Adds a field, also if there is one of that name.
    pub(crate) fn also(mut self, name: &str, value: &str) -> Self {
        self.fields.push((name.into(), value.into()));
        self
    }

    pub(crate) fn without(mut self, name: &str) -> Self {
        self.fields.retain(|(known, _)| !known.eq_ignore_ascii_case(name));
        self
    }

    /// With this body, and its length.
    pub(crate) fn body(mut self, body: impl AsRef<[u8]>) -> Self {
        self.body = body.as_ref().to_vec();
        let length = self.body.len().to_string();
        self.field("Content-Length", &length)
    }

    /// The body changed, its length still told as before.
    pub(crate) fn mangled(mut self, change: impl FnOnce(&mut Vec<u8>)) -> Self {
        change(&mut self.body);
        self
    }

    /// With the length that its body has now.
    pub(crate) fn recounted(self) -> Self {
        let body = self.body.clone();
        self.body(body)
    }

    /// The body in chunks of this size, with these trailer lines.
    pub(crate) fn chunked(mut self, size: usize, trailers: &str) -> Self {
        let mut body = Vec::new();
        for chunk in self.body.chunks(size) {
            body.extend_from_slice(format!("{:x};note=\"x\"\r\n", chunk.len()).as_bytes());
            body.extend_from_slice(chunk);
            body.extend_from_slice(b"\r\n");
        }
        body.extend_from_slice(format!("0\r\n{trailers}\r\n").as_bytes());
        self.body = body;
        self.without("Content-Length").field("Transfer-Encoding", "chunked")
    }

    /// Preceded by these bytes.
    pub(crate) fn after(self, interim: impl Into<Vec<u8>>) -> Self {
        Reply { interim: interim.into(), ..self }
    }

    pub(crate) fn closing(self) -> Self {
        Reply { then: Then::Close, ..self }
    }

    /// Only so much of its body, and then the end of the connection.
    pub(crate) fn cut(self, of_body: usize) -> Self {
        let head = self.head_length();
        self.ending_after(head + of_body)
    }

    /// So many bytes of it, and then the end of the connection.
    pub(crate) fn ending_after(self, sent: usize) -> Self {
        Reply { then: Then::Cut(sent), ..self }
    }

    pub(crate) fn endless(self, again: impl Into<Vec<u8>>) -> Self {
        Reply { then: Then::Endless(again.into()), ..self }
    }

    /// So many bytes at once, and the rest one by one.
    pub(crate) fn dripping_after(self, sent: usize) -> Self {
        Reply { then: Then::Drip(sent), ..self }
    }

    /// So many bytes, and no more.
    pub(crate) fn silent_after(self, sent: usize) -> Self {
        Reply { then: Then::Silent(sent), ..self }
    }

    /// After a while.
    pub(crate) fn thinking(self, thinks: Duration) -> Self {
        Reply { thinks, ..self }
    }

    /// Its body no further than allowed.
    pub(crate) fn metered_by(self, allowance: &Allowance) -> Self {
        Reply { then: Then::Metered(allowance.clone()), ..self }
    }

    /// Slowly, until the gate is open.
    pub(crate) fn paced_by(self, gate: &Gate) -> Self {
        Reply { then: Then::Paced(gate.clone()), ..self }
    }

    pub(crate) fn head_length(&self) -> usize {
        self.bytes().len() - self.body.len()
    }

    fn bytes(&self) -> Vec<u8> {
        if let Some(raw) = &self.raw {
            return raw.clone();
        }
        let mut bytes = self.interim.clone();
        bytes.extend_from_slice(self.status.as_bytes());
        bytes.extend_from_slice(b"\r\n");
        for (name, value) in &self.fields {
            bytes.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
        }
        bytes.extend_from_slice(b"\r\n");
        bytes.extend_from_slice(&self.body);
        bytes
    }

    /// Whether the connection is of further use.
    fn send(&self, stream: &mut TcpStream) -> bool {
        let bytes = self.bytes();
        let never = Gate::default();
        let first = match &self.then {
            Then::Drip(sent) | Then::Silent(sent) | Then::Cut(sent) => (*sent).min(bytes.len()),
            Then::Paced(_) => 0,
            Then::Metered(_) => self.head_length(),
            Then::Keep | Then::Close | Then::Endless(_) => bytes.len(),
        };
        let (first, rest) = bytes.split_at(first);
        never.wait(self.thinks);
        if stream.write_all(first).is_err() {
            return false;
        }
        match &self.then {
            Then::Keep => return true,
            Then::Cut(_) => {}
            // What came meanwhile is read, or its reset would take bytes of the answer with it (RFC 9112 §9.6).
            Then::Close => {
                let _ = stream.shutdown(Shutdown::Write);
                while stream.read(&mut [0; 1 << 10]).is_ok_and(|read| read > 0) {}
            }
            Then::Endless(again) => while stream.write_all(again).is_ok() {},
            Then::Drip(_) => {
                for byte in rest {
                    if never.wait(PACE) || stream.write_all(&[*byte]).is_err() {
                        return false;
                    }
                }
                return true;
            }
            // Until the other side has had enough.
            Then::Silent(_) => _ = stream.read(&mut [0; 1 << 10]),
            Then::Paced(gate) => {
                let (walk, crawl) = rest.split_at(rest.len().saturating_sub(CRAWL).max(self.head_length()));
                for portion in walk.chunks(4 << 10).chain(crawl.chunks(1)) {
                    gate.wait(PACE);
                    if stream.write_all(portion).is_err() {
                        return false;
                    }
                }
                return true;
            }
            Then::Metered(allowance) => {
                let mut rest = rest;
                while !rest.is_empty() {
                    let (portion, later) = rest.split_at(allowance.take(rest.len().min(16 << 10)));
                    if stream.write_all(portion).is_err() {
                        return false;
                    }
                    rest = later;
                }
                return true;
            }
        }
        let _ = stream.shutdown(Shutdown::Both);
        false
    }
}

/// The Metalink of a file called `f`.
pub(crate) fn document(file: &[u8]) -> String {
    let hashes = file.chunks(PIECE).map(Digest::of).collect();
    let manifest = Manifest::of_pieces(file.len() as u64, PIECE as u32, hashes, Some(Digest::of(file))).unwrap();
    metalink::write("f", "f", &manifest)
}

/// Serves `file` no further than allowed, on a free port, which it returns, for the rest of the test.
pub(crate) fn serve_metered(file: &[u8], allowance: &Allowance) -> u16 {
    let (file, allowance) = (file.to_vec(), allowance.clone());
    serve(move |asked| {
        let right = Reply::right(&file, asked);
        if asked.for_part() { right.metered_by(&allowance) } else { right }
    })
}

/// Serves on a free port, which it returns, for the rest of the test.
pub(crate) fn serve(script: impl Fn(&Asked) -> Reply + Send + Sync + 'static) -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let (script, count) = (Arc::new(script), Arc::new(AtomicUsize::new(0)));
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (script, count, mut stream) = (Arc::clone(&script), Arc::clone(&count), stream.unwrap());
            std::thread::spawn(move || {
                let _ = stream.set_nodelay(true);
                let mut reader = BufReader::new(stream.try_clone().unwrap());
                while let Some(asked) = read(&mut reader, &count) {
                    if !script(&asked).send(&mut stream) {
                        return;
                    }
                }
            });
        }
    });
    port
}

fn read(reader: &mut impl BufRead, count: &AtomicUsize) -> Option<Asked> {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if reader.read_line(&mut head).ok()? == 0 {
            return None;
        }
    }
    let mut words = head.split(' ');
    let (method, path) = (words.next()?.to_owned(), words.next()?.to_owned());
    let range =
        head.lines().find_map(|line| line.to_ascii_lowercase().strip_prefix("range: bytes=").map(str::to_owned));
    let range = range.and_then(|range| {
        let (first, last) = range.split_once('-')?;
        Some((first.parse().ok()?, last.parse::<u64>().map_or(u64::MAX, |last| last + 1)))
    });
    Some(Asked { method, path, range, head, nth: count.fetch_add(1, Ordering::Relaxed) })
}
