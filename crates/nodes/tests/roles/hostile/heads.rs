//! What is not HTTP, or not an answer.

use super::{beside_an_honest_one, case, part};
use crate::reply::{Reply, serve};
use crate::running::{Running, url};

const INVALID: &[&str] = &["not a valid answer"];

const NOT_HTTP: &[&str] = &["not a valid answer", "it is not HTTP"];

#[test]
fn heads_beyond_all_bounds() {
    beside_an_honest_one(vec![
        part("a field without end", INVALID, |_, _| {
            Reply::raw("HTTP/1.1 206 Partial Content\r\nX: ").endless("x".repeat(1 << 16))
        }),
        part("fields without end", INVALID, |_, _| {
            Reply::raw("HTTP/1.1 206 Partial Content\r\n").endless("X: y\r\n".repeat(1000))
        }),
        part("a status line without end", INVALID, |_, _| Reply::raw("HTTP/1.1 206 ").endless("x".repeat(1 << 16))),
        part("a hundred thousand fields", INVALID, |_, right| {
            (0..100_000).fold(right, |right, n| right.also("X-Field", &n.to_string()))
        }),
        part("a field of a megabyte", INVALID, |_, right| right.field("X-Long", &"x".repeat(1 << 20))),
        part("interim answers without end", INVALID, |_, _| {
            Reply::raw("").endless("HTTP/1.1 100 Continue\r\n\r\n".repeat(1000))
        }),
    ]);
}

#[test]
fn what_is_not_http() {
    beside_an_honest_one(vec![
        part("no HTTP at all", NOT_HTTP, |_, _| Reply::raw("HELLO\r\n\r\n").closing()),
        case("the bytes of TLS", NOT_HTTP, |_, _| Reply::raw(*b"\x15\x03\x01\x00\x02\x02\x0a").closing()),
        case("HTTP/0.9", NOT_HTTP, |_, _| Reply::raw("<html><body>It works!</body></html>\r\n\r\n").closing()),
        case("SSH", NOT_HTTP, |_, _| Reply::raw("SSH-2.0-OpenSSH_9.2p1\r\n").silent_after(1 << 10)),
        part("a status that is no number", NOT_HTTP, |_, right| right.status("abc Partial")),
        part("a status of two digits", NOT_HTTP, |_, right| right.status("20 Partial")),
        part("another major version", INVALID, |_, right| right.status_line("HTTP/3.0 206 Partial Content")),
        part("zero bytes in a field", NOT_HTTP, |_, right| right.field("X-Zero", "a\0b")),
        part("a line that is no field", NOT_HTTP, |_, right| right.also("No colon\r\nX", "y")),
        part("switching protocols", &["101"], |_, right| right.status("101 Switching Protocols")),
    ]);
}

#[test]
fn lengths_that_are_none() {
    beside_an_honest_one(vec![
        part("negative", INVALID, |_, right| right.field("Content-Length", "-5")),
        part("signed", INVALID, |_, right| right.field("Content-Length", "+5")),
        part("no number", INVALID, |_, right| right.field("Content-Length", "many")),
        part("two to the sixty-fourth", INVALID, |_, right| right.field("Content-Length", "18446744073709551616")),
        part("ten to the thirtieth", INVALID, |_, right| {
            right.field("Content-Length", &format!("1{}", "0".repeat(30)))
        }),
        part("two that differ", INVALID, |_, right| right.also("Content-Length", "7")),
        part("a list that differs", INVALID, |_, right| right.field("Content-Length", "5, 6")),
        case("a file beyond all numbers", INVALID, |asked, right| {
            if asked.for_file() { right.field("Content-Range", "bytes 0-0/18446744073709551616") } else { right }
        }),
        case("a file without a length", &["not a valid answer", "length of its file"], |asked, right| {
            if asked.for_file() { right.field("Content-Range", "bytes 0-0/*") } else { right }
        }),
    ]);
}

/// Nobody else is there: it gives up, for nothing that is asked will make HTTP of it.
#[test]
fn alone_what_is_not_http_is_given_up() {
    let port = serve(|_| Reply::raw("SSH-2.0-OpenSSH_9.2p1\r\n").silent_after(1 << 10));
    let ended = Running::start(&[url(port)], &[]).end();
    assert_eq!((ended.status.code(), ended.file), (Some(1), None), "{}", ended.stderr);
    let line = "127.0.0.1: set apart: it broke the protocol 8 times, last: not a valid answer: it is not HTTP";
    assert!(ended.stderr.lines().any(|said| said == line), "{}", ended.stderr);
}
