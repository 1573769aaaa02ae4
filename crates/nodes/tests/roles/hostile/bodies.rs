//! Bodies that are too short, too long, of other bytes than asked for, or encoded.

use super::{Form, LENGTH, at_once, beside, beside_an_honest_one, part};
use crate::process::noise;
use crate::reply::{Reply, serve};
use crate::running::{Running, url};

const CLOSED: &[&str] = &["the server closed it in the middle of an answer"];

/// What it was asked for, and what it said instead.
const ANOTHER_RANGE: &[&str] = &["not a valid answer", "asked for bytes"];

const INVALID: &[&str] = &["not a valid answer"];

#[test]
fn bodies_that_end_early() {
    beside_an_honest_one(vec![
        part("no byte of the body", CLOSED, |_, right| right.cut(0)),
        part("some of the body", CLOSED, |_, right| right.cut(30_000)),
        part("all but a byte", CLOSED, |asked, right| {
            let (start, end) = asked.bounds();
            right.cut((end - start) as usize - 1)
        }),
        part("half a head", CLOSED, |_, right| right.ending_after(20)),
        part("a chunk that is not whole", CLOSED, |_, right| right.chunked(10_000, "").cut(25_000)),
    ]);
}

#[test]
fn bodies_that_do_not_end() {
    let cases = vec![
        part("chunks for ever", INVALID, |_, right| {
            right.chunked(1 << 16, "").mangled(|body| body.truncate(body.len() - 5)).endless("5\r\nhello\r\n")
        }),
        part("more than it announced", INVALID, |_, right| right.endless("more and more of it ")),
        part("a length beyond the range", ANOTHER_RANGE, |asked, right| {
            let (start, end) = asked.bounds();
            right.field("Content-Length", &(end - start + 1000).to_string()).endless("x".repeat(1000))
        }),
    ];
    at_once(cases, |case| {
        let name = case.name;
        let received = beside(case)?.ended.received;
        if received < 2 * LENGTH as u64 { Ok(()) } else { Err(format!("{name}: {received} bytes were taken")) }
    });
}

#[test]
fn ranges_that_nobody_asked_for() {
    beside_an_honest_one(vec![
        part("a start further on", ANOTHER_RANGE, |asked, right| {
            let (start, end) = asked.bounds();
            right.field("Content-Range", &format!("bytes {}-{}/{LENGTH}", start + 1, end))
        }),
        part("a start before", ANOTHER_RANGE, |asked, right| {
            let (start, end) = asked.bounds();
            let start = start.max(1);
            right.field("Content-Range", &format!("bytes {}-{}/{LENGTH}", start - 1, end - 2))
        }),
        part("an end further on", ANOTHER_RANGE, |asked, right| {
            let (start, end) = asked.bounds();
            right.field("Content-Range", &format!("bytes {start}-{end}/{LENGTH}")).endless("x")
        }),
        part("no range", &["not a valid answer", "no range"], |_, right| right.without("Content-Range")),
        part("two ranges", INVALID, |_, right| right.also("Content-Range", "bytes 0-1/2")),
        part("nonsense", ANOTHER_RANGE, |_, right| right.field("Content-Range", "bytes from here to there")),
        part("backwards", ANOTHER_RANGE, |_, right| right.field("Content-Range", "bytes 9-5/10")),
        part("beyond all numbers", ANOTHER_RANGE, |_, right| {
            right.field("Content-Range", &format!("bytes 0-{}/{}", "9".repeat(30), "9".repeat(31)))
        }),
        part("another unit", ANOTHER_RANGE, |_, right| right.field("Content-Range", "pieces 0-1/2")),
        part("several parts", INVALID, |asked, right| {
            let (start, end) = asked.bounds();
            let part = format!("\r\n--cut\r\nContent-Range: bytes {start}-{}/{LENGTH}\r\n\r\n", end - 1);
            right.without("Content-Range").field("Content-Type", "multipart/byteranges; boundary=cut").body(part)
        }),
    ]);
}

#[test]
fn bodies_in_another_form() {
    beside_an_honest_one(vec![
        part("gzip", &["not a valid answer", "gzip"], |_, right| right.field("Content-Encoding", "gzip")),
        part("a chunk size that is none", INVALID, |_, right| {
            right.chunked(10_000, "").mangled(|body| body.splice(0..1, *b"xyz").for_each(drop))
        }),
        part("a negative chunk size", INVALID, |_, right| {
            right.chunked(10_000, "").mangled(|body| body.splice(0..0, *b"-").for_each(drop))
        }),
        part("a chunk size beyond all numbers", INVALID, |_, right| {
            right.chunked(10_000, "").mangled(|body| body.splice(0..0, "f".repeat(40).into_bytes()).for_each(drop))
        }),
        part("chunks that do not fit their sizes", INVALID, |_, right| {
            right.chunked(10_000, "").mangled(|body| body.splice(100..105, []).for_each(drop)).endless("z")
        }),
        part("an endless chunk extension", INVALID, |_, right| {
            right.chunked(10_000, "").mangled(|body| *body = b"2710;".to_vec()).endless("x".repeat(1 << 16))
        }),
        part("endless trailers", INVALID, |_, right| {
            let head = right.chunked(1 << 20, "");
            head.mangled(|body| body.truncate(body.len() - 2)).endless("X-More: and more\r\n".repeat(1000))
        }),
        part("an unknown transfer coding", INVALID, |_, right| right.field("Transfer-Encoding", "rot13")),
    ]);
}

#[test]
fn forms_that_are_legal_are_understood() {
    let forms: Vec<Form> = vec![
        ("chunks", |right| right.chunked(10_000, "")),
        ("chunks of one byte, then trailers", |right| right.chunked(999, "X-Sum: 1\r\nX-More: 2\r\n")),
        ("HTTP/1.0 that closes", |right| {
            right.status_line("HTTP/1.0 206 Partial Content").field("Connection", "close").closing()
        }),
        ("closes each connection", |right| right.field("Connection", "close").closing()),
        ("closes without a word", Reply::closing),
        ("answers before the answer", |right| {
            right.after("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </f>; rel=preload\r\n\r\n")
        }),
        ("no reason phrase", |right| right.status_line("HTTP/1.1 206 ")),
        ("its length said twice", |right| right.also("Content-Length", "same")),
        ("space around", |right| right.field("X-Empty", "").field("X-Space", " \t a \t ")),
        ("identity", |right| right.field("Content-Encoding", "identity")),
    ];
    at_once(forms, |(name, form)| {
        let file = noise(LENGTH);
        let served = file.clone();
        let port = serve(move |asked| {
            let right = Reply::right(&served, asked);
            if !asked.for_part() {
                return right;
            }
            let (start, end) = asked.bounds();
            let length = (end.min(LENGTH as u64) - start).to_string();
            if name == "its length said twice" { right.also("Content-Length", &length) } else { form(right) }
        });
        let ended = Running::start(&[url(port)], &[]).end();
        let is_fine = ended.status.success() && ended.file == Some(file) && !ended.stderr.contains("down");
        if is_fine { Ok(()) } else { Err(format!("{name}: {}", ended.stderr)) }
    });
}
