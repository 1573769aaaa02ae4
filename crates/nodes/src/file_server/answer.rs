//! What to answer, without doing it.

use std::fmt::Write as _;
use std::sync::Arc;

use bytes::Bytes;
use fetch::ByteRange;
use fetch::serve::select;

use super::Shared;
use super::content::Snapshot;
use super::request::Request;
use crate::http::url::decode;
use crate::{clock, metalink};

/// One answer: a head that is ready to be sent, and what follows it.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) head: String,
    pub(crate) body: Body,
    pub(crate) keep_alive: bool,
}

/// What follows the head.
#[derive(Debug)]
pub(crate) enum Body {
    Nothing,
    Text(Bytes),
    File(Arc<Snapshot>, ByteRange),
}

/// Decides on a request.
pub(crate) async fn decide(request: &Request, shared: &Shared) -> Answer {
    let name = shared.content.name();
    if request.path == "/" {
        return Head::new(302, request).field("Location", format_args!("/{name}")).text("see the file\n");
    }
    let path = decode(&request.path[1..]);
    let own = decode(name);
    let Some(rest) = path.strip_prefix(own.as_slice()) else {
        return Head::new(404, request).text("no such file\n");
    };
    let snapshot = match shared.content.open() {
        Ok(snapshot) => snapshot,
        Err(error) => {
            tracing::warn!(error = &error as &dyn std::error::Error, "the file is gone");
            return Head::new(503, request).field("Retry-After", 1).text("the file cannot be read now\n");
        }
    };
    match rest {
        b"" => file(request, snapshot, name),
        rest if rest == metalink::SUFFIX.as_bytes() => {
            match shared.hashes.metalink(&snapshot, name, &own_url(request, name)).await {
                Some(document) => Head::new(200, request).field("Content-Type", metalink::MEDIA_TYPE).text(document),
                None => Head::new(503, request).field("Retry-After", 1).text("still hashing\n"),
            }
        }
        _ => Head::new(404, request).text("no such file\n"),
    }
}

/// Where the client finds the file: absolute, as Metalink has it, if the client tells how it found this server.
fn own_url(request: &Request, name: &str) -> String {
    let plain = |host: &&String| host.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._:[]".contains(&b));
    match request.host.as_ref().filter(|host| !host.is_empty()).filter(plain) {
        Some(host) => format!("http://{host}/{name}"),
        None => name.to_owned(),
    }
}

/// The answer to a head that could not be understood.
pub(crate) fn refuse(status: u16) -> Answer {
    let head = Head::with(status, false, true);
    let head = if status == 405 { head.field("Allow", "GET, HEAD") } else { head };
    head.text(format!("{status}\n"))
}

fn file(request: &Request, snapshot: Arc<Snapshot>, name: &str) -> Answer {
    let tag = snapshot.validator.as_str();
    let held = request.if_none_match.as_deref().unwrap_or_default();
    if held.split(',').any(|held| held.trim() == "*" || held.trim().trim_start_matches("W/") == tag) {
        return Head::new(304, request).field("ETag", tag).finish(Body::Nothing);
    }
    let length = snapshot.identity.length;
    let selection = select(length, &snapshot.validator, request.range.as_deref(), request.if_range.as_deref());
    let mut head = Head::new(selection.status(), request)
        .field("ETag", tag)
        .field("Last-Modified", httpdate::fmt_http_date(snapshot.modified))
        .field("Accept-Ranges", "bytes")
        .field(
            "Link",
            format_args!("<{name}{}>; rel=describedby; type=\"{}\"", metalink::SUFFIX, metalink::MEDIA_TYPE),
        );
    if let Some(range) = selection.content_range(length) {
        head = head.field("Content-Range", range);
    }
    if selection.status() == 416 {
        return head.text("no such range\n");
    }
    let body = selection.body(length);
    let head = head.field("Content-Type", "application/octet-stream").field("Content-Length", body.len());
    let wanted = request.wants_body && !body.is_empty();
    head.finish(if wanted { Body::File(snapshot, body) } else { Body::Nothing })
}

/// A head being written.
struct Head {
    text: String,
    wants_body: bool,
    keep_alive: bool,
}

impl Head {
    fn new(status: u16, request: &Request) -> Self {
        Head::with(status, request.keep_alive, request.wants_body)
    }

    fn with(status: u16, keep_alive: bool, wants_body: bool) -> Self {
        let reason = match status {
            200 => "OK",
            206 => "Partial Content",
            302 => "Found",
            304 => "Not Modified",
            400 => "Bad Request",
            404 => "Not Found",
            405 => "Method Not Allowed",
            408 => "Request Timeout",
            413 => "Content Too Large",
            416 => "Range Not Satisfiable",
            431 => "Request Header Fields Too Large",
            503 => "Service Unavailable",
            505 => "HTTP Version Not Supported",
            _ => "",
        };
        let mut text = String::with_capacity(512);
        let date = httpdate::fmt_http_date(clock::calendar());
        write!(text, "HTTP/1.1 {status} {reason}\r\nServer: file-server\r\nDate: {date}\r\n").expect("into a string");
        Head { text, wants_body, keep_alive }
    }

    fn field(mut self, name: &str, value: impl std::fmt::Display) -> Self {
        write!(self.text, "{name}: {value}\r\n").expect("into a string");
        self
    }

    /// With this text as the body.
    fn text(self, text: impl Into<String>) -> Answer {
        let text = Bytes::from(text.into());
        let wanted = self.wants_body;
        self.field("Content-Length", text.len()).finish(if wanted { Body::Text(text) } else { Body::Nothing })
    }

    fn finish(self, body: Body) -> Answer {
        let keep_alive = self.keep_alive;
        let mut head = self.field("Connection", if keep_alive { "keep-alive" } else { "close" }).text;
        head.push_str("\r\n");
        Answer { head, body, keep_alive }
    }
}
